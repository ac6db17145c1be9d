//! Response header fields as Lua sees them: one list, although the head keeps some of them apart.
//! <https://github.com/openresty/lua-nginx-module#ngxheaderheader>

use bytes::Bytes;
use moonrest_http::{
    Request,
    response::{FieldOut, HeadersOut},
};
use moonrest_proto::{date, http1::framing};

/// The value cannot be this field's.
pub(crate) struct Invalid;

/// Sets a field, or adds to it; an empty value removes it. `name` and `value` are escaped already.
///
/// # Errors
/// [`Invalid`] for a length that is none.
pub(crate) fn set(out: &mut HeadersOut, name: &[u8], value: &[u8], replace: bool) -> Result<(), Invalid> {
    let some = || (!value.is_empty()).then(|| Bytes::copy_from_slice(value));
    match Kept::of(name) {
        Kept::ContentType => {
            out.content_type = Bytes::copy_from_slice(value);
            out.content_type_len = memchr::memchr(b';', value).unwrap_or(value.len());
        }
        Kept::ContentLength if value.is_empty() => out.content_length = None,
        Kept::ContentLength => out.content_length = Some(framing::parse_length(value).ok_or(Invalid)?),
        Kept::LastModified => {
            out.remove(name);
            out.last_modified = date::parse_http(value);
            if out.last_modified.is_none_or(|time| date::http(time) != *value) && !value.is_empty() {
                // What is no time is sent as it stands.
                out.last_modified = None;
                list_set(out, name, value, true);
            }
        }
        Kept::Location => {
            out.location = None;
            out.remove(name);
            // nginx: a path that Lua sets is not made a URL of this server.
            if value.starts_with(b"/") { list_set(out, name, value, true) } else { out.location = some() }
        }
        Kept::Server => out.server = Some(Bytes::copy_from_slice(value)),
        Kept::Date => out.date = Some(Bytes::copy_from_slice(value)),
        Kept::Etag => out.etag = some(),
        Kept::ContentEncoding => out.content_encoding = some(),
        Kept::Single => list_set(out, name, value, true),
        Kept::Other => list_set(out, name, value, replace),
    }
    Ok(())
}

/// In the list the first field of the name keeps its place.
fn list_set(out: &mut HeadersOut, name: &[u8], value: &[u8], replace: bool) {
    if value.is_empty() {
        if replace {
            out.remove(name);
        }
        return;
    }
    let value = Bytes::copy_from_slice(value);
    let first = out.fields.iter().position(|field| field.name.eq_ignore_ascii_case(name));
    match first {
        Some(first) if replace => {
            let mut index = 0;
            out.fields.retain(|field| {
                index += 1;
                index - 1 <= first || !field.name.eq_ignore_ascii_case(name)
            });
            if let Some(field) = out.fields.get_mut(first) {
                field.value = value;
            }
        }
        _ => out.fields.push(FieldOut { name: Bytes::copy_from_slice(name), value }),
    }
}

/// Where the head keeps a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    ContentType,
    ContentLength,
    LastModified,
    Location,
    Server,
    Date,
    Etag,
    ContentEncoding,
    /// In the list, once.
    Single,
    Other,
}

impl Kept {
    fn of(name: &[u8]) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            4 if is("date") => Self::Date,
            4 if is("etag") => Self::Etag,
            5 if is("e-tag") => Self::Etag,
            6 if is("server") => Self::Server,
            7 if is("refresh") || is("expires") => Self::Single,
            8 if is("location") => Self::Location,
            12 if is("content-type") => Self::ContentType,
            13 if is("last-modified") => Self::LastModified,
            13 if is("content-range") || is("accept-ranges") => Self::Single,
            14 if is("content-length") => Self::ContentLength,
            16 if is("content-encoding") => Self::ContentEncoding,
            _ => Self::Other,
        }
    }
}

/// Appends the value of a field that the head keeps as a number or a time.
pub(crate) fn computed(out: &HeadersOut, name: &[u8], text: &mut Vec<u8>) {
    match Kept::of(name) {
        Kept::ContentLength => {
            text.extend(out.content_length.iter().flat_map(|n| n.to_string().into_bytes()))
        }
        Kept::LastModified => text.extend(out.last_modified.iter().flat_map(|time| date::http(*time))),
        _ => {}
    }
}

