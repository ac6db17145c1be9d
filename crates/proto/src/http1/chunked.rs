//! The chunked coding. RFC 9112, 7.1, without leniency: every line ends in CR LF, sizes are checked for overflow, and
//! what a peer can repeat at will (extensions, trailer lines) has a limit.
//!
//! ```text
//! ┌► Size ─► SizeDigits ─► (Extension) ─► SizeLf ─┬─► Data ─► DataCr ─► DataLf ─┐
//! └───────────────────────────────────────────────│─────────────────────────────┘
//!                                        size 0   └─► Trailer ─► Done
//! ```

use super::field::{Field, FieldLine, is_forbidden_in_trailer, parse_line};
use std::ops::Range;

/// What a body in chunks may cost beyond its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkLimits {
    /// Bytes of chunk extensions, and of needless zeros, in the whole body.
    pub extensions: u32,
    /// Bytes of the trailer section, line breaks included.
    pub trailer: u32,
    /// Lines in the trailer section.
    pub trailer_lines: u32,
}

impl Default for ChunkLimits {
    fn default() -> Self {
        Self { extensions: 4096, trailer: 8192, trailer_lines: 100 }
    }
}

/// What the decoder found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Data of the body: a range of the input. Call again with what follows it.
    Data(Range<usize>),
    /// The input is used up to the offset; more is needed.
    Partial(usize),
    /// The body ends at the offset; what follows is the next message.
    End(usize),
}

/// Why a body is refused. The connection cannot be used again. nginx: "client sent invalid chunked body".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    /// A size that is no hexadecimal number, or does not fit 63 bits.
    InvalidSize,
    /// Data, a line or the body does not end in CR LF.
    InvalidLineEnd,
    /// A control character in an extension.
    InvalidExtension,
    /// A trailer line that is no field.
    InvalidTrailer,
    /// A limit was exceeded.
    TooLarge,
}

impl ChunkError {
    /// The status to answer a client with.
    #[must_use]
    pub fn status(self) -> u16 {
        400
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    SizeDigits,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailer,
    Done,
    Failed(ChunkError),
}

/// Takes the chunks off a body as it arrives.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    size: u64,
    limits: ChunkLimits,
    extensions: u32,
    trailer: Vec<u8>,
    line: usize,
    trailers: Vec<Field>,
    trailer_lines: u32,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(ChunkLimits::default())
    }
}

impl Decoder {
    /// For a body from its first byte.
    #[must_use]
    pub fn new(limits: ChunkLimits) -> Self {
        Self {
            state: State::Size,
            size: 0,
            limits,
            extensions: 0,
            trailer: Vec::new(),
            line: 0,
            trailers: Vec::new(),
            trailer_lines: 0,
        }
    }

    /// Makes it ready for another body, keeping its memory.
    pub fn reset(&mut self) {
        self.state = State::Size;
        self.size = 0;
        self.extensions = 0;
        self.trailer.clear();
        self.line = 0;
        self.trailers.clear();
        self.trailer_lines = 0;
    }

    /// Decodes from the start of `input` up to the first event. After `Data(range)` continue behind `range`,
    /// after `Partial(used)` with what arrives behind `used`. An error is final.
    pub fn decode(&mut self, input: &[u8]) -> Result<Chunk, ChunkError> {
        let result = self.step(input);
        if let Err(error) = result {
            self.state = State::Failed(error);
        }
        result
    }

