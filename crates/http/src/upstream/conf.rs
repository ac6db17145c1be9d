//! The settings that every module with upstreams has, under its own prefix: `proxy_read_timeout`, `fastcgi_buffers` ….

use super::{Bind, Tls};
use crate::{args::Args, cache, location::LocationBuilder};
use moonrest_core::{ConfResult, Fault, Inherit, Template, set_once};
use moonrest_proto::http1::Known;
use moonrest_sys::temp::TempDir;
use std::sync::Arc;

/// Bits of `proxy_next_upstream` and the like.
pub mod mask {
    pub const ERROR: u32 = 1;
    pub const TIMEOUT: u32 = 1 << 1;
    pub const INVALID_HEADER: u32 = 1 << 2;
    pub const HTTP_500: u32 = 1 << 3;
    pub const HTTP_502: u32 = 1 << 4;
    pub const HTTP_503: u32 = 1 << 5;
    pub const HTTP_504: u32 = 1 << 6;
    pub const HTTP_403: u32 = 1 << 7;
    pub const HTTP_404: u32 = 1 << 8;
    pub const HTTP_429: u32 = 1 << 9;
    pub const UPDATING: u32 = 1 << 10;
    pub const NON_IDEMPOTENT: u32 = 1 << 11;
    pub const NO_LIVE: u32 = 1 << 12;
    pub const OFF: u32 = 1 << 13;

    /// The words of `next_upstream`.
    pub const WORDS: &[(&str, u32)] = &[
        ("error", ERROR),
        ("timeout", TIMEOUT),
        ("invalid_header", INVALID_HEADER),
        ("non_idempotent", NON_IDEMPOTENT),
        ("http_500", HTTP_500),
        ("http_502", HTTP_502),
        ("http_503", HTTP_503),
        ("http_504", HTTP_504),
        ("http_403", HTTP_403),
        ("http_404", HTTP_404),
        ("http_429", HTTP_429),
        ("updating", UPDATING),
        ("off", OFF),
    ];

    /// The bit of a status, if it has one.
    pub fn of_status(status: u16) -> Option<u32> {
        Some(match status {
            500 => HTTP_500,
            502 => HTTP_502,
            503 => HTTP_503,
            504 => HTTP_504,
            403 => HTTP_403,
            404 => HTTP_404,
            429 => HTTP_429,
            _ => return None,
        })
    }

    pub const IGNORE_ACCEL_REDIRECT: u32 = 1;
    pub const IGNORE_ACCEL_EXPIRES: u32 = 1 << 1;
    pub const IGNORE_ACCEL_LIMIT_RATE: u32 = 1 << 2;
    pub const IGNORE_ACCEL_BUFFERING: u32 = 1 << 3;
    pub const IGNORE_ACCEL_CHARSET: u32 = 1 << 4;
    pub const IGNORE_EXPIRES: u32 = 1 << 5;
    pub const IGNORE_CACHE_CONTROL: u32 = 1 << 6;
    pub const IGNORE_SET_COOKIE: u32 = 1 << 7;
    pub const IGNORE_VARY: u32 = 1 << 8;

