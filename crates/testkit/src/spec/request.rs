//! From the request sections of a block to the bytes on the wire.
use std::time::Duration;

use super::block::{Block, parse_time};
use super::value::Value;

/// Bytes to send at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub bytes: Vec<u8>,
    /// The pause before it.
    pub delay: Duration,
}

/// All packets of one connection.
pub(super) type Packets = Vec<Packet>;

/// The requests of a block: a connection each.
pub(super) fn requests(
    block: &Block,
    host: &str,
    expand: &dyn Fn(&[u8]) -> Vec<u8>,
) -> Result<Vec<Packets>, String> {
    if let Some(raw) = block.get("raw_request") {
        let delay = block.time("raw_request_middle_delay")?.unwrap_or_default();
        let packets = raw.elements().into_iter().enumerate();
        let packet = |(number, value)| packet(value, if number == 0 { Duration::ZERO } else { delay });
        return Ok(vec![packets.map(packet).collect::<Result<_, _>>()?]);
    }
    let headers = |number| MoreHeaders::of(block, number);
    if let Some(Value::List(pipelined)) = block.get("pipelined_requests") {
        let mut bytes = Vec::new();
        for (number, request) in pipelined.iter().enumerate() {
            let connection = if number + 1 == pipelined.len() { "close" } else { "keep-alive" };
            let text = expand(request.bytes().ok_or("a pipelined request must be a string")?);
            bytes.extend(Head { host, connection, more: &headers(number)? }.complete(&text)?.bytes);
        }
        return Ok(vec![vec![Packet { bytes, delay: Duration::ZERO }]]);
    }
    match block.get("request") {
        Some(Value::List(requests)) => requests
            .iter()
            .enumerate()
            .map(|(number, request)| split_request(request, host, &headers(number)?))
            .collect(),
        Some(Value::Bytes(request)) => {
            let request = Value::Bytes(without_leading_comments(request).to_vec());
            Ok(vec![split_request(&request, host, &headers(0)?)?])
        }
        Some(_) => Err("the section \"request\" must be a string or a list".into()),
        None => Err("the block has no request".into()),
    }
}

fn split_request(request: &Value, host: &str, more: &MoreHeaders) -> Result<Packets, String> {
    let head = Head { host, connection: "close", more };
    let Value::List(parts) = request else {
        let bytes =
            head.complete(request.bytes().ok_or("a request must be a string or a list of packets")?)?.bytes;
        return Ok(vec![Packet { bytes, delay: Duration::ZERO }]);
    };
    let parts: Packets = parts.iter().map(|part| packet(part, Duration::ZERO)).collect::<Result<_, _>>()?;
    let whole: Vec<u8> = parts.iter().flat_map(|part| part.bytes.clone()).collect();
    let completed = head.complete(&whole)?;
    let (mut before, mut from) = (0, 0);
    let mut packets = Packets::new();
    for part in parts {
        before += part.bytes.len();
        let to = completed.position_of(before).max(from);
        packets.push(Packet { bytes: completed.bytes[from..to].to_vec(), delay: part.delay });
        from = to;
    }
    Ok(packets)
}

fn packet(value: &Value, delay: Duration) -> Result<Packet, String> {
    match value {
        Value::Map(_) => {
            let bytes = value.get("value").and_then(Value::bytes).ok_or("a packet without a value")?.to_vec();
            let delay = value
                .get("delay_before")
                .and_then(Value::text)
                .as_deref()
                .and_then(parse_time)
                .unwrap_or(delay);
            Ok(Packet { bytes, delay })
        }
        other => Ok(Packet { bytes: other.bytes().ok_or("a packet must be a string")?.to_vec(), delay }),
    }
}

fn without_leading_comments(mut text: &[u8]) -> &[u8] {
    loop {
        text = text.trim_ascii_start();
        match text.iter().position(|&b| b == b'\n') {
            Some(end) if text.starts_with(b"#") => text = &text[end..],
            _ => return text,
        }
    }
}

/// The header fields a block adds.
#[derive(Default)]
struct MoreHeaders {
    lines: Vec<Vec<u8>>,
    chunked: bool,
}

impl MoreHeaders {
    fn of(block: &Block, request: usize) -> Result<Self, String> {
        let section = match block.get("more_headers") {
            None => return Ok(Self::default()),
            Some(Value::List(texts)) => {
                let text = texts.get(request).and_then(Value::bytes);
                text.ok_or_else(|| format!("\"more_headers\" has nothing for request {request}"))?
            }
            Some(value) => value.bytes().ok_or("\"more_headers\" must be text")?,
        };
        let mut more = Self::default();
        for line in section.split(|&b| b == b'\n') {
            if line.is_empty() || line.trim_ascii_start().starts_with(b"#") {
                continue;
            }
            let colon = line.iter().position(|&b| b == b':').unwrap_or(line.len());
            let (name, value) =
                (&line[..colon], line.get(colon + 1..).unwrap_or_default().trim_ascii_start());
            more.chunked |= name.eq_ignore_ascii_case(b"Transfer-Encoding") && value == b"chunked";
            more.lines.push([name, b": ", value].concat());
        }
        Ok(more)
    }

    fn has(&self, name: &str) -> bool {
        let begins = |line: &Vec<u8>| {
            line.get(..name.len()).is_some_and(|at| at.eq_ignore_ascii_case(name.as_bytes()))
        };
        self.lines.iter().any(begins)
    }
}

