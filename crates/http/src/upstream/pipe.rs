//! Buffered answers: the upstream is read as fast as it sends, into memory and then a temporary file, while the client
//! takes what it can.

use super::{
    body::{Broken, Decoded},
    run::Run,
};
use crate::{
    filter::{FileRange, FilterStep, OpenFile, Piece},
    phase::{LocalBoxFuture, RequestError},
};
use moonrest_core::Level;
use moonrest_net::sleep::{Sleep, sleep};
use moonrest_sys::time::monotonic_ms;
use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

/// Times that the upstream is read before other requests get their turn.
const TURN: u32 = 16;

/// An answer on its way through.
pub(super) struct Pipe {
    pending: VecDeque<Piece>,
    /// Bytes of `pending` in memory.
    memory: u64,
    /// A piece that waits on its way to the client.
    sending: Option<LocalBoxFuture<Result<(), RequestError>>>,
    upstream: Upstream,
    file: Option<Overflow>,
    rate: Option<Rate>,
    /// The client is gone; only what records the answer goes on.
    deaf: bool,
}

#[derive(PartialEq, Eq)]
enum Upstream {
    Reading,
    Ended,
    Broken,
}

/// What does not fit into memory.
struct Overflow {
    file: Rc<OpenFile>,
    len: u64,
}

/// `limit_rate` towards us.
struct Rate {
    /// Bytes per second.
    limit: u64,
    since: u64,
    read: u64,
    sleep: Option<Sleep>,
}

impl Run {
    /// Passes the body on; `deaf` when there is no client to take it.
    pub(super) async fn pipe(&mut self, deaf: bool) -> Result<(), RequestError> {
        let mut pipe = self.new_pipe(deaf);
        poll_fn(|cx| self.poll_pipe(&mut pipe, cx)).await
    }

    /// Passes on what has come of the body already; what is left of it, if anything, is for [`Run::poll_pipe`].
    pub(super) fn pipe_at_once(&mut self, deaf: bool) -> Result<Option<Pipe>, RequestError> {
        if deaf || self.recorder.is_some() {
            return Ok(Some(self.new_pipe(deaf)));
        }
        loop {
            match self.decode() {
                Ok(Decoded::Data(data)) => {
                    if let FilterStep::Wait(wait) = self.r.output(Piece::Data(data))? {
                        return Ok(Some(Pipe { sending: Some(wait), ..self.new_pipe(deaf) }));
                    }
                }
                Ok(Decoded::Need) => return Ok(Some(self.new_pipe(deaf))),
                Ok(Decoded::End) => return Ok(None),
                Err(broken) => {
                    let mut pipe = self.new_pipe(deaf);
                    self.break_off(&mut pipe, broken);
                    return Ok(Some(pipe));
                }
            }
        }
    }

    fn new_pipe(&self, deaf: bool) -> Pipe {
        let limit = self.conf.limit_rate.as_ref().map(|rate| rate.eval(&*self.r));
        let limit = limit.and_then(|rate| moonrest_core::conf::value::parse_size(&rate)).unwrap_or(0);
        let rate = (limit > 0).then(|| Rate { limit, since: monotonic_ms(), read: 0, sleep: None });
        Pipe {
            pending: VecDeque::new(),
            memory: 0,
            sending: None,
            upstream: Upstream::Reading,
            file: None,
            rate,
            deaf,
        }
    }

