//! `*_cache_path`, `*_cache` and what belongs to them, under the prefix of each module with upstreams.

use super::zone::Zone;
use crate::{args::Args, location::LocationBuilder, phase::RequestError, request::Request, upstream::mask};
use moonrest_core::{ConfResult, Fault, Template, conf::value, inherit, set_once};
use moonrest_proto::http1::Method;
use moonrest_sys::temp::TempDir;
use parking_lot::Mutex;
use std::sync::Arc;

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    pub zone: Option<Choice>,
    pub key: Option<Template>,
    pub bypass: Option<Vec<Template>>,
    pub no_cache: Option<Vec<Template>>,
    pub purge: Option<Vec<Template>>,
    pub valid: Option<Vec<Valid>>,
    pub min_uses: Option<u64>,
    pub max_range_offset: Option<u64>,
    pub use_stale: Option<u32>,
    pub methods: Option<u32>,
    pub lock: Option<bool>,
    pub lock_timeout: Option<u64>,
    pub lock_age: Option<u64>,
    pub revalidate: Option<bool>,
    pub convert_head: Option<bool>,
    pub background_update: Option<bool>,
}
inherit!(Loc {
    zone,
    key,
    bypass,
    no_cache,
    purge,
    valid,
    min_uses,
    max_range_offset,
    use_stale,
    methods,
    lock,
    lock_timeout,
    lock_age,
    revalidate,
    convert_head,
    background_update,
});

/// Which cache.
#[derive(Clone, Debug)]
pub enum Choice {
    Off,
    Named(Box<[u8]>),
    Template(Template),
}

/// How long answers with a status are kept; status 0 is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Valid {
    pub status: u16,
    pub seconds: i64,
}

/// The settings in force in one location.
pub struct Conf {
    zone: Chosen,
    pub key: Option<Template>,
    bypass: Vec<Template>,
    no_cache: Vec<Template>,
    purge: Vec<Template>,
    valid: Vec<Valid>,
    pub min_uses: u32,
    max_range_offset: Option<u64>,
    /// Bits of [`mask`].
    pub use_stale: u32,
    methods: u32,
    pub lock: bool,
    pub lock_timeout: u64,
    pub lock_age: u64,
    pub revalidate: bool,
    pub convert_head: bool,
    pub background_update: bool,
}

enum Chosen {
    Fixed(Cache),
    Template(Template, &'static str, Arc<Declared>),
}

/// A cache with the limits that this generation gives it.
#[derive(Clone)]
pub(crate) struct Cache {
    pub zone: Arc<Zone>,
    pub limits: Arc<Limits>,
}

/// The caches of a configuration, and the file and line of each.
#[derive(Default)]
pub struct Declared(Mutex<Vec<(Cache, String)>>);

impl Declared {
    fn find(&self, module: &str, name: &[u8]) -> Option<Cache> {
        let is_it = |zone: &Zone| zone.module == module && zone.name.as_bytes() == name;
        self.0.lock().iter().find(|(cache, _)| is_it(&cache.zone)).map(|(cache, _)| cache.clone())
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Cache> {
        self.0.lock().iter().map(|(cache, _)| cache.clone()).collect()
    }

    /// Where the cache in a directory is declared.
    fn place_of(&self, path: &[u8]) -> Option<String> {
        let caches = self.0.lock();
        caches.iter().find(|(cache, _)| cache.zone.dir.path == path).map(|(_, place)| place.clone())
    }
}

/// The parameters of one `*_cache_path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Seconds after the last use.
    pub inactive: u64,
    pub max_size: u64,
    pub min_free: u64,
    /// Files are written elsewhere and moved in.
    pub use_temp_path: bool,
    pub manager_files: u64,
    pub manager_sleep: u64,
    pub manager_threshold: u64,
    pub loader_files: u64,
    pub loader_sleep: u64,
    pub loader_threshold: u64,
    /// Entries that a purge with a wildcard names are looked for in the background.
    pub purger: bool,
    pub purger_files: u64,
    pub purger_sleep: u64,
    pub purger_threshold: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            inactive: 600,
            max_size: i64::MAX.cast_unsigned(),
            min_free: 0,
            use_temp_path: true,
            manager_files: 100,
            manager_sleep: 50,
            manager_threshold: 200,
            loader_files: 100,
            loader_sleep: 50,
            loader_threshold: 200,
            purger: false,
            purger_files: 10,
            purger_sleep: 50,
            purger_threshold: 50,
        }
    }
}

