//! Bytes received and not yet given to Lua, and what a reading call wants of them.

use super::{
    exchange::Answer,
    pattern::{Matching, Pattern},
    redis::Scan,
};
use moonrest_proto::websocket::Frame;
use std::{cell::RefCell, rc::Rc};

/// Buffers kept by a worker for the next stream that reads.
const KEPT: usize = 64;
/// Larger ones go back to the allocator.
const KEPT_SIZE: usize = 64 * 1024;
/// The most room made for a single read.
const MAX_READ: usize = 64 * 1024;
/// Used bytes in front of the rest beyond which the rest is moved.
const MAX_WASTE: usize = 16 * 1024;

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// What has come, from `at` on.
#[derive(Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    at: usize,
    /// Nothing more will come.
    pub eof: bool,
}

/// What a call waits for.
pub(super) enum Wanted {
    /// Up to a line feed.
    Line,
    /// Up to the end of the stream.
    All,
    /// So many bytes.
    Bytes(usize),
    /// What there is, but not more than this.
    Any(usize),
    /// Up to a pattern.
    Until(Rc<Pattern>, Matching),
    /// So many replies of Redis.
    Replies(Scan),
    /// A frame of WebSocket.
    Frame(Frame),
    /// A database's answer.
    Answer(Box<dyn Answer>),
}

/// A call's progress.
pub(super) struct Reading {
    wanted: Wanted,
    /// How many of the bytes at hand were looked at.
    scanned: usize,
}

/// The answer to a call: `len` bytes are its value, `used` bytes are gone with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub len: usize,
    pub used: usize,
}

impl Reading {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self { wanted, scanned: 0 }
    }

    /// Whether carriage returns are left out of what is given to Lua.
    pub(super) fn is_line(&self) -> bool {
        matches!(self.wanted, Wanted::Line)
    }

    /// The frame that is wanted, if it is one.
    pub(super) fn frame(&self) -> Option<&Frame> {
        match &self.wanted {
            Wanted::Frame(frame) => Some(frame),
            _ => None,
        }
    }

    /// How the replies of Redis are read, if they are what is wanted.
    pub(super) fn replies(&self) -> Option<&Scan> {
        match &self.wanted {
            Wanted::Replies(scan) => Some(scan),
            _ => None,
        }
    }

    /// The answer that is wanted, if it is a database's.
    pub(super) fn answer(&self) -> Option<&dyn Answer> {
        match &self.wanted {
            Wanted::Answer(answer) => Some(&**answer),
            _ => None,
        }
    }

    /// How many bytes are known to be missing.
    fn missing(&self, unread: usize) -> usize {
        match &self.wanted {
            Wanted::Replies(scan) => scan.missing(unread),
            Wanted::Frame(frame) => frame.missing(),
            Wanted::Answer(answer) => answer.end().saturating_sub(unread),
            Wanted::Bytes(count) => count.saturating_sub(unread),
            Wanted::All => unread,
            _ => 0,
        }
    }
}

impl Inbox {
    /// The bytes that are there.
    #[inline]
    pub(super) fn unread(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    pub(super) fn unread_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.at..).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Looks whether a call can be answered. At the end of the stream only `*a` can with whatever there is.
    pub(super) fn advance(&self, reading: &mut Reading) -> Option<Taken> {
        let unread = self.unread();
        let exactly = |len: usize| Taken { len, used: len };
        match &mut reading.wanted {
            Wanted::Replies(scan) => scan.advance(unread).map(exactly),
            Wanted::Frame(frame) => frame.advance(unread).map(exactly),
            Wanted::Answer(answer) => answer.advance(unread).map(exactly),
            Wanted::Line => {
                let found = memchr::memchr(b'\n', unread.get(reading.scanned..).unwrap_or_default());
                let found = found.map(|found| reading.scanned + found);
                reading.scanned = unread.len();
                found.map(|len| Taken { len, used: len + 1 })
            }
            Wanted::All => self.eof.then(|| exactly(unread.len())),
            Wanted::Bytes(count) => (unread.len() >= *count).then(|| exactly(*count)),
            Wanted::Any(max) => (!unread.is_empty()).then(|| exactly(unread.len().min(*max))),
            Wanted::Until(pattern, matching) => matching.advance(pattern, unread),
        }
    }

