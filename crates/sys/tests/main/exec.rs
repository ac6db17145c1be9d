//! Starting a new program.
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, AsRawFd as _};

use moonrest_sys::exec::spawn_binary;
use moonrest_sys::process::{self, ExitStatus};
use moonrest_sys::signals::Signals;

fn words(list: &[&str]) -> Vec<Vec<u8>> {
    list.iter().map(|word| word.as_bytes().to_vec()).collect()
}

pub(crate) fn it_gets_arguments_environment_and_sockets() {
    let _signals = Signals::new().unwrap();
    let out = std::env::temp_dir().join(format!("moonrest-sys-exec-{}", process::pid()));
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let (fd, closed) = (socket.as_raw_fd(), other.as_raw_fd());
    let script = format!(
        "{{ echo \"$0 $1 $NGINX ${{HOME-none}}\"; ls -l /proc/self/fd/{fd} | grep -c socket; \
         ls /proc/self/fd/{closed} 2>&1 | grep -c 'No such'; grep SigBlk /proc/self/status; }} > {}",
        out.display()
    );
    let args = words(&["old name", "-c", &script, "zero", "one"]);
    let variable = moonrest_sys::inherit::variable([socket.as_fd()]);
    let env = words(&[&variable, "PATH=/usr/bin:/bin"]);
    let pid = spawn_binary(b"/bin/sh", &args, &env, &[socket.as_fd()]).unwrap();
    assert_eq!(process::wait(pid).unwrap(), ExitStatus::Code(0));
    let text = std::fs::read_to_string(&out).unwrap();
    std::fs::remove_file(out).unwrap();
    assert_eq!(text, format!("zero one {fd}; none\n1\n1\nSigBlk:\t0000000000000000\n"));
    let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
    assert!(flags.contains("flags:\t02"), "still close-on-exec here: {flags}");
}

pub(crate) fn a_missing_program_is_an_error_of_the_caller() {
    let error = spawn_binary(b"/no/such/program", &words(&["x"]), &[], &[]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert_eq!(process::reap_any().unwrap(), None, "nothing is left to reap");
}