    /// The words of `ignore_headers`.
    pub const IGNORED: &[(&str, u32)] = &[
        ("X-Accel-Redirect", IGNORE_ACCEL_REDIRECT),
        ("X-Accel-Expires", IGNORE_ACCEL_EXPIRES),
        ("X-Accel-Limit-Rate", IGNORE_ACCEL_LIMIT_RATE),
        ("X-Accel-Buffering", IGNORE_ACCEL_BUFFERING),
        ("X-Accel-Charset", IGNORE_ACCEL_CHARSET),
        ("Expires", IGNORE_EXPIRES),
        ("Cache-Control", IGNORE_CACHE_CONTROL),
        ("Set-Cookie", IGNORE_SET_COOKIE),
        ("Vary", IGNORE_VARY),
    ];
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    pub connect_timeout: Option<u64>,
    pub send_timeout: Option<u64>,
    pub read_timeout: Option<u64>,
    pub next_upstream: Option<u32>,
    pub next_upstream_timeout: Option<u64>,
    pub next_upstream_tries: Option<u64>,
    pub send_lowat: Option<u64>,
    pub buffer_size: Option<u64>,
    pub buffers: Option<(u64, u64)>,
    pub busy_buffers_size: Option<u64>,
    pub max_temp_file_size: Option<u64>,
    pub temp_file_write_size: Option<u64>,
    pub temp_path: Option<TempDir>,
    pub limit_rate: Option<Template>,
    pub ignore_headers: Option<u32>,
    pub hide_headers: Option<Vec<Box<[u8]>>>,
    pub pass_headers: Option<Vec<Box<[u8]>>>,
    pub buffering: Option<bool>,
    pub request_buffering: Option<bool>,
    pub pass_request_headers: Option<bool>,
    pub pass_request_body: Option<bool>,
    pub pass_trailers: Option<bool>,
    pub ignore_client_abort: Option<bool>,
    pub intercept_errors: Option<bool>,
    pub force_ranges: Option<bool>,
    /// `Some(None)` is `off`.
    pub bind: Option<Option<Bind>>,
    pub socket_keepalive: Option<bool>,
    pub socket_rcvbuf: Option<u64>,
    pub socket_sndbuf: Option<u64>,
    pub store: Option<Store>,
    pub store_access: Option<u32>,
    pub cache: cache::Loc,
}

impl Inherit for Loc {
    fn inherit(&mut self, outer: &Self) {
        // An answer is kept in one way only: the inner block's.
        if matches!(self.store, Some(Store::On | Store::Path(_))) {
            self.cache.zone = Some(cache::Choice::Off);
        } else if self.cache.is_on() {
            self.store = Some(Store::Off);
        }
        self.cache.inherit(&outer.cache);
        macro_rules! pass_down {
            ($($field:ident,)*) => { $( if self.$field.is_none() { self.$field.clone_from(&outer.$field); } )* };
        }
        pass_down!(
            connect_timeout,
            send_timeout,
            read_timeout,
            next_upstream,
            next_upstream_timeout,
            next_upstream_tries,
            send_lowat,
            buffer_size,
            buffers,
            busy_buffers_size,
            max_temp_file_size,
            temp_file_write_size,
            temp_path,
            limit_rate,
            ignore_headers,
            hide_headers,
            pass_headers,
            buffering,
            request_buffering,
            pass_request_headers,
            pass_request_body,
            pass_trailers,
            ignore_client_abort,
            intercept_errors,
            force_ranges,
            bind,
            socket_keepalive,
            socket_rcvbuf,
            socket_sndbuf,
            store,
            store_access,
        );
    }
}

/// `store`: answers are kept as files.
#[derive(Clone, Debug)]
pub enum Store {
    Off,
    /// Below `root` or `alias`.
    On,
    Path(Template),
}

/// The settings in force in one location.
pub struct Conf {
    /// `proxy`, `fastcgi` …, for messages.
    pub module: &'static str,
    pub connect_timeout: u64,
    pub send_timeout: u64,
    pub read_timeout: u64,
    pub next_upstream: u32,
    /// 0 is unlimited.
    pub next_upstream_timeout: u64,
    pub next_upstream_tries: usize,
    pub buffer_size: usize,
    /// Bytes of all buffers together.
    pub buffers: u64,
    pub busy_buffers_size: u64,
    /// 0 means no files.
    pub max_temp_file_size: u64,
    pub temp_path: TempDir,
    pub limit_rate: Option<Template>,
    pub ignore_headers: u32,
    pub hidden: Hidden,
    pub buffering: bool,
    pub request_buffering: bool,
    pub pass_request_headers: bool,
    pub pass_request_body: bool,
    pub pass_trailers: bool,
    pub ignore_client_abort: bool,
    pub intercept_errors: bool,
    /// 404 is answered as if it were our own (`memcached`).
    pub intercept_404: bool,
    pub force_ranges: bool,
    pub bind: Option<Bind>,
    pub socket_keepalive: bool,
    pub socket_rcvbuf: Option<usize>,
    pub socket_sndbuf: Option<usize>,
    pub store: Store,
    /// Permissions of stored files.
    pub store_access: u32,
    /// How encrypted connections are made, if there are any.
    pub tls: Option<Arc<Tls>>,
    pub cache: Option<std::sync::Arc<cache::Conf>>,
}

