//! Answers to errors and redirects: `error_page`, or the built-in pages.

use crate::{
    core::{ErrorPage, ErrorTarget, ServerTokens},
    engine::Entry,
    phase::{Flow, RequestError, Step},
    request::{Request, RequestRef},
};
use bytes::Bytes;
use moonrest_proto::http1::Method;

/// What became of an error.
pub(crate) enum Answer {
    /// The response is queued.
    Done,
    /// `error_page` led elsewhere.
    Redirected(Entry),
}

/// The product's name and version, as `Server` and the built-in pages show it.
pub const SIGNATURE: &str = concat!("moonrest/", env!("CARGO_PKG_VERSION"));
/// The same with `server_tokens off`.
pub const NAME: &str = "moonrest";

/// Answers with `status`.
pub(crate) async fn respond(r: &RequestRef, status: u16) -> Result<Answer, RequestError> {
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
        499 => {
            r.out.borrow_mut().status = 499;
            return Err(RequestError::client_gone());
        }
        _ => {}
    }
    if matches!(status, 400 | 413 | 414 | 494..=497 | 500 | 501) {
        r.keepalive.set(false);
    }
    if status < 300 {
        return plain(r, status).await;
    }
    r.exchange.error_starts(r, status);
    let mut status = status;
    if let Some(answer) = error_page(r, &mut status).await? {
        return Ok(answer);
    }
    built_in(r, status).await
}

/// 201, 204 and the like without a page.
async fn plain(r: &RequestRef, status: u16) -> Result<Answer, RequestError> {
    {
        let mut out = r.out.borrow_mut();
        out.status = status;
        if status == 204 {
            out.content_length = None;
            out.content_type = Bytes::new();
            out.content_type_len = 0;
        } else {
            out.content_length = Some(0);
        }
    }
    settle(r.respond_pieces(Vec::new())?).await
}

async fn settle(step: Step) -> Result<Answer, RequestError> {
    if let Step::Wait(wait) = step {
        let flow = wait.await?;
        debug_assert_eq!(flow, Flow::Responded);
    }
    Ok(Answer::Done)
}

async fn error_page(r: &RequestRef, status: &mut u16) -> Result<Option<Answer>, RequestError> {
    let core = r.loc().core.clone();
    if r.in_error_page.get() && !core.recursive_error_pages {
        return Ok(None);
    }
    let Some(page) = core.error_pages.iter().find(|page| page.status == *status) else { return Ok(None) };
    r.in_error_page.set(true);
    if r.error_status.get() == 0 || core.recursive_error_pages {
        r.error_status.set(*status);
    }
    match page.overwrite {
        Some(code) => r.error_status.set(code),
        None => r.error_status.set(*status),
    }
    r.out.borrow_mut().location =
        if (300..400).contains(status) { r.out.borrow_mut().location.take() } else { None };
    match &page.target {
        ErrorTarget::Named(name) => {
            r.redirect_to_named(name);
            redirected(r).await.map(Some)
        }
        ErrorTarget::Uri { uri, args } => {
            let target = uri.eval(&**r).into_owned();
            if target.starts_with(b"/") {
                let (path, query) = match args {
                    Some(args) => (target, args.eval(&**r).into_owned()),
                    None => split_args(target),
                };
                if r.method.get() != Method::Head {
                    r.method.set(Method::Get);
                }
                r.redirect_internally(&path, &query);
                return redirected(r).await.map(Some);
            }
            redirect_to_url(r, page, target, status).await
        }
    }
}

fn split_args(mut target: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    match memchr::memchr(b'?', &target) {
        Some(at) => {
            let args = target.get(at + 1..).unwrap_or_default().to_vec();
            target.truncate(at);
            (target, args)
        }
        None => (target, Vec::new()),
    }
}

async fn redirected(r: &RequestRef) -> Result<Answer, RequestError> {
    match crate::engine::redirect(r) {
        Ok(entry) => Ok(Answer::Redirected(entry)),
        Err(error) => {
            crate::engine::report(r, &error);
            built_in(r, error.status()).await
        }
    }
}

/// A URL as target: the client is sent there.
async fn redirect_to_url(
    r: &RequestRef,
    page: &ErrorPage,
    url: Vec<u8>,
    status: &mut u16,
) -> Result<Option<Answer>, RequestError> {
    let code = match page.overwrite {
        Some(code @ (301 | 302 | 303 | 307 | 308)) => code,
        _ => 302,
    };
    r.error_status.set(code);
    *status = code;
    r.out.borrow_mut().location = Some(url.into());
    built_in(r, code).await.map(Some)
}

