//! Recoding of text that comes in parts: between one-byte charsets, and to and from UTF-8.

use std::borrow::Cow;
use std::io::Write;

/// How one charset is turned into another.
pub(super) enum Table {
    /// Byte to byte.
    Bytes(Box<[u8; 256]>),
    /// Byte to a character of up to three bytes; the first byte of an entry is its length.
    ToUtf8(Box<[[u8; 4]; 256]>),
    /// Characters up to U+FFFF to bytes, by the upper byte of their number; 0 where there is none.
    FromUtf8(Box<[Option<Box<[u8; 256]>>; 256]>),
}

impl Table {
    /// Byte to byte: ASCII stays, the rest is unknown.
    pub(super) fn bytes() -> Box<[u8; 256]> {
        let mut table = Box::new([b'?'; 256]);
        for (byte, entry) in (0u8..128).zip(table.iter_mut()) {
            *entry = byte;
        }
        table
    }

    /// To UTF-8: ASCII stays, the rest is unknown.
    pub(super) fn to_utf8() -> Box<[[u8; 4]; 256]> {
        let mut table = Box::new([[1, b'?', 0, 0]; 256]);
        for (byte, entry) in (0u8..128).zip(table.iter_mut()) {
            *entry = [1, byte, 0, 0];
        }
        table
    }

    /// From UTF-8: ASCII stays, the rest is unknown.
    pub(super) fn from_utf8() -> Box<[Option<Box<[u8; 256]>>; 256]> {
        let mut table = Box::new([const { None }; 256]);
        let mut ascii = Box::new([0; 256]);
        for (byte, entry) in (0u8..128).zip(ascii.iter_mut()) {
            *entry = byte;
        }
        if let Some(first) = table.first_mut() {
            *first = Some(ascii);
        }
        table
    }

    /// Whether the length of a text changes.
    pub(super) fn changes_length(&self) -> bool {
        !matches!(self, Self::Bytes(_))
    }
}

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    /// A character and how many bytes it takes.
    Char(u32, usize),
    /// So many bytes that are no UTF-8.
    Invalid(usize),
    /// The beginning of a character.
    Incomplete,
}

/// Reads one character.
pub(super) fn decode(bytes: &[u8]) -> Decoded {
    let Some(&lead) = bytes.first() else { return Decoded::Incomplete };
    let (more, bits, least) = match lead {
        0..0x80 => return Decoded::Char(lead.into(), 1),
        0xc2..0xe0 => (1, lead & 0x1f, 0x80),
        0xe0..0xf0 => (2, lead & 0x0f, 0x800),
        0xf0..0xf5 => (3, lead & 0x07, 0x1_0000),
        _ => return Decoded::Invalid(1),
    };
    let mut number = u32::from(bits);
    for n in 1..=more {
        match bytes.get(n) {
            Some(byte @ 0x80..0xc0) => number = number << 6 | u32::from(byte & 0x3f),
            Some(_) => return Decoded::Invalid(n),
            None => return Decoded::Incomplete,
        }
    }
    if (least..=0x10_ffff).contains(&number) {
        Decoded::Char(number, more + 1)
    } else {
        Decoded::Invalid(more + 1)
    }
}

/// The bytes of a character that was cut, until the next part comes.
#[derive(Default)]
pub(super) struct Cut {
    bytes: [u8; 4],
    len: usize,
}

/// Recodes the next part of a text; nothing is copied when nothing changes.
pub(super) fn recode<'a>(table: &Table, cut: &mut Cut, text: &'a [u8]) -> Cow<'a, [u8]> {
    match table {
        Table::Bytes(table) => {
            let same = |byte: &u8| table.get(usize::from(*byte)) == Some(byte);
            if text.iter().all(same) {
                return Cow::Borrowed(text);
            }
            text.iter().map(|byte| table.get(usize::from(*byte)).copied().unwrap_or(*byte)).collect()
        }
        Table::ToUtf8(table) => {
            if text.iter().all(|byte| table.get(usize::from(*byte)) == Some(&[1, *byte, 0, 0])) {
                return Cow::Borrowed(text);
            }
            let mut out = Vec::with_capacity(text.len() + text.len() / 2);
            for byte in text {
                if let Some([len, character @ ..]) = table.get(usize::from(*byte)) {
                    out.extend_from_slice(character.get(..usize::from(*len)).unwrap_or_default());
                }
            }
            Cow::Owned(out)
        }
        Table::FromUtf8(table) => {
            if cut.len == 0 && text.is_ascii() {
                return Cow::Borrowed(text);
            }
            let mut out = Vec::with_capacity(text.len() + 16);
            let rest = finish_cut(table, cut, text, &mut out);
            from_utf8(table, cut, rest, &mut out);
            Cow::Owned(out)
        }
    }
}

