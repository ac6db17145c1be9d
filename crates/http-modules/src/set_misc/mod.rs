//! Values made of other values: escaping, quoting, encoding, digests, dates, chance. As directives, and those of one value
//! as functions of Lua's `ndk.set_var` too.
//! <https://github.com/openresty/set-misc-nginx-module>

mod base32;

use crate::{
    lenient_base64::{decode_base64, decode_base64_url},
    ndk::{Function, PLACES, UpstreamList, UpstreamLists, assign},
};
use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose};
use md5::{Digest as _, Md5};
use moonrest_http::{module::Set, prelude::*};
use moonrest_proto::escape::{Kind, Unescape, escape, unescape};
use moonrest_sys::time;
use sha1::Sha1;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// The module.
pub struct SetMisc;
type D = Directive<SetMisc>;

/// `NAME $variable [VALUE]`: without a value the variable's own is taken.
const fn function(name: &'static str) -> D {
    D::new(name, PLACES, Arity::between(1, 2), Set::Main(|(), args| set(args)))
}

/// `NAME $variable VALUE`.
const fn function_of(name: &'static str) -> D {
    D::new(name, PLACES, Arity::exactly(2), Set::Main(|(), args| set(args)))
}

/// `NAME $variable FIRST SECOND`.
const fn function_of_two(name: &'static str) -> D {
    D::new(name, PLACES, Arity::exactly(3), Set::Main(|(), args| set_of_two(args)))
}

impl HttpModule for SetMisc {
    const NAME: &'static str = "ngx_http_set_misc_module";
    const DIRECTIVES: &'static [D] = &[
        function("set_escape_uri"),
        function("set_unescape_uri"),
        function("set_quote_sql_str"),
        function("set_quote_pgsql_str"),
        function("set_quote_json_str"),
        function("set_encode_base32"),
        function("set_decode_base32"),
        function("set_encode_base64"),
        function("set_decode_base64"),
        function("set_encode_base64url"),
        function("set_decode_base64url"),
        function("set_encode_hex"),
        function("set_decode_hex"),
        function("set_md5"),
        function("set_sha1"),
        function("set_secure_random_alphanum"),
        function("set_secure_random_lcalpha"),
        function_of("set_formatted_gmt_time"),
        function_of("set_formatted_local_time"),
        function_of_two("set_hmac_sha1"),
        function_of_two("set_hmac_sha256"),
        function_of_two("set_random"),
        D::new("set_local_today", PLACES, Arity::exactly(1), Set::Main(|(), args| set(args))),
        D::new("set_if_empty", PLACES, Arity::exactly(2), Set::Main(|(), args| set_if_empty(args))),
        D::new("set_rotate", PLACES, Arity::exactly(3), Set::Loc(|_, args| set_rotate(args))),
        D::new("set_hashed_upstream", PLACES, Arity::exactly(3), Set::Main(|(), args| hashed_upstream(args))),
        D::flag("set_base32_padding", |loc| &mut loc.padding).within(PLACES),
        D::new(
            "set_misc_base32_padding",
            PLACES,
            Arity::exactly(1),
            Set::Loc(|loc: &mut Loc, args| {
                let message = "the \"set_misc_base32_padding\" directive is deprecated, use the \
                               \"set_base32_padding\" directive instead";
                args.env.warn(message.to_owned(), Some(args.span()));
                set_once(&mut loc.padding, args.flag(0)?)
            }),
        ),
        D::new("set_base32_alphabet", PLACES, Arity::exactly(1), Set::Loc(set_alphabet)),
    ];
    const VALUE_FUNCTIONS: &'static [ValueFunction] = &[
        ValueFunction { name: "set_escape_uri", call: |_, value, out| escape_uri(value, out) },
        ValueFunction { name: "set_unescape_uri", call: |_, value, out| unescape_uri(value, out) },
        ValueFunction { name: "set_quote_sql_str", call: |_, value, out| quote_sql_str(value, out) },
        ValueFunction { name: "set_quote_pgsql_str", call: |_, value, out| quote_pgsql_str(value, out) },
        ValueFunction { name: "set_quote_json_str", call: |_, value, out| quote_json_str(value, out) },
        ValueFunction { name: "set_encode_base32", call: encode_base32 },
        ValueFunction { name: "set_decode_base32", call: decode_base32 },
        ValueFunction {
            name: "set_encode_base64",
            call: |_, value, out| append(&general_purpose::STANDARD.encode(value), out),
        },
        ValueFunction {
            name: "set_decode_base64",
            call: |r, value, out| found(r, "set_decode_base64", decode_base64(value), out),
        },
        ValueFunction {
            name: "set_encode_base64url",
            call: |_, value, out| append(&general_purpose::URL_SAFE_NO_PAD.encode(value), out),
        },
        ValueFunction {
            name: "set_decode_base64url",
            call: |r, value, out| found(r, "set_decode_base64url", decode_base64_url(value), out),
        },
        ValueFunction { name: "set_encode_hex", call: |_, value, out| encode_hex(value, out) },
        ValueFunction {
            name: "set_decode_hex",
            call: |r, value, out| found(r, "set_decode_hex", decode_hex(value), out),
        },
        ValueFunction { name: "set_md5", call: |_, value, out| encode_hex(&Md5::digest(value), out) },
        ValueFunction { name: "set_sha1", call: |_, value, out| encode_hex(&Sha1::digest(value), out) },
        ValueFunction {
            name: "set_secure_random_alphanum",
            call: |r, value, out| secure_random(r, value, ALPHANUM, out),
        },
        ValueFunction {
            name: "set_secure_random_lcalpha",
            call: |r, value, out| secure_random(r, value, LCALPHA, out),
        },
        ValueFunction {
            name: "set_formatted_gmt_time",
            call: |_, pattern, out| formatted_time(pattern, true, out),
        },
        ValueFunction {
            name: "set_formatted_local_time",
            call: |_, pattern, out| formatted_time(pattern, false, out),
        },
        ValueFunction { name: "set_local_today", call: |_, _, out| formatted_time(b"%Y-%m-%d", false, out) },
    ];
    type Main = ();
    type Loc = Loc;
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    padding: Option<bool>,
    alphabet: Option<[u8; 32]>,
    /// The number that `set_rotate` came to here; other blocks have their own.
    current: Arc<Current>,
}

