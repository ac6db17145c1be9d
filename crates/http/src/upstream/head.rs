//! The head of an answer becomes the head of our response: what is hidden, edited, or meant for us.

use super::{
    Conf, Protocol,
    conf::mask,
    protocol::Framing,
    run::{Failure, Run},
    state::States,
};
use crate::{
    filter::{FilterStep, Piece},
    phase::{Flow, RequestError},
    request::{Request, RequestRef},
};
use bytes::Bytes;
use moonrest_core::{Level, conf::value};
use moonrest_proto::{
    date, escape,
    http1::{Known, Method, ResponseHead, Version},
};

/// Fields that count once: a second one is ignored.
const UNIQUE: u64 = Known::set(&[
    Known::Status,
    Known::ContentType,
    Known::Date,
    Known::LastModified,
    Known::Etag,
    Known::Server,
    Known::Location,
    Known::Refresh,
    Known::Expires,
    Known::XAccelExpires,
    Known::XAccelRedirect,
    Known::XAccelLimitRate,
]);

/// Fields that are made anew for the client, or do not go beyond us.
const OURS: u64 = Known::set(&[
    Known::ContentLength,
    Known::Connection,
    Known::KeepAlive,
    Known::TransferEncoding,
    Known::ProxyConnection,
]);

impl Run {
    /// Answers the client with what the upstream answered.
    pub(super) async fn answer(&mut self) -> Result<Flow, RequestError> {
        match self.prepare_answer()? {
            Prepared::Flow(flow) => Ok(flow),
            Prepared::Tunnel => Box::pin(self.tunnel()).await,
            Prepared::Send { buffering } => {
                let sent = self.r.clone().send_head().await;
                self.answer_behind(sent, buffering).await
            }
        }
    }

    /// Makes our head of the answer's.
    pub(super) fn prepare_answer(&mut self) -> Result<Prepared, RequestError> {
        self.accepted();
        self.judge_freshness();
        let kept = if self.states.is_cacheable() { Kept::Perhaps } else { Kept::No };
        let head = self.head(kept);
        head.warn_of_duplicates();
        let buffering = head.obey();
        if let Some(flow) = head.redirect()? {
            self.release(self.is_exact());
            return Ok(Prepared::Flow(flow));
        }
        head.fill(&self.framing)?;
        if self.framing.tunnel {
            self.let_go();
            return Ok(Prepared::Tunnel);
        }
        Ok(Prepared::Send { buffering })
    }

    /// Passes on the body behind a head that was `sent`.
    pub(super) async fn answer_behind(
        &mut self,
        sent: Result<(), RequestError>,
        buffering: bool,
    ) -> Result<Flow, RequestError> {
        let Some(deaf) = self.begin_body(sent, buffering)? else { return Ok(Flow::Responded) };
        if !buffering {
            return self.pass_answer().await;
        }
        let result = self.pipe(deaf).await;
        self.end_answer(result).await
    }

    /// The same, as the body comes.
    pub(super) async fn pass_answer(&mut self) -> Result<Flow, RequestError> {
        let result = Box::pin(self.pass()).await;
        self.end_answer(result).await
    }

    /// Makes ready to pass the body on, if that is wanted; gives whether there is no client to take it.
    pub(super) fn begin_body(
        &mut self,
        sent: Result<(), RequestError>,
        buffering: bool,
    ) -> Result<Option<bool>, RequestError> {
        self.keep_answer(buffering);
        let deaf = match sent {
            // Who else asks for it gets it.
            Err(RequestError::Gone { .. }) if self.recorder.is_some() => true,
            sent => {
                sent?;
                self.r.header_only.get()
            }
        };
        if deaf && self.recorder.is_none() {
            let exact = self.is_exact();
            if self.framing.empty && !exact {
                self.log(Level::Warn, format_args!("{}", self.protocol.excess()));
            }
            self.release(exact);
            return Ok(None);
        }
        self.act("reading upstream");
        let received = self.rest.len() as u64;
        self.states.with(|attempt| attempt.response_length = received);
        self.pause();
        Ok(Some(deaf))
    }

    /// The body has ended: what is left is the response's end.
    pub(super) fn end_body(&self) {
        self.head(Kept::No).pass_trailers();
        self.states.talking.set(false);
    }

