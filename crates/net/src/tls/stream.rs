//! A session over its socket. The buffers belong to the thread: a stream owns bytes only when a record has come in part
//! or could not be sent in whole.

use super::session::{Session, Side, encrypt};
use crate::io::Io;
use rustls::server::UnbufferedServerConnection;
use std::{
    cell::RefCell,
    io::{self, IoSlice},
    task::{Context, Poll, ready},
};

/// How much is received at once.
const RECEIVE: usize = 32 * 1024;
/// How much plaintext is encrypted for one writing call.
const SEND: usize = 64 * 1024;
/// Data in several pieces is put together up to this, so that it does not become several records.
const GATHER: usize = 16 * 1024;

/// What the streams of a thread share.
#[derive(Default)]
struct Scratch {
    /// Received records.
    received: Vec<u8>,
    /// Records to be sent; never shortened, so that it need not be filled again.
    records: Vec<u8>,
    /// Plaintext put together.
    plain: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A stream to a client, encrypted or not: on a socket for TLS a client may speak plainly by mistake.
pub type Stream = Secured<UnbufferedServerConnection>;

/// A socket and, once there is one, the session on it.
pub struct Secured<S: Side> {
    pub(super) io: Io,
    pub(super) session: RefCell<Option<Session<S>>>,
}

impl<S: Side> Secured<S> {
    /// A stream without a session.
    pub fn plain(io: Io) -> Self {
        Self { io, session: RefCell::new(None) }
    }

    /// A stream whose session is about to begin.
    pub fn new(io: Io, session: Session<S>) -> Self {
        Self { io, session: RefCell::new(Some(session)) }
    }

    /// The socket below.
    pub fn io(&self) -> &Io {
        &self.io
    }

    /// Puts a session on the socket.
    pub fn begin(&self, session: Session<S>) {
        *self.session.borrow_mut() = Some(session);
    }

    /// Whether there is a session.
    pub fn is_encrypted(&self) -> bool {
        self.session.borrow().is_some()
    }

    /// Calls `f` with the session's state, if there is a session.
    pub fn with_side<R>(&self, f: impl FnOnce(&S) -> R) -> Option<R> {
        self.session.borrow().as_ref().map(|session| f(&session.side))
    }

    /// The library's error that ended the session.
    pub fn failure(&self) -> Option<rustls::Error> {
        self.session.borrow().as_ref()?.failed.as_deref().cloned()
    }

    /// Whether data came before the handshake was over.
    pub fn had_early(&self) -> bool {
        self.session.borrow().as_ref().is_some_and(|session| session.had_early)
    }

    /// Whether the peer has ended the session in order.
    pub fn peer_closed(&self) -> bool {
        self.session.borrow().as_ref().is_some_and(|session| session.peer_closed)
    }

    /// Whether records wait to be sent.
    pub fn has_pending(&self) -> bool {
        self.session.borrow().as_ref().is_some_and(Session::has_pending)
    }

    /// Whether bytes have been received that were not read.
    pub fn has_unread(&self) -> bool {
        let slot = self.session.borrow();
        slot.as_ref().is_some_and(|session| !session.plain.is_empty() || !session.incoming.is_empty())
    }

    /// Keeps plaintext for the next read.
    pub(super) fn keep(&self, mut plain: Vec<u8>) {
        if let Some(session) = &mut *self.session.borrow_mut() {
            session.plain.append(&mut plain);
        }
    }

    /// Reads plaintext to the end of `buffer`; 0 is the end of the stream.
    pub fn poll_read(&self, buffer: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slot = self.session.borrow_mut();
        let Some(session) = &mut *slot else { return self.io.poll_read(buffer, cx) };
        if !session.plain.is_empty() {
            let n = session.plain.len();
            buffer.append(&mut std::mem::take(&mut session.plain));
            return Poll::Ready(Ok(n));
        }
        loop {
            if session.peer_closed {
                return Poll::Ready(Ok(0));
            }
            let before = buffer.len();
            if ready!(self.poll_receive(session, buffer, cx))? == 0 || buffer.len() > before {
                return Poll::Ready(Ok(buffer.len() - before));
            }
        }
    }

