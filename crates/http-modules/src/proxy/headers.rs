//! `proxy_set_header`: the fields that requests to the upstream have, and those of the client that they do not have.

use moonrest_http::{prelude::*, response::checked, upstream::States};
use moonrest_proto::http1::{Known, framing::options};

/// The fields of one location's requests.
pub(crate) struct Headers {
    pub host: Option<Template>,
    fields: Vec<Line>,
    /// The client's own fields of these names are not passed on.
    replaced: u64,
    replaced_others: Vec<Box<[u8]>>,
}

/// The fields that requests have where the configuration says nothing else; with no value, none, not even the
/// client's.
pub(super) const FIELDS: &[(&str, Option<Value>)] = &[
    ("Host", None),
    ("Connection", None),
    ("Proxy-Connection", None),
    ("Content-Length", Some(Value::BodyLength)),
    ("Transfer-Encoding", Some(Value::Coding)),
    ("TE", None),
    ("Keep-Alive", None),
    ("Expect", None),
    ("Upgrade", None),
];

/// The same for requests whose answers are to be kept.
const FOR_CACHE: &[(&str, Option<Value>)] = &[
    ("If-Modified-Since", Some(Value::CachedModified)),
    ("If-Unmodified-Since", None),
    ("If-None-Match", Some(Value::CachedEtag)),
    ("If-Match", None),
    ("Range", None),
    ("If-Range", None),
];

/// What a field says.
#[derive(Clone)]
pub(crate) enum Value {
    Template(Template),
    /// What this function appends.
    Given(fn(&Request, &mut Vec<u8>)),
    BodyLength,
    Coding,
    /// What the validators of a stale answer in the cache say.
    CachedModified,
    CachedEtag,
}

/// A field, or several.
enum Line {
    /// Whole lines that are the same in all requests.
    Fixed(Vec<u8>),
    Made {
        /// With the colon and a space.
        name: Box<[u8]>,
        value: Value,
        /// It asks for an upgrade, unless it is empty.
        upgrades: bool,
    },
}

/// What the body's framing comes to.
pub(crate) struct BodyFields {
    pub length: Option<u64>,
    pub chunked: bool,
}

impl Headers {
    /// The fields that the configuration sets, completed by those that every request has or must not have. What is
    /// asked for the `cache` is asked for whole, and not under the client's conditions.
    pub(crate) fn new(
        set: &[(Box<[u8]>, Template)],
        defaults: &[(&str, Option<Value>)],
        cache: bool,
    ) -> Self {
        let mut headers = Self { host: None, fields: Vec::new(), replaced: 0, replaced_others: Vec::new() };
        for (name, value) in set {
            if name.eq_ignore_ascii_case(b"host") {
                headers.host = Some(value.clone());
                continue;
            }
            headers.replace(name);
            if value.as_static() != Some(b"") {
                headers.push(name, Value::Template(value.clone()));
            }
        }
        for (name, value) in defaults.iter().chain(FOR_CACHE.iter().filter(|_| cache)) {
            let name = name.as_bytes();
            if set.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) && name != b"Host" {
                continue;
            }
            headers.replace(name);
            if let Some(value) = value {
                headers.push(name, value.clone());
            }
        }
        headers
    }

    fn push(&mut self, name: &[u8], value: Value) {
        let upgrades = name.eq_ignore_ascii_case(b"upgrade");
        let name = [name, b": "].concat();
        let text = match &value {
            Value::Template(template) if !upgrades => template.as_static(),
            _ => None,
        };
        match (text, self.fields.last_mut()) {
            (Some(text), Some(Line::Fixed(lines))) => lines.extend([&name, text, b"\r\n"].concat()),
            (Some(text), _) => self.fields.push(Line::Fixed([&name, text, b"\r\n"].concat())),
            (None, _) => self.fields.push(Line::Made { name: name.into(), value, upgrades }),
        }
    }

    fn replace(&mut self, name: &[u8]) {
        match Known::ALL.iter().find(|known| known.name().as_bytes().eq_ignore_ascii_case(name)) {
            Some(known) => self.replaced |= known.bit(),
            None => self.replaced_others.push(name.into()),
        }
    }

    /// Whether a field of the client's is left out.
    pub(super) fn replaces(&self, known: Known, name: &[u8]) -> bool {
        match known {
            Known::Other => self.replaced_others.iter().any(|other| other.eq_ignore_ascii_case(name)),
            known => known.is_in(self.replaced),
        }
    }

    /// Appends the client's fields, but for those that the configuration replaces and those that end here.
    pub(crate) fn append_clients(&self, r: &Request, out: &mut Vec<u8>) {
        let head = r.head.borrow();
        let block = r.block.borrow();
        let mut named: Vec<&[u8]> = Vec::new();
        for field in head.fields.all(Known::Connection) {
            let value = field.value.of(&block);
            if !is_usual_option(value) {
                named.extend(options(value).filter(|name| !is_usual_option(name)));
            }
        }
        // Neighbours that were written as we write them are copied together.
        let (mut from, mut to) = (0, 0);
        for field in &head.fields {
            let name = field.name.of(&block);
            if self.replaces(field.known, name)
                || (!named.is_empty() && named.iter().any(|named| named.eq_ignore_ascii_case(name)))
            {
                continue;
            }
            let (start, end) = (field.name.start as usize, field.value.end() + 2);
            let colon = block.get(field.name.end()..field.value.start as usize);
            if colon == Some(b": ") && block.get(field.value.end()..end) == Some(b"\r\n") {
                if to != start {
                    out.extend_from_slice(block.get(from..to).unwrap_or_default());
                    from = start;
                }
                to = end;
                continue;
            }
            out.extend_from_slice(block.get(from..to).unwrap_or_default());
            (from, to) = (0, 0);
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(field.value.of(&block));
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(block.get(from..to).unwrap_or_default());
    }

    /// Appends the fields; tells whether an upgrade is asked for.
    pub(crate) fn append(&self, r: &Request, body: &BodyFields, out: &mut Vec<u8>) -> bool {
        let mut upgraded = false;
        for line in &self.fields {
            let (name, value, upgrades) = match line {
                Line::Fixed(lines) => {
                    out.extend_from_slice(lines);
                    continue;
                }
                Line::Made { value: Value::BodyLength, .. } if body.length.is_none() => continue,
                Line::Made { value: Value::Coding, .. } if !body.chunked => continue,
                Line::Made { name, value, upgrades } => (name, value, upgrades),
            };
            let start = out.len();
            out.extend_from_slice(name);
            let value_at = out.len();
            match value {
                Value::Template(template) => append_checked(template, r, out),
                Value::BodyLength => moonrest_http::decimal::append(out, body.length.unwrap_or_default()),
                Value::Given(append) => append(r, out),
                Value::Coding => out.extend_from_slice(b"chunked"),
                Value::CachedModified | Value::CachedEtag => {
                    if let Some(states) = r.find_ctx::<States>() {
                        match value {
                            Value::CachedModified => states.append_cached_modified(out),
                            _ => states.append_cached_etag(out),
                        };
                    }
                }
            }
            if out.len() == value_at {
                out.truncate(start);
                continue;
            }
            upgraded |= upgrades;
            out.extend_from_slice(b"\r\n");
        }
        upgraded
    }
}

