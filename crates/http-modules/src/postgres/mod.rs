//! `postgres_pass`: queries of PostgreSQL servers as locations.
//! <https://github.com/FRiCKLE/ngx_postgres>

mod auth;
mod output;
mod session;

use crate::{
    database::{self, Attempt, DbServer, Failure, Groups, Keepalive, Kind, Lease, Queries, To, fail, failed},
    ndk,
};
use moonrest_http::{
    body,
    compile::{BlockId, Compiler},
    module::Set,
    prelude::*,
};
use moonrest_proto::rds;
use output::{Format, Rewrites, Setting};
use session::Answer;
use std::cell::{Cell, RefCell};

/// The module.
pub struct Postgres;
type D = Directive<Postgres>;

const PLACES: Contexts = Contexts::HSL.or(Contexts::IF);
const KIND: Kind = Kind { name: "postgres", scheme: b"postgres://", port: 5432 };

/// Unless told otherwise ten connections are kept.
fn keepalive() -> Keepalive {
    Keepalive { max: 10, single: true, reject: false }
}

impl HttpModule for Postgres {
    const NAME: &'static str = "ngx_postgres_module";
    const DIRECTIVES: &'static [D] = &[
        D::main("postgres_server", Arity::at_least(1), |main, args| {
            main.0.add_server(args, KIND, keepalive(), |_: &mut DbServer, _, _| Ok(false))
        })
        .within(Contexts::UPSTREAM),
        D::main("postgres_keepalive", Arity::at_least(1), |main, args| {
            main.0.set_keepalive(args, KIND, keepalive())
        })
        .within(Contexts::UPSTREAM),
        D::loc("postgres_pass", Arity::exactly(1), |loc, args| {
            set_once(&mut loc.pass, (args.block, args.template(0)?))
        })
        .within(Contexts::LOCATION.or(Contexts::IF)),
        D::loc("postgres_query", Arity::at_least(1), |loc, args| {
            Queries::add(&mut loc.queries, args, KIND.name)
        })
        .within(PLACES),
        D::loc("postgres_rewrite", Arity::at_least(2), |loc, args| {
            loc.rewrites.get_or_insert_default().add(args)
        })
        .within(PLACES),
        D::loc("postgres_output", Arity::exactly(1), |loc, args| {
            let format = Format::named(args.bytes(0)?).ok_or_else(|| {
                Fault::message(format!(
                    "postgres: invalid output format \"{}\" in \"postgres_output\" directive",
                    args.lossy(0)
                ))
            })?;
            set_once(&mut loc.output, format)
        })
        .within(PLACES),
        D::loc("postgres_set", Arity::between(3, 4), |loc, args| {
            loc.settings.get_or_insert_default().push(Setting::parse(args)?);
            Ok(())
        }),
        D::new("postgres_escape", Contexts::HSL, Arity::between(1, 2), Set::Accepted(escape)),
        D::msec("postgres_connect_timeout", |loc| &mut loc.connect_timeout),
        D::msec("postgres_result_timeout", |loc| &mut loc.result_timeout),
    ];
    const VARIABLES: &'static [VarDef<Request>] = &[
        VarDef::get("postgres_columns", |r, out| number(r, |state| state.columns.get(), out)),
        VarDef::get("postgres_rows", |r, out| number(r, |state| state.rows.get(), out)),
        VarDef::get("postgres_affected", |r, out| number(r, |state| state.affected.get(), out)),
        VarDef::get("postgres_query", |r, out| {
            r.find_ctx::<State>().is_some_and(|state| {
                out.extend_from_slice(&state.query.borrow());
                !state.query.borrow().is_empty()
            })
        }),
    ];
    type Main = Main;
    type Loc = Loc;

    fn finish(main: &mut Main, _: &Compiler<'_>) -> ConfResult {
        main.0.finish(KIND)
    }

    fn attach(main: &Main, loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        let Some((block, pass)) = loc.pass.as_ref().filter(|(block, _)| to.belongs(*block)) else {
            return Ok(());
        };
        if to.block == *block {
            to.auto_redirect();
        }
        to.content(Handler(Arc::new(Job {
            to: To::new(pass, &main.0, KIND)?,
            queries: loc.queries.clone().unwrap_or_default(),
            rewrites: loc.rewrites.clone().unwrap_or_default(),
            settings: loc.settings.clone().unwrap_or_default(),
            format: loc.output.unwrap_or(Format::Rds),
            connect_timeout: loc.connect_timeout.unwrap_or(10_000),
            result_timeout: loc.result_timeout.unwrap_or(30_000),
        })));
        Ok(())
    }
}

