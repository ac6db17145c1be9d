//! Connections and descriptors run out.

use super::instance::Instance;
use moonrest_testkit::Client;
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

const OK: &str = "location / { return 200 ok!; }";
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn idle_connections_make_room_for_new_ones() {
    let server = Instance::start("", OK);
    server.write(&format!(
        "error_log logs/error.log info; events {{ worker_connections 10; }} http {{ access_log off; \
         server {{ listen {}; {OK} }} }}",
        server.addr()
    ));
    assert!(server.run(&["-s", "reload"]).status.success());
    server.wait_for_log("exiting");
    let mut idle = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(server.addr()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(REQUEST.as_bytes()).unwrap();
        let mut answer = [0; 500];
        let len = stream.read(&mut answer).unwrap();
        assert!(answer[..len].starts_with(b"HTTP/1.1 200"));
        idle.push(stream);
    }
    server.wait_for_log("[warn]");
    assert!(server.error_log().contains("10 worker_connections are not enough, reusing connections"));
    let is_closed = |stream: &mut TcpStream| {
        stream.set_nonblocking(true).unwrap();
        matches!(stream.read(&mut [0; 10]), Ok(0))
    };
    let closed = idle.iter_mut().filter_map(|stream| is_closed(stream).then_some(())).count();
    assert!(closed >= 30, "{closed}");
}

#[test]
fn busy_connections_make_new_ones_wait() {
    let server = Instance::start("", OK);
    server.write(&format!(
        "error_log logs/error.log info; events {{ worker_connections 5; }} http {{ access_log off; \
         server {{ listen {}; {OK} }} }}",
        server.addr()
    ));
    assert!(server.run(&["-s", "reload"]).status.success());
    server.wait_for_log("exiting");
    let mut busy: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    for client in &mut busy {
        client.send("GET / HTTP/1.1\r\n");
    }
    server.wait_until("no room", || {
        let mut client = server.connect();
        client.send(REQUEST);
        std::thread::sleep(Duration::from_millis(300));
        server.error_log().contains("[alert]")
    });
    assert!(server.error_log().contains("5 worker_connections are not enough\n"));
    let mut waiting = server.connect();
    waiting.send(REQUEST);
    drop(busy);
    waiting.response().expect_body("ok!");
}

#[test]
fn descriptors_that_run_out_come_back() {
    let server = Instance::start("worker_rlimit_nofile 60;", OK);
    let mut many: Vec<Client> = (0..60).map(|_| server.connect()).collect();
    for client in &mut many {
        client.send("GET / HTTP/1.1\r\n");
    }
    server.wait_for_log("accept4() failed (24: Too many open files)");
    let mut waiting = server.connect();
    waiting.send(REQUEST);
    drop(many);
    waiting.response().expect_body("ok!");
}
