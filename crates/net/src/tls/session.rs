//! One TLS session without its socket: bytes received become plaintext, plaintext becomes records to be sent.
//!
//! The library works in place on what was received and writes into a buffer that it is given, so that an idle session
//! owns no buffer at all; see [`super::stream`] for the buffers.

use rustls::{
    client::UnbufferedClientConnection,
    server::UnbufferedServerConnection,
    unbuffered::{
        ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, ReadEarlyData,
        UnbufferedStatus, WriteTraffic,
    },
};

/// What a peer may make us queue without reading any of it: more than a handshake ever needs.
const MAX_QUEUED: usize = 256 * 1024;

/// One side of the protocol, as rustls has it.
pub trait Side {
    type Data;

    /// The next thing to do.
    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// Whether it has something to say.
    fn wants_write(&self) -> bool;

    /// Takes data out that came before the handshake was over.
    fn take_early(early: ReadEarlyData<'_, '_, Self::Data>, out: &mut Vec<u8>);
}

impl Side for UnbufferedServerConnection {
    type Data = rustls::server::ServerConnectionData;

    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn wants_write(&self) -> bool {
        rustls::CommonState::wants_write(self)
    }

    fn take_early(mut early: ReadEarlyData<'_, '_, Self::Data>, out: &mut Vec<u8>) {
        while let Some(Ok(record)) = early.next_record() {
            out.extend_from_slice(record.payload);
        }
    }
}

impl Side for UnbufferedClientConnection {
    type Data = rustls::client::ClientConnectionData;

    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn wants_write(&self) -> bool {
        rustls::CommonState::wants_write(self)
    }

    fn take_early(_early: ReadEarlyData<'_, '_, Self::Data>, _out: &mut Vec<u8>) {
        // Servers send none.
    }
}

/// A session and what it has not dealt with yet.
pub struct Session<S: Side> {
    pub(super) side: S,
    /// Received, and not a whole record or message yet.
    pub(super) incoming: Vec<u8>,
    /// Records to be sent, from `sent` on.
    pub(super) outgoing: Vec<u8>,
    pub(super) sent: usize,
    /// Plaintext that came up while something was written.
    pub(super) plain: Vec<u8>,
    /// The peer has said that it is done.
    pub(super) peer_closed: bool,
    /// Ours has been said.
    pub(super) closed: bool,
    /// Data came before the handshake was over.
    pub(super) had_early: bool,
    pub(super) failed: Option<Box<rustls::Error>>,
    /// What a server's first message gives the session as its name.
    pub(super) session_id: Option<Box<[u8]>>,
    /// The random bytes in it.
    pub(super) server_random: Option<Box<[u8; 32]>>,
}

