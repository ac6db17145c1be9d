//! Leaving the terminal.
use std::fs;

use moonrest_sys::log_write::write_line;
use moonrest_sys::process::{self, ExitStatus, fork_child};

use crate::fork::{pipe, wait_for_end};

pub(crate) fn the_parent_tells_the_outcome() {
    let outcome = |after: fn(process::Daemon) -> i32| {
        let starter = fork_child(|| after(process::daemonize().unwrap())).unwrap();
        process::wait(starter).unwrap()
    };
    let ready = outcome(|daemon| {
        daemon.ready();
        std::thread::sleep(std::time::Duration::from_millis(200));
        5 // nobody sees this one
    });
    assert_eq!(ready, ExitStatus::Code(0));
    let failed = outcome(|daemon| {
        daemon.failed(3);
        0
    });
    assert_eq!(failed, ExitStatus::Code(3));
    let dropped = outcome(|daemon| {
        drop(daemon);
        0
    });
    assert_eq!(dropped, ExitStatus::Code(1));
    let died = outcome(|daemon| {
        process::kill(process::pid(), libc::SIGKILL).unwrap();
        daemon.ready();
        0
    });
    assert_eq!(died, ExitStatus::Code(1));
}

pub(crate) fn a_daemon_has_no_terminal() {
    let (reader, writer) = pipe();
    let starter = fork_child(|| {
        let before = process::pid();
        let daemon = process::daemonize().unwrap();
        let link = |fd: i32| fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
        let null = link(0).ends_with("null") && link(1).ends_with("null");
        // SAFETY: neither call involves memory.
        let (session, mask) = unsafe { (libc::getsid(0), libc::umask(0)) };
        let own_session = session == process::pid() && process::pid() != before;
        let text = format!("null {null}, session {own_session}, umask {mask}");
        daemon.ready();
        write_line(&writer, text.as_bytes()).unwrap();
        0
    });
    drop(writer);
    assert_eq!(process::wait(starter.unwrap()).unwrap(), ExitStatus::Code(0));
    assert_eq!(String::from_utf8(wait_for_end(reader)).unwrap(), "null true, session true, umask 0");
}

pub(crate) fn standard_descriptors_are_filled() {
    let (reader, writer) = pipe();
    let child = fork_child(|| {
        process::redirect_stderr(&writer).unwrap();
        write_line(std::io::stderr(), b"to the log;").unwrap();
        // SAFETY: nothing in this child uses the three any more.
        unsafe {
            for fd in 0..3 {
                libc::close(fd);
            }
        }
        process::ensure_standard_fds().unwrap();
        let next = std::os::fd::AsRawFd::as_raw_fd(&fs::File::open("/dev/null").unwrap());
        write_line(&writer, format!("{}", next > 2).as_bytes()).unwrap();
        0
    });
    drop(writer);
    assert_eq!(wait_for_end(reader), b"to the log;true");
    assert_eq!(process::wait(child.unwrap()).unwrap(), ExitStatus::Code(0));
}
