//! The first message of a TLS client, read without answering it: whom the client wants to talk to, and what it offers.
//! RFC 8446, sections 4.1.2 and 5.1; RFC 6066, section 3 (server name); RFC 7301 (ALPN).

use crate::Span;

/// Messages longer than this are not what clients send, nor records that take more for one.
const MAX_MESSAGE: usize = 64 * 1024;
/// The longest fragment of a record.
const MAX_FRAGMENT: usize = 16 * 1024 + 256;

/// What a client offers. Spans lie in [`ClientHello::body`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The handshake message without its four bytes of head, put together from its records.
    pub body: Vec<u8>,
    /// `legacy_version`.
    pub version: u16,
    pub session_id: Span,
    /// Two bytes each.
    pub ciphers: Span,
    /// The host name asked for.
    pub server_name: Option<Span>,
    /// The names of protocols, each behind its length.
    pub alpn: Span,
    /// Two bytes each.
    pub groups: Span,
    /// Two bytes each.
    pub signature_schemes: Span,
    /// Two bytes each; empty before TLS 1.3.
    pub versions: Span,
    /// The extensions, each behind its type and length.
    pub extensions: Span,
}

/// How far the parser came.
#[derive(Debug, PartialEq, Eq)]
pub enum Parse {
    /// More bytes are needed.
    Partial,
    Complete(Box<ClientHello>),
    /// This is no TLS, or none that makes sense.
    Invalid,
}

impl ClientHello {
    /// The bytes of one of its spans.
    pub fn bytes(&self, span: Span) -> &[u8] {
        span.of(&self.body)
    }

    /// The host name asked for, as sent.
    pub fn server_name(&self) -> Option<&[u8]> {
        self.server_name.map(|span| self.bytes(span))
    }

    /// The protocols offered, in the client's order.
    pub fn protocols(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes(self.alpn);
        std::iter::from_fn(move || {
            let (&len, behind) = rest.split_first()?;
            let (name, behind) = behind.split_at_checked(usize::from(len))?;
            rest = behind;
            Some(name)
        })
    }

    /// The numbers in a list of two-byte values.
    pub fn numbers(&self, span: Span) -> impl Iterator<Item = u16> {
        self.bytes(span).chunks_exact(2).map(|pair| match pair {
            [high, low] => u16::from_be_bytes([*high, *low]),
            _ => 0,
        })
    }

    /// The newest version offered.
    pub fn newest_version(&self) -> u16 {
        // Values that grease the list end in 0a.
        self.numbers(self.versions).filter(|version| version >> 8 == 3).max().unwrap_or(self.version)
    }

    /// The types of the extensions, in the client's order.
    pub fn extension_types(&self) -> impl Iterator<Item = u16> {
        let mut reader = Reader::new(&self.body, self.extensions);
        std::iter::from_fn(move || {
            let kind = reader.u16()?;
            reader.vec16()?;
            Some(kind)
        })
    }

    /// The contents of the extension of that type.
    pub fn extension(&self, kind: u16) -> Option<&[u8]> {
        let mut reader = Reader::new(&self.body, self.extensions);
        while !reader.is_empty() {
            let found = reader.u16()?;
            let content = reader.vec16()?;
            if found == kind {
                return Some(self.bytes(content));
            }
        }
        None
    }
}

/// Reads the first message from the beginning of a connection.
pub fn parse(input: &[u8]) -> Parse {
    let mut message = Vec::new();
    let mut rest = input;
    loop {
        match take_record(&mut rest) {
            Ok(Some(fragment)) => message.extend_from_slice(fragment),
            Ok(None) if input.len() > MAX_MESSAGE => return Parse::Invalid,
            Ok(None) => return Parse::Partial,
            Err(Wrong) => return Parse::Invalid,
        }
        let [kind, a, b, c, ..] = *message else { continue };
        let len = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if kind != 1 || len > MAX_MESSAGE {
            return Parse::Invalid;
        }
        if message.len() < 4 + len {
            continue;
        }
        message.truncate(4 + len);
        message.drain(..4);
        return match read(message) {
            Some(hello) => Parse::Complete(Box::new(hello)),
            None => Parse::Invalid,
        };
    }
}

struct Wrong;

/// The fragment of the next handshake record.
fn take_record<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Wrong> {
    match rest.first() {
        None => return Ok(None),
        Some(22) => {}
        Some(_) => return Err(Wrong),
    }
    if rest.get(1).is_some_and(|major| *major != 3) {
        return Err(Wrong);
    }
    let Some(([_, _, _, high, low], behind)) = rest.split_first_chunk::<5>() else { return Ok(None) };
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    if len == 0 || len > MAX_FRAGMENT {
        return Err(Wrong);
    }
    let Some((fragment, behind)) = behind.split_at_checked(len) else { return Ok(None) };
    *rest = behind;
    Ok(Some(fragment))
}

