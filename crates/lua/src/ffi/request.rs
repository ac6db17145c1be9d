//! `ngx.req`: fields, arguments and method of the request.
//! <https://github.com/openresty/lua-nginx-module#ngxreqget_headers>

use super::{DECLINED, OK, Str, Token, buffer, fail, lend, with_request};
use crate::escape::{self, HEADER_NAME, HEADER_VALUE};
use moonrest_http::Request;
use moonrest_luajit::{ffi_entry, raw};
use moonrest_proto::http1::{Method, Version, framing};
use std::ffi::{c_char, c_int};

/// `ngx_http_lua_ffi_table_elt_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Pair {
    key: Str,
    value: Str,
}

/// Upstream's default number of fields and of arguments.
const DEFAULT_MAX: usize = 100;

/// How many of `count` are given when `max` are wanted: 0 means all, less the default.
fn limited(count: usize, max: c_int, truncated: *mut c_int) -> c_int {
    let max = usize::try_from(max).unwrap_or(DEFAULT_MAX);
    let cut = max > 0 && count > max;
    // SAFETY: Lua passes a place for a number.
    unsafe { raw::store(truncated, c_int::from(cut)) };
    c_int::try_from(if cut { max } else { count }).unwrap_or(c_int::MAX)
}

/// The places that Lua has made for pairs; lua-resty-core's are not aligned.
struct Places {
    first: *mut Pair,
    count: usize,
}

impl Places {
    fn new(first: *mut Pair, count: c_int) -> Self {
        Self { first, count: usize::try_from(count).unwrap_or(0) }
    }

    fn put(&self, n: usize, key: Str, value: Str) {
        if n < self.count {
            // SAFETY: Lua passes places for that many pairs.
            unsafe { raw::store(self.first.wrapping_add(n), Pair { key, value }) };
        }
    }
}

ffi_entry! {
    /// How many header fields there are.
    fn ngx_http_lua_ffi_req_get_headers_count(r: Token, max: c_int, truncated: *mut c_int) -> c_int, on_panic = -1 {
        with_request(r, |r, _| limited(r.head.borrow().fields.iter().count(), max, truncated))
    }

    /// The fields; names in lower case unless `raw` is set. Their bytes stay until the next call.
    fn ngx_http_lua_ffi_req_get_headers(r: Token, out: *mut Pair, count: c_int, unchanged: c_int) -> c_int,
        on_panic = -1
    {
        let places = Places::new(out, count);
        with_request(r, |r, _| {
            let (head, block) = (r.head.borrow(), r.block.borrow());
            if unchanged != 0 {
                for (n, field) in head.fields.iter().enumerate() {
                    places.put(n, Str::new(field.name.of(&block)), Str::new(field.value.of(&block)));
                }
                return OK;
            }
            let total = head.fields.iter().map(|field| field.name.of(&block).len()).sum();
            lend(
                |names| {
                    names.reserve(total);
                    for field in &head.fields {
                        names.extend(field.name.of(&block).iter().map(u8::to_ascii_lowercase));
                    }
                },
                |names| {
                    let mut rest = names;
                    for (n, field) in head.fields.iter().enumerate() {
                        let (name, more) = rest.split_at(field.name.of(&block).len().min(rest.len()));
                        rest = more;
                        places.put(n, Str::new(name), Str::new(field.value.of(&block)));
                    }
                },
            );
            OK
        })
    }

    /// How many arguments there are at most.
    fn ngx_http_lua_ffi_req_get_uri_args_count(r: Token, max: c_int, truncated: *mut c_int) -> c_int, on_panic = -1 {
        with_request(r, |r, _| {
            let args = r.args.borrow();
            let count = if args.is_empty() { 0 } else { memchr::memchr_iter(b'&', &args).count() + 1 };
            limited(count, max, truncated)
        })
    }

    /// Length of the query.
    fn ngx_http_lua_ffi_req_get_querystring_len(r: Token) -> usize, on_panic = 0 {
        super::with_request_or(r, 0, |r| r.args.borrow().len())
    }

    /// The arguments, decoded into a buffer as long as the query; gives their number. No value has the length -1.
    fn ngx_http_lua_ffi_req_get_uri_args(r: Token, place: *mut u8, out: *mut Pair, count: c_int) -> c_int,
        on_panic = -1
    {
        let places = Places::new(out, count);
        with_request(r, |r, _| {
            let args = r.args.borrow();
            // SAFETY: Lua passes a buffer as long as the query, which it asked for before.
            let copy = unsafe {
                raw::fill(place, args.len(), &args);
                buffer(place, args.len())
            };
            let mut made = 0;
            for pair in copy.split_mut(|byte| *byte == b'&') {
                if made == places.count {
                    break;
                }
                if let Some(Pair { key, value }) = decoded(pair) {
                    places.put(made, key, value);
                    made += 1;
                }
            }
            c_int::try_from(made).unwrap_or(0)
        })
    }

    /// The method as nginx's bit.
    fn ngx_http_lua_ffi_req_get_method(r: Token) -> c_int, on_panic = -1 {
        with_request(r, |r, _| c_int::try_from(r.method.get().bit()).unwrap_or(0))
    }

    /// Its name.
    fn ngx_http_lua_ffi_req_get_method_name(r: Token, name: *mut *const u8, size: *mut usize) -> c_int, on_panic = -1 {
        with_request(r, |r, _| {
            let (head, block) = (r.head.borrow(), r.block.borrow());
            let bytes = head.method_name.of(&block);
            // SAFETY: Lua passes places for a pointer and a length.
            unsafe {
                raw::store(name, bytes.as_ptr());
                raw::store(size, bytes.len());
            }
            OK
        })
    }

    /// Sets the method by its bit.
    fn ngx_http_lua_ffi_req_set_method(r: Token, bit: c_int) -> c_int, on_panic = -1 {
        with_request(r, |r, _| {
            let found = Method::NAMED.into_iter().find(|method| {
                *method != Method::Connect && u32::try_from(bit).is_ok_and(|bit| method.bit() == bit)
            });
            let Some(method) = found else { return DECLINED };
            r.set_method(method);
            OK
        })
    }

    /// Sets a header field to one value or several, replacing those there are, or adding to them; none removes it.
    fn ngx_http_lua_ffi_req_set_header(
        r: Token, key: *const u8, key_size: usize, value: *const u8, value_size: usize,
        many: *const Str, many_size: usize, replace: c_int, err: *mut *const c_char,
    ) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes strings, and an array of strings of that length.
        let (key, values) = unsafe { (raw::bytes(key, key_size), values(value, value_size, many, many_size)) };
        with_request(r, |r, _| {
            if r.version.get() == Version::Http09 {
                return DECLINED;
            }
            let name = HEADER_NAME.escaped(key);
            let mut replaces = replace != 0;
            for value in values.iter().copied().chain(values.is_empty().then_some(&b""[..])) {
                if !set_field(r, &name, &HEADER_VALUE.escaped(value), replaces) {
                    return fail(err, c"failed to set header");
                }
                replaces = false;
            }
            OK
        })
    }
}

