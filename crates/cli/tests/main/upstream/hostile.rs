//! Answers that cannot be trusted: each is refused or cut off where it breaks, and nothing of it reaches another request.

use super::proxy;
use crate::responses;
use moonrest_testkit::{Upstream, logs::Level, upstream::Act};
use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{Arc, Barrier, mpsc},
    time::Duration,
};

const EARLY: &str = "upstream prematurely closed connection";

/// An upstream that sends these bytes on each connection and closes it.
fn closing_after(answers: impl IntoIterator<Item = Vec<u8>>) -> Upstream {
    let script = |answer: Vec<u8>| vec![Act::ReadRequest, Act::Send(answer), Act::HalfClose];
    Upstream::start(answers.into_iter().map(script).collect())
}

/// What a client gets that asks once and reads to the end.
fn ask(server: &moonrest_testkit::Server, request: &str) -> Vec<u8> {
    let mut client = server.connect();
    client.send(request);
    client.read_to_end()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Closes the connection at every byte of an answer, which is whole from `whole` on.
fn closes_at_every_byte(answer: &str, more: &str, complete_at_end: bool) {
    let head = answer.find("\r\n\r\n").unwrap() + 4;
    let upstream = closing_after((0..=answer.len()).map(|end| answer.as_bytes()[..end].to_vec()));
    let mut server = proxy(&upstream, more);
    server.allow_log(EARLY);
    for end in 0..=answer.len() {
        let got = ask(&server, GET);
        let text = String::from_utf8_lossy(&got).into_owned();
        if end < head {
            assert!(text.starts_with("HTTP/1.1 502"), "{end}: {text}");
            continue;
        }
        assert!(text.starts_with("HTTP/1.1 200"), "{end}: {text}");
        if end == answer.len() && complete_at_end {
            responses(&got)[0].expect_body("hello");
        } else {
            // A body that ended early must not look complete.
            let chunked = text.contains("Transfer-Encoding: chunked");
            assert!(!chunked || !text.ends_with("0\r\n\r\n"), "{end}: {text}");
            assert!(chunked || text.contains("Content-Length: 5"), "{end}: {text}");
        }
    }
    server.wait_for_log(Level::Error, "while reading response header from upstream");
    server.wait_for_log(Level::Error, "while reading upstream");
}

#[test]
fn an_upstream_may_close_at_every_byte_of_a_body_with_length() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello";
    closes_at_every_byte(answer, "", true);
    closes_at_every_byte(answer, "proxy_buffering off;", true);
}

#[test]
fn an_upstream_may_close_at_every_byte_of_a_body_in_chunks() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
    closes_at_every_byte(answer, "", true);
    closes_at_every_byte(answer, "proxy_buffering off;", true);
}

