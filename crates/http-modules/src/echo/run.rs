//! Runs the commands of a location, one after the other.

use super::{Command, Target};
use moonrest_http::{
    body,
    filter::FileRange,
    prelude::*,
    subrequest::{self, Subrequest},
};
use moonrest_proto::{http1::Method, uri::split_internal};
use moonrest_sys::time::monotonic_ms;
use std::{
    cell::{Cell, RefCell},
    os::unix::ffi::OsStrExt,
    rc::Rc,
};

/// Kept in a request's context.
#[derive(Default)]
pub(super) struct State {
    /// `$echo_it`.
    pub item: RefCell<Option<Vec<u8>>>,
    /// When `echo_reset_timer` ran.
    pub timer: Cell<Option<u64>>,
    /// `$echo_incr`.
    pub count: Cell<u64>,
}

/// Answers with what the commands make.
pub(super) struct Handler {
    pub commands: Arc<[Command]>,
    pub status: Option<u16>,
}

impl PhaseHandler for Handler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        let commands = &self.commands;
        if commands.iter().all(|command| matches!(command, Command::Echo(_))) {
            // The usual case never waits.
            start(r, self.status);
            let text = commands.iter().fold(Vec::new(), |mut text, command| {
                if let Command::Echo(words) = command {
                    text.extend(words.eval(r));
                }
                text
            });
            return r.respond_piece(Piece::Data(text.into()));
        }
        let run =
            Run { r: r.clone(), commands: self.commands.clone(), status: self.status, waiting: Vec::new() };
        Step::wait(run.all())
    }
}

fn start(r: &RequestRef, status: Option<u16>) {
    if r.header_sent.get() {
        return;
    }
    {
        let mut out = r.out_mut();
        out.status = status.unwrap_or(200);
        out.clear_content_length();
        out.clear_accept_ranges();
    }
    r.set_content_type();
}

struct Run {
    r: RequestRef,
    commands: Arc<[Command]>,
    status: Option<u16>,
    /// Output behind subrequests that were not waited for.
    waiting: Pieces,
}

impl Run {
    async fn all(mut self) -> Result<Flow, RequestError> {
        let commands = self.commands.clone();
        // The loop that is run, its items, and the command behind its beginning.
        let mut rest: Option<(std::vec::IntoIter<Vec<u8>>, usize)> = None;
        let mut at = 0;
        while let Some(command) = commands.get(at) {
            at += 1;
            match command {
                Command::ForEach(delimiter, text) => {
                    let items = split(&text.eval(&*self.r), &delimiter.eval(&*self.r));
                    rest = Some((items.into_iter(), at));
                    if !self.next_item(&mut rest) {
                        at = end_of_loop(&commands, at);
                    }
                }
                Command::End => {
                    if let Some(begin) = rest.as_ref().map(|(_, begin)| *begin)
                        && self.next_item(&mut rest)
                    {
                        at = begin;
                    }
                }
                Command::Exec(target) => return self.exec(target),
                command => self.one(command).await?,
            }
        }
        self.head().await?;
        self.put(Piece::Last).await?;
        self.drain().await?;
        Ok(Flow::Responded)
    }

    fn next_item(&self, rest: &mut Option<(std::vec::IntoIter<Vec<u8>>, usize)>) -> bool {
        let item = rest.as_mut().and_then(|(items, _)| items.next());
        let more = item.is_some();
        *self.r.ctx::<State>().item.borrow_mut() = item;
        if !more {
            *rest = None;
        }
        more
    }

    async fn head(&self) -> Result<(), RequestError> {
        start(&self.r, self.status);
        self.r.send_head().await
    }

    /// Puts out a piece, behind what waits.
    async fn put(&mut self, piece: Piece) -> Result<(), RequestError> {
        if self.waiting.is_empty() {
            self.r.send(piece).await
        } else {
            self.waiting.push(piece);
            Ok(())
        }
    }

    /// Waits for the subrequests that were not waited for, and puts out what is behind them.
    async fn drain(&mut self) -> Result<(), RequestError> {
        let pieces = std::mem::take(&mut self.waiting);
        if pieces.is_empty() { Ok(()) } else { self.r.send_pieces(pieces).await }
    }

    async fn one(&mut self, command: &Command) -> Result<(), RequestError> {
        match command {
            Command::Echo(text) => {
                self.head().await?;
                let text = text.eval(&self.r);
                self.put(Piece::Data(text.into())).await
            }
            Command::Duplicate(times, text) => {
                self.head().await?;
                self.duplicate(*times, text.eval(&*self.r).into_owned().into()).await
            }
            Command::Flush => {
                self.drain().await?;
                self.head().await?;
                self.put(Piece::Flush).await
            }
            Command::Sleep(seconds) => {
                self.drain().await?;
                self.r.sleep(milliseconds(&self.r, seconds)).await.map(|_| ())
            }
            Command::BlockingSleep(seconds) => {
                std::thread::sleep(std::time::Duration::from_millis(milliseconds(&self.r, seconds)));
                Ok(())
            }
            Command::ResetTimer => {
                self.r.ctx::<State>().timer.set(Some(monotonic_ms()));
                Ok(())
            }
            Command::ReadBody => body::read(&self.r).await,
            Command::Body => {
                self.head().await?;
                self.body().await
            }
            Command::Subrequest { target, wait } => {
                self.head().await?;
                let piece = Piece::Subrequest(Subrequest { request: target.request(&self.r)?, done: None });
                if *wait {
                    self.drain().await?;
                    self.r.send(piece).await
                } else {
                    self.waiting.push(piece);
                    Ok(())
                }
            }
            Command::Exec(_) | Command::ForEach(..) | Command::End => Ok(()),
        }
    }

