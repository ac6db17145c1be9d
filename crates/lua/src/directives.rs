//! The directives of `ngx_http_lua_module`.
//! <https://github.com/openresty/lua-nginx-module#directives>

use crate::{
    balancer,
    code::{Code, FileName, Source},
    filter::LuaFilters,
    handler::{BeforeScript, LuaHandler, LuaLog},
    handshake::LuaHandshake,
    host::LuaPhase,
    proxy_ssl::LuaProxyTls,
    set,
    settings::{Loc, Main, OwnContent, SSL_PROTOCOLS, place},
    shdict, timers, vm, worker_threads,
};
use moonrest_http::{phase::LocalBoxFuture, prelude::*};
use moonrest_net::tls::secrets::SecretsFile;
use std::rc::Rc;

/// Lua in every phase.
pub struct HttpLua;

pub(crate) type D = Directive<HttpLua>;

const HS: Contexts = Contexts::HTTP.or(Contexts::SERVER);
const HSLI: Contexts = Contexts::HSL.or(Contexts::IF);
const HTTP: Contexts = Contexts::HTTP;
const LI: Contexts = Contexts::LOCATION.or(Contexts::IF);
const SCRIPT: Contexts = Contexts::SERVER.or(Contexts::SERVER_IF).or(Contexts::LOCATION).or(Contexts::IF);
const LUA: Arity = Arity::Lua { min: 0, max: 0 };
const ONE: Arity = Arity::exactly(1);

