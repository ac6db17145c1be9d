//! Whether a client may get a compressed answer: `gzip_vary`, `gzip_http_version`, `gzip_proxied`, `gzip_disable`.
//! Every module that compresses, decompresses or picks precompressed files asks here.
//! <https://nginx.org/en/docs/http/ngx_http_gzip_module.html>

use crate::{args::Args, request::Request};
use bytes::Bytes;
use memchr::memmem;
use moonrest_core::{ConfResult, Regex};
use moonrest_proto::{date, http1::Version};
use std::cell::Cell;

/// The words of `gzip_proxied`, each a bit.
const PROXIED: [&[u8]; 9] = [
    b"off",
    b"expired",
    b"no-cache",
    b"no-store",
    b"private",
    b"no_last_modified",
    b"no_etag",
    b"auth",
    b"any",
];
const OFF: u16 = 1;
const EXPIRED: u16 = 1 << 1;
const NO_CACHE: u16 = 1 << 2;
const NO_STORE: u16 = 1 << 3;
const PRIVATE: u16 = 1 << 4;
const NO_LAST_MODIFIED: u16 = 1 << 5;
const NO_ETAG: u16 = 1 << 6;
const AUTH: u16 = 1 << 7;
const ANY: u16 = 1 << 8;

/// `gzip_disable`: clients that get nothing compressed.
#[derive(Clone, Debug, Default)]
pub struct Disabled {
    regexes: Vec<Regex>,
    msie6: bool,
}

/// The rules in force in one location.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Whether `Vary: Accept-Encoding` is sent where the answer depends on the client.
    pub vary: bool,
    http_version: Version,
    proxied: u16,
    disabled: Option<Disabled>,
}

impl Rules {
    /// Puts nginx's defaults in the place of what is not set.
    pub(crate) fn new(
        vary: Option<bool>,
        http_version: Option<usize>,
        proxied: Option<u16>,
        disabled: Option<Disabled>,
    ) -> Self {
        Self {
            vary: vary.unwrap_or(false),
            http_version: if http_version == Some(0) { Version::Http10 } else { Version::Http11 },
            proxied: proxied.unwrap_or(OFF),
            disabled,
        }
    }
}

/// Sets `gzip_proxied`; several lines add up.
pub(crate) fn set_proxied(slot: &mut Option<u16>, args: &Args<'_>) -> ConfResult {
    let mut bits = slot.unwrap_or(0);
    for (n, word) in args.words().iter().enumerate() {
        let Some(bit) = PROXIED.iter().position(|name| name.eq_ignore_ascii_case(&word.text)) else {
            return Err(args.invalid_value(n));
        };
        if bits & (1 << bit) != 0 {
            args.env.warn(format!("duplicate value \"{}\"", word.lossy()), Some(word.span));
        }
        bits |= 1 << bit;
    }
    *slot = Some(bits);
    Ok(())
}

/// Sets `gzip_disable`; several lines add up.
pub(crate) fn set_disabled(slot: &mut Option<Disabled>, args: &Args<'_>) -> ConfResult {
    let disabled = slot.get_or_insert_with(Disabled::default);
    for word in args.words() {
        match &*word.text {
            b"msie6" => disabled.msie6 = true,
            // Meant for a server short of memory; this one answers such trouble in other ways.
            b"degradation" => {}
            pattern => disabled.regexes.push(Regex::new(pattern, true)?),
        }
    }
    Ok(())
}

/// What was found out about one request.
#[derive(Default)]
struct Tested(Cell<Option<bool>>);

/// Whether this answer may be sent with gzip (nginx's `ngx_http_gzip_ok`). Decided once per request.
pub fn accepts(r: &Request) -> bool {
    if r.is_subrequest() {
        return false;
    }
    let tested = r.ctx::<Tested>();
    if let Some(known) = tested.0.get() {
        return known;
    }
    let ok = r.with_header(b"accept-encoding", |value| value.is_some_and(accepts_gzip)) && permitted(r);
    tested.0.set(Some(ok));
    ok
}

/// Whether the client lists another coding (`br`, `zstd`). The rules about proxies and old clients are gzip's alone, as
/// in the modules that brought these codings to nginx.
pub fn accepts_coding(r: &Request, coding: &[u8]) -> bool {
    !r.is_subrequest()
        && r.with_header(b"accept-encoding", |value| value.is_some_and(|value| lists(value, coding)))
}

/// The answer depends on what the client accepts: says so once, if `gzip_vary` is on.
pub fn vary(r: &Request) {
    if !r.loc().core.gzip.vary || r.is_subrequest() {
        return;
    }
    let mut out = r.out_mut();
    let first = out.fields.first();
    if first.is_none_or(|first| &*first.name != b"Vary" || &*first.value != b"Accept-Encoding") {
        let (name, value) = (Bytes::from_static(b"Vary"), Bytes::from_static(b"Accept-Encoding"));
        out.fields.insert(0, crate::response::FieldOut { name, value });
    }
}

/// Everything but the coding: version, proxies, refused clients.
fn permitted(r: &Request) -> bool {
    let rules = &r.loc().core.gzip;
    if rules.disabled.as_ref().is_some_and(|disabled| disabled.msie6)
        && r.with_header(b"user-agent", |agent| agent.is_some_and(is_msie6))
    {
        return false;
    }
    if r.version.get() < rules.http_version {
        return false;
    }
    if r.with_header(b"via", |via| via.is_some()) && !permitted_through_proxy(r, rules.proxied) {
        return false;
    }
    let Some(disabled) = &rules.disabled else { return true };
    disabled.regexes.is_empty()
        || r.with_header(b"user-agent", |agent| {
            agent.is_none_or(|agent| !disabled.regexes.iter().any(|regex| regex.is_match(agent)))
        })
}

