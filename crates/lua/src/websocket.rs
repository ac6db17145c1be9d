//! The parts of WebSocket that look at every byte: masks, UTF-8, and messages compressed with permessage-deflate.
//! <https://www.rfc-editor.org/rfc/rfc6455>, <https://www.rfc-editor.org/rfc/rfc7692>

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Applies a mask from `src` to `dst`, which are equally long. `key` is the mask as it stands on the wire.
pub(crate) fn mask(dst: &mut [u8], src: &[u8], key: [u8; 4]) {
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let (mut to, mut from) = (dst.chunks_exact_mut(8), src.chunks_exact(8));
    for (to, from) in to.by_ref().zip(from.by_ref()) {
        if let (Ok(to), Ok(from)) = (<&mut [u8; 8]>::try_from(to), <[u8; 8]>::try_from(from)) {
            *to = (u64::from_ne_bytes(from) ^ wide).to_ne_bytes();
        }
    }
    let rest = to.into_remainder().iter_mut().zip(from.remainder());
    for ((to, from), key) in rest.zip(key.iter().cycle()) {
        *to = from ^ key;
    }
}

/// Applies a mask where the bytes are.
pub(crate) fn mask_in_place(bytes: &mut [u8], key: [u8; 4]) {
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// How much of a character the text so far ends in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Utf8 {
    held: [u8; 4],
    len: u8,
}

impl Utf8 {
    /// Packed into a number, as Lua keeps it between the frames of a message.
    pub(crate) fn from_bits(bits: u32) -> Self {
        let [a, b, c, len] = bits.to_le_bytes();
        Self { held: [a, b, c, 0], len: len.min(3) }
    }

    pub(crate) fn bits(self) -> u32 {
        u32::from_le_bytes([self.held[0], self.held[1], self.held[2], self.len])
    }

    /// Takes more of a text. `None` says that no text goes on like that.
    pub(crate) fn take(mut self, mut bytes: &[u8]) -> Option<Self> {
        while self.len > 0 {
            let Some((&first, rest)) = bytes.split_first() else { return Some(self) };
            *self.held.get_mut(usize::from(self.len))? = first;
            self.len += 1;
            bytes = rest;
            match std::str::from_utf8(self.held.get(..usize::from(self.len))?) {
                Ok(_) => self = Self::default(),
                Err(error) if error.error_len().is_some() => return None,
                Err(_) => {}
            }
        }
        let Err(error) = std::str::from_utf8(bytes) else { return Some(self) };
        if error.error_len().is_some() {
            return None;
        }
        let tail = bytes.get(error.valid_up_to()..)?;
        self.held.get_mut(..tail.len())?.copy_from_slice(tail);
        self.len = u8::try_from(tail.len()).ok()?;
        Some(self)
    }
}

/// What ends each compressed message; it is left out on the wire.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Compresses messages one after another.
pub(crate) struct Deflater {
    stream: Compress,
    out: Vec<u8>,
}

impl Deflater {
    /// `level` 0 to 9; `bits`, the size of the window, 9 to 15.
    pub(crate) fn new(level: u32, bits: u8) -> Self {
        let stream = Compress::new_with_window_bits(Compression::new(level.min(9)), false, bits.clamp(9, 15));
        Self { stream, out: Vec::new() }
    }

    /// The next part of a message, `last` or not. `forget` says that the next message does not build on this one.
    pub(crate) fn part(&mut self, data: &[u8], last: bool, forget: bool) -> Option<&[u8]> {
        self.out.clear();
        let mut rest = data;
        loop {
            self.out.reserve(rest.len() / 2 + 64);
            let (before, room) = (self.stream.total_in(), self.out.capacity() - self.out.len());
            let written = self.stream.total_out();
            self.stream.compress_vec(rest, &mut self.out, FlushCompress::Sync).ok()?;
            rest = rest.get(usize::try_from(self.stream.total_in() - before).ok()?..)?;
            // Room that is left says that all of it has been flushed.
            let written = usize::try_from(self.stream.total_out() - written).ok()?;
            if rest.is_empty() && written < room {
                break;
            }
        }
        if last {
            if self.out.ends_with(&TAIL) {
                self.out.truncate(self.out.len() - TAIL.len());
            }
            if self.out.is_empty() {
                self.out.push(0); // an empty message (RFC 7692, 7.2.3.6)
            }
            if forget {
                self.stream.reset();
            }
        }
        Some(&self.out)
    }
}

/// Why a message cannot be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    TooLong,
    Broken,
}

/// Decompresses messages one after another.
pub(crate) struct Inflater {
    stream: Decompress,
    out: Vec<u8>,
}

/// A buffer larger than this is given back after the message.
const KEPT: usize = 64 * 1024;

impl Inflater {
    pub(crate) fn new() -> Self {
        Self { stream: Decompress::new_with_window_bits(false, 15), out: Vec::new() }
    }