fn read(body: Vec<u8>) -> Option<ClientHello> {
    let mut hello = ClientHello::default();
    let mut reader = Reader::new(&body, Span::new(0, body.len()));
    hello.version = reader.u16()?;
    reader.skip(32)?;
    hello.session_id = reader.vec8()?;
    hello.ciphers = reader.vec16()?;
    reader.vec8()?;
    if !reader.is_empty() {
        hello.extensions = reader.vec16()?;
        if !reader.is_empty() {
            return None;
        }
        let mut extensions = Reader::new(&body, hello.extensions);
        while !extensions.is_empty() {
            let kind = extensions.u16()?;
            let content = extensions.vec16()?;
            extension(&mut hello, &body, kind, content)?;
        }
    }
    hello.body = body;
    Some(hello)
}

fn extension(hello: &mut ClientHello, body: &[u8], kind: u16, content: Span) -> Option<()> {
    let mut reader = Reader::new(body, content);
    match kind {
        0 => {
            let list = reader.vec16()?;
            let mut names = Reader::new(body, list);
            while !names.is_empty() {
                let kind = names.u8()?;
                let name = names.vec16()?;
                if kind == 0 && hello.server_name.is_none() {
                    hello.server_name = Some(name);
                }
            }
        }
        10 => hello.groups = reader.vec16()?,
        13 => hello.signature_schemes = reader.vec16()?,
        16 => {
            hello.alpn = reader.vec16()?;
            let mut names = Reader::new(body, hello.alpn);
            while !names.is_empty() {
                names.vec8()?;
            }
        }
        43 => hello.versions = reader.vec8()?,
        _ => {}
    }
    Some(())
}

/// Reads numbers and counted strings out of a part of a buffer.
struct Reader<'a> {
    buffer: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    fn new(buffer: &'a [u8], span: Span) -> Self {
        Self { buffer, at: span.start as usize, end: span.end().min(buffer.len()) }
    }

    fn is_empty(&self) -> bool {
        self.at >= self.end
    }

    fn skip(&mut self, len: usize) -> Option<Span> {
        let start = self.at;
        let end = start.checked_add(len).filter(|end| *end <= self.end)?;
        self.at = end;
        Some(Span::new(start, end))
    }

    fn u8(&mut self) -> Option<u8> {
        let at = self.at;
        self.skip(1)?;
        self.buffer.get(at).copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    fn vec8(&mut self) -> Option<Span> {
        let len = self.u8()?;
        self.skip(usize::from(len))
    }

    fn vec16(&mut self) -> Option<Span> {
        let len = self.u16()?;
        self.skip(usize::from(len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hello for `www.example.com` with ALPN, groups and versions, in records of at most `size` bytes.
    fn hello(size: usize) -> Vec<u8> {
        let mut extensions = Vec::new();
        let mut add = |kind: u16, content: &[u8]| {
            extensions.extend_from_slice(&kind.to_be_bytes());
            extensions.extend_from_slice(&(content.len() as u16).to_be_bytes());
            extensions.extend_from_slice(content);
        };
        add(0, b"\0\x12\0\0\x0fwww.example.com");
        add(10, b"\0\x04\x11\xec\0\x1d");
        add(16, b"\0\x0c\x02h2\x08http/1.1");
        add(43, b"\x06\x2a\x2a\x03\x04\x03\x03");
        let mut body = b"\x03\x03".to_vec();
        body.extend_from_slice(&[7; 32]);
        body.extend_from_slice(b"\x02id\0\x04\x13\x01\xc0\x2b\x01\0");
        body.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
        body.extend_from_slice(&extensions);
        let mut message = vec![1, 0, 0, body.len() as u8];
        message.extend_from_slice(&body);
        let mut out = Vec::new();
        for fragment in message.chunks(size) {
            out.extend_from_slice(&[22, 3, 1, 0, fragment.len() as u8]);
            out.extend_from_slice(fragment);
        }
        out
    }

    #[test]
    fn a_hello_says_whom_it_wants_whatever_its_records() {
        for size in [1, 7, 255] {
            let input = hello(size);
            for cut in 0..input.len() {
                assert_eq!(parse(&input[..cut]), Parse::Partial);
            }
            let Parse::Complete(hello) = parse(&input) else { panic!("not complete") };
            assert_eq!(hello.server_name(), Some(&b"www.example.com"[..]));
            assert_eq!(hello.protocols().collect::<Vec<_>>(), [&b"h2"[..], b"http/1.1"]);
            assert_eq!(hello.numbers(hello.groups).collect::<Vec<_>>(), [0x11ec, 0x1d]);
            assert_eq!(hello.numbers(hello.ciphers).collect::<Vec<_>>(), [0x1301, 0xc02b]);
            assert_eq!(hello.newest_version(), 0x0304);
            assert_eq!(hello.bytes(hello.session_id), b"id");
            assert_eq!(hello.extension(10), Some(&b"\0\x04\x11\xec\0\x1d"[..]));
        }
    }

    #[test]
    fn what_lies_about_its_lengths_is_invalid() {
        assert_eq!(parse(b"GET / HTTP/1.0\r\n"), Parse::Invalid);
        assert_eq!(parse(b"\x16\x02"), Parse::Invalid);
        assert_eq!(parse(b"\x16\x03\x01\0\0"), Parse::Invalid);
        let good = hello(255);
        for at in 5..good.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                // Whatever it says: no panic, and no span outside.
                if let Parse::Complete(hello) = parse(&bad) {
                    let _ = (hello.server_name(), hello.protocols().count(), hello.newest_version());
                }
            }
        }
    }
}