    /// The body has ended, and how.
    pub(super) async fn end_answer(
        &mut self,
        result: Result<(), RequestError>,
    ) -> Result<Flow, RequestError> {
        let r = self.r.clone();
        if let Err(error) = result {
            if !matches!(error, RequestError::Gone { .. }) {
                // What came before is the client's; that it is not all of it shows in the connection's end.
                let _ = r.drained(0).await;
            }
            return Err(error);
        }
        self.end_body();
        match r.output(Piece::Last)? {
            FilterStep::Now(()) => {}
            FilterStep::Wait(wait) => wait.await?,
        }
        Ok(Flow::Responded)
    }

    fn head(&self, kept: Kept) -> Head<'_> {
        Head { r: &self.r, conf: &self.conf, protocol: &*self.protocol, states: &self.states, kept }
    }

    /// The challenges of a 401 that a page of our own answers.
    pub(super) fn copy_challenges(&self) {
        self.head(Kept::No).copy_challenges();
    }
}

/// What an answer's head came to.
pub(super) enum Prepared {
    /// The client gets another answer.
    Flow(Flow),
    /// What follows is another protocol.
    Tunnel,
    /// Our head is ready; the body behind it is buffered or not.
    Send { buffering: bool },
}

/// Whether an answer is an upstream's alone, may be kept for others, or was kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    No,
    Perhaps,
    Found,
}

/// An answer's head that becomes ours.
pub(super) struct Head<'a> {
    pub r: &'a RequestRef,
    pub conf: &'a Conf,
    pub protocol: &'a dyn Protocol,
    pub states: &'a States,
    pub kept: Kept,
}

