//! `resty`: scripts outside requests.

use super::instance::BINARY;
use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

fn resty(words: &[&str], input: &str) -> Output {
    let mut child = Command::new(BINARY)
        .arg("resty")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Scripts that read nothing may have ended before.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

#[track_caller]
fn check(words: &[&str], input: &str, status: i32, stdout: &str, stderr: &str) {
    let output = resty(words, input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout, "{errors}");
    assert_eq!(output.status.code(), Some(status), "{errors}");
    assert!(errors.contains(stderr) && errors.is_empty() == stderr.is_empty(), "{errors}");
}

#[test]
fn code_and_files_run_in_order_with_their_arguments() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("lib")).unwrap();
    std::fs::write(directory.path().join("lib/own.lua"), "return { name = 'own' }").unwrap();
    let script = directory.path().join("a.lua");
    std::fs::write(&script, "#!/usr/bin/resty\nngx.say(arg[0] == SCRIPT, arg[1], #arg, require('own').name)")
        .unwrap();
    let (script, lib) = (script.to_str().unwrap(), directory.path().join("lib"));
    let code = format!("SCRIPT = '{script}'");
    check(&["-I", lib.to_str().unwrap(), "-e", &code, script, "x", "y"], "", 0, "truex2own\n", "");
    check(&["-", "one"], "print('in ', arg[1])", 0, "in one\n", "");
    check(&["/no/such.lua"], "", 2, "", "Lua input file /no/such.lua not found.");
    check(&[], "", 1, "", "Neither Lua input file nor -e \"\" option specified.");
}

#[test]
fn the_status_tells_how_it_ended() {
    check(&["-e", "print(1) os.exit(7)"], "", 7, "1\n", "");
    check(
        &["-e", "print(1)", "-e", "error('oops')"],
        "",
        1,
        "1\n",
        "ERROR: (command line -e):1: oops\nstack traceback:",
    );
    check(&["-e", "x = = 1"], "", 1, "", "ERROR: (command line -e):1: unexpected symbol near '='");
}

#[test]
fn everything_may_wait_and_timers_run_to_their_end() {
    let code = "
        ngx.timer.at(0.01, function(premature) ngx.sleep(0.05) print('timer ', premature) end)
        ngx.timer.at(100, function(premature) print('late ', premature) end)
        local t = ngx.thread.spawn(function() ngx.sleep(0.03) return 'thread' end)
        print(select(2, ngx.thread.wait(t)))
    ";
    check(&["-e", code], "", 0, "thread\nlate true\ntimer false\n", "");
}

#[test]
fn options_make_the_configuration() {
    let code = "ngx.shared.dogs:set('a', 1) print(ngx.shared.dogs:get('a'), ' ', ngx.config.is_console)";
    check(&["--shdict", "dogs 100k", "-e", code], "", 0, "1 true\n", "");
    let output =
        resty(&["--dump-nginx-conf", "--http-conf", "map a $b { }", "-c", "9", "--ns", "10.1.1.1"], "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in ["map a $b { }\n", "worker_connections 9;", "resolver 10.1.1.1 ipv6=off;"] {
        assert!(text.contains(part), "{text}");
    }
    check(&["--http-conf", "nonsense;", "-e", "print(1)"], "", 1, "", "unknown directive \"nonsense\"");
}

#[test]
fn programs_are_started_and_talked_to() {
    let code = "
        local pipe = require 'ngx.pipe'
        local cat = pipe.spawn { 'cat' }
        print(cat:write('a\\nb'), ' ', cat:stdout_read_line(), ' ', cat:shutdown('stdin'), ' ', (cat:stdout_read_all()))
        print(cat:wait())
        local sh = pipe.spawn('echo out; echo $A >&2; exit 3', { environ = { 'A=err' } })
        print((sh:stdout_read_line()), ' ', (sh:stderr_read_line()))
        local ok, reason, status = sh:wait()
        print(ok, ' ', reason, ' ', status)
        local sleep = pipe.spawn({ 'sleep', '100' }, { wait_timeout = 20, stdout_read_timeout = 20 })
        print(select(2, sleep:wait()), ' ', select(2, sleep:stdout_read_any(1)), ' ', sleep:kill(15))
        print(select(3, sleep:wait()), ' ', select(2, sleep:kill(15)))
    ";
    check(
        &["-e", code],
        "",
        0,
        "3 a true b\ntrueexit0\nout err\nfalse exit 3\ntimeout timeout true\n15 exited\n",
        "",
    );
}
