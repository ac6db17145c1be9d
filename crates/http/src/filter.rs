//! Header and body filters: what may change a response on its way out.

use crate::{
    phase::{LocalBoxFuture, RequestError},
    request::RequestRef,
    subrequest::Subrequest,
};
use bytes::Bytes;
use smallvec::SmallVec;
use std::{fs::File, rc::Rc};

/// Where a header filter stands; executed from first to last, as nginx executes them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum HeaderOrder {
    Slice,
    NotModified,
    RdsCsv,
    RdsJson,
    HeadersMore,
    Lua,
    SrcacheStore,
    Xss,
    Echo,
    Iconv,
    Headers,
    Userid,
    Gunzip,
    Addition,
    Sub,
    Image,
    Xslt,
    Charset,
    Ssi,
    /// brotli and zstd stand beside gzip and are asked before it.
    Zstd,
    Brotli,
    Gzip,
    Range,
}

impl HeaderOrder {
    /// Whether the filter there has nothing to say unless the request has conditions, or parts may be answered.
    pub(crate) fn is_rare(self) -> bool {
        matches!(self, Self::NotModified | Self::Range)
    }
}

/// Where a body filter stands. Filters before `Copy` see files as ranges; those behind get bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum BodyOrder {
    Slice,
    Range,
    /// The engine's own: reads file ranges into memory for the filters behind it.
    Copy,
    RdsCsv,
    RdsJson,
    Lua,
    SrcacheStore,
    Xss,
    Echo,
    Iconv,
    Trailers,
    Gunzip,
    Addition,
    Sub,
    Image,
    Xslt,
    Charset,
    Ssi,
    /// The engine's own: puts subrequests' output in its place. A subrequest's output goes on from here in its main
    /// request's chain.
    Postpone,
    Zstd,
    Brotli,
    Gzip,
}

/// What a filter answers: done, or wait for this first. A waiting filter has already taken its piece.
pub enum FilterStep<T> {
    Now(T),
    Wait(LocalBoxFuture<Result<T, RequestError>>),
}

/// A body filter that one response needs, and its place in the chain.
pub type Needed = Option<(BodyOrder, Box<dyn BodyFilter>)>;

/// All that one response needs.
pub(crate) type AllNeeded = Vec<(BodyOrder, Box<dyn BodyFilter>)>;

/// Edits response heads, with the settings of one location.
pub trait HeaderFilter: Send + Sync {
    /// Edits the response head; returns the body filter this response needs, if any.
    ///
    /// # Errors
    /// Anything that makes the response impossible.
    fn filter(&self, r: &RequestRef) -> Result<FilterStep<Needed>, RequestError>;
}

/// Edits one response's body. Owns its state.
pub trait BodyFilter {
    /// Takes a piece and pushes what results to `out`. [`Piece::Last`] comes once, at the end, and must be passed on
    /// (behind what was held back). [`Piece::Flush`] asks to hold nothing back.
    ///
    /// # Errors
    /// Anything that makes the rest of the response impossible; the connection is then cut.
    fn filter(
        &mut self,
        r: &RequestRef,
        piece: Piece,
        out: &mut Pieces,
    ) -> Result<FilterStep<()>, RequestError>;

    /// Whether it has more to put out for the piece it was given last: what it pushed goes on first, the client is given
    /// time to take it, then [`BodyFilter::more`] is called. So a small piece never becomes a large one in memory, and
    /// a filter can wait for a subrequest it pushed.
    fn pending(&self) -> bool {
        false
    }

    /// Puts out more.
    ///
    /// # Errors
    /// As [`BodyFilter::filter`].
    fn more(&mut self, _r: &RequestRef, _out: &mut Pieces) -> Result<(), RequestError> {
        Ok(())
    }

    /// The output of a subrequest is to stand here: what is held back must go before it.
    ///
    /// # Errors
    /// As [`BodyFilter::filter`].
    fn release(&mut self, _r: &RequestRef, _out: &mut Pieces) -> Result<(), RequestError> {
        Ok(())
    }

    /// Whether it must see bytes; `false` lets file ranges pass through unread.
    fn needs_memory(&self) -> bool {
        true
    }
}

/// A part of a response body.
#[derive(Debug)]
pub enum Piece {
    Data(Bytes),
    /// Read or sent later from a file.
    File(FileRange),
    /// The output of a subrequest belongs here.
    Subrequest(Subrequest),
    /// Send what there is now.
    Flush,
    /// The end of the response.
    Last,
}

impl Piece {
    /// Bytes of body in it, as far as known.
    pub fn len(&self) -> u64 {
        match self {
            Self::Data(data) => data.len() as u64,
            Self::File(range) => range.len(),
            _ => 0,
        }
    }

    /// Whether it carries no bytes of body.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Pieces in order; mostly one or two.
pub type Pieces = SmallVec<[Piece; 2]>;

/// Bytes `start..end` of an open file.
#[derive(Clone, Debug)]
pub struct FileRange {
    pub file: Rc<OpenFile>,
    pub start: u64,
    pub end: u64,
}

impl FileRange {
    /// Number of bytes.
    pub fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A file that is being sent, and how to read it.
#[derive(Debug)]
pub struct OpenFile {
    pub file: std::sync::Arc<File>,
    /// For log lines.
    pub name: Vec<u8>,
    /// Read past the page cache (`directio`).
    pub direct: bool,
    /// Read on the thread pool (`aio threads`).
    pub threads: bool,
    /// `sendfile` may be used (`sendfile on`).
    pub sendfile: bool,
}