#[test]
fn what_follows_an_answer_reaches_nobody() {
    let stolen = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nSTOLEN";
    for (request, answer) in [
        (GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        (GET, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (GET, "HTTP/1.1 204 No Content\r\n\r\n"),
        (GET, "HTTP/1.1 304 Not Modified\r\n\r\n"),
        (GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        (HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"),
        (HEAD, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ] {
        for more in ["", "proxy_buffering off;"] {
            let bad = vec![Act::ReadRequest, Act::send(format!("{answer}{stolen}")), Act::Hold];
            let good = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine";
            let upstream = Upstream::start(vec![bad, vec![Act::ReadRequest, Act::send(good), Act::Hold]]);
            let server = proxy(&upstream, more);
            let first = ask(&server, request);
            assert!(!String::from_utf8_lossy(&first).contains("STOLEN"), "{answer}");
            let second = ask(&server, GET);
            assert!(String::from_utf8_lossy(&second).ends_with("mine"), "{answer}");
            assert_eq!(upstream.recorded().len(), 2, "{answer}: the connection was used again");
        }
    }
}

#[test]
fn what_comes_while_a_connection_waits_closes_it() {
    let unasked = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nSTOLEN";
    let upstream = Upstream::start(vec![
        vec![
            Act::ReadRequest,
            Act::send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
            Act::Wait(Duration::from_millis(50)),
            Act::send(unasked),
            Act::Hold,
        ],
        vec![Act::ReadRequest, Act::send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine"), Act::Hold],
    ]);
    let server = proxy(&upstream, "");
    server.get("/").expect_body("ok");
    std::thread::sleep(Duration::from_millis(150));
    server.get("/").expect_body("mine");
    assert!(upstream.recorded()[0].done);
}

/// What is left unasked for when a request comes is noticed, whether the event loop has looked meanwhile or not: each
/// connection answers once and then says something more before the next request is sent.
#[test]
fn what_came_before_a_request_is_not_its_answer() {
    const ROUNDS: usize = 200;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (said, unasked) = mpsc::channel();
    // The requests of a round are all there before the first is answered: none can go where another has just ended.
    let round = Arc::new(Barrier::new(4));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (said, round) = (said.clone(), round.clone());
            // What is said next does not wait for the acknowledgment of what was said before.
            stream.set_nodelay(true).unwrap();
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut buffer = [0; 1024];
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut buffer) {
                        Ok(n) if n > 0 => head.extend_from_slice(&buffer[..n]),
                        _ => return,
                    }
                }
                let line = String::from_utf8_lossy(&head).into_owned();
                let id = line.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
                let answer = |body: &str| {
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
                };
                round.wait();
                let _ = stream.write_all(&answer(&format!("mine {id}")));
                // Apart from the answer, mostly: what comes with it is excess.
                std::thread::sleep(Duration::from_micros(id.parse::<u64>().unwrap_or(0) % 5 * 300));
                let _ = stream.write_all(&answer("STOLEN"));
                let _ = said.send(());
                // Until the other side has seen it.
                while stream.read(&mut buffer).is_ok_and(|n| n > 0) {}
            });
        }
    });
    let mut server = crate::builder().start(&format!(
        "http {{
             upstream u {{ server {addr} max_fails=0; keepalive 8; }}
             server {{ listen {{{{addr}}}}; location / {{ proxy_pass http://u; }} }}
         }}"
    ));
    server.allow_log("upstream sent more data than specified");
    let mut clients: Vec<_> = (0..4).map(|_| server.connect()).collect();
    let mut id = 0;
    for _ in 0..ROUNDS / 4 {
        let first = id;
        for client in &mut clients {
            client.send(format!("GET /{id} HTTP/1.1\r\nHost: a\r\n\r\n"));
            id += 1;
        }
        for (client, id) in clients.iter_mut().zip(first..) {
            client.response().expect_status(200).expect_body(format!("mine {id}"));
        }
        clients.iter().for_each(|_| unasked.recv_timeout(Duration::from_secs(10)).unwrap());
    }
}

#[test]
fn heads_that_can_be_read_in_two_ways_are_refused() {
    let cases = [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
            "headers at the same time",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", "sent duplicate header line"),
        ("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", "sent invalid \"Content-Length\" header"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", "sent invalid \"Content-Length\" header"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "sent invalid \"Content-Length\"",
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "sent unknown \"Transfer-Encoding\""),
        ("HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", "sent invalid header"),
        ("HTTP/1.1 200 OK\r\n folded: x\r\n\r\n", "sent invalid header"),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "sent invalid header"),
        ("HTTP/1.1 2000 OK\r\n\r\n", "sent no valid HTTP/1.0 header"),
        ("HTTP/2.0 200 OK\r\n\r\n", "sent no valid HTTP/1.0 header"),
        ("<html>no head at all</html>", "sent no valid HTTP/1.0 header"),
        ("HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "although not asked to"),
    ];
    for (answer, expect) in cases {
        let upstream = closing_after([answer.as_bytes().to_vec()]);
        let mut server = proxy(&upstream, "");
        server.allow_log("upstream");
        server.get("/").expect_status(502);
        server.wait_for_log(Level::Error, expect);
    }
}

#[test]
fn heads_and_interim_answers_have_a_limit() {
    let long = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(5000));
    let endless = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
    for (answer, expect) in [(long, "upstream sent too big header"), (endless, "too many interim responses")]
    {
        let upstream = closing_after([answer.into_bytes()]);
        let mut server = proxy(&upstream, "");
        server.allow_log("upstream");
        server.get("/").expect_status(502);
        server.wait_for_log(Level::Error, expect);
    }
}

