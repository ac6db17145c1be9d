//! COPY and MOVE: the checks before anything is touched.

use super::{
    Depth, Settings, depth, has_body, strip_slash,
    work::{self, Outcome, Transfer, blocking},
};
use moonrest_core::env::os_error;
use moonrest_http::{core::map_path, prelude::*};
use moonrest_proto::{
    escape,
    http1::{Known, Method},
};
use moonrest_sys::{errno::EEXIST, file};
use std::io;

pub(super) fn handle(r: &RequestRef, settings: Settings) -> Result<Step, RequestError> {
    if has_body(r) {
        moonrest_http::error!(r, "COPY and MOVE with body are unsupported");
        return Step::finish(415);
    }
    let plan = match plan(r) {
        Ok(plan) => plan,
        Err(status) => return Step::finish(status),
    };
    let r = r.clone();
    Step::wait(async move {
        let outcome = blocking(move || plan.run(settings)).await?;
        Ok(Flow::Finish(outcome.log(&r)))
    })
}

/// A request found to be in order.
struct Plan {
    /// Without double slashes; with a final one for a collection.
    from: Vec<u8>,
    /// Without double and final slashes.
    to: Vec<u8>,
    /// The destination was written with a final slash.
    to_collection: bool,
    overwrite: bool,
    moves: bool,
    /// The request's path, method and `Destination`, for messages.
    uri: String,
    method: String,
    destination: String,
}

fn plan(r: &Request) -> Result<Plan, u16> {
    let Some(destination) = r.header(b"destination") else {
        moonrest_http::error!(r, "client sent no \"Destination\" header");
        return Err(400);
    };
    let shown = String::from_utf8_lossy(&destination).into_owned();
    let invalid = || {
        moonrest_http::error!(r, "client sent invalid \"Destination\" header: \"{shown}\"");
        400
    };
    let target = local_part(r, &destination, &shown)?.ok_or_else(invalid)?;
    let uri = decode(target).ok_or_else(invalid)?;
    if r.uri().ends_with(b"/") != target.ends_with(b"/") {
        moonrest_http::error!(
            r,
            "both URI \"{}\" and \"Destination\" URI \"{shown}\" should be either collections or non-collections",
            String::from_utf8_lossy(&r.uri())
        );
        return Err(409);
    }
    // An alias stands for the location's name, so a destination without that name has no file (nginx cuts as many
    // bytes off, whatever they are).
    let root = &r.loc().core.root;
    if root.alias && root.replaces.is_some_and(|len| uri.get(..len) != r.uri().get(..len)) {
        return Err(invalid());
    }
    let moves = r.method.get() == Method::Move;
    check_depth(r, moves)?;
    let overwrite = overwrite(r)?;
    let from = map_path(r).ok_or(500u16)?;
    let own = r.uri.replace(uri);
    let to = map_path(r);
    r.uri.replace(own);
    let mut from = from;
    let mut to = to.ok_or(500u16)?;
    merge_slashes(&mut from);
    merge_slashes(&mut to);
    let to_collection = to.ends_with(b"/");
    if to_collection {
        to.pop();
    }
    let uri = String::from_utf8_lossy(&r.uri()).into_owned();
    let method = {
        let main = r.main();
        let method = main.head.borrow().method_name;
        String::from_utf8_lossy(method.of(&main.block.borrow())).into_owned()
    };
    let plan = Plan { from, to, to_collection, overwrite, moves, uri, method, destination: shown };
    if let Some(message) = plan.overlap() {
        moonrest_http::error!(r, "{message}");
        return Err(403);
    }
    Ok(plan)
}

/// The path of the destination, which must be of this server; `None` when it is no URI at all.
fn local_part<'a>(r: &Request, destination: &'a [u8], shown: &str) -> Result<Option<&'a [u8]>, u16> {
    if destination.starts_with(b"/") {
        return Ok(Some(destination));
    }
    let host = r.main().host.borrow();
    if host.is_empty() {
        moonrest_http::error!(r, "client sent no \"Host\" header");
        return Err(400);
    }
    let scheme: &[u8] = if r.conn.tls.get().is_some() { b"https://" } else { b"http://" };
    let Some(rest) = destination.strip_prefix(scheme) else { return Ok(None) };
    let Some(rest) = rest.strip_prefix(host.as_slice()) else {
        moonrest_http::error!(
            r,
            "\"Destination\" URI \"{shown}\" is handled by different repository than the source URI"
        );
        return Err(400);
    };
    Ok(rest.iter().position(|byte| *byte == b'/').and_then(|at| rest.get(at..)))
}

