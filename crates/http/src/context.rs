//! Log lines with the context of a request: client, server, request line, host, referrer.

use crate::request::Request;
use moonrest_core::Level;
use std::fmt::{self, Write};

/// Writes `message` with the request's context, as nginx words it.
#[cold]
pub(crate) fn log(r: &Request, level: Level, message: fmt::Arguments<'_>) {
    if !r.log().enabled(level) {
        return;
    }
    let mut line = String::with_capacity(256);
    let _ = line.write_fmt(message);
    append(r, &mut line);
    let connection = Some(r.conn.number).filter(|_| !r.probes.get());
    r.log().write(level, connection, format_args!("{line}"));
}

/// The same for a message of several lines. The context, in which a client's bytes are, stays one line.
#[cold]
pub(crate) fn log_lines(r: &Request, level: Level, message: fmt::Arguments<'_>) {
    if !r.log().enabled(level) {
        return;
    }
    let context = one_line(r);
    r.log().write_lines(level, Some(r.conn.number), format_args!("{message}{context}"));
}

/// The same above all levels.
#[cold]
pub(crate) fn log_nameless(r: &Request, message: fmt::Arguments<'_>) {
    let context = one_line(r);
    r.log().write_nameless(Some(r.conn.number), format_args!("{message}{context}"));
}

fn one_line(r: &Request) -> String {
    let mut context = String::with_capacity(256);
    append(r, &mut context);
    context.replace('\n', " ")
}

fn append(r: &Request, line: &mut String) {
    let main = r.main();
    let action = main.action.get();
    if !action.is_empty() {
        let _ = write!(line, " while {action}");
    }
    if main.probes.get() {
        return crate::upstream::append_probe(main, line);
    }
    let mut text = Vec::with_capacity(64);
    r.with_client(|addr| addr.append_text(&mut text));
    let _ = write!(line, ", client: {}", String::from_utf8_lossy(&text));
    let _ = write!(line, ", server: {}", String::from_utf8_lossy(&r.srv().name));
    let request_line = request_line(main);
    if !request_line.is_empty() {
        let _ = write!(line, ", request: \"{request_line}\"");
    }
    if r.is_subrequest() {
        let _ = write!(line, ", subrequest: \"{}\"", String::from_utf8_lossy(&r.uri()));
    }
    crate::upstream::append_context(r, line);
    for (name, label) in [(&b"host"[..], "host"), (b"referer", "referrer")] {
        main.with_header(name, |value| {
            if let Some(value) = value {
                let _ = write!(line, ", {label}: \"{}\"", String::from_utf8_lossy(value));
            }
        });
    }
}

/// The request line, or as much of it as has come.
fn request_line(main: &Request) -> String {
    let head = main.head.borrow();
    let block = main.block.borrow();
    let line = head.line.of(&block);
    if !line.is_empty() {
        return String::from_utf8_lossy(line).into_owned();
    }
    let rest = block.get(head.start()..).unwrap_or_default();
    let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(rest.len());
    String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).into_owned()
}

/// Logs at `error` with the request's context.
#[macro_export]
macro_rules! error { ($r:expr, $($arg:tt)+) => { $crate::log_at!($r, Error, $($arg)+) } }
/// Logs at `crit` with the request's context.
#[macro_export]
macro_rules! crit { ($r:expr, $($arg:tt)+) => { $crate::log_at!($r, Crit, $($arg)+) } }
/// Logs at `alert` with the request's context.
#[macro_export]
macro_rules! alert { ($r:expr, $($arg:tt)+) => { $crate::log_at!($r, Alert, $($arg)+) } }
/// Logs at `warn` with the request's context.
#[macro_export]
macro_rules! warn { ($r:expr, $($arg:tt)+) => { $crate::log_at!($r, Warn, $($arg)+) } }
/// Logs at `notice` with the request's context.
#[macro_export]
macro_rules! notice { ($r:expr, $($arg:tt)+) => { $crate::log_at!($r, Notice, $($arg)+) } }
/// Logs at `info` with the request's context.
#[macro_export]
macro_rules! info { ($r:expr, $($arg:tt)+) => { $crate::log_at!($r, Info, $($arg)+) } }

/// Logs at the named level with the request's context; one branch when nobody listens.
#[macro_export]
macro_rules! log_at {
    ($r:expr, $level:ident, $($arg:tt)+) => {
        if $r.log().enabled($crate::Level::$level) {
            $r.log_at($crate::Level::$level, format_args!($($arg)+));
        }
    };
}
