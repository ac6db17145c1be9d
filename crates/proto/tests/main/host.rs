//! Hosts: RFC 3986, 3.2.2, and what nginx makes of them.

use moonrest_proto::http1::host::{check, validate};
use proptest::prelude::*;

/// The host to use and the port; "-" when it is refused.
fn expect(host: &str, expected: &str) {
    let mut out = Vec::new();
    let got = match validate(host.as_bytes(), &mut out) {
        Err(_) => "-".to_owned(),
        Ok(info) => {
            let port = info.port.map(|port| format!(" {port}")).unwrap_or_default();
            assert_eq!(info.folded, out != host.as_bytes()[..info.len], "{host}");
            String::from_utf8(out).unwrap() + &port
        }
    };
    assert_eq!(got, expected, "{host:?}");
}

#[test]
fn names_and_addresses() {
    expect("l", "l");
    expect("WWW.Example.com", "www.example.com");
    expect("example.com.", "example.com");
    expect("example.com.:80", "example.com 80");
    expect("example.com:", "example.com");
    expect("127.0.0.1:65535", "127.0.0.1 65535");
    expect("a_b~!$&'()*+,;=-", "a_b~!$&'()*+,;=-");
    expect("a%2Eb", "a%2eb");
    expect(".a", ".a"); // nginx: a dot in front is no error
}

#[test]
fn ip_literals() {
    expect("[abcd::EF98:0:7654:321]", "[abcd::ef98:0:7654:321]");
    expect("[::ffff:12.30.67.89]:80", "[::ffff:12.30.67.89] 80");
    expect("[v1.a:b-._~!$&'()*+,;=]", "[v1.a:b-._~!$&'()*+,;=]");
    expect("[::1]:", "[::1]");
}

#[test]
fn refused() {
    for host in [
        "",
        ".",
        ":",
        ":80",
        "..",
        "a..b",
        "a.b..",
        "a..:80",
        "a:b",
        "a:80:90",
        "a:65536",
        "a:99999999999999999999",
        "a:1.2",
        "a/b",
        "a\\b",
        "a b",
        "a\tb",
        "a\u{2}",
        "a\0",
        "a\u{7f}",
        "caf\u{e9}",
        "u@a",
        "a?b",
        "a#b",
        "a[b",
        "a]",
        "a,b/c",
        "[::1",
        "[::1].",
        "[::1]a",
        "[a..b]",
        "[a/b]",
        "[a%25b]",
        "x[::1]",
        "a%",
        "a%2",
        "a%2x",
        "a\"b",
        "<a>",
        "a|b",
        "{a}",
        "^",
    ] {
        expect(host, "-");
    }
}

proptest! {
    #[test]
    fn what_passes_passes_again_unchanged(host in prop::collection::vec(any::<u8>(), 0..20)) {
        let mut first = Vec::new();
        if validate(&host, &mut first).is_ok() && !first.ends_with(b".") {
            let mut second = Vec::new();
            prop_assert!(validate(&first, &mut second).is_ok());
            prop_assert_eq!(first, second);
        }
        let _ = check(&host);
    }
}