/// The servers of all `upstream` blocks.
#[derive(Default)]
pub struct Main(Groups);

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    pass: Option<(BlockId, Template)>,
    queries: Option<Queries>,
    rewrites: Option<Rewrites>,
    settings: Option<Vec<Setting>>,
    output: Option<Format>,
    connect_timeout: Option<u64>,
    result_timeout: Option<u64>,
}
inherit!(Loc { pass, queries, rewrites, settings, output, connect_timeout, result_timeout });

/// What came of a request's query. Kept in its context.
#[derive(Default)]
struct State {
    columns: Cell<Option<u64>>,
    rows: Cell<Option<u64>>,
    affected: Cell<Option<u64>>,
    query: RefCell<Vec<u8>>,
}

fn number(r: &Request, get: fn(&State) -> Option<u64>, out: &mut Vec<u8>) -> bool {
    let number = r.find_ctx::<State>().and_then(|state| get(&state));
    number.is_some_and(|number| {
        out.extend_from_slice(number.to_string().as_bytes());
        true
    })
}

/// `postgres_escape $escaped [[=]$unescaped]`: a literal of SQL; what is empty becomes `NULL`, or with `=` an empty text.
fn escape(args: &Args<'_>) -> ConfResult {
    let fault = |text: String| Fault::message(format!("postgres: {text} in \"postgres_escape\" directive"));
    let last = args.str(args.len() - 1)?;
    let (keeps_empty, source) = match last.strip_prefix('=') {
        Some(source) => (true, source),
        None => (false, last),
    };
    if source.is_empty() {
        return Err(fault("empty value".to_owned()));
    }
    let target = if args.len() == 1 { source } else { args.str(0)? };
    let name = match target.strip_prefix('$') {
        Some("") => return Err(fault("empty variable name".to_owned())),
        Some(name) => name,
        None => return Err(fault(format!("invalid variable name \"{target}\""))),
    };
    let source = Template::parse(source.as_bytes(), |name| args.vars.reference(name, Some(args.span())))?;
    let quote: ndk::Function = Box::new(move |_, values, out| {
        match values.first().map_or(&[][..], |value| value) {
            [] if !keeps_empty => out.extend_from_slice(b"NULL"),
            value => append_literal(value, out),
        }
        true
    });
    ndk::assign(args, name, vec![source], quote)
}

/// As libpq does it without knowing the server: backslashes are doubled too.
fn append_literal(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'\'');
    for &byte in value.iter().take_while(|byte| **byte != 0) {
        if matches!(byte, b'\'' | b'\\') {
            out.push(byte);
        }
        out.push(byte);
    }
    out.push(b'\'');
}

/// What a location asks, with its settings.
struct Job {
    to: To,
    queries: Queries,
    rewrites: Rewrites,
    settings: Vec<Setting>,
    format: Format,
    connect_timeout: u64,
    result_timeout: u64,
}

struct Handler(Arc<Job>);

impl PhaseHandler for Handler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        let (r, job) = (r.clone(), self.0.clone());
        let location = String::from_utf8_lossy(&r.loc().name).into_owned();
        let Some(query) = job.queries.find(r.method.get()).cloned() else {
            if !job.queries.is_empty() {
                return Step::finish(405);
            }
            moonrest_http::error!(r, "postgres: missing \"postgres_query\" in location \"{location}\"");
            return Step::finish(500);
        };
        let group = job.to.group(&r, r.http().main::<Main>().map(|main| &main.0), KIND)?;
        let reading = body::read(&r);
        Step::wait(async move {
            reading.await?;
            let sql = query.eval(&*r).into_owned();
            if sql.is_empty() {
                moonrest_http::error!(r, "postgres: empty \"postgres_query\" in location \"{location}\"");
                return Ok(Flow::Finish(500));
            }
            r.ctx::<State>().query.borrow_mut().clone_from(&sql);
            match job.run(&r, &group, &sql).await {
                Ok(answer) => job.respond(&r, &answer).await,
                Err((failure, status)) => fail(failure, status),
            }
        })
    }
}

