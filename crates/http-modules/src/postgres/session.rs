//! A connection to a PostgreSQL server: logging in, asking, and reading the result.

use super::auth::{self, Scram};
use crate::database::{DbServer, Failure, Link};
use moonrest_http::RequestRef;
use moonrest_proto::postgres::{self, Authentication, Column, Invalid, ServerError, kind};

/// The longest message that is taken: a row must fit.
const MAX_MESSAGE: usize = 256 << 20;

/// What a query came to.
#[derive(Default)]
pub(super) struct Answer {
    /// There are rows, even if none came.
    pub has_rows: bool,
    pub columns: Vec<Column>,
    /// Messages, each known to be a row of these columns.
    pub(super) rows: Vec<Vec<u8>>,
    pub affected: Option<u64>,
}

impl Answer {
    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The values of all rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = Vec<Option<&[u8]>>> {
        let columns = self.columns.len();
        self.rows.iter().map(move |row| postgres::parse_row(row, columns).unwrap_or_default())
    }

    /// One value; `None` out of range, or null.
    pub(super) fn value(&self, row: usize, column: usize) -> Option<&[u8]> {
        let row = postgres::parse_row(self.rows.get(row)?, self.columns.len()).ok()?;
        row.get(column).copied().flatten()
    }
}

fn malformed(Invalid(what): Invalid) -> Failure {
    Failure::broken(format!("postgres: upstream sent a malformed message: {what}"))
}

/// As libpq shows it.
fn shown(error: &ServerError) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}:  {}", text(&error.severity), text(&error.message))
}

/// The next message that is not just a note.
async fn next(r: &RequestRef, link: &mut Link, ms: u64) -> Result<(u8, Vec<u8>), Failure> {
    loop {
        let found = postgres::message(link.input(), MAX_MESSAGE).map_err(malformed)?;
        let Some(message) = found else {
            link.more(r, ms).await?;
            continue;
        };
        let (letter, body, len) = (message.kind, message.body.to_vec(), message.len);
        link.consume(len);
        match letter {
            kind::NOTICE | kind::NOTIFICATION | kind::PARAMETER_STATUS => {}
            letter => return Ok((letter, body)),
        }
    }
}

fn refused(why: &str) -> Failure {
    Failure::broken(format!("postgres: connection failed: {why}"))
}

/// Logs in over a new connection.
pub(super) async fn login(
    r: &RequestRef,
    link: &mut Link,
    server: &DbServer,
    ms: u64,
) -> Result<(), Failure> {
    let database = if server.dbname.is_empty() { &server.user } else { &server.dbname };
    let mut out = Vec::new();
    postgres::append_startup(&[("user", &server.user), ("database", database)], &mut out);
    link.send(r, &out, ms).await?;
    let mut scram = None;
    let mut proven = true;
    // A server that never comes to a decision is given up.
    for _ in 0..32 {
        let (letter, body) = next(r, link, ms).await?;
        match letter {
            kind::AUTHENTICATION => {}
            kind::ERROR => return Err(refused(&shown(&postgres::parse_error(&body)))),
            kind::KEY_DATA => continue,
            kind::READY => return Ok(()),
            _ => return Err(refused("unexpected message")),
        }
        let mut out = Vec::new();
        match postgres::parse_authentication(&body).map_err(malformed)? {
            Authentication::Done if proven => continue,
            Authentication::Done => {
                return Err(refused("the server did not prove that it knows the password"));
            }
            Authentication::Cleartext => postgres::append_password(&server.password, &mut out),
            Authentication::Md5 { salt } => {
                postgres::append_password(&auth::md5(&server.user, &server.password, salt), &mut out);
            }
            Authentication::Sasl(methods) if methods.contains(&Scram::METHOD.as_bytes()) => {
                let mut random = [0; 18];
                moonrest_sys::random::fill(&mut random).map_err(|_| refused("no random bytes"))?;
                let begun = scram.insert(Scram::new(random));
                proven = false;
                postgres::append_sasl_start(Scram::METHOD, &begun.first(), &mut out);
            }
            Authentication::SaslMore(data) => {
                let second = scram.as_mut().and_then(|scram| scram.second(&server.password, data));
                let second = second.ok_or_else(|| refused("malformed SCRAM message"))?;
                postgres::append_sasl(&second, &mut out);
            }
            Authentication::SaslDone(data) => {
                proven = scram.as_ref().is_some_and(|scram| scram.check(data));
                continue;
            }
            Authentication::Sasl(_) => {
                return Err(refused("none of the server's SASL mechanisms are supported"));
            }
            Authentication::Other(code) => {
                return Err(refused(&format!("authentication method {code} not supported")));
            }
        }
        link.send(r, &out, ms).await?;
    }
    Err(refused("no end of authentication"))
}

/// Asks, and reads the whole answer.
pub(super) async fn query(
    r: &RequestRef,
    link: &mut Link,
    sql: &[u8],
    binary: bool,
    ms: u64,
) -> Result<Answer, Failure> {
    r.main().action.set("sending query to PostgreSQL database");
    let mut out = Vec::new();
    if binary {
        postgres::append_query(sql, true, &mut out);
    } else {
        postgres::append_simple_query(sql, &mut out);
    }
    link.send(r, &out, ms).await?;
    r.main().action.set("waiting for result from PostgreSQL database");
    let mut answer = Answer::default();
    // How many results have ended, and what is wrong with the first.
    let (mut results, mut failed) = (0, None);
    loop {
        let (letter, body) = next(r, link, ms).await?;
        let first = results == 0 && failed.is_none();
        match letter {
            kind::READY => break,
            kind::PARSE_COMPLETE | kind::BIND_COMPLETE | kind::NO_DATA => {}
            kind::ROW_DESCRIPTION if first => {
                answer.columns = postgres::parse_columns(&body).map_err(malformed)?;
                answer.has_rows = true;
            }
            kind::DATA_ROW if first => {
                postgres::parse_row(&body, answer.columns.len()).map_err(malformed)?;
                answer.rows.push(body);
            }
            kind::COMMAND_COMPLETE => {
                if first {
                    answer.affected = postgres::affected_rows(&body);
                }
                results += 1;
            }
            kind::EMPTY_QUERY => failed = failed.or_else(|| Some("PGRES_EMPTY_QUERY: ".to_owned())),
            kind::ERROR => {
                let error = postgres::parse_error(&body);
                failed = failed.or_else(|| Some(format!("PGRES_FATAL_ERROR: {}", shown(&error))));
                if error.severity == b"FATAL" {
                    break;
                }
            }
            // The server wants or sends a stream: the connection is of no use any more.
            kind::COPY_IN | kind::COPY_OUT | kind::COPY_BOTH => {
                failed = failed.or_else(|| Some("PGRES_COPY: ".to_owned()));
                break;
            }
            // Rows of a second result.
            kind::ROW_DESCRIPTION | kind::DATA_ROW => {}
            _ => return Err(Failure::broken("postgres: failed to receive result: unexpected message")),
        }
    }
    if let Some(failed) = failed {
        moonrest_http::error!(r, "postgres: failed to receive result: {failed}");
        return Err(Failure::Status(500));
    }
    if results > 1 {
        moonrest_http::error!(r, "postgres: receiving ACK failed: multiple queries(?)");
        return Err(Failure::Status(500));
    }
    Ok(answer)
}
