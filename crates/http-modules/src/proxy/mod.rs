//! `proxy`: requests passed to other HTTP servers.
//! <https://nginx.org/en/docs/http/ngx_http_proxy_module.html>

mod answer;
mod cookie;
mod headers;
mod http2;
mod pass;
mod redirect;
mod request;
mod rewrite;
mod variables;

use crate::ssl::{self, upstream::encrypted_upstream_directives};
use answer::Http1;
use cookie::CookieFlags;
pub(crate) use headers::{BodyFields, Headers, Value, append_checked};
use http2::Http2;
use moonrest_http::{
    prelude::*,
    upstream::{self, Conf, Job, Protocol, directive, start},
};
use pass::Pass;
use redirect::Redirects;
use rewrite::Rewrite;

/// The module.
pub struct Proxy;
type D = Directive<Proxy>;

/// Fields of answers that are not passed on.
const HIDDEN: &[&str] = &[
    "Date",
    "Server",
    "X-Pad",
    "X-Accel-Expires",
    "X-Accel-Redirect",
    "X-Accel-Limit-Rate",
    "X-Accel-Buffering",
    "X-Accel-Charset",
];

/// What one block says.
#[derive(Clone, Default)]
pub struct ProxyLoc {
    upstream: upstream::Loc,
    ssl: ssl::upstream::Loc,
    /// Not inherited by locations inside.
    pass: Option<Arc<Pass>>,
    redirects: Option<Redirects>,
    cookie_domains: Option<Vec<Rewrite>>,
    cookie_paths: Option<Vec<Rewrite>>,
    cookie_flags: Option<Vec<CookieFlags>>,
    headers: Option<Vec<(Box<[u8]>, Template)>>,
    body: Option<Template>,
    method: Option<Template>,
    http_version: Option<usize>,
}

impl Inherit for ProxyLoc {
    fn inherit(&mut self, outer: &Self) {
        self.upstream.inherit(&outer.upstream);
        self.ssl.inherit(&outer.ssl);
        macro_rules! pass_down {
            ($($field:ident)*) => { $( if self.$field.is_none() { self.$field.clone_from(&outer.$field); } )* };
        }
        pass_down!(pass redirects cookie_domains cookie_paths cookie_flags headers body method http_version);
    }
}

