//! `scgi`: requests answered by SCGI servers.
//! <https://nginx.org/en/docs/http/ngx_http_scgi_module.html>

use crate::cgi::{self, Param, Params, Pass, head::PlainAnswer};
use moonrest_http::{
    prelude::*,
    upstream::{self, BodyStep, Conf, HeadStep, Job, Protocol, RequestLength, start},
    upstream_directives,
};
use moonrest_proto::http1::ResponseHead;
use std::ops::Range;

/// The module.
pub struct Scgi;
type D = Directive<Scgi>;

/// What one block says.
#[derive(Clone, Default)]
pub struct ScgiLoc {
    upstream: upstream::Loc,
    pass: Option<Arc<Pass>>,
    params: Option<Vec<Param>>,
}

impl Inherit for ScgiLoc {
    fn inherit(&mut self, outer: &Self) {
        self.upstream.inherit(&outer.upstream);
        if self.pass.is_none() {
            self.pass.clone_from(&outer.pass);
        }
        if self.params.is_none() {
            self.params.clone_from(&outer.params);
        }
    }
}

impl HttpModule for Scgi {
    const NAME: &'static str = "ngx_http_scgi_module";
    const DIRECTIVES: &'static [D] = upstream_directives!(buffered "scgi", ScgiLoc, upstream;
        D::loc("scgi_pass", Arity::exactly(1), |c, args| cgi::pass::set(&mut c.pass, args, &[(b"scgi://", false)]))
            .within(Contexts::LOCATION.or(Contexts::IF)),
        D::loc("scgi_param", Arity::between(2, 3), |c, args| cgi::params::add(&mut c.params, args)),
    );
    type Main = ();
    type Loc = ScgiLoc;

    fn attach((): &(), loc: &Arc<ScgiLoc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        let Some(pass) = loc.pass.as_ref().filter(|pass| to.belongs(pass.block)) else {
            return loc.upstream.check("scgi", cgi::HIDDEN, to);
        };
        let conf = loc.upstream.resolve("scgi", cgi::HIDDEN, to)?;
        if to.block == pass.block {
            to.auto_redirect();
        }
        let params = Arc::new(Params::new(loc.params.as_ref()));
        to.asks(pass.group(), Speaks::Other);
        to.content(Handler { conf: Arc::new(conf), pass: pass.clone(), params });
        Ok(())
    }
}

struct Handler {
    conf: Arc<Conf>,
    pass: Arc<Pass>,
    params: Arc<Params>,
}

impl PhaseHandler for Handler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        let protocol = Talk {
            params: self.params.clone(),
            fields: self.conf.pass_request_headers,
            answer: PlainAnswer::default(),
        };
        let job = Job {
            conf: self.conf.clone(),
            destination: self.pass.destination(r)?.0,
            protocol: Box::new(protocol),
            pass_body: self.conf.pass_request_body,
            // The length goes first.
            stream_body: !matches!(r.framing.get().body, moonrest_proto::http1::Body::Chunked),
            secure: false,
        };
        start(r, job)
    }
}

/// One request to an SCGI server.
struct Talk {
    params: Arc<Params>,
    fields: bool,
    answer: PlainAnswer,
}

impl Protocol for Talk {
    fn scheme(&self) -> &'static [u8] {
        b"scgi://"
    }

    fn request(
        &mut self,
        r: &RequestRef,
        body: RequestLength,
        out: &mut Vec<u8>,
    ) -> Result<Range<usize>, RequestError> {
        let length = if let RequestLength::Known(length) = body { length } else { 0 };
        let mut text = format!("CONTENT_LENGTH\0{length}\0").into_bytes();
        self.params.each(r, self.fields, |name, value| {
            for part in [name, b"\0", value, b"\0"] {
                text.extend_from_slice(part);
            }
        });
        // SCGI=1 must be there; one of the configuration would be a second.
        if memchr::memmem::find(&text, b"\0SCGI\0").is_none() {
            text.extend_from_slice(b"SCGI\x001\0");
        }
        out.extend_from_slice(format!("{}:", text.len()).as_bytes());
        out.extend_from_slice(&text);
        out.push(b',');
        Ok(0..0)
    }

    fn reset(&mut self) {
        self.answer = PlainAnswer::default();
    }

    fn read_head(&mut self, input: &[u8], head: &mut ResponseHead) -> Result<HeadStep, String> {
        self.answer.read_head(input, head)
    }

    fn read_body(&mut self, input: &[u8]) -> Result<BodyStep, String> {
        Ok(self.answer.read_body(input))
    }

    fn may_end(&self) -> bool {
        self.answer.may_end()
    }
}