/// A number, or [`NONE`] before there is one.
struct Current(AtomicI64);

const NONE: i64 = -1;

impl Default for Current {
    fn default() -> Self {
        Self(AtomicI64::new(NONE))
    }
}

impl Inherit for Loc {
    fn inherit(&mut self, outer: &Self) {
        self.padding = self.padding.or(outer.padding);
        self.alphabet = self.alphabet.or(outer.alphabet);
    }
}

fn set_alphabet(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    let text = args.bytes(0)?;
    let alphabet = text.try_into().map_err(|_| {
        Fault::message(format!(
            "\"set_base32_alphabet\" directive takes an alphabet of {} bytes but 32 expected",
            text.len()
        ))
    })?;
    set_once(&mut loc.alphabet, alphabet)
}

fn set(args: &Args<'_>) -> ConfResult {
    let name = args.name();
    let function = SetMisc::VALUE_FUNCTIONS.iter().find(|function| function.name == name);
    let Some(function) = function else { return Err(Fault::message("no such function")) };
    let value = args.template(if args.len() > 1 { 1 } else { 0 })?;
    let call = function.call;
    let function: Function =
        Box::new(move |r, values, out| call(Some(r), values.first().map_or(&[], |value| value), out));
    assign(args, args.variable_name(0)?, vec![value], function)
}

fn set_of_two(args: &Args<'_>) -> ConfResult {
    let calculate: fn(&Request, &[u8], &[u8], &mut Vec<u8>) -> bool = match args.name() {
        "set_hmac_sha1" => |_, key, text, out| hmac(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key, text, out),
        "set_hmac_sha256" => |_, key, text, out| hmac(hmac::HMAC_SHA256, key, text, out),
        _ => random,
    };
    let function: Function = Box::new(move |r, values, out| match values {
        [first, second] => calculate(r, first, second, out),
        _ => false,
    });
    assign(args, args.variable_name(0)?, vec![args.template(1)?, args.template(2)?], function)
}

/// `set_if_empty $variable VALUE`.
fn set_if_empty(args: &Args<'_>) -> ConfResult {
    let function: Function = Box::new(|_, values, out| {
        let value = values.iter().find(|value| !value.is_empty());
        out.extend_from_slice(value.map_or(&[], |value| value));
        true
    });
    assign(args, args.variable_name(0)?, vec![args.template(0)?, args.template(1)?], function)
}

