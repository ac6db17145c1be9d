//! `index`: the file that answers for a directory.
//! <https://nginx.org/en/docs/http/ngx_http_index_module.html>

use moonrest_http::{
    core::map_path,
    open_file::{self, Failure},
    prelude::*,
};
use moonrest_proto::http1::Method;
use moonrest_sys::errno::{EACCES, ENOENT};

/// Redirects, inside the server, from a directory to its index.
pub struct Index;

impl HttpModule for Index {
    const NAME: &'static str = "ngx_http_index_module";
    const DIRECTIVES: &'static [Directive<Self>] = &[Directive::loc("index", Arity::at_least(1), add)];
    type Main = ();
    type Loc = Loc;

    fn attach(_main: &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        let names = loc.names.clone().unwrap_or_else(|| vec![Template::literal(b"index.html")]);
        to.on(Phase::Content, Handler { names: names.into() });
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    names: Option<Vec<Template>>,
}
inherit!(Loc { names });

fn add(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    for (n, word) in args.words().iter().enumerate() {
        if word.text.is_empty() {
            return Err(Fault::message(format!(
                "index \"{}\" in \"index\" directive is invalid",
                args.lossy(n)
            )));
        }
        if word.text.starts_with(b"/") && n + 1 != args.len() {
            args.env.warn(
                "only the last index in \"index\" directive should be absolute".to_owned(),
                Some(word.span),
            );
        }
        loc.names.get_or_insert_default().push(args.template(n)?);
    }
    Ok(())
}

struct Handler {
    names: Box<[Template]>,
}

impl PhaseHandler for Handler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        if !r.uri().ends_with(b"/") || !matches!(r.method.get(), Method::Get | Method::Head | Method::Post) {
            return Step::next();
        }
        let mut directory = None;
        for name in &self.names {
            let name = name.eval(&**r);
            if name.starts_with(b"/") {
                let args = r.args.borrow().clone();
                r.redirect_internally(&name, &args);
                return Ok(Step::Now(Flow::Redirected));
            }
            let tested = directory.is_some();
            let Some(base) = directory.take().or_else(|| map_path(r)) else { return Step::finish(500) };
            let path = [base.as_slice(), &name].concat();
            match open_file::test(r, &path) {
                Ok(_) => {
                    let uri = [r.uri().as_slice(), &name].concat();
                    let args = r.args.borrow().clone();
                    r.redirect_internally(&uri, &args);
                    return Ok(Step::Now(Flow::Redirected));
                }
                Err(failure) => {
                    if let Some(status) = refusal(r, &failure, &path, &base, tested) {
                        return Step::finish(status);
                    }
                }
            }
            directory = Some(base);
        }
        Step::next()
    }
}

/// What a name that cannot be opened means; `None`: try the next one.
fn refusal(r: &Request, failure: &Failure, path: &[u8], base: &[u8], tested: bool) -> Option<u16> {
    if failure.is_link() {
        return Some(403);
    }
    if failure.code() == EACCES || (failure.is_not_found() && failure.code() != ENOENT) {
        return Some(report(r, failure, path));
    }
    if !tested && let Some(status) = test_directory(r, path, base) {
        return Some(status);
    }
    if failure.code() == ENOENT {
        return None;
    }
    failure.log(r, Level::Crit, path);
    Some(500)
}

/// Whether the directory itself exists; a status when it does not.
fn test_directory(r: &Request, path: &[u8], base: &[u8]) -> Option<u16> {
    // An alias may come without its final slash; the root directory keeps its own.
    let name = match base {
        [rest @ .., b'/'] if !rest.is_empty() => rest,
        _ => base,
    };
    match open_file::test_dir(r, name) {
        Ok(stat) if stat.is_dir() => None,
        Ok(_) => {
            moonrest_http::alert!(r, "\"{}\" is not a directory", String::from_utf8_lossy(path));
            Some(500)
        }
        Err(failure) if failure.is_link() => Some(403),
        Err(failure) if failure.code() == ENOENT => Some(report(r, &failure, path)),
        // The first index was looked for in it, so it may be searched.
        Err(failure) if failure.code() == EACCES => None,
        Err(failure) => {
            failure.log(r, Level::Crit, name);
            Some(500)
        }
    }
}

fn report(r: &Request, failure: &Failure, path: &[u8]) -> u16 {
    let (shown, error) = (String::from_utf8_lossy(path), moonrest_core::env::os_error(&failure.error));
    if failure.code() == EACCES {
        moonrest_http::error!(r, "\"{shown}\" is forbidden ({error})");
        return 403;
    }
    if r.loc().core.log_not_found {
        moonrest_http::error!(r, "\"{shown}\" is not found ({error})");
    }
    404
}