/// Header fields of answers that are not passed on.
#[derive(Clone, Debug, Default)]
pub struct Hidden {
    known: u64,
    others: Vec<Box<[u8]>>,
}

impl Hidden {
    fn new(names: impl Iterator<Item = Box<[u8]>>) -> Self {
        let mut hidden = Self::default();
        for name in names {
            match Known::lookup(&name) {
                Known::Other => hidden.others.push(name),
                known => hidden.known |= known.bit(),
            }
        }
        hidden
    }

    /// The known names among them, a bit each.
    pub(super) fn known(&self) -> u64 {
        self.known
    }

    /// Whether a field is hidden.
    pub fn contains(&self, known: Known, name: &[u8]) -> bool {
        if known == Known::Other {
            !self.others.is_empty() && self.others.iter().any(|other| other.eq_ignore_ascii_case(name))
        } else {
            known.is_in(self.known)
        }
    }
}

/// The size of a page of memory, which nginx's defaults follow.
const PAGE: u64 = 4096;

impl Loc {
    /// Puts nginx's defaults in the place of what is not set; `hidden` are the fields that the module hides unless told
    /// otherwise.
    ///
    /// # Errors
    /// Sizes that contradict each other.
    pub fn resolve(
        &self,
        module: &'static str,
        hidden: &[&str],
        to: &LocationBuilder<'_>,
    ) -> ConfResult<Conf> {
        let buffer_size = self.buffer_size.unwrap_or(PAGE);
        let (count, size) = self.buffers.unwrap_or((8, PAGE));
        if count < 2 {
            return Err(Fault::message(format!("there must be at least 2 \"{module}_buffers\"")));
        }
        let largest = buffer_size.max(size);
        let busy = self.busy_buffers_size.unwrap_or(2 * largest);
        let of_both = || {
            format!(
                "the maximum of the value of \"{module}_buffer_size\" and one of the \"{module}_buffers\""
            )
        };
        if busy < largest {
            return Err(Fault::message(format!(
                "\"{module}_busy_buffers_size\" must be equal to or greater than {}",
                of_both()
            )));
        }
        if busy > (count - 1).saturating_mul(size) {
            return Err(Fault::message(format!(
                "\"{module}_busy_buffers_size\" must be less than the size of all \"{module}_buffers\" minus one \
                 buffer"
            )));
        }
        if self.temp_file_write_size.is_some_and(|size| size < largest) {
            return Err(Fault::message(format!(
                "\"{module}_temp_file_write_size\" must be equal to or greater than {}",
                of_both()
            )));
        }
        let max_temp_file_size = self.max_temp_file_size.unwrap_or(1 << 30);
        if max_temp_file_size != 0 && max_temp_file_size < largest {
            return Err(Fault::message(format!(
                "\"{module}_max_temp_file_size\" must be equal to zero to disable temporary files usage or must be \
                 equal to or greater than {}",
                of_both()
            )));
        }
        let next = self.next_upstream.unwrap_or(mask::ERROR | mask::TIMEOUT);
        Ok(Conf {
            module,
            connect_timeout: self.connect_timeout.unwrap_or(60_000),
            send_timeout: self.send_timeout.unwrap_or(60_000),
            read_timeout: self.read_timeout.unwrap_or(60_000),
            next_upstream: if next & mask::OFF == 0 { next } else { mask::OFF },
            next_upstream_timeout: self.next_upstream_timeout.unwrap_or(0),
            next_upstream_tries: usize::try_from(self.next_upstream_tries.unwrap_or(0)).unwrap_or(0),
            buffer_size: usize::try_from(buffer_size).unwrap_or(usize::MAX).max(1),
            buffers: count.saturating_mul(size),
            busy_buffers_size: busy,
            max_temp_file_size,
            temp_path: to.temp_dir(self.temp_path.as_ref(), &format!("{module}_temp")),
            limit_rate: self.limit_rate.clone(),
            ignore_headers: self.ignore_headers.unwrap_or(0),
            hidden: self.hidden(hidden),
            buffering: self.buffering.unwrap_or(true),
            request_buffering: self.request_buffering.unwrap_or(true),
            pass_request_headers: self.pass_request_headers.unwrap_or(true),
            pass_request_body: self.pass_request_body.unwrap_or(true),
            pass_trailers: self.pass_trailers.unwrap_or(false),
            ignore_client_abort: self.ignore_client_abort.unwrap_or(false),
            intercept_errors: self.intercept_errors.unwrap_or(false),
            intercept_404: false,
            force_ranges: self.force_ranges.unwrap_or(false),
            bind: self.bind.clone().flatten(),
            socket_keepalive: self.socket_keepalive.unwrap_or(false),
            socket_rcvbuf: self.socket_rcvbuf.and_then(|size| usize::try_from(size).ok()),
            socket_sndbuf: self.socket_sndbuf.and_then(|size| usize::try_from(size).ok()),
            store: self.store.clone().unwrap_or(Store::Off),
            store_access: self.store_access.unwrap_or(0o600),
            tls: None,
            cache: self.cache.resolve(module, to)?,
        })
    }