    /// Receives once and deals with it. 0 when the socket has ended.
    fn poll_receive(
        &self,
        session: &mut Session<S>,
        plain: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.io.poll_readable(cx))?;
        SCRATCH.with_borrow_mut(|scratch| {
            let received = &mut scratch.received;
            received.clear();
            received.extend_from_slice(&session.incoming);
            received.reserve(RECEIVE);
            let n = ready!(self.io.poll_read(received, cx))?;
            if n == 0 {
                return Poll::Ready(Ok(0));
            }
            let result = session.run(received, plain, None);
            let done = match result {
                Ok(done) => done,
                Err(error) => {
                    // What the library has to say about it goes out as far as it can.
                    let _ = self.send_pending(session);
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
            };
            let rest = received.get(done..).unwrap_or_default();
            if rest.is_empty() {
                session.incoming = Vec::new();
            } else {
                session.incoming.clear();
                session.incoming.extend_from_slice(rest);
            }
            match self.send_pending(session) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => Poll::Ready(Err(error)),
                _ => Poll::Ready(Ok(n)),
            }
        })
    }

    /// Sends what is queued as far as the socket takes it.
    fn send_pending(&self, session: &mut Session<S>) -> io::Result<()> {
        while session.has_pending() {
            let rest = session.outgoing.get(session.sent..).unwrap_or_default();
            session.sent += self.io.try_write(&[IoSlice::new(rest)], false)?;
        }
        if session.sent > 0 {
            session.outgoing = Vec::new();
            session.sent = 0;
        }
        Ok(())
    }

