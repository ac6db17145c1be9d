//! Keeps a copy of what goes to the client, and stores it when it is complete.

use super::{Settings, State, debug, fetch::contains, head, is_true};
use moonrest_http::{prelude::*, subrequest};
use moonrest_proto::{date, http1::Method};
use std::rc::Rc;

/// Decides whether a response is stored.
pub(super) struct Filter(pub Arc<Settings>);

impl HeaderFilter for Filter {
    fn filter(&self, r: &RequestRef) -> Result<FilterStep<Needed>, RequestError> {
        const PASSED: Result<FilterStep<Needed>, RequestError> = Ok(FilterStep::Now(None));
        let settings = &self.0;
        let Some(state) = r.find_ctx::<State>() else { return PASSED };
        if !state.seen.get() || state.hit.get() || r.is_subrequest() {
            return PASSED;
        }
        let bypass = |reason: &str| {
            debug(r, format_args!("srcache_store {reason}"));
            PASSED
        };
        if settings.methods & !Method::Head.bit() & r.method.get().bit() == 0 {
            return bypass("skipped due to request method");
        }
        let (status, length) = {
            let out = r.out();
            let encoding = out.content_encoding.as_ref().filter(|encoding| !encoding.is_empty());
            if let Some(encoding) = encoding.filter(|_| !settings.ignore_content_encoding) {
                moonrest_http::warn!(
                    r,
                    "srcache_store skipped due to response header \"Content-Encoding: {}\" (maybe you forgot to \
                     disable compression on the backend?)",
                    String::from_utf8_lossy(encoding)
                );
                return PASSED;
            }
            (out.status, out.content_length)
        };
        if settings.response_cache_control {
            match lifetime(r, settings) {
                Some(until) => state.valid_until.set(until),
                None => return bypass("skipped due to response header Cache-Control"),
            }
        }
        if is_true(settings.store_skip.as_ref(), r) {
            return bypass("skipped due to the true value fed into srcache_store_skip");
        }
        if !settings.statuses.contains(&status) {
            return bypass(&format!("bypassed because of unmatched status code {status}"));
        }
        // nginx: what the head may take is guessed.
        if settings.max_size != 0
            && length.is_some_and(|length| length > 0 && length + 15 > settings.max_size)
        {
            return bypass("bypassed because of too large Content-Length response header");
        }
        debug(r, format_args!("srcache_store decides to store the response"));
        state.storing.set(true);
        let kept = head::write(r, settings);
        let copy = Copy { settings: settings.clone(), state, head: kept.len(), kept, status, begun: false };
        Ok(FilterStep::Now(Some((BodyOrder::SrcacheStore, Box::new(copy)))))
    }
}

/// Until when the response may be kept, in seconds since 1970; 0 when it does not say. `None` when it must not be kept.
fn lifetime(r: &Request, settings: &Settings) -> Option<i64> {
    let out = r.out();
    let now = r.worker.now();
    let mut until = 0;
    let fields = |name: &'static [u8]| {
        out.fields
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| &*field.value)
    };
    for value in fields(b"cache-control") {
        let refused = [
            (settings.store_private, &b"private"[..]),
            (settings.store_no_store, b"no-store"),
            (settings.store_no_cache, b"no-cache"),
        ];
        if refused.iter().any(|(allowed, word)| !allowed && contains(value, word)) {
            return None;
        }
        if until == 0
            && let Some(age) = max_age(value)
        {
            let age = age.filter(|age| *age > 0)?;
            until = now.saturating_add(age);
        }
    }
    if until == 0
        && let Some(value) = fields(b"expires").next()
    {
        until = date::parse_http(value).filter(|until| *until > now)?;
    }
    Some(until)
}

/// The number of `max-age=`, if that is there; `Some(None)` for what is no number.
fn max_age(value: &[u8]) -> Option<Option<i64>> {
    const KEY: &[u8] = b"max-age=";
    let at = value.windows(KEY.len()).position(|part| part.eq_ignore_ascii_case(KEY))?;
    let rest = value.get(at + KEY.len()..).unwrap_or_default();
    let digits = rest.split(|byte| matches!(byte, b',' | b';' | b' ')).next().unwrap_or_default();
    Some(moonrest_core::conf::value::parse_uint(digits).and_then(|age| i64::try_from(age).ok()))
}