impl Head<'_> {
    fn log(&self, level: Level, message: std::fmt::Arguments<'_>) {
        if self.r.log().enabled(level) {
            self.r.log_at(level, message);
        }
    }

    /// The same for an answer that was kept, whose body takes another way.
    pub(super) fn obey_kept(&self) {
        const TOLD: u64 = Known::set(&[Known::XAccelLimitRate, Known::XAccelCharset]);
        let told = {
            let answer = self.states.answer.borrow();
            answer.head.fields.iter().any(|field| field.known.is_in(TOLD))
        };
        if told {
            let rate = self.r.limit_rate.get();
            self.obey();
            if !self.conf.buffering && self.r.limit_rate.get() == Some(0) {
                self.r.limit_rate.set(rate);
            }
        }
    }

    /// What the upstream tells us; gives whether the body is buffered.
    pub(super) fn obey(&self) -> bool {
        let answer = self.states.answer.borrow();
        let ignored = self.conf.ignore_headers;
        let mut buffering = self.conf.buffering;
        let told = |known, bit| {
            if ignored & bit == 0 { answer.head.fields.value(known, &answer.block) } else { None }
        };
        if let Some(rate) = told(Known::XAccelLimitRate, mask::IGNORE_ACCEL_LIMIT_RATE)
            && let Some(rate) = value::parse_uint(rate)
        {
            self.r.limit_rate.set(Some(rate));
        }
        match told(Known::XAccelBuffering, mask::IGNORE_ACCEL_BUFFERING) {
            Some(value) if value.eq_ignore_ascii_case(b"no") => buffering = false,
            Some(value) if value.eq_ignore_ascii_case(b"yes") => buffering = true,
            _ => {}
        }
        if let Some(charset) = told(Known::XAccelCharset, mask::IGNORE_ACCEL_CHARSET) {
            self.r.out.borrow_mut().override_charset = Some(Bytes::copy_from_slice(charset));
        }
        if !buffering {
            // nginx: what is not buffered leaves as fast as it comes.
            self.r.limit_rate.set(Some(0));
        }
        buffering
    }

    fn warn_of_duplicates(&self) {
        let answer = self.states.answer.borrow();
        let fields = &answer.head.fields;
        if fields.repeated() & UNIQUE == 0 {
            return;
        }
        for (index, field) in fields.iter().enumerate() {
            if !field.known.is_in(UNIQUE) || fields.index_of(field.known) == Some(index) {
                continue;
            }
            let Some(first) = fields.first(field.known) else { continue };
            let text = |span: moonrest_proto::Span| String::from_utf8_lossy(span.of(&answer.block));
            self.log(
                Level::Warn,
                format_args!(
                    "upstream sent duplicate header line: \"{}: {}\", previous value: \"{}: {}\", ignored",
                    text(field.name),
                    text(field.value),
                    text(first.name),
                    text(first.value)
                ),
            );
        }
    }

    /// `X-Accel-Redirect`: another location answers, with some fields of this answer.
    pub(super) fn redirect(&self) -> Result<Option<Flow>, RequestError> {
        if self.conf.ignore_headers & mask::IGNORE_ACCEL_REDIRECT != 0 {
            return Ok(None);
        }
        let target = {
            let answer = self.states.answer.borrow();
            let Some(target) = answer.head.fields.value(Known::XAccelRedirect, &answer.block) else {
                return Ok(None);
            };
            target.to_vec()
        };
        self.copy_fields(|known| {
            matches!(
                known,
                Known::ContentType
                    | Known::SetCookie
                    | Known::ContentDisposition
                    | Known::CacheControl
                    | Known::Expires
                    | Known::AcceptRanges
            )
        })?;
        if target.first() == Some(&b'@') {
            self.r.redirect_to_named(&target);
            return Ok(Some(Flow::Redirected));
        }
        let Some((path, args)) = safe_target(&target) else {
            let shown = String::from_utf8_lossy(&target);
            self.log(Level::Error, format_args!("unsafe URI \"{shown}\" was detected"));
            return Ok(Some(Flow::Finish(404)));
        };
        if self.r.method.get() != Method::Head {
            self.r.method.set(Method::Get);
        }
        self.r.redirect_internally(&path, &args);
        Ok(Some(Flow::Redirected))
    }

    /// Makes the response's head.
    pub(super) fn fill(&self, framing: &Framing) -> Result<(), RequestError> {
        self.copy_fields(|_| true)?;
        let r = self.r;
        let answer = self.states.answer.borrow();
        let mut out = r.out.borrow_mut();
        out.status = answer.head.status;
        out.status_line = status_line(&answer.head, &answer.block);
        out.content_length = framing.content_length;
        if self.conf.pass_trailers
            && self.protocol.is_http2()
            && !framing.empty
            && framing.content_length == Some(0)
        {
            // What has no body and has not ended has trailers: they need an end of their own.
            out.content_length = None;
        }
        if framing.tunnel {
            out.content_length = None;
        }
        // nginx: a server whose own fields are passed is not given ours.
        for (known, slot) in [(Known::Server, 0), (Known::Date, 1)] {
            if !self.conf.hidden.contains(known, b"") && answer.head.fields.first(known).is_none() {
                let empty = Some(Bytes::new());
                if slot == 0 { out.server = empty } else { out.date = empty }
            }
        }
        if self.conf.force_ranges {
            out.allow_ranges = true;
            r.single_range.set(self.kept != Kept::Found);
        }
        r.disable_not_modified.set(self.kept == Kept::No);
        Ok(())
    }

    /// Copies the fields that are wanted and not hidden.
    fn copy_fields(&self, wanted: impl Fn(Known) -> bool) -> Result<(), RequestError> {
        let answer = self.states.answer.borrow();
        let fields = &answer.head.fields;
        let dropped = named_by_connection(&answer.head, &answer.block);
        let skipped = OURS | self.conf.hidden.known();
        for (index, field) in fields.iter().enumerate() {
            let known = field.known;
            if known.is_in(skipped) || !wanted(known) {
                continue;
            }
            let (name, value) = (field.name.of(&answer.block), field.value.of(&answer.block));
            if (known == Known::Other && self.conf.hidden.contains(known, name))
                || (known.is_in(UNIQUE) && fields.index_of(known) != Some(index))
                || dropped.iter().any(|dropped| dropped.eq_ignore_ascii_case(name))
            {
                continue;
            }
            self.copy_field(known, name, value, &answer.block)?;
        }
        Ok(())
    }

    fn copy_field(&self, known: Known, name: &[u8], value: &[u8], block: &Bytes) -> Result<(), RequestError> {
        let r = self.r;
        let name = || block.slice_ref(name);
        let value = block.slice_ref(value);
        match known {
            Known::ContentType => set_content_type(&mut r.out.borrow_mut(), value),
            Known::Date => r.out.borrow_mut().date = Some(value),
            Known::Server => r.out.borrow_mut().server = Some(value),
            Known::Etag => r.out.borrow_mut().etag = Some(value),
            Known::ContentEncoding => r.out.borrow_mut().content_encoding = Some(value),
            Known::LastModified => {
                let mut out = r.out.borrow_mut();
                out.last_modified = date::parse_http(&value);
                out.last_modified_text = Some(value);
            }
            Known::AcceptRanges if self.conf.force_ranges => {}
            Known::AcceptRanges if self.kept != Kept::No => {
                r.out.borrow_mut().allow_ranges = true;
                if self.kept == Kept::Perhaps {
                    r.single_range.set(true);
                }
            }
            Known::Upgrade if r.version.get() > Version::Http11 => {}
            Known::Location => {
                let edited = self.protocol.rewrite_redirect(r, &value)?;
                let mut out = r.out.borrow_mut();
                match edited {
                    Some(edited) => out.location = Some(crate::response::checked(edited)),
                    // nginx: a path of the upstream's own stays one.
                    None if value.first() == Some(&b'/') || self.protocol.rewrites_redirects() => {
                        out.add(name(), value);
                    }
                    None => out.location = Some(value),
                }
            }
            Known::Refresh => {
                let edited = self.rewrite_refresh(&value)?;
                r.out.borrow_mut().add(name(), edited.unwrap_or(value));
            }
            Known::SetCookie => {
                let edited = self.protocol.rewrite_cookie(r, &value)?;
                r.out.borrow_mut().add(name(), edited.map_or(value, crate::response::checked));
            }
            _ => r.out.borrow_mut().add(name(), value),
        }
        Ok(())
    }

    fn rewrite_refresh(&self, value: &Bytes) -> Result<Option<Bytes>, RequestError> {
        let Some(at) = value.windows(4).position(|part| part.eq_ignore_ascii_case(b"url=")) else {
            return Ok(None);
        };
        let (start, url) = value.split_at(at + 4);
        let edited = self.protocol.rewrite_redirect(self.r, url)?;
        Ok(edited.map(|edited| crate::response::checked([start, &edited].concat())))
    }

    fn copy_challenges(&self) {
        let answer = self.states.answer.borrow();
        for field in answer.head.fields.all(Known::WwwAuthenticate) {
            let bytes = |slice: &[u8]| answer.block.slice_ref(slice);
            let (name, value) = (field.name.of(&answer.block), field.value.of(&answer.block));
            self.r.out.borrow_mut().add(bytes(name), bytes(value));
        }
    }

    fn pass_trailers(&self) {
        if !self.conf.pass_trailers {
            return;
        }
        let answer = self.states.answer.borrow();
        for (name, value) in &answer.trailers {
            let known = Known::ALL.iter().find(|known| known.name().as_bytes().eq_ignore_ascii_case(name));
            if !self.conf.hidden.contains(known.copied().unwrap_or_default(), name) {
                let mut out = self.r.out.borrow_mut();
                out.trailers.push(crate::response::FieldOut { name: name.clone(), value: value.clone() });
            }
        }
    }
}

