//! WebDAV: PUT, DELETE, MKCOL, COPY and MOVE. What waits for a disk runs on the thread pool.
//! <https://nginx.org/en/docs/http/ngx_http_dav_module.html>

mod transfer;
mod work;

use moonrest_http::{body, core::map_path, prelude::*};
use moonrest_proto::{
    date, escape,
    http1::{Body, Known, Method},
};
use moonrest_sys::{
    errno::EISDIR,
    file,
    rename::{self, MoveError},
};
use work::{Outcome, blocking};

/// Changes files as clients ask.
pub struct Dav;

const METHODS: [(&[u8], u32); 6] = [
    (b"off", 0),
    (b"put", Method::Put.bit()),
    (b"delete", Method::Delete.bit()),
    (b"mkcol", Method::Mkcol.bit()),
    (b"copy", Method::Copy.bit()),
    (b"move", Method::Move.bit()),
];

impl HttpModule for Dav {
    const NAME: &'static str = "ngx_http_dav_module";
    const DIRECTIVES: &'static [Directive<Self>] = &[
        Directive::loc("dav_methods", Arity::at_least(1), set_methods),
        Directive::<Self>::flag("create_full_put_path", |loc| &mut loc.create_full_put_path),
        Directive::new(
            "min_delete_depth",
            Contexts::HSL,
            Arity::exactly(1),
            Set::Uint(|loc: &mut Loc| &mut loc.min_delete_depth),
        ),
        Directive::loc("dav_access", Arity::between(1, 3), set_access),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach(_main: &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        let methods = loc.methods.unwrap_or(0);
        if methods != 0 {
            let access = loc.access.unwrap_or(0o600);
            let settings = Settings {
                methods,
                create_full_put_path: loc.create_full_put_path == Some(true),
                min_delete_depth: loc.min_delete_depth.unwrap_or(0),
                file_mode: access,
                // Who may read a directory may also search it.
                dir_mode: access | (access & 0o444) >> 2,
            };
            to.on(Phase::Content, Handler { settings });
        }
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    /// Bits of methods; 0 is `off`.
    methods: Option<u32>,
    create_full_put_path: Option<bool>,
    min_delete_depth: Option<u64>,
    access: Option<u32>,
}
inherit!(Loc { methods, create_full_put_path, min_delete_depth, access });

fn set_methods(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    let mut bits = loc.methods.unwrap_or(0);
    for (n, word) in args.words().iter().enumerate() {
        let Some((_, bit)) = METHODS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&word.text)) else {
            return Err(args.invalid_value(n));
        };
        if *bit != 0 && bits & bit != 0 {
            args.env.warn(format!("duplicate value \"{}\"", args.lossy(n)), Some(word.span));
        }
        bits |= bit;
    }
    loc.methods = Some(bits);
    Ok(())
}

fn set_access(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    let (mut mode, mut user) = (0, 0o600);
    for n in 0..args.len() {
        let word = args.bytes(n)?;
        let (shift, right) = if let Some(right) = word.strip_prefix(b"user:") {
            user = 0;
            (6, right)
        } else if let Some(right) = word.strip_prefix(b"group:") {
            (3, right)
        } else if let Some(right) = word.strip_prefix(b"all:") {
            (0, right)
        } else {
            return Err(args.invalid_value(n));
        };
        mode |= match right {
            b"rw" => 6,
            b"r" => 4,
            _ => return Err(args.invalid_value(n)),
        } << shift;
    }
    set_once(&mut loc.access, mode | user)
}

/// The settings of one location.
#[derive(Clone, Copy)]
struct Settings {
    methods: u32,
    create_full_put_path: bool,
    min_delete_depth: u64,
    file_mode: u32,
    dir_mode: u32,
}

struct Handler {
    settings: Settings,
}

impl PhaseHandler for Handler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        let method = r.method.get();
        if method.bit() & self.settings.methods == 0 {
            return Step::next();
        }
        match method {
            Method::Put => put(r, self.settings),
            Method::Delete => delete(r, self.settings),
            Method::Mkcol => mkcol(r, self.settings),
            Method::Copy | Method::Move => transfer::handle(r, self.settings),
            _ => Step::next(),
        }
    }
}

