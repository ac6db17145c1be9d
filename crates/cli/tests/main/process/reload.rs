//! HUP: a new generation beside the old one.

use super::{
    instance::{self, Instance},
    load::Load,
};
use moonrest_testkit::Port;
use rustix::process::Signal;
use std::{fs, net::TcpStream};

const ONE: &str = "location / { return 200 one!; }";
const TWO: &str = "location / { return 200 two!; }";

#[test]
fn nothing_is_lost_under_load() {
    let server = Instance::start("worker_processes 2;", ONE);
    let worker = server.worker();
    let load = Load::start(server.addr());
    for n in 0..8 {
        load.wait_for(50);
        let (body, conf) = if n % 2 == 0 { ("two!", TWO) } else { ("one!", ONE) };
        server.serve(conf);
        server.signal(Signal::HUP);
        server.wait_for_body(body);
    }
    assert_eq!(load.finish(), Vec::<String>::new());
    assert_eq!(server.worker(), worker, "zones and pools live in the process, which stays");
}

#[test]
fn the_number_of_workers_may_change_under_load() {
    for listen in ["", " reuseport"] {
        let server = Instance::start("worker_processes 1;", ONE);
        let conf = |workers: usize, body: &str| {
            let addr = server.addr();
            format!(
                "worker_processes {workers}; error_log logs/error.log info; events {{ }} http {{ access_log off; \
                 server {{ listen {addr}{listen}; location / {{ return 200 {body}; }} }} }}"
            )
        };
        server.write(&conf(1, "first!"));
        server.signal(Signal::HUP);
        server.wait_for_body("first!");
        let load = Load::start(server.addr());
        for (workers, body) in [(3, "a!"), (1, "b!"), (4, "c!"), (2, "d!")] {
            load.wait_for(30);
            server.write(&conf(workers, body));
            server.signal(Signal::HUP);
            server.wait_for_body(body);
            load.wait_for(30);
        }
        assert_eq!(load.finish(), Vec::<String>::new(), "{listen}");
    }
}

#[test]
fn a_bad_file_changes_nothing() {
    let server = Instance::start("worker_processes 1;", ONE);
    let (master, worker) = (server.pid(), server.worker());
    for (n, bad) in ["nonsense;", "location / { return; }", "location / {"].into_iter().enumerate() {
        server.serve(bad);
        server.signal(Signal::HUP);
        server.wait_until("an error", || server.error_log().matches("[emerg]").count() > n);
        assert_eq!(server.get("/").text(), "one!");
    }
    assert!(server.error_log().contains("unknown directive \"nonsense\" in "), "{}", server.error_log());
    fs::remove_file(server.path("conf/nginx.conf")).unwrap();
    server.signal(Signal::HUP);
    server.wait_for_log("failed (2: No such file or directory)");
    assert_eq!((server.pid(), server.worker()), (master, worker));
    server.serve(TWO);
    server.signal(Signal::HUP);
    server.wait_for_body("two!");
}

#[test]
fn a_port_in_use_changes_nothing() {
    let server = Instance::start("", ONE);
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = stranger.local_addr().unwrap();
    server.serve(&format!("listen {addr}; {TWO}"));
    server.signal(Signal::HUP);
    server.wait_for_log("still could not bind()");
    let line = format!("bind() to {addr} failed (98: Address already in use)");
    assert_eq!(server.error_log().matches(&line).count(), 5);
    assert_eq!(server.get("/").text(), "one!");
}

#[test]
fn idle_connections_close_at_once_and_requests_in_flight_finish() {
    let server = Instance::start("", ONE);
    let mut idle = server.connect();
    idle.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").response().expect_body("one!");
    let mut busy = server.connect();
    busy.send("GET / HTTP/1.1\r\nHost: local").wait_until_read();
    server.serve(TWO);
    server.signal(Signal::HUP);
    idle.expect_closed();
    server.wait_for_body("two!");
    busy.send("host\r\n\r\n");
    busy.response().expect_status(200).expect_header("Connection", "close").expect_body("one!");
    server.wait_for_log("exiting");
}

#[test]
fn patience_with_old_connections_ends() {
    let server = Instance::start("worker_shutdown_timeout 500ms;", ONE);
    let mut slow = server.connect();
    slow.send("GET / HTTP/1.1\r\n").wait_until_read();
    server.signal(Signal::HUP);
    slow.expect_closed();
    server.wait_for_log("exiting");
}

#[test]
fn a_listener_that_is_gone_is_closed_at_once() {
    let server = Instance::start("worker_processes 2;", ONE);
    let socket = server.path("logs/socket");
    let port = Port::reserve().unwrap();
    server.serve(&format!("listen unix:{}; listen {}; {ONE}", socket.display(), port.addr()));
    server.signal(Signal::HUP);
    server.wait_until("the sockets", || TcpStream::connect(port.addr()).is_ok() && instance::exists(&socket));
    // Held by a generation that drains.
    let mut slow = server.connect();
    slow.send("GET / HTTP/1.1\r\n").wait_until_read();
    server.serve(TWO);
    server.signal(Signal::HUP);
    server.wait_for_body("two!");
    server.wait_until("the end of both", || {
        TcpStream::connect(port.addr()).is_err() && !instance::exists(&socket)
    });
    slow.send("Host: localhost\r\n\r\n").response().expect_body("one!");
}

#[test]
fn several_signals_make_the_last_configuration_the_running_one() {
    let server = Instance::start("", ONE);
    for n in 0..10 {
        server.serve(&format!("location / {{ return 200 v{n}!; }}"));
        server.signal(Signal::HUP);
    }
    server.wait_for_body("v9!");
}

#[test]
fn one_process_reloads_as_well() {
    let server = Instance::start("master_process off; worker_processes 2;", ONE);
    let pid = server.pid();
    let load = Load::start(server.addr());
    load.wait_for(50);
    server.serve(TWO);
    server.signal(Signal::HUP);
    server.wait_for_body("two!");
    load.wait_for(50);
    server.serve("nonsense;");
    server.signal(Signal::HUP);
    server.wait_for_log("unknown directive");
    load.wait_for(50);
    assert_eq!(load.finish(), Vec::<String>::new());
    assert_eq!(server.pid(), pid);
    server.signal(Signal::QUIT);
    server.wait_until("the end", || TcpStream::connect(server.addr()).is_err());
    server.wait_until("the pid file's end", || !instance::exists(&server.path("logs/nginx.pid")));
}

#[test]
fn what_belongs_to_the_process_needs_a_new_one() {
    let server = Instance::start("worker_processes 2;", ONE);
    let old = server.worker();
    let load = Load::start(server.addr());
    load.wait_for(50);
    server.configure("worker_processes 2; env NEW=1;", TWO);
    server.signal(Signal::HUP);
    server.wait_for_body("two!");
    server.wait_until("the old process' end", || instance::children(server.pid()).len() == 1);
    assert_ne!(server.worker(), old);
    load.wait_for(50);
    assert_eq!(load.finish(), Vec::<String>::new());
}

#[test]
fn a_test_of_the_configuration_leaves_the_server_alone() {
    let server = Instance::start("worker_processes 2;", ONE);
    let socket = server.path("logs/socket");
    server.serve(&format!("listen unix:{}; {ONE}", socket.display()));
    server.signal(Signal::HUP);
    server.wait_until("the socket", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    let pid = server.pid();
    let output = server.run(&["-t"]);
    assert!(output.status.success(), "{output:?}");
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
    assert_eq!((server.pid(), server.get("/").text().as_str()), (pid, "one!"));
}
