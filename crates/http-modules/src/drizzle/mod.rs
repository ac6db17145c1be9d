//! `drizzle_pass`: queries of MySQL servers as locations; answers are Resty-DBD-Streams, which `rds_json` and `rds_csv`
//! read. <https://github.com/openresty/drizzle-nginx-module>

mod auth;
mod session;

use crate::database::{
    self, Attempt, DbServer, Failure, Groups, Keepalive, Kind, Lease, Queries, To, fail, failed,
};
use moonrest_http::{
    body,
    compile::{BlockId, Compiler},
    module::Set,
    prelude::*,
};
use moonrest_proto::rds;
use session::Timeouts;

/// The module.
pub struct Drizzle;
type D = Directive<Drizzle>;

const PLACES: Contexts = Contexts::HSL.or(Contexts::IF);
const LOCATION: Contexts = Contexts::LOCATION.or(Contexts::IF);
const KIND: Kind = Kind { name: "drizzle", scheme: b"drizzle://", port: 3306 };

/// Nothing is kept unless asked for.
fn keepalive() -> Keepalive {
    Keepalive { max: 0, single: true, reject: false }
}

impl HttpModule for Drizzle {
    const NAME: &'static str = "ngx_http_drizzle_module";
    const DIRECTIVES: &'static [D] = &[
        D::main("drizzle_server", Arity::at_least(1), |groups, args| {
            groups.0.add_server(args, KIND, keepalive(), parameter)
        })
        .within(Contexts::UPSTREAM),
        D::main("drizzle_keepalive", Arity::at_least(1), |groups, args| {
            groups.0.set_keepalive(args, KIND, keepalive())
        })
        .within(Contexts::UPSTREAM),
        D::loc("drizzle_query", Arity::at_least(1), |loc, args| {
            Queries::add(&mut loc.queries, args, KIND.name)
        })
        .within(PLACES),
        D::new("drizzle_dbname", PLACES, Arity::exactly(1), Set::Template(|loc: &mut Loc| &mut loc.dbname)),
        D::loc("drizzle_pass", Arity::exactly(1), |loc, args| {
            set_once(&mut loc.pass, (args.block, args.template(0)?))
        })
        .within(LOCATION),
        D::loc("drizzle_status", Arity::exactly(0), |loc, args| {
            loc.status = Some(args.block);
            Ok(())
        })
        .within(LOCATION),
        D::msec("drizzle_connect_timeout", |loc| &mut loc.connect_timeout).within(PLACES),
        D::msec("drizzle_send_query_timeout", |loc| &mut loc.send_timeout).within(PLACES),
        D::msec("drizzle_recv_cols_timeout", |loc| &mut loc.columns_timeout).within(PLACES),
        D::msec("drizzle_recv_rows_timeout", |loc| &mut loc.rows_timeout).within(PLACES),
        D::flag("drizzle_module_header", |loc| &mut loc.module_header).within(PLACES),
        D::size("drizzle_buffer_size", |loc| &mut loc.buffer_size).within(PLACES),
    ];
    const VARIABLES: &'static [VarDef<Request>] = &[VarDef::slot("drizzle_thread_id")];
    type Main = Main;
    type Loc = Loc;

    fn finish(main: &mut Main, _: &Compiler<'_>) -> ConfResult {
        main.0.finish(KIND)
    }

    fn attach(main: &Main, loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if let Some(block) = loc.status
            && to.belongs(block)
        {
            to.content(Status);
        }
        let Some((block, pass)) = loc.pass.as_ref().filter(|(block, _)| to.belongs(*block)) else {
            return Ok(());
        };
        if to.block == *block {
            to.auto_redirect();
        }
        to.content(Handler(Arc::new(Job {
            to: To::new(pass, &main.0, KIND)?,
            queries: loc.queries.clone().unwrap_or_default(),
            dbname: loc.dbname.clone(),
            times: Timeouts {
                connect: loc.connect_timeout.unwrap_or(60_000),
                send: loc.send_timeout.unwrap_or(60_000),
                columns: loc.columns_timeout.unwrap_or(60_000),
                rows: loc.rows_timeout.unwrap_or(60_000),
            },
            module_header: loc.module_header.unwrap_or(true),
            room: usize::try_from(loc.buffer_size.unwrap_or(4096)).unwrap_or(usize::MAX),
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
    status: Option<BlockId>,
    queries: Option<Queries>,
    dbname: Option<Template>,
    connect_timeout: Option<u64>,
    send_timeout: Option<u64>,
    columns_timeout: Option<u64>,
    rows_timeout: Option<u64>,
    module_header: Option<bool>,
    buffer_size: Option<u64>,
}
inherit!(Loc {
    pass,
    status,
    queries,
    dbname,
    connect_timeout,
    send_timeout,
    columns_timeout,
    rows_timeout,
    module_header,
    buffer_size,
});

/// Parameters that only these servers have.
fn parameter(server: &mut DbServer, key: &str, value: &[u8]) -> ConfResult<bool> {
    match key {
        // Drizzle's own protocol went with Drizzle: MySQL's is spoken in any case.
        "protocol" if matches!(value, b"mysql" | b"drizzle") => {}
        "protocol" => {
            return Err(Fault::message(format!(
                "drizzle: invalid protocol \"{}\" in drizzle_server",
                String::from_utf8_lossy(value)
            )));
        }
        "charset" if value.is_empty() => {}
        "charset" if value.contains(&b'\'') => {
            return Err(Fault::message(format!(
                "bad charset value \"{}\" in drizzle_server",
                String::from_utf8_lossy(value)
            )));
        }
        "charset" => server.greeting = [b"set names '", value, b"'"].concat().into(),
        _ => return Ok(false),
    }
    Ok(true)
}

/// What a location asks, with its settings.
struct Job {
    to: To,
    queries: Queries,
    dbname: Option<Template>,
    times: Timeouts,
    module_header: bool,
    room: usize,
}

struct Handler(Arc<Job>);

impl PhaseHandler for Handler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        let (r, job) = (r.clone(), self.0.clone());
        let Some(query) = job.queries.find(r.method.get()).cloned() else {
            if !job.queries.is_empty() {
                return Step::finish(405);
            }
            let name = String::from_utf8_lossy(&r.loc().name).into_owned();
            moonrest_http::error!(r, "drizzle: missing \"drizzle_query\" in location \"{name}\"");
            return Step::finish(500);
        };
        let group = job.to.group(&r, r.http().main::<Main>().map(|main| &main.0), KIND)?;
        let reading = body::read(&r);
        Step::wait(async move {
            reading.await?;
            let sql = query.eval(&*r).into_owned();
            if sql.is_empty() {
                let name = String::from_utf8_lossy(&r.loc().name).into_owned();
                moonrest_http::error!(r, "drizzle: empty \"drizzle_query\" in location \"{name}\"");
                return Ok(Flow::Finish(500));
            }
            let dbname = job.dbname.as_ref().map(|name| name.eval(&*r).into_owned());
            let mut output =
                Output { buffer: Vec::new(), room: job.room, begun: false, module_header: job.module_header };
            match job.run(&r, &group, &sql, dbname.unwrap_or_default(), &mut output).await {
                Ok(()) => output.finish(&r).await,
                Err((failure, status)) if !output.begun => fail(failure, status),
                Err((failure, status)) => {
                    fail(failure, status)?;
                    Err(RequestError::Cut("".into()))
                }
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
        dbname: Vec<u8>,
        output: &mut Output,
    ) -> Result<(), (Failure, u16)> {
        if let Some(result) = self.attempt(r, group, sql, &dbname, false, output).await {
            return result;
        }
        output.buffer.clear();
        let result = self.attempt(r, group, sql, &dbname, true, output).await;
        result.unwrap_or(Err((Failure::broken(""), 502)))
    }

    /// One attempt; `None` when the connection was dead before it was used. Failures are logged, and have a status.
    async fn attempt(
        &self,
        r: &RequestRef,
        group: &Arc<database::Group>,
        sql: &[u8],
        dbname: &[u8],
        fresh: bool,
        output: &mut Output,
    ) -> Option<Result<(), (Failure, u16)>> {
        r.main().action.set("connecting to drizzle upstream");
        let mut attempt = None;
        let begin = &mut |peer: &_| attempt = Some(Attempt::new(r, KIND, peer));
        let lease = Lease::take(r, group, dbname, fresh, begin, self.times.connect).await;
        let mut lease = match lease {
            Ok(lease) => lease,
            Err(failure) => return Some(Err(failed(r, attempt, failure))),
        };
        let failure = match self.talk(r, group, &mut lease, sql, dbname, output).await {
            Ok(reusable) => {
                attempt.into_iter().for_each(|attempt| attempt.end(200));
                if reusable {
                    lease.keep();
                }
                return Some(Ok(()));
            }
            Err(failure) => failure,
        };
        let heard = lease.link().is_ok_and(|link| link.heard);
        if lease.reused && !heard && !output.begun && matches!(failure, Failure::Broken(..)) {
            return None;
        }
        // nginx: after other errors the connection is closed.
        if matches!(failure, Failure::Status(410)) {
            lease.keep();
        }
        Some(Err(failed(r, attempt, failure)))
    }

    async fn talk(
        &self,
        r: &RequestRef,
        group: &Arc<database::Group>,
        lease: &mut Lease,
        sql: &[u8],
        dbname: &[u8],
        output: &mut Output,
    ) -> Result<bool, Failure> {
        let (reused, peer) = (lease.reused, lease.peer);
        let link = lease.link()?;
        if !reused {
            let number = group.peers.get(peer).map_or(0, |(_, number)| *number);
            let server = group.servers.get(number).ok_or_else(|| Failure::broken("no server"))?;
            let dbname = if dbname.is_empty() { &server.dbname } else { dbname };
            session::login(r, link, server, dbname, self.times.connect).await?;
        }
        let vars = moonrest_core::Subject::vars(&**r);
        if let Some(id) = vars.find("drizzle_thread_id") {
            vars.assign(&**r, id, Some(link.id.to_string().as_bytes()));
        }
        session::query(r, link, sql, self.times, output).await
    }
}

/// The answer on its way to the client.
struct Output {
    buffer: Vec<u8>,
    room: usize,
    /// The head is sent.
    begun: bool,
    module_header: bool,
}

impl Output {
    fn is_full(&self) -> bool {
        self.buffer.len() >= self.room
    }

    /// Sends what is there, if it fills a buffer.
    async fn flush(&mut self, r: &RequestRef) -> Result<(), Failure> {
        if self.is_full() { self.send(r).await.map_err(Failure::Fatal) } else { Ok(()) }
    }

    async fn send(&mut self, r: &RequestRef) -> Result<(), RequestError> {
        if !std::mem::replace(&mut self.begun, true) {
            {
                let mut out = r.out_mut();
                out.status = 200;
                out.set_content_type(Bytes::from_static(rds::MEDIA_TYPE.as_bytes()));
                out.clear_content_length();
                if self.module_header {
                    out.set(Bytes::from_static(b"X-Resty-DBD-Module"), Bytes::from_static(MODULE));
                }
            }
            r.send_head().await?;
        }
        r.send(Piece::Data(std::mem::take(&mut self.buffer).into())).await
    }

    async fn finish(mut self, r: &RequestRef) -> Result<Flow, RequestError> {
        self.send(r).await?;
        r.send(Piece::Last).await?;
        Ok(Flow::Responded)
    }
}

/// What the head says of the module, with the version of the reference.
const MODULE: &[u8] = b"ngx_drizzle 0.1.12";

/// `drizzle_status`: what this worker's connections are doing.
struct Status;

impl PhaseHandler for Status {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        let mut text = String::new();
        if !r.worker.single.get() {
            text.push_str(&format!("worker process: {}\n\n", std::process::id()));
        }
        let groups = r.http().main::<Main>().map(|main| &main.0);
        for (n, group) in groups.into_iter().flat_map(Groups::all).enumerate() {
            if n > 0 {
                text.push('\n');
            }
            describe(group, &mut text);
        }
        r.set_content_type();
        r.out_mut().status = 200;
        r.out_mut().content_length = Some(text.len() as u64);
        r.respond_pieces(vec![Piece::Data(text.into())])
    }
}

fn describe(group: &Arc<database::Group>, text: &mut String) {
    let (pool, keepalive) = (database::pool(group), &group.keepalive);
    text.push_str(&format!(
        "upstream {}\n  active connections: {}\n  connection pool capacity: {}\n",
        String::from_utf8_lossy(&group.name),
        pool.open(),
        keepalive.max
    ));
    if keepalive.max > 0 {
        let used = pool.used();
        let counts: String = used.iter().map(|count| format!(" {count}")).collect();
        let free = keepalive.max.saturating_sub(used.len());
        text.push_str(&format!(
            "  overflow: {}\n  cached connection queue: {}\n  free'd connection queue: {free}\n  cached connection \
             successfully used count:{counts}\n  free'd connection successfully used count:{}\n",
            if keepalive.reject { "reject" } else { "ignore" },
            used.len(),
            " 0".repeat(free.min(1000))
        ));
    }
    text.push_str(&format!("  servers: {}\n  peers: {}\n", group.servers.len(), group.peers.len()));
}
