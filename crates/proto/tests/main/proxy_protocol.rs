//! The PROXY protocol: the tables of its specification, sections 2.1 and 2.2, and what nginx makes of them.

use moonrest_proto::proxy_protocol::{Error, Parse, TlvError, parse, tlv, write_v1};
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};

/// `source port → destination port`, "-" without addresses, and the length.
fn show(buf: &[u8]) -> Result<(String, usize), Error> {
    Ok(match parse(buf)? {
        Parse::Partial => ("partial".to_owned(), 0),
        Parse::Complete { len, header: None } => ("-".to_owned(), len),
        Parse::Complete { len, header: Some(header) } => {
            let (from, to) = (header.source, header.destination);
            (format!("{from} {} {to} {}", from.port, to.port), len)
        }
    })
}

fn check(header: &[u8], expect: Result<&str, Error>) {
    let buf = [header, b"GET / HTTP/1.1\r\n"].concat();
    assert_eq!(show(&buf), expect.map(|text| (text.to_owned(), header.len())), "{header:?}");
    if expect.is_ok() {
        for len in 0..header.len() {
            assert_eq!(parse(&header[..len]), Ok(Parse::Partial), "{len} of {header:?}");
        }
    }
}

#[test]
fn version_1() {
    check(b"PROXY TCP4 192.0.2.1 192.0.2.2 123 5678\r\n", Ok("192.0.2.1 123 192.0.2.2 5678"));
    check(b"PROXY TCP6 2001:Db8::1 2001:Db8::2 123 5678\r\n", Ok("2001:Db8::1 123 2001:Db8::2 5678"));
    check(b"PROXY UNKNOWN\r\n", Ok("-"));
    check(b"PROXY UNKNOWN 1 2 3 4 5 6\r\n", Ok("-"));
    check(b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", Ok("0.0.0.0 0 255.255.255.255 65535"));
}

#[test]
fn broken_version_1() {
    for header in [
        &b"BOGUS TCP4 192.0.2.1 192.0.2.2 1234 5678\r\n"[..],
        b"PROXY\r\n",
        b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2  2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r",
        b"PROXY UNKNOWNx\r\n",
        b"PROXY UNKNOWN\n\r\n",
        b"GET / HTTP/1.1\r\n",
    ] {
        check(header, Err(Error::Broken));
    }
    let long = [b"PROXY UNKNOWN ", &[b'x'; 100][..]].concat();
    check(&long, Err(Error::Broken));
    assert_eq!(Error::Broken.log_message(b"BOGUS TCP4\r\nGET"), "broken header: \"BOGUS TCP4\"");
}

fn v2(version_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[version_command, family], &len, body].concat()
}

const V4: &[u8] = &[192, 0, 2, 1, 192, 0, 2, 2, 0, 123, 22, 46];

#[test]
fn version_2() {
    check(&v2(0x21, 0x11, V4), Ok("192.0.2.1 123 192.0.2.2 5678"));
    check(&v2(0x21, 0x11, &[V4, b"\x05\0\x01x"].concat()), Ok("192.0.2.1 123 192.0.2.2 5678"));
    let mut v6 = [0; 36];
    (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 3, 4);
    check(&v2(0x21, 0x21, &v6), Ok("::1 3 ::2 4"));
    check(&v2(0x20, 0x11, V4), Ok("-")); // LOCAL
    check(&v2(0x20, 0x00, b""), Ok("-"));
    check(&v2(0x21, 0x12, V4), Ok("-")); // datagrams
    check(&v2(0x21, 0x31, &[0; 216]), Ok("-")); // UNIX
    check(&v2(0x21, 0x00, b"abc"), Ok("-"));
}

#[test]
fn broken_version_2() {
    check(&v2(0x11, 0x11, V4), Err(Error::UnknownVersion(1)));
    check(&v2(0x31, 0x11, V4), Err(Error::UnknownVersion(3)));
    check(&v2(0x21, 0x11, &V4[..11]), Err(Error::Truncated));
    check(&v2(0x21, 0x21, V4), Err(Error::Truncated));
    check(&v2(0x21, 0x11, &[0; 4081]), Err(Error::TooLarge));
    assert_eq!(parse(b"\r\n\r\n\0\r\nQUIT\n\x31"), Err(Error::UnknownVersion(3)));
}

