//! What `resty.sqlite` stands on: connections to the embedded database. Whatever touches a file waits, and other
//! requests go on meanwhile.

use super::define;
use crate::scheduler::{Operation, Values};
use moonrest_luajit::{Call, Light, LuaResult, Nil, Ref, Return, Stack, Value};
use moonrest_net::{sleep::sleep, timer::exactly_within};
use moonrest_sqlite as sqlite;
use moonrest_sys::time::monotonic_ms;
use sqlite::{Answer, Connection, Error, Options, Outcome, Params, Work};
use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::PathBuf, rc::Rc};

/// Where `require` finds the functions.
const NAME: &str = "moonrest.sqlite.native";
/// A number that a double holds exactly.
const EXACT: i64 = 1 << 53;
/// How long a lock of others is waited for before each new attempt; then for the last of these.
const DELAYS_MS: &[u64] = &[1, 2, 5, 10, 15, 20, 25, 50, 100];

/// A connection as Lua holds it.
struct Handle(Rc<Connection>);

pub(super) fn install(stack: &mut Stack<'_>) -> LuaResult<()> {
    stack.define_type::<Handle>(|_, _, _| Ok(()))?;
    let module = stack.table(0, 8)?;
    define(
        stack,
        module,
        &[
            ("open", open),
            ("run", run),
            ("close", close),
            ("is_usable", is_usable),
            ("in_transaction", in_transaction),
        ],
    )?;
    if let Some(package) = stack.globals()?.get(stack, "package")?.as_table()
        && let Some(loaded) = package.get(stack, "loaded")?.as_table()
    {
        loaded.set(stack, NAME, module)?;
    }
    Ok(())
}

fn connection(call: &Call<'_>) -> LuaResult<Rc<Connection>> {
    Ok(call.arg_userdata::<Handle>(1, "connection")?.0.clone())
}

/// `open(path, read_only, create, setup) -> connection`; or nil, an error, its code and state.
fn open(call: &mut Call<'_>) -> LuaResult<Return> {
    let (path, read_only, create): (&[u8], bool, bool) = (call.arg(1)?, call.arg(2)?, call.arg(3)?);
    let setup = String::from_utf8_lossy(call.arg::<&[u8]>(4)?).into_owned();
    let path = PathBuf::from(OsStr::from_bytes(path));
    let opening = Connection::open(Options { path, read_only, create, setup });
    let wait = async move {
        match opening.await {
            Ok(connection) => Values::made(move |stack| {
                let handle = Handle(Rc::new(connection));
                let kept = stack.lua().with(|main| {
                    let handle = main.userdata(handle)?;
                    main.keep(handle)
                })?;
                stack.push(kept)
            }),
            Err(error) => Values::made(move |stack| {
                stack.push(Nil)?;
                push_error(stack, &error)
            }),
        }
    };
    call.suspend(Operation::Wait(Box::pin(wait)), ())
}

/// `close(connection)`.
fn close(call: &mut Call<'_>) -> LuaResult<Return> {
    connection(call)?.close();
    call.ret(())
}

/// `is_usable(connection)`: whether it is neither closed nor busy.
fn is_usable(call: &mut Call<'_>) -> LuaResult<Return> {
    let connection = connection(call)?;
    call.ret(connection.is_idle() && !connection.is_closed())
}

/// `in_transaction(connection)`: after the last statement.
fn in_transaction(call: &mut Call<'_>) -> LuaResult<Return> {
    let connection = connection(call)?;
    call.ret(!connection.is_autocommit())
}

/// `run(connection, sql, timeout_ms, busy_ms, compact, named, …) -> first result, list of the others, error, code, state`.
fn run(call: &mut Call<'_>) -> LuaResult<Return> {
    let connection = connection(call)?;
    let Ok(script) = std::str::from_utf8(call.arg(2)?).map(str::to_owned) else {
        return fail(call, &Error::misuse("the query is not valid UTF-8"));
    };
    let (timeout, busy, compact): (u64, u64, bool) = (call.arg(3)?, call.arg(4)?, call.arg(5)?);
    let params = match params(call) {
        Ok(params) => params,
        Err(error) => return fail(call, &error),
    };
    if !connection.is_idle() {
        let why = if connection.is_closed() { "closed" } else { "connection busy" };
        return fail(call, &Error::misuse(why));
    }
    let wait = async move {
        let (outcomes, error) = finish(&connection, Work::new(script, params), timeout, busy).await;
        Values::made(move |stack| push_answer(stack, &outcomes, error.as_ref(), compact))
    };
    call.suspend(Operation::Wait(Box::pin(wait)), ())
}