/// Does something with a session that may send.
pub(super) type Writing<'w, S> = &'w mut dyn FnMut(&mut WriteTraffic<'_, <S as Side>::Data>);

impl<S: Side> Session<S> {
    /// A session about to begin; `received` has been read of it already.
    pub fn new(side: S, received: Vec<u8>) -> Self {
        Self {
            side,
            incoming: received,
            outgoing: Vec::new(),
            sent: 0,
            plain: Vec::new(),
            peer_closed: false,
            closed: false,
            had_early: false,
            failed: None,
            session_id: None,
            server_random: None,
        }
    }

    /// Whether records wait to be sent.
    pub fn has_pending(&self) -> bool {
        self.sent < self.outgoing.len()
    }

    /// Deals with `data`, appending plaintext to `plain`, and calls `write` once if the session may send by then.
    /// Returns how much of `data` is done with.
    pub(super) fn run(
        &mut self,
        data: &mut [u8],
        plain: &mut Vec<u8>,
        mut write: Option<Writing<'_, S>>,
    ) -> Result<usize, rustls::Error> {
        if let Some(error) = &self.failed {
            return Err((**error).clone());
        }
        let mut at = 0;
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.side.step(data.get_mut(at..).unwrap_or_default());
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::ReadEarlyData(early)) => {
                    self.had_early = true;
                    S::take_early(early, plain);
                }
                Ok(ConnectionState::EncodeTlsData(encode)) => {
                    let start = self.outgoing.len();
                    queue(encode, &mut self.outgoing);
                    if self.session_id.is_none() {
                        let made = server_hello(self.outgoing.get(start..).unwrap_or_default());
                        if let Some((random, id)) = made {
                            self.server_random = Some(Box::new(*random));
                            self.session_id = (!id.is_empty()).then(|| id.into());
                        }
                    }
                    if self.outgoing.len() - self.sent > MAX_QUEUED {
                        let error = rustls::Error::General("the peer reads nothing".into());
                        self.failed = Some(Box::new(error.clone()));
                        return Err(error);
                    }
                }
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    if let Some(write) = write.take() {
                        write(&mut traffic);
                    }
                    return Ok(at + discard);
                }
                // Closed, blocked in the handshake, or something this version of the library does not have.
                Ok(_) => return Ok(at + discard),
                Err(error) => {
                    self.failed = Some(Box::new(error.clone()));
                    self.queue_alert();
                    return Err(error);
                }
            }
            at += discard;
        }
    }

    /// What the library wants to tell the peer about its failure.
    fn queue_alert(&mut self) {
        // Only then: for anything else it would look for what it has seen of a message that has come in part.
        while self.side.wants_write()
            && let UnbufferedStatus { state: Ok(ConnectionState::EncodeTlsData(encode)), .. } =
                self.side.step(&mut [])
        {
            queue(encode, &mut self.outgoing);
        }
    }

    /// Deals with what was received before.
    pub(super) fn run_received(
        &mut self,
        plain: &mut Vec<u8>,
        write: Option<Writing<'_, S>>,
    ) -> Result<(), rustls::Error> {
        let mut incoming = std::mem::take(&mut self.incoming);
        let done = self.run(&mut incoming, plain, write)?;
        incoming.drain(..done.min(incoming.len()));
        if !incoming.is_empty() {
            self.incoming = incoming;
        }
        Ok(())
    }

    /// Queues our `close_notify`, once.
    pub(super) fn queue_close(&mut self) {
        if std::mem::replace(&mut self.closed, true) || self.failed.is_some() {
            return;
        }
        let mut notice = Vec::new();
        let mut plain = std::mem::take(&mut self.plain);
        let result = self.run_received(
            &mut plain,
            Some(&mut |traffic| {
                let mut room = [0; 128];
                if let Ok(len) = traffic.queue_close_notify(&mut room) {
                    notice.extend_from_slice(room.get(..len).unwrap_or_default());
                }
            }),
        );
        self.plain = plain;
        if result.is_ok() {
            self.outgoing.extend_from_slice(&notice);
        }
    }
}

/// The random bytes and the session identifier in a record with a `ServerHello`.
fn server_hello(record: &[u8]) -> Option<(&[u8; 32], &[u8])> {
    // Record: type, version, length. Message: type, length. Hello: version, random, identifier behind its length.
    let rest = record.strip_prefix(&[22])?.get(4..)?.strip_prefix(&[2])?.get(3 + 2..)?;
    let (random, rest) = rest.split_first_chunk::<32>()?;
    let (&len, rest) = rest.split_first()?;
    Some((random, rest.get(..usize::from(len))?))
}

/// Encodes a message behind what is queued.
fn queue<D>(mut encode: EncodeTlsData<'_, D>, outgoing: &mut Vec<u8>) {
    let start = outgoing.len();
    let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = encode.encode(&mut [])
    else {
        return;
    };
    outgoing.resize(start + required_size, 0);
    let written = encode.encode(outgoing.get_mut(start..).unwrap_or_default()).unwrap_or(0);
    outgoing.truncate(start + written);
}

/// Encrypts `data` behind `out[..at]`, making room first where there is too little; returns the new end.
pub(super) fn encrypt<D>(
    traffic: &mut WriteTraffic<'_, D>,
    data: &[u8],
    out: &mut Vec<u8>,
    at: usize,
) -> Result<usize, EncryptError> {
    match traffic.encrypt(data, out.get_mut(at..).unwrap_or_default()) {
        Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
            out.resize(at + required_size, 0);
            Ok(at + traffic.encrypt(data, out.get_mut(at..).unwrap_or_default())?)
        }
        other => Ok(at + other?),
    }
}