fn permitted_through_proxy(r: &Request, proxied: u16) -> bool {
    if proxied & OFF != 0 {
        return false;
    }
    if proxied & ANY != 0 {
        return true;
    }
    if proxied & AUTH != 0 && r.with_header(b"authorization", |value| value.is_some()) {
        return true;
    }
    let out = r.out();
    if let Some(expires) = out.get(b"Expires") {
        if proxied & EXPIRED == 0 {
            return false;
        }
        let now = match &out.date {
            Some(value) => date::parse_http(value),
            None => Some(r.worker.now()),
        };
        return matches!((date::parse_http(expires), now), (Some(expires), Some(now)) if expires < now);
    }
    let mut cached = false;
    for field in out.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(b"cache-control")) {
        cached = true;
        let rules = [(NO_CACHE, &b"no-cache"[..]), (NO_STORE, b"no-store"), (PRIVATE, b"private")];
        if rules.iter().any(|(bit, word)| proxied & bit != 0 && has_directive(&field.value, word)) {
            return true;
        }
    }
    let dated = proxied & NO_LAST_MODIFIED != 0 && out.last_modified.is_some();
    let tagged = proxied & NO_ETAG != 0 && out.etag.is_some();
    !(cached || dated || tagged)
}

/// Whether a list such as `Cache-Control` contains `word`, by itself or with a value.
fn has_directive(list: &[u8], word: &[u8]) -> bool {
    list.split(|b| matches!(b, b',' | b';')).any(|item| {
        let item = item.trim_ascii();
        let name = item.split(|b| *b == b'=').next().unwrap_or_default();
        name.trim_ascii_end().eq_ignore_ascii_case(word)
    })
}

/// Internet Explorer 4 to 6 without its service pack.
fn is_msie6(agent: &[u8]) -> bool {
    let Some(at) = memmem::find(agent, b"MSIE ") else { return false };
    if memmem::find(agent, b"Opera").is_some() {
        return false;
    }
    match agent.get(at + 5..) {
        Some([b'4' | b'5', b'.', _, ..]) => true,
        Some([b'6', b'.', _, rest @ ..]) => memmem::find(rest, b"SV1").is_none(),
        _ => false,
    }
}

/// Whether `Accept-Encoding` lists gzip with a weight above zero.
fn accepts_gzip(value: &[u8]) -> bool {
    value.starts_with(b"gzip,") || lists(value, b"gzip")
}

/// Finds `coding` at the beginning of an item and reads its weight as nginx does: the first such item decides.
fn lists(value: &[u8], coding: &[u8]) -> bool {
    let mut start = 0;
    let after = loop {
        let Some(rest) = value.get(start..) else { return false };
        let Some(found) = rest.windows(coding.len()).position(|part| part.eq_ignore_ascii_case(coding))
        else {
            return false;
        };
        let at = start + found;
        let before = at.checked_sub(1).and_then(|before| value.get(before));
        start = at + coding.len();
        if matches!(before, None | Some(b',' | b' ')) {
            break value.get(start..).unwrap_or_default();
        }
    };
    match after.trim_ascii_start() {
        [] | [b',', ..] => true,
        [b';', parameter @ ..] => match parameter.trim_ascii_start() {
            [] => true,
            [b'q' | b'Q', b'=', weight @ ..] => positive(weight),
            _ => false,
        },
        _ => false,
    }
}

/// Whether a weight is one of `0.001` … `1.000`; whatever is malformed counts as zero.
fn positive(weight: &[u8]) -> bool {
    let end = weight.iter().position(|b| matches!(b, b',' | b' ')).unwrap_or(weight.len());
    let (whole, fraction) = match weight.get(..end).unwrap_or_default() {
        [whole @ (b'0' | b'1')] => (*whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', fraction @ ..] => (*whole, fraction),
        _ => return false,
    };
    if fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let zero = fraction.iter().all(|digit| *digit == b'0');
    if whole == b'1' { zero } else { !zero }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_as_nginx_reads_them() {
        let check = |value: &str, expect| assert_eq!(accepts_gzip(value.as_bytes()), expect, "{value}");
        check("gzip", true);
        check("GZip", true);
        check("gzip,deflate", true);
        check("deflate, gzip", true);
        check("deflate,gzip ;q=0.5", true);
        check("gzip;q=0", false);
        check("gzip; q=0.000", false);
        check("gzip; q=0.001", true);
        check("gzip; q=0.0001", false);
        check("gzip; q=1.000, br", true);
        check("gzip;q=1.001", false);
        check("gzip;q=2", false);
        check("gzip;", true);
        check("gzip;q", false);
        check("gzip;q=", false);
        check("gzipx", false);
        check("xgzip", false);
        check("x-gzip", false);
        check("x-gzip, gzip;q=1", true);
        check("", false);
        check("*", false);
    }

    #[test]
    fn old_browsers_are_known() {
        let check = |agent: &str, expect| assert_eq!(is_msie6(agent.as_bytes()), expect, "{agent}");
        check("Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)", true);
        check("Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1; SV1)", false);
        check("Mozilla/4.0 (compatible; MSIE 5.5; Windows 98)", true);
        check("Mozilla/4.0 (compatible; MSIE 7.0)", false);
        check("Mozilla/4.0 (compatible; MSIE 6.0) Opera 8", false);
        check("MSIE 6", false);
    }

    #[test]
    fn cache_control_is_a_list() {
        assert!(has_directive(b"max-age=1, No-Cache", b"no-cache"));
        assert!(has_directive(b"private=\"x\"", b"private"));
        assert!(!has_directive(b"no-cache-x", b"no-cache"));
    }
}