/// Whether an option of `Connection` is about the connection itself.
fn is_usual_option(name: &[u8]) -> bool {
    matches!(name, b"keep-alive" | b"Keep-Alive" | b"close" | b"upgrade")
        || [&b"keep-alive"[..], b"close", b"upgrade"].iter().any(|usual| name.eq_ignore_ascii_case(usual))
}

/// Appends a value that cannot end its line.
pub(crate) fn append_checked(template: &Template, r: &Request, out: &mut Vec<u8>) {
    if let Some(text) = template.as_static() {
        out.extend_from_slice(text);
        return;
    }
    let start = out.len();
    template.append(r, out);
    if out.iter().skip(start).any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        let value = checked(out.split_off(start));
        out.extend_from_slice(&value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hop_by_hop_fields_are_never_the_clients() {
        let headers = Headers::new(
            &[
                (Box::from(&b"Host"[..]), Template::literal(b"a")),
                (Box::from(&b"connection"[..]), Template::literal(b"upgrade")),
                (Box::from(&b"X-Own"[..]), Template::literal(b"")),
            ],
            FIELDS,
            false,
        );
        assert!(headers.host.is_some());
        for (known, name) in [
            (Known::Host, &b"Host"[..]),
            (Known::Connection, b"Connection"),
            (Known::TransferEncoding, b"Transfer-Encoding"),
            (Known::ContentLength, b"Content-Length"),
            (Known::Upgrade, b"Upgrade"),
            (Known::Other, b"x-own"),
        ] {
            assert!(headers.replaces(known, name), "{known:?}");
        }
        assert!(!headers.replaces(Known::Other, b"x-other") && !headers.replaces(Known::Cookie, b"Cookie"));
        assert_eq!(headers.fields.len(), 3);
    }

    #[test]
    fn what_is_kept_for_others_is_asked_for_whole() {
        let (own, cache) = (Headers::new(&[], FIELDS, false), Headers::new(&[], FIELDS, true));
        for (known, name) in [(Known::Range, &b"Range"[..]), (Known::IfNoneMatch, b"If-None-Match")] {
            assert!(cache.replaces(known, name) && !own.replaces(known, name));
        }
    }
}
