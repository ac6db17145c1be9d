//! The `events` block.
//! <https://nginx.org/en/docs/ngx_core_module.html#events>

use crate::{
    configuration::check_rows,
    directives::{Args, Row},
    settings::{Events, MainSettings},
};
use moonrest_core::{Arity, ConfResult, Contexts, Fault, conf::value, set_once};

const fn row(name: &'static str, arity: Arity, set: fn(&mut MainSettings, &Args<'_>) -> ConfResult) -> Row {
    Row { name, contexts: Contexts::EVENTS, arity, set }
}

/// Every directive of the block.
pub(crate) const ROWS: &[Row] = &[
    row("accept_mutex", Arity::exactly(1), |s, args| set_once(&mut of(s).accept_mutex, args.flag(0)?)),
    row("accept_mutex_delay", Arity::exactly(1), |s, args| {
        set_once(&mut of(s).accept_mutex_delay, args.msec(0)?)
    }),
    row("debug_connection", Arity::exactly(1), debug_connection),
    row("epoll_events", Arity::exactly(1), |s, args| {
        set_once(&mut of(s).epoll_events, usize::try_from(args.uint(0)?).unwrap_or(usize::MAX))
    }),
    row("multi_accept", Arity::exactly(1), |s, args| set_once(&mut of(s).multi_accept, args.flag(0)?)),
    row("use", Arity::exactly(1), method),
    row("worker_aio_requests", Arity::exactly(1), |s, args| {
        set_once(&mut of(s).worker_aio_requests, args.uint(0)?)
    }),
    row("worker_connections", Arity::exactly(1), worker_connections),
];

fn of(settings: &mut MainSettings) -> &mut Events {
    settings.events.get_or_insert_default()
}

/// Sets the block.
pub(crate) fn set(settings: &mut MainSettings, args: &Args<'_>) -> ConfResult {
    if settings.events.is_some() {
        return Err(Fault::DUPLICATE);
    }
    of(settings);
    check_rows(ROWS, Contexts::EVENTS, settings, args.env, args.block());
    Ok(())
}

fn worker_connections(settings: &mut MainSettings, args: &Args<'_>) -> ConfResult {
    let count = value::parse_uint(args.bytes(0)?)
        .and_then(|count| usize::try_from(count).ok())
        .ok_or_else(|| Fault::message(format!("invalid number \"{}\"", args.lossy(0))))?;
    set_once(&mut of(settings).worker_connections, count)
}

fn method(settings: &mut MainSettings, args: &Args<'_>) -> ConfResult {
    // Those that nginx can be built with on Linux; it is epoll in any case.
    if !matches!(args.bytes(0)?, b"epoll" | b"poll" | b"select") {
        return Err(Fault::message(format!("invalid event type \"{}\"", args.lossy(0))));
    }
    set_once(&mut of(settings).method, ())
}

/// nginx built without debugging does the same.
fn debug_connection(_: &mut MainSettings, args: &Args<'_>) -> ConfResult {
    args.env.warn(
        "\"debug_connection\" is ignored, use \"error_log … debug\" instead".to_owned(),
        Some(args.span()),
    );
    Ok(())
}
