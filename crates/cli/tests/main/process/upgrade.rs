//! USR2, WINCH, HUP, QUIT: a new program takes over from the old one, or gives back.

use super::{
    instance::{self, Instance, children},
    load::Load,
};
use moonrest_testkit::process;
use rustix::process::Signal;
use std::path::PathBuf;

const OK: &str = "location / { return 200 ok!; }";

fn upgraded(server: &Instance) -> (i32, i32, PathBuf) {
    let old = server.pid();
    let oldbin = server.path("logs/nginx.pid.oldbin");
    server.signal(Signal::USR2);
    server.wait_until("a new master", || {
        process::read_pid_file(&server.path("logs/nginx.pid")).is_some_and(|pid| pid != old)
    });
    assert_eq!(process::read_pid_file(&oldbin), Some(old));
    (old, server.pid(), oldbin)
}

#[test]
fn a_new_program_takes_over_under_load() {
    let server = Instance::start("worker_processes 2;", OK);
    let load = Load::start(server.addr());
    load.wait_for(50);
    let (old, new, oldbin) = upgraded(&server);
    server.wait_until("a new worker", || !children(new).is_empty());
    load.wait_for(50);
    process::signal(old, Signal::WINCH);
    server.wait_for_log("stop accepting connections");
    load.wait_for(50);
    process::signal(old, Signal::QUIT);
    assert!(process::wait_until_gone(old, instance::PATIENCE));
    load.wait_for(50);
    assert_eq!(load.finish(), Vec::<String>::new());
    assert!(!instance::exists(&oldbin));
    assert_eq!(server.pid(), new);
}

#[test]
fn the_old_program_takes_back_what_it_gave() {
    let server = Instance::start("", OK);
    let load = Load::start(server.addr());
    let (old, new, oldbin) = upgraded(&server);
    server.wait_until("a new worker", || !children(new).is_empty());
    process::signal(old, Signal::WINCH);
    server.wait_until("the old worker's end", || children(old) == [new]);
    load.wait_for(50);
    process::signal(old, Signal::HUP);
    server.wait_until("workers again", || children(old).len() == 2);
    load.wait_for(50);
    process::signal(new, Signal::QUIT);
    server.wait_until("the pid file back", || !instance::exists(&oldbin));
    assert_eq!(server.pid(), old);
    load.wait_for(50);
    assert_eq!(load.finish(), Vec::<String>::new());
}

#[test]
fn workers_come_back_when_the_new_program_dies_after_winch() {
    let server = Instance::start("", OK);
    let (old, new, oldbin) = upgraded(&server);
    server.wait_until("a new worker", || !children(new).is_empty());
    process::signal(old, Signal::WINCH);
    server.wait_until("the old worker's end", || children(old) == [new]);
    let orphans = children(new);
    process::signal(new, Signal::KILL);
    server.wait_until("the pid file back", || !instance::exists(&oldbin));
    server.wait_until("workers again", || children(old).len() == 1);
    for orphan in orphans {
        process::stop(orphan, Signal::TERM);
    }
    assert_eq!(server.get("/").text(), "ok!");
}

#[test]
fn the_upgrade_is_refused_while_one_is_going_on() {
    let server = Instance::start("", OK);
    let (old, new, _) = upgraded(&server);
    server.wait_until("a new worker", || !children(new).is_empty());
    process::signal(old, Signal::USR2);
    server.wait_for_log("the changing binary signal is ignored");
    process::stop(old, Signal::QUIT);
    assert_eq!(server.get("/").text(), "ok!");
}
