//! The response head while it is being made.

use bytes::Bytes;

/// Names of fields that filters look for are compared without case; the order and case given are what is sent.
#[derive(Clone, Debug)]
pub struct FieldOut {
    pub name: Bytes,
    pub value: Bytes,
}

/// Status, well-known fields and the list of all others.
///
/// `Server`, `Date`, `Content-Type`, `Content-Length`, `Last-Modified`, `Connection`, `Keep-Alive`, `Transfer-Encoding`
/// and `Location` are written by the protocol driver from what stands here; everything else is in `fields`.
#[derive(Debug, Default)]
pub struct HeadersOut {
    pub status: u16,
    /// Replaces the whole status line's code and reason, as an upstream or Lua gave it.
    pub status_line: Option<Bytes>,
    /// Without the charset; empty means that no `Content-Type` is sent.
    pub content_type: Bytes,
    /// Sent as `; charset=…` when the type has none of its own.
    pub charset: Option<Bytes>,
    /// The charset an upstream asks for in place of the configuration's (`X-Accel-Charset`).
    pub override_charset: Option<Bytes>,
    /// How much of `content_type` is the media type itself, for tables of types.
    pub content_type_len: usize,
    pub content_length: Option<u64>,
    /// Where in the whole content the body begins, when it is a part of it already (`slice`).
    pub content_offset: u64,
    /// Seconds since 1970.
    pub last_modified: Option<i64>,
    /// The same as an upstream wrote it, which is what is sent then.
    pub last_modified_text: Option<Bytes>,
    /// With its quotes and `W/`.
    pub etag: Option<Bytes>,
    /// Sent as it is, or made absolute by the driver when it starts with a slash.
    pub location: Option<Bytes>,
    /// A body in pieces of a file may be answered in parts (`Accept-Ranges: bytes`).
    pub allow_ranges: bool,
    /// `Content-Encoding`, which compression filters look at.
    pub content_encoding: Option<Bytes>,
    /// Replaces our own `Server`; empty removes it.
    pub server: Option<Bytes>,
    /// Replaces our own `Date`; empty removes it.
    pub date: Option<Bytes>,
    /// Everything else, in order.
    pub fields: Vec<FieldOut>,
    /// Sent behind a chunked body.
    pub trailers: Vec<FieldOut>,
    /// Trailers will come: do not announce a length.
    pub expect_trailers: bool,
}

/// A value that cannot end its line: CR, LF and NUL become spaces.
pub fn checked(mut value: Vec<u8>) -> Bytes {
    for byte in &mut value {
        if matches!(byte, b'\r' | b'\n' | 0) {
            *byte = b' ';
        }
    }
    value.into()
}

/// A status with its reason, as status lines have it; `None` for one without a name.
pub fn status_text(status: u16) -> Option<&'static str> {
    crate::server::reason(status)
}

/// The fields that have a place of their own.
const SPECIAL: [&[u8]; 9] = [
    b"content-type",
    b"content-length",
    b"location",
    b"server",
    b"date",
    b"etag",
    b"content-encoding",
    b"last-modified",
    b"accept-ranges",
];

impl HeadersOut {
    /// Empties it for the next response, keeping its memory. Written out, because most of it is empty already.
    #[inline]
    pub fn clear(&mut self) {
        self.status = 0;
        self.content_type_len = 0;
        self.content_length = None;
        self.content_offset = 0;
        self.last_modified = None;
        self.allow_ranges = false;
        self.expect_trailers = false;
        let Self {
            status_line,
            last_modified_text,
            charset,
            override_charset,
            etag,
            location,
            content_encoding,
            server,
            date,
            ..
        } = self;
        for value in [
            status_line,
            last_modified_text,
            charset,
            override_charset,
            etag,
            location,
            content_encoding,
            server,
            date,
        ] {
            if value.is_some() {
                *value = None;
            }
        }
        if !self.content_type.is_empty() {
            self.content_type = Bytes::new();
        }
        if !self.fields.is_empty() {
            self.fields.clear();
        }
        if !self.trailers.is_empty() {
            self.trailers.clear();
        }
    }

    /// Adds a field behind the others.
    pub fn add(&mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.fields.push(FieldOut { name: name.into(), value: value.into() });
    }

    /// Replaces all fields of that name by one.
    pub fn set(&mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) {
        let name = name.into();
        self.remove(&name);
        self.fields.push(FieldOut { name, value: value.into() });
    }

