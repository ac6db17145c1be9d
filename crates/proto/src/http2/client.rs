//! The frames of one connection to a server, one request at a time.
//!
//! ```text
//! request ─► HEADERS, CONTINUATION ─► DATA as the windows allow ─► END_STREAM
//! answer:    HEADERS ─► Head ─► DATA ─► Data … ─► END_STREAM or trailers ─► End
//! ```
//! What servers say about the connection itself is answered in [`Client::out`].

use super::hpack;
use std::ops::Range;

/// The most data of one frame, and the longest frame that servers may send: nothing else is agreed on.
pub const MAX_DATA: usize = 16 * 1024;
const MAX_WINDOW: i64 = (1 << 31) - 1;
/// Frames that only ask for an answer, on one connection.
const MAX_QUESTIONS: u32 = 1000;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// No dynamic table, no push, and windows that are never closed: what is not read waits in the socket.
const SETTINGS: &[u8] = &[
    0, 0, 18, 4, 0, 0, 0, 0, 0, //
    0, 1, 0, 0, 0, 0, //
    0, 2, 0, 0, 0, 0, //
    0, 4, 0x7f, 0xff, 0xff, 0xff, //
    0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0xff, 0, 0,
];

mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PUSH_PROMISE: u8 = 5;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const CONTINUATION: u8 = 9;
}

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing more without further bytes.
    More,
    /// A frame that concerns the connection.
    Control,
    /// The answer's head, or an interim one, as text.
    Head(Vec<u8>),
    /// A part of the body: a range of the input.
    Data(Range<usize>),
    /// The answer is complete, trailers included.
    End,
}

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    /// What is to be sent before anything else.
    pub out: Vec<u8>,
    init_window: i64,
    send_window: i64,
    recv_window: i64,
    next_id: u32,
    goaway: bool,
    questions: u32,
    stream: Stream,
    frame: Option<Frame>,
    /// The header block that is being received.
    block: Option<Block>,
}

#[derive(Debug, Default)]
struct Stream {
    id: u32,
    send_window: i64,
    recv_window: i64,
    /// The request has been sent to its end.
    sent: bool,
    has_head: bool,
    done: bool,
    reset: bool,
    /// Bytes of the body that are still to come.
    left: Option<u64>,
    /// The most bytes that names and values of a head may have.
    limit: usize,
    trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: u8,
    flags: u8,
    id: u32,
    /// Payload that was not used yet.
    rest: usize,
    padding: usize,
}

#[derive(Debug)]
struct Block {
    bytes: Vec<u8>,
    end_stream: bool,
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

fn frame_head(len: usize, kind: u8, flags: u8, id: u32, out: &mut Vec<u8>) {
    let len = u32::try_from(len).unwrap_or(0).to_be_bytes();
    out.extend_from_slice(len.get(1..).unwrap_or_default());
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&id.to_be_bytes());
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte))
}

impl Client {
    /// A connection about to begin.
    pub fn new() -> Self {
        Self {
            out: [PREFACE, SETTINGS].concat(),
            init_window: 65_535,
            send_window: 65_535,
            recv_window: MAX_WINDOW,
            next_id: 1,
            goaway: false,
            questions: 0,
            stream: Stream { sent: true, done: true, ..Stream::default() },
            frame: None,
            block: None,
        }
    }

    /// Whether another request may be begun.
    pub fn is_idle(&self) -> bool {
        self.stream.done
            && self.stream.sent
            && !self.goaway
            && self.frame.is_none()
            && self.block.is_none()
            && self.next_id < 1 << 30
    }

    /// Begins a request with these fields, encoded; `end` says that it has no body. The answer's head may have `limit`
    /// bytes.
    pub fn request(&mut self, block: &[u8], end: bool, limit: usize) {
        let id = self.next_id;
        self.next_id += 2;
        self.stream = Stream {
            id,
            send_window: self.init_window,
            recv_window: MAX_WINDOW,
            sent: end,
            limit,
            ..Stream::default()
        };
        let mut parts = block.chunks(MAX_DATA).peekable();
        let mut kind = kind::HEADERS;
        while let Some(part) = parts.next() {
            let last = if parts.peek().is_none() { END_HEADERS } else { 0 };
            let ended = if end && kind == kind::HEADERS { END_STREAM } else { 0 };
            frame_head(part.len(), kind, last | ended, id, &mut self.out);
            self.out.extend_from_slice(part);
            kind = kind::CONTINUATION;
        }
    }