/// `set_rotate $variable FROM TO`: one more than the variable, or than what came out here last.
fn set_rotate(args: &Args<'_>) -> ConfResult {
    let values = vec![args.template(0)?, args.template(1)?, args.template(2)?];
    let function: Function = Box::new(|r, values, out| {
        let [value, from, to] = values else { return false };
        let Some((from, to)) = range(r, "set_rotate", [from, to], true) else { return false };
        let counter = r.loc().conf::<Loc>().map(|loc| loc.current.clone()).unwrap_or_default();
        let given = number(value);
        if given.is_none() && !value.is_empty() {
            let value = String::from_utf8_lossy(value);
            moonrest_http::error!(r, "set_rotate: bad current value: \"{value}\"");
        }
        let next = |last: i64| {
            let last = given.unwrap_or(if last == NONE { from - 1 } else { last });
            let next = last.saturating_add(1);
            if (from..=to).contains(&next) { next } else { from }
        };
        let step = |last| Some(next(last));
        let last = counter.0.fetch_update(Relaxed, Relaxed, step).unwrap_or_else(|last| last);
        out.extend_from_slice(next(last).to_string().as_bytes());
        true
    });
    assign(args, args.variable_name(0)?, values, function)
}

/// `set_hashed_upstream $variable LIST VALUE`: the upstream of the list that belongs to the value.
fn hashed_upstream(args: &Args<'_>) -> ConfResult {
    let list = args.template(1)?;
    let unknown = |name: &[u8]| {
        let name = String::from_utf8_lossy(name);
        format!("set_hashed_upstream: upstream list \"{name}\" not defined yet")
    };
    let fixed = match list.as_static() {
        None => None,
        Some(name) => {
            let find = |lists: &mut UpstreamLists| lists.find(name).cloned();
            let found = args.compiler.with_main(find).flatten();
            Some(found.ok_or_else(|| Fault::message(unknown(name)))?)
        }
    };
    let function: Function = Box::new(move |r, values, out| {
        let [name, value] = values else { return false };
        let lists = || r.http().main::<UpstreamLists>()?.find(name).cloned();
        let Some(list) = fixed.clone().or_else(lists) else {
            moonrest_http::error!(r, "{}", unknown(name));
            return false;
        };
        out.extend_from_slice(choose(&list, value));
        true
    });
    assign(args, args.variable_name(0)?, vec![list, args.template(2)?], function)
}

/// The item of a list that a value belongs to, by nginx's hash of the value in lower case.
fn choose<'a>(list: &'a UpstreamList, value: &[u8]) -> &'a [u8] {
    let add = |hash: u64, byte: &u8| hash.wrapping_mul(31).wrapping_add(u64::from(byte.to_ascii_lowercase()));
    // nginx: only the lower half of the hash counts.
    let hash = value.iter().fold(0, add) & u64::from(u32::MAX);
    let index = hash.checked_rem(list.len() as u64).and_then(|index| usize::try_from(index).ok());
    index.and_then(|index| list.get(index)).map_or(&[], |name| name)
}

fn number(text: &[u8]) -> Option<i64> {
    moonrest_core::conf::value::parse_uint(text).and_then(|number| i64::try_from(number).ok())
}

/// Two bounds in order; `None` when one is no number, which is logged.
fn range(r: &Request, who: &str, bounds: [&[u8]; 2], quoted: bool) -> Option<(i64, i64)> {
    let [from, to] = [("from", bounds[0]), ("to", bounds[1])].map(|(which, text)| {
        number(text).ok_or_else(|| {
            let text = String::from_utf8_lossy(text);
            match quoted {
                true => moonrest_http::error!(r, "{who}: bad \"{which}\" argument value: \"{text}\""),
                false => moonrest_http::error!(r, "{who}: bad \"{which}\" argument: {text}"),
            }
        })
    });
    match (from, to) {
        (Ok(from), Ok(to)) => Some((from.min(to), from.max(to))),
        _ => None,
    }
}