    async fn duplicate(&mut self, times: usize, text: Bytes) -> Result<(), RequestError> {
        if text.is_empty() {
            return Ok(());
        }
        // In pieces of a bounded length, so that nothing large is made at once.
        let per_piece = (16 * 1024 / text.len()).clamp(1, times.max(1));
        let piece = Bytes::from(text.repeat(per_piece));
        for _ in 0..times / per_piece {
            self.put(Piece::Data(piece.clone())).await?;
        }
        self.put(Piece::Data(piece.slice(..text.len() * (times % per_piece)))).await
    }

    /// Puts out the request's body as far as it was read.
    async fn body(&mut self) -> Result<(), RequestError> {
        let (memory, file) = {
            let body = self.r.body.borrow();
            (body.bytes(), body.file.clone())
        };
        if let Some(file) = file {
            let open = OpenFile {
                file: file.file.clone(),
                name: file.path.clone(),
                direct: false,
                threads: false,
                sendfile: false,
            };
            let range = FileRange { file: Rc::new(open), start: 0, end: file.len.get() };
            return self.put(Piece::File(range)).await;
        }
        self.put(Piece::Data(memory.unwrap_or_default())).await
    }

    fn exec(&self, target: &Target) -> Result<Flow, RequestError> {
        let r = &self.r;
        let uri = target.uri.eval(&**r).into_owned();
        if uri.starts_with(b"@") {
            r.redirect_to_named(&uri);
            return Ok(Flow::Redirected);
        }
        let (path, args) = target.split(r, &uri)?;
        r.redirect_internally(&path, &args);
        Ok(Flow::Redirected)
    }
}

impl Target {
    /// Path and arguments, those in the path first.
    fn split(&self, r: &Request, uri: &[u8]) -> Result<(Vec<u8>, Vec<u8>), RequestError> {
        let Ok((path, args)) = split_internal(uri) else {
            let uri = String::from_utf8_lossy(uri);
            return Err(RequestError::internal(format!("unsafe URI \"{uri}\" was detected")));
        };
        let mut all = args.to_vec();
        if let Some(more) = self.args.as_ref().map(|args| args.eval(r)).filter(|args| !args.is_empty()) {
            if !all.is_empty() {
                all.push(b'&');
            }
            all.extend_from_slice(&more);
        }
        Ok((path, all))
    }

    fn request(&self, r: &RequestRef) -> Result<RequestRef, RequestError> {
        let (path, args) = self.split(r, &self.uri.eval(&**r))?;
        let child = subrequest::inline(r, &path)?;
        *child.uri.borrow_mut() = path;
        *child.args.borrow_mut() = args;
        let Some(method) = &self.method else {
            child.set_method(Method::Get);
            return Ok(child);
        };
        child.set_method(Method::from_name(&method.eval(&**r)));
        if let Some(body) = &self.body {
            child.set_body(body.eval(&**r).into_owned().into());
        } else if let Some(path) = &self.file {
            let path = path.eval(&**r).into_owned();
            child.set_body_file(open(&path)?);
        }
        Ok(child)
    }
}

fn open(path: &[u8]) -> Result<Rc<body::BodyFile>, RequestError> {
    let opened = std::fs::File::open(std::ffi::OsStr::from_bytes(path))
        .and_then(|file| file.metadata().map(|data| (file, data.len())));
    match opened {
        Ok((file, len)) => Ok(Rc::new(body::BodyFile::new(file, path.to_vec(), len, false))),
        Err(error) => {
            let (path, error) = (String::from_utf8_lossy(path), moonrest_core::env::os_error(&error));
            Err(RequestError::internal(format!("open() \"{path}\" failed ({error})")))
        }
    }
}

fn milliseconds(r: &Request, seconds: &Template) -> u64 {
    let text = seconds.eval(r);
    let seconds: f64 = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    (seconds.max(0.0) * 1000.0).min(1e12) as u64
}

/// The parts between delimiters; empty ones are left out.
fn split(text: &[u8], delimiter: &[u8]) -> Vec<Vec<u8>> {
    if delimiter.is_empty() {
        return Vec::new();
    }
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let at = memchr::memmem::find(rest, delimiter);
        let part = rest.get(..at.unwrap_or(rest.len())).unwrap_or_default();
        if !part.is_empty() {
            parts.push(part.to_vec());
        }
        match at {
            Some(at) => rest = rest.get(at + delimiter.len()..).unwrap_or_default(),
            None => return parts,
        }
    }
}

/// The command behind the end of the loop whose first command is `at`.
fn end_of_loop(commands: &[Command], at: usize) -> usize {
    let rest = commands.get(at..).unwrap_or_default();
    let len = rest.iter().position(|command| matches!(command, Command::End)).map_or(rest.len(), |n| n + 1);
    at + len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_parts_are_left_out() {
        assert_eq!(split(b"&a&&b&", b"&"), vec![b"a".to_vec(), b"b".to_vec()]);
        assert!(split(b"", b"&").is_empty());
        assert_eq!(split(b"a--b", b"--").len(), 2);
    }

    #[test]
    fn a_loop_ends_at_its_end() {
        let commands = [Command::Flush, Command::End, Command::Flush];
        assert_eq!(end_of_loop(&commands, 0), 2);
        assert_eq!(end_of_loop(&commands, 2), 3);
    }
}
