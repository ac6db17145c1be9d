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
    use crate::http1::HeadLimits;

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
