//! Master and serving process: rights, titles, crashes, endings.

use super::instance::{self, Instance, children, open_files, status, title};
use moonrest_testkit::process;
use rustix::process::Signal;
use std::{fs, net::TcpStream, time::Duration};

const OK: &str = "location / { return 200 ok!; }";

#[test]
fn a_killed_serving_process_is_replaced() {
    let server = Instance::start("worker_processes 2;", OK);
    let first = server.worker();
    process::signal(first, Signal::KILL);
    server.wait_for_log(&format!("[alert] {0}#{0}: worker process {first} exited on signal 9", server.pid()));
    // The connection waits in the socket, which the master holds.
    assert_eq!(server.get("/").text(), "ok!");
    let second = server.worker();
    assert_ne!(first, second);
    process::signal(second, Signal::KILL);
    assert_eq!(server.get("/").text(), "ok!", "the second time after a second");
}

#[test]
fn what_was_served_comes_back_even_if_the_file_is_broken_meanwhile() {
    let server = Instance::start("", OK);
    server.serve("nonsense;");
    let first = server.worker();
    process::signal(first, Signal::KILL);
    server.wait_for_log("exited on signal 9");
    assert_eq!(server.get("/").text(), "ok!");
}

#[test]
fn titles_are_nginx_s() {
    let server = Instance::start("", OK);
    assert!(title(server.pid()).starts_with("nginx: master process "), "{}", title(server.pid()));
    let worker = server.worker();
    assert_eq!(title(worker), "nginx: worker process");
    let mut slow = server.connect();
    slow.send("GET / HTTP/1.1\r\n").wait_until_read();
    server.signal(Signal::QUIT);
    server.wait_until("the title", || title(worker) == "nginx: worker process is shutting down");
    drop(slow);
    server.wait_for_log("worker process");
}

#[test]
fn the_serving_process_has_no_more_rights_than_its_user() {
    if !instance::is_root() {
        return;
    }
    let server = Instance::start("worker_rlimit_nofile 777; env HELLO=world; env HOME;", OK);
    let worker = server.worker();
    let uid = status(worker, "Uid");
    assert!(uid.split_whitespace().all(|id| id != "0"), "{uid}");
    assert!(status(worker, "Gid").split_whitespace().all(|id| id != "0"));
    assert_eq!(status(worker, "NoNewPrivs"), "1");
    assert_eq!(status(worker, "CapEff"), "0000000000000000");
    let limits = fs::read_to_string(format!("/proc/{worker}/limits")).unwrap();
    let limit = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(limit.split_whitespace().nth(3), Some("777"));
    assert!(status(server.pid(), "Uid").starts_with('0'));
}

#[test]
fn the_serving_process_keeps_no_more_descriptors_with_each_reload() {
    let server = Instance::start("worker_processes 2;", OK);
    let reload = |n: usize| {
        server.serve(&format!("location / {{ return 200 v{n}!; }}"));
        server.signal(Signal::HUP);
        server.wait_for_body(&format!("v{n}!"));
        server.wait_until("the old one's end", || server.error_log().matches("exiting").count() > n);
    };
    reload(0);
    let count = || (open_files(server.pid()).len(), open_files(server.worker()).len());
    server.wait_until("quiet", || {
        let before = count();
        std::thread::sleep(Duration::from_millis(100));
        count() == before
    });
    let before = count();
    for n in 1..5 {
        reload(n);
    }
    server.wait_until("the same number", || count() == before);
}

#[test]
fn a_start_that_fails_says_so() {
    let server = Instance::new("", "nonsense;");
    let output = server.run(&[]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.starts_with("nginx: [emerg] unknown directive \"nonsense\" in "), "{stderr}");
    assert!(server.error_log().contains("[emerg] "), "{}", server.error_log());
    assert!(!instance::exists(&server.path("logs/nginx.pid")));
}

#[test]
fn a_second_server_on_the_port_does_not_start() {
    for conf in ["worker_processes 1;", "worker_processes 3;"] {
        let server = Instance::start(conf, OK);
        let output = server.run(&["-g", "pid logs/other.pid;"]);
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = format!("nginx: [emerg] bind() to {} failed (98: Address already in use)", server.addr());
        assert_eq!(stderr.matches(&line).count(), 5, "{stderr}");
        assert!(stderr.ends_with("nginx: [emerg] still could not bind()\n"), "{stderr}");
    }
}

#[test]
fn quit_waits_for_connections_and_takes_no_new_ones() {
    let server = Instance::start("", OK);
    let pid = server.pid();
    let mut slow = server.connect();
    slow.send("GET / HTTP/1.1\r\nHost: local").wait_until_read();
    server.signal(Signal::QUIT);
    server.wait_until("refusal", || TcpStream::connect(server.addr()).is_err());
    assert!(process::is_running(pid));
    slow.send("host\r\n\r\n").response().expect_body("ok!");
    assert!(process::wait_until_gone(pid, instance::PATIENCE));
    let log = server.error_log();
    for line in ["gracefully shutting down", "exiting", "exited with code 0", "exit\n"] {
        assert!(log.contains(line), "{line}: {log}");
    }
}

#[test]
fn term_ends_everything_at_once() {
    for conf in ["", "master_process off;"] {
        let server = Instance::start(conf, OK);
        let pid = server.pid();
        let workers = children(pid);
        let mut slow = server.connect();
        slow.send("GET / HTTP/1.1\r\n").wait_until_read();
        server.signal(Signal::TERM);
        assert!(process::wait_until_gone(pid, instance::PATIENCE));
        assert!(workers.iter().all(|pid| !process::is_running(*pid)));
        assert!(!instance::exists(&server.path("logs/nginx.pid")));
        slow.expect_closed();
    }
}

#[test]
fn the_serving_process_outlives_a_killed_master() {
    let server = Instance::start("", OK);
    let worker = server.worker();
    let master = server.pid();
    process::signal(master, Signal::KILL);
    server.wait_for_log("the master process has gone");
    assert_eq!(server.get("/").text(), "ok!");
    process::signal(worker, Signal::QUIT);
    assert!(process::wait_until_gone(worker, instance::PATIENCE));
    fs::remove_file(server.path("logs/nginx.pid")).unwrap();
}
