//! The `ngx` table, a file per family.

mod arg;
mod args;
pub(crate) mod capture;
mod cjson;
mod config;
mod control;
mod crypto;
mod digest;
mod escape;
mod log;
mod native;
mod on_abort;
mod output;
mod password;
mod pending;
mod req;
mod req_body;
mod req_fields;
mod resp;
pub(crate) mod socket;
mod sqlite;
mod thread;
mod time;
mod timer;
mod upstream;
mod var;
mod worker_thread;

pub(crate) use control::exit_status;
pub(crate) use output::number_text;

use crate::host::{Host, LuaPhase};
use moonrest_http::RequestRef;
use moonrest_luajit::{Call, LuaError, LuaResult, Native, Return, Stack, Table};

/// A function of the API.
pub(crate) type Function = fn(&mut Call<'_>) -> LuaResult<Return>;

/// Makes the `ngx` table of a new VM.
pub(crate) fn install(stack: &mut Stack<'_>, prefix: &[u8]) -> LuaResult<()> {
    let ngx = stack.table(0, 96)?;
    let globals = stack.globals()?;
    globals.set(stack, "ngx", ngx)?;
    let ndk = stack.table(0, 1)?;
    globals.set(stack, "ndk", ndk)?;
    subtable(stack, ndk, "set_var")?;
    if let Some(package) = globals.get(stack, "package")?.as_table()
        && let Some(loaded) = package.get(stack, "loaded")?.as_table()
    {
        loaded.set(stack, "ngx", ngx)?;
        loaded.set(stack, "ndk", ndk)?;
    }
    config::install(stack, ngx, prefix)?;
    output::install(stack, ngx)?;
    arg::install(stack, ngx)?;
    args::install(stack, ngx)?;
    control::install(stack, ngx)?;
    log::install(stack, ngx)?;
    req::install(stack, ngx)?;
    socket::install(stack, ngx)?;
    resp::install(stack, ngx)?;
    digest::install(stack, ngx)?;
    password::install(stack)?;
    pending::install(stack)?;
    native::install(stack)?;
    var::install(stack)?;
    capture::install(stack, ngx)?;
    thread::install(stack, ngx)?;
    worker_thread::install(stack, ngx)?;
    sqlite::install(stack)?;
    on_abort::install(stack, ngx)?;
    time::install(stack, ngx)?;
    timer::install(stack, ngx)?;
    escape::install(stack, ngx)
}

/// A table of functions, as a new field of `parent`.
fn subtable<'s>(stack: &Stack<'s>, parent: Table<'_>, name: &str) -> LuaResult<Table<'s>> {
    let table = stack.table(0, 16)?;
    parent.set(stack, name, table)?;
    Ok(table)
}

/// Calls `f` with the request.
///
/// # Errors
/// Upstream's words where there is none: see [`no_request`].
fn request<R>(call: &Call<'_>, f: impl FnOnce(&RequestRef, &Host) -> LuaResult<R>) -> LuaResult<R> {
    let answer = call.host(|host: &Host| host.request.as_ref().map(|r| f(r, host)));
    match answer.flatten() {
        Some(answer) => answer,
        None => Err(no_request(call)),
    }
}

/// Why a function that needs a request cannot be called.
fn no_request(call: &Call<'_>) -> LuaError {
    match call.host(|host: &Host| host.detached.is_some()) {
        Some(true) => LuaError::new("API disabled in the current context"),
        _ => LuaError::new("no request found"),
    }
}

/// Refuses a call in phases where it makes no sense, in upstream's words.
///
/// # Errors
/// `API disabled in the context of PHASE`, and as [`request`].
pub(crate) fn only_in(call: &Call<'_>, makes_sense: fn(LuaPhase) -> bool) -> LuaResult<()> {
    match call.host(|host: &Host| host.phase) {
        Some(LuaPhase::Init) | None => Err(LuaError::new("no request found")),
        Some(phase) if makes_sense(phase) => Ok(()),
        Some(phase) => Err(LuaError::new(format!("API disabled in the context of {}", phase.directive()))),
    }
}

/// Defines functions given by name, for what is called often.
pub(crate) fn define_native(stack: &Stack<'_>, table: Table<'_>, rows: &[(&str, Native)]) -> LuaResult<()> {
    for &(name, function) in rows {
        table.set(stack, name, stack.native(function)?)?;
    }
    Ok(())
}

/// Makes `require(name)` give a table of functions.
pub(crate) fn module(stack: &Stack<'_>, name: &str, rows: &[(&str, Native)]) -> LuaResult<()> {
    let module = stack.table(0, rows.len())?;
    define_native(stack, module, rows)?;
    if let Some(package) = stack.globals()?.get(stack, "package")?.as_table()
        && let Some(loaded) = package.get(stack, "loaded")?.as_table()
    {
        loaded.set(stack, name, module)?;
    }
    Ok(())
}

/// Defines functions given by name.
pub(crate) fn define(stack: &Stack<'_>, table: Table<'_>, rows: &[(&str, Function)]) -> LuaResult<()> {
    for &(name, function) in rows {
        let function = stack.function_with(function, |call, function| function(call))?;
        table.set(stack, name, function)?;
    }
    Ok(())
}
