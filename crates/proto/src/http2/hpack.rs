//! Header compression (RFC 7541) without a dynamic table: as a client that has none we tell servers so, and as one that
//! writes we need none.

use super::huffman;

/// The static table: names and values by their numbers, from 1.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// Numbers of the static table that requests are made of.
const AUTHORITY: u8 = 1;
const METHOD: u8 = 2;
const PATH: u8 = 4;
const SCHEME: u8 = 6;

/// Hands out the fields of a complete block, in order. `limit` bounds names and values together.
///
/// # Errors
/// nginx's words for what is wrong with it, or what `field` says.
pub fn decode(
    block: &[u8],
    limit: usize,
    mut field: impl FnMut(&[u8], &[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let mut rest = block;
    let mut room = limit;
    let (mut name, mut value) = (Vec::new(), Vec::new());
    while let Some(first) = rest.first().copied() {
        name.clear();
        value.clear();
        if first & 0x80 != 0 {
            let index = integer(&mut rest, 7)?;
            let (known, said) = entry(index)?;
            name.extend_from_slice(known.as_bytes());
            value.extend_from_slice(said.as_bytes());
        } else if first & 0xe0 == 0x20 {
            let size = integer(&mut rest, 5)?;
            if size > 0 {
                return Err(format!("upstream sent invalid http2 dynamic table size update: {size}"));
            }
            continue;
        } else {
            let index = integer(&mut rest, if first & 0x40 != 0 { 6 } else { 4 })?;
            if index == 0 {
                text(&mut rest, room, "name", &mut name)?;
                if name.is_empty() {
                    return Err("upstream sent zero http2 header name length".to_owned());
                }
            } else {
                name.extend_from_slice(entry(index)?.0.as_bytes());
            }
            text(&mut rest, room, "value", &mut value)?;
            let good =
                (index != 0 || is_name(&name)) && !value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0));
            if !good {
                let (name, value) = (String::from_utf8_lossy(&name), String::from_utf8_lossy(&value));
                return Err(format!("upstream sent invalid header: \"{name}: {value}\""));
            }
        }
        let len = name.len().saturating_add(value.len());
        room = room.checked_sub(len).ok_or("upstream sent too large http2 header")?;
        field(&name, &value)?;
    }
    Ok(())
}

/// Names are lower-case; a colon begins those that are no header fields.
fn is_name(name: &[u8]) -> bool {
    name.iter().enumerate().all(|(at, byte)| {
        !byte.is_ascii_uppercase() && *byte > b' ' && *byte != 0x7f && (*byte != b':' || at == 0)
    })
}

fn entry(index: usize) -> Result<(&'static str, &'static str), String> {
    let found = index.checked_sub(1).and_then(|at| STATIC.get(at));
    found.copied().ok_or_else(|| format!("upstream sent invalid http2 table index: {index}"))
}

const TRUNCATED: &str = "upstream sent truncated http2 header";

/// A number whose first bits fill what the first byte has left (RFC 7541, 5.1).
fn integer(rest: &mut &[u8], bits: u32) -> Result<usize, String> {
    let most = (1usize << bits) - 1;
    let mut next = || {
        let (first, behind) = rest.split_first().ok_or(TRUNCATED)?;
        *rest = behind;
        Ok::<_, String>(*first)
    };
    let first = usize::from(next()?) & most;
    if first < most {
        return Ok(first);
    }
    let mut value = first;
    for shift in [0u32, 7, 14] {
        let byte = next()?;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("upstream sent http2 table index with continuation flag".to_owned())
}

/// A text, perhaps in Huffman's code.
fn text(rest: &mut &[u8], room: usize, what: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let coded = rest.first().ok_or(TRUNCATED)? & 0x80 != 0;
    let len = integer(rest, 7).map_err(|error| match error == TRUNCATED {
        true => error,
        false => format!("upstream sent too large http2 header {what} length"),
    })?;
    if len > room {
        return Err(format!("upstream sent too large http2 header {what} length: {len}"));
    }
    let (taken, behind) = rest.split_at_checked(len).ok_or(TRUNCATED)?;
    *rest = behind;
    if !coded {
        out.extend_from_slice(taken);
    } else if !huffman::decode(taken, room, out) {
        return Err("upstream sent invalid encoded header".to_owned());
    }
    Ok(())
}

/// Appends the fields that begin a request.
pub fn encode_request(method: &[u8], secure: bool, path: &[u8], authority: &[u8], out: &mut Vec<u8>) {
    match method {
        b"GET" => out.push(0x80 | METHOD),
        b"POST" => out.push(0x80 | (METHOD + 1)),
        _ => {
            out.push(METHOD);
            encode_text(method, out);
        }
    }
    out.push(0x80 | if secure { SCHEME + 1 } else { SCHEME });
    if path == b"/" {
        out.push(0x80 | PATH);
    } else {
        out.push(PATH);
        encode_text(path, out);
    }
    out.push(AUTHORITY);
    encode_text(authority, out);
}

/// Appends a field; its name is written in lower case.
pub fn encode_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.push(0);
    encode_text(&name.to_ascii_lowercase(), out);
    encode_text(value, out);
}