#[test]
fn tlvs() {
    let sub = b"\x21\0\x07TLSv1.2\x22\0\x01n";
    let mut ssl = vec![SSL_TYPE, 0, 5 + sub.len() as u8, 1, 0, 0, 1, 2];
    ssl.extend_from_slice(sub);
    let tlvs = [b"\x01\0\x02h2\x05\0\0", &ssl[..], b"\xea\0\x01z"].concat();
    let get =
        |name| tlv(&tlvs, name).map(|value| value.map(|value| String::from_utf8_lossy(&value).into_owned()));
    assert_eq!(get("alpn"), Ok(Some("h2".to_owned())));
    assert_eq!(get("unique_id"), Ok(Some(String::new())));
    assert_eq!(get("authority"), Ok(None));
    assert_eq!(get("0xea"), Ok(Some("z".to_owned())));
    assert_eq!(get("0x1"), Ok(Some("h2".to_owned())));
    assert_eq!(get("0x1ea"), Ok(None));
    assert_eq!(get("ssl_version"), Ok(Some("TLSv1.2".to_owned())));
    assert_eq!(get("ssl_0x22"), Ok(Some("n".to_owned())));
    assert_eq!(get("ssl_verify"), Ok(Some("258".to_owned())));
    assert_eq!(get("ssl_cipher"), Ok(None));
    for name in ["0x", "0xg", "0x+1"] {
        assert_eq!(get(name), Err(TlvError::InvalidName), "{name}");
    }
    for name in ["", "foo", "ssl_foo", "version"] {
        assert_eq!(get(name), Err(TlvError::UnknownName), "{name}");
    }
    assert_eq!(tlv(b"\x01\0", "alpn"), Err(TlvError::Broken));
    assert_eq!(tlv(b"\x01\0\x02h", "alpn"), Err(TlvError::Broken));
    assert_eq!(tlv(b"\x20\0\x02h2", "ssl_cn"), Err(TlvError::Broken));
    assert_eq!(tlv(b"", "ssl_foo"), Ok(None)); // nginx: looks for the outer one first
}

const SSL_TYPE: u8 = 0x20;

#[test]
fn unknown_is_written_without_two_addresses() {
    let mut out = Vec::new();
    write_v1(None, &mut out);
    write_v1(Some(("127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap())), &mut out);
    assert_eq!(out, b"PROXY UNKNOWN\r\nPROXY UNKNOWN\r\n");
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        a: [u8; 16], b: [u8; 16], ports: (u16, u16), is_v4: bool, rest in prop::collection::vec(any::<u8>(), 0..9),
    ) {
        let ip = |bytes: [u8; 16]| -> IpAddr {
            if is_v4 { IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]]) } else { IpAddr::from(bytes) }
        };
        let mut out = Vec::new();
        write_v1(Some((SocketAddr::new(ip(a), ports.0), SocketAddr::new(ip(b), ports.1))), &mut out);
        let written = out.len();
        out.extend_from_slice(&rest);
        let Ok(Parse::Complete { len, header: Some(header) }) = parse(&out) else {
            return Err(TestCaseError::fail("not read"));
        };
        prop_assert_eq!(len, written);
        prop_assert_eq!((header.source.ip, header.source.port), (ip(a), ports.0));
        prop_assert_eq!((header.destination.ip, header.destination.port), (ip(b), ports.1));
    }

    #[test]
    fn arbitrary_bytes_never_panic(kind in 0..3, bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let buf = match kind {
            0 => bytes,
            1 => [b"PROXY TCP4 ", &bytes[..]].concat(),
            _ => [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x30", &bytes[..]].concat(),
        };
        if let Ok(Parse::Complete { header: Some(header), .. }) = parse(&buf) {
            let _ = (tlv(header.tlvs, "alpn"), tlv(header.tlvs, "ssl_cn"));
        }
    }
}
