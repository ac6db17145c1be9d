//! The request body: read into memory or a temporary file, discarded, or streamed.

use crate::{
    core::{Core, InFileOnly},
    exchange::BodyRead,
    phase::RequestError,
    request::{Request, RequestRef},
};
use bytes::{Bytes, BytesMut};
use moonrest_proto::http1::{Body as Framed, Version};
use std::{future::poll_fn, io, io::Write, rc::Rc, sync::Arc};

/// How far reading has come, and what was read.
#[derive(Default)]
pub struct RequestBody {
    pub state: BodyState,
    /// Body bytes in memory, in order. Empty when all is in `file`.
    pub memory: Vec<Bytes>,
    pub memory_len: u64,
    /// The whole body, when it did not fit `client_body_buffer_size` or a file was asked for.
    pub file: Option<Rc<BodyFile>>,
    /// Bytes received so far, decoded.
    pub received: u64,
    /// A handler wants all of it in a file of its own, readable by the group, to be moved or removed in the end.
    pub to_file: bool,
    /// A program may ask for the file's name: it stays until the request ends.
    pub keep_name: bool,
}

/// A body kept in a file.
pub struct BodyFile {
    pub file: Arc<std::fs::File>,
    /// The name it has, or had: only `client_body_in_file_only` keeps names.
    pub path: Vec<u8>,
    pub len: std::cell::Cell<u64>,
    /// The name is removed in the end (`client_body_in_file_only clean`).
    clean: bool,
}

impl BodyFile {
    /// A file that is to be a body; with `clean` its name is removed in the end.
    pub fn new(file: std::fs::File, path: Vec<u8>, len: u64, clean: bool) -> Self {
        Self { file: Arc::new(file), path, len: len.into(), clean }
    }
}

impl Drop for BodyFile {
    fn drop(&mut self) {
        if self.clean {
            // Somebody else may have moved it away already.
            let _ = moonrest_sys::file::remove(&self.path);
        }
    }
}

/// Reading's progress.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BodyState {
    #[default]
    Unread,
    Reading,
    /// All of it is in memory or in the file.
    Complete,
    /// It was or is being thrown away.
    Discarded,
    /// A handler reads it piece by piece.
    Streamed,
}

impl RequestBody {
    /// Whether it was read, or made by a program.
    pub fn is_read(&self) -> bool {
        matches!(self.state, BodyState::Reading | BodyState::Complete)
    }

    /// The same body for a subrequest: what was read of it, or none as far as that one is concerned.
    pub fn share(&self) -> Self {
        let known = self.state == BodyState::Complete;
        Self {
            state: self.state,
            memory: if known { self.memory.clone() } else { Vec::new() },
            memory_len: if known { self.memory_len } else { 0 },
            file: if known { self.file.clone() } else { None },
            received: if known { self.received } else { 0 },
            to_file: false,
            keep_name: false,
        }
    }

    /// Makes it that of a new request.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.state = BodyState::Unread;
        self.memory.clear();
        self.memory_len = 0;
        self.file = None;
        self.received = 0;
        self.to_file = false;
        self.keep_name = false;
    }

    /// Bytes held.
    pub fn len(&self) -> u64 {
        self.file.as_ref().map_or(self.memory_len, |file| file.len.get())
    }

    /// Whether there is no body.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The body in memory as one piece; `None` when it is in a file.
    pub fn bytes(&self) -> Option<Bytes> {
        if self.file.is_some() {
            return None;
        }
        match &*self.memory {
            [] => Some(Bytes::new()),
            [one] => Some(one.clone()),
            several => {
                let mut all = BytesMut::with_capacity(usize::try_from(self.memory_len).unwrap_or(0));
                several.iter().for_each(|piece| all.extend_from_slice(piece));
                Some(all.freeze())
            }
        }
    }
}

impl Request {
    /// Says that the body will not be read, before an answer is made: a client that waits for leave to send it gets
    /// that, as nginx gives it, so that the connection can go on (`ngx_http_discard_request_body`).
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn ignore_body(&self) -> Result<(), RequestError> {
        if self.is_subrequest() {
            return Ok(());
        }
        {
            let mut body = self.body.borrow_mut();
            if body.state != BodyState::Unread {
                return Ok(());
            }
            body.state = BodyState::Discarded;
        }
        let framing = self.framing.get();
        if framing.body == Framed::None && !framing.expect_continue {
            return Ok(());
        }
        self.exchange.expect_continue(self)?;
        self.exchange.discard_received(self)
    }