/// `Depth`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Depth {
    Zero,
    One,
    Infinity,
    Invalid,
}

fn depth(r: &Request, default: Depth) -> Depth {
    r.with_known(Known::Depth, |value| match value {
        None => default,
        Some(b"0") => Depth::Zero,
        Some(b"1") => Depth::One,
        Some(b"infinity") => Depth::Infinity,
        Some(other) => {
            let shown = String::from_utf8_lossy(other);
            moonrest_http::error!(r, "client sent invalid \"Depth\" header: \"{shown}\"");
            Depth::Invalid
        }
    })
}

/// Whether the request has a body; methods that take none refuse it.
fn has_body(r: &Request) -> bool {
    !matches!(r.framing.get().body, Body::None | Body::Length(0))
}

/// The answer to a request that made something: where it is.
fn set_location(r: &Request) {
    let uri = r.uri();
    let mut location = Vec::with_capacity(uri.len() + 16);
    escape::escape(escape::Kind::Uri, &uri, &mut location);
    r.out_mut().location = Some(location.into());
}

fn put(r: &RequestRef, settings: Settings) -> Result<Step, RequestError> {
    if r.uri().ends_with(b"/") {
        moonrest_http::error!(r, "cannot PUT to a collection");
        return Step::finish(409);
    }
    if r.has_known(Known::ContentRange) {
        moonrest_http::error!(r, "PUT with range is unsupported");
        return Step::finish(501);
    }
    let r = r.clone();
    Step::wait(async move {
        let Some(temp) = body::read_to_file(&r).await? else {
            moonrest_http::error!(r, "PUT request body must be in a file");
            return Ok(Flow::Finish(500));
        };
        let Some(path) = map_path(&r) else { return Ok(Flow::Finish(500)) };
        let mtime = r.with_known(Known::Date, |value| value.and_then(date::parse_http));
        let options = rename::Options {
            mode: Some(settings.file_mode),
            mtime,
            make_parents: settings.create_full_put_path.then_some(settings.dir_mode),
            remove_on_error: true,
        };
        let from = temp.path.clone();
        let outcome = blocking(move || put_in_place(&from, &path, &options)).await?;
        match outcome.log(&r) {
            201 => {
                set_location(&r);
                respond_empty(&r, 201).await
            }
            204 => respond_empty(&r, 204).await,
            status => Ok(Flow::Finish(status)),
        }
    })
}

fn put_in_place(from: &[u8], path: &[u8], options: &rename::Options) -> Outcome {
    let status = match file::stat(path) {
        Err(_) => 201,
        Ok(stat) if !stat.is_dir() => 204,
        Ok(_) => {
            let error = std::io::Error::from_raw_os_error(EISDIR);
            let message = format!(
                "\"{}\" could not be created ({})",
                String::from_utf8_lossy(path),
                moonrest_core::env::os_error(&error)
            );
            return Outcome::new(409).with(Level::Error, message);
        }
    };
    match rename::into_place(from, path, options) {
        Ok(()) => Outcome::new(status),
        Err(failure) => Outcome::new(500).with(Level::Crit, describe_move(&failure, from)),
    }
}

fn describe_move(failure: &MoveError, from: &[u8]) -> String {
    let (name, error) =
        (String::from_utf8_lossy(&failure.name), moonrest_core::env::os_error(&failure.error));
    if failure.call == "rename()" {
        return format!("rename() \"{}\" to \"{name}\" failed ({error})", String::from_utf8_lossy(from));
    }
    format!("{} \"{name}\" failed ({error})", failure.call)
}

/// A head without a body.
async fn respond_empty(r: &RequestRef, status: u16) -> Result<Flow, RequestError> {
    {
        let mut out = r.out_mut();
        out.status = status;
        out.content_length = (status == 201).then_some(0);
    }
    match r.respond_pieces(Vec::new())? {
        Step::Now(flow) => Ok(flow),
        Step::Wait(wait) => wait.await,
    }
}

