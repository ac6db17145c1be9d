//! `mirror`: copies of requests, whose answers nobody waits for.
//! <https://nginx.org/en/docs/http/ngx_http_mirror_module.html>

use moonrest_http::{body, prelude::*, subrequest};

/// The module.
pub struct Mirror;
type D = Directive<Mirror>;

impl HttpModule for Mirror {
    const NAME: &'static str = "ngx_http_mirror_module";
    const DIRECTIVES: &'static [D] = &[
        D::loc("mirror", Arity::exactly(1), |loc, args| {
            let uri = args.bytes(0)?;
            match (&mut loc.targets, uri) {
                (None, b"off") => loc.targets = Some(Vec::new()),
                (Some(_), b"off") => return Err(Fault::DUPLICATE),
                (Some(targets), _) if targets.is_empty() => return Err(Fault::DUPLICATE),
                (targets, _) => targets.get_or_insert_default().push(uri.into()),
            }
            Ok(())
        }),
        D::flag("mirror_request_body", |loc| &mut loc.request_body),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach(_main: &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if loc.targets.as_ref().is_some_and(|targets| !targets.is_empty()) {
            to.on(Phase::Precontent, Copier(loc.clone()));
        }
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    /// An empty list is `off`.
    targets: Option<Vec<Box<[u8]>>>,
    request_body: Option<bool>,
}
inherit!(Loc { targets, request_body });

struct Copier(Arc<Loc>);

impl PhaseHandler for Copier {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        if r.is_subrequest() {
            return Step::next();
        }
        if self.0.request_body == Some(false) || !r.has_unread_body() || body::read_at_once(r) {
            return self.0.copy(r).map(Step::Now);
        }
        let (r, loc) = (r.clone(), self.0.clone());
        Step::wait(async move {
            body::read(&r).await?;
            loc.copy(&r)
        })
    }
}

impl Loc {
    fn copy(&self, r: &RequestRef) -> Result<Flow, RequestError> {
        for target in self.targets.iter().flatten() {
            let copy = subrequest::detached(r, target)?;
            copy.args.borrow_mut().clone_from(&r.args.borrow());
            copy.method.set(r.method.get());
            copy.header_only.set(true);
            subrequest::start(copy);
        }
        Ok(Flow::Next)
    }
}