/// The values of a field, in order; `text` is what [`computed`] made.
pub(crate) fn get<'a>(out: &'a HeadersOut, name: &[u8], text: &'a [u8]) -> smallvec::SmallVec<[&'a [u8]; 4]> {
    let mut values = smallvec::SmallVec::new();
    let kept = Kept::of(name);
    let one = match kept {
        Kept::ContentType => Some(&*out.content_type),
        Kept::Server => out.server.as_deref(),
        Kept::Date => out.date.as_deref(),
        Kept::Etag => out.etag.as_deref(),
        Kept::ContentEncoding => out.content_encoding.as_deref(),
        Kept::Location => out.location.as_deref(),
        Kept::ContentLength | Kept::LastModified => Some(text),
        Kept::Single | Kept::Other => None,
    };
    values.extend(one.filter(|value| !value.is_empty()));
    if kept != Kept::ContentType && values.is_empty() {
        let listed = out.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        values.extend(listed.map(|field| &*field.value));
    }
    values
}

/// Calls `each` for every field of `ngx.resp.get_headers`, in upstream's order.
pub(crate) fn for_each(r: &Request, mut each: impl FnMut(&[u8], &[u8])) {
    let out = r.out();
    if !out.content_type.is_empty() {
        each(b"content-type", &out.content_type);
    }
    if let Some(length) = out.content_length {
        each(b"content-length", length.to_string().as_bytes());
    }
    let connection: &[u8] = match (out.status, r.keepalive.get()) {
        (101, _) => b"upgrade",
        (_, true) => b"keep-alive",
        (_, false) => b"close",
    };
    each(b"connection", connection);
    if r.chunked.get() {
        each(b"transfer-encoding", b"chunked");
    }
    let time = out.last_modified.map(date::http);
    let apart: [(&[u8], Option<&[u8]>); 6] = [
        (b"Server", out.server.as_deref()),
        (b"Date", out.date.as_deref()),
        (b"Last-Modified", time.as_ref().map(<[u8; 29]>::as_slice)),
        (b"Location", out.location.as_deref()),
        (b"ETag", out.etag.as_deref()),
        (b"Content-Encoding", out.content_encoding.as_deref()),
    ];
    for (name, value) in apart {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            each(name, value);
        }
    }
    for field in &out.fields {
        each(&field.name, &field.value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sets: &[(&str, &str, bool)], name: &str, expect: &[&str]) {
        let mut out = HeadersOut::default();
        for (name, value, replace) in sets {
            let _ = set(&mut out, name.as_bytes(), value.as_bytes(), *replace);
        }
        let mut text = Vec::new();
        computed(&out, name.as_bytes(), &mut text);
        let got = get(&out, name.as_bytes(), &text);
        let got: Vec<_> = got.iter().map(|value| String::from_utf8_lossy(value)).collect();
        assert_eq!(got, expect, "{name}");
    }

    #[test]
    fn fields_are_set_added_and_removed() {
        check(&[("X-A", "1", true), ("x-a", "2", true)], "X-a", &["2"]);
        check(&[("X-A", "1", true), ("x-a", "2", false)], "X-a", &["1", "2"]);
        check(&[("X-A", "1", true), ("x-a", "", true)], "X-a", &[]);
        check(&[("Expires", "1", true), ("Expires", "2", false)], "expires", &["2"]);
    }

    #[test]
    fn fields_that_are_kept_apart_read_as_others() {
        check(&[("content-length", "012", true)], "Content-Length", &["12"]);
        check(&[("content-length", "12x", true)], "Content-Length", &[]);
        check(&[("Location", "/a", true)], "location", &["/a"]);
        check(&[("Location", "/a", true), ("Location", "http://b/", true)], "location", &["http://b/"]);
        check(
            &[("Last-Modified", "Thu, 18 Nov 2010 11:27:35 GMT", true)],
            "last-modified",
            &["Thu, 18 Nov 2010 11:27:35 GMT"],
        );
        check(&[("Last-Modified", "today", true)], "last-modified", &["today"]);
        check(&[("Server", "x", true)], "server", &["x"]);
        check(&[("Content-Type", "text/a; b=c", true)], "content-type", &["text/a; b=c"]);
    }
}
