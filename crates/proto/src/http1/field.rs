//! Header and trailer lines: their grammar and the names that the server acts on. RFC 9112, 5.

pub use super::known::{Known, is_forbidden_in_trailer};
use super::scan::{ByteClass, TextEnd, colon, text_end};
use crate::Span;

/// One header or trailer line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name as sent.
    pub name: Span,
    /// The value without the white space around it.
    pub value: Span,
    /// Which name it is, if the server knows it.
    pub known: Known,
    flags: u8,
}

const UNDERSCORE: u8 = 1;
const ODD: u8 = 2;
const BAD: u8 = 4;

impl Field {
    /// A field that was not parsed but made, with a name that is known to be correct.
    pub(super) fn made(name: Span, value: Span, known: Known) -> Self {
        Self { name, value, known, flags: 0 }
    }

    /// The field of a line that was written at `start`: a name of `name_len` bytes, a colon and a space, a value that does
    /// not end the line, a line break.
    #[inline]
    pub(super) fn written(start: usize, name_len: usize, line: &[u8]) -> Option<Self> {
        let (name, rest) = line.split_at_checked(name_len)?;
        let TextEnd::At(value, []) = text_end::<true>(rest.get(2..)?, line) else { return None };
        let known = Known::of_name(name, line);
        let flags = if known == Known::Other { check_name(name).ok()? } else { 0 };
        let from = trim_start(value);
        let at = start + line.len() - 2 - from.len();
        let value = Span::new(at, at + trim_end(from).len());
        Some(Self { name: Span::new(start, start + name_len), value, known, flags })
    }

    /// The name has characters other than letters, digits, `-` and `_`.
    #[inline]
    #[must_use]
    pub fn has_odd_name(&self) -> bool {
        self.flags & ODD != 0
    }

    /// The name has an underscore.
    #[inline]
    #[must_use]
    pub fn has_underscore(&self) -> bool {
        self.flags & UNDERSCORE != 0
    }

    /// Name and value as sent, for the log.
    #[must_use]
    pub fn line(&self) -> Span {
        Span::new(self.name.start as usize, self.value.end().max(self.name.end()))
    }

    /// Whether nginx would keep this line. <https://nginx.org/en/docs/http/ngx_http_core_module.html#ignore_invalid_headers>
    #[inline]
    #[must_use]
    pub fn is_accepted(&self, rules: FieldRules) -> bool {
        !rules.ignore_invalid || self.flags == 0 || (self.flags == UNDERSCORE && rules.underscores)
    }
}

/// `ignore_invalid_headers` and `underscores_in_headers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldRules {
    /// `ignore_invalid_headers`
    pub ignore_invalid: bool,
    /// `underscores_in_headers`
    pub underscores: bool,
}

impl Default for FieldRules {
    fn default() -> Self {
        Self { ignore_invalid: true, underscores: false }
    }
}

/// What stands at the beginning of a line of a head.
pub(super) enum FieldLine<'a> {
    /// A field; the next lines follow.
    Field(Field, &'a [u8]),
    /// The empty line that ends the head; what is behind it follows.
    End(&'a [u8]),
    /// The line has not arrived entirely.
    Partial,
    /// The byte at the offset must not stand there.
    Bad(usize),
}

/// Control characters and the space end the parse; whatever else is no token is only flagged, as in nginx.
static NAME: ByteClass = ByteClass::build(
    ODD,
    &[
        (b'A', b'Z', 0),
        (b'a', b'z', 0),
        (b'0', b'9', 0),
        (b'-', b'-', 0),
        (b'_', b'_', UNDERSCORE),
        (0x00, 0x20, BAD),
        (0x7f, 0x7f, BAD),
    ],
);

/// Parses the first of `lines`, which are the end of `buf`. With `BARE_LF`, a line may end in a LF alone, which nginx
/// accepts in heads.
#[inline(always)]
pub(super) fn parse_line<'a, const BARE_LF: bool>(buf: &[u8], lines: &'a [u8]) -> FieldLine<'a> {
    let at = buf.len() - lines.len();
    if lines.first().is_none_or(|byte| *byte <= b' ') {
        return end_of_head::<BARE_LF>(at, lines);
    }
    // This may find the colon of a later line; then the line break will turn up in the name.
    let name_len = colon(lines);
    let Some((name, rest)) = lines.split_at_checked(name_len) else { return FieldLine::Partial };
    let known = Known::of_name(name, lines);
    let mut flags = 0;
    if known == Known::Other {
        match check_name(name) {
            Ok(odd) => flags = odd,
            Err(bad) => return FieldLine::Bad(at + bad),
        }
    }
    let ([_, b' ', value @ ..] | [_, value @ ..]) = rest else { return FieldLine::Partial };
    let mut value = value;
    if value.first().is_some_and(|byte| *byte <= b' ') {
        value = trim_start(value);
    }
    let start = buf.len() - value.len();
    let (mut text, next) = match text_end::<BARE_LF>(value, buf) {
        TextEnd::At(text, next) => (text, next),
        TextEnd::Partial => return FieldLine::Partial,
        TextEnd::Bad(bad) => return FieldLine::Bad(start + bad),
    };
    if text.last().is_some_and(|byte| *byte <= b' ') {
        text = trim_end(text);
    }
    let field = Field {
        name: Span::new(at, at + name_len),
        value: Span::new(start, start + text.len()),
        known,
        flags,
    };
    FieldLine::Field(field, next)
}

fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}

fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// The flags of what stands before a colon (or the end of the bytes), or where it goes wrong: a control character,
/// which includes the end of a line without a colon, a space, which includes that before a colon and folding
/// (RFC 9112, 5.1 and 5.2), or an empty name.
#[inline(always)]
fn check_name(name: &[u8]) -> Result<u8, usize> {
    let of = |bytes: &[u8]| bytes.iter().fold(0, |flags, byte| flags | NAME.of(*byte));
    // Eight at a time, which the compiler writes out.
    let (mut rest, mut flags) = (name, 0);
    while let Some((bytes, tail)) = rest.split_first_chunk::<8>() {
        flags |= of(bytes);
        rest = tail;
    }
    flags |= of(rest);
    if flags & BAD != 0 || name.is_empty() {
        return Err(name.iter().position(|byte| NAME.of(*byte) == BAD).unwrap_or(0));
    }
    Ok(flags)
}

/// A line that begins with a control character or a space, or not at all.
#[inline(always)]
fn end_of_head<const BARE_LF: bool>(at: usize, lines: &[u8]) -> FieldLine<'_> {
    match lines {
        [b'\r', b'\n', next @ ..] => FieldLine::End(next),
        [] | [b'\r'] => FieldLine::Partial,
        [b'\n', next @ ..] if BARE_LF => FieldLine::End(next),
        _ => FieldLine::Bad(at),
    }
}

/// The fields of a head in the order sent, with the known ones indexed.
#[derive(Clone, Debug)]
pub struct Fields {
    list: Vec<Field>,
    first: [u16; Known::COUNT],
    repeated: u64,
    odd_names: bool,
    /// Which groups of names occur.
    groups: u8,
}

const NONE: u16 = u16::MAX;
/// Fields that most heads have at most.
const USUAL: usize = 16;

impl Default for Fields {
    fn default() -> Self {
        Self::reusing(Vec::new())
    }
}

impl std::ops::Deref for Fields {
    type Target = [Field];

    #[inline]
    fn deref(&self) -> &[Field] {
        &self.list
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = &'a Field;
    type IntoIter = std::slice::Iter<'a, Field>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

const CONDITION: u8 = 1;
const FRAMES: u8 = 2;

/// Names that are asked for together.
static GROUPS: ByteClass = {
    const fn only(known: Known, group: u8) -> (u8, u8, u8) {
        (known as u8, known as u8, group)
    }
    ByteClass::build(
        0,
        &[
            only(Known::IfMatch, CONDITION),
            only(Known::IfNoneMatch, CONDITION),
            only(Known::IfModifiedSince, CONDITION),
            only(Known::IfUnmodifiedSince, CONDITION),
            only(Known::Connection, FRAMES),
            only(Known::ContentLength, FRAMES),
            only(Known::TransferEncoding, FRAMES),
            only(Known::Expect, FRAMES),
        ],
    )
};

impl Fields {
    /// More fields than this cannot be indexed; heads that have them are refused.
    pub(super) const MAX: usize = NONE as usize - 1;

    /// No fields, but the memory of others.
    pub(super) fn reusing(mut list: Vec<Field>) -> Self {
        list.clear();
        Self { list, first: [NONE; Known::COUNT], repeated: 0, odd_names: false, groups: 0 }
    }

    /// The same fields, in memory of its own.
    pub(super) fn copy_from(&mut self, other: &Self) {
        self.list.clear();
        self.list.extend_from_slice(&other.list);
        self.first = other.first;
        self.repeated = other.repeated;
        self.odd_names = other.odd_names;
        self.groups = other.groups;
    }

    /// Whether another one can be indexed.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.list.len() < Self::MAX
    }

    /// Makes room for as many as most heads have, in one piece.
    #[inline(always)]
    pub(super) fn reserve(&mut self) {
        if self.list.capacity() == 0 {
            self.list.reserve(USUAL);
        }
    }

    #[inline(always)]
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.first = [NONE; Known::COUNT];
        self.repeated = 0;
        self.odd_names = false;
        self.groups = 0;
    }

    #[inline(always)]
    pub(super) fn push(&mut self, field: Field) {
        if field.known != Known::Other {
            self.groups |= GROUPS.of(field.known as u8);
            if let Some(first @ &mut NONE) = self.first.get_mut(field.known as usize) {
                *first = self.list.len() as u16; // see `MAX`
            } else {
                self.repeated |= field.known.bit();
            }
        }
        if field.flags != 0 {
            self.odd_names = true;
        }
        self.list.push(field);
    }