    /// What a call that fails gives as its third value.
    pub(super) fn partial(&self, reading: &Reading) -> Taken {
        let len = match &reading.wanted {
            Wanted::Any(_) | Wanted::Replies(_) | Wanted::Answer(_) => 0,
            // The beginning of a pattern stays, in case that the rest of it follows.
            Wanted::Until(_, matching) => matching.settled(),
            _ => self.unread().len(),
        };
        Taken { len, used: len }
    }

    /// Moves on behind what was given to Lua.
    #[inline]
    pub(super) fn take(&mut self, used: usize) {
        self.at = self.at.saturating_add(used).min(self.bytes.len());
        if self.is_empty() {
            self.clear();
        }
    }

    /// Makes room for about `size` bytes more and hands out the buffer to be read into.
    pub(super) fn room(&mut self, reading: &Reading, size: usize) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default();
        }
        if self.at > MAX_WASTE {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        let wanted = reading.missing(self.unread().len()).clamp(size, MAX_READ.max(size));
        self.bytes.reserve(wanted);
        &mut self.bytes
    }

    /// Puts bytes in that were read elsewhere.
    pub(super) fn push(&mut self, reading: &Reading, data: &[u8]) {
        self.room(reading, data.len()).extend_from_slice(data);
    }

    /// Forgets everything and gives its buffer back.
    pub(super) fn clear(&mut self) {
        self.at = 0;
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        if (1..=KEPT_SIZE).contains(&bytes.capacity()) {
            // The thread may be ending.
            let _ = BUFFERS.try_with(|buffers| {
                let mut buffers = buffers.borrow_mut();
                if buffers.len() < KEPT {
                    buffers.push(bytes);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: impl Fn() -> Wanted, input: &str, eof: bool, expect: Option<(&str, &str)>) {
        // All at once and byte by byte, the outcome is the same.
        for step in [input.len().max(1), 1] {
            let mut inbox = Inbox::default();
            let mut reading = Reading::new(wanted());
            let mut taken = None;
            for piece in input.as_bytes().chunks(step) {
                inbox.push(&reading, piece);
                taken = taken.or_else(|| inbox.advance(&mut reading));
            }
            inbox.eof = eof;
            taken = taken.or_else(|| inbox.advance(&mut reading));
            let found = taken.map(|taken| {
                let data = String::from_utf8_lossy(&inbox.unread()[..taken.len]).into_owned();
                inbox.take(taken.used);
                (data, String::from_utf8_lossy(inbox.unread()).into_owned())
            });
            assert_eq!(found.as_ref().map(|(data, rest)| (data.as_str(), rest.as_str())), expect, "{input}");
        }
    }

    #[test]
    fn calls_take_what_they_want_and_leave_the_rest() {
        check(|| Wanted::Line, "one\r\ntwo", false, Some(("one\r", "two")));
        check(|| Wanted::Line, "one", true, None);
        check(|| Wanted::Bytes(3), "abcde", false, Some(("abc", "de")));
        check(|| Wanted::Bytes(6), "abcde", true, None);
        check(|| Wanted::All, "abcde", true, Some(("abcde", "")));
        check(|| Wanted::All, "abcde", false, None);
        check(|| Wanted::All, "", true, Some(("", "")));
        let pattern = || Rc::new(Pattern::new(b"--x", false));
        check(|| Wanted::Until(pattern(), Matching::new(0)), "a---xb", false, Some(("a-", "b")));
    }

    #[test]
    fn a_buffer_is_given_back_when_it_is_empty() {
        let mut inbox = Inbox::default();
        inbox.push(&Reading::new(Wanted::Line), b"line\n");
        inbox.take(5);
        assert_eq!(inbox.bytes.capacity(), 0);
    }
}