/// A path from another's hand: arguments cut off, escapes resolved; nothing may lead upwards.
fn decode(target: &[u8]) -> Option<Vec<u8>> {
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let mut uri = Vec::with_capacity(path.len());
    escape::unescape(escape::Unescape::All, path, &mut uri);
    let upwards = uri.split(|byte| *byte == b'/').any(|segment| segment == b"..");
    (!uri.is_empty() && !upwards && !uri.contains(&0)).then_some(uri)
}

fn check_depth(r: &Request, moves: bool) -> Result<(), u16> {
    let message = match (depth(r, Depth::Infinity), moves) {
        (Depth::Infinity, _) | (Depth::Zero, false) => return Ok(()),
        (_, false) => "\"Depth\" header must be 0 or infinity",
        (_, true) => "\"Depth\" header must be infinity",
    };
    moonrest_http::error!(r, "{message}");
    Err(400)
}

fn overwrite(r: &Request) -> Result<bool, u16> {
    r.with_known(Known::Overwrite, |value| match value {
        None | Some(b"T" | b"t") => Ok(true),
        Some(b"F" | b"f") => Ok(false),
        Some(other) => {
            let shown = String::from_utf8_lossy(other);
            moonrest_http::error!(r, "client sent invalid \"Overwrite\" header: \"{shown}\"");
            Err(400)
        }
    })
}

fn merge_slashes(path: &mut Vec<u8>) {
    path.dedup_by(|next, last| *next == b'/' && *last == b'/');
}

impl Plan {
    /// Why source and destination cannot go together: they are the same, or one lies in the other.
    fn overlap(&self) -> Option<String> {
        let from = strip_slash(&self.from);
        if from == self.to {
            return Some(format!(
                "both URI \"{}\" and \"Destination\" URI \"{}\" point to the same location",
                self.uri, self.destination
            ));
        }
        let below =
            |inner: &[u8], outer: &[u8]| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with(b"/"));
        (self.to_collection && (below(&self.to, from) || below(from, &self.to))).then(|| self.not_possible())
    }

    fn not_possible(&self) -> String {
        format!("\"{}\" could not be {}ed to collection \"{}\"", self.uri, self.method, self.destination)
    }

    fn run(self, settings: Settings) -> Outcome {
        let replaces = match file::lstat(&self.to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return work::failure(&error, 404, "lstat()", &self.to),
            Ok(stat) if stat.is_dir() && !self.to_collection => {
                return Outcome::new(409).with(Level::Error, self.not_possible());
            }
            Ok(_) if !self.overwrite => {
                let error = os_error(&io::Error::from_raw_os_error(EEXIST));
                let line =
                    format!("\"{}\" could not be created ({error})", String::from_utf8_lossy(&self.to));
                return Outcome::new(412).with(Level::Error, line);
            }
            Ok(stat) => Some(stat.is_dir()),
        };
        let source = match file::lstat(&self.from) {
            Ok(stat) => stat,
            Err(error) => return work::failure(&error, 404, "lstat()", &self.from),
        };
        if source.is_dir() && !self.from.ends_with(b"/") {
            let line = format!("\"{}\" is collection", self.uri);
            return Outcome::new(400).with(Level::Error, line);
        }
        let from = strip_slash(&self.from).to_vec();
        Transfer { from, to: self.to, moves: self.moves, source, replaces, dir_mode: settings.dir_mode }.run()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_decoded(target: &str, expect: Option<&str>) {
        let got = decode(target.as_bytes()).map(|uri| String::from_utf8_lossy(&uri).into_owned());
        assert_eq!(got.as_deref(), expect, "{target}");
    }

    #[test]
    fn destinations_are_decoded_and_stay_below_the_root() {
        check_decoded("/a/b?x=1", Some("/a/b"));
        check_decoded("/a%20b", Some("/a b"));
        check_decoded("/a/../b", None);
        check_decoded("/%2e%2e/b", None);
        check_decoded("/a/..", None);
        check_decoded("/a%00", None);
        check_decoded("/..a/", Some("/..a/"));
    }

    fn check_overlap(from: &str, to: &str, expect: bool) {
        let plan = Plan {
            from: from.into(),
            to: to.trim_end_matches('/').into(),
            to_collection: to.ends_with('/'),
            overwrite: true,
            moves: false,
            uri: String::new(),
            method: String::new(),
            destination: String::new(),
        };
        assert_eq!(plan.overlap().is_some(), expect, "{from} {to}");
    }

    #[test]
    fn a_tree_cannot_go_into_itself() {
        check_overlap("/r/a", "/r/b", false);
        check_overlap("/r/a", "/r/a", true);
        check_overlap("/r/a/", "/r/a/", true);
        check_overlap("/r/a/", "/r/a/b/", true);
        check_overlap("/r/a/b/", "/r/a/", true);
        check_overlap("/r/a/", "/r/ab/", false);
        check_overlap("/r/ab/", "/r/a/", false);
    }
}
