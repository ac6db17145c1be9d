//! `uwsgi`: requests answered by uwsgi servers.
//! <https://nginx.org/en/docs/http/ngx_http_uwsgi_module.html>

use crate::{
    cgi::{self, Param, Params, Pass, head::PlainAnswer},
    ssl::{self, upstream::encrypted_upstream_directives},
};
use moonrest_http::{
    prelude::*,
    upstream::{self, BodyStep, Conf, HeadStep, Job, Protocol, RequestLength, start},
};
use moonrest_proto::http1::ResponseHead;
use std::ops::Range;

/// The module.
pub struct Uwsgi;
type D = Directive<Uwsgi>;

/// What one block says.
#[derive(Clone, Default)]
pub struct UwsgiLoc {
    upstream: upstream::Loc,
    ssl: ssl::upstream::Loc,
    pass: Option<Arc<Pass>>,
    params: Option<Vec<Param>>,
    text: Option<Template>,
    modifier1: Option<u8>,
    modifier2: Option<u8>,
}

impl Inherit for UwsgiLoc {
    fn inherit(&mut self, outer: &Self) {
        self.upstream.inherit(&outer.upstream);
        self.ssl.inherit(&outer.ssl);
        macro_rules! pass_down {
            ($($field:ident)*) => { $( if self.$field.is_none() { self.$field.clone_from(&outer.$field); } )* };
        }
        pass_down!(pass params text modifier1 modifier2);
    }
}

/// A number that fits a byte.
fn modifier(slot: &mut Option<u8>, args: &Args<'_>) -> ConfResult {
    let number = args.uint(0)?;
    let number =
        u8::try_from(number).map_err(|_| Fault::message("value must be equal to or less than 255"))?;
    set_once(slot, number)
}

impl HttpModule for Uwsgi {
    const NAME: &'static str = "ngx_http_uwsgi_module";
    const DIRECTIVES: &'static [D] = encrypted_upstream_directives!([buffered] "uwsgi", UwsgiLoc, upstream, ssl;
        D::loc("uwsgi_pass", Arity::exactly(1), |c, args| {
            cgi::pass::set(&mut c.pass, args, &[(b"uwsgi://", false), (b"suwsgi://", true)])
        })
        .within(Contexts::LOCATION.or(Contexts::IF)),
        D::loc("uwsgi_param", Arity::between(2, 3), |c, args| cgi::params::add(&mut c.params, args)),
        upstream::directive::template("uwsgi_string", |c: &mut UwsgiLoc| &mut c.text),
        D::loc("uwsgi_modifier1", Arity::exactly(1), |c, args| modifier(&mut c.modifier1, args)),
        D::loc("uwsgi_modifier2", Arity::exactly(1), |c, args| modifier(&mut c.modifier2, args)),
    );
    type Main = ();
    type Loc = UwsgiLoc;

    fn attach((): &(), loc: &Arc<UwsgiLoc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        let Some(pass) = loc.pass.as_ref().filter(|pass| to.belongs(pass.block)) else {
            return loc.upstream.check("uwsgi", cgi::HIDDEN, to);
        };
        let mut conf = loc.upstream.resolve("uwsgi", cgi::HIDDEN, to)?;
        if to.block == pass.block {
            to.auto_redirect();
        }
        if pass.may_be_secure() {
            conf.tls = loc.ssl.compile("uwsgi_ssl", to);
        }
        let settings = Settings {
            params: Params::new(loc.params.as_ref()),
            text: loc.text.clone(),
            modifier1: loc.modifier1.unwrap_or(0),
            modifier2: loc.modifier2.unwrap_or(0),
        };
        to.asks(pass.group(), Speaks::Other);
        to.content(Handler { conf: Arc::new(conf), pass: pass.clone(), settings: Arc::new(settings) });
        Ok(())
    }
}

struct Settings {
    params: Params,
    /// `uwsgi_string`
    text: Option<Template>,
    modifier1: u8,
    modifier2: u8,
}

struct Handler {
    conf: Arc<Conf>,
    pass: Arc<Pass>,
    settings: Arc<Settings>,
}

impl PhaseHandler for Handler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        let (destination, secure) = self.pass.destination(r)?;
        let protocol = Talk {
            secure,
            settings: self.settings.clone(),
            fields: self.conf.pass_request_headers,
            answer: PlainAnswer::default(),
        };
        let job = Job {
            conf: self.conf.clone(),
            destination,
            protocol: Box::new(protocol),
            pass_body: self.conf.pass_request_body,
            stream_body: true,
            secure,
        };
        start(r, job)
    }
}

/// One request to a uwsgi server.
struct Talk {
    secure: bool,
    settings: Arc<Settings>,
    fields: bool,
    answer: PlainAnswer,
}

impl Protocol for Talk {
    fn scheme(&self) -> &'static [u8] {
        if self.secure { b"suwsgi://" } else { b"uwsgi://" }
    }

    fn request(
        &mut self,
        r: &RequestRef,
        _body: RequestLength,
        out: &mut Vec<u8>,
    ) -> Result<Range<usize>, RequestError> {
        out.extend_from_slice(&[self.settings.modifier1, 0, 0, self.settings.modifier2]);
        let mut too_long = false;
        let mut put = |text: &[u8], out: &mut Vec<u8>| match u16::try_from(text.len()) {
            Ok(len) => {
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(text);
            }
            Err(_) => too_long = true,
        };
        self.settings.params.each(r, self.fields, |name, value| {
            put(name, out);
            put(value, out);
        });
        if let Some(text) = &self.settings.text {
            text.append(&**r, out);
        }
        let size = u16::try_from(out.len().saturating_sub(4)).ok().filter(|_| !too_long);
        let Some(size) = size else {
            let size = out.len().saturating_sub(4);
            return Err(RequestError::internal(format!(
                "uwsgi request is too big: {size} bytes, the protocol allows 65535"
            )));
        };
        if let Some(place) = out.get_mut(1..3) {
            place.copy_from_slice(&size.to_le_bytes());
        }
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
