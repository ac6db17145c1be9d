//! `stub_status`: how many connections there are, as text.
//! <https://nginx.org/en/docs/http/ngx_http_stub_status_module.html>

use moonrest_http::{compile::BlockId, prelude::*, worker::Counters};
use moonrest_proto::http1::Method;
use std::{io::Write, sync::atomic::AtomicU64};

/// The module.
pub struct StubStatus;
type D = Directive<StubStatus>;

impl HttpModule for StubStatus {
    const NAME: &'static str = "ngx_http_stub_status_module";
    const DIRECTIVES: &'static [D] = &[D::new(
        "stub_status",
        Contexts::SERVER.or(Contexts::LOCATION),
        // nginx: an argument was needed once, and is ignored.
        Arity::between(0, 1),
        Set::Loc(|loc: &mut Loc, args| {
            loc.block = Some(args.block);
            Ok(())
        }),
    )];
    const VARIABLES: &'static [VarDef<Request>] = &[
        VarDef::get("connections_active", |r, out| show(r, |counters| &counters.active, out)),
        VarDef::get("connections_reading", |r, out| show(r, |counters| &counters.reading, out)),
        VarDef::get("connections_writing", |r, out| show(r, |counters| &counters.writing, out)),
        VarDef::get("connections_waiting", |r, out| show(r, |counters| &counters.waiting, out)),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach(_main: &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if loc.block.is_some_and(|block| to.belongs(block)) {
            to.content(Status);
        }
        Ok(())
    }
}

/// The block that has the directive; locations inside it do not answer so.
#[derive(Clone, Default)]
pub struct Loc {
    block: Option<BlockId>,
}
inherit!(Loc { block });

fn show(r: &Request, counter: fn(&Counters) -> &AtomicU64, out: &mut Vec<u8>) -> bool {
    write!(out, "{}", r.worker.total(counter)).is_ok()
}

struct Status;

impl PhaseHandler for Status {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        if !matches!(r.method.get(), Method::Get | Method::Head) {
            return Step::finish(405);
        }
        r.ignore_body()?;
        let total = |counter: fn(&Counters) -> &AtomicU64| r.worker.total(counter);
        let text = format!(
            "Active connections: {} \nserver accepts handled requests\n {} {} {} \n\
             Reading: {} Writing: {} Waiting: {} \n",
            total(|counters| &counters.active),
            total(|counters| &counters.accepted),
            total(|counters| &counters.handled),
            total(|counters| &counters.requests),
            total(|counters| &counters.reading),
            total(|counters| &counters.writing),
            total(|counters| &counters.waiting),
        );
        r.respond(200, Bytes::from_static(b"text/plain"), text.into())
    }
}