/// The values that Lua gives: one, or an array of them.
///
/// # Safety
/// The pointers are null or may be read for the lengths given, as long as the answer is used.
pub(super) unsafe fn values<'a>(
    one: *const u8,
    size: usize,
    many: *const Str,
    count: usize,
) -> smallvec::SmallVec<[&'a [u8]; 4]> {
    // SAFETY: the caller's promise.
    unsafe {
        if many.is_null() {
            return (!one.is_null()).then(|| raw::bytes(one, size)).into_iter().collect();
        }
        let text = |n| {
            let Str { len, data } = many.add(n).read_unaligned();
            raw::bytes(data, usize::try_from(len).unwrap_or(0))
        };
        (0..count).map(text).collect()
    }
}

/// Takes a pair `name=value` apart; none for an empty name.
fn decoded(pair: &mut [u8]) -> Option<Pair> {
    let at = memchr::memchr(b'=', pair);
    let (name, value) = match at {
        Some(at) => {
            let (name, value) = pair.split_at_mut(at);
            (name, value.get_mut(1..))
        }
        None => (pair, None),
    };
    let len = escape::unescape_in_place(name);
    let key = Str::new(name.get(..len)?);
    if len == 0 {
        return None;
    }
    let value = match value {
        Some(value) => {
            let len = escape::unescape_in_place(value);
            Str::new(value.get(..len)?)
        }
        None => Str { len: -1, data: std::ptr::null() },
    };
    Some(Pair { key, value })
}

/// Sets or adds a field; setting it to an empty value removes it. False for a value that this field cannot have.
fn set_field(r: &Request, name: &[u8], value: &[u8], replace: bool) -> bool {
    if name.eq_ignore_ascii_case(b"host") && !set_host(r, value) {
        return false;
    }
    if name.eq_ignore_ascii_case(b"content-length")
        && !value.is_empty()
        && framing::parse_length(value).is_none()
    {
        return false;
    }
    match (value.is_empty(), replace || is_single(name)) {
        (true, true) => r.remove_header(name),
        (false, true) => r.set_header(name, value),
        (_, false) => r.add_header(name, value),
    }
    true
}

/// Fields of which a request has one: adding replaces them.
fn is_single(name: &[u8]) -> bool {
    const SINGLE: [&[u8]; 19] = [
        b"host",
        b"connection",
        b"if-modified-since",
        b"if-unmodified-since",
        b"if-match",
        b"if-none-match",
        b"user-agent",
        b"referer",
        b"content-length",
        b"content-type",
        b"range",
        b"if-range",
        b"transfer-encoding",
        b"expect",
        b"upgrade",
        b"accept-encoding",
        b"via",
        b"authorization",
        b"keep-alive",
    ];
    SINGLE.iter().any(|single| name.eq_ignore_ascii_case(single))
}

/// `$host` follows the field. False for what is no host.
fn set_host(r: &Request, value: &[u8]) -> bool {
    let mut host = r.host.borrow_mut();
    if value.is_empty() {
        host.clear();
        return true;
    }
    moonrest_proto::http1::host::validate(value, &mut host).is_ok()
}