    /// [`Loc::resolve`] for a location that passes nothing on: what is wrong is told all the same. Locations that share
    /// settings do so once.
    ///
    /// # Errors
    /// As [`Loc::resolve`].
    pub fn check(&self, module: &'static str, hidden: &[&str], to: &LocationBuilder<'_>) -> ConfResult {
        if !to.is_known(self) {
            self.resolve(module, hidden, to)?;
        }
        Ok(())
    }

    fn hidden(&self, defaults: &[&str]) -> Hidden {
        let passed = self.pass_headers.as_deref().unwrap_or_default();
        let own = self.hide_headers.iter().flatten().cloned();
        let names = defaults.iter().map(|name| Box::from(name.as_bytes())).chain(own);
        Hidden::new(names.filter(|name| !passed.iter().any(|passed| passed.eq_ignore_ascii_case(name))))
    }
}

/// Adds the bits of the words that a directive has.
///
/// # Errors
/// nginx's `invalid value "x"`.
pub fn set_mask(slot: &mut Option<u32>, args: &Args<'_>, words: &[(&str, u32)]) -> ConfResult {
    for n in 0..args.len() {
        let text = args.bytes(n)?;
        let found = words.iter().find(|(word, _)| word.as_bytes().eq_ignore_ascii_case(text));
        let Some((_, bit)) = found else { return Err(args.invalid_value(n)) };
        let bits = slot.get_or_insert(0);
        if *bits & bit != 0 {
            args.env.warn(format!("duplicate value \"{}\"", args.lossy(n)), Some(args.span()));
        }
        *bits |= bit;
    }
    Ok(())
}

/// `buffers`.
///
/// # Errors
/// nginx's `directive invalid value`.
pub fn set_buffers(slot: &mut Option<(u64, u64)>, args: &Args<'_>) -> ConfResult {
    match (args.uint(0), args.size(1)) {
        (Ok(count @ 1..), Ok(size @ 1..)) => set_once(slot, (count, size)),
        _ => Err(Fault::directive("invalid value")),
    }
}

/// `store`.
///
/// # Errors
/// nginx's `empty path`, `is incompatible with "proxy_cache"`.
pub fn set_store(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    if loc.store.is_none() && loc.cache.is_on() && args.bytes(0)? != b"off" {
        let other = args.name().replace("_store", "_cache");
        return Err(Fault::directive(format!("is incompatible with \"{other}\"")));
    }
    set_once(
        &mut loc.store,
        match args.bytes(0)? {
            b"off" => Store::Off,
            b"on" => Store::On,
            b"" => return Err(Fault::message("empty path")),
            _ => Store::Path(args.template(0)?),
        },
    )
}

