//! Changing the fields of a head after it was parsed: what programs do with request headers.

use super::{field::Field, field::Known, head::RequestHead, method::Method};
use crate::Span;

impl RequestHead {
    /// The value of the first field of that name, in any case.
    #[must_use]
    pub fn get<'b>(&self, buf: &'b [u8], name: &[u8]) -> Option<&'b [u8]> {
        match Known::lookup(name) {
            Known::Other => self
                .fields
                .iter()
                .find(|field| field.known == Known::Other && field.name.of(buf).eq_ignore_ascii_case(name))
                .map(|field| field.value.of(buf)),
            known => self.fields.value(known, buf),
        }
    }

    /// Replaces all fields of that name by one, at the place of the first. Name and value are appended to `buf`, the
    /// buffer that was parsed.
    pub fn set(&mut self, buf: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        let made = Self::made(buf, name, value);
        let mut list = self.fields.take();
        let at = list.iter().position(|field| field.name.of(buf).eq_ignore_ascii_case(name));
        match at {
            Some(at) => {
                let mut index = 0;
                list.retain(|field| {
                    index += 1;
                    index - 1 <= at || !field.name.of(buf).eq_ignore_ascii_case(name)
                });
                if let Some(field) = list.get_mut(at) {
                    *field = made;
                }
            }
            None => list.push(made),
        }
        self.fields.rebuild(list);
    }

    /// Adds a field behind all others.
    pub fn append(&mut self, buf: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        let made = Self::made(buf, name, value);
        let mut list = self.fields.take();
        list.push(made);
        self.fields.rebuild(list);
    }

    /// Writes a field behind all others, as a parser would have found it: what makes its name odd is noted, and the white
    /// space around its value is no part of that. `false` when no head could have it.
    pub fn push(&mut self, buf: &mut Vec<u8>, name: &[u8], value: &[u8]) -> bool {
        let start = buf.len();
        for part in [name, b": ", value, b"\r\n"] {
            buf.extend_from_slice(part);
        }
        let line = buf.get(start..).unwrap_or_default();
        match Field::written(start, name.len(), line) {
            Some(field) if self.fields.has_room() => {
                self.fields.push(field);
                true
            }
            _ => false,
        }
    }

    /// Replaces the method; its name is appended to `buf`.
    pub fn set_method(&mut self, buf: &mut Vec<u8>, method: Method) {
        let start = buf.len();
        buf.extend_from_slice(method.name().as_bytes());
        self.method = method;
        self.method_name = Span::new(start, buf.len());
    }

    /// Removes all fields of that name.
    pub fn remove(&mut self, buf: &[u8], name: &[u8]) {
        let mut list = self.fields.take();
        list.retain(|field| !field.name.of(buf).eq_ignore_ascii_case(name));
        self.fields.rebuild(list);
    }

    fn made(buf: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Field {
        let start = buf.len();
        buf.extend_from_slice(name);
        buf.extend_from_slice(b": ");
        let middle = buf.len();
        buf.extend_from_slice(value);
        let end = buf.len();
        buf.extend_from_slice(b"\r\n");
        Field::made(Span::new(start, start + name.len()), Span::new(middle, end), Known::lookup(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{FieldRules, HeadLimits};

    #[test]
    fn what_is_written_is_what_would_be_parsed() {
        let fields: [(&str, &str); 8] = [
            ("host", "a.example"),
            ("x", ""),
            ("x-odd.name", "1"),
            ("with_underscore", "2"),
            ("content-length", " \t7 \t"),
            ("x-spaces", " \t "),
            ("Host", "again"),
            ("caf\u{e9}", "\u{e9}: b\tc"),
        ];
        let mut buf = b"POST /a%20b/../c?d HTTP/1.1\r\n".to_vec();
        let mut written = RequestHead::new();
        assert_eq!(written.parse_line(&buf), Ok(true));
        for (name, value) in fields {
            assert!(written.push(&mut buf, name.as_bytes(), value.as_bytes()), "{name}");
        }
        buf.extend_from_slice(b"\r\n");
        let mut parsed = RequestHead::new();
        parsed.parse(&buf, &HeadLimits::default()).unwrap();
        assert_eq!(written.fields.to_vec(), parsed.fields.to_vec());
        assert_eq!(written.fields.repeated(), parsed.fields.repeated());
        assert_eq!((written.path, written.args, written.line), (parsed.path, parsed.args, parsed.line));
        for rules in [FieldRules::default(), FieldRules { underscores: true, ..FieldRules::default() }] {
            let (mut a, mut b) = (written.clone(), parsed.clone());
            a.filter(rules, 100, |_| {}).unwrap();
            b.filter(rules, 100, |_| {}).unwrap();
            assert_eq!(a.fields.to_vec(), b.fields.to_vec());
        }
        // The memory is used again.
        let mut buf = b"GET / HTTP/1.1\r\n".to_vec();
        assert_eq!(written.parse_line(&buf), Ok(true));
        assert!(written.fields.is_empty() && written.push(&mut buf, b"a", b"b"));
    }

    #[test]
    fn what_no_head_could_have_is_not_written() {
        let mut head = RequestHead::new();
        for line in ["GET / HTTP/1.1\r\nA: b\r\n", "GET / HTTP/1.1", "GET /\r\n\r\n HTTP/1.1\r\n"] {
            assert_ne!(head.parse_line(line.as_bytes()), Ok(true), "{line:?}");
        }
        for (name, value) in [("", "a"), ("a b", "c"), ("a", "b\r\nc: d"), ("a", "b\0"), ("a\u{7f}", "b")] {
            assert!(!head.push(&mut Vec::new(), name.as_bytes(), value.as_bytes()), "{name:?}");
        }
    }

    #[test]
    fn fields_are_replaced_added_and_removed() {
        let mut buf = b"GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nx-a: 2\r\nB: 3\r\n\r\n".to_vec();
        let mut head = RequestHead::new();
        head.parse(&buf.clone(), &HeadLimits::default()).unwrap();
        head.set(&mut buf, b"X-a", b"9");
        assert_eq!(head.get(&buf, b"x-A"), Some(&b"9"[..]));
        assert_eq!(head.fields.len(), 3);
        head.append(&mut buf, b"Host", b"b");
        assert!(head.fields.is_repeated(Known::Host));
        head.remove(&buf, b"HOST");
        assert_eq!(head.fields.value(Known::Host, &buf), None);
        head.set(&mut buf, b"Host", b"c");
        assert_eq!(head.fields.value(Known::Host, &buf), Some(&b"c"[..]));
        assert_eq!(head.get(&buf, b"B"), Some(&b"3"[..]));
    }
}
