//! Answers to errors and redirects: `error_page`, or the built-in pages.

use crate::{
    browser::Browser,
    core::{ErrorPage, ServerTokens},
    engine::Entry,
    phase::{Flow, LocalBoxFuture, RequestError, Step},
    request::{Request, RequestRef},
    server::reason,
};
use bytes::Bytes;
use moonrest_proto::{
    escape::{Kind, escape},
    http1::{Framing, Method, Version},
};
use std::{borrow::Cow, sync::OnceLock};

/// What became of an error.
pub(crate) enum Answer {
    /// The response is queued.
    Done,
    /// It is, once this was waited for.
    Wait(LocalBoxFuture<Result<Flow, RequestError>>),
    /// `error_page` led elsewhere.
    Redirected(Entry),
}

/// The product's name and version, as `Server` and the built-in pages show it.
pub const SIGNATURE: &str = concat!("moonrest/", env!("CARGO_PKG_VERSION"));
/// The same with `server_tokens off`.
pub const NAME: &str = "moonrest";

/// Answers with `status`.
pub(crate) fn respond(r: &RequestRef, status: u16) -> Result<Answer, RequestError> {
    if r.header_sent.get() {
        // Too late to say so.
        return if status >= 400 { Err(RequestError::Cut("".into())) } else { Ok(Answer::Done) };
    }
    match status {
        444 => {
            r.keepalive.set(false);
            r.out.borrow_mut().status = 444;
            r.header_sent.set(true);
            r.done.set(true);
            r.exchange.abort(r);
            return Ok(Answer::Done);
        }
        // Nobody waits for an answer any more.
        408 | 499 => return Err(RequestError::Gone { status, message: "".into() }),
        200..300 if !matches!(status, 201 | 204) => return plain(r, status),
        _ => {}
    }
    let mut status = status;
    loop {
        r.error_status.set(status);
        if matches!(status, 400 | 413 | 414 | 495..=497 | 500 | 501) {
            r.keepalive.set(false);
        }
        r.out.borrow_mut().set_content_type(Bytes::new());
        r.exchange.error_starts(r, status);
        let Some(page) = error_page(r, status) else {
            refuse_body(r);
            return built_in(r, status);
        };
        match follow(r, &page) {
            Ok(Some(entry)) => return Ok(Answer::Redirected(entry)),
            Ok(None) => {
                refuse_body(r);
                return redirect_to_client(r);
            }
            Err(error) => {
                crate::engine::report(r, &error);
                status = error.status();
            }
        }
    }
}

/// A body that nobody has read is not asked for any more; where its framing is broken no next request can be found.
fn refuse_body(r: &Request) {
    r.framing.set(Framing { expect_continue: false, ..r.framing.get() });
    if r.ignore_body().is_err() {
        r.keepalive.set(false);
    }
}

/// 200 and the like without a page.
fn plain(r: &RequestRef, status: u16) -> Result<Answer, RequestError> {
    r.ignore_body()?;
    {
        let mut out = r.out.borrow_mut();
        out.status = status;
        out.content_length = Some(0);
    }
    Ok(settle(r.respond_pieces(Vec::new())?))
}

fn settle(step: Step) -> Answer {
    match step {
        Step::Now(_) => Answer::Done,
        Step::Wait(wait) => Answer::Wait(wait),
    }
}

/// The `error_page` that replaces `status` here.
fn error_page(r: &Request, status: u16) -> Option<ErrorPage> {
    let core = &r.loc().core;
    if r.in_error_page.get() || core.error_pages.is_empty() || crate::engine::has_cycled(r) {
        return None;
    }
    // nginx: one attempt, whether a page is found or not.
    r.in_error_page.set(!core.recursive_error_pages);
    core.error_pages.iter().find(|page| page.status == status).cloned()
}

/// Puts the request where an error page leads; `None` when that is a URL for the client, set as `Location`.
fn follow(r: &RequestRef, page: &ErrorPage) -> Result<Option<Entry>, RequestError> {
    if let Some(code) = page.overwrite {
        r.error_status.set(code);
        if !matches!(code, 0 | 200) {
            // An error is the answer: the client need not send its body.
            r.framing.set(Framing { expect_continue: false, ..r.framing.get() });
        }
    }
    let mut target = page.target.eval(&**r).into_owned();
    match target.first() {
        Some(b'/') => {
            let args = match memchr::memchr(b'?', &target) {
                Some(at) => target.split_off(at).split_off(1),
                None => Vec::new(),
            };
            if r.method.get() != Method::Head {
                r.method.set(Method::Get);
            }
            r.redirect_internally(&target, &args);
            crate::engine::redirect(r).map(Some)
        }
        Some(b'@') => {
            r.redirect_to_named(&target);
            crate::engine::redirect(r).map(Some)
        }
        _ => {
            if !matches!(page.overwrite, Some(301..=303 | 307 | 308)) {
                r.error_status.set(302);
            }
            r.out.borrow_mut().location = Some(target.into());
            Ok(None)
        }
    }
}

/// An error page that is a URL: the client is sent there.
fn redirect_to_client(r: &RequestRef) -> Result<Answer, RequestError> {
    if r.loc().core.msie_refresh && Browser::of(r).msie {
        return refresh(r);
    }
    page_of(r, r.error_status.get())
}

