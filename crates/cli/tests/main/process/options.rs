//! The command line.

use super::instance::{BINARY, Instance};
use std::process::{Command, Output};

const OK: &str = "location / { return 200 ok!; }";

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_good_configuration_passes_the_test() {
    let server = Instance::new("", OK);
    let output = server.run(&["-t"]);
    let file = server.path("conf/nginx.conf");
    let file = file.display();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        stderr(&output),
        format!(
            "nginx: the configuration file {file} syntax is ok\n\
             nginx: configuration file {file} test is successful\n"
        )
    );
    assert_eq!(stderr(&server.run(&["-t", "-q"])), "");
}

#[test]
fn all_errors_are_shown_by_a_test_and_the_first_one_otherwise() {
    let server = Instance::new("", "listen 1.2.3.4:x; nonsense; root a b;");
    let output = server.run(&["-t"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.starts_with("nginx: [emerg] invalid port in \"1.2.3.4:x\" of the \"listen\" directive in "),
        "{text}"
    );
    assert!(text.contains("\nnginx: [emerg] unknown directive \"nonsense\" in "), "{text}");
    assert!(
        text.contains("\nnginx: [emerg] invalid number of arguments in \"root\" directive in "),
        "{text}"
    );
    assert!(text.ends_with(" test failed\n"), "{text}");
    assert_eq!(stderr(&server.run(&[])).lines().count(), 1);
}

#[test]
fn a_dump_shows_every_file_once() {
    let server = Instance::new("include extra.conf;\ninclude extra.conf;", OK);
    std::fs::write(server.path("conf/extra.conf"), "env A;").unwrap();
    let output = server.run(&["-T"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let heads: Vec<_> = text.lines().filter(|line| line.starts_with("# configuration file ")).collect();
    assert_eq!(heads.len(), 2, "{text}");
    assert!(heads[0].ends_with("conf/nginx.conf:"));
    assert!(text.ends_with("conf/extra.conf:\nenv A;\n"), "{text}");
}

#[test]
fn main_level_faults_are_worded_as_by_nginx() {
    let check = |conf: &str, line: &str| {
        let server = Instance::new("", OK);
        server.write(conf);
        let text = stderr(&server.run(&["-t"]));
        let expect = format!("nginx: [emerg] {line}");
        assert!(text.starts_with(&expect), "{conf}\n{text}");
    };
    check("", "no \"events\" section in configuration\n");
    check("events { } events { }", "\"events\" directive is duplicate in ");
    check("events { } http { } http { }", "\"http\" directive is duplicate in ");
    check("worker_processes x; events { }", "\"worker_processes\" directive invalid value in ");
    check(
        "worker_processes 1; worker_processes 2; events { }",
        "\"worker_processes\" directive is duplicate in ",
    );
    check(
        "daemon maybe; events { }",
        "invalid value \"maybe\" in \"daemon\" directive, it must be \"on\" or \"off\" in ",
    );
    check("events { use kqueue; }", "invalid event type \"kqueue\" in ");
    check("events { worker_connections x; }", "invalid number \"x\" in ");
    check("events { daemon on; }", "\"daemon\" directive is not allowed here in ");
    check("listen 80; events { }", "\"listen\" directive is not allowed here in ");
    check("events { } http { daemon on; }", "\"daemon\" directive is not allowed here in ");
    check("events { } stream { }", "unknown directive \"stream\" in ");
    check("thread_pool a; events { }", "invalid number of arguments in \"thread_pool\" directive in ");
    check("thread_pool a max_queue=1; events { }", "\"thread_pool\" must have \"threads\" parameter in ");
    check("thread_pool a threads=0; events { }", "invalid threads value \"threads=0\" in ");
    check("worker_cpu_affinity 012; events { }", "invalid character \"2\" in \"worker_cpu_affinity\" in ");
    check("error_log logs/x nonsense; events { }", "invalid log level \"nonsense\" in ");
    check("load_module modules/ngx_some_module.so; events { }", "dlopen() \"");
    check("events { } http { aio threads=a; }", "unknown thread pool \"a\" in ");
    check("events { ", "unexpected end of file, expecting \"}\" in ");
}

#[test]
fn directives_come_with_the_command_line_too() {
    let server = Instance::new("pid logs/other.pid;", OK);
    let text = stderr(&server.run(&["-g", "pid logs/x.pid;"]));
    assert!(text.contains("[emerg] \"pid\" directive is duplicate in "), "{text}");
    let text = stderr(&server.run(&["-g", "nonsense;"]));
    assert!(text.contains("[emerg] unknown directive \"nonsense\" in command line"), "{text}");
}

#[test]
fn signals_are_sent_by_name() {
    let server = Instance::start("", OK);
    assert!(server.run(&["-s", "reload"]).status.success());
    server.wait_for_log("reconfiguring");
    assert!(server.run(&["-s", "reopen"]).status.success());
    server.wait_for_log("reopening logs");
    let pid = server.pid();
    assert!(server.run(&["-s", "quit"]).status.success());
    assert!(moonrest_testkit::process::wait_until_gone(pid, super::instance::PATIENCE));
    let output = server.run(&["-s", "stop"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("nginx.pid\" failed (2: No such file or directory)"),
        "{}",
        stderr(&output)
    );
    assert!(server.error_log().contains("signal process started"));
}

#[test]
fn the_version_is_told_twice() {
    let output = Command::new(BINARY).arg("-v").output().unwrap();
    let text = stderr(&output);
    assert!(text.starts_with("nginx version: nginx/1.31.3\nmoonrest version: moonrest/"), "{text}");
    assert!(output.status.success());
    let output = Command::new(BINARY).arg("-V").output().unwrap();
    assert!(stderr(&output).contains("configure arguments: --with-"));
    assert_eq!(stderr(&Command::new(BINARY).arg("-x").output().unwrap()), "nginx: invalid option: \"x\"\n");
}