/// A random number between two, inclusively.
fn random(r: &Request, from: &[u8], to: &[u8], out: &mut Vec<u8>) -> bool {
    let Some((from, to)) = range(r, "set_random", [from, to], false) else { return false };
    let Ok(random) = moonrest_sys::random::number() else { return false };
    let span = u64::try_from(to - from).unwrap_or(0).saturating_add(1);
    let chosen = from.saturating_add(i64::try_from(random % span).unwrap_or(0));
    append(&chosen.to_string(), out)
}

const LCALPHA: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
const ALPHANUM: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// So many random characters of an alphabet, each as likely as the others.
fn secure_random(r: Option<&Request>, length: &[u8], alphabet: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(length @ 1..=64) = number(length) else {
        let length = String::from_utf8_lossy(length);
        complain(r, format_args!("set_random: bad \"length\" argument: {length}"));
        return false;
    };
    let fair = 256 / alphabet.len() * alphabet.len();
    let mut left = length;
    while left > 0 {
        let mut bytes = [0; 64];
        if moonrest_sys::random::fill(&mut bytes).is_err() {
            complain(r, format_args!("set_secure_random: no random bytes"));
            return false;
        }
        for byte in bytes.into_iter().map(usize::from).filter(|byte| *byte < fair) {
            if left == 0 {
                break;
            }
            out.extend(alphabet.get(byte % alphabet.len()));
            left -= 1;
        }
    }
    true
}

fn complain(r: Option<&Request>, message: std::fmt::Arguments<'_>) {
    if let Some(r) = r {
        moonrest_http::error!(r, "{message}");
    }
}

/// The time as `strftime` has it; empty for an empty pattern.
fn formatted_time(pattern: &[u8], utc: bool, out: &mut Vec<u8>) -> bool {
    if pattern.is_empty() {
        return true;
    }
    // nginx: the result has a place of 256 bytes.
    let formatted = time::format(pattern, time::wall_coarse().secs, utc).filter(|text| text.len() < 256);
    formatted.is_some_and(|text| {
        out.extend(text);
        true
    })
}

fn hmac(algorithm: hmac::Algorithm, key: &[u8], text: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(hmac::sign(&hmac::Key::new(algorithm, key), text).as_ref());
    true
}

/// A result that there may not be.
fn found(r: Option<&Request>, who: &str, result: Option<Vec<u8>>, out: &mut Vec<u8>) -> bool {
    match result {
        Some(result) => out.extend(result),
        None => {
            complain(r, format_args!("{who}: invalid value"));
            return false;
        }
    }
    true
}

/// A result that is always there, as those of the following functions are.
fn append(text: &str, out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(text.as_bytes());
    true
}

fn escape_uri(value: &[u8], out: &mut Vec<u8>) -> bool {
    escape(Kind::UriComponent, value, out);
    true
}

fn unescape_uri(value: &[u8], out: &mut Vec<u8>) -> bool {
    let spaced: Vec<u8> = value.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    unescape(Unescape::All, &spaced, out);
    true
}

/// A string literal of MySQL's SQL.
fn quote_sql_str(value: &[u8], out: &mut Vec<u8>) -> bool {
    let mut quoted = Vec::with_capacity(value.len() + 2);
    moonrest_proto::escape::sql(value, &mut quoted);
    for byte in quoted {
        // A variable of a template, should the value ever become one.
        if byte == b'$' {
            out.push(b'\\');
        }
        out.push(byte);
    }
    true
}

/// A string literal of PostgreSQL; bytes that are no UTF-8 make all that are not ASCII octal numbers.
fn quote_pgsql_str(value: &[u8], out: &mut Vec<u8>) -> bool {
    if value.is_empty() {
        return append("''", out);
    }
    out.push(b'E');
    let mut quoted = Vec::new();
    quote_sql_str(value, &mut quoted);
    if std::str::from_utf8(&quoted).is_ok() {
        out.extend(quoted);
        return true;
    }
    for byte in quoted {
        match byte {
            0x80.. => out.extend(format!("\\\\{byte:03o}").bytes()),
            _ => out.push(byte),
        }
    }
    true
}