fn built_in(r: &RequestRef, status: u16) -> Result<Answer, RequestError> {
    if matches!(status, 301 | 302) && r.loc().core.msie_refresh && Browser::of(r).msie {
        return refresh(r);
    }
    if matches!(status, 494..=497) {
        r.error_status.set(400);
    }
    page_of(r, status)
}

/// Sends the page of `status`, or nothing but a head when it has none.
fn page_of(r: &RequestRef, status: u16) -> Result<Answer, RequestError> {
    let body = page(r, status);
    if !body.is_empty() {
        r.out.borrow_mut().set_content_type(Bytes::from_static(b"text/html"));
    }
    send(r, &body)
}

/// `msie_refresh`: a page that leads on, for browsers that forget the fragment in a redirect.
fn refresh(r: &RequestRef) -> Result<Answer, RequestError> {
    let location = r.out.borrow_mut().location.take().unwrap_or_default();
    let mut body = Vec::with_capacity(location.len() + 128);
    body.extend_from_slice(b"<html><head><meta http-equiv=\"Refresh\" content=\"0; URL=");
    escape(Kind::Refresh, &location, &mut body);
    body.extend_from_slice(b"\"></head><body></body></html>\r\n");
    r.error_status.set(200);
    r.out.borrow_mut().set_content_type(Bytes::from_static(b"text/html"));
    send(r, &body.into())
}

fn send(r: &RequestRef, body: &Bytes) -> Result<Answer, RequestError> {
    {
        let mut out = r.out.borrow_mut();
        out.content_length = Some(body.len() as u64);
        out.clear_accept_ranges();
        out.clear_last_modified();
        out.clear_etag();
    }
    let step = if body.is_empty() { r.respond_pieces(Vec::new())? } else { r.respond_text(body)? };
    Ok(settle(step))
}

/// The status code and its text, as nginx's pages have them.
pub fn page_title(status: u16) -> Option<&'static str> {
    match status {
        302 => Some("302 Found"),
        401 => Some("401 Authorization Required"),
        494 => Some("400 Request Header Or Cookie Too Large"),
        495 => Some("400 The SSL certificate error"),
        496 => Some("400 No required SSL certificate was sent"),
        497 => Some("400 The plain HTTP request was sent to HTTPS port"),
        // nginx: 498 is its own mark for requests that were cancelled.
        498 => reason(404),
        301 | 303 | 307 | 308 | 400.. => reason(status),
        _ => None,
    }
}

/// The pages of a status that have nothing of a request in them, made when first asked for: without a version or with
/// it, and both as padded.
type Pages = [OnceLock<Bytes>; 4];

/// From status 300 on.
static PAGES: [Pages; 210] = [const { [const { OnceLock::new() }; 4] }; 210];

fn page(r: &Request, status: u16) -> Cow<'static, Bytes> {
    let Some(title) = page_title(status) else { return Cow::Owned(Bytes::new()) };
    let core = &r.loc().core;
    let padded = status >= 400 && core.msie_padding && r.version.get() > Version::Http09 && {
        let browser = Browser::of(r);
        browser.msie || browser.chrome
    };
    let (kind, signature) = match &core.server_tokens {
        ServerTokens::Off => (0, NAME),
        ServerTokens::On | ServerTokens::Build => (1, SIGNATURE),
        ServerTokens::Text(text) => return Cow::Owned(make_page(status, title, &text.eval(r), padded)),
    };
    let make = || make_page(status, title, signature.as_bytes(), padded);
    let pages = PAGES.get(usize::from(status).wrapping_sub(300));
    match pages.and_then(|pages| pages.get(kind + 2 * usize::from(padded))) {
        Some(page) => Cow::Borrowed(page.get_or_init(make)),
        None => Cow::Owned(make()),
    }
}

fn make_page(status: u16, title: &str, signature: &[u8], padded: bool) -> Bytes {
    let mut body = Vec::with_capacity(256);
    match status {
        // nginx's own codes have a heading and a sentence.
        494..=497 => {
            let text = title.get(4..).unwrap_or_default();
            body.extend_from_slice(
                format!(
                    "<html>\r\n<head><title>400 {text}</title></head>\r\n<body>\r\n\
                     <center><h1>400 Bad Request</h1></center>\r\n<center>{text}</center>\r\n"
                )
                .as_bytes(),
            );
        }
        _ => {
            body.extend_from_slice(b"<html>\r\n<head><title>");
            body.extend_from_slice(title.as_bytes());
            body.extend_from_slice(b"</title></head>\r\n<body>\r\n<center><h1>");
            body.extend_from_slice(title.as_bytes());
            body.extend_from_slice(b"</h1></center>\r\n");
        }
    }
    body.extend_from_slice(b"<hr><center>");
    body.extend_from_slice(signature);
    body.extend_from_slice(b"</center>\r\n</body>\r\n</html>\r\n");
    if padded {
        pad(&mut body);
    }
    body.into()
}

/// Some browsers replace short error pages by their own.
fn pad(body: &mut Vec<u8>) {
    for _ in 0..6 {
        body.extend_from_slice(b"<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n");
    }
}
