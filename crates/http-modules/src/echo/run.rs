//! Carries out the commands of a location.

use super::command::{Body, Command, Target};
use moonrest_http::{
    body::{self, BodyState, RequestBody},
    prelude::*,
    subrequest::{self, Subrequest},
};
use moonrest_proto::{http1::Method, uri};
use moonrest_sys::time;
use std::{
    cell::{Cell, RefCell},
    os::unix::ffi::OsStrExt,
    rc::Rc,
};

/// What the module knows of a request.
#[derive(Default)]
pub(super) struct State {
    /// When `echo_reset_timer` ran last, in milliseconds of the monotonic clock.
    pub timer: Cell<Option<u64>>,
    /// The item of the loop that runs (`$echo_it`).
    pub item: RefCell<Option<Vec<u8>>>,
    /// `$echo_incr`.
    pub count: Cell<u64>,
}

/// The content handler of one location.
pub(super) struct Handler {
    commands: Arc<[Command]>,
    status: u16,
    /// Nothing in it waits or needs a subrequest.
    plain: bool,
}

impl Handler {
    pub(super) fn new(commands: Vec<Command>, status: u16) -> Self {
        let plain = commands.iter().all(|command| {
            matches!(command, Command::Text(_) | Command::Duplicate { .. } | Command::ResetTimer)
        });
        Self { commands: commands.into(), status, plain }
    }
}

impl PhaseHandler for Handler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        if self.plain {
            r.ignore_body()?;
            // A piece for each command: filters see what each has written.
            let mut pieces = Vec::with_capacity(self.commands.len());
            for command in &*self.commands {
                let mut text = Vec::new();
                write(r, command, &mut text)?;
                if !text.is_empty() {
                    pieces.push(Piece::Data(text.into()));
                }
            }
            begin(r, self.status);
            return match pieces.len() {
                1 => pieces.pop().map_or_else(Step::responded, |piece| r.respond_piece(piece)),
                _ => r.respond_pieces(pieces),
            };
        }
        let mut run = Run {
            r: r.clone(),
            commands: self.commands.clone(),
            status: self.status,
            pending: Pieces::new(),
        };
        Step::wait(async move { run.all().await })
    }
}

fn begin(r: &Request, status: u16) {
    if !r.header_sent.get() {
        r.out_mut().status = status;
        r.set_content_type();
    }
}

/// Appends what a command that only writes has to say.
fn write(r: &RequestRef, command: &Command, out: &mut Vec<u8>) -> Result<(), RequestError> {
    match command {
        Command::Text(text) => text.append(r, out),
        Command::Duplicate { count, text } => {
            let count = count.eval(&**r);
            let wanted =
                std::str::from_utf8(&count).ok().and_then(|text| text.replace('_', "").parse::<usize>().ok());
            let Some(wanted) = wanted else {
                return Err(RequestError::internal(format!(
                    "invalid size specified: \"{}\"",
                    String::from_utf8_lossy(&count)
                )));
            };
            let text = text.eval(&**r);
            if text.len().saturating_mul(wanted) > MAX_DUPLICATE {
                return Err(RequestError::internal("echo_duplicate asks for more than can be held"));
            }
            out.reserve(text.len() * wanted);
            (0..wanted).for_each(|_| out.extend_from_slice(&text));
        }
        Command::ResetTimer => r.ctx::<State>().timer.set(Some(time::monotonic_ms())),
        _ => {}
    }
    Ok(())
}

/// What one `echo_duplicate` may make.
const MAX_DUPLICATE: usize = 1 << 30;

/// A location's commands under way for one request.
struct Run {
    r: RequestRef,
    commands: Arc<[Command]>,
    status: u16,
    /// Made and not sent yet; subrequests in it run side by side once it is.
    pending: Pieces,
}

/// A loop under way.
struct Loop {
    /// Where its body begins.
    first: usize,
    items: std::vec::IntoIter<Vec<u8>>,
}

impl Run {
    async fn all(&mut self) -> Result<Flow, RequestError> {
        let commands = self.commands.clone();
        if !commands.iter().any(|command| matches!(command, Command::ReadBody)) {
            self.r.ignore_body()?;
        }
        let mut inside: Option<Loop> = None;
        let mut at = 0;
        while let Some(command) = commands.get(at) {
            at += 1;
            match command {
                Command::Foreach { delimiter, text } => {
                    if inside.is_some() {
                        return Err(RequestError::internal("nested echo_foreach_split is not supported"));
                    }
                    let items = items(&text.eval(&*self.r), &delimiter.eval(&*self.r));
                    inside = Some(Loop { first: at, items: items.into_iter() });
                    at = self.next_item(&commands, at, &mut inside);
                }
                Command::BadForeach => {
                    return Err(RequestError::internal(
                        "echo_foreach should take at least two arguments. (if your delimiter starts with \"-\", \
                         preceding it with a \"--\".)",
                    ));
                }
                Command::End => {
                    if inside.is_none() {
                        moonrest_http::error!(
                            self.r,
                            "echo_end is not in the scope of any echo_foreach_split"
                        );
                        continue;
                    }
                    at = self.next_item(&commands, at, &mut inside);
                }
                Command::Exec { uri, args } => return self.exec(uri, args.as_ref()),
                Command::AbortParent => return self.abort_parent(),
                command => self.one(command).await?,
            }
        }
        if inside.is_some() {
            moonrest_http::error!(self.r, "echo_foreach_split is not closed by echo_end");
        }
        self.send_pending().await?;
        self.head().await?;
        self.r.send(Piece::Last).await?;
        Ok(Flow::Responded)
    }