impl Job {
    /// Asks over a kept connection, and over a new one if that turns out to be dead.
    async fn run(
        &self,
        r: &RequestRef,
        group: &Arc<database::Group>,
        sql: &[u8],
    ) -> Result<Answer, (Failure, u16)> {
        if let Some(result) = self.attempt(r, group, sql, false).await {
            return result;
        }
        let result = self.attempt(r, group, sql, true).await;
        result.unwrap_or(Err((Failure::broken(""), 502)))
    }

    /// One attempt; `None` when the connection was dead before it was used. Failures are logged, and have a status.
    async fn attempt(
        &self,
        r: &RequestRef,
        group: &Arc<database::Group>,
        sql: &[u8],
        fresh: bool,
    ) -> Option<Result<Answer, (Failure, u16)>> {
        r.main().action.set("connecting to PostgreSQL database");
        let mut attempt = None;
        let begin = &mut |peer: &_| attempt = Some(Attempt::new(r, KIND, peer));
        let lease = Lease::take(r, group, b"", fresh, begin, self.connect_timeout).await;
        let mut lease = match lease {
            Ok(lease) => lease,
            Err(failure) => return Some(Err(failed(r, attempt, failure))),
        };
        let failure = match self.talk(r, group, &mut lease, sql).await {
            Ok(answer) => {
                attempt.into_iter().for_each(|attempt| attempt.end(200));
                lease.keep();
                return Some(Ok(answer));
            }
            Err(failure) => failure,
        };
        let heard = lease.link().is_ok_and(|link| link.heard);
        if lease.reused && !heard && matches!(failure, Failure::Broken(..)) {
            return None;
        }
        Some(Err(failed(r, attempt, failure)))
    }

    async fn talk(
        &self,
        r: &RequestRef,
        group: &Arc<database::Group>,
        lease: &mut Lease,
        sql: &[u8],
    ) -> Result<Answer, Failure> {
        let (reused, peer) = (lease.reused, lease.peer);
        let link = lease.link()?;
        if !reused {
            let number = group.peers.get(peer).map_or(0, |(_, number)| *number);
            let server = group.servers.get(number).ok_or_else(|| Failure::broken("no server"))?;
            session::login(r, link, server, self.connect_timeout).await?;
        }
        let binary = self.format == Format::BinaryValue;
        session::query(r, link, sql, binary, self.result_timeout).await
    }

    /// Answers the client.
    async fn respond(&self, r: &RequestRef, answer: &Answer) -> Result<Flow, RequestError> {
        let state = r.ctx::<State>();
        state.columns.set(Some(answer.columns.len() as u64));
        state.rows.set(Some(answer.len() as u64));
        state.affected.set(answer.affected);
        let status = self.rewrites.apply(r.method.get().bit(), answer);
        if let Some(status) = status.filter(|status| status.code >= 300 && !status.keep_body) {
            return Ok(Flow::Finish(status.code));
        }
        for setting in &self.settings {
            if !setting.apply(r, answer) {
                return Ok(Flow::Finish(500));
            }
        }
        let Ok(body) = output::body(r, self.format, answer) else { return Ok(Flow::Finish(500)) };
        {
            let mut out = r.out_mut();
            out.status = status.map_or(200, |status| status.code);
            out.clear_content_length();
            match self.format {
                Format::Rds => out.set_content_type(Bytes::from_static(rds::MEDIA_TYPE.as_bytes())),
                Format::None => {}
                _ => out.set_content_type(r.loc().core.default_type.clone()),
            }
        }
        let pieces = if body.is_empty() { Vec::new() } else { vec![Piece::Data(body.into())] };
        match r.respond_pieces(pieces)? {
            Step::Now(flow) => Ok(flow),
            Step::Wait(wait) => wait.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_quoted() {
        for (value, expect) in [("", "''"), ("a", "'a'"), ("o'b\\", "'o''b\\\\'"), ("a\0b", "'a'")] {
            let mut out = Vec::new();
            append_literal(value.as_bytes(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expect);
        }
    }
}