/// `cache`.
///
/// # Errors
/// nginx's `is incompatible with "proxy_store"`.
pub fn set_cache(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    let stores = matches!(loc.store, Some(Store::On | Store::Path(_)));
    if loc.cache.zone.is_none() && stores && args.bytes(0)? != b"off" {
        let other = args.name().replace("_cache", "_store");
        return Err(Fault::directive(format!("is incompatible with \"{other}\"")));
    }
    cache::set_cache(&mut loc.cache.zone, args)
}

/// `store_access`: `user:rw group:r all:r`.
///
/// # Errors
/// nginx's `invalid value "x"`.
pub fn set_store_access(slot: &mut Option<u32>, args: &Args<'_>) -> ConfResult {
    let mut access = 0o600;
    for n in 0..args.len() {
        let text = args.bytes(n)?;
        let (who, rights) = match memchr::memchr(b':', text) {
            Some(at) => text.split_at(at + 1),
            None => return Err(args.invalid_value(n)),
        };
        let shift = match who {
            b"user:" => 6,
            b"group:" => 3,
            b"all:" => 0,
            _ => return Err(args.invalid_value(n)),
        };
        let bits = match rights {
            b"rw" => 6,
            b"r" => 4,
            _ => return Err(args.invalid_value(n)),
        };
        access |= bits << shift;
        if who == b"all:" {
            access |= bits << 3;
        }
    }
    set_once(slot, access)
}

