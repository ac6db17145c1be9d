//! The directives of the main level.
//! <https://nginx.org/en/docs/ngx_core_module.html>

use crate::{
    events,
    settings::{Affinity, EnvEntry, MainSettings, ThreadPool},
};
use moonrest_core::{
    Arity, ConfResult, Contexts, Env, Fault, conf::Directive, conf::Level, error_log, set_once,
};
use moonrest_http::{Request, module::DirectiveInfo};
use moonrest_sys::user::{self, Identity};

/// A directive being set.
pub(crate) type Args<'a> = moonrest_core::Args<'a, Request>;

/// How a main directive reaches the settings.
type Set = fn(&mut MainSettings, &Args<'_>) -> ConfResult;

/// A row of the table.
pub(crate) struct Row {
    pub name: &'static str,
    pub contexts: Contexts,
    pub arity: Arity,
    pub set: Set,
}

/// A directive as `--dump-directives` shows it.
pub struct ModuleRow {
    pub module: &'static str,
    pub info: DirectiveInfo,
}

const fn main(name: &'static str, arity: Arity, set: Set) -> Row {
    Row { name, contexts: Contexts::MAIN, arity, set }
}

/// Every directive of the main level but the blocks of protocols.
pub(crate) const ROWS: &[Row] = &[
    main("daemon", Arity::exactly(1), |s, args| set_once(&mut s.daemon, args.flag(0)?)),
    main("debug_points", Arity::exactly(1), debug_points),
    main("env", Arity::exactly(1), env),
    main("error_log", Arity::at_least(1), |s, args| {
        s.error_log.push(error_log::parse(args)?);
        Ok(())
    }),
    main("events", Arity::Block { min: 0, max: 0 }, events::set),
    main("load_module", Arity::exactly(1), load_module),
    main("lock_file", Arity::exactly(1), |s, args| set_once(&mut s.lock_file, args.path(0)?)),
    main("master_process", Arity::exactly(1), |s, args| set_once(&mut s.master_process, args.flag(0)?)),
    main("pcre_jit", Arity::exactly(1), |s, args| set_once(&mut s.pcre_jit, args.flag(0)?)),
    main("pid", Arity::exactly(1), |s, args| set_once(&mut s.pid, args.path(0)?)),
    main("ssl_engine", Arity::exactly(1), |_, args| {
        Err(Fault::message(format!("ENGINE_by_id(\"{}\") failed: engines are not supported", args.lossy(0))))
    }),
    main("ssl_object_cache_inheritable", Arity::exactly(1), |s, args| {
        set_once(&mut s.ssl_object_cache_inheritable, args.flag(0)?)
    }),
    main("thread_pool", Arity::between(2, 3), thread_pool),
    main("timer_resolution", Arity::exactly(1), |s, args| set_once(&mut s.timer_resolution, args.msec(0)?)),
    main("user", Arity::between(1, 2), set_user),
    main("worker_cpu_affinity", Arity::at_least(1), cpu_affinity),
    main("worker_priority", Arity::exactly(1), priority),
    main("worker_processes", Arity::exactly(1), worker_processes),
    main("worker_rlimit_core", Arity::exactly(1), |s, args| set_once(&mut s.rlimit_core, args.offset(0)?)),
    main("worker_rlimit_nofile", Arity::exactly(1), |s, args| set_once(&mut s.rlimit_nofile, args.uint(0)?)),
    main("worker_shutdown_timeout", Arity::exactly(1), |s, args| {
        set_once(&mut s.shutdown_timeout, args.msec(0)?)
    }),
    main("working_directory", Arity::exactly(1), |s, args| set_once(&mut s.working_directory, args.path(0)?)),
];

/// The block that the compiler of the engine takes.
pub(crate) const HTTP: DirectiveInfo =
    DirectiveInfo { name: "http", contexts: Contexts::MAIN, arity: Arity::Block { min: 0, max: 0 } };

/// Read by the parser wherever it stands.
const INCLUDE: DirectiveInfo =
    DirectiveInfo { name: "include", contexts: Contexts::MAIN, arity: Arity::exactly(1) };

/// The directives of this crate, for documentation.
pub fn main_directives() -> Vec<ModuleRow> {
    let row = |module, row: &Row| ModuleRow { module, info: row.info() };
    let own = ROWS.iter().map(|r| row("ngx_core_module", r));
    let events = events::ROWS.iter().map(|r| row("ngx_events_module", r));
    let http = ModuleRow { module: "ngx_http_module", info: HTTP };
    let include = ModuleRow { module: "ngx_core_module", info: INCLUDE };
    own.chain([include]).chain(events).chain([http]).collect()
}

impl Row {
    pub(crate) fn info(&self) -> DirectiveInfo {
        DirectiveInfo { name: self.name, contexts: self.contexts, arity: self.arity }
    }

    /// Sets one directive whose form has been checked.
    pub(crate) fn apply(
        &self,
        settings: &mut MainSettings,
        env: &Env<'_>,
        directive: &Directive,
    ) -> ConfResult {
        let vars = moonrest_core::Variables::default();
        (self.set)(settings, &Args { directive, env, vars: &vars })
    }
}

fn debug_points(settings: &mut MainSettings, args: &Args<'_>) -> ConfResult {
    let which =
        ["stop", "abort"].iter().position(|word| word.as_bytes() == args.bytes(0).unwrap_or_default());
    set_once(&mut settings.debug_points, which.ok_or_else(|| args.invalid_value(0))?)
}

fn env(settings: &mut MainSettings, args: &Args<'_>) -> ConfResult {
    let text = args.bytes(0)?;
    let at = text.iter().position(|&byte| byte == b'=');
    let (name, value) = match at {
        Some(at) => (&text[..at], Some(text[at + 1..].to_vec())),
        None => (text, None),
    };
    if !name.is_empty() {
        settings.env.push(EnvEntry { name: name.to_vec(), value });
    }
    Ok(())
}

fn worker_processes(settings: &mut MainSettings, args: &Args<'_>) -> ConfResult {
    let count = match args.bytes(0)? {
        b"auto" => moonrest_sys::cpu::count(),
        text => moonrest_core::conf::value::parse_uint(text)
            .and_then(|count| usize::try_from(count).ok())
            .filter(|count| *count <= MAX_WORKERS)
            .ok_or(Fault::directive("invalid value"))?,
    };
    set_once(&mut settings.worker_processes, count)
}

/// As many processes as nginx can have.
const MAX_WORKERS: usize = 1024;

fn priority(settings: &mut MainSettings, args: &Args<'_>) -> ConfResult {
    let (digits, sign) = match args.bytes(0)? {
        [b'-', digits @ ..] => (digits, -1),
        [b'+', digits @ ..] => (digits, 1),
        digits => (digits, 1),
    };
    let number = moonrest_core::conf::value::parse_uint(digits).and_then(|n| i32::try_from(n).ok());
    set_once(&mut settings.priority, sign * number.ok_or(Fault::directive("invalid number"))?)
}

fn set_user(settings: &mut MainSettings, args: &Args<'_>) -> ConfResult {
    if settings.user.is_some() {
        return Err(Fault::DUPLICATE);
    }
    if !args.env.resources.privileged() {
        let message = "the \"user\" directive makes sense only if the master process runs with super-user \
                       privileges, ignored";
        args.env.warn(message.to_owned(), Some(args.span()));
        return Ok(());
    }
    let name = args.bytes(0)?;
    let group = if args.len() == 2 { args.bytes(1)? } else { name };
    settings.user = Some(identity(name, group)?);
    Ok(())
}

/// Looks up a user and a group.
pub(crate) fn identity(name: &[u8], group: &[u8]) -> ConfResult<Identity> {
    let failed = |call: &str, name: &[u8], error: Option<std::io::Error>| {
        let reason = error.map(|e| format!(" ({})", moonrest_core::env::os_error(&e))).unwrap_or_default();
        Fault::message(format!("{call}(\"{}\") failed{reason}", String::from_utf8_lossy(name)))
    };
    let found = user::by_name(name).map_err(|e| failed("getpwnam", name, Some(e)))?;
    let found = found.ok_or_else(|| failed("getpwnam", name, None))?;
    let gid = user::group_by_name(group).map_err(|e| failed("getgrnam", group, Some(e)))?;
    let gid = gid.ok_or_else(|| failed("getgrnam", group, None))?;
    Ok(Identity { name: name.to_vec(), uid: found.uid, gid, keep_net_raw: false })
}

fn cpu_affinity(settings: &mut MainSettings, args: &Args<'_>) -> ConfResult {
    let auto = args.bytes(0)? == b"auto";
    if auto && args.len() > 2 {
        return Err(args.wrong_count());
    }
    let masks = (usize::from(auto)..args.len()).map(|n| cpu_mask(args.bytes(n)?));
    let mut masks = masks.collect::<ConfResult<Vec<_>>>()?;
    let affinity = match (auto, masks.pop()) {
        (true, Some(mask)) => Affinity::Auto(mask),
        (true, None) => Affinity::Auto((0..moonrest_sys::cpu::online()).collect()),
        (false, last) => {
            masks.extend(last);
            Affinity::Masks(masks)
        }
    };
    set_once(&mut settings.affinity, affinity)
}

/// `0101`: processors 0 and 2.
fn cpu_mask(text: &[u8]) -> ConfResult<Vec<usize>> {
    if text.len() > moonrest_sys::cpu::MAX_CPUS {
        return Err(Fault::message(format!(
            "\"worker_cpu_affinity\" supports up to {} CPUs only",
            moonrest_sys::cpu::MAX_CPUS
        )));
    }
    let mut cpus = Vec::new();
    for (n, &byte) in text.iter().rev().filter(|byte| **byte != b' ').enumerate() {
        match byte {
            b'0' => {}
            b'1' => cpus.push(n),
            other => {
                let shown = char::from(other);
                return Err(Fault::message(format!(
                    "invalid character \"{shown}\" in \"worker_cpu_affinity\""
                )));
            }
        }
    }
    Ok(cpus)
}

fn thread_pool(settings: &mut MainSettings, args: &Args<'_>) -> ConfResult {
    let name = args.str(0)?.to_owned();
    if settings.thread_pools.iter().any(|pool| pool.name == name) {
        return Err(Fault::message(format!("duplicate thread pool \"{name}\"")));
    }
    let (mut threads, mut max_queue) = (0, 65_536);
    for n in 1..args.len() {
        let word = args.bytes(n)?;
        let number = |prefix: &[u8]| word.strip_prefix(prefix).map(moonrest_core::conf::value::parse_uint);
        if let Some(value) = number(b"threads=") {
            threads = value
                .and_then(|n| usize::try_from(n).ok())
                .filter(|n| *n > 0)
                .ok_or_else(|| Fault::message(format!("invalid threads value \"{}\"", args.lossy(n))))?;
        } else if let Some(value) = number(b"max_queue=") {
            max_queue = value
                .ok_or_else(|| Fault::message(format!("invalid max_queue value \"{}\"", args.lossy(n))))?;
        }
    }
    if threads == 0 {
        return Err(Fault::message("\"thread_pool\" must have \"threads\" parameter"));
    }
    moonrest_core::thread_pool::declare(args.env, &name);
    settings.thread_pools.push(ThreadPool { name, threads, max_queue });
    Ok(())
}

/// What distributions name the files of dynamic modules, all built in here.
const BUILT_IN: [&str; 21] = [
    "ngx_http_lua_module",
    "ngx_http_headers_more_filter_module",
    "ngx_http_echo_module",
    "ngx_http_set_misc_module",
    "ngx_http_array_var_module",
    "ngx_http_form_input_module",
    "ngx_http_srcache_filter_module",
    "ngx_http_encrypted_session_module",
    "ngx_stream_lua_module",
    "ngx_stream_module",
    "ndk_http_module",
    "ngx_http_memc_module",
    "ngx_http_redis_module",
    "ngx_http_redis2_module",
    "ngx_http_rds_json_filter_module",
    "ngx_http_rds_csv_filter_module",
    "ngx_http_drizzle_module",
    "ngx_postgres_module",
    "ngx_http_iconv_module",
    "ngx_http_xss_filter_module",
    "ngx_coolkit_module",
];

/// There are no dynamic modules: those of nginx and OpenResty are built in, others cannot be loaded.
fn load_module(_: &mut MainSettings, args: &Args<'_>) -> ConfResult {
    let path = args.path(0)?;
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let known = args.env.shared::<KnownModules>();
    if BUILT_IN.contains(&name) || known.contains(name) {
        args.env.report(
            Level::Notice,
            format!("module \"{name}\" is built in, not loaded"),
            Some(args.span()),
        );
        return Ok(());
    }
    Err(Fault::message(format!(
        "dlopen() \"{}\" failed (modules compiled for nginx cannot be loaded)",
        path.display()
    )))
}

/// The names of the modules of the registry, for `load_module`.
#[derive(Default)]
pub(crate) struct KnownModules(pub std::sync::OnceLock<Vec<&'static str>>);

impl KnownModules {
    fn contains(&self, name: &str) -> bool {
        self.0.get().is_some_and(|names| names.contains(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_read_from_its_end() {
        assert_eq!(cpu_mask(b"0101").unwrap(), [0, 2]);
        assert_eq!(cpu_mask(b"10 00").unwrap(), [3]);
        assert!(cpu_mask(b"").unwrap().is_empty());
        assert!(cpu_mask(b"012").is_err());
    }

    #[test]
    fn names_are_unique_within_a_context() {
        let rows = main_directives();
        for (n, row) in rows.iter().enumerate() {
            let twin = rows[..n].iter().any(|other| {
                other.info.name == row.info.name && other.info.contexts.overlaps(row.info.contexts)
            });
            assert!(!twin, "{} stands twice", row.info.name);
        }
    }

    #[test]
    fn root_is_found_and_nobody_else_made_up() {
        assert_eq!(identity(b"root", b"root").unwrap().uid, 0);
        assert!(identity(b"no-such-user-here", b"root").is_err());
        assert!(identity(b"root", b"no-such-group-here").is_err());
    }
}