impl Loc {
    /// Whether answers are kept here.
    pub fn is_on(&self) -> bool {
        !matches!(self.zone, None | Some(Choice::Off))
    }

    /// The settings in force, if there is a cache. `has_key` tells that the module has a key of its own.
    ///
    /// # Errors
    /// nginx's `"proxy_cache" zone "x" is unknown`.
    pub(crate) fn resolve(
        &self,
        module: &'static str,
        to: &LocationBuilder<'_>,
    ) -> ConfResult<Option<Arc<Conf>>> {
        let env = to.compiler.env;
        let declared = env.shared::<Declared>();
        let zone = match &self.zone {
            None | Some(Choice::Off) => return Ok(None),
            Some(Choice::Template(template)) => Chosen::Template(template.clone(), module, declared),
            Some(Choice::Named(name)) => {
                let found = declared.find(module, name);
                let Some(cache) = found else {
                    let name = String::from_utf8_lossy(name);
                    return Err(Fault::message(format!("\"{module}_cache\" zone \"{name}\" is unknown")));
                };
                Chosen::Fixed(cache)
            }
        };
        if self.key.is_none() && module != "proxy" {
            let message = format!("no \"{module}_cache_key\" for \"{module}_cache\"");
            let said = env.errors.borrow().iter().any(|error| error.message == message);
            if !said {
                env.warn(message, None);
            }
        }
        let mut use_stale = self.use_stale.unwrap_or(0);
        if use_stale & mask::OFF != 0 {
            use_stale = 0;
        }
        if use_stale & mask::ERROR != 0 {
            use_stale |= mask::NO_LIVE;
        }
        Ok(Some(Arc::new(Conf {
            zone,
            key: self.key.clone(),
            bypass: self.bypass.clone().unwrap_or_default(),
            no_cache: self.no_cache.clone().unwrap_or_default(),
            purge: self.purge.clone().unwrap_or_default(),
            valid: self.valid.clone().unwrap_or_default(),
            min_uses: self.min_uses.map_or(1, |uses| u32::try_from(uses).unwrap_or(u32::MAX)),
            max_range_offset: self.max_range_offset,
            use_stale,
            methods: self.methods.unwrap_or(0) | Method::Get.bit() | Method::Head.bit(),
            lock: self.lock.unwrap_or(false),
            lock_timeout: self.lock_timeout.unwrap_or(5000),
            lock_age: self.lock_age.unwrap_or(5000),
            revalidate: self.revalidate.unwrap_or(false),
            convert_head: self.convert_head.unwrap_or(module == "proxy"),
            background_update: self.background_update.unwrap_or(false),
        })))
    }
}

/// Whether one of the values is neither empty nor `0`.
fn any(values: &[Template], r: &Request) -> bool {
    values.iter().any(|value| !matches!(&*value.eval(r), b"" | b"0"))
}

impl Conf {
    /// The cache for this request; none when a variable turns it off.
    ///
    /// # Errors
    /// nginx's `cache "x" not found`.
    pub(crate) fn cache(&self, r: &Request) -> Result<Option<Cache>, RequestError> {
        let (template, module, declared) = match &self.zone {
            Chosen::Fixed(cache) => return Ok(Some(cache.clone())),
            Chosen::Template(template, module, declared) => (template, module, declared),
        };
        let name = template.eval(r);
        if matches!(&*name, b"" | b"off") {
            return Ok(None);
        }
        declared.find(module, &name).map(Some).ok_or_else(|| {
            RequestError::internal(format!("cache \"{}\" not found", String::from_utf8_lossy(&name)))
        })
    }

    /// Whether requests of this method are answered from the cache.
    pub(crate) fn takes(&self, method: Method) -> bool {
        self.methods & method.bit() != 0
    }

    pub(crate) fn bypasses(&self, r: &Request) -> bool {
        any(&self.bypass, r)
    }

    pub(crate) fn refuses(&self, r: &Request) -> bool {
        any(&self.no_cache, r)
    }

    pub(crate) fn purges(&self, r: &Request) -> bool {
        any(&self.purge, r)
    }

    /// For how many seconds answers with this status are kept; 0 when they are not.
    pub(crate) fn valid(&self, status: u16) -> i64 {
        let found = self.valid.iter().find(|valid| valid.status == 0 || valid.status == status);
        found.map_or(0, |valid| valid.seconds)
    }