type Setter = fn(&mut Main, &mut Loc, &Args<'_>) -> ConfResult;
type MainSetter = fn(&mut Main, &Args<'_>) -> ConfResult;

const fn both(name: &'static str, contexts: Contexts, arity: Arity, set: Setter) -> D {
    D::new(name, contexts, arity, Set::Both(set))
}

const fn main(name: &'static str, set: MainSetter) -> D {
    D::main(name, ONE, set)
}

const fn flag(name: &'static str, field: fn(&mut Loc) -> &mut Option<bool>) -> D {
    D::flag(name, field).within(HSLI)
}

const fn msec(name: &'static str, field: fn(&mut Loc) -> &mut Option<u64>) -> D {
    D::msec(name, field).within(HSLI)
}

macro_rules! rows {
    ($($field:ident $contexts:ident $($name:literal $arity:ident),+;)*) => {
        &[
            $($( both($name, $contexts, $arity, |m, l, a| m.handler(a, &mut l.$field)), )+)*
            both("content_by_lua", LI, ONE, |m, l, a| m.content(a, &mut l.content)),
            both("content_by_lua_block", LI, LUA, |m, l, a| m.content(a, &mut l.content)),
            both("content_by_lua_file", LI, ONE, |m, l, a| m.content(a, &mut l.content)),
            main("init_by_lua", |m, a| m.once(a, |m| &mut m.init)),
            D::main("init_by_lua_block", LUA, |m, a| m.once(a, |m| &mut m.init)),
            main("init_by_lua_file", |m, a| m.once(a, |m| &mut m.init)),
            main("init_worker_by_lua", |m, a| m.once(a, |m| &mut m.init_worker)),
            D::main("init_worker_by_lua_block", LUA, |m, a| m.once(a, |m| &mut m.init_worker)),
            main("init_worker_by_lua_file", |m, a| m.once(a, |m| &mut m.init_worker)),
            D::main("exit_worker_by_lua_block", LUA, |m, a| m.once(a, |m| &mut m.exit_worker)),
            main("exit_worker_by_lua_file", |m, a| m.once(a, |m| &mut m.exit_worker)),
            D::new("set_by_lua", SCRIPT, Arity::at_least(2), Set::Main(set::set_by_lua)),
            D::new("set_by_lua_block", SCRIPT, Arity::Lua { min: 1, max: 1 }, Set::Main(set::set_by_lua)),
            D::new("set_by_lua_file", SCRIPT, Arity::at_least(2), Set::Main(set::set_by_lua)),
            main("lua_package_path", |m, a| set_once(&mut m.package_path, a.bytes(0)?.into())),
            main("lua_package_cpath", |m, a| set_once(&mut m.package_cpath, a.bytes(0)?.into())),
            main("rewrite_by_lua_no_postpone", |m, a| set_once(&mut m.rewrite_no_postpone, a.flag(0)?)),
            main("access_by_lua_no_postpone", |m, a| set_once(&mut m.access_no_postpone, a.flag(0)?)),
            main("precontent_by_lua_no_postpone", |m, a| set_once(&mut m.precontent_no_postpone, a.flag(0)?)),
            D::new("balancer_by_lua_block", Contexts::UPSTREAM, LUA, Set::Main(balancer::balancer_by_lua)),
            D::new("balancer_by_lua_file", Contexts::UPSTREAM, ONE, Set::Main(balancer::balancer_by_lua)),
            D::new("balancer_keepalive", Contexts::UPSTREAM, ONE, Set::Main(balancer::balancer_keepalive)),
            D::main("lua_shared_dict", Arity::exactly(2), shdict::lua_shared_dict),
            main("lua_load_resty_core", load_resty_core),
            main("lua_max_pending_timers", |m, a| set_once(&mut m.max_pending_timers, a.uint(0)?)),
            main("lua_max_running_timers", |m, a| set_once(&mut m.max_running_timers, a.uint(0)?)),
            main("lua_regex_cache_max_entries", |m, a| set_once(&mut m.regex_cache_max_entries, a.uint(0)?)),
            main("lua_regex_match_limit", |m, a| set_once(&mut m.regex_match_limit, a.uint(0)?)),
            main("lua_thread_cache_max_entries", |m, a| set_once(&mut m.thread_cache_max_entries, a.uint(0)?)),
            main("lua_worker_thread_vm_pool_size", |m, a| {
                set_once(&mut m.worker_thread_vm_pool_size, a.uint(0)?)
            }),
            main("lua_malloc_trim", |m, a| set_once(&mut m.malloc_trim, a.uint(0)?)),
            main("lua_sa_restart", |m, a| set_once(&mut m.sa_restart, a.flag(0)?)),
            main("lua_capture_error_log", capture_error_log),
            D::new("lua_code_cache", HSLI, ONE, Set::Loc(code_cache)),
            flag("lua_need_request_body", place::need_request_body),
            flag("lua_transform_underscores_in_response_headers", place::transform_underscores),
            flag("lua_http10_buffering", place::http10_buffering),
            flag("lua_check_client_abort", place::check_client_abort),
            flag("lua_use_default_type", place::use_default_type),
            flag("lua_socket_log_errors", place::log_errors),
            msec("lua_socket_connect_timeout", place::connect_timeout),
            msec("lua_socket_send_timeout", place::send_timeout),
            msec("lua_socket_read_timeout", place::read_timeout),
            msec("lua_socket_keepalive_timeout", place::keepalive_timeout),
            D::size("lua_socket_send_lowat", place::send_lowat).within(HSLI),
            D::size("lua_socket_buffer_size", place::buffer_size).within(HSLI),
            D::new("lua_socket_pool_size", HSLI, ONE, Set::Uint(place::pool_size)),
            D::loc("lua_ssl_protocols", Arity::at_least(1), ssl_protocols),
            D::new("lua_ssl_ciphers", Contexts::HSL, ONE, Set::Text(place::ciphers)),
            D::new("lua_ssl_verify_depth", Contexts::HSL, ONE, Set::Uint(place::verify_depth)),
            D::loc("lua_ssl_trusted_certificate", ONE, |l, a| {
                set_once(place::trusted_certificate(l), pem(a)?)
            }),
            D::loc("lua_ssl_crl", ONE, |l, a| set_once(place::crl(l), pem(a)?)),
            D::loc("lua_ssl_key_log", ONE, |l, a| set_once(place::key_log(l), key_log(a)?)),
            D::loc("lua_ssl_certificate", ONE, |l, a| {
                place::certificates(l).get_or_insert_default().push(pem(a)?);
                Ok(())
            }),
            D::loc("lua_ssl_certificate_key", ONE, |l, a| {
                place::certificate_keys(l).get_or_insert_default().push(pem(a)?);
                Ok(())
            }),
            D::loc("lua_ssl_conf_command", Arity::exactly(2), |l, a| {
                let command = (a.bytes(0)?.into(), a.bytes(1)?.into());
                place::conf_commands(l).get_or_insert_default().push(command);
                Ok(())
            }),
            D::flag("lua_upstream_skip_openssl_default_verify", place::upstream_skip_default_verify).within(LI),
        ]
    };
}

impl HttpModule for HttpLua {
    const NAME: &'static str = "ngx_http_lua_module";
    const DIRECTIVES: &'static [D] = rows![
        server_rewrite HS "server_rewrite_by_lua_block" LUA, "server_rewrite_by_lua_file" ONE;
        rewrite HSLI "rewrite_by_lua" ONE, "rewrite_by_lua_block" LUA, "rewrite_by_lua_file" ONE;
        access HSLI "access_by_lua" ONE, "access_by_lua_block" LUA, "access_by_lua_file" ONE;
        precontent HSLI "precontent_by_lua_block" LUA, "precontent_by_lua_file" ONE;
        header_filter HSLI "header_filter_by_lua" ONE, "header_filter_by_lua_block" LUA,
            "header_filter_by_lua_file" ONE;
        body_filter HSLI "body_filter_by_lua" ONE, "body_filter_by_lua_block" LUA,
            "body_filter_by_lua_file" ONE;
        ssl_client_hello HS "ssl_client_hello_by_lua_block" LUA, "ssl_client_hello_by_lua_file" ONE;
        ssl_certificate HS "ssl_certificate_by_lua_block" LUA, "ssl_certificate_by_lua_file" ONE;
        ssl_session_fetch HTTP "ssl_session_fetch_by_lua_block" LUA, "ssl_session_fetch_by_lua_file" ONE;
        ssl_session_store HTTP "ssl_session_store_by_lua_block" LUA, "ssl_session_store_by_lua_file" ONE;
        proxy_ssl_certificate LI "proxy_ssl_certificate_by_lua_block" LUA, "proxy_ssl_certificate_by_lua_file" ONE;
        proxy_ssl_verify LI "proxy_ssl_verify_by_lua_block" LUA, "proxy_ssl_verify_by_lua_file" ONE;
        log HSLI "log_by_lua" ONE, "log_by_lua_block" LUA, "log_by_lua_file" ONE;
    ];
    type Main = Main;
    type Loc = Loc;

    fn finish(main: &mut Main, cx: &moonrest_http::compile::Compiler<'_>) -> ConfResult {
        main.thread_pools = Some(moonrest_core::thread_pool::declared(cx.env));
        Ok(())
    }

    fn attach(main: &Main, loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        let handler = |code: &Arc<Code>, phase| LuaHandler::new(code.clone(), phase, loc);
        if let Some(code) = &loc.server_rewrite
            && to.kind == LocationKind::Server
        {
            to.before_script(BeforeScript(handler(code, LuaPhase::ServerRewrite)));
        }
        if let Some(code) = &loc.rewrite {
            let handler = handler(code, LuaPhase::Rewrite);
            if !main.rewrite_no_postpone.unwrap_or(false) {
                to.on(Phase::Rewrite, handler);
            } else if !matches!(to.kind, LocationKind::Server | LocationKind::Unnamed) {
                to.before_script(BeforeScript(handler));
            }
        }
        if to.kind == LocationKind::Server
            && let Some(handshake) = LuaHandshake::new(loc)
        {
            if handshake.needs_tls() && !to.speaks_tls() {
                return Err(Fault::message("no ssl configured for the server"));
            }
            to.handshake(handshake);
        }
        if let Some(hook) = LuaProxyTls::new(loc) {
            if to.secure_upstream() == Some(false) {
                let directive = hook.directive();
                return Err(Fault::message(format!("{directive} should be used with proxy_pass https url")));
            }
            to.handshake_hook(hook);
        }
        let phases = [
            (Phase::Access, &loc.access, LuaPhase::Access, main.access_no_postpone),
            (Phase::Precontent, &loc.precontent, LuaPhase::Precontent, main.precontent_no_postpone),
        ];
        for (phase, code, lua, first) in phases {
            match code {
                Some(code) if first == Some(true) => to.first(phase, handler(code, lua)),
                Some(code) => to.on(phase, handler(code, lua)),
                None => {}
            }
        }
        if let Some((block, code)) = &loc.content.0
            && to.belongs(*block)
        {
            to.content(handler(code, LuaPhase::Content));
        }
        if loc.header_filter.is_some() || loc.body_filter.is_some() {
            to.header_filter(HeaderOrder::Lua, LuaFilters::new(loc));
        }
        if let Some(code) = &loc.log {
            to.log_first(LuaLog { code: code.clone(), cached: loc.code_cache() });
        }
        Ok(())
    }

    fn start_worker(main: &Arc<Main>, worker: &Rc<Worker>) -> Result<(), String> {
        if main.used {
            vm::start(main, worker)?;
            timers::start(main, worker);
            worker_threads::start(main, worker);
            vm::init_worker(main, worker);
        }
        Ok(())
    }

    fn stop_worker(main: &Arc<Main>, worker: &Rc<Worker>) -> Option<LocalBoxFuture<()>> {
        if !main.used {
            return None;
        }
        let waits = vm::exit_worker(main, worker);
        timers::stop();
        worker_threads::stop();
        match waits {
            Some(wait) => Some(Box::pin(async move {
                wait.await;
                vm::stop();
            })),
            None => {
                vm::stop();
                None
            }
        }
    }
}

impl Main {
    fn once(&mut self, args: &Args<'_>, field: fn(&mut Self) -> &mut Option<Arc<Code>>) -> ConfResult {
        self.used = true;
        let code = code(args)?;
        set_once(field(self), code)
    }

    fn handler(&mut self, args: &Args<'_>, field: &mut Option<Arc<Code>>) -> ConfResult {
        self.used = true;
        set_once(field, code(args)?)
    }

    fn content(&mut self, args: &Args<'_>, content: &mut OwnContent) -> ConfResult {
        self.used = true;
        set_once(&mut content.0, (args.block, code(args)?))
    }
}

/// The file of `lua_ssl_key_log`.
fn key_log(args: &Args<'_>) -> ConfResult<Arc<SecretsFile>> {
    let path = args.env.conf_path(args.bytes(0)?)?;
    let file = args.env.resources.open_log(&path).map_err(|error| {
        let reason = moonrest_core::env::os_error(&error);
        Fault::message(format!("open() \"{}\" failed ({reason})", path.display()))
    })?;
    Ok(Arc::new(SecretsFile::new(file)))
}

/// The code a directive names: its block, its text or its file.
pub(crate) fn code(args: &Args<'_>) -> ConfResult<Arc<Code>> {
    let text = match args.lua() {
        Some(word) => word,
        None => args.word(0)?,
    };
    code_in(args, &text.text, text.span)
}

/// The code in `text`, or in the file it names, of a directive `*_by_lua*`.
pub(crate) fn code_in(
    args: &Args<'_>,
    text: &[u8],
    span: moonrest_core::conf::Span,
) -> ConfResult<Arc<Code>> {
    if text.is_empty() {
        return Err(Fault::message("invalid location config: no runnable Lua code"));
    }
    let name = args.name();
    if name.ends_with("_file") {
        let name = Template::parse(text, |name| args.vars.reference(name, Some(span)))?;
        let file = FileName { name, prefix: args.env.prefix.clone() };
        if args.env.resources.testing() {
            check_file(args, &file)?;
        }
        return Ok(Arc::new(Code::new(Source::File(file))));
    }
    let name = chunk_name(args, name.strip_suffix("_block").unwrap_or(name));
    check_text(args, &name, text)?;
    Ok(Arc::new(Code::new(Source::Inline { name, text: text.into() })))
}

/// The longest name LuaJIT keeps, without what stands around tag, file and line.
const MAX_CHUNK_NAME: usize = 56;

/// What tracebacks call the code of this directive: `content_by_lua(nginx.conf:12)`.
fn chunk_name(args: &Args<'_>, tag: &str) -> String {
    let span = args.span();
    let path = args.env.files.get(span.file.0 as usize);
    let path = path.map_or_else(|| "nginx.conf".into(), |path| path.to_string_lossy());
    let prefix = args.env.conf_prefix.to_string_lossy();
    shorten(tag, &path, &prefix, span.line)
}

/// nginx.conf and files below the prefix of the configuration go without directories; a name too long loses its
/// beginning.
fn shorten(tag: &str, path: &str, prefix: &str, line: u32) -> String {
    if path.ends_with("/nginx.conf") {
        return format!("{tag}(nginx.conf:{line})");
    }
    let below = path.strip_prefix(prefix).map(|name| name.trim_start_matches('/'));
    let name = below.filter(|name| !name.is_empty()).unwrap_or(path);
    let room = MAX_CHUNK_NAME.saturating_sub(tag.len() + line.to_string().len());
    if name.len() <= room {
        return format!("{tag}({name}:{line})");
    }
    let cut = name.len() - room.saturating_sub(3);
    let cut = (cut..=name.len()).find(|at| name.is_char_boundary(*at)).unwrap_or(name.len());
    format!("{tag}(...{}:{line})", name.get(cut..).unwrap_or_default())
}

/// Reports syntax errors when the configuration is read. A server that starts says so and answers 500 where the code
/// is asked for, as OpenResty does; a test of the configuration fails.
fn check_text(args: &Args<'_>, name: &str, text: &[u8]) -> ConfResult {
    let Err(error) = vm::check(&format!("={name}"), text) else { return Ok(()) };
    let message = format!("failed to load inlined Lua code: {}", String::from_utf8_lossy(error.message()));
    if args.env.resources.testing() {
        return Err(Fault::message(message));
    }
    args.env.warn(message, Some(args.span()));
    Ok(())
}

/// The same for a file whose name has no variables.
fn check_file(args: &Args<'_>, file: &FileName) -> ConfResult {
    use std::os::unix::ffi::OsStrExt;
    let Some(path) = file.fixed() else { return Ok(()) };
    let shown = String::from_utf8_lossy(&path);
    let failed = |why: String| Fault::message(format!("failed to load external Lua file \"{shown}\": {why}"));
    let text = args
        .env
        .resources
        .read(std::path::Path::new(std::ffi::OsStr::from_bytes(&path)))
        .map_err(|error| failed(vm::cannot_open(&shown, &error)))?;
    vm::check(&format!("@{shown}"), vm::without_first_comment(&text))
        .map_err(|error| failed(String::from_utf8_lossy(error.message()).into_owned()))
}

fn code_cache(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    let on = args.flag(0)?;
    set_once(place::code_cache(loc), on)?;
    if !on {
        let message = "lua_code_cache is off; this will hurt performance";
        args.env.report(moonrest_core::conf::Level::Alert, message.to_owned(), Some(args.span()));
    }
    Ok(())
}

fn load_resty_core(_: &mut Main, args: &Args<'_>) -> ConfResult {
    args.flag(0)?;
    let message =
        "lua_load_resty_core is deprecated (the lua-resty-core library is required since ngx_lua v0.10.16)";
    args.env.warn(message.to_owned(), Some(args.span()));
    Ok(())
}

/// The least that can be kept: one line of the error log.
const MIN_CAPTURE: u64 = 4096;

fn capture_error_log(main: &mut Main, args: &Args<'_>) -> ConfResult {
    let shown = args.lossy(0);
    let invalid = || Fault::message(format!("invalid capture error log size \"{shown}\""));
    if main.capture_error_log.is_some() {
        return Err(Fault::DUPLICATE);
    }
    if args.bytes(0)?.is_empty() {
        return Err(invalid());
    }
    match args.size(0) {
        Ok(size) if size >= MIN_CAPTURE => set_once(&mut main.capture_error_log, size),
        _ => Err(Fault::message(format!(
            "invalid capture error log size \"{shown}\", minimum size is {MIN_CAPTURE}"
        ))),
    }
}

/// A file of certificates or keys.
fn pem(args: &Args<'_>) -> ConfResult<Arc<crate::settings::Pem>> {
    let path = args.env.conf_path(args.bytes(0)?)?;
    Ok(Arc::new(crate::settings::Pem { path, text: args.env.read_file(args.word(0)?)? }))
}

fn ssl_protocols(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    let mut chosen = Vec::new();
    for n in 0..args.len() {
        let protocol = args.choice(n, SSL_PROTOCOLS)?;
        if chosen.contains(&protocol) {
            args.env.warn(format!("duplicate value \"{}\"", args.lossy(n)), Some(args.span()));
        } else {
            chosen.push(protocol);
        }
    }
    set_once(place::protocols(loc), chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracebacks_name_the_file_as_short_as_they_can() {
        let check = |path, expect: &str| assert_eq!(shorten("log_by_lua", path, "/etc/nginx/", 7), expect);
        check("/etc/nginx/nginx.conf", "log_by_lua(nginx.conf:7)");
        check("/srv/nginx.conf", "log_by_lua(nginx.conf:7)");
        check("/etc/nginx/conf.d/a.conf", "log_by_lua(conf.d/a.conf:7)");
        let long = format!("/{}.conf", "x".repeat(60));
        check(&long, &format!("log_by_lua(...{}.conf:7)", "x".repeat(37)));
    }
}
