//! An HTTP/1 response taken apart for a test: lenient enough to show what a broken server sent.

/// A response: head as received, body with its transfer coding removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The status code, when the first line has one.
    pub status: Option<u16>,
    /// Status line and header fields with their line ends, without the empty line.
    pub head: Vec<u8>,
    /// Field names and values in their order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The content.
    pub body: Vec<u8>,
    /// Fields behind the last chunk.
    pub trailers: Vec<(String, Vec<u8>)>,
    /// Bytes received behind the end of this response.
    pub rest: Vec<u8>,
}

/// Why bytes are no complete response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// More bytes are needed.
    #[error("the response ends too early")]
    Incomplete,
    /// The chunked coding is wrong.
    #[error("invalid chunked coding: {0}")]
    Chunk(String),
}

/// What is known about the request a response answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context {
    /// The request was HEAD: no body follows whatever the head says.
    pub head_request: bool,
    /// No more bytes will come: a body without a length ends here.
    pub at_end: bool,
}

impl Response {
    /// Takes the first response out of `bytes`. [`Malformed::Incomplete`] when more bytes are needed.
    pub fn parse(bytes: &[u8], context: Context) -> Result<Self, Malformed> {
        let Some(head_len) = find(bytes, b"\r\n\r\n") else {
            return Err(Malformed::Incomplete);
        };
        let (head, after) = (&bytes[..head_len + 2], &bytes[head_len + 4..]);
        let mut response = Self { head: head.to_vec(), ..Self::default() };
        let mut lines = head.split_inclusive(|&b| b == b'\n').map(trim_line_end);
        response.status = lines.next().and_then(status_code);
        response.headers = lines.filter_map(field).collect();
        response.take_body(after, context)?;
        Ok(response)
    }

    /// The values of a header field, joined with `, ` when there are several.
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<_> = self
            .headers
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The body as text; bytes that are not UTF-8 are shown as replacement characters.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Stops the test unless the status is this one.
    #[track_caller]
    pub fn expect_status(&self, status: u16) -> &Self {
        assert_eq!(self.status, Some(status), "response: {}", self.shown());
        self
    }

    /// Stops the test unless the header field has this value.
    #[track_caller]
    pub fn expect_header(&self, name: &str, value: &str) -> &Self {
        assert_eq!(self.header(name).as_deref(), Some(value), "header {name} of: {}", self.shown());
        self
    }

    /// Stops the test if the header field is there.
    #[track_caller]
    pub fn expect_no_header(&self, name: &str) -> &Self {
        assert_eq!(self.header(name), None, "header {name} of: {}", self.shown());
        self
    }

    /// Stops the test unless the body is this one.
    #[track_caller]
    pub fn expect_body(&self, body: impl AsRef<[u8]>) -> &Self {
        assert_eq!(self.text(), String::from_utf8_lossy(body.as_ref()), "response: {}", self.shown());
        self
    }

    fn shown(&self) -> String {
        format!("{}\n{}", String::from_utf8_lossy(&self.head), self.text())
    }

    fn take_body(&mut self, after: &[u8], context: Context) -> Result<(), Malformed> {
        let bodiless = matches!(self.status, Some(100..=199 | 204 | 304));
        if bodiless || context.head_request {
            self.rest = after.to_vec();
            return Ok(());
        }
        let chunked = self.header("Transfer-Encoding").is_some_and(|te| te.eq_ignore_ascii_case("chunked"));
        if chunked {
            return self.take_chunks(after);
        }
        match self.header("Content-Length").and_then(|len| len.parse::<usize>().ok()) {
            Some(len) if after.len() >= len => {
                self.body = after[..len].to_vec();
                self.rest = after[len..].to_vec();
                Ok(())
            }
            Some(_) if !context.at_end => Err(Malformed::Incomplete),
            None if !context.at_end => Err(Malformed::Incomplete),
            _ => {
                self.body = after.to_vec();
                Ok(())
            }
        }
    }

    fn take_chunks(&mut self, mut at: &[u8]) -> Result<(), Malformed> {
        loop {
            let line_len = find(at, b"\r\n").ok_or(Malformed::Incomplete)?;
            let line = String::from_utf8_lossy(&at[..line_len]).into_owned();
            let digits = line.split(';').next().unwrap_or_default().trim();
            let len = usize::from_str_radix(digits, 16).map_err(|_| Malformed::Chunk(line.clone()))?;
            at = &at[line_len + 2..];
            if len == 0 {
                return self.take_trailers(at);
            }
            let (Some(data), Some(end)) = (at.get(..len), at.get(len..len.saturating_add(2))) else {
                return Err(Malformed::Incomplete);
            };
            if end != b"\r\n" {
                return Err(Malformed::Chunk(format!("no line end behind a chunk of {len} bytes")));
            }
            self.body.extend_from_slice(data);
            at = &at[len + 2..];
        }
    }

    fn take_trailers(&mut self, mut at: &[u8]) -> Result<(), Malformed> {
        loop {
            let len = find(at, b"\r\n").ok_or(Malformed::Incomplete)?;
            let line = &at[..len];
            at = &at[len + 2..];
            if line.is_empty() {
                self.rest = at.to_vec();
                return Ok(());
            }
            self.trailers.extend(field(line));
        }
    }
}

/// Where `needle` first occurs.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn trim_line_end(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r\n").or_else(|| line.strip_suffix(b"\n")).unwrap_or(line)
}

fn status_code(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line).ok()?;
    line.strip_prefix("HTTP/")?.split(' ').nth(1)?.parse().ok()
}

fn field(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let colon = line.iter().position(|&b| b == b':')?;
    let name = String::from_utf8_lossy(&line[..colon]).into_owned();
    Some((name, line[colon + 1..].trim_ascii().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &str, context: Context, body: &str, rest: &str) {
        let response = Response::parse(bytes.as_bytes(), context).unwrap();
        assert_eq!(
            (response.text().as_str(), String::from_utf8_lossy(&response.rest).as_ref()),
            (body, rest)
        );
    }

    #[test]
    fn bodies_end_where_their_framing_says() {
        let end = Context { at_end: true, head_request: false };
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP", Context::default(), "ab", "HTTP");
        check("HTTP/1.1 200 OK\r\n\r\nall of it", end, "all of it", "");
        check("HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\nnext", Context::default(), "", "next");
        let head = Context { head_request: true, ..Context::default() };
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", head, "", "");
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        check(
            &format!("{chunked}3\r\nabc\r\n1;x\r\nd\r\n0\r\nT: v\r\n\r\nrest"),
            Context::default(),
            "abcd",
            "rest",
        );
    }

    #[test]
    fn short_and_wrong_bodies_are_told_apart() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let parse = |body: &str| Response::parse(format!("{chunked}{body}").as_bytes(), Context::default());
        assert_eq!(parse("3\r\nab"), Err(Malformed::Incomplete));
        assert!(matches!(parse("xyz\r\nab"), Err(Malformed::Chunk(_))));
        assert!(matches!(parse("2\r\nabcd\r\n"), Err(Malformed::Chunk(_))));
    }
}