    fn step(&mut self, input: &[u8]) -> Result<Chunk, ChunkError> {
        let mut at = 0;
        loop {
            match self.state {
                State::Data => {
                    let left = usize::try_from(self.size).unwrap_or(usize::MAX);
                    let len = left.min(input.len().saturating_sub(at));
                    if len == 0 {
                        return Ok(Chunk::Partial(at));
                    }
                    self.size -= len as u64;
                    if self.size == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Chunk::Data(at..at + len));
                }
                State::Trailer => return self.read_trailer(input, at),
                State::Done => return Ok(Chunk::End(at)),
                State::Failed(error) => return Err(error),
                _ => {
                    let Some(&byte) = input.get(at) else { return Ok(Chunk::Partial(at)) };
                    self.frame(byte)?;
                    at += 1;
                }
            }
        }
    }

    /// Takes one byte of what surrounds the data.
    #[inline]
    fn frame(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.state = match (self.state, byte) {
            (State::Size, _) => {
                self.size = u64::from(crate::escape::hex_value(byte).ok_or(ChunkError::InvalidSize)?);
                State::SizeDigits
            }
            (State::SizeDigits | State::Extension, b'\r') => State::SizeLf,
            // White space before an extension is "bad" but to be understood (RFC 9112, 7.1.1).
            (State::SizeDigits, b';' | b' ' | b'\t') => self.extend()?,
            (State::SizeDigits, _) => {
                let digit = crate::escape::hex_value(byte).ok_or(ChunkError::InvalidSize)?;
                if self.size > i64::MAX as u64 / 16 {
                    return Err(ChunkError::InvalidSize);
                }
                if self.size == 0 {
                    self.extend()?;
                }
                self.size = self.size * 16 + u64::from(digit);
                State::SizeDigits
            }
            (State::Extension, 0x00..=0x08 | 0x0a..=0x1f | 0x7f) => return Err(ChunkError::InvalidExtension),
            (State::Extension, _) => self.extend()?,
            (State::SizeLf, b'\n') if self.size == 0 => State::Trailer,
            (State::SizeLf, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            _ => return Err(ChunkError::InvalidLineEnd),
        };
        Ok(())
    }

    fn extend(&mut self) -> Result<State, ChunkError> {
        self.extensions += 1;
        if self.extensions > self.limits.extensions {
            return Err(ChunkError::TooLarge);
        }
        Ok(State::Extension)
    }

    /// Takes whole lines off the trailer section, which is kept: it is small, and its fields are wanted in the end.
    fn read_trailer(&mut self, input: &[u8], at: usize) -> Result<Chunk, ChunkError> {
        // Usually there is none.
        let rest = input.get(at..).unwrap_or_default();
        if self.trailer.is_empty() && rest.starts_with(b"\r\n") {
            self.state = State::Done;
            return Ok(Chunk::End(at + 2));
        }
        let mut used = at;
        for line in rest.split_inclusive(|byte| *byte == b'\n') {
            if self.trailer.len() + line.len() > self.limits.trailer as usize {
                return Err(ChunkError::TooLarge);
            }
            self.trailer.extend_from_slice(line);
            used += line.len();
            if !line.ends_with(b"\n") {
                break;
            }
            let whole = &self.trailer[..];
            match parse_line::<false>(whole, whole.get(self.line..).unwrap_or_default()) {
                FieldLine::Partial | FieldLine::Bad(_) => return Err(ChunkError::InvalidTrailer),
                FieldLine::End(_) => {
                    self.state = State::Done;
                    return Ok(Chunk::End(used));
                }
                FieldLine::Field(field, next) => {
                    self.line = whole.len() - next.len();
                    self.trailer_lines += 1;
                    if self.trailer_lines > self.limits.trailer_lines {
                        return Err(ChunkError::TooLarge);
                    }
                    if !is_forbidden_in_trailer(field.known) {
                        self.trailers.push(field);
                    }
                }
            }
        }
        Ok(Chunk::Partial(used))
    }

    /// The body has been read to its end.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes that are missing of the chunk whose data is being read.
    #[must_use]
    pub fn left_in_chunk(&self) -> u64 {
        if self.state == State::Data { self.size } else { 0 }
    }

    /// The trailer fields, without those that a trailer must not carry. Their spans point into `trailer_bytes`.
    #[must_use]
    pub fn trailers(&self) -> &[Field] {
        &self.trailers
    }

    /// The trailer section as received.
    #[must_use]
    pub fn trailer_bytes(&self) -> &[u8] {
        &self.trailer
    }
}

/// The end of a body without trailer fields: to be sent behind the data's `DATA_END`, or at once if there was no data.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// What stands behind the data of a chunk.
pub const DATA_END: &[u8] = b"\r\n";

/// The line in front of a chunk's data.
#[derive(Clone, Copy, Debug)]
pub struct ChunkHead {
    bytes: [u8; 18],
    start: u8,
}

impl ChunkHead {
    /// For `size` bytes, which must not be 0: that would end the body.
    #[must_use]
    pub fn new(size: u64) -> Self {
        let mut bytes = *b"0000000000000000\r\n";
        let mut start = 16u8;
        let mut rest = size;
        for place in bytes.iter_mut().take(16).rev() {
            let digit = (rest & 15) as u8;
            *place = if digit < 10 { b'0' + digit } else { b'a' - 10 + digit };
            start -= 1;
            rest >>= 4;
            if rest == 0 {
                break;
            }
        }
        Self { bytes, start }
    }

    /// Size in hexadecimal digits and CR LF.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(usize::from(self.start)..).unwrap_or_default()
    }
}