fn delete(r: &RequestRef, settings: Settings) -> Result<Step, RequestError> {
    if has_body(r) {
        moonrest_http::error!(r, "DELETE with body is unsupported");
        return Step::finish(415);
    }
    let is_collection = {
        let uri = r.uri();
        if let Err(depth) = deep_enough(&uri, settings.min_delete_depth) {
            moonrest_http::error!(r, "insufficient URI depth:{depth} to DELETE");
            return Step::finish(409);
        }
        uri.ends_with(b"/")
    };
    let Some(path) = map_path(r) else { return Step::finish(500) };
    let r = r.clone();
    Step::wait(async move {
        let (path, described) = blocking(move || {
            let described = file::lstat(&path);
            (path, described)
        })
        .await?;
        let is_dir = match described {
            Ok(stat) => stat.is_dir(),
            Err(error) => {
                let missing =
                    if error.raw_os_error() == Some(moonrest_sys::errno::ENOTDIR) { 409 } else { 404 };
                return Ok(Flow::Finish(work::failure(&error, missing, "lstat()", &path).log(&r)));
            }
        };
        if let Some(status) = refuse_delete(&r, &path, is_dir, is_collection) {
            return Ok(Flow::Finish(status));
        }
        let outcome = blocking(move || work::delete(strip_slash(&path), is_dir)).await?;
        Ok(Flow::Finish(outcome.log(&r)))
    })
}

fn refuse_delete(r: &Request, path: &[u8], is_dir: bool, is_collection: bool) -> Option<u16> {
    if !is_dir {
        if matches!(depth(r, Depth::Zero), Depth::Zero | Depth::Infinity) {
            return None;
        }
        moonrest_http::error!(r, "\"Depth\" header must be 0 or infinity");
        return Some(400);
    }
    if !is_collection {
        let error = moonrest_core::env::os_error(&std::io::Error::from_raw_os_error(EISDIR));
        moonrest_http::error!(r, "DELETE \"{}\" failed ({error})", String::from_utf8_lossy(path));
        return Some(409);
    }
    if depth(r, Depth::Infinity) != Depth::Infinity {
        moonrest_http::error!(r, "\"Depth\" header must be infinity");
        return Some(400);
    }
    None
}

/// Whether a path has that many components; otherwise how many it has.
fn deep_enough(uri: &[u8], min: u64) -> Result<(), u64> {
    if min == 0 {
        return Ok(());
    }
    let mut depth = 0;
    for (at, _) in uri.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
        depth += 1;
        if depth >= min && at + 1 < uri.len() {
            return Ok(());
        }
    }
    Err(depth)
}

fn strip_slash(path: &[u8]) -> &[u8] {
    match path {
        [rest @ .., b'/'] if !rest.is_empty() => rest,
        _ => path,
    }
}

fn mkcol(r: &RequestRef, settings: Settings) -> Result<Step, RequestError> {
    if has_body(r) {
        moonrest_http::error!(r, "MKCOL with body is unsupported");
        return Step::finish(415);
    }
    if !r.uri().ends_with(b"/") {
        moonrest_http::error!(r, "MKCOL can create a collection only");
        return Step::finish(409);
    }
    let Some(path) = map_path(r) else { return Step::finish(500) };
    let r = r.clone();
    Step::wait(async move {
        let outcome = blocking(move || {
            let path = strip_slash(&path);
            match moonrest_sys::tree::make(path, settings.dir_mode) {
                Ok(()) => Outcome::new(201),
                Err(error) => work::failure(&error, 409, "mkdir()", path),
            }
        })
        .await?;
        let status = outcome.log(&r);
        if status == 201 {
            set_location(&r);
        }
        Ok(Flow::Finish(status))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_in_components() {
        for (uri, min, expect) in [
            ("/", 0, Ok(())),
            ("/a", 1, Ok(())),
            ("/", 1, Err(1)),
            ("/a/", 2, Err(2)),
            ("/a/b", 2, Ok(())),
            ("/a/b/c", 4, Err(3)),
        ] {
            assert_eq!(deep_enough(uri.as_bytes(), min), expect, "{uri} {min}");
        }
    }
}
