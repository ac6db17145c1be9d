//! `grpc`: requests passed to gRPC servers, over HTTP/2 and streamed both ways.
//! <https://nginx.org/en/docs/http/ngx_http_grpc_module.html>

use crate::{
    proxy::{BodyFields, Headers, Value, append_checked},
    ssl::{self, upstream::encrypted_upstream_directives},
};
use moonrest_core::upstream::Url;
use moonrest_http::{
    compile::BlockId,
    prelude::*,
    upstream::{self, Conf, Destination, GroupId, Job, Main, Protocol, RequestLength, start},
};
use moonrest_proto::{
    escape,
    http1::{Known, Method},
};
use std::{borrow::Cow, ops::Range};

/// The module.
pub struct Grpc;
type D = Directive<Grpc>;

/// Fields of answers that are not passed on.
const HIDDEN: &[&str] = &[
    "Date",
    "Server",
    "X-Accel-Expires",
    "X-Accel-Redirect",
    "X-Accel-Limit-Rate",
    "X-Accel-Buffering",
    "X-Accel-Charset",
];

/// The fields of requests where the configuration says nothing else.
const FIELDS: &[(&str, Option<Value>)] = &[
    ("Content-Length", Some(Value::Given(content_length))),
    ("TE", Some(Value::Given(trailers))),
    ("Host", None),
    ("Connection", None),
    ("Proxy-Connection", None),
    ("Transfer-Encoding", None),
    ("Keep-Alive", None),
    ("Expect", None),
    ("Upgrade", None),
];

/// What one block says.
#[derive(Clone, Default)]
pub struct GrpcLoc {
    upstream: upstream::Loc,
    ssl: ssl::upstream::Loc,
    /// Not inherited by locations inside.
    pass: Option<Arc<Pass>>,
    headers: Option<Vec<(Box<[u8]>, Template)>>,
}

impl Inherit for GrpcLoc {
    fn inherit(&mut self, outer: &Self) {
        self.upstream.inherit(&outer.upstream);
        self.ssl.inherit(&outer.ssl);
        if self.pass.is_none() {
            self.pass.clone_from(&outer.pass);
        }
        if self.headers.is_none() {
            self.headers.clone_from(&outer.headers);
        }
    }
}

impl HttpModule for Grpc {
    const NAME: &'static str = "ngx_http_grpc_module";
    const DIRECTIVES: &'static [D] = encrypted_upstream_directives!([streamed] "grpc", GrpcLoc, upstream, ssl;
        D::loc("grpc_pass", Arity::exactly(1), set_pass).within(Contexts::LOCATION.or(Contexts::IF)),
        D::loc("grpc_set_header", Arity::exactly(2), |c, args| {
            let header = (args.bytes(0)?.into(), args.template(1)?);
            c.headers.get_or_insert_default().push(header);
            Ok(())
        }),
    );
    type Main = ();
    type Loc = GrpcLoc;

    fn attach((): &(), loc: &Arc<GrpcLoc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if loc.pass.is_none() && to.is_known(&loc.upstream) {
            return Ok(());
        }
        let mut upstream = loc.upstream.clone();
        // Nothing is kept: there are no other buffers, and no files.
        upstream.buffers = upstream.buffer_size.map(|size| (8, size));
        upstream.temp_path = Some(to.temp_dir(None, "proxy_temp"));
        let mut conf = upstream.resolve("grpc", HIDDEN, to)?;
        let Some(pass) = loc.pass.as_ref().filter(|pass| to.belongs(pass.block)) else { return Ok(()) };
        if to.block == pass.block {
            to.auto_redirect();
        }
        to.asks(pass.group(), Speaks::Grpc);
        conf.buffering = false;
        conf.request_buffering = false;
        conf.pass_trailers = true;
        if pass.may_be_secure() {
            conf.tls = loc.ssl.compile("grpc_ssl", to);
        }
        let headers = Headers::new(loc.headers.as_deref().unwrap_or_default(), FIELDS, false);
        to.content(Handler { conf: Arc::new(conf), pass: pass.clone(), headers: Arc::new(headers) });
        Ok(())
    }
}

/// One `grpc_pass`.
struct Pass {
    /// Where it stands.
    block: BlockId,
    to: To,
}

enum To {
    Fixed(GroupId, Target),
    Template(Template),
}

/// Whom a request is for.
#[derive(Clone)]
struct Target {
    /// `:authority` unless the configuration says otherwise.
    host: Bytes,
    secure: bool,
}

impl Target {
    fn new(url: &Url<'_>, secure: bool) -> Self {
        let host = if url.is_unix() {
            Bytes::from_static(b"localhost")
        } else if url.no_port {
            Bytes::copy_from_slice(url.host)
        } else {
            url.authority().into()
        };
        Self { host, secure }
    }
}