    /// How much of the request's body may be sent now, at most [`MAX_DATA`].
    pub fn room(&self) -> usize {
        let window = self.send_window.min(self.stream.send_window).max(0);
        usize::try_from(window).unwrap_or(0).min(MAX_DATA)
    }

    /// Writes what stands before `len` bytes of the request's body, no more than there is room for.
    pub fn data(&mut self, len: usize, end: bool, out: &mut Vec<u8>) {
        let sent = i64::try_from(len).unwrap_or(0);
        self.send_window -= sent;
        self.stream.send_window -= sent;
        self.stream.sent = end;
        frame_head(len, kind::DATA, if end { END_STREAM } else { 0 }, self.stream.id, out);
    }

    /// Whether the server has sent all it wants to, or refuses the rest of the request.
    pub fn is_done(&self) -> bool {
        self.stream.done
    }

    /// The server takes no more of the request.
    pub fn is_reset(&self) -> bool {
        self.stream.reset
    }

    /// The answer's head announces so many bytes.
    pub fn expect(&mut self, length: Option<u64>) {
        self.stream.left = length;
    }

    /// The fields behind the body.
    pub fn take_trailers(&mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        std::mem::take(&mut self.stream.trailers)
    }

    /// Looks at what was received; gives how much of it is done with.
    ///
    /// # Errors
    /// nginx's words for what is wrong with it, for the error log. The connection is of no use any more.
    pub fn receive(&mut self, input: &[u8]) -> Result<(usize, Event), String> {
        let mut used = 0;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            let Some(mut frame) = self.frame else {
                if rest.len() < 9 {
                    let event = if self.stream.done && self.stream.id != 0 && self.stream.has_head {
                        self.end()?
                    } else {
                        Event::More
                    };
                    return Ok((used, event));
                }
                self.frame = Some(self.begin(rest)?);
                used += 9;
                continue;
            };
            match frame.kind {
                kind::DATA => {
                    let (taken, event) = self.take_data(&mut frame, rest)?;
                    self.frame = (frame.rest > 0).then_some(frame);
                    if self.frame.is_none() && frame.flags & END_STREAM != 0 {
                        self.stream.done = true;
                    }
                    let start = used;
                    used += taken;
                    match event {
                        Event::Data(range) => {
                            return Ok((used, Event::Data(start + range.start..start + range.end)));
                        }
                        Event::More if self.frame.is_some() => return Ok((used, Event::More)),
                        _ => {}
                    }
                }
                kind::HEADERS | kind::CONTINUATION => {
                    let Some(payload) = rest.get(..frame.rest) else { return Ok((used, Event::More)) };
                    self.frame = None;
                    used += payload.len();
                    if let Some(event) = self.fragment(frame, payload)? {
                        return Ok((used, event));
                    }
                }
                kind::RST_STREAM | kind::SETTINGS | kind::PING | kind::GOAWAY | kind::WINDOW_UPDATE => {
                    let Some(payload) = rest.get(..frame.rest) else { return Ok((used, Event::More)) };
                    self.frame = None;
                    used += payload.len();
                    self.control(frame, payload)?;
                    return Ok((used, Event::Control));
                }
                // PRIORITY, and what came later.
                _ => {
                    let skip = frame.rest.min(rest.len());
                    frame.rest -= skip;
                    used += skip;
                    self.frame = (frame.rest > 0).then_some(frame);
                    if self.frame.is_some() {
                        return Ok((used, Event::More));
                    }
                }
            }
        }
    }

    fn end(&mut self) -> Result<Event, String> {
        match self.stream.left {
            Some(1..) => Err(ENDED_EARLY.to_owned()),
            _ => Ok(Event::End),
        }
    }

    /// Reads the nine bytes before a payload.
    fn begin(&mut self, head: &[u8]) -> Result<Frame, String> {
        let len = number(head.get(..3).unwrap_or_default()) as usize;
        let (kind, flags) = (head.get(3).copied().unwrap_or(0), head.get(4).copied().unwrap_or(0));
        let id = number(head.get(5..9).unwrap_or_default()) & 0x7fff_ffff;
        if len > MAX_DATA {
            return Err(format!("upstream sent too large http2 frame: {len}"));
        }
        let in_block = self.block.is_some();
        if (kind == kind::CONTINUATION) != in_block || (kind == kind::DATA && !self.stream.has_head) {
            return Err(format!("upstream sent unexpected http2 frame: {kind}"));
        }
        let stream = &mut self.stream;
        if kind == kind::DATA && id != stream.id {
            return Err(format!("upstream sent data frame for unknown stream {id}"));
        }
        if kind == kind::DATA {
            let size = i64::try_from(len).unwrap_or(0);
            for (window, what) in [(&mut stream.recv_window, "stream"), (&mut self.recv_window, "connection")]
            {
                if size > *window {
                    return Err(format!(
                        "upstream violated {what} flow control, received {len} data frame with window {window}"
                    ));
                }
                *window -= size;
            }
            self.open_windows();
        }
        let stream = &self.stream;
        if id != 0 && id != stream.id {
            return Err(format!("upstream sent frame for unknown stream {id}"));
        }
        if id != 0 && stream.done && !matches!(kind, kind::RST_STREAM | kind::WINDOW_UPDATE) {
            return Err(format!("upstream sent frame for closed stream {id}"));
        }
        if kind == kind::PUSH_PROMISE {
            return Err("upstream sent unexpected push promise frame".to_owned());
        }
        if matches!(kind, kind::HEADERS | kind::RST_STREAM | kind::CONTINUATION) && id == 0 {
            return Err(format!("upstream sent frame for unknown stream {id}"));
        }
        Ok(Frame { kind, flags, id, rest: len, padding: 0 })
    }

    /// Windows are opened again long before they are closed.
    fn open_windows(&mut self) {
        let id = self.stream.id;
        for (window, id) in [(&mut self.recv_window, 0), (&mut self.stream.recv_window, id)] {
            if *window < MAX_WINDOW / 4 {
                let more = u32::try_from(MAX_WINDOW - *window).unwrap_or(0);
                *window = MAX_WINDOW;
                frame_head(4, kind::WINDOW_UPDATE, 0, id, &mut self.out);
                self.out.extend_from_slice(&more.to_be_bytes());
            }
        }
    }

    fn take_data(&mut self, frame: &mut Frame, rest: &[u8]) -> Result<(usize, Event), String> {
        let mut at = 0;
        if frame.flags & PADDED != 0 {
            if frame.rest == 0 {
                return Err("upstream sent too short http2 frame".to_owned());
            }
            let Some(padding) = rest.first() else { return Ok((0, Event::More)) };
            frame.flags &= !PADDED;
            frame.padding = usize::from(*padding);
            frame.rest -= 1;
            at = 1;
            if frame.padding > frame.rest {
                return Err(too_long_padding(frame));
            }
        }
        let len = (frame.rest - frame.padding).min(rest.len() - at);
        frame.rest -= len;
        if len > 0 {
            if let Some(left) = &mut self.stream.left {
                *left = left.checked_sub(len as u64).ok_or(TOO_LONG)?;
            }
            // Padding behind the data may be here already.
            let behind = if frame.rest == frame.padding { frame.rest.min(rest.len() - at - len) } else { 0 };
            frame.rest -= behind;
            frame.padding -= behind;
            return Ok((at + len + behind, Event::Data(at..at + len)));
        }
        let skip = if frame.rest == frame.padding { frame.rest.min(rest.len() - at) } else { 0 };
        frame.rest -= skip;
        frame.padding -= skip;
        Ok((at + skip, Event::More))
    }

    /// A part of a header block. The event when it was the last.
    fn fragment(&mut self, frame: Frame, payload: &[u8]) -> Result<Option<Event>, String> {
        let mut part = payload;
        if frame.kind == kind::HEADERS {
            let shortest =
                usize::from(frame.flags & PADDED != 0) + if frame.flags & PRIORITY != 0 { 5 } else { 0 };
            if part.len() < shortest {
                return Err(format!("upstream sent headers frame with invalid length: {}", part.len()));
            }
            let mut padding = 0;
            if frame.flags & PADDED != 0 {
                padding = usize::from(part.first().copied().unwrap_or(0));
            }
            part = part.get(shortest..).unwrap_or_default();
            let Some(len) = part.len().checked_sub(padding) else {
                return Err(too_long_padding(&Frame { padding, rest: part.len(), ..frame }));
            };
            part = part.get(..len).unwrap_or_default();
            self.block = Some(Block { bytes: Vec::new(), end_stream: frame.flags & END_STREAM != 0 });
        }
        let Some(block) = &mut self.block else { return Ok(None) };
        // Lengths and indexes need room beside names and values.
        if block.bytes.len() + part.len() > self.stream.limit.saturating_mul(2).saturating_add(MAX_DATA) {
            return Err("upstream sent too large http2 header".to_owned());
        }
        block.bytes.extend_from_slice(part);
        if frame.flags & END_HEADERS == 0 {
            return Ok(None);
        }
        let Some(block) = self.block.take() else { return Ok(None) };
        if self.stream.has_head { self.trailers(&block).map(|()| None) } else { self.head(&block).map(Some) }
    }

    fn head(&mut self, block: &Block) -> Result<Event, String> {
        let mut text = Vec::with_capacity(block.bytes.len() + 64);
        let mut status = None;
        hpack::decode(&block.bytes, self.stream.limit, |name, value| {
            if name.starts_with(b":") {
                return self::status(name, value, &mut status).map(|()| {
                    text.extend_from_slice(b"HTTP/1.1 ");
                    text.extend_from_slice(value);
                    text.extend_from_slice(b" \r\n");
                });
            }
            if status.is_none() {
                return Err("upstream sent no :status header".to_owned());
            }
            for part in [name, b": ", value, b"\r\n"] {
                text.extend_from_slice(part);
            }
            Ok(())
        })?;
        text.extend_from_slice(b"\r\n");
        let Some(status) = status else { return Err("upstream sent no :status header".to_owned()) };
        let interim = status < 200;
        if interim && block.end_stream {
            return Err(ENDED_EARLY.to_owned());
        }
        self.stream.has_head = !interim;
        self.stream.done = block.end_stream;
        Ok(Event::Head(text))
    }

    fn trailers(&mut self, block: &Block) -> Result<(), String> {
        let trailers = &mut self.stream.trailers;
        hpack::decode(&block.bytes, self.stream.limit, |name, value| {
            if name.starts_with(b":") {
                let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
                return Err(format!("upstream sent invalid trailer \"{name}: {value}\""));
            }
            trailers.push((name.to_vec(), value.to_vec()));
            Ok(())
        })?;
        if !block.end_stream {
            return Err("upstream sent trailer without end stream flag".to_owned());
        }
        self.stream.done = true;
        Ok(())
    }

    fn control(&mut self, frame: Frame, payload: &[u8]) -> Result<(), String> {
        let len = payload.len();
        let invalid = |what: &str| Err(format!("upstream sent {what} frame with invalid length: {len}"));
        match frame.kind {
            kind::RST_STREAM if len != 4 => invalid("rst stream"),
            kind::RST_STREAM => self.reset(number(payload)),
            kind::GOAWAY if frame.id != 0 => on_stream("goaway", frame.id),
            kind::GOAWAY if len < 8 => invalid("goaway"),
            kind::GOAWAY => {
                if number(payload) & 0x7fff_ffff < self.stream.id && !self.is_idle() {
                    let error = number(payload.get(4..).unwrap_or_default());
                    return Err(format!("upstream sent goaway with error {error}"));
                }
                self.goaway = true;
                Ok(())
            }
            kind::WINDOW_UPDATE if len != 4 => invalid("window update"),
            kind::WINDOW_UPDATE => self.update(frame.id, i64::from(number(payload) & 0x7fff_ffff)),
            kind::SETTINGS => self.settings(frame, payload),
            _ if frame.id != 0 => on_stream("ping", frame.id),
            _ if len != 8 => invalid("ping"),
            _ if frame.flags & ACK != 0 => Err("upstream sent ping frame with ack flag".to_owned()),
            _ => {
                self.question("ping")?;
                frame_head(8, kind::PING, ACK, 0, &mut self.out);
                self.out.extend_from_slice(payload);
                Ok(())
            }
        }
    }

    fn reset(&mut self, error: u32) -> Result<(), String> {
        if error != 0 || !self.stream.done {
            return Err(format!("upstream rejected request with error {error}"));
        }
        if self.stream.reset {
            return Err(format!("upstream sent frame for closed stream {}", self.stream.id));
        }
        self.stream.reset = true;
        self.stream.sent = true;
        Ok(())
    }

    fn update(&mut self, id: u32, more: i64) -> Result<(), String> {
        if more == 0 {
            return Err("upstream sent zero window update".to_owned());
        }
        let window = if id == 0 { &mut self.send_window } else { &mut self.stream.send_window };
        if more > MAX_WINDOW - *window {
            return Err("upstream sent too large window update".to_owned());
        }
        *window += more;
        Ok(())
    }

    fn settings(&mut self, frame: Frame, payload: &[u8]) -> Result<(), String> {
        let len = payload.len();
        if frame.id != 0 {
            return on_stream("settings", frame.id);
        }
        if frame.flags & ACK != 0 {
            return match len {
                0 => Ok(()),
                _ => Err(format!("upstream sent settings frame with ack flag and non-zero length: {len}")),
            };
        }
        if !len.is_multiple_of(6) {
            return Err(format!("upstream sent settings frame with invalid length: {len}"));
        }
        self.question("settings")?;
        for setting in payload.chunks(6) {
            let value = i64::from(number(setting.get(2..).unwrap_or_default()));
            if setting.starts_with(&[0, 4]) {
                let change = value - self.init_window;
                if value > MAX_WINDOW || change > MAX_WINDOW - self.stream.send_window.max(0) {
                    return Err(format!(
                        "upstream sent settings frame with too large initial window size: {value}"
                    ));
                }
                self.init_window = value;
                self.stream.send_window += change;
            }
        }
        frame_head(0, kind::SETTINGS, ACK, 0, &mut self.out);
        Ok(())
    }

    fn question(&mut self, what: &str) -> Result<(), String> {
        self.questions += 1;
        match self.questions > MAX_QUESTIONS {
            true => Err(format!("upstream sent too many {what} frames")),
            false => Ok(()),
        }
    }
}