/// The rows of the settings that all modules with upstreams share, for a table of directives: `$loc` leads from the
/// module's settings to its [`Loc`]. Further rows follow.
#[macro_export]
macro_rules! upstream_directives {
    (streamed $prefix:literal, $settings:ty, $loc:ident; $($row:expr),* $(,)?) => {
        &[
            $crate::module::Directive::msec(concat!($prefix, "_connect_timeout"), |c: &mut $settings| &mut c.$loc.connect_timeout),
            $crate::module::Directive::msec(concat!($prefix, "_send_timeout"), |c: &mut $settings| &mut c.$loc.send_timeout),
            $crate::module::Directive::msec(concat!($prefix, "_read_timeout"), |c: &mut $settings| &mut c.$loc.read_timeout),
            $crate::module::Directive::loc(concat!($prefix, "_next_upstream"), $crate::upstream::directive::AT_LEAST_ONE, |c: &mut $settings, args| $crate::upstream::directive::set_mask(&mut c.$loc.next_upstream, args, $crate::upstream::mask::WORDS)),
            $crate::module::Directive::msec(concat!($prefix, "_next_upstream_timeout"), |c: &mut $settings| &mut c.$loc.next_upstream_timeout),
            $crate::upstream::directive::uint(concat!($prefix, "_next_upstream_tries"), |c: &mut $settings| &mut c.$loc.next_upstream_tries),
            $crate::module::Directive::size(concat!($prefix, "_buffer_size"), |c: &mut $settings| &mut c.$loc.buffer_size),
            $crate::module::Directive::flag(concat!($prefix, "_socket_keepalive"), |c: &mut $settings| &mut c.$loc.socket_keepalive),
            $crate::module::Directive::size(concat!($prefix, "_socket_rcvbuf"), |c: &mut $settings| &mut c.$loc.socket_rcvbuf),
            $crate::module::Directive::size(concat!($prefix, "_socket_sndbuf"), |c: &mut $settings| &mut c.$loc.socket_sndbuf),
            $crate::module::Directive::loc(concat!($prefix, "_bind"), $crate::upstream::directive::ONE_OR_TWO, |c: &mut $settings, args| $crate::upstream::Bind::set(&mut c.$loc.bind, args)),
            $crate::module::Directive::flag(concat!($prefix, "_intercept_errors"), |c: &mut $settings| &mut c.$loc.intercept_errors),
            $crate::module::Directive::loc(concat!($prefix, "_ignore_headers"), $crate::upstream::directive::AT_LEAST_ONE, |c: &mut $settings, args| $crate::upstream::directive::set_mask(&mut c.$loc.ignore_headers, args, $crate::upstream::mask::IGNORED)),
            $crate::module::Directive::loc(concat!($prefix, "_hide_header"), $crate::upstream::directive::ONE, |c: &mut $settings, args| $crate::upstream::directive::add_name(&mut c.$loc.hide_headers, args)),
            $crate::module::Directive::loc(concat!($prefix, "_pass_header"), $crate::upstream::directive::ONE, |c: &mut $settings, args| $crate::upstream::directive::add_name(&mut c.$loc.pass_headers, args)),
            $($row),*
        ]
    };
    ($prefix:literal, $settings:ty, $loc:ident; $($row:expr),* $(,)?) => {
        &[
            $crate::module::Directive::msec(concat!($prefix, "_connect_timeout"), |c: &mut $settings| &mut c.$loc.connect_timeout),
            $crate::module::Directive::msec(concat!($prefix, "_send_timeout"), |c: &mut $settings| &mut c.$loc.send_timeout),
            $crate::module::Directive::msec(concat!($prefix, "_read_timeout"), |c: &mut $settings| &mut c.$loc.read_timeout),
            $crate::module::Directive::loc(concat!($prefix, "_next_upstream"), $crate::upstream::directive::AT_LEAST_ONE, |c: &mut $settings, args| $crate::upstream::directive::set_mask(&mut c.$loc.next_upstream, args, $crate::upstream::mask::WORDS)),
            $crate::module::Directive::msec(concat!($prefix, "_next_upstream_timeout"), |c: &mut $settings| &mut c.$loc.next_upstream_timeout),
            $crate::upstream::directive::uint(concat!($prefix, "_next_upstream_tries"), |c: &mut $settings| &mut c.$loc.next_upstream_tries),
            $crate::module::Directive::size(concat!($prefix, "_send_lowat"), |c: &mut $settings| &mut c.$loc.send_lowat),
            $crate::module::Directive::size(concat!($prefix, "_buffer_size"), |c: &mut $settings| &mut c.$loc.buffer_size),
            $crate::module::Directive::flag(concat!($prefix, "_ignore_client_abort"), |c: &mut $settings| &mut c.$loc.ignore_client_abort),
            $crate::module::Directive::flag(concat!($prefix, "_socket_keepalive"), |c: &mut $settings| &mut c.$loc.socket_keepalive),
            $crate::module::Directive::size(concat!($prefix, "_socket_rcvbuf"), |c: &mut $settings| &mut c.$loc.socket_rcvbuf),
            $crate::module::Directive::size(concat!($prefix, "_socket_sndbuf"), |c: &mut $settings| &mut c.$loc.socket_sndbuf),
            $crate::module::Directive::loc(concat!($prefix, "_bind"), $crate::upstream::directive::ONE_OR_TWO, |c: &mut $settings, args| $crate::upstream::Bind::set(&mut c.$loc.bind, args)),
            $crate::module::Directive::flag(concat!($prefix, "_intercept_errors"), |c: &mut $settings| &mut c.$loc.intercept_errors),
            $($row),*
        ]
    };
    (buffered $prefix:literal, $settings:ty, $loc:ident; $($row:expr),* $(,)?) => {
        $crate::upstream_directives!($prefix, $settings, $loc;
            $crate::module::Directive::loc(concat!($prefix, "_buffers"), $crate::upstream::directive::TWO, |c: &mut $settings, args| $crate::upstream::directive::set_buffers(&mut c.$loc.buffers, args)),
            $crate::module::Directive::size(concat!($prefix, "_busy_buffers_size"), |c: &mut $settings| &mut c.$loc.busy_buffers_size),
            $crate::module::Directive::size(concat!($prefix, "_max_temp_file_size"), |c: &mut $settings| &mut c.$loc.max_temp_file_size),
            $crate::module::Directive::size(concat!($prefix, "_temp_file_write_size"), |c: &mut $settings| &mut c.$loc.temp_file_write_size),
            $crate::module::Directive::loc(concat!($prefix, "_temp_path"), $crate::upstream::directive::ONE_TO_FOUR, |c: &mut $settings, args| $crate::upstream::directive::once(&mut c.$loc.temp_path, args.temp_dir()?)),
            $crate::upstream::directive::template(concat!($prefix, "_limit_rate"), |c: &mut $settings| &mut c.$loc.limit_rate),
            $crate::module::Directive::loc(concat!($prefix, "_ignore_headers"), $crate::upstream::directive::AT_LEAST_ONE, |c: &mut $settings, args| $crate::upstream::directive::set_mask(&mut c.$loc.ignore_headers, args, $crate::upstream::mask::IGNORED)),
            $crate::module::Directive::loc(concat!($prefix, "_hide_header"), $crate::upstream::directive::ONE, |c: &mut $settings, args| $crate::upstream::directive::add_name(&mut c.$loc.hide_headers, args)),
            $crate::module::Directive::loc(concat!($prefix, "_pass_header"), $crate::upstream::directive::ONE, |c: &mut $settings, args| $crate::upstream::directive::add_name(&mut c.$loc.pass_headers, args)),
            $crate::module::Directive::flag(concat!($prefix, "_buffering"), |c: &mut $settings| &mut c.$loc.buffering),
            $crate::module::Directive::flag(concat!($prefix, "_request_buffering"), |c: &mut $settings| &mut c.$loc.request_buffering),
            $crate::module::Directive::flag(concat!($prefix, "_pass_request_headers"), |c: &mut $settings| &mut c.$loc.pass_request_headers),
            $crate::module::Directive::flag(concat!($prefix, "_pass_request_body"), |c: &mut $settings| &mut c.$loc.pass_request_body),
            $crate::module::Directive::flag(concat!($prefix, "_force_ranges"), |c: &mut $settings| &mut c.$loc.force_ranges),
            $crate::module::Directive::loc(concat!($prefix, "_store"), $crate::upstream::directive::ONE, |c: &mut $settings, args| $crate::upstream::directive::set_store(&mut c.$loc, args)),
            $crate::module::Directive::loc(concat!($prefix, "_store_access"), $crate::upstream::directive::ONE_TO_THREE, |c: &mut $settings, args| $crate::upstream::directive::set_store_access(&mut c.$loc.store_access, args)),
            $crate::module::Directive::loc(concat!($prefix, "_cache"), $crate::upstream::directive::ONE, |c: &mut $settings, args| $crate::upstream::directive::set_cache(&mut c.$loc, args)),
            $crate::upstream::directive::template(concat!($prefix, "_cache_key"), |c: &mut $settings| &mut c.$loc.cache.key),
            $crate::module::Directive::main(concat!($prefix, "_cache_path"), $crate::upstream::directive::AT_LEAST_TWO, |_, args| $crate::cache::add_path($prefix, args)),
            $crate::module::Directive::loc(concat!($prefix, "_cache_bypass"), $crate::upstream::directive::AT_LEAST_ONE, |c: &mut $settings, args| $crate::cache::add_predicates(&mut c.$loc.cache.bypass, args)),
            $crate::module::Directive::loc(concat!($prefix, "_no_cache"), $crate::upstream::directive::AT_LEAST_ONE, |c: &mut $settings, args| $crate::cache::add_predicates(&mut c.$loc.cache.no_cache, args)),
            $crate::module::Directive::loc(concat!($prefix, "_cache_purge"), $crate::upstream::directive::AT_LEAST_ONE, |c: &mut $settings, args| $crate::cache::add_predicates(&mut c.$loc.cache.purge, args)),
            $crate::module::Directive::loc(concat!($prefix, "_cache_valid"), $crate::upstream::directive::AT_LEAST_ONE, |c: &mut $settings, args| $crate::cache::add_valid(&mut c.$loc.cache.valid, args)),
            $crate::upstream::directive::uint(concat!($prefix, "_cache_min_uses"), |c: &mut $settings| &mut c.$loc.cache.min_uses),
            $crate::upstream::directive::offset(concat!($prefix, "_cache_max_range_offset"), |c: &mut $settings| &mut c.$loc.cache.max_range_offset),
            $crate::module::Directive::loc(concat!($prefix, "_cache_use_stale"), $crate::upstream::directive::AT_LEAST_ONE, |c: &mut $settings, args| $crate::upstream::directive::set_mask(&mut c.$loc.cache.use_stale, args, $crate::upstream::mask::WORDS)),
            $crate::module::Directive::loc(concat!($prefix, "_cache_methods"), $crate::upstream::directive::AT_LEAST_ONE, |c: &mut $settings, args| $crate::cache::set_methods(&mut c.$loc.cache.methods, args)),
            $crate::module::Directive::flag(concat!($prefix, "_cache_lock"), |c: &mut $settings| &mut c.$loc.cache.lock),
            $crate::module::Directive::msec(concat!($prefix, "_cache_lock_timeout"), |c: &mut $settings| &mut c.$loc.cache.lock_timeout),
            $crate::module::Directive::msec(concat!($prefix, "_cache_lock_age"), |c: &mut $settings| &mut c.$loc.cache.lock_age),
            $crate::module::Directive::flag(concat!($prefix, "_cache_revalidate"), |c: &mut $settings| &mut c.$loc.cache.revalidate),
            $crate::module::Directive::flag(concat!($prefix, "_cache_background_update"), |c: &mut $settings| &mut c.$loc.cache.background_update),
            $($row),*
        )
    };
}