type Pages = [Option<Box<[u8; 256]>>; 256];

/// Completes a cut character from the beginning of `text`; returns the rest of it.
fn finish_cut<'a>(table: &Pages, cut: &mut Cut, text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let mut text = text;
    while cut.len > 0 {
        let Some((&byte, rest)) = text.split_first() else { return text };
        let Some(slot) = cut.bytes.get_mut(cut.len) else { break };
        *slot = byte;
        match decode(cut.bytes.get(..=cut.len).unwrap_or_default()) {
            Decoded::Incomplete => {
                cut.len += 1;
                text = rest;
            }
            Decoded::Char(number, _) => {
                cut.len = 0;
                put(table, number, out);
                return rest;
            }
            Decoded::Invalid(bytes) => {
                out.push(b'?');
                // What made it invalid may begin a character of its own.
                let belongs = bytes > cut.len;
                cut.len = 0;
                return if belongs { rest } else { text };
            }
        }
    }
    cut.len = 0;
    text
}

fn from_utf8(table: &Pages, cut: &mut Cut, text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while !rest.is_empty() {
        let taken = match decode(rest) {
            Decoded::Char(number, len) => {
                put(table, number, out);
                len
            }
            Decoded::Invalid(len) => {
                out.push(b'?');
                len
            }
            Decoded::Incomplete => {
                cut.len = rest.len().min(cut.bytes.len() - 1);
                for (slot, byte) in cut.bytes.iter_mut().zip(rest) {
                    *slot = *byte;
                }
                return;
            }
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
}

/// A character in the charset, or as an HTML entity.
fn put(table: &Pages, number: u32, out: &mut Vec<u8>) {
    let [_, high, page, byte] = number.to_be_bytes();
    let known = if high == 0 { table.get(usize::from(page)).and_then(Option::as_deref) } else { None };
    match known.and_then(|page| page.get(usize::from(byte))) {
        Some(0) | None => {
            let _ = write!(out, "&#{number};");
        }
        Some(byte) => out.push(*byte),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> Table {
        let mut table = Table::from_utf8();
        let mut page = Box::new([0; 256]);
        page[0x10] = 0xe1; // А
        page[0x11] = 0xe2; // Б
        table[4] = Some(page);
        Table::FromUtf8(table)
    }

    fn check(text: &[u8], expect: &[u8]) {
        let table = pages();
        for step in 1..=text.len() {
            let mut cut = Cut::default();
            let out: Vec<u8> =
                text.chunks(step).flat_map(|part| recode(&table, &mut cut, part).into_owned()).collect();
            assert_eq!(out, expect, "{text:?}, {step} at a time");
        }
    }

    #[test]
    fn characters_are_recoded_across_parts() {
        check("xАБy".as_bytes(), b"x\xe1\xe2y");
        check("В€😀z".as_bytes(), b"&#1042;&#8364;&#128512;z");
    }

    #[test]
    fn what_is_no_utf8_becomes_a_question_mark() {
        check(b"a\xffb", b"a?b");
        check(b"\xd0\x90\xd0A", b"\xe1?A");
        check(b"\xe2\x82A", b"?A");
        check(b"\xe2\x82\xd0\x90", b"?\xe1");
        check(b"\xc0\x80", b"??");
        check(b"\xf4\x90\x80\x80x", b"?x");
        check(b"x\xd0", b"x");
    }

    proptest::proptest! {
        #[test]
        fn cuts_change_nothing_whatever_the_bytes(
            text in proptest::collection::vec(proptest::sample::select(&b"a\x80\x90\xbf\xc1\xd0\xe0\xe2\xf0\xf4\xff"[..]), 1..60),
            step in 1usize..7,
        ) {
            let table = pages();
            let (mut cut, mut whole) = (Cut::default(), Cut::default());
            let parts: Vec<u8> = text.chunks(step).flat_map(|part| recode(&table, &mut cut, part).into_owned()).collect();
            proptest::prop_assert_eq!(parts, recode(&table, &mut whole, &text).into_owned());
        }
    }

    #[test]
    fn bytes_are_recoded_to_utf8() {
        let mut table = Table::to_utf8();
        table[0xe1] = [2, 0xd0, 0x90, 0];
        let table = Table::ToUtf8(table);
        let mut cut = Cut::default();
        assert_eq!(&*recode(&table, &mut cut, b"a\xe1\xe2"), "aА?".as_bytes());
        assert!(matches!(recode(&table, &mut cut, b"abc"), Cow::Borrowed(_)));
    }
}