    /// Where to go on with a loop: at its body with the next item, or behind its end.
    fn next_item(&self, commands: &[Command], at: usize, inside: &mut Option<Loop>) -> usize {
        let state = self.r.ctx::<State>();
        if let Some(running) = inside
            && let Some(item) = running.items.next()
        {
            *state.item.borrow_mut() = Some(item);
            return running.first;
        }
        *inside = None;
        *state.item.borrow_mut() = None;
        let before = at.saturating_sub(1);
        let end = commands.iter().skip(before).position(|command| matches!(command, Command::End));
        end.map_or(commands.len(), |end| before + end + 1)
    }

    async fn one(&mut self, command: &Command) -> Result<(), RequestError> {
        match command {
            Command::Flush => {
                self.pending.push(Piece::Flush);
                self.send_pending().await?;
                if !self.r.header_sent.get() {
                    self.head().await?;
                    self.r.send(Piece::Flush).await?;
                }
            }
            Command::Sleep(seconds) => {
                let ms = milliseconds(&self.r, seconds)?;
                let r = self.r.clone();
                // Subrequests that were begun go on meanwhile.
                let sent = self.send_pending();
                let (sent, slept) = tokio::join!(sent, r.sleep(ms));
                sent?;
                slept?;
            }
            Command::BlockingSleep(seconds) => {
                let ms = milliseconds(&self.r, seconds)?;
                std::thread::sleep(std::time::Duration::from_millis(ms));
            }
            Command::ReadBody => body::read(&self.r).await?,
            Command::Body => self.body()?,
            Command::Subrequest(target) => {
                let child = self.child(target)?;
                self.pending.push(Piece::Subrequest(Subrequest { request: child, done: None }));
                if !target.aside {
                    self.send_pending().await?;
                }
            }
            plain => {
                let mut text = Vec::new();
                write(&self.r, plain, &mut text)?;
                if !text.is_empty() {
                    self.pending.push(Piece::Data(text.into()));
                }
            }
        }
        Ok(())
    }

    async fn head(&self) -> Result<(), RequestError> {
        begin(&self.r, self.status);
        self.r.send_head().await
    }