    pub(super) fn poll_pipe(
        &mut self,
        pipe: &mut Pipe,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), RequestError>> {
        for _ in 0..TURN {
            self.keep_sending_beside(cx)?;
            self.fill_pipe(pipe);
            if let Err(error) = self.poll_drain(pipe, cx) {
                if self.recorder.is_none() {
                    return Poll::Ready(Err(error));
                }
                pipe.deaf = true;
                pipe.sending = None;
            }
            if pipe.deaf {
                pipe.pending.clear();
                pipe.memory = 0;
            }
            let empty = pipe.pending.is_empty() && pipe.sending.is_none();
            match pipe.upstream {
                Upstream::Ended if empty => return Poll::Ready(Ok(())),
                Upstream::Broken if empty => {
                    return Poll::Ready(Err(RequestError::Upstream { status: 502, message: "".into() }));
                }
                Upstream::Ended | Upstream::Broken => return self.poll_gone(cx).map(Err),
                Upstream::Reading => {}
            }
            match self.poll_fill(pipe, cx) {
                Poll::Ready(()) => {}
                Poll::Pending if pipe.deaf => return Poll::Pending,
                Poll::Pending => return self.poll_gone(cx).map(Err),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Decodes what was read, as far as there is room.
    fn fill_pipe(&mut self, pipe: &mut Pipe) {
        while pipe.upstream == Upstream::Reading && !self.rest_waits(pipe) {
            match self.decode() {
                Ok(Decoded::Data(data)) => {
                    pipe.memory += data.len() as u64;
                    pipe.pending.push_back(Piece::Data(data));
                }
                Ok(Decoded::Need) => break,
                Ok(Decoded::End) => pipe.upstream = Upstream::Ended,
                Err(broken) => self.break_off(pipe, broken),
            }
        }
    }

    fn rest_waits(&self, pipe: &Pipe) -> bool {
        pipe.memory >= self.conf.buffers && !self.rest.is_empty()
    }

    fn break_off(&mut self, pipe: &mut Pipe, broken: Broken) {
        self.act("reading upstream");
        self.give_up(broken);
        pipe.upstream = Upstream::Broken;
    }

    /// Gives the client what it takes.
    fn poll_drain(&mut self, pipe: &mut Pipe, cx: &mut Context<'_>) -> Result<(), RequestError> {
        let r = self.r.clone();
        loop {
            if let Some(sending) = &mut pipe.sending {
                match sending.as_mut().poll(cx) {
                    Poll::Ready(result) => {
                        pipe.sending = None;
                        result?;
                    }
                    Poll::Pending => return Ok(()),
                }
            }
            if pipe.pending.is_empty() || pipe.deaf {
                return Ok(());
            }
            // The output of a subrequest is held until its turn comes.
            let low = if r.is_subrequest() { self.conf.buffers } else { self.conf.busy_buffers_size - 1 };
            let low = usize::try_from(low).unwrap_or(usize::MAX);
            match r.exchange.poll_drained(&r, low, cx) {
                Poll::Ready(result) => result?,
                Poll::Pending => {
                    self.act("sending to client");
                    return Ok(());
                }
            }
            let Some(piece) = pipe.pending.pop_front() else { return Ok(()) };
            if let Piece::Data(data) = &piece {
                pipe.memory -= data.len() as u64;
            }
            if let FilterStep::Wait(wait) = r.output(piece)? {
                pipe.sending = Some(wait);
            }
        }
    }

    /// Reads more from the upstream if there is room for it. Ready when something has changed.
    fn poll_fill(&mut self, pipe: &mut Pipe, cx: &mut Context<'_>) -> Poll<()> {
        if pipe.memory >= self.conf.buffers {
            return match self.spill(pipe) {
                Ok(true) => Poll::Ready(()),
                // No room: the upstream waits for the client.
                Ok(false) => {
                    self.pause();
                    Poll::Pending
                }
                Err(message) => {
                    self.break_off(pipe, Broken::Log(Level::Crit, message));
                    Poll::Ready(())
                }
            };
        }
        let room = usize::try_from(self.conf.buffers - pipe.memory).unwrap_or(usize::MAX);
        let Some(room) = poll_rate(&mut pipe.rate, room, cx) else {
            self.pause();
            return Poll::Pending;
        };
        let before = self.rest.len();
        match self.poll_more(room, cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(false)) => {
                if let Some(rate) = &mut pipe.rate {
                    rate.read += (self.rest.len() - before) as u64;
                }
                Poll::Ready(())
            }
            Poll::Ready(Ok(true)) => {
                pipe.upstream = Upstream::Ended;
                Poll::Ready(())
            }
            Poll::Ready(Err(broken)) => {
                self.break_off(pipe, broken);
                Poll::Ready(())
            }
        }
    }

    /// Moves what waits in memory to a temporary file. `false` when there may be none, or it is full.
    fn spill(&mut self, pipe: &mut Pipe) -> Result<bool, String> {
        if let Some(recorder) = &mut self.recorder
            && let Some((file, end)) = recorder.spill(&self.r)
        {
            // What waits is the end of what is in that file.
            let len = pipe.pending.iter().map(Piece::len).sum();
            pipe.pending =
                VecDeque::from([Piece::File(FileRange { file, start: end.saturating_sub(len), end })]);
            pipe.memory = 0;
            return Ok(true);
        }
        if self.conf.max_temp_file_size == 0 || pipe.memory == 0 {
            return Ok(false);
        }
        if pipe.file.is_none() {
            pipe.file = Some(self.open_overflow()?);
        }
        let Some(overflow) = &mut pipe.file else { return Ok(false) };
        if overflow.len >= self.conf.max_temp_file_size {
            return Ok(false);
        }
        let mut spilled: VecDeque<Piece> = VecDeque::new();
        for piece in std::mem::take(&mut pipe.pending) {
            let range = match piece {
                Piece::Data(data) => {
                    let start = overflow.len;
                    moonrest_sys::file::pwrite_all(&*overflow.file.file, &data, start).map_err(|error| {
                        let name = String::from_utf8_lossy(&overflow.file.name);
                        format!("pwrite() \"{name}\" failed ({})", moonrest_core::env::os_error(&error))
                    })?;
                    overflow.len += data.len() as u64;
                    FileRange { file: overflow.file.clone(), start, end: overflow.len }
                }
                Piece::File(range) => range,
                _ => continue,
            };
            match spilled.back_mut() {
                Some(Piece::File(last)) if Rc::ptr_eq(&last.file, &range.file) && last.end == range.start => {
                    last.end = range.end;
                }
                _ => spilled.push_back(Piece::File(range)),
            }
        }
        pipe.pending = spilled;
        pipe.memory = 0;
        Ok(true)
    }

    fn open_overflow(&self) -> Result<Overflow, String> {
        let temp = self.conf.temp_path.create(false, 0).map_err(|(path, error)| {
            let path = String::from_utf8_lossy(&path);
            format!("open() \"{path}\" failed ({})", moonrest_core::env::os_error(&error))
        })?;
        self.act("reading upstream");
        let path = String::from_utf8_lossy(&temp.path);
        self.log(Level::Warn, format_args!("an upstream response is buffered to a temporary file {path}"));
        let core = &self.r.loc().core;
        let file = OpenFile {
            file: std::sync::Arc::new(temp.fd.into()),
            name: temp.path,
            direct: false,
            threads: false,
            sendfile: core.sendfile,
        };
        Ok(Overflow { file: Rc::new(file), len: 0 })
    }
}

/// How much may be read now; none while the rate forbids it.
fn poll_rate(rate: &mut Option<Rate>, room: usize, cx: &mut Context<'_>) -> Option<usize> {
    let Some(rate) = rate else { return Some(room) };
    loop {
        if let Some(waiting) = &mut rate.sleep {
            if Pin::new(waiting).poll(cx).is_pending() {
                return None;
            }
            rate.sleep = None;
        }
        let seconds = monotonic_ms().saturating_sub(rate.since) / 1000 + 1;
        let allowed = rate.limit.saturating_mul(seconds);
        if rate.read < allowed {
            let left = usize::try_from(allowed - rate.read).unwrap_or(usize::MAX);
            return Some(room.min(left));
        }
        rate.sleep = Some(sleep((rate.read - allowed).saturating_mul(1000) / rate.limit + 1));
    }
}
