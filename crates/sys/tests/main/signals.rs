//! Signals of this process and its children.
use std::os::fd::AsFd as _;
use std::process::Command;
use std::time::Duration;

use moonrest_sys::poll::{self, Interest};
use moonrest_sys::process::{self, ExitStatus, fork_child};
use moonrest_sys::signals::{HANDLED, Received, Signals};

fn next(signals: &Signals) -> Option<Received> {
    poll::wait(&[(signals.as_fd(), Interest::Read)], Some(Duration::from_secs(10))).unwrap();
    signals.next().unwrap()
}

pub(crate) fn senders_are_known() {
    let signals = Signals::new().unwrap();
    assert_eq!(Signals::new().unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(signals.next().unwrap(), None);
    let me = process::pid();
    for known in HANDLED {
        process::kill(me, known.number).unwrap();
        assert_eq!(next(&signals), Some(Received { number: known.number, from: Some(me) }));
    }
    let child = fork_child(|| process::kill(me, libc::SIGHUP).map_or(1, |()| 0)).unwrap();
    let hup = next(&signals).unwrap();
    assert_eq!(hup.to_string(), format!("signal 1 (SIGHUP) received from {child}"));
    // Ignored, not deadly.
    process::kill(me, libc::SIGPIPE).unwrap();
    process::kill(me, libc::SIGSYS).unwrap();
    assert_eq!(next(&signals).map(|received| received.number), Some(libc::SIGCHLD));
    assert_eq!(signals.next().unwrap(), None);
    drop(signals);
    Signals::new().unwrap();
}

pub(crate) fn a_flood_loses_no_kind() {
    let signals = Signals::new().unwrap();
    let me = process::pid();
    for _ in 0..20_000 {
        process::kill(me, libc::SIGUSR1).unwrap();
    }
    process::kill(me, libc::SIGQUIT).unwrap();
    let mut seen = Vec::new();
    while let Some(received) = signals.next().unwrap() {
        seen.push(received.number);
    }
    assert!(seen.len() > 1000, "{} fit the pipe", seen.len());
    assert!(seen.contains(&libc::SIGQUIT), "the last did not, and was kept");
}

pub(crate) fn children_have_their_own() {
    let signals = Signals::new().unwrap();
    let (reader, writer) = crate::fork::pipe();
    let child = fork_child(|| {
        // Before there is a receiver: kept for it.
        process::kill(process::pid(), libc::SIGTERM).unwrap();
        let own = Signals::new().unwrap();
        assert_eq!(next(&own), Some(Received { number: libc::SIGTERM, from: None }));
        moonrest_sys::log_write::write_line(&writer, b"x").unwrap();
        assert_eq!(next(&own).unwrap().number, libc::SIGUSR2);
        drop(writer);
        0
    });
    let child = child.unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(&mut &reader, &mut byte).unwrap();
    process::kill(child, libc::SIGUSR2).unwrap();
    assert_eq!(process::wait(child).unwrap(), ExitStatus::Code(0));
    assert_eq!(next(&signals).unwrap().number, libc::SIGCHLD, "nothing of the child's arrived here");
    assert_eq!(signals.next().unwrap(), None);
}

pub(crate) fn ended_children_are_announced() {
    let signals = Signals::new().unwrap();
    let child = fork_child(|| 4).unwrap();
    assert_eq!(next(&signals), Some(Received { number: libc::SIGCHLD, from: Some(child) }));
    let exited = process::reap_any().unwrap().unwrap();
    assert_eq!((exited.pid, exited.status), (child, ExitStatus::Code(4)));
}

pub(crate) fn programs_start_with_nothing_blocked() {
    let _signals = Signals::new().unwrap();
    let output = Command::new("/bin/cat").arg("/proc/self/status").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("SigBlk:\t0000000000000000"), "{text}");
    assert!(text.contains("SigCgt:\t0000000000000000"), "{text}");
}
