//! Files on the wire: a large tree with ranges and conditions, files that change or vanish while they are sent.

use crate::serve_files;
use moonrest_testkit::{Client, Response, Server};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
};

/// Names and contents of a tree, made from their number alone.
struct Tree(usize);

impl Tree {
    fn path(n: usize) -> String {
        format!("d{}/e{}/f{n}.txt", n % 100, n / 100 % 10)
    }

    /// Lengths from nothing to beyond what leaves in one piece with its head.
    fn content(n: usize) -> Vec<u8> {
        let len = match n % 97 {
            0 => 0,
            1 => 100_000,
            other => other * 7,
        };
        (0..len).map(|at| b'a' + ((at + n) % 26) as u8).collect()
    }

    fn write(&self, root: &Path) {
        for n in 0..self.0 {
            let path = root.join(Self::path(n));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, Self::content(n)).unwrap();
        }
    }
}

fn ask(client: &mut Client, path: &str, fields: &str) -> Response {
    client.send(format!("GET /{path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    client.response()
}

/// Asks for every file: whole, in part, on condition.
fn walk(server: &Server, prefix: &str, tree: &Tree) {
    let mut client = server.connect();
    for n in 0..tree.0 {
        // A connection ends after a thousand requests.
        if n % 200 == 199 {
            client = server.connect();
        }
        let path = format!("{prefix}{}", Tree::path(n));
        let content = Tree::content(n);
        let whole = ask(&mut client, &path, "");
        whole.expect_status(200).expect_header("Accept-Ranges", "bytes").expect_body(&content);
        let etag = whole.header("ETag").unwrap();
        let date = whole.header("Last-Modified").unwrap();

        let same = match n % 3 {
            0 => format!("If-None-Match: {etag}\r\n"),
            1 => format!("If-Modified-Since: {date}\r\n"),
            _ => format!("If-None-Match: \"other\", W/{etag}\r\nIf-Modified-Since: {date}\r\n"),
        };
        ask(&mut client, &path, &same).expect_status(304).expect_no_header("Content-Length").expect_body("");
        ask(&mut client, &path, "If-Match: \"other\"\r\n").expect_status(412);

        let (start, end) = (content.len() / 3, content.len() / 2);
        let part = ask(&mut client, &path, &format!("Range: bytes={start}-{end}\r\nIf-Range: {etag}\r\n"));
        if content.is_empty() {
            part.expect_status(200).expect_body("");
            continue;
        }
        part.expect_status(206)
            .expect_header("Content-Range", &format!("bytes {start}-{end}/{}", content.len()))
            .expect_body(&content[start..=end]);
    }
}

#[test]
fn ten_thousand_files_whole_in_part_and_on_condition() {
    let server = serve_files(
        "root {{root}}/tree; sendfile on;
         location /cached/ { alias {{root}}/tree/; open_file_cache max=500 inactive=10s; }
         location /threads/ { alias {{root}}/tree/; aio threads; sendfile off; }",
        &[],
    );
    let tree = Tree(10_000);
    tree.write(&server.root().join("tree"));
    walk(&server, "", &tree);
    walk(&server, "cached/", &Tree(1000));
    walk(&server, "threads/", &Tree(1000));
}

#[test]
fn several_ranges_of_a_large_file_come_in_their_order() {
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n / 7 % 251) as u8).collect();
    let server = serve_files(
        "root {{root}}/html;
         location /sendfile/ { alias {{root}}/html/; sendfile on; }
         location /threads/ { alias {{root}}/html/; aio threads; }
         location /direct/ { alias {{root}}/html/; directio 512; }
         location /cached/ { alias {{root}}/html/; open_file_cache max=2; sendfile on; }",
        &[],
    );
    fs::create_dir_all(server.root().join("html")).unwrap();
    fs::write(server.root().join("html/big"), &content).unwrap();
    for prefix in ["", "sendfile/", "threads/", "direct/", "cached/"] {
        let path = format!("{prefix}big");
        let mut client = server.connect();
        ask(&mut client, &path, "").expect_status(200).expect_body(&content);
        let parts = ask(&mut client, &path, "Range: bytes=2999990-,5-9,100000-1299999\r\n");
        let kind = parts.expect_status(206).header("Content-Type").unwrap();
        let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap().to_owned();
        let mut expect = Vec::new();
        for (start, end) in [(2_999_990, 3_000_000), (5, 10), (100_000, 1_300_000)] {
            write!(
                expect,
                "\r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {start}-{}/3000000\r\n\r\n",
                end - 1
            )
            .unwrap();
            expect.extend_from_slice(&content[start..end]);
        }
        write!(expect, "\r\n--{boundary}--\r\n").unwrap();
        assert!(parts.body == expect, "{prefix}");
    }
}

#[test]
fn a_file_that_becomes_shorter_ends_the_connection() {
    let server = serve_files("root {{root}}/html; sendfile on;", &[]);
    let path = server.root().join("html/shrinking");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, vec![b'x'; 50_000_000]).unwrap();
    let mut client = TcpStream::connect(server.addr()).unwrap();
    client.write_all(b"GET /shrinking HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut got = vec![0; 1000];
    client.read_exact(&mut got).unwrap();
    // What the sockets do not hold yet is gone now.
    fs::File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
    let _ = client.read_to_end(&mut got);
    assert!(got.len() < 50_000_000, "the connection ends early, and so does what was announced");
    server.get("/shrinking").expect_status(200).expect_body("xxxxxxxxxx");
}