    /// Whether a body belongs to the request.
    pub fn has_body(&self) -> bool {
        self.framing.get().body != Framed::None
    }

    /// Whether the request has a body that was not read yet.
    pub fn has_unread_body(&self) -> bool {
        self.framing.get().body != Framed::None
            && !self.is_subrequest()
            && self.body.borrow().state == BodyState::Unread
    }
}

/// Reads the whole body into a file, which the caller may move away; what is left of it is removed in the end.
/// `None` when the request has no body.
///
/// # Errors
/// As [`read`].
pub async fn read_to_file(r: &RequestRef) -> Result<Option<Rc<BodyFile>>, RequestError> {
    r.body.borrow_mut().to_file = true;
    read(r).await?;
    Ok(r.body.borrow().file.clone())
}

/// Reads the whole body as the location's settings say: in memory up to `client_body_buffer_size`, in a temporary file
/// beyond it. Returns at once when it was read before, or there is none.
///
/// # Errors
/// 413 when it is larger than `client_max_body_size` (chunked bodies), 408 on `client_body_timeout`, 400 for broken
/// chunks, 499 when the client left, 500 when the file cannot be written.
pub fn read(r: &RequestRef) -> impl Future<Output = Result<(), RequestError>> + use<> {
    let begun = begin(r);
    let r = r.clone();
    async move {
        if !begun? {
            return Ok(());
        }
        let result = read_all(&r).await;
        r.body.borrow_mut().state = if result.is_ok() { BodyState::Complete } else { BodyState::Discarded };
        result
    }
}

/// Whether [`read`] has nothing to wait for. What is no body is complete from then on.
pub(crate) fn is_settled(r: &Request) -> bool {
    if r.is_subrequest() {
        return true;
    }
    let mut body = r.body.borrow_mut();
    match body.state {
        BodyState::Unread if r.framing.get().body == Framed::None => {
            body.state = BodyState::Complete;
            true
        }
        BodyState::Unread | BodyState::Reading => false,
        BodyState::Complete | BodyState::Discarded | BodyState::Streamed => true,
    }
}

/// Reads the body if that takes no waiting: it came with the head, or there is none. `false` when [`read`] is to do it.
pub fn read_at_once(r: &Request) -> bool {
    is_settled(r) || take_received(r)
}

/// Takes a body that was received as a whole and stays in memory.
fn take_received(r: &Request) -> bool {
    let (framing, core) = (r.framing.get(), &r.loc().core);
    let Framed::Length(length) = framing.body else { return false };
    let allowed = core.client_max_body_size == 0 || length <= core.client_max_body_size;
    let in_file = core.client_body_in_file_only != InFileOnly::Off;
    let mut body = r.body.borrow_mut();
    if body.state != BodyState::Unread
        || body.to_file
        || in_file
        || framing.expect_continue
        || !allowed
        || length > room_in_memory(r, core)
    {
        return false;
    }
    let Some(data) = r.exchange.take_body(length) else { return false };
    r.request_length.set(r.request_length.get() + length);
    body.received = length;
    body.memory_len = length;
    body.memory.push(data);
    body.state = BodyState::Complete;
    true
}

/// How much of the body may stay in memory. nginx: one that is only a little larger than the buffer gets one of its own
/// length, except with HTTP/2.
fn room_in_memory(r: &Request, core: &Core) -> u64 {
    match r.framing.get().body {
        Framed::Length(length)
            if r.version.get() < Version::Http2 && length < core.client_body_buffer_size / 4 * 5 =>
        {
            length
        }
        _ => core.client_body_buffer_size,
    }
}

/// Whether the body is to be read now. Nobody else may begin from then on, also before the first wait.
fn begin(r: &RequestRef) -> Result<bool, RequestError> {
    if r.is_subrequest() {
        // nginx: it has what its parent had read, or nothing.
        return Ok(false);
    }
    let mut body = r.body.borrow_mut();
    match body.state {
        BodyState::Unread => {
            body.state = BodyState::Reading;
            Ok(true)
        }
        BodyState::Reading => Err(RequestError::internal("request body is being read already")),
        BodyState::Complete | BodyState::Discarded | BodyState::Streamed => Ok(false),
    }
}

