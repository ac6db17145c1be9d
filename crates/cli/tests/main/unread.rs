//! Bodies that nobody reads: what follows them is the next request, and nothing of them ever is.

use crate::{builder, responses, statuses};
use moonrest_testkit::{Response, Server};

/// A server with a handler of each kind that answers without the body.
fn server() -> Server {
    let conf = "worker_processes 1;
        http {
            client_max_body_size 0; lingering_timeout 500ms; lingering_time 2s;
            server {
                listen {{addr}};
                root html;
                location = /return { return 200 ok; }
                location = /gif { empty_gif; }
                location = /status { stub_status; }
                location = /file.txt { }
                location /list/ { autoindex on; }
                location /random/ { random_index on; }
                location /index/ { index file.txt; }
                location /packed/ { gzip_static always; }
                location /missing { }
                location /directory { }
                location /denied { deny all; }
                location /page { error_page 404 /file.txt; }
                location /named { error_page 404 @named; }
                location @named { return 200 named; }
                location /away { error_page 404 http://elsewhere/; }
                location /moved { return 301 /; }
                location /empty { return 204; }
                location /deleted { dav_methods DELETE; }
                location /next { return 200 next; }
            }
        }";
    let files: [(&str, &[u8]); 6] = [
        ("html/file.txt", b"file"),
        ("html/list/a", b"a"),
        ("html/random/a", b"a"),
        ("html/index/file.txt", b"file"),
        ("html/packed/a.gz", b"packed"),
        ("html/directory/a", b"a"),
    ];
    files.into_iter().fold(builder(), |builder, (path, content)| builder.file(path, content)).start(conf)
}

const PATHS: [&str; 19] = [
    "/return",
    "/gif",
    "/status",
    "/file.txt",
    "/list/",
    "/random/",
    "/index/",
    "/packed/a",
    "/missing",
    "/directory",
    "/denied",
    "/page",
    "/named",
    "/away",
    "/moved",
    "/empty",
    "/list/?x",
    "/missing/",
    "/next",
];

/// It looks like a request, so that it shows if it is taken for one.
const BODY: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

fn chunked(body: &str) -> String {
    let (first, second) = body.split_at(7);
    let chunk = |text: &str| format!("{:x};a=b\r\n{text}\r\n", text.len());
    format!("{}{}0\r\nA: b\r\nContent-Length: 5\r\n\r\n", chunk(first), chunk(second))
}

const NEXT: &str = "GET /next?last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[track_caller]
fn expect_next(path: &str, mut answers: Vec<Response>) {
    let last = answers.pop().unwrap_or_else(|| panic!("{path}: no answer"));
    last.expect_status(200).expect_body("next");
    assert_eq!(answers.len(), 1, "{path}: {answers:?}");
}

#[test]
fn a_body_left_over_is_no_request() {
    let server = server();
    for path in PATHS {
        let length =
            format!("GET {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len());
        let coded =
            format!("GET {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunked(BODY));
        for request in [length, coded] {
            // With the next request behind it at once, and cut in the middle of the body.
            let mut client = server.connect();
            client.send(format!("{request}{NEXT}"));
            expect_next(path, responses(&client.read_to_end()));
            let mut client = server.connect();
            let (head, rest) = request.split_at(request.len() - 20);
            client.send(head);
            let first = client.response();
            client.send(rest).send(NEXT);
            let mut all = vec![first];
            all.extend(responses(&client.read_to_end()));
            expect_next(path, all);
        }
    }
    assert!(!server.access_log().contains("smuggled"), "{}", server.access_log());
}

#[test]
fn a_client_that_waits_for_leave_is_not_left_waiting() {
    let server = server();
    for path in PATHS {
        let mut client = server.connect();
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}", BODY.len());
        client.send(format!("{head}\r\nExpect: 100-continue\r\n\r\n"));
        let mut first = client.response();
        if first.status == Some(100) {
            first = client.response();
        }
        // With or without leave the body may follow the answer: its length was promised.
        client.send(BODY).send(NEXT);
        let mut all = vec![first];
        all.extend(responses(&client.read_to_end()));
        expect_next(path, all);
    }
}

#[test]
fn delete_takes_no_body() {
    let server = server();
    let mut client = server.connect();
    client.send(format!(
        "DELETE /deleted HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{BODY}{NEXT}",
        BODY.len()
    ));
    assert_eq!(statuses(&responses(&client.read_to_end())), [415, 200]);
}

#[test]
fn a_body_of_any_announced_length_costs_nothing() {
    let server = server();
    for path in PATHS {
        for length in ["9223372036854775807", "18446744073709551615", "18446744073709551616"] {
            let mut client = server.connect();
            client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{BODY}"));
            client.half_close();
            let answers = responses(&client.read_to_end());
            assert_eq!(answers.len(), 1, "{path} {length}: {answers:?}");
        }
    }
}

#[test]
fn a_body_that_breaks_behind_the_answer_ends_the_connection() {
    let server = server();
    for path in PATHS {
        for broken in ["x\r\n", "5\r\nabcdeX\r\n", "ffffffffffffffffff\r\n", "0\r\nA B\r\n\r\n"] {
            let mut client = server.connect();
            client.send(format!(
                "GET {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
            ));
            let first = client.response();
            assert!(first.status.is_some(), "{path}");
            client.send(broken).send(NEXT);
            client.expect_closed();
            // The same in one piece.
            let mut client = server.connect();
            client.send(format!(
                "GET {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{broken}{NEXT}"
            ));
            let answers = responses(&client.read_to_end());
            assert_eq!(answers.len(), 1, "{path} {broken:?}: {answers:?}");
        }
    }
    assert!(!server.access_log().contains("last"), "{}", server.access_log());
}