    /// The next part of a message, `last` or not, which may be `max` bytes long.
    pub(crate) fn part(
        &mut self,
        data: &[u8],
        last: bool,
        forget: bool,
        max: usize,
    ) -> Result<&[u8], Unreadable> {
        self.out.clear();
        self.out.shrink_to(KEPT);
        self.feed(data, max)?;
        if last {
            self.feed(&TAIL, max)?;
            if forget {
                self.stream.reset(false);
            }
        }
        Ok(&self.out)
    }

    fn feed(&mut self, data: &[u8], max: usize) -> Result<(), Unreadable> {
        let mut rest = data;
        loop {
            if self.out.len() > max {
                return Err(Unreadable::TooLong);
            }
            // One byte more than may be, so that too much is seen.
            let room = (rest.len() * 4).clamp(512, KEPT).min(max - self.out.len() + 1);
            self.out.reserve_exact(room);
            let (read, written) = (self.stream.total_in(), self.out.len());
            let status = self.stream.decompress_vec(rest, &mut self.out, FlushDecompress::Sync);
            let taken = usize::try_from(self.stream.total_in() - read).map_err(|_| Unreadable::Broken)?;
            rest = rest.get(taken..).ok_or(Unreadable::Broken)?;
            match status {
                // A last block: the sender begins anew behind it (RFC 7692, 7.2.3.4).
                Ok(Status::StreamEnd) => self.stream.reset(false),
                Ok(_) => {}
                Err(_) => return Err(Unreadable::Broken),
            }
            let full = self.out.len() == self.out.capacity();
            if rest.is_empty() && !full {
                break;
            }
            if taken == 0 && self.out.len() == written {
                break; // nothing to be had from what is there
            }
        }
        if self.out.len() > max { Err(Unreadable::TooLong) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_taken_twice_is_none() {
        for len in 0..40 {
            let text: Vec<u8> = (0..len).collect();
            let (mut once, mut twice) = (vec![0; text.len()], vec![0; text.len()]);
            mask(&mut once, &text, [1, 2, 3, 4]);
            assert!(text.iter().zip(&once).enumerate().all(|(n, (a, b))| a ^ b == [1, 2, 3, 4][n % 4]));
            mask(&mut twice, &once, [1, 2, 3, 4]);
            assert_eq!(twice, text);
        }
    }

    #[test]
    fn text_is_checked_across_pieces() {
        fn check(text: &[u8]) -> bool {
            let whole = Utf8::default().take(text).map(Utf8::bits);
            for cut in 0..=text.len() {
                let (a, b) = text.split_at(cut);
                let parts = Utf8::default().take(a).and_then(|state| Utf8::from_bits(state.bits()).take(b));
                assert_eq!(parts.map(Utf8::bits), whole, "{text:?} cut at {cut}");
            }
            whole == Some(0)
        }
        assert!(check("κόσμε 🌙 moon".as_bytes()));
        assert!(check(b""));
        assert!(!check(b"\xed\xa0\x80"));
        assert!(!check(b"\xf4\x90\x80\x80"));
        assert!(!check(b"\xc0\xaf"));
        assert!(!check(b"ab\xf0\x9f"));
    }

    #[test]
    fn messages_come_back_whether_or_not_they_build_on_each_other() {
        for forget in [false, true] {
            let (mut to, mut from) = (Deflater::new(6, 15), Inflater::new());
            for message in [&b"Hello"[..], b"", b"Hello", &[b'x'; 100_000], b"Hello"] {
                let packed = to.part(message, true, forget).unwrap().to_vec();
                assert_eq!(from.part(&packed, true, forget, 100_000).unwrap(), message);
            }
            let parts = [(&b"one "[..], false), (b"two ", false), (b"three", true)];
            let mut whole = Vec::new();
            for (part, last) in parts {
                let packed = to.part(part, last, forget).unwrap().to_vec();
                whole.extend_from_slice(from.part(&packed, last, forget, 100).unwrap());
            }
            assert_eq!(whole, b"one two three");
        }
    }

    #[test]
    fn the_examples_of_the_rfc_can_be_read() {
        // RFC 7692, 7.2.3: one block, a message that uses the window of the one before, none, several, and a last one.
        let mut from = Inflater::new();
        let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(from.part(&hello, true, false, 99).unwrap(), b"Hello");
        assert_eq!(from.part(&[0xf2, 0x00, 0x11, 0x00, 0x00], true, false, 99).unwrap(), b"Hello");
        let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
        assert_eq!(from.part(&stored, true, false, 99).unwrap(), b"Hello");
        let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
        assert_eq!(Inflater::new().part(&last, true, false, 99).unwrap(), b"Hello");
        let two = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(Inflater::new().part(&two, true, false, 99).unwrap(), b"Hello");
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let packed = Deflater::new(9, 15).part(&vec![0; 10_000_000], true, true).unwrap().to_vec();
        let mut from = Inflater::new();
        assert_eq!(from.part(&packed, true, true, 65_535), Err(Unreadable::TooLong));
        assert!(from.out.capacity() <= 3 * KEPT, "{}", from.out.capacity());
        assert_eq!(Inflater::new().part(&[0xff; 20], true, true, 99), Err(Unreadable::Broken));
    }
}