    /// Whether an answer to a request for this range is worth keeping the whole (`cache_max_range_offset`).
    pub(crate) fn allows_range(&self, range: &[u8]) -> bool {
        let Some(most) = self.max_range_offset else { return true };
        if most == 0 {
            return false;
        }
        let Some((unit, rest)) = range.split_at_checked(6) else { return true };
        if !unit.eq_ignore_ascii_case(b"bytes=") {
            return true;
        }
        let rest = rest.trim_ascii_start();
        if rest.first() == Some(&b'-') {
            return false;
        }
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let offset = value::parse_uint(rest.get(..digits).unwrap_or_default());
        digits == 0 || offset.is_some_and(|offset| offset < most)
    }
}

/// `*_cache`.
///
/// # Errors
/// `is duplicate`.
pub fn set_cache(slot: &mut Option<Choice>, args: &Args<'_>) -> ConfResult {
    let template = args.template(0)?;
    let choice = match template.as_static() {
        Some(b"off") => Choice::Off,
        Some(name) => Choice::Named(name.into()),
        None => Choice::Template(template),
    };
    set_once(slot, choice)
}

/// `*_cache_bypass` and the like.
///
/// # Errors
/// Those of values with variables.
pub fn add_predicates(list: &mut Option<Vec<Template>>, args: &Args<'_>) -> ConfResult {
    for n in 0..args.len() {
        list.get_or_insert_default().push(args.template(n)?);
    }
    Ok(())
}

/// `*_cache_methods`.
///
/// # Errors
/// nginx's `invalid value "x"`.
pub fn set_methods(slot: &mut Option<u32>, args: &Args<'_>) -> ConfResult {
    const WORDS: &[(&str, u32)] =
        &[("GET", Method::Get.bit()), ("HEAD", Method::Head.bit()), ("POST", Method::Post.bit())];
    crate::upstream::directive::set_mask(slot, args, WORDS)
}

/// `*_cache_valid [STATUS ...] TIME`.
///
/// # Errors
/// nginx's `invalid time value "x"`, `invalid status "x"`.
pub fn add_valid(list: &mut Option<Vec<Valid>>, args: &Args<'_>) -> ConfResult {
    let last = args.len().saturating_sub(1);
    let seconds = value::parse_sec(args.bytes(last)?).and_then(|seconds| i64::try_from(seconds).ok());
    let Some(seconds) = seconds else {
        return Err(Fault::message(format!("invalid time value \"{}\"", args.lossy(last))));
    };
    let list = list.get_or_insert_default();
    if last == 0 {
        list.extend([200, 301, 302].map(|status| Valid { status, seconds }));
    }
    for n in 0..last {
        let status = match args.bytes(n)? {
            b"any" => 0,
            text => match value::parse_uint(text) {
                Some(status @ 100..=599) => u16::try_from(status).unwrap_or(0),
                _ => return Err(Fault::message(format!("invalid status \"{}\"", args.lossy(n)))),
            },
        };
        list.push(Valid { status, seconds });
    }
    Ok(())
}

/// `*_cache_path PATH PARAMETER ...`.
///
/// # Errors
/// nginx's for each parameter, and for zones and paths that are used twice or otherwise than before.
pub fn add_path(module: &'static str, args: &Args<'_>) -> ConfResult {
    let path = args.path(0)?.into_os_string().into_encoded_bytes();
    let path = path.strip_suffix(b"/").unwrap_or(&path).to_vec();
    let mut dir = TempDir { path, levels: [0; 3] };
    let mut limits = Limits::default();
    let mut zone = None;
    for n in 1..args.len() {
        let text = args.bytes(n)?;
        let (name, value) = match memchr::memchr(b'=', text) {
            Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default()),
            None => return Err(args.invalid_parameter(n)),
        };
        match name {
            b"levels" => {
                dir.levels = parse_levels(value)
                    .ok_or_else(|| Fault::message(format!("invalid \"levels\" \"{}\"", args.lossy(n))))?;
            }
            b"keys_zone" => zone = Some(parse_zone(value, args, n)?),
            _ => limits.set(name, value, args, n)?,
        }
    }
    let Some((name, size)) = zone.filter(|(name, size)| !name.is_empty() && *size > 0) else {
        let directive = args.name();
        return Err(Fault::message(format!("\"{directive}\" must have \"keys_zone\" parameter")));
    };
    declare(module, args, dir, &name, size, limits)
}

fn parse_levels(text: &[u8]) -> Option<[u8; 3]> {
    let mut levels = [0; 3];
    let mut places = levels.iter_mut();
    if !text.is_empty() {
        for level in text.split(|byte| *byte == b':') {
            *places.next()? = match level {
                b"1" => 1,
                b"2" => 2,
                _ => return None,
            };
        }
    }
    Some(levels)
}