    /// Sends what is queued. Ready when nothing is left.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut slot = self.session.borrow_mut();
        let Some(session) = &mut *slot else { return Poll::Ready(Ok(())) };
        loop {
            match self.send_pending(session) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.io.poll_writable(cx))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return Poll::Ready(other),
            }
        }
    }

    /// Goes on with the handshake. Ready when it is over, or when data has come before its end: that is appended to
    /// `plain`, as is what came right behind it.
    pub fn poll_handshake(&self, plain: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>>
    where
        S: Handshaking,
    {
        loop {
            {
                let mut slot = self.session.borrow_mut();
                let Some(session) = &mut *slot else { return Poll::Ready(Ok(())) };
                if let Err(error) = session.run_received(plain, None) {
                    let _ = self.send_pending(session);
                    return Poll::Ready(Err(Broken::Tls(error)));
                }
            }
            ready!(self.poll_flush(cx)).map_err(Broken::Io)?;
            let mut slot = self.session.borrow_mut();
            let Some(session) = &mut *slot else { return Poll::Ready(Ok(())) };
            if !session.side.is_handshaking() || session.had_early {
                return Poll::Ready(Ok(()));
            }
            match ready!(self.poll_receive(session, plain, cx)) {
                Ok(0) => return Poll::Ready(Err(Broken::Closed)),
                Ok(_) => {}
                Err(error) => {
                    let broken = match session.failed.as_deref() {
                        Some(error) => Broken::Tls(error.clone()),
                        None => Broken::Io(error),
                    };
                    return Poll::Ready(Err(broken));
                }
            }
            if session.peer_closed && session.side.is_handshaking() {
                return Poll::Ready(Err(Broken::Closed));
            }
        }
    }

    /// Encrypts and sends what the socket takes; returns how much of the data is taken care of. Records that the socket
    /// did not take leave with the next call, which comes back with `WouldBlock` until they have left.
    ///
    /// # Errors
    /// `WouldBlock`, the system's, or the library's.
    pub fn try_write(&self, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
        let mut slot = self.session.borrow_mut();
        let Some(session) = &mut *slot else { return self.io.try_write(slices, more) };
        self.send_pending(session)?;
        SCRATCH.with_borrow_mut(|scratch| {
            let Scratch { records, plain, .. } = scratch;
            let mut end = 0;
            let mut taken = 0;
            let mut result = Ok(());
            let mut surfaced = Vec::new();
            let run = session.run_received(
                &mut surfaced,
                Some(&mut |traffic| {
                    result = pieces(slices, plain, |data| {
                        end = encrypt(traffic, data, records, end)?;
                        taken += data.len();
                        Ok(())
                    });
                }),
            );
            session.plain.append(&mut surfaced);
            let outcome = run.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
            outcome.and(result)?;
            if taken == 0 && slices.iter().any(|slice| !slice.is_empty()) {
                // The handshake does not allow it yet.
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.send_records(session, records.get(..end).unwrap_or_default(), more)?;
            Ok(taken)
        })
    }

    /// Sends records, keeping what the socket does not take.
    fn send_records(&self, session: &mut Session<S>, records: &[u8], more: bool) -> io::Result<()> {
        // A key update may have come before them.
        let sent = if session.has_pending() {
            0
        } else {
            match self.io.try_write(&[IoSlice::new(records)], more) {
                Ok(n) => n,
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
                {
                    0
                }
                Err(error) => return Err(error),
            }
        };
        session.outgoing.extend_from_slice(records.get(sent..).unwrap_or_default());
        Ok(())
    }

    /// Says that nothing more will be sent, as far as the socket takes it at once.
    pub fn close(&self) {
        let mut slot = self.session.borrow_mut();
        let Some(session) = &mut *slot else { return };
        if !session.has_pending() || self.send_pending(session).is_ok() {
            session.queue_close();
            let _ = self.send_pending(session);
        }
    }
}

impl Stream {
    /// The random bytes in the server's first message.
    pub fn server_random(&self) -> Option<[u8; 32]> {
        self.session.borrow_mut().as_mut()?.server_random.take().map(|random| *random)
    }

    /// The session identifier that a handshake of TLS 1.2 agreed on.
    pub fn session_id(&self) -> Option<Box<[u8]>> {
        self.session.borrow_mut().as_mut()?.session_id.take()
    }
}

/// Hands out at most [`SEND`] bytes: large pieces as they are, small ones put together.
fn pieces(
    slices: &[IoSlice<'_>],
    plain: &mut Vec<u8>,
    mut take: impl FnMut(&[u8]) -> Result<(), rustls::unbuffered::EncryptError>,
) -> io::Result<()> {
    let exhausted = |error| io::Error::other(format!("{error}"));
    let mut room = SEND;
    if let [only] = slices {
        return take(only.get(..room).unwrap_or(only)).map_err(exhausted);
    }
    plain.clear();
    for slice in slices {
        let mut rest: &[u8] = slice.get(..room).unwrap_or(slice);
        room -= rest.len();
        if !plain.is_empty() || rest.len() < GATHER {
            let (first, behind) = rest.split_at_checked(GATHER - plain.len()).unwrap_or((rest, &[]));
            plain.extend_from_slice(first);
            rest = behind;
            if plain.len() == GATHER {
                take(plain).map_err(exhausted)?;
                plain.clear();
            }
        }
        let whole = rest.len() - rest.len() % GATHER;
        if let (whole @ [_, ..], behind) = rest.split_at_checked(whole).unwrap_or((rest, &[])) {
            take(whole).map_err(exhausted)?;
            rest = behind;
        }
        plain.extend_from_slice(rest);
    }
    if plain.is_empty() { Ok(()) } else { take(plain).map_err(exhausted) }
}

/// A side that knows whether its handshake is over.
pub trait Handshaking: Side {
    fn is_handshaking(&self) -> bool;
}

impl Handshaking for UnbufferedServerConnection {
    fn is_handshaking(&self) -> bool {
        (**self).is_handshaking()
    }
}

impl Handshaking for rustls::client::UnbufferedClientConnection {
    fn is_handshaking(&self) -> bool {
        (**self).is_handshaking()
    }
}

/// Why a handshake came to nothing.
#[derive(Debug)]
pub enum Broken {
    /// The peer has gone.
    Closed,
    Io(io::Error),
    Tls(rustls::Error),
}