async fn built_in(r: &RequestRef, status: u16) -> Result<Answer, RequestError> {
    let shown = if r.error_status.get() != 0 { r.error_status.get() } else { status };
    let shown = if (494..=497).contains(&shown) && r.error_status.get() == 0 { 400 } else { shown };
    {
        let mut out = r.out.borrow_mut();
        out.status = shown;
        out.status_line = None;
        out.content_encoding = None;
        out.last_modified = None;
        out.etag = None;
        out.allow_ranges = false;
        out.remove(b"Content-Encoding");
        out.content_length = None;
    }
    let body = if matches!(status, 204 | 304) { None } else { page(r, status) };
    let Some(body) = body else {
        {
            let mut out = r.out.borrow_mut();
            out.content_type = Bytes::new();
            out.content_type_len = 0;
            out.content_length = if matches!(status, 204 | 304) { None } else { Some(0) };
        }
        return settle(r.respond_pieces(Vec::new())?).await;
    };
    {
        let mut out = r.out.borrow_mut();
        out.set_content_type(Bytes::from_static(b"text/html"));
        out.content_length = Some(body.len() as u64);
    }
    settle(r.respond_pieces(vec![crate::filter::Piece::Data(body)])?).await
}

/// The text behind a status code, as nginx's pages have it.
pub fn page_title(status: u16) -> Option<&'static str> {
    Some(match status {
        301 => "301 Moved Permanently",
        302 => "302 Found",
        303 => "303 See Other",
        307 => "307 Temporary Redirect",
        308 => "308 Permanent Redirect",
        400 => "400 Bad Request",
        401 => "401 Authorization Required",
        402 => "402 Payment Required",
        403 => "403 Forbidden",
        404 => "404 Not Found",
        405 => "405 Not Allowed",
        406 => "406 Not Acceptable",
        407 => "407 Proxy Authentication Required",
        408 => "408 Request Time-out",
        409 => "409 Conflict",
        410 => "410 Gone",
        411 => "411 Length Required",
        412 => "412 Precondition Failed",
        413 => "413 Request Entity Too Large",
        414 => "414 Request-URI Too Large",
        415 => "415 Unsupported Media Type",
        416 => "416 Requested Range Not Satisfiable",
        421 => "421 Misdirected Request",
        425 => "425 Too Early",
        429 => "429 Too Many Requests",
        494 => "400 Request Header Or Cookie Too Large",
        495 => "400 The SSL certificate error",
        496 => "400 No required SSL certificate was sent",
        497 => "400 The plain HTTP request was sent to HTTPS port",
        500 => "500 Internal Server Error",
        501 => "501 Not Implemented",
        502 => "502 Bad Gateway",
        503 => "503 Service Temporarily Unavailable",
        504 => "504 Gateway Time-out",
        505 => "505 HTTP Version Not Supported",
        507 => "507 Insufficient Storage",
        _ => return None,
    })
}

fn page(r: &Request, status: u16) -> Option<Bytes> {
    let title = page_title(status)?;
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
        _ => body.extend_from_slice(
            format!(
                "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
            )
            .as_bytes(),
        ),
    }
    body.extend_from_slice(b"<hr><center>");
    match &r.loc().core.server_tokens {
        ServerTokens::Off => body.extend_from_slice(NAME.as_bytes()),
        ServerTokens::On | ServerTokens::Build => body.extend_from_slice(SIGNATURE.as_bytes()),
        ServerTokens::Text(text) => text.append(r, &mut body),
    }
    body.extend_from_slice(b"</center>\r\n</body>\r\n</html>\r\n");
    pad_for_msie(r, status, &mut body);
    Some(body.into())
}

/// Old Internet Explorers replace short error pages by their own.
fn pad_for_msie(r: &Request, status: u16, body: &mut Vec<u8>) {
    let core = &r.loc().core;
    if !core.msie_padding || status < 400 {
        return;
    }
    let old = r.with_header(b"user-agent", |agent| {
        agent.is_some_and(|agent| {
            memchr::memmem::find(agent, b"MSIE ").is_some() && memchr::memmem::find(agent, b"Opera").is_none()
        })
    });
    let pad = b"<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n";
    let chrome = r.with_header(b"user-agent", |agent| {
        agent.is_some_and(|agent| memchr::memmem::find(agent, b"Chrome/").is_some())
    });
    if old || chrome {
        for _ in 0..6 {
            body.extend_from_slice(pad);
        }
    }
}
