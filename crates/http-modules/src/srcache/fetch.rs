//! Asks the cache, and answers with what it has.

use super::{Settings, State, debug, head, is_true};
use moonrest_http::{
    body,
    prelude::*,
    subrequest::{self, Variables},
};

/// Stands behind the access phase.
pub(super) struct Fetcher(pub Arc<Settings>);

impl PhaseHandler for Fetcher {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        let settings = &self.0;
        if r.is_subrequest() {
            return Step::next();
        }
        if settings.methods & r.method.get().bit() == 0 {
            debug(r, format_args!("srcache_fetch and srcache_store skipped due to request method"));
            return Step::next();
        }
        let state = r.ctx::<State>();
        if settings.request_cache_control {
            let (no_cache, no_store) = wishes(r);
            if no_cache {
                debug(
                    r,
                    format_args!(
                        "srcache_fetch skipped due to request headers \"Cache-Control: no-cache\" or \
                         \"Pragma: no-cache\""
                    ),
                );
                if no_store {
                    debug(
                        r,
                        format_args!(
                            "srcache_store skipped due to request header \"Cache-Control: no-store\""
                        ),
                    );
                }
                state.seen.set(!no_store);
                return Step::next();
            }
        }
        state.seen.set(true);
        if is_true(settings.fetch_skip.as_ref(), r) {
            debug(r, format_args!("srcache_fetch skipped due to the true value fed into srcache_fetch_skip"));
            return Step::next();
        }
        let Some(wanted) = settings.fetch.clone() else { return Step::next() };
        let (r, settings) = (r.clone(), settings.clone());
        let reading = body::read(&r);
        Step::wait(async move {
            reading.await?;
            let Some((path, args)) = wanted.target(&r) else { return Ok(Flow::Finish(500)) };
            state.asked.set(true);
            let (child, answer) = subrequest::capture(
                &r,
                subrequest::Wanted {
                    path: &path,
                    args: &args,
                    method: wanted.method,
                    body: Some(Bytes::new()),
                    forward_body: false,
                    variables: Variables::Own,
                    headers: &[],
                },
            )?;
            let ran = subrequest::run(child.clone()).await;
            if let Err(error @ RequestError::Gone { .. }) = ran {
                return Err(error);
            }
            let status = answer.status(&child);
            debug(&r, format_args!("srcache_fetch: subrequest returned status {status}"));
            if status != 200 {
                return Ok(Flow::Next);
            }
            if ran.is_err() || answer.is_truncated(&child) {
                moonrest_http::error!(r, "srcache_fetch: cache sent truncated response body");
                return Ok(Flow::Next);
            }
            let kept = Bytes::from(answer.body.take());
            match head::read(&r, &kept, settings.header_buffer) {
                Ok(len) => {
                    debug(&r, format_args!("srcache_fetch decides to send the response in cache"));
                    state.hit.set(true);
                    respond(&r, kept.slice(len.min(kept.len())..)).await
                }
                Err(message) => {
                    moonrest_http::error!(r, "{message}");
                    Ok(Flow::Next)
                }
            }
        })
    }
}

async fn respond(r: &RequestRef, body: Bytes) -> Result<Flow, RequestError> {
    r.out_mut().content_length = Some(body.len() as u64);
    let pieces = if body.is_empty() { Vec::new() } else { vec![Piece::Data(body)] };
    match r.respond_pieces(pieces)? {
        Step::Now(flow) => Ok(flow),
        Step::Wait(wait) => wait.await,
    }
}

/// Whether the client wants an answer that is made for it, and wants it forgotten.
fn wishes(r: &Request) -> (bool, bool) {
    let says = |name: &[u8], word: &[u8]| {
        r.with_headers(name, |values| values.iter().any(|value| contains(value, word)))
    };
    let no_cache = says(b"Cache-Control", b"no-cache") || says(b"Pragma", b"no-cache");
    (no_cache, says(b"Cache-Control", b"no-store"))
}

/// Whether a word stands somewhere in a text, in any case.
pub(super) fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_any_case() {
        assert!(contains(b"max-age=0, No-Cache", b"no-cache"));
        assert!(!contains(b"no-cach", b"no-cache"));
    }
}