const ENDED_EARLY: &str = "upstream prematurely closed stream";
const TOO_LONG: &str = "upstream sent response body larger than indicated content length";

fn on_stream(what: &str, id: u32) -> Result<(), String> {
    Err(format!("upstream sent {what} frame with non-zero stream id: {id}"))
}

fn too_long_padding(frame: &Frame) -> String {
    let Frame { padding, rest, .. } = frame;
    format!("upstream sent http2 frame with too long padding: {padding} in frame {rest}")
}

/// Reads `:status`.
fn status(name: &[u8], value: &[u8], status: &mut Option<u16>) -> Result<(), String> {
    let shown = String::from_utf8_lossy(value);
    if name != b":status" {
        return Err(format!("upstream sent invalid header \"{}: {shown}\"", String::from_utf8_lossy(name)));
    }
    if status.is_some() {
        return Err("upstream sent duplicate :status header".to_owned());
    }
    let digits = value.len() == 3 && value.iter().all(u8::is_ascii_digit);
    let parsed = if digits { shown.parse::<u16>().ok() } else { None };
    match parsed {
        None => Err(format!("upstream sent invalid :status \"{shown}\"")),
        Some(number) if number < 200 && number != 103 => {
            Err(format!("upstream sent unexpected :status \"{shown}\""))
        }
        number => {
            *status = number;
            Ok(())
        }
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