/// A string of JSON; an empty value is `null`.
fn quote_json_str(value: &[u8], out: &mut Vec<u8>) -> bool {
    if value.is_empty() {
        return append("null", out);
    }
    out.push(b'"');
    for &byte in value {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            0x08 => out.extend(b"\\b"),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            0x0c => out.extend(b"\\f"),
            0..0x20 | 0x7f => out.extend(format!("\\u{byte:04x}").bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
    true
}

fn encode_hex(value: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend(value.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()));
    true
}

fn decode_hex(value: &[u8]) -> Option<Vec<u8>> {
    if !value.len().is_multiple_of(2) {
        return None;
    }
    let digit = moonrest_proto::escape::hex_value;
    value
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

/// Base32 as the location of the request has it.
fn base32_settings(r: Option<&Request>) -> ([u8; 32], bool) {
    let loc = r.and_then(|r| r.loc().conf::<Loc>());
    let alphabet = loc.and_then(|loc| loc.alphabet).unwrap_or(*base32::ALPHABET);
    (alphabet, loc.and_then(|loc| loc.padding).unwrap_or(true))
}

fn encode_base32(r: Option<&Request>, value: &[u8], out: &mut Vec<u8>) -> bool {
    let (alphabet, padding) = base32_settings(r);
    base32::encode(value, &alphabet, padding, out);
    true
}

/// What is no base32 is empty.
fn decode_base32(r: Option<&Request>, value: &[u8], out: &mut Vec<u8>) -> bool {
    let (alphabet, _) = base32_settings(r);
    out.extend(base32::decode(value, &alphabet).unwrap_or_default());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, value: &str, expect: &str) {
        let function = SetMisc::VALUE_FUNCTIONS.iter().find(|function| function.name == name).unwrap();
        let mut out = Vec::new();
        assert!((function.call)(None, value.as_bytes(), &mut out));
        assert_eq!(String::from_utf8_lossy(&out), expect);
    }

    #[test]
    fn values_are_escaped_quoted_and_encoded() {
        check("set_escape_uri", " :", "%20%3A");
        check("set_unescape_uri", "a%20b+c", "a b c");
        check("set_quote_sql_str", "o'clock\n$a", "'o\\'clock\\n\\$a'");
        check("set_quote_pgsql_str", "o'clock\u{e9}", "E'o\\'clock\u{e9}'");
        check("set_quote_pgsql_str", "", "''");
        check("set_quote_json_str", "a\"\n\u{1}", "\"a\\\"\\n\\u0001\"");
        check("set_quote_json_str", "", "null");
        check("set_encode_base64url", "a?>", "YT8-");
        check("set_decode_base64", "YT8+", "a?>");
        check("set_decode_hex", "61", "a");
        check("set_md5", "", "d41d8cd98f00b204e9800998ecf8427e");
        check("set_sha1", "abc", "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert!(decode_hex(b"6").is_none() && decode_hex(b"6x").is_none());
        check("set_encode_base32", "a", "c4======");
        check("set_decode_base32", "c4", "a");
        check("set_decode_base32", "c", "");
        check("set_formatted_gmt_time", "", "");
        check("set_formatted_gmt_time", "a%%", "a%");
    }

    #[test]
    fn bytes_that_are_no_text_are_octal_numbers() {
        let mut out = Vec::new();
        assert!(quote_pgsql_str(b"a\xff\xc3\xa9", &mut out));
        assert_eq!(out, b"E'a\\\\377\\\\303\\\\251'");
    }

    #[test]
    fn chance_has_a_length() {
        for (name, alphabet) in
            [("set_secure_random_alphanum", ALPHANUM), ("set_secure_random_lcalpha", LCALPHA)]
        {
            let function = SetMisc::VALUE_FUNCTIONS.iter().find(|function| function.name == name).unwrap();
            let mut out = Vec::new();
            assert!((function.call)(None, b"64", &mut out));
            assert!(out.len() == 64 && out.iter().all(|byte| alphabet.contains(byte)));
            for wrong in ["0", "65", "", "x", "-1"] {
                assert!(!(function.call)(None, wrong.as_bytes(), &mut out), "{wrong}");
            }
        }
    }

    #[test]
    fn a_value_always_has_the_same_upstream() {
        let list: UpstreamList = ["moon", "earth", "sun"].map(|name| Box::from(name.as_bytes())).into();
        assert_eq!(choose(&list, b"abc"), choose(&list, b"ABC"));
        assert_eq!(choose(&list, b"a"), b"earth");
        assert_eq!(choose(&UpstreamList::from([]), b"a"), b"");
    }
}