fn encode_text(text: &[u8], out: &mut Vec<u8>) {
    let coded = huffman::encoded_len(text);
    if coded < text.len() {
        encode_integer(coded, 0x80, 7, out);
        huffman::encode(text, out);
    } else {
        encode_integer(text.len(), 0, 7, out);
        out.extend_from_slice(text);
    }
}

fn encode_integer(value: usize, flags: u8, bits: u32, out: &mut Vec<u8>) {
    let most = (1usize << bits) - 1;
    if value < most {
        out.push(flags | value as u8);
        return;
    }
    out.push(flags | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        out.push(rest as u8 & 0x7f | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(block: &[u8], limit: usize) -> Result<Vec<(String, String)>, String> {
        let mut found = Vec::new();
        decode(block, limit, |name, value| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            found.push((text(name), text(value)));
            Ok(())
        })?;
        Ok(found)
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn what_is_written_can_be_read() {
        let mut block = Vec::new();
        encode_request(b"GET", true, b"/", b"a.example", &mut block);
        encode_field(b"X-Long", &[b'z'; 300], &mut block);
        encode_field(b"accept", b"", &mut block);
        let expect = [
            pair(":method", "GET"),
            pair(":scheme", "https"),
            pair(":path", "/"),
            pair(":authority", "a.example"),
            pair("x-long", &"z".repeat(300)),
            pair("accept", ""),
        ];
        assert_eq!(fields(&block, 1000).unwrap(), expect);
        let mut block = Vec::new();
        encode_request(b"PUT", false, b"/a?b", b"a:81", &mut block);
        let expect = [
            pair(":method", "PUT"),
            pair(":scheme", "http"),
            pair(":path", "/a?b"),
            pair(":authority", "a:81"),
        ];
        assert_eq!(fields(&block, 1000).unwrap(), expect);
    }

    #[test]
    fn every_form_of_a_field_is_read() {
        assert_eq!(fields(&[0x88, 0x20], 100).unwrap(), [pair(":status", "200")]);
        for first in [0x08u8, 0x18, 0x48] {
            assert_eq!(fields(&[first, 3, b'3', b'0', b'3'], 100).unwrap(), [pair(":status", "303")]);
        }
        assert_eq!(fields(&[0x0f, 0x10, 1, b'x'], 100).unwrap(), [pair("content-type", "x")]);
        assert_eq!(fields(&[0x40, 1, b'a', 1, b'b'], 100).unwrap(), [pair("a", "b")]);
    }

    #[test]
    fn broken_blocks_have_nginxs_words() {
        let check =
            |block: &[u8], expect: &str| assert_eq!(fields(block, 100).unwrap_err(), expect, "{block:?}");
        check(&[0x80], "upstream sent invalid http2 table index: 0");
        check(&[0xbe], "upstream sent invalid http2 table index: 62");
        check(&[0x21], "upstream sent invalid http2 dynamic table size update: 1");
        check(&[0xff, 0x80, 0x80, 0x80], "upstream sent http2 table index with continuation flag");
        check(&[0, 0, 0], "upstream sent zero http2 header name length");
        check(&[0, 1, b'a'], TRUNCATED);
        check(&[0, 1], TRUNCATED);
        check(&[0, 1, b'A', 1, b'b'], "upstream sent invalid header: \"A: b\"");
        check(&[0, 3, b'a', b':', b'b', 1, b'b'], "upstream sent invalid header: \"a:b: b\"");
        check(&[0, 1, b'a', 1, b'\n'], "upstream sent invalid header: \"a: \n\"");
        check(&[0, 101], "upstream sent too large http2 header name length: 101");
        check(&[0, 1, b'a', 127, 0x80, 0x80, 0x80], "upstream sent too large http2 header value length");
        check(&[0, 0x84, 0xff, 0xff, 0xff, 0xff], "upstream sent invalid encoded header");
        let long = [&[0, 60][..], &[b'a'; 60], &[60], &[b'b'; 60]].concat();
        check(&long, "upstream sent too large http2 header");
    }

    proptest! {
        #[test]
        fn no_block_does_harm(block in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut total = 0;
            let _ = decode(&block, 200, |name, value| { total += name.len() + value.len(); Ok(()) });
            prop_assert!(total <= 200);
        }
    }
}
