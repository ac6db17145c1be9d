//! Other ways in: unix sockets, IPv6, the PROXY protocol.

use crate::{builder, serve, statuses, talk};
use moonrest_testkit::{Client, logs::Level};
use std::{
    io::{Read, Write},
    net::{Ipv6Addr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[test]
fn unix_sockets() {
    let server = builder().start(
        "http { server { listen {{addr}}; listen unix:{{root}}/sock; location / { return 200 \"$remote_addr $server_addr\n\"; } } }",
    );
    let mut stream = UnixStream::connect(server.root().join("sock")).expect("the socket is there");
    stream.write_all(GET.as_bytes()).expect("the request leaves");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let expect = format!("unix: unix:{}/sock\n", server.root().display());
    assert!(answer.ends_with(&expect), "{answer}");
}

#[test]
fn ipv6() {
    // A port that nobody else has at the moment.
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else { return };
    let port = listener.local_addr().expect("it has an address").port();
    drop(listener);
    let server = builder().start(&format!(
        "http {{ server {{ listen {{{{addr}}}}; listen [::1]:{port}; location / {{ return 200 \"$remote_addr $server_port\n\"; }} }} }}"
    ));
    let mut stream = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).expect("the server accepts");
    stream.write_all(GET.as_bytes()).expect("the request leaves");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    assert!(answer.ends_with(&format!("::1 {port}\n")), "{answer}");
    drop(server);
}

fn proxied() -> moonrest_testkit::Server {
    builder().start(
        "http { server { listen {{addr}} proxy_protocol;
            location / { return 200 \"$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $remote_addr\n\"; } } }",
    )
}

#[test]
fn proxy_protocol_version_1() {
    let server = proxied();
    let body = |line: &str| talk(&server, format!("{line}{GET}")).first().map(|response| response.text());
    assert_eq!(
        body("PROXY TCP4 192.0.2.1 192.0.2.2 1234 5678\r\n").as_deref(),
        Some("192.0.2.1 1234 192.0.2.2 127.0.0.1\n")
    );
    assert_eq!(
        body("PROXY TCP6 2001:db8::1 2001:db8::2 1234 5678\r\n").as_deref(),
        Some("2001:db8::1 1234 2001:db8::2 127.0.0.1\n")
    );
    assert_eq!(body("PROXY UNKNOWN\r\n").as_deref(), Some("   127.0.0.1\n"));
    for broken in [
        "",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1234 99999999\r\n",
        "PROXY TCP4 x y 1 2\r\n",
        "PROXY \r\n",
        "HELLO\r\n",
    ] {
        assert_eq!(body(broken), None, "{broken:?}");
    }
    let log = server.wait_for_log(Level::Error, "broken header:");
    assert!(log.contains("while reading PROXY protocol, client: 127.0.0.1, server: "), "{log}");
}

#[test]
fn proxy_protocol_version_2() {
    let server = proxied();
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    header.extend_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2, 4, 210, 22, 46]);
    let mut client = server.connect();
    // The header may come in pieces, and the request with its last one.
    client.send(&header[..5]);
    client.wait_until_read();
    client.send([&header[5..], GET.as_bytes()].concat());
    client.response().expect_body("192.0.2.1 1234 192.0.2.2 127.0.0.1\n");
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
    let mut client = server.connect();
    client.send([&local[..], GET.as_bytes()].concat());
    client.response().expect_body("   127.0.0.1\n");
    let mut broken = header.clone();
    broken[12] = 0x31;
    let mut client: Client = server.connect();
    client.send(&broken);
    client.expect_closed();
}

#[test]
fn several_addresses_of_one_server() {
    let server = serve("listen {{addr:other}}; location / { return 200 \"$server_port\n\"; }");
    let mut client = Client::connect(server.named_addr("other"));
    client.send(GET);
    client.response().expect_body(format!("{}\n", server.named_addr("other").port()));
    assert_eq!(statuses(&talk(&server, GET)), [200]);
}