/// What the rows of [`crate::upstream_directives`] use.
pub mod directive {
    pub use super::{set_buffers, set_cache, set_mask, set_store, set_store_access};
    pub use moonrest_core::set_once as once;

    use crate::{
        args::Args,
        module::{Directive, HttpModule, Set},
    };
    use moonrest_core::{Arity, ConfResult, Contexts, Template};

    pub const ONE: Arity = Arity::exactly(1);
    pub const TWO: Arity = Arity::exactly(2);
    pub const ONE_OR_TWO: Arity = Arity::between(1, 2);
    pub const ONE_TO_THREE: Arity = Arity::between(1, 3);
    pub const ONE_TO_FOUR: Arity = Arity::between(1, 4);
    pub const AT_LEAST_ONE: Arity = Arity::at_least(1);
    pub const AT_LEAST_TWO: Arity = Arity::at_least(2);

    /// A number in `http`, `server` and `location`.
    pub const fn uint<M: HttpModule>(
        name: &'static str,
        field: fn(&mut M::Loc) -> &mut Option<u64>,
    ) -> Directive<M> {
        Directive::new(name, Contexts::HSL, ONE, Set::Uint(field))
    }

    /// An offset in `http`, `server` and `location`.
    pub const fn offset<M: HttpModule>(
        name: &'static str,
        field: fn(&mut M::Loc) -> &mut Option<u64>,
    ) -> Directive<M> {
        Directive::new(name, Contexts::HSL, ONE, Set::Offset(field))
    }

