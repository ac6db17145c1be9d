//! How to talk to an upstream: what differs between HTTP, FastCGI and the like.

use crate::{
    phase::RequestError,
    request::{Request, RequestRef},
};
use bytes::Bytes;
use moonrest_proto::http1::ResponseHead;
use std::ops::Range;

/// One request's conversation, from its bytes to the answer's body. Answers are hostile input: what cannot be read in
/// one way only is refused.
pub trait Protocol {
    /// What log lines put before the address: `http://`.
    fn scheme(&self) -> &'static [u8];

    /// Whether it is spoken over HTTP/2: the request is written as text of HTTP/1 then, with `Host` for the authority,
    /// and the answer comes without the protocol's help.
    fn is_http2(&self) -> bool {
        false
    }

    /// Whether nothing is asked: connections carry what the client sends, and the head is the protocol's own.
    fn is_tunnel(&self) -> bool {
        false
    }

    /// Whether the answer has no body, whatever its head says.
    fn asks_head(&self, _r: &Request) -> bool {
        false
    }

    /// The length of an answer that ends with its head and does not say how long it is.
    fn length_of_nothing(&self) -> Option<u64> {
        None
    }

    /// Appends the request, all but its body; gives the part that log lines show behind the address.
    ///
    /// # Errors
    /// Settings that cannot be evaluated.
    fn request(
        &mut self,
        r: &RequestRef,
        body: RequestLength,
        out: &mut Vec<u8>,
    ) -> Result<Range<usize>, RequestError>;

    /// Makes it ready for the answer to the next attempt.
    fn reset(&mut self) {}

    /// The most bytes that may stand between [`Protocol::open_body`] and [`Protocol::close_body`].
    fn max_piece(&self) -> u64 {
        u64::MAX
    }

    /// Writes what stands before `len` bytes of the request's body.
    fn open_body(&mut self, _len: u64, _out: &mut Vec<u8>) {}

    /// Writes what stands behind them.
    fn close_body(&mut self, _out: &mut Vec<u8>) {}

    /// Writes what ends the request's body.
    fn end_body(&mut self, _out: &mut Vec<u8>) {}

    /// Reads the answer's head from all that has come so far.
    ///
    /// # Errors
    /// What is wrong with it, for the error log.
    fn read_head(&mut self, _input: &[u8], _head: &mut ResponseHead) -> Result<HeadStep, String> {
        Err("upstream sent bytes of another protocol".to_owned())
    }

    /// Reads the body further: `input` begins where the last step ended.
    ///
    /// # Errors
    /// What is wrong with it, for the error log.
    fn read_body(&mut self, _input: &[u8]) -> Result<BodyStep, String> {
        Err("upstream sent bytes of another protocol".to_owned())
    }

    /// Whether the body may end with the connection, as it does now.
    fn may_end(&self) -> bool {
        false
    }

    /// What to say when more has come than the body's end.
    fn excess(&self) -> &'static str {
        "upstream sent more data than specified in \"Content-Length\" header"
    }

    /// The fields that came behind the body.
    fn trailers(&self) -> Vec<(Bytes, Bytes)> {
        Vec::new()
    }

    /// Appends the key of a cached answer, where the configuration gives none.
    ///
    /// # Errors
    /// A request that cannot be made.
    fn cache_key(&self, _r: &RequestRef, _out: &mut Vec<u8>) -> Result<(), RequestError> {
        Ok(())
    }

    /// Edits a redirect (`Location`, and the URL in `Refresh`); `None` leaves it as it is.
    ///
    /// # Errors
    /// Rules that cannot be evaluated.
    fn rewrite_redirect(&self, _r: &RequestRef, _url: &[u8]) -> Result<Option<Vec<u8>>, RequestError> {
        Ok(None)
    }

    /// Whether redirects are edited at all: otherwise a path in `Location` is left as it is.
    fn rewrites_redirects(&self) -> bool {
        false
    }

    /// Edits a cookie; `None` leaves it as it is.
    ///
    /// # Errors
    /// Rules that cannot be evaluated.
    fn rewrite_cookie(&self, _r: &RequestRef, _cookie: &[u8]) -> Result<Option<Vec<u8>>, RequestError> {
        Ok(None)
    }
}

/// How long the request's body will be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestLength {
    /// There is none.
    None,
    Known(u64),
    /// It is passed on while it comes, in chunks.
    Unknown,
}

/// What reading a head came to.
pub enum HeadStep {
    More,
    /// An interim answer of so many bytes; another head follows.
    Interim(usize),
    /// So many bytes belong to no head.
    Skip(usize),
    /// A head of so many bytes.
    Done(usize, Framing),
}

/// What the head says about what follows.
#[derive(Clone, Debug, Default)]
pub struct Framing {
    pub content_length: Option<u64>,
    /// There is no body.
    pub empty: bool,
    /// The connection may be kept behind the body.
    pub keep_alive: bool,
    /// What follows is no longer this protocol.
    pub tunnel: bool,
    /// The text that the head's spans point into, when it is not what was read.
    pub text: Option<Bytes>,
}

/// What reading a body came to.
pub enum BodyStep {
    /// Data: a range of the input. The next step begins behind it.
    Data(Range<usize>),
    /// The input is used up to here; more is needed.
    More(usize),
    /// The body ends here.
    End(usize),
}