fn parse_zone(text: &[u8], args: &Args<'_>, n: usize) -> ConfResult<(String, u64)> {
    let wrong = || Fault::message(format!("invalid keys zone size \"{}\"", args.lossy(n)));
    let at = memchr::memchr(b':', text).ok_or_else(wrong)?;
    let size = text.get(at + 1..).and_then(value::parse_size).ok_or_else(wrong)?;
    if size < 2 * 4096 {
        return Err(Fault::message(format!("keys zone \"{}\" is too small", args.lossy(n))));
    }
    Ok((String::from_utf8_lossy(text.get(..at).unwrap_or_default()).into_owned(), size))
}

impl Limits {
    fn set(&mut self, name: &[u8], text: &[u8], args: &Args<'_>, n: usize) -> ConfResult {
        let shown = args.lossy(n);
        let wrong = || {
            let name = String::from_utf8_lossy(name);
            Fault::message(format!("invalid {name} value \"{shown}\""))
        };
        let number = || value::parse_uint(text).ok_or_else(wrong);
        let msec = || value::parse_msec(text).ok_or_else(wrong);
        let size = || value::parse_offset(text).ok_or_else(wrong);
        let flag = || match text {
            b"on" => Ok(true),
            b"off" => Ok(false),
            _ => {
                let name = String::from_utf8_lossy(name);
                Err(Fault::message(format!("invalid {name} value \"{shown}\", it must be \"on\" or \"off\"")))
            }
        };
        match name {
            b"use_temp_path" => self.use_temp_path = flag()?,
            b"inactive" => self.inactive = value::parse_sec(text).ok_or_else(wrong)?,
            b"max_size" => self.max_size = size()?,
            b"min_free" => self.min_free = size()?,
            b"manager_files" => self.manager_files = number()?,
            b"manager_sleep" => self.manager_sleep = msec()?,
            b"manager_threshold" => self.manager_threshold = msec()?,
            b"loader_files" => self.loader_files = number()?,
            b"loader_sleep" => self.loader_sleep = msec()?,
            b"loader_threshold" => self.loader_threshold = msec()?,
            b"purger" => self.purger = flag()?,
            b"purger_files" => self.purger_files = number()?,
            b"purger_sleep" => self.purger_sleep = msec()?,
            b"purger_threshold" => self.purger_threshold = msec()?,
            _ => return Err(args.invalid_parameter(n)),
        }
        Ok(())
    }
}

fn declare(
    module: &'static str,
    args: &Args<'_>,
    dir: TempDir,
    name: &str,
    size: u64,
    limits: Limits,
) -> ConfResult {
    let declared = args.env.shared::<Declared>();
    let path = String::from_utf8_lossy(&dir.path).into_owned();
    if let Some(place) = declared.place_of(&dir.path) {
        return Err(Fault::message(format!("the same path name \"{path}\" used in {place} and")));
    }
    let span = args.span();
    let file = args.env.files.get(span.file.0 as usize).map(|file| file.display().to_string());
    let place = format!("{}:{}", file.unwrap_or_default(), span.line);
    let limits = Arc::new(limits);
    let before = args.env.zones.get::<Zone>(name);
    let make = || Zone::new(name, module, dir.clone(), size, limits.clone());
    let zone = args.env.zones.declare::<Zone>(name, size, make)?;
    if zone.module != module {
        return Err(Fault::message(format!(
            "the shared memory zone \"{name}\" is already declared for a different use"
        )));
    }
    if before.is_some() {
        return Err(Fault::message(format!("duplicate zone \"{name}\"")));
    }
    if zone.dir.path != dir.path {
        let known = String::from_utf8_lossy(&zone.dir.path).into_owned();
        return Err(Fault::message(format!(
            "cache \"{name}\" uses the \"{path}\" cache path while previously it used the \"{known}\" cache path"
        )));
    }
    if zone.dir.levels != dir.levels {
        return Err(Fault::message(format!("cache \"{name}\" had previously different levels")));
    }
    args.compiler.temp_dirs.borrow_mut().push(dir.path);
    declared.0.lock().push((Cache { zone, limits }, place));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_of_one_or_two_digits() {
        let check = |text: &str, expect| assert_eq!(parse_levels(text.as_bytes()), expect, "{text}");
        check("1:2", Some([1, 2, 0]));
        check("2:2:1", Some([2, 2, 1]));
        check("", Some([0; 3]));
        for bad in ["3", "0", "1:", "1:1:1:1", "12", ":1"] {
            check(bad, None);
        }
    }
}