/// What stands behind the scheme, and whether that asks for TLS.
fn strip_scheme(text: &[u8]) -> (&[u8], bool) {
    let behind = |scheme: &[u8]| {
        let (start, rest) = text.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    match (behind(b"grpc://"), behind(b"grpcs://")) {
        (Some(rest), _) => (rest, false),
        (None, Some(rest)) => (rest, true),
        (None, None) => (text, false),
    }
}

fn set_pass(loc: &mut GrpcLoc, args: &Args<'_>) -> ConfResult {
    if loc.pass.is_some() {
        return Err(Fault::DUPLICATE);
    }
    let template = args.template(0)?;
    let to = match template.as_static() {
        None => To::Template(template),
        Some(text) => {
            let (text, secure) = strip_scheme(text);
            let url = Url::parse(text, 0, false).map_err(|error| {
                Fault::message(format!("{error} in upstream \"{}\"", String::from_utf8_lossy(text)))
            })?;
            let group = args.compiler.with_main(|main: &mut Main| main.reference(&url, args.span()));
            let group = group.unwrap_or_else(|| Err(Fault::message("no upstream module")))?;
            To::Fixed(group, Target::new(&url, secure))
        }
    };
    loc.pass = Some(Arc::new(Pass { block: args.block, to }));
    Ok(())
}

impl Pass {
    /// The upstream, where it is always the same.
    fn group(&self) -> Option<GroupId> {
        match self.to {
            To::Fixed(group, _) => Some(group),
            To::Template(_) => None,
        }
    }

    fn may_be_secure(&self) -> bool {
        match &self.to {
            To::Fixed(_, target) => target.secure,
            To::Template(_) => true,
        }
    }

    /// Where this request goes.
    fn target(&self, r: &Request) -> Result<(Destination, Target), RequestError> {
        let template = match &self.to {
            To::Fixed(group, target) => return Ok((Destination::Group(*group), target.clone())),
            To::Template(template) => template,
        };
        let text = template.eval(r);
        let (text, secure) = strip_scheme(&text);
        let url = Url::parse(text, 0, false).map_err(|error| {
            RequestError::internal(format!("{error} in upstream \"{}\"", String::from_utf8_lossy(text)))
        })?;
        let destination = Destination::Dynamic {
            host: url.host.to_vec(),
            port: url.port,
            no_port: url.no_port,
            addr: url.addr.clone(),
        };
        Ok((destination, Target::new(&url, secure)))
    }
}

struct Handler {
    conf: Arc<Conf>,
    pass: Arc<Pass>,
    headers: Arc<Headers>,
}

impl PhaseHandler for Handler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        let (destination, target) = self.pass.target(r)?;
        let secure = target.secure;
        let job = Job {
            conf: self.conf.clone(),
            destination,
            protocol: Box::new(Call { headers: self.headers.clone(), target }),
            pass_body: true,
            stream_body: true,
            secure,
        };
        start(r, job)
    }
}

/// One request to a gRPC server.
struct Call {
    headers: Arc<Headers>,
    target: Target,
}

impl Protocol for Call {
    fn scheme(&self) -> &'static [u8] {
        if self.target.secure { b"grpcs://" } else { b"grpc://" }
    }

    fn is_http2(&self) -> bool {
        true
    }

    fn asks_head(&self, r: &Request) -> bool {
        r.method.get() == Method::Head
    }

    fn length_of_nothing(&self) -> Option<u64> {
        Some(0)
    }

    fn request(
        &mut self,
        r: &RequestRef,
        length: RequestLength,
        out: &mut Vec<u8>,
    ) -> Result<Range<usize>, RequestError> {
        {
            let head = r.head.borrow();
            match r.method.get() == head.method && !r.is_subrequest() {
                true => out.extend_from_slice(head.method_name.of(&r.block.borrow())),
                false => out.extend_from_slice(r.method.get().name().as_bytes()),
            }
        }
        out.push(b' ');
        out.extend_from_slice(&target(r));
        out.extend_from_slice(b" HTTP/2.0\r\nHost: ");
        let start = out.len();
        if let Some(host) = &self.headers.host {
            append_checked(host, r, out);
        }
        if out.len() == start {
            out.extend_from_slice(&self.target.host);
        }
        out.extend_from_slice(b"\r\n");
        let body = match length {
            RequestLength::Known(length) => BodyFields { length: Some(length), chunked: false },
            RequestLength::None | RequestLength::Unknown => BodyFields { length: None, chunked: false },
        };
        self.headers.append(r, &body, out);
        self.headers.append_clients(r, out);
        out.extend_from_slice(b"\r\n");
        Ok(0..0)
    }
}

/// Path and arguments.
fn target(r: &Request) -> Cow<'static, [u8]> {
    if r.valid_unparsed_uri.get() {
        return r.head.borrow().target.of(&r.block.borrow()).to_vec().into();
    }
    let mut target = Vec::new();
    escape::escape(escape::Kind::Uri, &r.uri(), &mut target);
    let args = r.args.borrow();
    if !args.is_empty() {
        target.push(b'?');
        target.extend_from_slice(&args);
    }
    target.into()
}

/// `$content_length`: what the client said.
fn content_length(r: &Request, out: &mut Vec<u8>) {
    let head = r.head.borrow();
    if let Some(length) = head.fields.value(Known::ContentLength, &r.block.borrow()) {
        out.extend_from_slice(length);
    }
}

/// What a client says that understands trailers.
fn trailers(r: &Request, out: &mut Vec<u8>) {
    let (head, block) = (r.head.borrow(), r.block.borrow());
    let said = head.fields.value(Known::Te, &block).unwrap_or_default();
    if said.windows(8).any(|part| part.eq_ignore_ascii_case(b"trailers")) {
        out.extend_from_slice(b"trailers");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_optional() {
        let check = |text: &str, rest: &str, secure: bool| {
            assert_eq!(strip_scheme(text.as_bytes()), (rest.as_bytes(), secure), "{text}");
        };
        check("grpc://a:1", "a:1", false);
        check("GRPCS://a:1", "a:1", true);
        check("a:1", "a:1", false);
        check("grp", "grp", false);
    }
}
