//! Heads of programs' answers (RFC 3875, 6): fields alone, the status among them. They are written out as an HTTP head,
//! and read by the parser for those.

use bytes::Bytes;
use moonrest_http::upstream::{BodyStep, Framing, HeadStep};
use moonrest_proto::http1::{Parse, ResponseHead, framing::parse_length};

/// A head that was read.
pub(crate) struct Read {
    /// Bytes of the input that belong to it.
    pub len: usize,
    /// What the parsed spans point into.
    pub text: Bytes,
    pub content_length: Option<u64>,
}

/// Reads a head from `input`; `None` when it is not all there.
///
/// # Errors
/// What is wrong with it, in nginx's words.
pub(crate) fn read(input: &[u8], head: &mut ResponseHead) -> Result<Option<Read>, String> {
    let Some(len) = end(input) else { return Ok(None) };
    let text = as_http(input.get(..len).unwrap_or_default())?;
    head.reset();
    match head.parse(&text) {
        Ok(Parse::Complete { .. }) => {}
        Ok(Parse::Partial) => return Err("upstream sent an incomplete header".to_owned()),
        Err(error) => return Err(error.log_message(&text)),
    }
    let mut content_length = None;
    for field in &head.fields {
        if !field.name.of(&text).eq_ignore_ascii_case(b"content-length") {
            continue;
        }
        let value = field.value.of(&text);
        let parsed = parse_length(value).filter(|_| content_length.is_none()).ok_or_else(|| {
            let value = String::from_utf8_lossy(value).into_owned();
            format!("upstream sent invalid \"Content-Length\" header: \"Content-Length: {value}\"")
        })?;
        content_length = Some(parsed);
    }
    Ok(Some(Read { len, text: text.into(), content_length }))
}

/// Where the empty line ends.
fn end(input: &[u8]) -> Option<usize> {
    let mut start = 0;
    for at in memchr::memchr_iter(b'\n', input) {
        let line = input.get(start..at).unwrap_or_default();
        if matches!(line, b"" | b"\r") {
            return Some(at + 1);
        }
        start = at + 1;
    }
    None
}

/// The same head with a status line, and without the fields that are about a connection which is not HTTP's.
fn as_http(head: &[u8]) -> Result<Vec<u8>, String> {
    let mut skip = 0;
    let status = match lines(head).next() {
        Some(first) if first.starts_with(b"HTTP/") => {
            skip = 1;
            let at = memchr::memchr(b' ', first).map_or(first.len(), |at| at + 1);
            first.get(at..).unwrap_or_default()
        }
        _ => {
            let mut usual: &[u8] = b"200 OK";
            let told = lines(head).find_map(|line| {
                if value_of(line, b"location").is_some() {
                    usual = b"302 Moved Temporarily";
                }
                value_of(line, b"status")
            });
            told.unwrap_or(usual)
        }
    };
    let code =
        status.get(..3).filter(|code| code.iter().all(u8::is_ascii_digit) && code.first() != Some(&b'0'));
    if code.is_none() || status.get(3).is_some_and(|byte| *byte != b' ') {
        let status = String::from_utf8_lossy(status);
        return Err(format!("upstream sent invalid status \"{status}\""));
    }
    let mut text = Vec::with_capacity(head.len() + 64);
    text.extend_from_slice(b"HTTP/1.1 ");
    text.extend_from_slice(status);
    if status.len() == 3 {
        text.push(b' ');
    }
    text.extend_from_slice(b"\r\n");
    for line in lines(head).skip(skip) {
        if value_of(line, b"transfer-encoding").is_none() && value_of(line, b"connection").is_none() {
            text.extend_from_slice(line);
            text.extend_from_slice(b"\r\n");
        }
    }
    text.extend_from_slice(b"\r\n");
    Ok(text)
}

/// The lines that are not empty.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = head;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let line = rest.get(..end).unwrap_or_default();
            rest = rest.get(end + 1..).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.is_empty() {
                return Some(line);
            }
        }
        None
    })
}

/// The value of a line, if it is that of this field.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    let rest = rest.strip_prefix(b":")?;
    found.eq_ignore_ascii_case(name).then(|| rest.trim_ascii())
}

/// Reads an answer whose body is as long as announced, or ends with the connection (SCGI and uwsgi).
#[derive(Debug, Default)]
pub(crate) struct PlainAnswer {
    /// Bytes of the body still to come, if it said.
    left: Option<u64>,
}

impl PlainAnswer {
    /// [`moonrest_http::upstream::Protocol::read_head`].
    pub(crate) fn read_head(&mut self, input: &[u8], head: &mut ResponseHead) -> Result<HeadStep, String> {
        let Some(read) = read(input, head)? else { return Ok(HeadStep::More) };
        self.left = read.content_length;
        let framing =
            Framing { content_length: read.content_length, text: Some(read.text), ..Framing::default() };
        Ok(HeadStep::Done(read.len, framing))
    }

    /// [`moonrest_http::upstream::Protocol::read_body`].
    pub(crate) fn read_body(&mut self, input: &[u8]) -> BodyStep {
        match &mut self.left {
            Some(0) => BodyStep::End(0),
            _ if input.is_empty() => BodyStep::More(0),
            Some(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= take as u64;
                BodyStep::Data(0..take)
            }
            None => BodyStep::Data(0..input.len()),
        }
    }

    pub(crate) fn may_end(&self) -> bool {
        self.left.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(head: &[u8]) -> Result<String, String> {
        as_http(head).map(|text| String::from_utf8_lossy(&text).into_owned())
    }

    #[test]
    fn the_status_comes_from_where_it_stands() {
        assert_eq!(http(b"A: b\n\n").unwrap(), "HTTP/1.1 200 OK\r\nA: b\r\n\r\n");
        assert_eq!(
            http(b"Status: 404 Gone\r\n\r\n").unwrap(),
            "HTTP/1.1 404 Gone\r\nStatus: 404 Gone\r\n\r\n"
        );
        assert_eq!(
            http(b"Location: /x\n\n").unwrap(),
            "HTTP/1.1 302 Moved Temporarily\r\nLocation: /x\r\n\r\n"
        );
        assert_eq!(http(b"HTTP/1.0 204 No\nA: b\n\n").unwrap(), "HTTP/1.1 204 No\r\nA: b\r\n\r\n");
        assert!(http(b"Status: none\n\n").is_err());
        assert!(http(b"Status: 99\n\n").is_err());
    }

    #[test]
    fn a_head_ends_with_its_empty_line() {
        assert_eq!(end(b"A: b\r\n\r\nbody"), Some(8));
        assert_eq!(end(b"A: b\n\nbody"), Some(6));
        assert_eq!(end(b"A: b\r\n\r"), None);
        assert_eq!(end(b"\nbody"), Some(1));
    }

    #[test]
    fn lengths_are_checked() {
        let mut head = ResponseHead::new();
        let read = read(b"Content-Length: 5\n\nabc", &mut head).unwrap().unwrap();
        assert_eq!((read.len, read.content_length), (19, Some(5)));
        for bad in [&b"Content-Length: x\n\n"[..], b"Content-Length: 1\nContent-Length: 1\n\n"] {
            assert!(super::read(bad, &mut head).is_err());
        }
    }
}