impl Run {
    /// An interim answer of `len` bytes: hints are passed on if the location wants them. `total` counts those of all.
    pub(super) fn pass_hints(&self, len: usize, total: usize) -> Result<(), Failure> {
        let r = &self.r;
        let answer = self.states.answer.borrow();
        if answer.head.status != 103 {
            return Ok(());
        }
        if total > self.conf.buffer_size {
            self.log(Level::Info, format_args!("upstream sent too big early hints"));
            return Ok(());
        }
        if r.is_subrequest() || !wants_hints(r) {
            return Ok(());
        }
        let text = self.input.get(..len).unwrap_or_default();
        let fields: Vec<(Bytes, Bytes)> = answer
            .head
            .fields
            .iter()
            .filter(|field| {
                !field.known.is_in(OURS) && !self.conf.hidden.contains(field.known, field.name.of(text))
            })
            .map(|field| {
                (Bytes::copy_from_slice(field.name.of(text)), Bytes::copy_from_slice(field.value.of(text)))
            })
            .collect();
        if fields.is_empty() {
            return Ok(());
        }
        r.exchange.send_interim(r, 103, &fields).map_err(Failure::Fatal)
    }
}

/// `early_hints`: some value is neither empty nor `0`.
fn wants_hints(r: &Request) -> bool {
    r.loc().core.early_hints.iter().any(|condition| {
        let value = condition.eval(r);
        !value.is_empty() && *value != *b"0"
    })
}

