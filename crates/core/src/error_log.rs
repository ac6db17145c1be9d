//! The `error_log` directive, at every level of the configuration.
//! <https://nginx.org/en/docs/ngx_core_module.html#error_log>

use crate::{
    Args, ConfResult, Fault, Subject,
    env::os_error,
    log::{Level, MemoryLog, Sink, Target},
};
use moonrest_conf::value;
use std::sync::Arc;

const DEBUG_PARTS: [&str; 7] =
    ["debug_core", "debug_alloc", "debug_mutex", "debug_event", "debug_http", "debug_mail", "debug_stream"];

/// Opens what one `error_log` names.
///
/// # Errors
/// nginx's `invalid log level "x"` and `open() "path" failed (…)`.
pub fn parse<S: Subject>(args: &Args<'_, S>) -> ConfResult<Target> {
    let mut level = None;
    let mut parts = false;
    for n in 1..args.len() {
        let name = args.str(n)?;
        if name == "json" {
            // Lines are text in any case.
            continue;
        }
        match Level::from_name(name) {
            Some(_) if level.is_some() => {
                return Err(Fault::message(format!("duplicate log level \"{name}\"")));
            }
            Some(known) => level = Some(known),
            // Parts of the debugging output; here they all turn on all of it.
            None if DEBUG_PARTS.contains(&name) && level.is_none_or(|level| level == Level::Debug) => {
                parts = true;
            }
            None => return Err(Fault::message(format!("invalid log level \"{name}\""))),
        }
    }
    let sink = sink(args)?;
    let default = if parts { Level::Debug } else { Level::Error };
    Ok(Target { level: level.unwrap_or(default), sink })
}

fn sink<S: Subject>(args: &Args<'_, S>) -> ConfResult<Sink> {
    let target = args.bytes(0)?;
    if target == b"stderr" {
        args.env.logs.use_stderr();
        return Ok(Sink::Stderr);
    }
    if let Some(size) = target.strip_prefix(b"memory:") {
        let size = value::parse_size(size).filter(|size| *size > 0).ok_or_else(|| {
            Fault::message(format!("invalid buffer size \"{}\"", String::from_utf8_lossy(size)))
        })?;
        return Ok(Sink::Memory(Arc::new(MemoryLog::new(usize::try_from(size).unwrap_or(usize::MAX)))));
    }
    if target.starts_with(b"syslog:") {
        return Ok(Sink::Syslog(crate::syslog::parse(target)?));
    }
    let path = args.path(0)?;
    let file = args.env.logs.open(&path, |path| args.env.resources.open_log(path)).map_err(|error| {
        Fault::message(format!("open() \"{}\" failed ({})", path.display(), os_error(&error)))
    })?;
    Ok(Sink::File(file))
}