/// The copy of one response.
struct Copy {
    settings: Arc<Settings>,
    state: Rc<State>,
    kept: Vec<u8>,
    /// How much of it is the head.
    head: usize,
    /// The status that was stored.
    status: u16,
    begun: bool,
}

impl BodyFilter for Copy {
    fn filter(
        &mut self,
        r: &RequestRef,
        piece: Piece,
        out: &mut Pieces,
    ) -> Result<FilterStep<()>, RequestError> {
        if self.state.storing.get() {
            self.begin(r);
            match &piece {
                Piece::Data(data) => self.keep(r, data),
                Piece::Last => self.finish(r)?,
                _ => {}
            }
        }
        out.push(piece);
        Ok(FilterStep::Now(()))
    }
}

impl Copy {
    /// It is no longer worth keeping.
    fn give_up(&mut self) {
        self.state.storing.set(false);
        self.kept = Vec::new();
    }

    /// The part of the body that a client wanted is not the whole.
    fn begin(&mut self, r: &Request) {
        if std::mem::replace(&mut self.begun, true) || r.out().status != 206 || self.status != 200 {
            return;
        }
        if !self.settings.store_ranges {
            return self.give_up();
        }
        if let Some(digit) = self.kept.get_mut(b"HTTP/1.1 20".len()) {
            *digit = b'6';
        }
        self.status = 206;
    }

    fn keep(&mut self, r: &Request, data: &[u8]) {
        let most = self.settings.max_size;
        if most != 0 && (self.kept.len() + data.len()) as u64 > most {
            debug(r, format_args!("srcache_store bypassed because response body exceeded maximum size"));
            return self.give_up();
        }
        if self.state.storing.get() {
            self.kept.extend_from_slice(data);
        }
    }

    fn finish(&mut self, r: &RequestRef) -> Result<(), RequestError> {
        let (status, length) = (r.out().status, r.out().content_length);
        if !self.state.storing.get() {
            return Ok(());
        }
        let body = self.kept.len().saturating_sub(self.head) as u64;
        if let Some(length) = length.filter(|length| *length > body) {
            moonrest_http::error!(
                r,
                "srcache_store: skipped because response body truncated: {length} > {body}"
            );
            self.give_up();
            return Ok(());
        }
        if status >= 300 && status != self.status {
            moonrest_http::error!(
                r,
                "srcache_store: skipped due to new error status code {status} (old: {})",
                self.status
            );
            self.give_up();
            return Ok(());
        }
        if is_true(self.settings.store_skip.as_ref(), r) {
            debug(r, format_args!("srcache_store skipped due to the true value in srcache_store_skip"));
            self.give_up();
            return Ok(());
        }
        self.store(r)
    }

    /// Starts the subrequest that stores; the request does not wait for it.
    fn store(&mut self, r: &RequestRef) -> Result<(), RequestError> {
        let Some(wanted) = self.settings.store.clone() else { return Ok(()) };
        let Some((path, args)) = wanted.target(r) else {
            self.give_up();
            return Ok(());
        };
        let child = subrequest::detached(r, &path)?;
        // The path is decoded: a question mark in it is part of it.
        *child.uri.borrow_mut() = path;
        *child.args.borrow_mut() = args;
        child.set_method(wanted.method);
        child.own_variables.set(true);
        child.set_body(std::mem::take(&mut self.kept).into());
        let main = r.clone();
        child.at_end(move |child| {
            let status = child.out().status;
            debug(&main, format_args!("srcache_store: subrequest returned status {status}"));
            if !(200..300).contains(&status) {
                moonrest_http::error!(main, "srcache_store subrequest failed: rc={status} status={status}");
            }
        });
        subrequest::start(child);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_read() {
        assert_eq!(max_age(b"public, Max-Age=30, x"), Some(Some(30)));
        assert_eq!(max_age(b"max-age=0"), Some(Some(0)));
        assert_eq!(max_age(b"max-age=1x"), Some(None));
        assert_eq!(max_age(b"max-age="), Some(None));
        assert_eq!(max_age(b"public"), None);
    }
}
