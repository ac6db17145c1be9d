//! Access logs: buffers, reopening, places that cannot be written.

use crate::{builder, serve};
use moonrest_testkit::logs::Level;
use rustix::process::Signal;
use std::{fs, time::Duration};

#[track_caller]
fn eventually(what: &str, mut test: impl FnMut() -> bool) {
    for _ in 0..500 {
        if test() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}");
}

#[test]
fn reopened_logs_continue_in_new_files() {
    let server = serve(
        "access_log logs/plain.log short; access_log logs/buffered.log short buffer=64k;
         location / { return 200 ok; }",
    );
    let log = |name: &str| server.root().join("logs").join(name);
    let read = |name: &str| fs::read_to_string(log(name)).unwrap_or_default();
    server.get("/one").expect_status(200);
    fs::rename(log("plain.log"), log("plain.old")).expect("the log is there");
    fs::rename(log("buffered.log"), log("buffered.old")).expect("the log is there");
    server.get("/two").expect_status(200);
    server.signal(Signal::USR1);
    eventually("the logs are there again", || log("plain.log").exists() && log("buffered.log").exists());
    eventually("the buffer was written to the old file", || read("buffered.old").contains("/two"));
    server.get("/three").expect_status(200);
    assert_eq!(read("plain.old"), "200 GET /one HTTP/1.1 2\n200 GET /two HTTP/1.1 2\n");
    eventually("the new line is in the new file", || read("plain.log") == "200 GET /three HTTP/1.1 2\n");
    assert_eq!(read("buffered.log"), "");
}

#[test]
fn buffers_are_written_when_the_server_ends() {
    for signal in [Signal::QUIT, Signal::TERM] {
        let mut server =
            serve("access_log logs/buffered.log short buffer=64k; location / { return 200 ok; }");
        server.get("/last").expect_status(200);
        assert!(server.stop(signal));
        let log = fs::read_to_string(server.root().join("logs/buffered.log")).unwrap_or_default();
        assert_eq!(log, "200 GET /last HTTP/1.1 2\n", "{signal:?}");
    }
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let mut server = serve("access_log /dev/full short; location / { return 200 ok; }");
    server.allow_log("write() to \"/dev/full\" failed");
    for _ in 0..5 {
        server.get("/").expect_status(200);
    }
    let log =
        server.wait_for_log(Level::Alert, "write() to \"/dev/full\" failed (28: No space left on device)");
    let expect = "while logging request, client: 127.0.0.1, server: , request: \"GET / HTTP/1.1\", host: \"localhost\"";
    assert!(log.ends_with(expect), "{log}");
    assert_eq!(server.error_log().matches("write() to").count(), 1, "one complaint a minute");
}

#[test]
fn a_named_log_needs_a_root() {
    let server =
        serve("root html/$arg_site; access_log logs/$arg_site.log short; location / { return 200 ok; }");
    // Workers run as another user, if they can.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(server.root().join("logs"), open).expect("it is ours");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(server.root(), open).expect("it is ours");
    server.get("/?site=none").expect_status(200);
    let log = server.wait_for_log(Level::Error, "testing \"");
    assert!(log.contains("existence failed (2: No such file or directory) while logging request"), "{log}");
    assert!(!server.root().join("logs/none.log").exists());
    fs::create_dir(server.root().join("html/there")).expect("a directory");
    server.get("/?site=there").expect_status(200);
    eventually("the log is there", || server.root().join("logs/there.log").exists());
}

#[test]
fn what_is_sent_is_counted() {
    let conf = "worker_processes 1; http { log_format sizes '$request_length $bytes_sent $body_bytes_sent $pipe $connection_requests';
        access_log logs/access.log sizes;
        server { listen {{addr}}; location / { return 200 0123456789; } } }";
    let server = builder().start(conf);
    let mut client = server.connect();
    let first = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    client.send(format!("{first}GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    let one = client.response();
    let two = client.response();
    let len = |response: &moonrest_testkit::Response| response.head.len() + 2 + response.body.len();
    let expect = format!(
        "{} {} 10 . 1\n{} {} 10 p 2\n",
        // nginx: a body that nobody read is not counted
        first.len() - 3,
        len(&one),
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n".len(),
        len(&two)
    );
    eventually("both lines are there", || server.access_log().lines().count() == 2);
    assert_eq!(server.access_log(), expect);
}
