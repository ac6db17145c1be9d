//! Talking HTTP/2 with an upstream (`proxy_http_version 2`).

use super::{Settings, cookie, pass::Target, request, rewrite::Rewrite};
use moonrest_http::{
    prelude::*,
    upstream::{Protocol, RequestLength},
};
use std::ops::Range;

/// One request to an HTTP/2 server.
pub(super) struct Http2 {
    settings: Arc<Settings>,
    target: Arc<Target>,
    pass_headers: bool,
    head: bool,
}

impl Http2 {
    pub(super) fn new(settings: Arc<Settings>, target: Arc<Target>, pass_headers: bool) -> Self {
        Self { settings, target, pass_headers, head: false }
    }
}

impl Protocol for Http2 {
    fn scheme(&self) -> &'static [u8] {
        self.target.scheme()
    }

    fn is_http2(&self) -> bool {
        true
    }

    fn asks_head(&self, _r: &Request) -> bool {
        self.head
    }

    fn request(
        &mut self,
        r: &RequestRef,
        length: RequestLength,
        out: &mut Vec<u8>,
    ) -> Result<Range<usize>, RequestError> {
        let written = request::append(&self.settings, &self.target, self.pass_headers, length, r, out)?;
        self.head = written.head;
        Ok(written.uri)
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
