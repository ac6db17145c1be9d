//! `auth_request`: access by what a subrequest answers.
//! <https://nginx.org/en/docs/http/ngx_http_auth_request_module.html>

use moonrest_http::{
    body::{BodyState, RequestBody},
    prelude::*,
    subrequest,
};
use moonrest_proto::http1::{Body, Framing};

/// The module.
pub struct AuthRequest;
type D = Directive<AuthRequest>;

impl HttpModule for AuthRequest {
    const NAME: &'static str = "ngx_http_auth_request_module";
    const DIRECTIVES: &'static [D] = &[
        D::loc("auth_request", Arity::exactly(1), |loc, args| {
            let uri = args.bytes(0)?;
            set_once(&mut loc.uri, if uri == b"off" { Box::default() } else { uri.into() })
        }),
        D::loc("auth_request_set", Arity::exactly(2), |loc, args| {
            let variable = args.vars.define_slot(args.variable_name(0)?)?;
            loc.variables.get_or_insert_default().push((variable, args.template(1)?));
            Ok(())
        }),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach(_main: &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if loc.uri.as_ref().is_some_and(|uri| !uri.is_empty()) {
            to.on(Phase::Access, Guard(loc.clone()));
        }
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    /// Empty is `off`.
    uri: Option<Box<[u8]>>,
    variables: Option<Vec<(VarId, Template)>>,
}
inherit!(Loc { uri, variables });

struct Guard(Arc<Loc>);

impl PhaseHandler for Guard {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        let child = subrequest::background(r, self.0.uri.as_deref().unwrap_or_default())?;
        // What asks for permission has no body: the one of the request is still to be read.
        child.framing.set(Framing { body: Body::None, ..child.framing.get() });
        *child.body.borrow_mut() = RequestBody { state: BodyState::Complete, ..RequestBody::default() };
        child.header_only.set(true);
        let (r, loc) = (r.clone(), self.0.clone());
        Step::wait(async move {
            let ran = subrequest::run(child.clone()).await;
            if let Err(error @ (RequestError::Client { status: 499, .. } | RequestError::Gone { .. })) = ran {
                return Err(error);
            }
            for (variable, value) in loc.variables.iter().flatten() {
                let value = value.eval(&*child).into_owned();
                r.vars().assign(&*r, *variable, Some(&value));
            }
            Ok(decide(&r, &child))
        })
    }
}

fn decide(r: &Request, child: &Request) -> Flow {
    let status = child.out().status;
    match status {
        200..300 => Flow::PhaseDone,
        403 => Flow::Finish(403),
        401 => {
            let challenges = child.out().fields.clone();
            let mut out = r.out_mut();
            for field in challenges {
                if field.name.eq_ignore_ascii_case(b"WWW-Authenticate") {
                    out.fields.push(field);
                }
            }
            Flow::Finish(401)
        }
        _ => {
            moonrest_http::error!(r, "auth request unexpected status: {status}");
            Flow::Finish(500)
        }
    }
}
