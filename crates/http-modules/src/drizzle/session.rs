//! A connection to a MySQL server: logging in, asking, and reading what comes.

use super::{Output, auth};
use crate::database::{DbServer, Failure, Link};
use moonrest_http::{RequestRef, prelude::*};
use moonrest_proto::{
    mysql::{self, Answer, Column, Handshake, Invalid, Login, LoginStep, ServerError, command, kind, packet},
    rds,
};

/// The longest packet that is taken: a row must fit.
const MAX_PACKET: usize = 64 << 20;
/// The number of `utf8_general_ci`.
const UTF8: u8 = 33;
/// libdrizzle's numbers for what went wrong, which log lines show.
const AUTH_FAILED: u8 = 15;
const ERROR_CODE: u8 = 17;
/// MySQL's number for a table that is not there.
const NO_SUCH_TABLE: u16 = 1146;

/// Timeouts of one location, in milliseconds.
#[derive(Clone, Copy)]
pub(super) struct Timeouts {
    pub connect: u64,
    pub send: u64,
    pub columns: u64,
    pub rows: u64,
}

fn malformed(Invalid(what): Invalid) -> Failure {
    Failure::broken(format!("drizzle: upstream sent a malformed packet: {what}"))
}

/// The next packet, and its number.
async fn next(r: &RequestRef, link: &mut Link, ms: u64) -> Result<(Vec<u8>, u8), Failure> {
    loop {
        let found = packet(link.input(), MAX_PACKET).map_err(malformed)?;
        if let Some(packet) = found {
            let (len, number) = (packet.len, packet.number);
            let payload = packet.payload.into_owned();
            link.consume(len);
            return Ok((payload, number));
        }
        link.more(r, ms).await?;
    }
}

fn refused(error: &ServerError) -> Failure {
    let message = String::from_utf8_lossy(&error.message);
    Failure::broken(format!("failed to connect: {AUTH_FAILED}: {message}"))
}

/// Logs in over a new connection.
pub(super) async fn login(
    r: &RequestRef,
    link: &mut Link,
    server: &DbServer,
    database: &[u8],
    ms: u64,
) -> Result<(), Failure> {
    let (payload, number) = next(r, link, ms).await?;
    let handshake = Handshake::parse(&payload).map_err(malformed)?.map_err(|error| refused(&error))?;
    link.id = u64::from(handshake.thread_id);
    let Handshake { mut method, mut scramble, .. } = handshake;
    if auth::proof(&method, &server.password, &scramble).is_none() {
        // The server will say what else it takes.
        method = auth::NATIVE.to_vec();
    }
    let proof = auth::proof(&method, &server.password, &scramble).unwrap_or_default();
    let mut out = Vec::new();
    let login = Login { user: &server.user, proof: &proof, database, method: &method, charset: UTF8 };
    login.append(number.wrapping_add(1), &mut out);
    link.send(r, &out, ms).await?;
    // A server that never comes to a decision is given up.
    for _ in 0..8 {
        let (payload, number) = next(r, link, ms).await?;
        let reply = match mysql::parse_login_step(&payload).map_err(malformed)? {
            LoginStep::Done => return greet(r, link, server, ms).await,
            LoginStep::Refused(error) => return Err(refused(&error)),
            LoginStep::Switch { method: wanted, scramble: given } => {
                (method, scramble) = (wanted, given);
                let unknown = || {
                    let method = String::from_utf8_lossy(&method);
                    Failure::broken(format!(
                        "failed to connect: authentication method \"{method}\" not supported"
                    ))
                };
                auth::proof(&method, &server.password, &scramble).ok_or_else(unknown)?
            }
            // The proof was accepted; the decision follows.
            LoginStep::More(data) if data == [3] => continue,
            LoginStep::More(data) if data == [4] && method == auth::CACHING_SHA2 => vec![2],
            LoginStep::More(key) if method == auth::CACHING_SHA2 => {
                let sealed = auth::seal(&server.password, &scramble, &key);
                sealed.ok_or_else(|| Failure::broken("failed to connect: the server's key is malformed"))?
            }
            LoginStep::More(_) => return Err(Failure::broken("failed to connect: unexpected packet")),
        };
        let mut out = Vec::new();
        mysql::append_packet(number.wrapping_add(1), &reply, &mut out);
        link.send(r, &out, ms).await?;
    }
    Err(Failure::broken("failed to connect: no end of authentication"))
}

/// Says what is to be said first (`set names`).
async fn greet(r: &RequestRef, link: &mut Link, server: &DbServer, ms: u64) -> Result<(), Failure> {
    if server.greeting.is_empty() {
        return Ok(());
    }
    let mut out = Vec::new();
    mysql::append_command(command::QUERY, &server.greeting, &mut out);
    link.send(r, &out, ms).await?;
    let (payload, _) = next(r, link, ms).await?;
    match mysql::parse_answer(&payload).map_err(malformed)? {
        Answer::Ok { .. } => Ok(()),
        Answer::Error(error) => {
            Err(Failure::broken(format!("drizzle: FATAL: failed to set names 'utf8' (error {})", error.code)))
        }
        Answer::Columns(_) => Err(Failure::broken("drizzle: unexpected answer to \"set names\"")),
    }
}