    /// A text with variables in `http`, `server` and `location`.
    pub const fn template<M: HttpModule>(
        name: &'static str,
        field: fn(&mut M::Loc) -> &mut Option<Template>,
    ) -> Directive<M> {
        Directive::new(name, Contexts::HSL, ONE, Set::Template(field))
    }

    /// Adds the name of a header field.
    ///
    /// # Errors
    /// None but a wrong number of arguments.
    pub fn add_name(names: &mut Option<Vec<Box<[u8]>>>, args: &Args<'_>) -> ConfResult {
        names.get_or_insert_default().push(args.bytes(0)?.into());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_fields_may_be_passed_again() {
        let loc = Loc {
            hide_headers: Some(vec![Box::from(&b"X-Own"[..]), Box::from(&b"ETag"[..])]),
            pass_headers: Some(vec![Box::from(&b"server"[..])]),
            ..Loc::default()
        };
        let hidden = loc.hidden(&["Server", "Date", "X-Pad"]);
        assert!(hidden.contains(Known::Date, b"date") && hidden.contains(Known::Etag, b"etag"));
        assert!(hidden.contains(Known::Other, b"x-pad") && hidden.contains(Known::Other, b"x-own"));
        assert!(!hidden.contains(Known::Server, b"server") && !hidden.contains(Known::Other, b"x-other"));
    }
}
