//! Values made of other values: escaping, quoting, encoding, digests. As directives, and as functions of Lua's
//! `ndk.set_var`.
//! <https://github.com/openresty/set-misc-nginx-module>

use crate::lenient_base64::{decode_base64, decode_base64_url};
use base64::{Engine as _, engine::general_purpose};
use md5::{Digest as _, Md5};
use moonrest_core::Subject as _;
use moonrest_http::{
    module::Set,
    prelude::*,
    script::{ScriptFlow, ScriptOp, ScriptStep},
};
use moonrest_proto::escape::{Kind, Unescape, escape, sql, unescape};
use sha1::Sha1;

/// The module.
pub struct SetMisc;
type D = Directive<SetMisc>;

/// Where steps of a script may stand.
const PLACES: Contexts = Contexts::SERVER.or(Contexts::LOCATION).or(Contexts::SERVER_IF).or(Contexts::IF);

/// `NAME $variable [VALUE]`: without a value the variable's own is taken.
const fn function(name: &'static str) -> D {
    D::new(name, PLACES, Arity::between(1, 2), Set::Main(|(), args| set(args)))
}

impl HttpModule for SetMisc {
    const NAME: &'static str = "ngx_http_set_misc_module";
    const DIRECTIVES: &'static [D] = &[
        function("set_escape_uri"),
        function("set_unescape_uri"),
        function("set_quote_sql_str"),
        function("set_quote_json_str"),
        function("set_encode_base32"),
        function("set_encode_base64"),
        function("set_decode_base64"),
        function("set_encode_base64url"),
        function("set_decode_base64url"),
        function("set_encode_hex"),
        function("set_decode_hex"),
        function("set_md5"),
        function("set_sha1"),
        D::new("set_if_empty", PLACES, Arity::exactly(2), Set::Main(|(), args| set_if_empty(args))),
    ];
    const VALUE_FUNCTIONS: &'static [ValueFunction] = &[
        ValueFunction { name: "set_escape_uri", call: |_, value, out| escape_uri(value, out) },
        ValueFunction { name: "set_unescape_uri", call: |_, value, out| unescape_uri(value, out) },
        ValueFunction { name: "set_quote_sql_str", call: |_, value, out| quote_sql_str(value, out) },
        ValueFunction { name: "set_quote_json_str", call: |_, value, out| quote_json_str(value, out) },
        ValueFunction { name: "set_encode_base32", call: |_, value, out| encode_base32(value, out) },
        ValueFunction {
            name: "set_encode_base64",
            call: |_, value, out| append(&general_purpose::STANDARD.encode(value), out),
        },
        ValueFunction { name: "set_decode_base64", call: |_, value, out| found(decode_base64(value), out) },
        ValueFunction {
            name: "set_encode_base64url",
            call: |_, value, out| append(&general_purpose::URL_SAFE_NO_PAD.encode(value), out),
        },
        ValueFunction {
            name: "set_decode_base64url",
            call: |_, value, out| found(decode_base64_url(value), out),
        },
        ValueFunction { name: "set_encode_hex", call: |_, value, out| encode_hex(value, out) },
        ValueFunction { name: "set_decode_hex", call: |_, value, out| found(decode_hex(value), out) },
        ValueFunction { name: "set_md5", call: |_, value, out| encode_hex(&Md5::digest(value), out) },
        ValueFunction { name: "set_sha1", call: |_, value, out| encode_hex(&Sha1::digest(value), out) },
    ];
    type Main = ();
    type Loc = ();
}

/// The variable that a directive assigns; empty before that.
fn variable(args: &Args<'_>) -> ConfResult<VarId> {
    args.vars.define_assigned(args.variable_name(0)?, Arc::new(|_: &Request, _: &mut Vec<u8>| true))
}

fn set(args: &Args<'_>) -> ConfResult {
    let name = args.name();
    let function = SetMisc::VALUE_FUNCTIONS.iter().find(|function| function.name == name);
    let Some(function) = function else { return Err(Fault::message("no such function")) };
    let variable = variable(args)?;
    let value = args.template(if args.len() > 1 { 1 } else { 0 })?;
    args.push_script(Compute { variable, value, function: *function });
    Ok(())
}

/// A variable becomes what a function makes of a value; empty when it makes nothing of it.
struct Compute {
    variable: VarId,
    value: Template,
    function: ValueFunction,
}

impl ScriptOp for Compute {
    fn run(&self, r: &RequestRef) -> Result<ScriptStep, RequestError> {
        let mut out = Vec::new();
        if !(self.function.call)(Some(&**r), &self.value.eval(&**r), &mut out) {
            out.clear();
        }
        r.vars().assign(&**r, self.variable, Some(&out));
        Ok(ScriptStep::Now(ScriptFlow::Next))
    }
}

/// `set_if_empty $variable VALUE`.
fn set_if_empty(args: &Args<'_>) -> ConfResult {
    let variable = variable(args)?;
    let (present, value) = (args.template(0)?, args.template(1)?);
    args.push_script(Fill { variable, present, value });
    Ok(())
}

struct Fill {
    variable: VarId,
    present: Template,
    value: Template,
}

impl ScriptOp for Fill {
    fn run(&self, r: &RequestRef) -> Result<ScriptStep, RequestError> {
        if self.present.eval(&**r).is_empty() {
            let value = self.value.eval(&**r).into_owned();
            r.vars().assign(&**r, self.variable, Some(&value));
        }
        Ok(ScriptStep::Now(ScriptFlow::Next))
    }
}

/// A result that there may not be.
fn found(result: Option<Vec<u8>>, out: &mut Vec<u8>) -> bool {
    result.is_some_and(|result| {
        out.extend(result);
        true
    })
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
    sql(value, out);
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

const BASE32: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

/// RFC 4648's extended-hex alphabet, in lower case, padded.
fn encode_base32(value: &[u8], out: &mut Vec<u8>) -> bool {
    for group in value.chunks(5) {
        let bits =
            group.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte)) << (8 * (5 - group.len()));
        let digits = (group.len() * 8).div_ceil(5);
        for digit in 0..8 {
            let index = usize::try_from(bits >> (35 - 5 * digit) & 31).unwrap_or(0);
            out.push(if digit < digits { BASE32.get(index).copied().unwrap_or(b'=') } else { b'=' });
        }
    }
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
        check("set_quote_sql_str", "o'clock\n", "'o\\'clock\\n'");
        check("set_quote_json_str", "a\"\n\u{1}", "\"a\\\"\\n\\u0001\"");
        check("set_quote_json_str", "", "null");
        check("set_encode_base64url", "a?>", "YT8-");
        check("set_decode_base64", "YT8+", "a?>");
        check("set_decode_hex", "61", "a");
        check("set_md5", "", "d41d8cd98f00b204e9800998ecf8427e");
        check("set_sha1", "abc", "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert!(decode_hex(b"6").is_none() && decode_hex(b"6x").is_none());
        check("set_encode_base32", "", "");
        check("set_encode_base32", "a", "c4======");
        check("set_encode_base32", "12345", "64p36d1l");
    }
}
