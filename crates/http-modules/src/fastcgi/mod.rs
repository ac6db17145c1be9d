//! `fastcgi`: requests answered by FastCGI servers, PHP-FPM for one.
//! <https://nginx.org/en/docs/http/ngx_http_fastcgi_module.html>

mod record;
mod script;
mod talk;

use crate::cgi::{self, Param, Params, Pass};
use moonrest_http::{
    prelude::*,
    upstream::{self, Conf, Job, start},
    upstream_directives,
};
use script::Split;
use talk::Talk;

/// The module.
pub struct FastCgi;
type D = Directive<FastCgi>;

/// What one block says.
#[derive(Clone, Default)]
pub struct FastCgiLoc {
    upstream: upstream::Loc,
    pass: Option<Arc<Pass>>,
    params: Option<Vec<Param>>,
    index: Option<Box<[u8]>>,
    split: Option<Arc<Split>>,
    keep: Option<bool>,
    catch_stderr: Option<Vec<Box<[u8]>>>,
}

impl Inherit for FastCgiLoc {
    fn inherit(&mut self, outer: &Self) {
        self.upstream.inherit(&outer.upstream);
        macro_rules! pass_down {
            ($($field:ident)*) => { $( if self.$field.is_none() { self.$field.clone_from(&outer.$field); } )* };
        }
        pass_down!(pass params index split keep catch_stderr);
    }
}

impl FastCgiLoc {
    /// The name of the index script; empty for none.
    fn index(&self) -> &[u8] {
        self.index.as_deref().unwrap_or_default()
    }
}

impl HttpModule for FastCgi {
    const NAME: &'static str = "ngx_http_fastcgi_module";
    const DIRECTIVES: &'static [D] = upstream_directives!(buffered "fastcgi", FastCgiLoc, upstream;
        D::loc("fastcgi_pass", Arity::exactly(1), |c, args| cgi::pass::set(&mut c.pass, args, &[(b"fastcgi://", false)]))
            .within(Contexts::LOCATION.or(Contexts::IF)),
        D::loc("fastcgi_param", Arity::between(2, 3), |c, args| cgi::params::add(&mut c.params, args)),
        D::new("fastcgi_index", Contexts::HSL, Arity::exactly(1), Set::Text(|c: &mut FastCgiLoc| &mut c.index)),
        D::loc("fastcgi_split_path_info", Arity::exactly(1), |c, args| {
            set_once(&mut c.split, Arc::new(Split::compile(args)?))
        }),
        D::flag("fastcgi_keep_conn", |c| &mut c.keep),
        D::loc("fastcgi_catch_stderr", Arity::exactly(1), |c, args| {
            c.catch_stderr.get_or_insert_default().push(args.bytes(0)?.into());
            Ok(())
        }),
    );
    const VARIABLES: &'static [VarDef<Request>] = &[
        VarDef::get("fastcgi_script_name", script::name),
        VarDef::get("fastcgi_path_info", script::path_info),
    ];
    type Main = ();
    type Loc = FastCgiLoc;

    fn attach((): &(), loc: &Arc<FastCgiLoc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        let Some(pass) = loc.pass.as_ref().filter(|pass| to.belongs(pass.block)) else {
            return loc.upstream.check("fastcgi", cgi::HIDDEN, to);
        };
        let conf = loc.upstream.resolve("fastcgi", cgi::HIDDEN, to)?;
        if to.block == pass.block {
            to.auto_redirect();
        }
        let settings = Settings {
            params: Params::new(loc.params.as_ref()),
            keep: loc.keep.unwrap_or(false),
            catch_stderr: loc.catch_stderr.clone().unwrap_or_default(),
        };
        to.asks(pass.group(), Speaks::Other);
        to.content(Handler { conf: Arc::new(conf), pass: pass.clone(), settings: Arc::new(settings) });
        Ok(())
    }
}

/// The settings that talking goes by.
struct Settings {
    params: Params,
    /// `fastcgi_keep_conn`
    keep: bool,
    catch_stderr: Vec<Box<[u8]>>,
}

struct Handler {
    conf: Arc<Conf>,
    pass: Arc<Pass>,
    settings: Arc<Settings>,
}

impl PhaseHandler for Handler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        let talk = Talk::new(r.clone(), self.settings.clone(), self.conf.pass_request_headers);
        let job = Job {
            conf: self.conf.clone(),
            destination: self.pass.destination(r)?.0,
            protocol: Box::new(talk),
            pass_body: self.conf.pass_request_body,
            stream_body: true,
            secure: false,
        };
        start(r, job)
    }
}