/// A word of the request line and where it stands in the block's text.
#[derive(Clone, Copy)]
struct Word<'a> {
    at: Option<usize>,
    text: &'a [u8],
}

fn words(line: &[u8]) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut at = 0;
    for text in line.split(u8::is_ascii_whitespace) {
        if !text.is_empty() {
            words.push(Word { at: Some(at), text });
        }
        at += text.len() + 1;
    }
    words
}

/// What is put into a request besides what the block says.
struct Head<'a> {
    host: &'a str,
    connection: &'a str,
    more: &'a MoreHeaders,
}

/// A completed request, and how offsets in the block's text moved.
struct Completed {
    bytes: Vec<u8>,
    /// Offsets in the text and in `bytes` that mean the same place, ascending.
    anchors: Vec<(usize, usize)>,
}

impl Completed {
    /// Where an offset of the text ended up.
    fn position_of(&self, offset: usize) -> usize {
        let after = self.anchors.partition_point(|&(text, _)| text <= offset);
        let (text, bytes) = after.checked_sub(1).map_or((0, 0), |at| self.anchors[at]);
        let limit = self.anchors.get(after).map_or(self.bytes.len(), |&(_, bytes)| bytes);
        (bytes + (offset - text)).min(limit)
    }
}

impl Head<'_> {
    /// Completes `METHOD [URL [VERSION]]`, followed by a body, to a request.
    fn complete(&self, text: &[u8]) -> Result<Completed, String> {
        let line_len = text.iter().position(|&b| b == b'\n').map_or(text.len(), |at| at + 1);
        let (line, content) = text.split_at(line_len);
        let words = words(line);
        let (method, url, version) = match words.as_slice() {
            [method] => (*method, None, None),
            [method, url] => (*method, Some(*url), None),
            [method, url, version] => (*method, Some(*url), Some(*version)),
            _ => return Err(format!("no request line: {:?}", String::from_utf8_lossy(line))),
        };
        let own_length = self.more.lines.iter().any(|line| line.starts_with(b"Content-Length:"));
        let measured = !content.is_empty() && !self.more.chunked && !own_length;
        let trimmed = content.trim_ascii();
        let skipped = content.len() - content.trim_ascii_start().len();
        let (body, body_at) = if measured { (trimmed, line_len + skipped) } else { (content, line_len) };

        let mut completed = Completed { bytes: Vec::new(), anchors: Vec::new() };
        let url = url.unwrap_or(Word { at: None, text: b"/" });
        let version = version.unwrap_or(Word { at: None, text: b"HTTP/1.1" });
        for (word, end) in [(method, " "), (url, " "), (version, "\r\n")] {
            completed.anchors.extend(word.at.map(|at| (at, completed.bytes.len())));
            completed.bytes.extend_from_slice(word.text);
            completed.bytes.extend_from_slice(end.as_bytes());
        }
        completed.bytes.extend(self.fields(body, measured));
        completed.anchors.push((body_at, completed.bytes.len()));
        completed.bytes.extend_from_slice(body);
        completed.anchors.push((text.len(), completed.bytes.len()));
        Ok(completed)
    }

    fn fields(&self, body: &[u8], measured: bool) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> = Vec::new();
        if !self.more.has("Host:") {
            lines.push(format!("Host: {}", self.host).into());
        }
        if !self.more.has("Connection") {
            lines.push(format!("Connection: {}", self.connection).into());
        }
        lines.extend(self.more.lines.iter().cloned());
        if measured {
            lines.push(format!("Content-Length: {}", body.len()).into());
        }
        lines.push(Vec::new());
        lines.into_iter().flat_map(|line| [line, b"\r\n".to_vec()].concat()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn more(lines: &[&str]) -> MoreHeaders {
        MoreHeaders { lines: lines.iter().map(|line| line.as_bytes().to_vec()).collect(), chunked: false }
    }

    fn check(text: &str, more: &MoreHeaders, expect: &str) {
        let completed =
            Head { host: "localhost", connection: "close", more }.complete(text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8_lossy(&completed.bytes), expect);
    }

    #[test]
    fn requests_are_completed() {
        let none = more(&[]);
        check("GET /a\n", &none, "GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        check("GET /a HTTP/1.0\n", &none, "GET /a HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let body = "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 3\r\n\r\na b";
        check("POST /\n a b \n", &none, body);
        check("GET /\n", &more(&["Host: x"]), "GET / HTTP/1.1\r\nConnection: close\r\nHost: x\r\n\r\n");
    }

    #[test]
    fn packets_keep_their_bounds() {
        let part = |text: &str| Value::Bytes(text.into());
        let value = Value::List(vec![part("POST /x\n"), part("he"), part("llo")]);
        let packets = split_request(&value, "h", &more(&[])).unwrap();
        let texts: Vec<_> =
            packets.iter().map(|packet| String::from_utf8_lossy(&packet.bytes).into_owned()).collect();
        assert_eq!(texts[1..], ["he", "llo"]);
        assert!(texts[0].ends_with("Content-Length: 5\r\n\r\n"), "{texts:?}");
    }

    #[test]
    fn comments_before_a_request_are_left_out() {
        assert_eq!(without_leading_comments(b"\n # one\n# two\n  GET /\n"), b"GET /\n");
    }
}