    /// Removes all fields of that name from the list of others.
    pub fn remove(&mut self, name: &[u8]) {
        self.fields.retain(|field| !field.name.eq_ignore_ascii_case(name));
    }

    /// Sets a field whatever its name is: those kept apart in their own place, all others as [`HeadersOut::set`] does.
    pub fn put(&mut self, name: &[u8], value: Bytes) {
        match name.to_ascii_lowercase().as_slice() {
            b"content-type" => self.set_content_type(value),
            b"content-length" => {
                self.content_length = moonrest_proto::http1::framing::parse_length(&value);
            }
            b"location" => self.location = Some(value),
            b"server" => self.server = Some(value),
            b"date" => self.date = Some(value),
            b"etag" => self.etag = Some(value),
            b"content-encoding" => self.content_encoding = Some(value),
            b"last-modified" => match moonrest_proto::date::parse_http(&value) {
                Some(seconds) => self.last_modified = Some(seconds),
                None => self.set(name.to_vec(), value),
            },
            _ => self.set(name.to_vec(), value),
        }
    }

    /// Removes a field whatever its name is; a name with `*` at its end stands for all that begin so.
    pub fn clear_field(&mut self, name: &[u8]) {
        if let Some(prefix) = name.strip_suffix(b"*") {
            let begins = |field: &[u8]| {
                field.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            };
            for name in SPECIAL {
                if begins(name) {
                    self.clear_field(name);
                }
            }
            self.fields.retain(|field| !begins(&field.name));
            return;
        }
        match name.to_ascii_lowercase().as_slice() {
            b"content-type" => self.set_content_type(Bytes::new()),
            b"content-length" => self.content_length = None,
            b"location" => self.location = None,
            b"server" => self.server = Some(Bytes::new()),
            b"date" => self.date = Some(Bytes::new()),
            b"etag" => self.etag = None,
            b"content-encoding" => self.content_encoding = None,
            b"last-modified" => self.last_modified = None,
            b"accept-ranges" => self.allow_ranges = false,
            _ => {}
        }
        self.remove(name);
    }

    /// Adds a field whose value comes from a variable or another party: what would end the line is made a space.
    pub fn add_checked(&mut self, name: impl Into<Bytes>, value: Vec<u8>) {
        self.add(name, checked(value));
    }

    /// The first field of that name in the list of others.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| &*field.value)
    }

    /// Sets the type, and with it the part of it that tables of types are asked for.
    pub fn set_content_type(&mut self, value: impl Into<Bytes>) {
        self.content_type = value.into();
        self.content_type_len =
            self.content_type.iter().position(|b| *b == b';').unwrap_or(self.content_type.len());
        while self.content_type_len > 0 && self.content_type.get(self.content_type_len - 1) == Some(&b' ') {
            self.content_type_len -= 1;
        }
    }

    /// The media type without parameters.
    pub fn media_type(&self) -> &[u8] {
        self.content_type.get(..self.content_type_len).unwrap_or(&self.content_type)
    }

    /// The charset that is added to the type: none when the type has parameters of its own.
    pub fn charset_to_send(&self) -> Option<&Bytes> {
        let plain = self.content_type_len == self.content_type.len();
        self.charset.as_ref().filter(|charset| plain && !charset.is_empty())
    }

    /// The body's length is no longer known: a filter changes it (nginx's `ngx_http_clear_content_length`).
    pub fn clear_content_length(&mut self) {
        self.content_length = None;
    }

    /// Parts can no longer be answered (`ngx_http_clear_accept_ranges`).
    pub fn clear_accept_ranges(&mut self) {
        self.allow_ranges = false;
        self.remove(b"Accept-Ranges");
    }

    /// The body changed, so `Last-Modified` no longer holds.
    pub fn clear_last_modified(&mut self) {
        self.last_modified = None;
        self.last_modified_text = None;
    }

    /// Removes the validator.
    pub fn clear_etag(&mut self) {
        self.etag = None;
    }

    /// The body has another form but the same meaning: a strong validator becomes weak (`ngx_http_weak_etag`).
    pub fn weaken_etag(&mut self) {
        if let Some(etag) = &self.etag
            && !etag.starts_with(b"W/")
        {
            self.etag =
                if etag.starts_with(b"\"") { Some(Bytes::from([b"W/", &**etag].concat())) } else { None };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_end_its_line() {
        assert_eq!(&*checked(b"a\r\nX-Evil: 1\0".to_vec()), b"a  X-Evil: 1 ");
    }
}
