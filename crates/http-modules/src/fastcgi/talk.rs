//! One request to a FastCGI server.

use super::{
    Settings,
    record::{self, Event, Reader},
};
use crate::cgi;
use moonrest_http::{
    prelude::*,
    upstream::{BodyStep, Framing, HeadStep, Protocol, RequestLength},
};
use moonrest_proto::http1::ResponseHead;
use std::ops::Range;

pub(super) struct Talk {
    r: RequestRef,
    settings: Arc<Settings>,
    fields: bool,
    reader: Reader,
    /// Bytes of the body still to come, if it said.
    left: Option<u64>,
    /// The program has said that its output is over.
    output_ended: bool,
    /// It has put out more than it announced.
    too_much: bool,
    /// Complaints of the head that were logged.
    complained: usize,
}

impl Talk {
    pub(super) fn new(r: RequestRef, settings: Arc<Settings>, fields: bool) -> Self {
        let reader = Reader::default();
        Self { r, settings, fields, reader, left: None, output_ended: false, too_much: false, complained: 0 }
    }

    /// Logs what the program complains of.
    fn complain(&self, text: &[u8]) {
        let text = text.trim_ascii_end();
        if !text.is_empty() {
            let text = String::from_utf8_lossy(text);
            moonrest_http::error!(self.r, "FastCGI sent in stderr: \"{text}\"");
        }
    }
}

impl Protocol for Talk {
    fn scheme(&self) -> &'static [u8] {
        b"fastcgi://"
    }

    fn request(
        &mut self,
        r: &RequestRef,
        _body: RequestLength,
        out: &mut Vec<u8>,
    ) -> Result<Range<usize>, RequestError> {
        record::open(record::BEGIN_REQUEST, 8, out);
        // A responder; the connection is kept if the configuration wants it.
        out.extend_from_slice(&[0, 1, u8::from(self.settings.keep), 0, 0, 0, 0, 0]);
        let header = out.len();
        record::open(record::PARAMS, 0, out);
        let start = out.len();
        self.settings.params.each(r, self.fields, |name, value| {
            record::length(name.len(), out);
            record::length(value.len(), out);
            out.extend_from_slice(name);
            out.extend_from_slice(value);
        });
        let len = out.len() - start;
        if len == 0 {
            out.truncate(header);
        } else if len <= record::PIECE {
            record::set_length(header, len, out);
        } else {
            let params = out.split_off(start);
            out.truncate(header);
            for part in params.chunks(record::PIECE) {
                record::open(record::PARAMS, part.len(), out);
                out.extend_from_slice(part);
            }
        }
        record::open(record::PARAMS, 0, out);
        Ok(0..0)
    }

    fn reset(&mut self) {
        self.reader = Reader::default();
        (self.left, self.output_ended, self.too_much, self.complained) = (None, false, false, 0);
    }

    fn max_piece(&self) -> u64 {
        record::PIECE as u64
    }

    fn open_body(&mut self, len: u64, out: &mut Vec<u8>) {
        record::open(record::STDIN, usize::try_from(len).unwrap_or(record::MOST), out);
    }

    fn end_body(&mut self, out: &mut Vec<u8>) {
        record::open(record::STDIN, 0, out);
    }

    fn read_head(&mut self, input: &[u8], head: &mut ResponseHead) -> Result<HeadStep, String> {
        let (mut reader, mut at) = (self.reader.clone(), 0);
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let complain = |talk: &mut Self, errors: &[u8]| {
            talk.complain(errors.get(talk.complained..).unwrap_or_default());
            talk.complained = errors.len();
            let caught = |pattern: &[u8]| memchr::memmem::find(errors, pattern).is_some();
            match talk.settings.catch_stderr.iter().any(|pattern| caught(pattern)) {
                true => Err("upstream sent what \"fastcgi_catch_stderr\" tells of".to_owned()),
                false => Ok(()),
            }
        };
        loop {
            match reader.next(input, at)? {
                Event::More(used) => {
                    complain(self, &errors)?;
                    if output.is_empty() && used > 0 {
                        // Complaints do not fill the room for the head.
                        self.reader = reader;
                        self.complained = 0;
                        return Ok(HeadStep::Skip(used));
                    }
                    return Ok(HeadStep::More);
                }
                Event::Errors(start, end) => {
                    errors.extend_from_slice(input.get(start..end).unwrap_or_default());
                    at = end;
                }
                Event::OutputEnd(next) => at = next,
                Event::End(_) => {
                    complain(self, &errors)?;
                    return Err("upstream closed prematurely FastCGI stdout".to_owned());
                }
                Event::Output(start, end) => {
                    let before = output.len();
                    let piece = input.get(start..end).unwrap_or_default();
                    at = end;
                    // Most heads come in one piece.
                    let whole = if before == 0 { cgi::read(piece, head)? } else { None };
                    let read = match whole {
                        Some(read) => read,
                        None => {
                            output.extend_from_slice(piece);
                            match before {
                                0 => continue,
                                _ => match cgi::read(&output, head)? {
                                    Some(read) => read,
                                    None => continue,
                                },
                            }
                        }
                    };
                    complain(self, &errors)?;
                    // What follows the head in this record is the body's beginning.
                    let used = read.len - before;
                    let unused = (end - start) - used;
                    self.reader = reader.give_back(unused);
                    self.left = read.content_length;
                    let framing = Framing {
                        content_length: read.content_length,
                        keep_alive: self.settings.keep,
                        text: Some(read.text),
                        ..Framing::default()
                    };
                    return Ok(HeadStep::Done(end - unused, framing));
                }
            }
        }
    }

    fn read_body(&mut self, input: &[u8]) -> Result<BodyStep, String> {
        let mut at = 0;
        loop {
            match self.reader.next(input, at)? {
                Event::More(used) => return Ok(BodyStep::More(used)),
                Event::Errors(start, end) => {
                    self.complain(input.get(start..end).unwrap_or_default());
                    at = end;
                }
                Event::OutputEnd(next) => {
                    self.output_ended = true;
                    at = next;
                }
                Event::Output(start, end) => {
                    let Some(left) = &mut self.left else { return Ok(BodyStep::Data(start..end)) };
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(end - start);
                    *left -= take as u64;
                    if take == end - start {
                        return Ok(BodyStep::Data(start..end));
                    }
                    if !std::mem::replace(&mut self.too_much, true) {
                        moonrest_http::warn!(self.r, "{}", self.excess());
                    }
                    if take > 0 {
                        self.reader = self.reader.clone().give_back(end - start - take);
                        return Ok(BodyStep::Data(start..start + take));
                    }
                    // What is more than announced is dropped.
                    at = end;
                }
                Event::End(_) if self.left.is_some_and(|left| left > 0) => {
                    return Err("upstream prematurely closed FastCGI stdout".to_owned());
                }
                Event::End(next) => return Ok(BodyStep::End(next)),
            }
        }
    }

    fn may_end(&self) -> bool {
        // Its output was complete; only the last record is missing.
        self.output_ended && self.left.is_none_or(|left| left == 0)
    }

    fn excess(&self) -> &'static str {
        "upstream sent more data than specified in \"Content-Length\" header"
    }
}
