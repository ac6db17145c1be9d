//! Conditional requests: `If-Modified-Since`, `If-None-Match`, `If-Match`, `If-Unmodified-Since`.
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#if_modified_since>

use moonrest_http::{core::IfModifiedSince, prelude::*};
use moonrest_proto::{date, http1::Known};

/// Answers 304 or 412 in place of what the client has, or does not want any more.
pub struct NotModified;

impl HttpModule for NotModified {
    const NAME: &'static str = "ngx_http_not_modified_filter_module";
    type Main = ();
    type Loc = ();

    fn attach(_main: &(), _loc: &Arc<()>, to: &mut LocationBuilder<'_>) -> ConfResult {
        to.header_filter(HeaderOrder::NotModified, Filter);
        Ok(())
    }
}

struct Filter;

impl HeaderFilter for Filter {
    fn filter(&self, r: &RequestRef) -> Result<FilterStep<Needed>, RequestError> {
        let unconditional = !r.head.borrow().fields.has_conditions();
        if unconditional || r.out().status != 200 || r.is_subrequest() || r.disable_not_modified.get() {
            return Ok(FilterStep::Now(None));
        }
        if (r.has_known(Known::IfUnmodifiedSince) && !is_unmodified(r))
            || (r.has_known(Known::IfMatch) && !matches(r, Known::IfMatch))
        {
            r.out_mut().clear();
            r.clear_ctx();
            return Err(RequestError::Internal { status: 412, level: Level::Info, message: "".into() });
        }
        let (since, none_match) = (r.has_known(Known::IfModifiedSince), r.has_known(Known::IfNoneMatch));
        if !since && !none_match || since && is_modified(r) || none_match && !matches(r, Known::IfNoneMatch) {
            return Ok(FilterStep::Now(None));
        }
        let mut out = r.out_mut();
        out.status = 304;
        out.status_line = None;
        out.content_type = Bytes::new();
        out.content_type_len = 0;
        out.content_encoding = None;
        out.remove(b"Content-Encoding");
        out.clear_content_length();
        out.clear_accept_ranges();
        out.remove(b"Accept-Ranges");
        Ok(FilterStep::Now(None))
    }
}

fn is_unmodified(r: &Request) -> bool {
    let Some(modified) = r.out().last_modified else { return false };
    date_of(r, Known::IfUnmodifiedSince).is_some_and(|since| since >= modified)
}

fn is_modified(r: &Request) -> bool {
    let Some(modified) = r.out().last_modified else { return true };
    let since = || date_of(r, Known::IfModifiedSince);
    match r.loc().core.if_modified_since {
        IfModifiedSince::Off => true,
        IfModifiedSince::Exact => since() != Some(modified),
        IfModifiedSince::Before => since().is_none_or(|since| since < modified),
    }
}

fn date_of(r: &Request, field: Known) -> Option<i64> {
    r.with_known(field, |value| value.and_then(date::parse_http))
}

/// Whether the list in `field` has the response's validator; `If-None-Match` takes weak ones for equal.
fn matches(r: &Request, field: Known) -> bool {
    r.with_known(field, |list| {
        let list = list.unwrap_or_default();
        list == b"*"
            || r.out().etag.as_ref().is_some_and(|etag| is_in(list, etag, field == Known::IfNoneMatch))
    })
}

fn is_in(list: &[u8], etag: &[u8], weak: bool) -> bool {
    let strip = |text| match weak {
        true => strip_weak(text),
        false => text,
    };
    let etag = strip(etag);
    let mut rest = list;
    while !rest.is_empty() {
        rest = strip(rest);
        if let Some(behind) = rest.strip_prefix(etag) {
            match behind.iter().find(|byte| !matches!(byte, b' ' | b'\t')) {
                None | Some(b',') => return true,
                Some(_) => {}
            }
        }
        let comma = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
        rest = rest.get(comma..).unwrap_or_default();
        while let [b' ' | b'\t' | b',', tail @ ..] = rest {
            rest = tail;
        }
    }
    false
}

fn strip_weak(text: &[u8]) -> &[u8] {
    match text.strip_prefix(b"W/") {
        Some(rest) if !rest.is_empty() => rest,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str, etag: &str, strong: bool, weak: bool) {
        let (list, tag) = (list.as_bytes(), etag.as_bytes());
        assert_eq!((is_in(list, tag, false), is_in(list, tag, true)), (strong, weak), "{list:?} {etag}");
    }

    #[test]
    fn validators_are_found_in_lists() {
        check("\"a\"", "\"a\"", true, true);
        check("\"b\", \"a\"", "\"a\"", true, true);
        check("\"b\" ,, \t\"a\" \t", "\"a\"", true, true);
        check("\"b\", \"a\" , \"c\"", "\"a\"", true, true);
        check("\"ab\"", "\"a\"", false, false);
        check("\"a\"b", "\"a\"", false, false);
        check("", "\"a\"", false, false);
        check("\"b\",", "\"a\"", false, false);
    }

    #[test]
    fn weak_ones_are_equal_only_where_that_is_enough() {
        check("W/\"a\"", "\"a\"", false, true);
        check("\"a\"", "W/\"a\"", false, true);
        check("W/\"a\"", "W/\"a\"", true, true);
        check("\"b\", W/\"a\"", "\"a\"", false, true);
    }
}
