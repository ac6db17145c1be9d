//! Forking and reaping.
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use moonrest_sys::fdpass::Channel;
use moonrest_sys::process::{self, ExitStatus};
use moonrest_sys::{limits, poll};

/// Ends once every copy of the other end of the pipe is closed.
pub(crate) fn wait_for_end(mut reader: File) -> Vec<u8> {
    let mut text = Vec::new();
    reader.read_to_end(&mut text).unwrap();
    text
}

pub(crate) fn pipe() -> (File, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    (File::from(OwnedFd::from(reader)), writer.into())
}

pub(crate) fn a_childs_number_is_its_exit_code() {
    let me = process::pid();
    let child = process::fork_child(|| if process::parent_pid() == me { 7 } else { 1 }).unwrap();
    assert_ne!(child, me);
    assert_eq!(process::wait(child).unwrap(), ExitStatus::Code(7));
}

pub(crate) fn a_panic_ends_the_child_as_fatal() {
    std::panic::set_hook(Box::new(|_| {}));
    let child = process::fork_child(|| panic!("on purpose")).unwrap();
    assert!(process::wait(child).unwrap().is_fatal());
}

pub(crate) fn ended_children_are_taken_one_by_one() {
    assert_eq!(process::reap_any().unwrap(), None, "no children at all");
    let mut children: Vec<i32> = (0..5).map(|code| process::fork_child(|| code).unwrap()).collect();
    let sleeper = process::fork_child(|| {
        std::thread::sleep(Duration::from_secs(60));
        0
    });
    let sleeper = sleeper.unwrap();
    while !children.is_empty() {
        let Some(exited) = process::reap_any().unwrap() else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        assert!(matches!(exited.status, ExitStatus::Code(0..=4)));
        children.retain(|&pid| pid != exited.pid);
    }
    assert_eq!(process::reap_any().unwrap(), None, "one is alive");
    process::kill(sleeper, libc::SIGKILL).unwrap();
    assert_eq!(process::wait(sleeper).unwrap().to_string(), "exited on signal 9");
}

pub(crate) fn a_child_dies_with_its_parent() {
    let (reader, writer) = pipe();
    let parent = process::fork_child(|| {
        let me = process::pid();
        let child = process::fork_child(|| {
            limits::set_parent_death_signal(Some(libc::SIGKILL)).unwrap();
            assert!(limits::parent_is(me));
            rustix_write(&writer, b"armed");
            std::thread::sleep(Duration::from_secs(60));
            0
        });
        child.unwrap();
        std::thread::sleep(Duration::from_secs(60));
        0
    });
    let parent = parent.unwrap();
    drop(writer);
    let mut armed = [0; 5];
    (&reader).read_exact(&mut armed).unwrap();
    process::kill(parent, libc::SIGKILL).unwrap();
    process::wait(parent).unwrap();
    assert!(wait_for_end(reader).is_empty(), "the grandchild is gone as well");
}

fn rustix_write(fd: &OwnedFd, text: &[u8]) {
    moonrest_sys::log_write::write_line(fd, text).unwrap();
}

pub(crate) fn descriptors_cross_to_a_child() {
    let (mut ours, theirs) = Channel::pair().unwrap();
    let (reader, writer) = pipe();
    let child = process::fork_child(move || {
        let mut channel = theirs;
        let message = channel.recv().unwrap().unwrap();
        rustix_write(&message.fds[0], &message.bytes);
        channel.send(b"done", &[]).unwrap();
        0
    });
    ours.send(b"over there", &[writer.as_fd()]).unwrap();
    drop(writer);
    assert_eq!(wait_for_end(reader), b"over there");
    assert_eq!(ours.recv().unwrap().unwrap().bytes, b"done");
    assert_eq!(process::wait(child.unwrap()).unwrap(), ExitStatus::Code(0));
    poll::wait(&[(ours.as_fd(), poll::Interest::Read)], Some(Duration::from_secs(5))).unwrap();
}

pub(crate) fn limits_are_set() {
    limits::set_open_files(100).unwrap();
    assert_eq!(limits::open_files(), limits::Limit { soft: Some(100), hard: Some(100) });
    assert_eq!(limits::raise_open_files().unwrap(), 100);
    limits::set_core_size(0).unwrap();
    limits::set_dumpable(false).unwrap();
    limits::set_dumpable(true).unwrap();
    let nice = limits::priority().unwrap();
    limits::set_priority((nice + 2).min(19)).unwrap();
    assert_eq!(limits::priority().unwrap(), (nice + 2).min(19));
    let many: Vec<_> = (0..200).map_while(|_| File::open("/dev/null").ok()).collect();
    assert!(many.len() < 100);
}

pub(crate) fn threads_forbid_forking() {
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || held.recv().is_err());
    assert_eq!(process::fork_child(|| 0).unwrap_err().kind(), io::ErrorKind::Unsupported);
    drop(hold);
    assert!(thread.join().unwrap());
}