/// Asks, and passes the answer on. Whether the connection may serve another request.
pub(super) async fn query(
    r: &RequestRef,
    link: &mut Link,
    sql: &[u8],
    times: Timeouts,
    output: &mut Output,
) -> Result<bool, Failure> {
    r.main().action.set("sending query to drizzle upstream");
    let mut out = Vec::new();
    mysql::append_command(command::QUERY, sql, &mut out);
    link.send(r, &out, times.send).await?;
    let (payload, _) = next(r, link, times.columns).await?;
    match mysql::parse_answer(&payload).map_err(malformed)? {
        Answer::Error(error) => Err(query_failed(r, &error)),
        Answer::Ok { affected_rows, insert_id, more, message } => {
            rds::Head { affected_rows, insert_id, message, ..rds::Head::default() }
                .append(&mut output.buffer);
            Ok(!more)
        }
        Answer::Columns(columns) => {
            rds::Head { columns, ..rds::Head::default() }.append(&mut output.buffer);
            read_columns(r, link, columns, times.columns, output).await?;
            read_rows(r, link, usize::from(columns), times.rows, output).await
        }
    }
}

fn query_failed(r: &Request, error: &ServerError) -> Failure {
    let (level, status) =
        if error.code == NO_SUCH_TABLE { (Level::Notice, 410) } else { (Level::Error, 500) };
    let message = String::from_utf8_lossy(&error.message);
    r.log_at(level, format_args!("failed to send query: {ERROR_CODE} ({}): {message}", error.code));
    Failure::Status(status)
}

async fn read_columns(
    r: &RequestRef,
    link: &mut Link,
    columns: u16,
    ms: u64,
    output: &mut Output,
) -> Result<(), Failure> {
    r.main().action.set("receiving result set columns from drizzle upstream");
    for _ in 0..columns {
        let (payload, _) = next(r, link, ms).await?;
        let Column { name, kind, .. } = mysql::parse_column(&payload).map_err(malformed)?;
        // A column without a name could not be told from a malformed one.
        let name = if name.is_empty() { b"?".to_vec() } else { name };
        rds::Column { kind: standard_kind(kind), driver_kind: u16::from(kind), name }
            .append(&mut output.buffer);
    }
    let (payload, _) = next(r, link, ms).await?;
    match mysql::parse_end(&payload).map_err(malformed)? {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => Err(query_failed(r, &error)),
        None => Err(Failure::broken("failed to recv cols: unexpected packet")),
    }
}

async fn read_rows(
    r: &RequestRef,
    link: &mut Link,
    columns: usize,
    ms: u64,
    output: &mut Output,
) -> Result<bool, Failure> {
    r.main().action.set("reading rows from drizzle upstream");
    loop {
        output.flush(r).await?;
        let (used, over) = take_rows(link.input(), columns, output)?;
        link.consume(used);
        if let Some(more) = over {
            return Ok(!more);
        }
        if used == 0 {
            link.more(r, ms).await?;
        }
    }
}

/// Takes the rows that have come, up to a buffer's worth; gives how many bytes they took, and at the end whether another
/// result follows.
fn take_rows(input: &[u8], columns: usize, output: &mut Output) -> Result<(usize, Option<bool>), Failure> {
    let mut used = 0;
    while used == 0 || !output.is_full() {
        let rest = input.get(used..).unwrap_or_default();
        let Some(packet) = packet(rest, MAX_PACKET).map_err(malformed)? else { break };
        used += packet.len;
        match mysql::parse_end(&packet.payload).map_err(malformed)? {
            Some(Ok(())) => {
                rds::append_end(&mut output.buffer);
                return Ok((used, Some(mysql::has_more_results(&packet.payload))));
            }
            Some(Err(error)) => {
                let message = String::from_utf8_lossy(&error.message);
                return Err(Failure::broken(format!("failed to read row: {ERROR_CODE}: {message}")));
            }
            None => {}
        }
        rds::append_row(&mut output.buffer);
        for value in mysql::parse_row(&packet.payload, columns).map_err(malformed)? {
            rds::append_value(value, &mut output.buffer);
        }
    }
    Ok((used, None))
}

/// The standard's kind for one of MySQL's.
fn standard_kind(kind: u8) -> u16 {
    use rds::kind as standard;
    match kind {
        kind::DECIMAL | kind::NEW_DECIMAL => standard::DECIMAL,
        kind::TINY | kind::SHORT | kind::YEAR => standard::SMALLINT,
        kind::LONG | kind::INT24 => standard::INTEGER,
        kind::LONG_LONG => standard::BIGINT,
        kind::FLOAT => standard::REAL,
        kind::DOUBLE => standard::DOUBLE,
        kind::TIMESTAMP | kind::DATE | kind::DATETIME | kind::NEW_DATE => standard::TIMESTAMP,
        kind::TIME => standard::TIME,
        kind::BIT => standard::BIT,
        kind::VARCHAR | kind::ENUM | kind::SET | kind::VAR_STRING | kind::STRING | kind::GEOMETRY => {
            standard::VARCHAR
        }
        kind::TINY_BLOB | kind::MEDIUM_BLOB | kind::LONG_BLOB | kind::BLOB => standard::BLOB,
        _ => standard::UNKNOWN,
    }
}