    /// Whether any rules accept them all, and there are no more than `max`.
    #[inline]
    #[must_use]
    pub fn is_fine(&self, max: usize) -> bool {
        !self.odd_names && self.list.len() <= max
    }

    /// Whether some field is a condition: `If-Match`, `If-None-Match`, `If-Modified-Since`, `If-Unmodified-Since`.
    #[inline]
    #[must_use]
    pub fn has_conditions(&self) -> bool {
        self.groups & CONDITION != 0
    }

    /// Whether some field may say how the body is delimited, or what becomes of the connection.
    #[inline]
    pub(super) fn frames(&self) -> bool {
        self.groups & FRAMES != 0
    }

    /// Keeps the fields that `rules` accept and tells `dropped` of the others.
    pub fn filter(&mut self, rules: FieldRules, mut dropped: impl FnMut(&Field)) {
        if !self.odd_names {
            return;
        }
        let list = std::mem::take(&mut self.list);
        self.clear();
        self.list.reserve(list.len());
        for field in list {
            if field.is_accepted(rules) {
                self.push(field);
            } else {
                dropped(&field);
            }
        }
    }

    /// Gives the list away to be edited; put it back with [`Fields::rebuild`].
    pub(super) fn take(&mut self) -> Vec<Field> {
        std::mem::take(&mut self.list)
    }

    /// Indexes an edited list.
    pub(super) fn rebuild(&mut self, list: Vec<Field>) {
        self.clear();
        self.list.reserve(list.len());
        for field in list.into_iter().take(Self::MAX) {
            self.push(field);
        }
    }

    /// Index of the first field of this name.
    #[inline]
    #[must_use]
    pub fn index_of(&self, known: Known) -> Option<usize> {
        match self.first.get(known as usize) {
            Some(&index) if index != NONE => Some(usize::from(index)),
            _ => None,
        }
    }

    /// The first field of this name.
    #[inline]
    #[must_use]
    pub fn first(&self, known: Known) -> Option<&Field> {
        self.index_of(known).and_then(|index| self.list.get(index))
    }

    /// The value of the first field of this name.
    #[inline]
    #[must_use]
    pub fn value<'b>(&self, known: Known, buf: &'b [u8]) -> Option<&'b [u8]> {
        self.first(known).map(|field| field.value.of(buf))
    }

    /// Whether the name occurs more than once.
    #[inline]
    #[must_use]
    pub fn is_repeated(&self, known: Known) -> bool {
        known.is_in(self.repeated)
    }

    /// The set of the names that occur more than once.
    #[inline]
    #[must_use]
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    /// All fields of this name, in order. Meant for known names.
    pub fn all(&self, known: Known) -> impl Iterator<Item = &Field> {
        let from = self.index_of(known).unwrap_or(self.list.len());
        let to = if self.is_repeated(known) { self.list.len() } else { from.saturating_add(1) };
        let found = self.list.get(from..to).unwrap_or_default();
        found.iter().filter(move |field| field.known == known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: Option<(&str, &str)>) {
        let got = match parse_line::<true>(line.as_bytes(), line.as_bytes()) {
            FieldLine::Field(field, _) => Some((
                String::from_utf8_lossy(field.name.of(line.as_bytes())).into_owned(),
                String::from_utf8_lossy(field.value.of(line.as_bytes())).into_owned(),
            )),
            _ => None,
        };
        assert_eq!(got, expect.map(|(name, value)| (name.to_owned(), value.to_owned())), "{line:?}");
    }

    #[test]
    fn lines_are_split_as_rfc_9112_5_says() {
        check("Host: a\r\n", Some(("Host", "a")));
        check("Host:a\n", Some(("Host", "a")));
        check("Host:  a b \t \r\n", Some(("Host", "a b")));
        check("Host:\r\n", Some(("Host", "")));
        check("Host: \t \r\n", Some(("Host", "")));
        check("a.b: c\r\n", Some(("a.b", "c")));
        check("a: caf\u{e9}\r\n", Some(("a", "caf\u{e9}")));
        check("a: b\u{1}c\r\n", Some(("a", "b\u{1}c"))); // nginx: other controls are left in values
    }

    #[test]
    fn broken_lines_are_refused() {
        check("Host : a\r\n", None); // RFC 9112, 5.1
        check(" folded\r\n", None); // RFC 9112, 5.2
        check("\tfolded\r\n", None);
        check(": a\r\n", None);
        check("no colon\r\n", None);
        check("nocolon\r\n", None);
        check("a: b\rc\r\n", None);
        check("a: b\r\r\n", None);
        check("a: b\0c\r\n", None);
        check("a\u{7f}: b\r\n", None);
    }
}
