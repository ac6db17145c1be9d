//! `srcache_fetch`, `srcache_store`: responses kept wherever a subrequest can put them.
//! <https://github.com/openresty/srcache-nginx-module>
//!
//! ```text
//! access … ─► fetch (a subrequest) ─┬─ hit: the answer
//!                                   └─ miss ─► content ─► filters ─► the client
//!                                                           └─► store (a subrequest beside the request)
//! ```
//! What is kept is the response's head and body as HTTP/1 has them. Nothing is fetched or stored for subrequests.

mod fetch;
mod head;
mod store;

use moonrest_http::{module::Set, prelude::*};
use moonrest_proto::{http1::Method, uri};
use std::cell::Cell;

/// The module.
pub struct SrCache;
type D = Directive<SrCache>;

/// Where most directives stand.
const PLACES: Contexts = Contexts::HSL.or(Contexts::IF);

impl HttpModule for SrCache {
    const NAME: &'static str = "ngx_http_srcache_filter_module";
    const DIRECTIVES: &'static [D] = &[
        D::loc("srcache_fetch", Arity::between(2, 3), |loc, args| Wanted::set(&mut loc.fetch, args))
            .within(PLACES),
        D::loc("srcache_store", Arity::between(2, 3), |loc, args| Wanted::set(&mut loc.store, args))
            .within(PLACES),
        D::size("srcache_buffer", |loc| &mut loc.buffer).within(PLACES),
        D::size("srcache_store_max_size", |loc| &mut loc.max_size).within(PLACES),
        D::new(
            "srcache_fetch_skip",
            PLACES,
            Arity::exactly(1),
            Set::Template(|loc: &mut Loc| &mut loc.fetch_skip),
        ),
        D::new(
            "srcache_store_skip",
            PLACES,
            Arity::exactly(1),
            Set::Template(|loc: &mut Loc| &mut loc.store_skip),
        ),
        D::loc("srcache_store_statuses", Arity::at_least(1), set_statuses).within(PLACES),
        D::loc("srcache_methods", Arity::at_least(1), set_methods),
        D::flag("srcache_request_cache_control", |loc| &mut loc.request_cache_control),
        D::flag("srcache_response_cache_control", |loc| &mut loc.response_cache_control),
        D::flag("srcache_store_private", |loc| &mut loc.store_private),
        D::flag("srcache_store_no_store", |loc| &mut loc.store_no_store),
        D::flag("srcache_store_no_cache", |loc| &mut loc.store_no_cache),
        D::flag("srcache_store_ranges", |loc| &mut loc.store_ranges),
        D::flag("srcache_ignore_content_encoding", |loc| &mut loc.ignore_content_encoding),
        D::loc("srcache_store_hide_header", Arity::exactly(1), |loc, args| {
            loc.hide.get_or_insert_default().push(args.bytes(0)?.into());
            Ok(())
        }),
        D::loc("srcache_store_pass_header", Arity::exactly(1), |loc, args| {
            loc.pass.get_or_insert_default().push(args.bytes(0)?.into());
            Ok(())
        }),
        D::size("srcache_header_buffer_size", |loc| &mut loc.header_buffer).within(PLACES),
        D::new(
            "srcache_max_expire",
            PLACES,
            Arity::exactly(1),
            Set::Sec(|loc: &mut Loc| &mut loc.max_expire),
        ),
        D::new(
            "srcache_default_expire",
            PLACES,
            Arity::exactly(1),
            Set::Sec(|loc: &mut Loc| &mut loc.default_expire),
        ),
    ];
    const VARIABLES: &'static [VarDef<Request>] = &[
        VarDef::get("srcache_expire", expire),
        VarDef::get("srcache_fetch_status", |r, out| {
            let state = r.find_ctx::<State>();
            out.extend_from_slice(match state.map(|state| (state.hit.get(), state.asked.get())) {
                Some((true, _)) => b"HIT",
                Some((false, true)) => b"MISS",
                _ => b"BYPASS",
            });
            true
        }),
        VarDef::get("srcache_store_status", |r, out| {
            let stored = r.find_ctx::<State>().is_some_and(|state| state.storing.get());
            out.extend_from_slice(if stored { b"STORE" } else { b"BYPASS" });
            true
        }),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach((): &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if loc.fetch.is_none() && loc.store.is_none() || to.kind == LocationKind::Server {
            return Ok(());
        }
        let settings = Arc::new(loc.settings());
        // Behind the whole of the access phase, also where `satisfy any` cuts that short.
        to.first(Phase::Precontent, fetch::Fetcher(settings.clone()));
        if settings.store.is_some() {
            to.header_filter(HeaderOrder::SrcacheStore, store::Filter(settings));
        }
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    fetch: Option<Wanted>,
    store: Option<Wanted>,
    buffer: Option<u64>,
    max_size: Option<u64>,
    fetch_skip: Option<Template>,
    store_skip: Option<Template>,
    statuses: Option<Arc<[u16]>>,
    methods: Option<u32>,
    request_cache_control: Option<bool>,
    response_cache_control: Option<bool>,
    store_private: Option<bool>,
    store_no_store: Option<bool>,
    store_no_cache: Option<bool>,
    store_ranges: Option<bool>,
    ignore_content_encoding: Option<bool>,
    hide: Option<Vec<Box<[u8]>>>,
    pass: Option<Vec<Box<[u8]>>>,
    header_buffer: Option<u64>,
    max_expire: Option<u64>,
    default_expire: Option<u64>,
}
inherit!(Loc {
    fetch,
    store,
    buffer,
    max_size,
    fetch_skip,
    store_skip,
    statuses,
    methods,
    request_cache_control,
    response_cache_control,
    store_private,
    store_no_store,
    store_no_cache,
    store_ranges,
    ignore_content_encoding,
    hide,
    pass,
    header_buffer,
    max_expire,
    default_expire,
});

