//! Values made of other values: escaping, quoting, encoding. As functions of Lua's `ndk.set_var`.
//! <https://github.com/openresty/set-misc-nginx-module>

use moonrest_http::prelude::*;
use moonrest_proto::escape::{Kind, Unescape, escape, unescape};

/// The module.
pub struct SetMisc;

impl HttpModule for SetMisc {
    const NAME: &'static str = "ngx_http_set_misc_module";
    const VALUE_FUNCTIONS: &'static [ValueFunction] = &[
        ValueFunction { name: "set_escape_uri", call: |_, value, out| done(escape_uri(value, out)) },
        ValueFunction { name: "set_unescape_uri", call: |_, value, out| done(unescape_uri(value, out)) },
        ValueFunction { name: "set_quote_sql_str", call: |_, value, out| done(quote_sql_str(value, out)) },
        ValueFunction { name: "set_encode_base32", call: |_, value, out| done(encode_base32(value, out)) },
    ];
    type Main = ();
    type Loc = ();
}

/// These have a result for every value.
fn done((): ()) -> bool {
    true
}

fn escape_uri(value: &[u8], out: &mut Vec<u8>) {
    escape(Kind::UriComponent, value, out);
}

fn unescape_uri(value: &[u8], out: &mut Vec<u8>) {
    let spaced: Vec<u8> = value.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    unescape(Unescape::All, &spaced, out);
}

/// A string literal of MySQL's SQL.
fn quote_sql_str(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'\'');
    for &byte in value {
        let short = match byte {
            0 => b'0',
            b'\n' => b'n',
            b'\r' => b'r',
            0x08 => b'b',
            b'\t' => b't',
            0x1a => b'Z',
            b'\\' | b'\'' | b'"' => byte,
            _ => {
                out.push(byte);
                continue;
            }
        };
        out.extend([b'\\', short]);
    }
    out.push(b'\'');
}

const BASE32: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

/// RFC 4648's extended-hex alphabet, in lower case, padded.
fn encode_base32(value: &[u8], out: &mut Vec<u8>) {
    for group in value.chunks(5) {
        let bits =
            group.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte)) << (8 * (5 - group.len()));
        let digits = (group.len() * 8).div_ceil(5);
        for digit in 0..8 {
            let index = usize::try_from(bits >> (35 - 5 * digit) & 31).unwrap_or(0);
            out.push(if digit < digits { BASE32.get(index).copied().unwrap_or(b'=') } else { b'=' });
        }
    }
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
        check("set_encode_base32", "", "");
        check("set_encode_base32", "a", "c4======");
        check("set_encode_base32", "12345", "64p36d1l");
    }
}
