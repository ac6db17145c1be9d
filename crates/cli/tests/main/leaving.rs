//! Clients that leave at every moment of a request: afterwards all counts and descriptors are back where they were.

use crate::builder;
use moonrest_testkit::Server;
use std::{
    fs,
    time::{Duration, Instant},
};

/// Wherever a request can wait, it does so here: for its body, a subrequest, a delay, a thread, a slow client.
fn server() -> Server {
    let page = "text <!--#include virtual=\"/slow?ssi\" --> text <!--#include virtual=\"/medium.bin\" wait=\"yes\" -->\
        <!--#set var=\"a\" value=\"b\" --><!--#include virtual=\"/slow?set\" set=\"c\" --><!--#echo var=\"c\" --> end";
    let conf = "worker_processes 1;
        thread_pool default threads=4;
        http {
            limit_req_zone $server_name zone=slow:1m rate=50r/s;
            limit_req_zone $server_name zone=mirrored:1m rate=500r/s;
            limit_conn_zone $server_name zone=held:1m;
            client_max_body_size 0; client_body_buffer_size 1k;
            server {
                listen {{addr}};
                server_name all;
                root html;
                limit_conn held 10000;
                location = /count { limit_conn held 1; return 200 alone; }
                location = /status { stub_status; }
                location = /slow { limit_req zone=slow burst=100000; empty_gif; }
                location = /copy { limit_req zone=mirrored burst=100000; empty_gif; }
                location = /auth { auth_request /slow; empty_gif; }
                location = /mirrored { mirror /copy; empty_gif; }
                location = /added { types { text/html txt; } add_before_body /slow; add_after_body /large.bin; try_files /small.txt =404; }
                location = /page.html { ssi on; }
                location = /packed.html { ssi on; gzip on; gzip_min_length 0; try_files /page.html =404; }
                location = /large.bin { }
                location = /medium.bin { }
                location = /threads.bin { aio threads; try_files /large.bin =404; }
                location = /filtered.bin { types { text/html bin; } aio threads; sub_filter abc def; sub_filter_once off; try_files /large.bin =404; }
                location = /paced.bin { limit_rate 20k; try_files /large.bin =404; }
                location = /delayed { auth_delay 200ms; auth_basic x; auth_basic_user_file none; }
                location /put/ { dav_methods PUT; create_full_put_path on; }
                location /list/ { autoindex on; }
            }
        }";
    let server = builder()
        .file("html/page.html", page)
        .file("html/small.txt", "small")
        .file("html/list/a", "a")
        .file("html/medium.bin", vec![b'a'; 200 << 10])
        .file("html/large.bin", vec![b'a'; 3 << 20])
        .start(conf);
    for dir in ["", "html", "temp"] {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(server.root().join(dir), open).expect("it is ours");
    }
    server
}

const PATHS: [&str; 13] = [
    "/slow",
    "/auth",
    "/mirrored",
    "/added",
    "/page.html",
    "/packed.html",
    "/large.bin",
    "/threads.bin",
    "/filtered.bin",
    "/paced.bin",
    "/delayed",
    "/list/",
    "/status",
];

/// Everything that a client might have sent when it leaves.
fn requests() -> Vec<String> {
    let mut all = vec![String::new(), "GET / HT".to_owned(), "GET / HTTP/1.1\r\nHost: a\r\nX: ".to_owned()];
    for path in PATHS {
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n");
        all.push(format!("{head}\r\n"));
        all.push(format!("{head}\r\n{head}\r\n{head}"));
        all.push(format!("{head}Content-Length: 5000\r\n\r\nabc"));
        all.push(format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nabc"));
    }
    for body in ["", "abc", &"x".repeat(4000)] {
        let head = "PUT /put/x HTTP/1.1\r\nHost: a\r\n";
        all.push(format!("{head}Content-Length: 5000\r\n\r\n{body}"));
        all.push(format!("{head}Content-Length: 5000\r\nExpect: 100-continue\r\n\r\n{body}"));
        all.push(format!("{head}Transfer-Encoding: chunked\r\n\r\nffff\r\n{body}"));
    }
    all
}

/// What the server's processes have open.
fn descriptors(pid: i32) -> Vec<String> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    let entries = [pid].into_iter().chain(children).flat_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")));
    let names = entries.flatten().flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

/// `Active`, `Reading`, `Writing` and `Waiting`, this request's own share included.
fn counts(server: &Server) -> [u32; 4] {
    let text = server.get("/status").expect_status(200).text();
    let after = |label: &str| {
        let (_, rest) = text.split_once(label).expect("the status has all labels");
        rest.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
    };
    [after("Active connections:"), after("Reading:"), after("Writing:"), after("Waiting:")]
}

#[test]
fn nothing_is_left_of_clients_that_leave() {
    let server = server();
    // Whatever is opened once is open now.
    for path in PATHS {
        let mut client = server.connect();
        client.send(format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nRange: bytes=0-99\r\nConnection: close\r\n\r\n"
        ));
        client.response();
    }
    server.get("/count").expect_status(200);
    let before = descriptors(server.pid());
    let started = Instant::now();
    let requests = requests();
    let mut rounds = 0;
    while started.elapsed() < Duration::from_secs(3) && rounds < 12 {
        let mut open = Vec::new();
        for request in &requests {
            let mut client = server.connect();
            client.send(request);
            open.push(client);
        }
        std::thread::sleep(Duration::from_millis([0, 1, 5, 20, 80][rounds % 5]));
        for (n, mut client) in open.into_iter().enumerate() {
            match (n + rounds) % 3 {
                0 => client.close(),
                1 => client.reset(),
                _ => drop(client.half_close()),
            }
        }
        rounds += 1;
    }
    assert!(rounds >= 5, "{rounds}");
    let settled = |look: &dyn Fn() -> bool| {
        let end = Instant::now() + Duration::from_secs(60);
        while !look() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    settled(&|| counts(&server) == [1, 0, 1, 0]);
    assert_eq!(counts(&server), [1, 0, 1, 0], "active, reading, writing, waiting");
    settled(&|| descriptors(server.pid()).len() <= before.len());
    let after = descriptors(server.pid());
    assert!(after.len() <= before.len(), "before {before:#?}, afterwards {after:#?}");
    // `limit_conn held 1` lets a connection in that is alone.
    server.get("/count").expect_status(200).expect_body("alone");
    let left = fs::read_dir(server.root().join("temp/client_body")).expect("it is there").count();
    assert_eq!(left, 0, "temporary files remain");
}