/// A subrequest that the configuration describes.
#[derive(Clone)]
struct Wanted {
    method: Method,
    path: Template,
    args: Option<Template>,
}

impl Wanted {
    /// `METHOD PATH [ARGUMENTS]`.
    fn set(slot: &mut Option<Self>, args: &Args<'_>) -> ConfResult {
        if slot.is_some() {
            return Err(Fault::DUPLICATE);
        }
        let method = match Method::from_name(args.bytes(0)?) {
            Method::Other | Method::Connect => {
                return Err(Fault::message(format!(
                    "{} specifies bad HTTP method {}",
                    args.name(),
                    args.lossy(0)
                )));
            }
            method => method,
        };
        let arguments = if args.len() > 2 { Some(args.template(2)?) } else { None };
        *slot = Some(Self { method, path: args.template(1)?, args: arguments });
        Ok(())
    }

    /// Path and arguments of the subrequest; `None` for a path that is empty or unsafe, which is logged.
    fn target(&self, r: &Request) -> Option<(Vec<u8>, Vec<u8>)> {
        let text = self.path.eval(r);
        let Ok((path, args)) = uri::split_internal(&text) else {
            let text = String::from_utf8_lossy(&text);
            moonrest_http::error!(r, "unsafe URI \"{text}\" was detected");
            return None;
        };
        let given = self.args.as_ref().map(|args| args.eval(r).into_owned()).unwrap_or_default();
        Some((path, if given.is_empty() { args.to_vec() } else { given }))
    }
}

/// Settings in force in one location.
struct Settings {
    fetch: Option<Wanted>,
    store: Option<Wanted>,
    /// 0 is unlimited.
    max_size: u64,
    fetch_skip: Option<Template>,
    store_skip: Option<Template>,
    statuses: Arc<[u16]>,
    /// Bits of methods.
    methods: u32,
    request_cache_control: bool,
    response_cache_control: bool,
    store_private: bool,
    store_no_store: bool,
    store_no_cache: bool,
    store_ranges: bool,
    ignore_content_encoding: bool,
    /// Fields that are not stored, in lower case.
    hidden: Vec<Vec<u8>>,
    header_buffer: usize,
}

/// Fields that belong to one connection or one client.
const HIDDEN: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailers",
    "transfer-encoding",
    "upgrade",
    "set-cookie",
];

