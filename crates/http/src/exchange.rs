//! The boundary between the engine and what carries a request: an HTTP/1 connection, an HTTP/2 stream, a parent
//! request, a buffer.

use crate::{
    filter::FileRange, location::ServerId, phase::RequestError, request::Request, tls::hook::Handshake,
};
use bytes::Bytes;
use moonrest_net::{addr::Addr, tls::Info};
use std::{
    any::Any,
    cell::{Cell, OnceCell},
    io,
    os::fd::BorrowedFd,
    rc::Rc,
    task::{Context, Poll},
};

/// Body data ready to leave.
pub enum Output {
    Data(Bytes),
    File(FileRange),
}

/// What reading the request body gave.
pub enum BodyRead {
    /// Some bytes, already decoded.
    Data(Bytes),
    /// The end; trailers, if any, are in the request.
    End,
}

/// One request's way out and in. All methods are called from the worker's thread.
pub trait Exchange {
    /// Serialises the response head from the request's [`crate::response::HeadersOut`]. `end` means that no body
    /// follows. Called once.
    ///
    /// # Errors
    /// When the connection is gone.
    fn send_head(&self, r: &Request, end: bool) -> Result<(), RequestError>;

    /// Sends an interim response (100, 103) with these fields.
    ///
    /// # Errors
    /// When the connection is gone.
    fn send_interim(&self, r: &Request, status: u16, fields: &[(Bytes, Bytes)]) -> Result<(), RequestError>;

    /// Queues body data. Never blocks; see [`Exchange::poll_drained`].
    ///
    /// # Errors
    /// When the connection is gone.
    fn push(&self, r: &Request, output: Output) -> Result<(), RequestError>;

    /// Queues a whole body that others have, too, and its end.
    ///
    /// # Errors
    /// As [`Exchange::push`].
    fn push_whole(&self, r: &Request, data: &Bytes) -> Result<(), RequestError> {
        self.push(r, Output::Data(data.clone()))?;
        self.finish(r)
    }

    /// The response ends here: queues the last chunk and the trailers.
    ///
    /// # Errors
    /// When the connection is gone.
    fn finish(&self, r: &Request) -> Result<(), RequestError>;

    /// Asks that what is queued be sent soon.
    fn flush(&self, r: &Request);

    /// Whether something limits how fast the response leaves, so that it takes its time to end.
    fn is_paced(&self) -> bool {
        false
    }

    /// Bytes that are queued and not yet written.
    fn queued(&self) -> u64 {
        0
    }

    /// Whether no more than `few` bytes are queued, and nothing limits how fast they leave.
    fn leaves_at_once(&self, few: u64) -> bool {
        self.queued() <= few && !self.is_paced()
    }

    /// Ready when no more than `low_water` bytes are queued.
    fn poll_drained(
        &self,
        r: &Request,
        low_water: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), RequestError>>;

    /// Reads the request body further.
    fn poll_body(&self, r: &Request, cx: &mut Context<'_>) -> Poll<Result<BodyRead, RequestError>>;

    /// The whole body of this announced length, if all of it has been received and none of it was given away.
    fn take_body(&self, _length: u64) -> Option<Bytes> {
        None
    }

    /// As [`Exchange::poll_body`], for readers that have a timeout of their own.
    fn poll_body_unhurried(&self, r: &Request, cx: &mut Context<'_>) -> Poll<Result<BodyRead, RequestError>> {
        self.poll_body(r, cx)
    }

    /// The connection itself, past HTTP; `None` where requests share it or there is none.
    fn raw(&self) -> Option<&dyn RawStream> {
        None
    }

    /// Reads what the client sends, whatever it is, once the response has switched protocols (101); nothing at its end.
    fn poll_raw(&self, _cx: &mut Context<'_>) -> Poll<std::io::Result<Bytes>> {
        Poll::Ready(Err(std::io::ErrorKind::Unsupported.into()))
    }

    /// Ready when the client has closed its side or the connection broke.
    fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// Closes without an answer (status 444, broken framing).
    fn abort(&self, r: &Request);

    /// An error is going to be answered: the driver decides whether the rest of the body is worth reading.
    fn error_starts(&self, _r: &Request, _status: u16) {}

    /// Throws away what has been received of the body, without waiting for more.
    ///
    /// # Errors
    /// 400 when its framing is broken.
    fn discard_received(&self, _r: &Request) -> Result<(), RequestError> {
        Ok(())
    }

    /// Sends `100 Continue` if the client waits for it and nothing was answered yet.
    ///
    /// # Errors
    /// When the connection is gone.
    fn expect_continue(&self, r: &Request) -> Result<(), RequestError>;

    /// The address the connection arrived at, asked of the system.
    fn local_addr(&self) -> Addr;

    /// Bytes sent so far for this request, head included (`$bytes_sent`).
    fn bytes_sent(&self) -> u64;

    /// What the kernel knows of the TCP connection (`$tcpinfo_*`).
    fn tcp_info(&self) -> Option<moonrest_sys::socket::TcpInfo> {
        None
    }

    /// For protocol-specific access (upgrade, raw socket).
    fn as_any(&self) -> &dyn Any;
}

/// A client's connection as a plain stream of bytes. What was received behind the request's head comes first.
pub trait RawStream {
    /// Takes the connection away from HTTP, until the request ends and the connection with it. `false` when something
    /// still waits to be sent.
    fn take_over(&self, r: &Request) -> bool;

    /// Whether a read may give something, if that is known without trying.
    fn is_readable(&self) -> Option<bool> {
        None
    }

    /// Ready when a read may give something, as far as that is known.
    fn poll_readable(&self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Reads into the spare room of `into`; 0 at the end of the stream.
    fn poll_read(&self, into: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<usize>>;

    /// Writes what is taken at once.
    ///
    /// # Errors
    /// `WouldBlock`, or the system's.
    fn try_write(&self, data: &[u8]) -> io::Result<usize>;

    /// Calls `f` with the descriptor.
    fn with_fd(&self, f: &mut dyn FnMut(BorrowedFd<'_>));

    /// Ready when a write may take something.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A client's connection, as requests see it.
pub struct Connection {
    /// `$connection`.
    pub number: u64,
    pub remote: Addr,
    /// The address the connection arrived at; looked up when first asked for.
    pub local: OnceCell<Box<Addr>>,
    /// The listener's number in its generation.
    pub listener: u32,
    /// Monotonic milliseconds when it was accepted.
    pub started: u64,
    /// Requests begun on it (`$connection_requests`).
    pub requests: Cell<u64>,
    /// What the PROXY protocol header said.
    pub proxy_protocol: OnceCell<Box<ProxyInfo>>,
    /// The server that speaks for it before a request names another: the address' default one, or that which the client
    /// named in its TLS handshake.
    pub server: Cell<ServerId>,
    /// What is known of the TLS session, if there is one.
    pub tls: OnceCell<Rc<Info>>,
    /// The handshake, if code took part in it.
    pub handshake: OnceCell<Rc<Handshake>>,
    /// The connection's socket, for `$tcpinfo_*`, options and peeking.
    pub socket: Cell<Option<std::os::fd::RawFd>>,
}

/// The PROXY protocol header of a connection.
#[derive(Clone, Debug, Default)]
pub struct ProxyInfo {
    pub source: Box<[u8]>,
    pub source_port: u16,
    pub source_ip: Option<std::net::IpAddr>,
    pub destination: Box<[u8]>,
    pub destination_port: u16,
    /// Type-length-value vectors of version 2, as sent.
    pub tlvs: Box<[u8]>,
}
