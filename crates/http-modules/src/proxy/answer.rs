//! Talking HTTP/1 with an upstream.

use super::{Settings, cookie, pass::Target, request, rewrite::Rewrite};
use moonrest_http::{
    prelude::*,
    upstream::{BodyStep, Framing, HeadStep, Protocol, RequestLength},
};
use moonrest_proto::http1::{
    Chunk, Method, Parse, ResponseBody, ResponseHead,
    chunked::{ChunkHead, DATA_END, Decoder, LAST_CHUNK},
    response_framing,
};
use std::ops::Range;

/// One request to an HTTP/1 server.
pub(super) struct Http1 {
    settings: Arc<Settings>,
    target: Arc<Target>,
    pass_headers: bool,
    head: bool,
    chunked_request: bool,
    /// Both the client and the configuration want another protocol.
    upgrades: bool,
    body: Reader,
}

/// How far the answer's body was read.
enum Reader {
    Empty,
    Length(u64),
    Chunked(Box<Decoder>),
    UntilClose,
}

impl Http1 {
    pub(super) fn new(settings: Arc<Settings>, target: Arc<Target>, pass_headers: bool) -> Self {
        Self {
            settings,
            target,
            pass_headers,
            head: false,
            chunked_request: false,
            upgrades: false,
            body: Reader::Empty,
        }
    }

    fn framing(&mut self, head: &ResponseHead, input: &[u8]) -> Result<Framing, String> {
        let method = if self.head { Method::Head } else { Method::Get };
        let framing = response_framing(head, input, method).map_err(|error| error.log_message(input))?;
        self.body = match framing.body {
            ResponseBody::None => Reader::Empty,
            ResponseBody::Length(length) => Reader::Length(length),
            ResponseBody::Chunked => Reader::Chunked(Box::default()),
            ResponseBody::UntilClose => Reader::UntilClose,
            ResponseBody::Tunnel if self.upgrades => Reader::UntilClose,
            ResponseBody::Tunnel => {
                return Err("upstream switched protocols although not asked to".to_owned());
            }
        };
        Ok(Framing {
            content_length: framing.content_length,
            empty: matches!(framing.body, ResponseBody::None | ResponseBody::Length(0)),
            keep_alive: framing.keep_alive,
            tunnel: framing.body == ResponseBody::Tunnel,
            text: None,
        })
    }
}

impl Protocol for Http1 {
    fn scheme(&self) -> &'static [u8] {
        self.target.scheme()
    }

    fn request(
        &mut self,
        r: &RequestRef,
        length: RequestLength,
        out: &mut Vec<u8>,
    ) -> Result<Range<usize>, RequestError> {
        let written = request::append(&self.settings, &self.target, self.pass_headers, length, r, out)?;
        self.head = written.head;
        self.chunked_request = written.chunked;
        self.upgrades = written.upgrades && r.framing.get().upgrade;
        Ok(written.uri)
    }

    fn reset(&mut self) {
        self.body = Reader::Empty;
    }

    fn open_body(&mut self, len: u64, out: &mut Vec<u8>) {
        if self.chunked_request {
            out.extend_from_slice(ChunkHead::new(len).as_bytes());
        }
    }

    fn close_body(&mut self, out: &mut Vec<u8>) {
        if self.chunked_request {
            out.extend_from_slice(DATA_END);
        }
    }

    fn end_body(&mut self, out: &mut Vec<u8>) {
        if self.chunked_request {
            out.extend_from_slice(LAST_CHUNK);
        }
    }

    fn read_head(&mut self, input: &[u8], head: &mut ResponseHead) -> Result<HeadStep, String> {
        match head.parse(input) {
            Err(error) => Err(error.log_message(input)),
            Ok(Parse::Partial) => Ok(HeadStep::More),
            Ok(Parse::Complete { len }) if head.is_interim() => {
                if head.status == 103 && head.version < moonrest_proto::http1::Version::Http11 {
                    return Err("upstream sent HTTP/1.0 response with early hints".to_owned());
                }
                Ok(HeadStep::Interim(len))
            }
            Ok(Parse::Complete { len }) => Ok(HeadStep::Done(len, self.framing(head, input)?)),
        }
    }

    fn read_body(&mut self, input: &[u8]) -> Result<BodyStep, String> {
        match &mut self.body {
            Reader::Empty | Reader::Length(0) => Ok(BodyStep::End(0)),
            Reader::Length(_) | Reader::UntilClose if input.is_empty() => Ok(BodyStep::More(0)),
            Reader::Length(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= take as u64;
                Ok(BodyStep::Data(0..take))
            }
            Reader::UntilClose => Ok(BodyStep::Data(0..input.len())),
            Reader::Chunked(decoder) => match decoder.decode(input) {
                Ok(Chunk::Data(range)) => Ok(BodyStep::Data(range)),
                Ok(Chunk::Partial(used)) => Ok(BodyStep::More(used)),
                Ok(Chunk::End(used)) => Ok(BodyStep::End(used)),
                Err(_) => Err("upstream sent invalid chunked response".to_owned()),
            },
        }
    }

    fn may_end(&self) -> bool {
        matches!(self.body, Reader::UntilClose)
    }

    fn excess(&self) -> &'static str {
        match self.body {
            Reader::Chunked(_) => "upstream sent data after final chunk",
            _ => "upstream sent more data than specified in \"Content-Length\" header",
        }
    }

    fn trailers(&self) -> Vec<(Bytes, Bytes)> {
        let Reader::Chunked(decoder) = &self.body else { return Vec::new() };
        let text = decoder.trailer_bytes();
        let copy = |span: moonrest_proto::Span| Bytes::copy_from_slice(span.of(text));
        decoder.trailers().iter().map(|field| (copy(field.name), copy(field.value))).collect()
    }

    fn cache_key(&self, r: &RequestRef, out: &mut Vec<u8>) -> Result<(), RequestError> {
        request::append_cache_key(&self.settings, &self.target, r, out);
        Ok(())
    }

    fn rewrite_redirect(&self, r: &RequestRef, url: &[u8]) -> Result<Option<Vec<u8>>, RequestError> {
        match &self.settings.redirects {
            Some(rules) => Rewrite::first(rules, r, url),
            None => Ok(None),
        }
    }

    fn rewrites_redirects(&self) -> bool {
        self.settings.redirects.is_some()
    }

    fn rewrite_cookie(&self, r: &RequestRef, text: &[u8]) -> Result<Option<Vec<u8>>, RequestError> {
        cookie::rewrite(&self.settings, r, text)
    }
}