impl Loc {
    fn settings(&self) -> Settings {
        let lower = |names: &Option<Vec<Box<[u8]>>>| -> Vec<Vec<u8>> {
            names.iter().flatten().map(|name| name.to_ascii_lowercase()).collect()
        };
        let mut hidden: Vec<Vec<u8>> = HIDDEN.iter().map(|name| name.as_bytes().to_vec()).collect();
        hidden.extend(lower(&self.hide));
        let passed = lower(&self.pass);
        hidden.retain(|name| !passed.contains(name));
        Settings {
            fetch: self.fetch.clone(),
            store: self.store.clone(),
            max_size: self.max_size.unwrap_or(0),
            fetch_skip: self.fetch_skip.clone(),
            store_skip: self.store_skip.clone(),
            statuses: self.statuses.clone().unwrap_or_else(|| [200, 301, 302, 307, 308].into()),
            methods: self.methods.unwrap_or(0) | Method::Get.bit() | Method::Head.bit(),
            request_cache_control: self.request_cache_control.unwrap_or(false),
            response_cache_control: self.response_cache_control.unwrap_or(true),
            store_private: self.store_private.unwrap_or(false),
            store_no_store: self.store_no_store.unwrap_or(false),
            store_no_cache: self.store_no_cache.unwrap_or(false),
            store_ranges: self.store_ranges.unwrap_or(false),
            ignore_content_encoding: self.ignore_content_encoding.unwrap_or(false),
            hidden,
            header_buffer: usize::try_from(self.header_buffer.unwrap_or(4096)).unwrap_or(usize::MAX),
        }
    }
}

/// `srcache_store_statuses STATUS ...`.
fn set_statuses(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    if loc.statuses.is_some() {
        return Err(Fault::DUPLICATE);
    }
    let mut statuses = Vec::new();
    for n in 0..args.len() {
        let status = args.uint(n).ok().and_then(|status| u16::try_from(status).ok());
        let invalid = || Fault::message(format!("status code \"{}\" is an invalid number", args.lossy(n)));
        statuses.push(status.ok_or_else(invalid)?);
    }
    loc.statuses = Some(statuses.into());
    Ok(())
}

/// `srcache_methods METHOD ...`: GET and HEAD are always among them.
fn set_methods(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    for n in 0..args.len() {
        let method = Method::from_name(&args.bytes(n)?.to_ascii_uppercase());
        let (Method::Get | Method::Head | Method::Post | Method::Put | Method::Delete) = method else {
            return Err(args.invalid_value(n));
        };
        *loc.methods.get_or_insert(0) |= method.bit();
    }
    Ok(())
}

/// What became of one request. Kept in its context.
#[derive(Default)]
struct State {
    /// The request may be stored: it came by the fetching, and was not told to keep away.
    seen: Cell<bool>,
    /// The cache was asked.
    asked: Cell<bool>,
    hit: Cell<bool>,
    storing: Cell<bool>,
    /// When the response gets stale, in seconds since 1970; 0 when it does not say.
    valid_until: Cell<i64>,
}

/// Whether a value of `srcache_fetch_skip` or `srcache_store_skip` says so.
fn is_true(template: Option<&Template>, r: &Request) -> bool {
    template.is_some_and(|template| {
        let value = template.eval(r);
        !value.is_empty() && *value != *b"0"
    })
}

/// A line for `error_log … debug`.
fn debug(r: &Request, message: std::fmt::Arguments<'_>) {
    if r.log().enabled(Level::Debug) {
        r.log_at(Level::Debug, message);
    }
}

/// `$srcache_expire`: seconds for which the response is to be kept.
fn expire(r: &Request, out: &mut Vec<u8>) -> bool {
    let Some(state) = r.find_ctx::<State>().filter(|state| state.storing.get()) else { return false };
    let loc = r.loc().conf::<Loc>();
    let limit = |value: Option<u64>| i64::try_from(value.unwrap_or(0)).unwrap_or(i64::MAX);
    let mut seconds = match state.valid_until.get() {
        0 => limit(Some(loc.and_then(|loc| loc.default_expire).unwrap_or(60))),
        until => until.saturating_sub(r.worker.now()),
    };
    let most = limit(loc.and_then(|loc| loc.max_expire));
    if most > 0 {
        seconds = seconds.min(most);
    }
    out.extend_from_slice(seconds.to_string().as_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_one_connection_are_hidden_unless_passed() {
        let names = |names: &[&str]| Some(names.iter().map(|name| name.as_bytes().into()).collect());
        let loc = Loc { hide: names(&["X-Foo"]), pass: names(&["Set-Cookie"]), ..Loc::default() };
        let hidden = loc.settings().hidden;
        assert!(hidden.contains(&b"x-foo".to_vec()) && hidden.contains(&b"connection".to_vec()));
        assert!(!hidden.contains(&b"set-cookie".to_vec()));
    }
}