impl HttpModule for Proxy {
    const NAME: &'static str = "ngx_http_proxy_module";
    const DIRECTIVES: &'static [D] = encrypted_upstream_directives!([buffered] "proxy", ProxyLoc, upstream, ssl;
        D::loc("proxy_pass", Arity::exactly(1), pass::set)
            .within(Contexts::LOCATION.or(Contexts::IF).or(Contexts::LIMIT_EXCEPT)),
        D::loc("proxy_redirect", Arity::between(1, 2), redirect::set),
        D::loc("proxy_cookie_domain", Arity::between(1, 2), cookie::set_domain),
        D::loc("proxy_cookie_path", Arity::between(1, 2), cookie::set_path),
        D::loc("proxy_cookie_flags", Arity::between(1, 4), cookie::set_flags),
        D::loc("proxy_set_header", Arity::exactly(2), |c, args| {
            let header = (args.bytes(0)?.into(), args.template(1)?);
            c.headers.get_or_insert_default().push(header);
            Ok(())
        }),
        directive::template("proxy_set_body", |c: &mut ProxyLoc| &mut c.body),
        directive::template("proxy_method", |c: &mut ProxyLoc| &mut c.method),
        D::new(
            "proxy_http_version",
            Contexts::HSL,
            Arity::exactly(1),
            Set::Enum(&["1.0", "1.1", "2"], |c: &mut ProxyLoc| &mut c.http_version),
        ),
        D::flag("proxy_cache_convert_head", |c| &mut c.upstream.cache.convert_head),
        D::flag("proxy_pass_trailers", |c| &mut c.upstream.pass_trailers),
        D::new("proxy_headers_hash_max_size", Contexts::HSL, Arity::exactly(1), Set::Accepted(hash_size)),
        D::new("proxy_headers_hash_bucket_size", Contexts::HSL, Arity::exactly(1), Set::Accepted(hash_size)),
    );
    const VARIABLES: &'static [VarDef<Request>] = variables::TABLE;
    type Main = ();
    type Loc = ProxyLoc;

    fn attach((): &(), loc: &Arc<ProxyLoc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        let Some(pass) = loc.pass.as_ref().filter(|pass| to.belongs(pass.block)) else {
            return loc.upstream.check("proxy", HIDDEN, to);
        };
        let mut conf = loc.upstream.resolve("proxy", HIDDEN, to)?;
        if to.block == pass.block {
            to.auto_redirect();
        }
        // A balancer may decide that it is.
        let balancers = to.compiler.env.shared::<moonrest_http::upstream::Balancers>();
        if pass.may_be_secure() || balancers.any() {
            conf.tls = loc.ssl.compile("proxy_ssl", to);
        }
        to.proxies(conf.tls.is_some());
        to.asks(pass.group(), Speaks::Other);
        let http10 = loc.http_version == Some(0);
        let redirects = Redirects::in_force(loc.redirects.as_ref(), pass);
        let proxying = Proxying {
            settings: Arc::new(Settings {
                pass: pass.clone(),
                headers: Headers::new(loc.headers.as_deref().unwrap_or_default(), headers::FIELDS, false),
                cache_headers: conf
                    .cache
                    .is_some()
                    .then(|| Headers::new(loc.headers.as_deref().unwrap_or_default(), headers::FIELDS, true)),
                redirects,
                cookie_domains: loc.cookie_domains.clone().unwrap_or_default(),
                cookie_paths: loc.cookie_paths.clone().unwrap_or_default(),
                cookie_flags: loc.cookie_flags.clone().unwrap_or_default(),
                body: loc.body.clone(),
                method: loc.method.clone(),
                http10,
                http2: loc.http_version == Some(2),
            }),
            conf: Arc::new(conf),
        };
        to.content(proxying);
        Ok(())
    }
}

/// The size of a table of nginx's, which there is none of here.
fn hash_size(args: &Args<'_>) -> ConfResult {
    args.uint(0).map(drop)
}

/// The settings of one location that talking to the upstream goes by.
pub(crate) struct Settings {
    pass: Arc<Pass>,
    headers: Headers,
    /// Those of requests whose answers may be kept for others.
    cache_headers: Option<Headers>,
    /// None when redirects are left alone.
    redirects: Option<Vec<Rewrite>>,
    cookie_domains: Vec<Rewrite>,
    cookie_paths: Vec<Rewrite>,
    cookie_flags: Vec<CookieFlags>,
    body: Option<Template>,
    method: Option<Template>,
    http10: bool,
    http2: bool,
}

impl Settings {
    /// The fields of this request.
    fn headers(&self, r: &Request) -> &Headers {
        match &self.cache_headers {
            Some(headers) if r.find_ctx::<upstream::States>().is_some_and(|states| states.is_cacheable()) => {
                headers
            }
            _ => &self.headers,
        }
    }
}

struct Proxying {
    conf: Arc<Conf>,
    settings: Arc<Settings>,
}

impl PhaseHandler for Proxying {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        let settings = &self.settings;
        let (destination, target) = settings.pass.target(r)?;
        r.ctx::<variables::Context>().set(target.clone());
        let secure = target.secure;
        // A body in chunks can be passed on while it comes only in chunks.
        let chunked = r.framing.get().body == moonrest_proto::http1::Body::Chunked;
        let passed = self.conf.pass_request_headers;
        let protocol: Box<dyn Protocol> = match settings.http2 {
            true => Box::new(Http2::new(settings.clone(), target, passed)),
            false => Box::new(Http1::new(settings.clone(), target, passed)),
        };
        let job = Job {
            conf: self.conf.clone(),
            destination,
            protocol,
            pass_body: settings.body.is_none() && self.conf.pass_request_body,
            stream_body: !chunked || !settings.http10,
            secure,
        };
        start(r, job)
    }
}