/// Status and reason as sent, unless that is what we would send.
fn status_line(head: &ResponseHead, block: &Bytes) -> Option<Bytes> {
    let text = head.status_line.of(block);
    let usual = crate::server::reason(head.status);
    (!text.is_empty() && usual.is_none_or(|usual| usual.as_bytes() != text)).then(|| block.slice_ref(text))
}

/// The names that `Connection` lists: they end here.
fn named_by_connection(head: &ResponseHead, block: &Bytes) -> Vec<Box<[u8]>> {
    let mut named = Vec::new();
    for field in head.fields.all(Known::Connection) {
        let value = field.value.of(block);
        if is_usual_option(value) {
            continue;
        }
        let names = moonrest_proto::http1::framing::options(value).filter(|name| !is_usual_option(name));
        named.extend(names.map(Box::from));
    }
    named
}

/// Whether an option of `Connection` is about the connection itself.
fn is_usual_option(name: &[u8]) -> bool {
    matches!(name, b"keep-alive" | b"Keep-Alive" | b"close" | b"upgrade")
        || [&b"keep-alive"[..], b"close", b"upgrade"].iter().any(|usual| name.eq_ignore_ascii_case(usual))
}

/// Sets type and charset, which are kept apart for the charset filter.
fn set_content_type(out: &mut crate::response::HeadersOut, value: Bytes) {
    let mut at = 0;
    while let Some(found) = memchr::memchr(b';', value.get(at..).unwrap_or_default()) {
        let end = at + found;
        let rest = value.get(end + 1..).unwrap_or_default();
        let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
        let parameter = rest.get(spaces..).unwrap_or_default();
        let Some((name, text)) = parameter.split_at_checked(8) else { break };
        if !name.eq_ignore_ascii_case(b"charset=") {
            at = end + 1;
            continue;
        }
        let text = text.strip_prefix(b"\"").unwrap_or(text);
        let text = text.strip_suffix(b"\"").unwrap_or(text);
        out.charset = Some(value.slice_ref(text));
        out.content_type_len = end;
        out.content_type = value;
        return;
    }
    // nginx: parameters without a charset are part of the type.
    out.content_type_len = value.len();
    out.content_type = value;
}

/// Path and arguments of an internal redirect that an upstream wants; none if it leads out of the site.
fn safe_target(target: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (path, args) = match memchr::memchr(b'?', target) {
        Some(at) => (target.get(..at)?, target.get(at + 1..)?),
        None => (target, &[][..]),
    };
    let mut decoded = Vec::with_capacity(path.len());
    escape::unescape(escape::Unescape::Uri, path, &mut decoded);
    if decoded.is_empty() || decoded.contains(&0) {
        return None;
    }
    let climbs = |path: &[u8]| path.split(|byte| *byte == b'/').any(|part| part == b"..");
    (!climbs(&decoded)).then(|| (decoded, args.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_charsets_are_told_apart() {
        let check = |value: &str, media: &str, charset: Option<&str>| {
            let mut out = crate::response::HeadersOut::default();
            set_content_type(&mut out, Bytes::copy_from_slice(value.as_bytes()));
            assert_eq!(out.media_type(), media.as_bytes(), "{value}");
            assert_eq!(out.charset.as_deref(), charset.map(str::as_bytes), "{value}");
            assert_eq!(out.content_type, value.as_bytes());
        };
        check("text/html", "text/html", None);
        check("text/html; charset=utf-8", "text/html", Some("utf-8"));
        check("text/html;CHARSET=\"koi8-r\"", "text/html", Some("koi8-r"));
        check("a/b; x=y; charset=z", "a/b; x=y", Some("z"));
        check("a/b; boundary=1", "a/b; boundary=1", None);
    }

    #[test]
    fn targets_that_climb_are_refused() {
        let check = |target: &str, expect: Option<(&str, &str)>| {
            let got = safe_target(target.as_bytes());
            let got = got.map(|(path, args)| {
                (String::from_utf8_lossy(&path).into_owned(), String::from_utf8_lossy(&args).into_owned())
            });
            assert_eq!(got, expect.map(|(path, args)| (path.to_owned(), args.to_owned())), "{target}");
        };
        check("/a%20b?c=%20", Some(("/a b", "c=%20")));
        check("/a/../b", None);
        check("/a/%2e%2e/b", None);
        check("/a%00", None);
        check("", None);
        check("/a..b/..c", Some(("/a..b/..c", "")));
    }
}
