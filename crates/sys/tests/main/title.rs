//! The process title.
use std::fs;

use moonrest_sys::title;

fn shown() -> String {
    let text = fs::read("/proc/self/cmdline").unwrap();
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    assert!(text[end..].iter().all(|&byte| byte == 0), "nothing is left of the old one");
    String::from_utf8(text[..end].to_vec()).unwrap()
}

pub(crate) fn ps_shows_it() {
    assert!(!title::set(b"too early"));
    title::init().unwrap();
    title::init().unwrap();
    assert!(title::set(b"nginx: master process /usr/sbin/nginx -g daemon off;"));
    assert_eq!(shown(), "nginx: master process /usr/sbin/nginx -g daemon off;");
    title::set(b"nginx: worker process");
    assert_eq!(shown(), "nginx: worker process");
    title::set(b"cut\0here");
    assert_eq!(shown(), "cut");
    let long = vec![b'x'; 1 << 20];
    title::set(&long);
    let text = shown();
    assert!(text.len() > 20 && text.bytes().all(|byte| byte == b'x'), "{}", text.len());
    assert!(std::env::args_os().count() >= 1, "still readable");
}

pub(crate) fn the_environment_survives() {
    let before: Vec<_> = std::env::vars_os().collect();
    assert!(!before.is_empty());
    title::init().unwrap();
    title::set(&vec![b'y'; 1 << 20]);
    assert_eq!(std::env::vars_os().collect::<Vec<_>>(), before);
    let output = std::process::Command::new("/usr/bin/env").output().unwrap();
    assert!(!output.stdout.contains(&b'\x01') && output.stdout.len() > 4);
    assert!(!String::from_utf8_lossy(&output.stdout).contains("yyyyyyyyyyyyyyyy"));
}