fn fail(call: &Call<'_>, error: &Error) -> LuaResult<Return> {
    call.ret((Nil, Nil, error.message.as_str(), f64::from(error.code), error.state))
}

/// Runs a script to its end, waiting for locks of others, but not longer than `timeout`, where that is not 0.
async fn finish(
    connection: &Rc<Connection>,
    mut work: Work,
    timeout: u64,
    busy: u64,
) -> (Vec<Outcome>, Option<Error>) {
    let begin = monotonic_ms();
    let left = |limit: u64| limit.saturating_sub(monotonic_ms().saturating_sub(begin));
    let mut delays = DELAYS_MS.iter().copied().chain(std::iter::repeat(100));
    loop {
        let mut attempt = match connection.run(work) {
            Ok(attempt) => attempt,
            Err(error) => return (Vec::new(), Some(error)),
        };
        let answer = if timeout == 0 {
            attempt.await
        } else if let Some(answer) = exactly_within(left(timeout).max(1), &mut attempt).await {
            answer
        } else {
            attempt.interrupt();
            match attempt.await {
                Answer::Done(outcomes, Some(error)) if error.is_interrupt() => {
                    return (outcomes, Some(timed_out(&error)));
                }
                other => other,
            }
        };
        match answer {
            Answer::Done(outcomes, error) => return (outcomes, error),
            Answer::Busy(rest, error) => {
                if left(busy) == 0 || connection.is_closed() {
                    return (rest.into_outcomes(), Some(error));
                }
                if timeout != 0 && left(timeout) == 0 {
                    return (rest.into_outcomes(), Some(timed_out(&error)));
                }
                sleep(delays.next().unwrap_or(100).min(left(busy))).await;
                work = rest;
            }
        }
    }
}

fn timed_out(error: &Error) -> Error {
    Error { message: "timeout".to_owned(), code: error.code, state: "57014" }
}

/// The arguments from the sixth on.
fn params(call: &mut Call<'_>) -> Result<Params, Error> {
    let mut params = Params::default();
    if let Value::Table(named) = call.value(6) {
        let mut problem = None;
        let walked = named.for_each(call, |stack, key, value| {
            if let Some(name) = key.as_bytes() {
                match bound(stack, value) {
                    Ok(value) => params.named.push((name.to_vec(), value)),
                    Err(error) => problem = Some(error),
                }
            }
            Ok(())
        });
        if walked.is_err() {
            return Err(Error::misuse("bad table of parameters"));
        }
        if let Some(problem) = problem {
            return Err(problem);
        }
    }
    for n in 7..=call.args_len() {
        let value = call.value(n);
        params.positional.push(bound(call, value)?);
    }
    Ok(params)
}

/// A value as the database has it.
fn bound(stack: &Stack<'_>, value: Value<'_>) -> Result<sqlite::Value, Error> {
    Ok(match value {
        Value::Nil | Value::Light(0) => sqlite::Value::Null,
        Value::Boolean(flag) => sqlite::Value::Integer(i64::from(flag)),
        Value::Number(number) => number_value(number),
        Value::String(text) => sqlite::Value::Text(text.to_vec()),
        Value::Table(table) => {
            match table.raw_get(stack, "blob").map(|blob| blob.as_bytes().map(<[u8]>::to_vec)) {
                Ok(Some(bytes)) => sqlite::Value::Blob(bytes),
                _ => return Err(Error::misuse("bad parameter: a table")),
            }
        }
        Value::Cdata(_) => match wide_integer(stack, value) {
            Some(number) => sqlite::Value::Integer(number),
            None => return Err(Error::misuse("bad parameter: a cdata")),
        },
        other => return Err(Error::misuse(format!("bad parameter: a {}", other.type_name()))),
    })
}