    async fn send_pending(&mut self) -> Result<(), RequestError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pieces = std::mem::take(&mut self.pending);
        self.head().await?;
        self.r.send_pieces(pieces).await
    }

    fn body(&mut self) -> Result<(), RequestError> {
        let main = self.r.main();
        let body = if self.r.is_subrequest() { self.r.body.borrow() } else { main.body.borrow() };
        if body.state != BodyState::Complete {
            return Ok(());
        }
        let piece = match &body.file {
            Some(held) => Piece::File(FileRange {
                file: Rc::new(OpenFile {
                    file: held.file.clone(),
                    name: held.path.clone(),
                    direct: false,
                    threads: false,
                    sendfile: false,
                }),
                start: 0,
                end: held.len.get(),
            }),
            None => Piece::Data(body.bytes().unwrap_or_default()),
        };
        drop(body);
        if !piece.is_empty() {
            self.pending.push(piece);
        }
        Ok(())
    }

    fn child(&self, target: &Target) -> Result<RequestRef, RequestError> {
        let r = &*self.r;
        let uri = target.uri.eval(r);
        if uri.is_empty() {
            return Err(RequestError::internal("echo subrequest with an empty location"));
        }
        let (path, query) = split(r, target.name(), &uri)?;
        let args = match &target.args {
            Some(args) => args.eval(r).into_owned(),
            None => query,
        };
        let child = subrequest::inline(&self.r, &path)?;
        // The path is decoded: a question mark in it is part of it.
        *child.uri.borrow_mut() = path;
        *child.args.borrow_mut() = args;
        child.own_variables.set(true);
        if let Some(method) = &target.method {
            let name = method.eval(r);
            let method = Method::from_name(&name);
            if method == Method::Other {
                return Err(RequestError::internal(format!(
                    "invalid method \"{}\"",
                    String::from_utf8_lossy(&name)
                )));
            }
            child.method.set(method);
            child.header_only.set(method == Method::Head);
        }
        match &target.body {
            Body::Inherited => {}
            Body::Text(text) => {
                give_body(&child, text.eval(r).into_owned().into());
            }
            Body::File(path) => {
                let path = path.eval(r).into_owned();
                let path = match path.starts_with(b"/") {
                    true => path,
                    false => {
                        let full = r.http().prefix.join(std::ffi::OsStr::from_bytes(&path));
                        full.into_os_string().into_encoded_bytes()
                    }
                };
                give_body(&child, file_body(&path)?);
            }
        }
        Ok(child)
    }

    fn exec(&self, uri: &Template, args: Option<&Template>) -> Result<Flow, RequestError> {
        let r = &*self.r;
        let uri = uri.eval(r);
        if r.header_sent.get() {
            return Err(RequestError::internal("echo_exec after the response has begun"));
        }
        if uri.is_empty() {
            return Ok(Flow::Finish(400));
        }
        let (path, query) = split(r, "echo_exec", &uri)?;
        let all = match args {
            Some(args) => args.eval(r).into_owned(),
            None => query,
        };
        if path.starts_with(b"@") {
            if !all.is_empty() {
                moonrest_http::warn!(
                    r,
                    "querystring {} ignored when exec'ing named location {}",
                    String::from_utf8_lossy(&all),
                    String::from_utf8_lossy(&path)
                );
            }
            r.redirect_to_named(&path);
            return Ok(Flow::Redirected);
        }
        r.redirect_internally(&path, &all);
        Ok(Flow::Redirected)
    }

    /// Ends the request that this subrequest was made for, as far as it has come.
    fn abort_parent(&self) -> Result<Flow, RequestError> {
        if !self.r.is_subrequest() {
            return Err(RequestError::internal("echo_abort_parent outside of a subrequest"));
        }
        Err(RequestError::Cut("the parent request is aborted by echo_abort_parent".into()))
    }
}

/// The path of a target, decoded, and its arguments; an unsafe one ends the request.
fn split(r: &Request, who: &str, uri: &[u8]) -> Result<(Vec<u8>, Vec<u8>), RequestError> {
    match uri::split_internal(uri) {
        Ok((path, args)) => Ok((path, args.to_vec())),
        Err(_) => {
            let uri = String::from_utf8_lossy(uri);
            if r.log().enabled(Level::Debug) {
                r.log_at(Level::Debug, format_args!("{who} sees unsafe uri: \"{uri}\""));
            }
            Err(RequestError::Internal { status: 500, level: Level::Info, message: "".into() })
        }
    }
}

/// Puts a body of its own into a subrequest, with the length announced.
fn give_body(child: &Request, text: Bytes) {
    let length = text.len() as u64;
    // An empty one is a body too: its length is announced upstream.
    *child.body.borrow_mut() = RequestBody {
        state: BodyState::Complete,
        received: length,
        memory_len: length,
        memory: vec![text],
        ..RequestBody::default()
    };
    child.remove_header(b"Transfer-Encoding");
    child.set_content_length(length);
}

fn file_body(path: &[u8]) -> Result<Bytes, RequestError> {
    let text = std::fs::read(std::ffi::OsStr::from_bytes(path)).map_err(|error| {
        RequestError::internal(format!(
            "open() \"{}\" failed ({})",
            String::from_utf8_lossy(path),
            moonrest_core::env::os_error(&error)
        ))
    })?;
    Ok(text.into())
}

/// Seconds with up to three decimals.
fn milliseconds(r: &Request, seconds: &Template) -> Result<u64, RequestError> {
    let text = seconds.eval(r);
    let value = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse::<f64>().ok());
    match value {
        Some(value) if (0.0..=86_400.0 * 365.0).contains(&value) => Ok((value * 1000.0).round() as u64),
        _ => {
            Err(RequestError::internal(format!("invalid sleep time \"{}\"", String::from_utf8_lossy(&text))))
        }
    }
}

/// The parts of `text` between delimiters, empty ones left out as upstream leaves them.
fn items(text: &[u8], delimiter: &[u8]) -> Vec<Vec<u8>> {
    if delimiter.is_empty() {
        return vec![text.to_vec()];
    }
    let (mut items, mut rest) = (Vec::new(), text);
    while let Some(at) = memchr::memmem::find(rest, delimiter) {
        items.push(rest.get(..at).unwrap_or_default().to_vec());
        rest = rest.get(at + delimiter.len()..).unwrap_or_default();
    }
    items.push(rest.to_vec());
    items.retain(|item| !item.is_empty());
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_between_delimiters() {
        assert_eq!(items(b"a,b,,c", b","), [b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]);
        assert_eq!(items(b"", b","), Vec::<Vec<u8>>::new());
        assert_eq!(items(b"ab", b""), [b"ab".to_vec()]);
    }
}