#[test]
fn interim_answers_are_no_answers() {
    let upstream = Upstream::answering(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let server = proxy(&upstream, "");
    server.get("/").expect_status(200).expect_body("ok");
    server.get("/").expect_status(200).expect_body("ok");
}

#[test]
fn broken_chunks_end_the_answer_visibly() {
    for body in
        ["5\r\nhello0\r\n\r\n", "x\r\n", "-1\r\n", "5;\x01\r\nhello\r\n0\r\n\r\n", "ffffffffffffffff1\r\n"]
    {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let upstream = Upstream::start(vec![vec![Act::ReadRequest, Act::send(answer), Act::Hold]]);
        let mut server = proxy(&upstream, "");
        server.allow_log("upstream sent invalid chunked response");
        let got = ask(&server, GET);
        assert!(!got.ends_with(b"0\r\n\r\n"), "{body:?}: {}", String::from_utf8_lossy(&got));
        server.wait_for_log(Level::Error, "upstream sent invalid chunked response while reading upstream");
    }
}

#[test]
fn silent_upstreams_time_out_as_nginx_says_it() {
    let upstream = Upstream::start(vec![vec![Act::ReadRequest, Act::Hold]]);
    let mut server = proxy(&upstream, "proxy_read_timeout 200ms;");
    server.allow_log("upstream timed out");
    server.get("/").expect_status(504);
    let line = server.wait_for_log(
        Level::Error,
        "upstream timed out (110: Connection timed out) while reading response header from upstream",
    );
    let expect = format!("upstream: \"http://{}/\", host:", upstream.addr());
    assert!(line.contains(&expect), "{line}");
}

#[test]
fn single_bytes_do_not_renew_the_timeout_of_a_head() {
    let mut script = vec![Act::ReadRequest];
    for byte in b"HTTP/1.1 200 OK\r\nA: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" {
        script.push(Act::Send(vec![*byte]));
        script.push(Act::Wait(Duration::from_millis(30)));
    }
    let upstream = Upstream::start(vec![script]);
    let mut server = proxy(&upstream, "proxy_read_timeout 300ms;");
    server.allow_log("upstream timed out");
    server.get("/").expect_status(504);
}

#[test]
fn clients_cannot_smuggle_through_fields() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let server = proxy(&upstream, "proxy_set_header X-Arg $arg_a; proxy_set_header X-Own own;");
    server.request(
        "GET /?a=%0d%0aX HTTP/1.1\r\nHost: a\r\nConnection: X-Hop, X-Own\r\nX-Hop: 1\r\nX-Own: client\r\nTE: trailers\r\n\
         Keep-Alive: 5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nX-Kept: yes\r\n\r\n",
    );
    let sent = upstream.wait_for("\r\n\r\n").text();
    for absent in ["X-Hop", "client", "TE:", "Keep-Alive", "Proxy-Connection", "Upgrade", "\r\nX\r\n"] {
        assert!(!sent.contains(absent), "{absent}: {sent}");
    }
    assert!(sent.contains("X-Own: own\r\n") && sent.contains("X-Kept: yes\r\n"), "{sent}");
}

#[test]
fn an_answer_before_the_end_of_the_request_is_passed_on() {
    let upstream = Upstream::start(vec![vec![
        Act::ReadUntil(b"\r\n\r\n".to_vec()),
        Act::send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"),
        Act::Wait(Duration::from_millis(200)),
    ]]);
    let server = proxy(&upstream, "client_max_body_size 0; client_body_buffer_size 64m;");
    let mut client = server.connect();
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000000\r\n\r\n")
        .send(vec![b'x'; 20_000_000]);
    client.response().expect_status(413).expect_body("big");
}

#[test]
fn a_client_that_leaves_frees_the_upstream() {
    let upstream = Upstream::start(vec![vec![Act::ReadRequest, Act::Hold]]);
    let server = proxy(&upstream, "");
    let mut client = server.connect();
    client.send("GET /gone HTTP/1.1\r\nHost: a\r\n\r\n");
    upstream.wait_for("GET /gone");
    client.close();
    server.wait_for_access("/gone 499");
    let freed = moonrest_testkit::process::poll(Duration::from_secs(5), || {
        upstream.recorded().first().is_some_and(|record| record.done).then_some(())
    });
    assert!(freed.is_some());
}