#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "checked to be exact")]
fn number_value(number: f64) -> sqlite::Value {
    if number.fract() == 0.0 && number.abs() <= EXACT as f64 {
        sqlite::Value::Integer(number as i64)
    } else {
        sqlite::Value::Real(number)
    }
}

/// A 64-bit number of the FFI.
fn wide_integer(stack: &Stack<'_>, value: Value<'_>) -> Option<i64> {
    let Value::Function(tostring) = stack.globals().ok()?.raw_get(stack, "tostring").ok()? else {
        return None;
    };
    let shown = stack.call(tostring, value).ok()?;
    let text = std::str::from_utf8(shown.value(stack, 0).as_bytes()?).ok()?;
    text.trim_end_matches(['U', 'L']).parse().ok()
}

fn push_error(stack: &Stack<'_>, error: &Error) -> LuaResult<()> {
    stack.push(&error.message)?;
    stack.push(f64::from(error.code))?;
    stack.push(error.state)
}

fn push_answer(
    stack: &Stack<'_>,
    outcomes: &[Outcome],
    error: Option<&Error>,
    compact: bool,
) -> LuaResult<()> {
    let mut tables = stack.lua().with(|main| {
        outcomes.iter().map(|outcome| result_table(main, outcome, compact)).collect::<LuaResult<Vec<Ref>>>()
    })?;
    if tables.is_empty() {
        stack.push(Nil)?;
    } else {
        stack.push(tables.remove(0))?;
    }
    if tables.is_empty() {
        stack.push(Nil)?;
    } else {
        let others = stack.lua().with(|main| -> LuaResult<Ref> {
            let list = main.table(tables.len(), 0)?;
            for table in tables {
                list.append(main, table)?;
            }
            main.keep(list)
        })?;
        stack.push(others)?;
    }
    error.map_or(Ok(()), |error| push_error(stack, error))
}

/// Rows, or what was changed, as `resty.mysql` shows it.
fn result_table(stack: &mut Stack<'_>, outcome: &Outcome, compact: bool) -> LuaResult<Ref> {
    stack.scope(|stack| {
        let rows = match outcome {
            Outcome::Changed { rows, last_id } => {
                let table = stack.table(0, 4)?;
                table.raw_set(stack, "affected_rows", *rows)?;
                let last_id = shown(stack, &sqlite::Value::Integer(*last_id))?;
                table.raw_set(stack, "insert_id", last_id)?;
                table.raw_set(stack, "server_status", 2)?;
                table.raw_set(stack, "warning_count", 0)?;
                return stack.keep(table);
            }
            Outcome::Rows(rows) => rows,
        };
        let width = rows.columns.len();
        let table = stack.table(rows.values.len() / width.max(1), 0)?;
        for row in rows.values.chunks_exact(width.max(1)) {
            stack.scope(|stack| -> LuaResult<()> {
                let (array, records) = if compact { (width, 0) } else { (0, width) };
                let made = stack.table(array, records)?;
                for (n, (column, value)) in rows.columns.iter().zip(row).enumerate() {
                    stack.scope(|stack| {
                        let value = shown(stack, value)?;
                        if compact {
                            made.set_index(stack, n + 1, value)
                        } else {
                            made.raw_set(stack, column.as_str(), value)
                        }
                    })?;
                }
                table.append(stack, made)
            })?;
        }
        stack.keep(table)
    })
}

/// What a value is to Lua. Integers that a number does not hold are texts.
#[allow(clippy::cast_precision_loss, reason = "checked to be exact")]
fn shown<'s>(stack: &Stack<'s>, value: &sqlite::Value) -> LuaResult<Value<'s>> {
    match value {
        sqlite::Value::Null => stack.put(Light(0)),
        sqlite::Value::Integer(number) if number.unsigned_abs() <= EXACT.unsigned_abs() => {
            stack.put(*number as f64)
        }
        sqlite::Value::Integer(number) => stack.put(number.to_string()),
        sqlite::Value::Real(number) => stack.put(*number),
        sqlite::Value::Text(bytes) | sqlite::Value::Blob(bytes) => stack.put(bytes.as_slice()),
    }
}
