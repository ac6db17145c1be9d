//! `random_index`: any file of a directory answers for it.
//! <https://nginx.org/en/docs/http/ngx_http_random_index_module.html>

use moonrest_http::{core::map_path, open_file::Failure, prelude::*};
use moonrest_proto::http1::Method;
use moonrest_sys::{
    file::{self, FileKind},
    random, tree,
};
use std::io::ErrorKind;

/// Redirects, inside the server, to a file chosen by chance.
pub struct RandomIndex;

impl HttpModule for RandomIndex {
    const NAME: &'static str = "ngx_http_random_index_module";
    const DIRECTIVES: &'static [Directive<Self>] =
        &[Directive::<Self>::flag("random_index", |loc| &mut loc.enable).within(Contexts::LOCATION)];
    type Main = ();
    type Loc = Loc;

    fn attach(_main: &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if loc.enable == Some(true) {
            to.on(Phase::Content, Handler);
        }
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    enable: Option<bool>,
}
inherit!(Loc { enable });

struct Handler;

impl PhaseHandler for Handler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        if !r.uri().ends_with(b"/") || !matches!(r.method.get(), Method::Get | Method::Head | Method::Post) {
            return Step::next();
        }
        let Some(mut path) = map_path(r) else { return Step::finish(500) };
        if path.len() > 1 && path.ends_with(b"/") {
            path.pop();
        }
        let r = r.clone();
        Step::wait(async move {
            let (path, listed) = blocking(move || {
                let listed = names(&path);
                (path, listed)
            })
            .await?;
            let mut names = match listed {
                Ok(names) => names,
                Err((failure, _)) if failure.call == "opendir()" => {
                    return Ok(Flow::Finish(failure.answer_directory(&r, &path)));
                }
                Err((failure, name)) => {
                    failure.log(&r, Level::Crit, &name);
                    return Ok(Flow::Finish(500));
                }
            };
            if names.is_empty() {
                return Ok(Flow::Next);
            }
            let number = random::number().unwrap_or_else(|_| moonrest_sys::time::monotonic_ns());
            let name = names.swap_remove((number % names.len() as u64) as usize);
            let uri = [r.uri().as_slice(), &name].concat();
            let args = r.args.borrow().clone();
            r.redirect_internally(&uri, &args);
            Ok(Flow::Redirected)
        })
    }
}

/// Runs what waits for a disk on the thread pool.
async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Result<T, RequestError> {
    moonrest_rt::spawn_blocking(f).await.map_err(|_| RequestError::internal("a thread of the pool was lost"))
}

/// The regular files of a directory, hidden ones left out.
fn names(path: &[u8]) -> Result<Vec<Vec<u8>>, (Failure, Vec<u8>)> {
    let entries = tree::list(path).map_err(|error| (Failure { call: "opendir()", error }, path.to_vec()))?;
    let mut names = Vec::new();
    for entry in entries.into_iter().filter(|entry| !entry.name.starts_with(b".")) {
        let is_file = match entry.kind {
            Some(FileKind::File) => true,
            None | Some(FileKind::Link) => {
                let name = [path, b"/", &entry.name].concat();
                match file::stat(&name) {
                    Ok(stat) => stat.is_file(),
                    // A link that leads nowhere.
                    Err(error) if error.kind() == ErrorKind::NotFound => false,
                    Err(error) => return Err((Failure { call: "stat()", error }, name)),
                }
            }
            Some(_) => false,
        };
        if is_file {
            names.push(entry.name);
        }
    }
    Ok(names)
}