async fn read_all(r: &RequestRef) -> Result<(), RequestError> {
    let core = r.loc().core.clone();
    if r.framing.get().body == Framed::None {
        return Ok(());
    }
    if core.client_body_in_file_only != InFileOnly::Off || r.body.borrow().to_file {
        open_file(r)?;
    }
    r.exchange.expect_continue(r)?;
    let room = room_in_memory(r, &core);
    loop {
        let BodyRead::Data(data) = poll_fn(|cx| r.exchange.poll_body(r, cx)).await? else { break };
        let received = {
            let mut body = r.body.borrow_mut();
            body.received += data.len() as u64;
            body.received
        };
        check_size(r, received)?;
        if r.body.borrow().file.is_some() {
            append_file(r, &data)?;
            continue;
        }
        let over = {
            let mut body = r.body.borrow_mut();
            body.memory_len += data.len() as u64;
            body.memory.push(data);
            body.memory_len > room
        };
        if over {
            let pieces = {
                let mut body = r.body.borrow_mut();
                body.memory_len = 0;
                std::mem::take(&mut body.memory)
            };
            open_file(r)?;
            for piece in pieces {
                append_file(r, &piece)?;
            }
        }
    }
    Ok(())
}

/// `client_max_body_size`, for bodies whose length was not announced.
pub(crate) fn check_size(r: &Request, received: u64) -> Result<(), RequestError> {
    let limit = r.loc().core.client_max_body_size;
    if limit != 0 && received > limit {
        r.keepalive.set(false);
        crate::error!(r, "client intended to send too large chunked body: {received} bytes");
        return Err(RequestError::Client { status: 413, message: "".into() });
    }
    Ok(())
}

fn open_file(r: &RequestRef) -> Result<(), RequestError> {
    let core = &r.loc().core;
    let (to_file, keep_name) = {
        let body = r.body.borrow();
        (body.to_file, body.keep_name)
    };
    let wanted = core.client_body_in_file_only;
    let mode = if to_file || keep_name { InFileOnly::Clean } else { wanted };
    let temp = core
        .client_body_temp_path
        .create(mode != InFileOnly::Off, if to_file { 0o660 } else { 0 })
        .map_err(|(path, error)| file_error("open()", &path, &error))?;
    let path = String::from_utf8_lossy(&temp.path);
    match wanted {
        _ if to_file => {}
        InFileOnly::Off => crate::warn!(r, "a client request body is buffered to a temporary file {path}"),
        _ => crate::notice!(r, "a client request body is buffered to a temporary file {path}"),
    }
    let body = BodyFile {
        file: Arc::new(temp.fd.into()),
        path: temp.path,
        len: 0.into(),
        clean: mode == InFileOnly::Clean,
    };
    r.body.borrow_mut().file = Some(Rc::new(body));
    Ok(())
}

fn append_file(r: &RequestRef, data: &[u8]) -> Result<(), RequestError> {
    let Some(file) = r.body.borrow().file.clone() else { return Ok(()) };
    (&*file.file).write_all(data).map_err(|error| file_error("write()", &file.path, &error))?;
    file.len.set(file.len.get() + data.len() as u64);
    Ok(())
}

fn file_error(call: &str, path: &[u8], error: &io::Error) -> RequestError {
    RequestError::Internal {
        status: 500,
        level: moonrest_core::Level::Crit,
        message: format!(
            "{call} \"{}\" failed ({})",
            String::from_utf8_lossy(path),
            moonrest_core::env::os_error(error)
        )
        .into(),
    }
}

/// Throws the rest of the body away so that the next request of the connection can be found.
///
/// # Errors
/// As [`read`].
pub async fn discard(r: &RequestRef) -> Result<(), RequestError> {
    if r.is_subrequest() {
        return Ok(());
    }
    {
        let mut body = r.body.borrow_mut();
        match body.state {
            BodyState::Unread | BodyState::Streamed => body.state = BodyState::Discarded,
            BodyState::Reading | BodyState::Complete | BodyState::Discarded => return Ok(()),
        }
    }
    if r.framing.get().body == Framed::None {
        return Ok(());
    }
    while let BodyRead::Data(_) = poll_fn(|cx| r.exchange.poll_body(r, cx)).await? {}
    Ok(())
}
