//! `autoindex`: listings of directories.
//! <https://nginx.org/en/docs/http/ngx_http_autoindex_module.html>

mod html;
mod json;
mod xml;

use moonrest_http::{core::map_path, open_file::Failure, prelude::*};
use moonrest_proto::{http1::Method, query};
use moonrest_sys::{
    errno::{EACCES, ELOOP, ENOENT},
    file::{self, FileStat},
    time, tree,
};

/// Lists directories that have no index.
pub struct Autoindex;

impl HttpModule for Autoindex {
    const NAME: &'static str = "ngx_http_autoindex_module";
    const DIRECTIVES: &'static [Directive<Self>] = &[
        Directive::<Self>::flag("autoindex", |loc| &mut loc.enable),
        Directive::new(
            "autoindex_format",
            Contexts::HSL,
            Arity::exactly(1),
            Set::Enum(&["html", "json", "jsonp", "xml"], |loc: &mut Loc| &mut loc.format),
        ),
        Directive::<Self>::flag("autoindex_localtime", |loc| &mut loc.localtime),
        Directive::<Self>::flag("autoindex_exact_size", |loc| &mut loc.exact_size),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach(_main: &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if loc.enable == Some(true) {
            to.on(
                Phase::Content,
                Handler {
                    format: match loc.format {
                        Some(1) => Format::Json,
                        Some(2) => Format::Jsonp,
                        Some(3) => Format::Xml,
                        _ => Format::Html,
                    },
                    localtime: loc.localtime == Some(true),
                    exact_size: loc.exact_size != Some(false),
                },
            );
        }
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    enable: Option<bool>,
    format: Option<usize>,
    localtime: Option<bool>,
    exact_size: Option<bool>,
}
inherit!(Loc { enable, format, localtime, exact_size });

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Html,
    Json,
    Jsonp,
    Xml,
}

#[derive(Clone, Copy)]
struct Handler {
    format: Format,
    localtime: bool,
    exact_size: bool,
}

/// One name of a directory.
struct Entry {
    name: Vec<u8>,
    is_dir: bool,
    is_file: bool,
    mtime: i64,
    size: u64,
}

impl PhaseHandler for Handler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        if !r.uri().ends_with(b"/") || !matches!(r.method.get(), Method::Get | Method::Head) {
            return Step::next();
        }
        let Some(mut path) = map_path(r) else { return Step::finish(500) };
        if path.len() > 1 && path.ends_with(b"/") {
            path.pop();
        }
        let (format, callback) = match self.format {
            Format::Jsonp => match callback(r) {
                Err(()) => return Step::finish(400),
                Ok(None) => (Format::Json, None),
                Ok(callback) => (Format::Jsonp, callback),
            },
            format => (format, None),
        };
        let handler = Self { format, ..*self };
        Step::wait(handler.answer(r.clone(), path, callback))
    }
}

impl Handler {
    async fn answer(
        self,
        r: RequestRef,
        path: Vec<u8>,
        callback: Option<Vec<u8>>,
    ) -> Result<Flow, RequestError> {
        let reading = moonrest_rt::spawn_blocking(move || {
            let listed = list(&path);
            (path, listed)
        });
        let (path, listed) =
            reading.await.map_err(|_| RequestError::internal("a thread of the pool was lost"))?;
        let entries = match listed {
            Ok(listing) => {
                for (failure, name) in &listing.unreadable {
                    failure.log(&r, Level::Crit, name);
                }
                listing.entries
            }
            Err((failure, _)) if failure.call == "opendir()" => {
                return Ok(Flow::Finish(failure.answer_directory(&r, &path)));
            }
            Err((failure, name)) => {
                failure.log(&r, Level::Crit, &name);
                return Ok(Flow::Finish(500));
            }
        };
        r.ignore_body()?;
        {
            let mut out = r.out_mut();
            out.status = 200;
            out.set_content_type(Bytes::from_static(match self.format {
                Format::Html => b"text/html",
                Format::Json => b"application/json",
                Format::Jsonp => b"application/javascript",
                Format::Xml => b"text/xml",
            }));
            if self.format == Format::Xml {
                out.charset = Some(Bytes::from_static(b"utf-8"));
            }
        }
        r.send_head().await?;
        if r.header_only.get() {
            return Ok(Flow::Responded);
        }
        let body = match self.format {
            Format::Html => {
                let utf8 = r.out().charset.as_ref().is_some_and(|c| c.eq_ignore_ascii_case(b"utf-8"));
                let offset = if self.localtime { time::local_offset(r.worker.now()) } else { 0 };
                let style = html::Style { utf8, offset, exact_size: self.exact_size };
                html::page(&r.uri(), &entries, &style)
            }
            Format::Json | Format::Jsonp => json::text(&entries, callback.as_deref()),
            Format::Xml => xml::text(&entries),
        };
        r.send(Piece::Data(body.into())).await?;
        r.send(Piece::Last).await?;
        Ok(Flow::Responded)
    }
}

/// What was found in a directory.
struct Listing {
    /// Directories first, each kind by name.
    entries: Vec<Entry>,
    unreadable: Vec<(Failure, Vec<u8>)>,
}

/// Lists a directory, hidden names left out. A failure names what it failed on.
fn list(path: &[u8]) -> Result<Listing, (Failure, Vec<u8>)> {
    let found = tree::list(path).map_err(|error| (Failure { call: "opendir()", error }, path.to_vec()))?;
    let mut listing = Listing { entries: Vec::with_capacity(found.len()), unreadable: Vec::new() };
    for found in found.into_iter().filter(|found| !found.name.starts_with(b".")) {
        let name = [path, b"/", &found.name].concat();
        let stat = match describe(&name) {
            Ok(stat) => stat,
            Err(failure) if failure.code() == EACCES => {
                listing.unreadable.push((failure, name));
                continue;
            }
            Err(failure) => return Err((failure, name)),
        };
        listing.entries.push(Entry {
            name: found.name,
            is_dir: stat.is_dir(),
            is_file: stat.is_file(),
            mtime: stat.mtime,
            size: stat.size,
        });
    }
    listing.entries.sort_by(|a, b| b.is_dir.cmp(&a.is_dir).then_with(|| a.name.cmp(&b.name)));
    Ok(listing)
}

/// What a name leads to, or the name itself when it is a link that leads nowhere.
fn describe(name: &[u8]) -> Result<FileStat, Failure> {
    match file::stat(name) {
        Err(error) if matches!(error.raw_os_error(), Some(ENOENT | ELOOP)) => {
            file::lstat(name).map_err(|error| Failure { call: "lstat()", error })
        }
        Err(error) => Err(Failure { call: "stat()", error }),
        Ok(stat) => Ok(stat),
    }
}

/// The function a client wants its listing wrapped in.
fn callback(r: &Request) -> Result<Option<Vec<u8>>, ()> {
    let args = r.args.borrow();
    let Some(name) = query::find(&args, b"callback").filter(|name| !name.is_empty()) else { return Ok(None) };
    let fault = if name.len() > 128 {
        "too long"
    } else if name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.')) {
        return Ok(Some(name.to_vec()));
    } else {
        "invalid"
    };
    moonrest_http::info!(r, "client sent {fault} callback name: \"{}\"", String::from_utf8_lossy(name));
    Err(())
}
