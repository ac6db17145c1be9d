//! Includes: where they look, what they put in, and how they fail.

mod support;

use std::fs;
use std::path::Path;

use moonrest_conf::{DirectLoader, parse, parse_text};
use support::{read_files, show};

#[track_caller]
fn check(files: &[(&str, &str)], tree: &str, errors: &[&str]) {
    let (read, found) = read_files(files);
    assert_eq!(found, errors);
    assert_eq!(show(&read.directives), tree);
}

#[test]
fn included_directives_stand_where_the_include_stood() {
    let files = [
        ("/etc/nginx.conf", "a;\nserver {\n include sub/b;\n c; }\ninclude /abs;"),
        ("/etc/sub/b", "include d;\nb {\n x; }"), // relative to the main file, not to this one
        ("/etc/d", "d;"),
        ("/abs", "e;"),
    ];
    check(&files, "a; server { d; b { x; } c; } e;", &[]);
    let (tree, _) = read_files(&files);
    let b = &tree.directives[1].children()[1];
    assert_eq!((tree.files.path(b.span.file), b.span.line), (Path::new("/etc/sub/b"), 2));
    let order: Vec<_> = tree.files.iter().map(|(_, path, _)| path.to_string_lossy().into_owned()).collect();
    assert_eq!(order, ["/etc/nginx.conf", "/etc/sub/b", "/etc/d", "/abs"]);
}

#[test]
fn patterns_include_in_order_and_may_match_nothing() {
    let files = [
        ("/etc/nginx.conf", "include v/*.conf; include none*;"),
        ("/etc/v/2.conf", "b;"),
        ("/etc/v/1.conf", "a;"),
    ];
    check(&files, "a; b;", &[]);
}

#[test]
fn a_file_may_be_included_again() {
    let files = [("/etc/nginx.conf", "a { include p; } b { include p; }"), ("/etc/p", "p;")];
    check(&files, "a { p; } b { p; }", &[]);
    let wrong = [("/etc/nginx.conf", "a { include p; } b { include p; }"), ("/etc/p", "p;;")];
    check(&wrong, "a { p; } b { p; }", &["unexpected \";\" in /etc/p:1"]);
    assert_eq!(read_files(&files).0.files.iter().count(), 2);
}

#[test]
fn missing_files_are_reported_where_they_are_included() {
    let missing = "open() \"/etc/x\" failed (2: No such file or directory) in /etc/nginx.conf:2";
    check(&[("/etc/nginx.conf", "\ninclude x;a;")], "a;", &[missing]);
    check(&[], "", &["open() \"/etc/nginx.conf\" failed (2: No such file or directory)"]);
    let directory = "pread() \"/etc/x/\" failed (21: Is a directory)";
    check(&[("/etc/nginx.conf", "include x/;")], "", &[directory]);
}

#[test]
fn include_takes_one_name() {
    let count = "invalid number of arguments in \"include\" directive in /etc/nginx.conf:1";
    check(&[("/etc/nginx.conf", "include; a;")], "a;", &[count]);
    check(&[("/etc/nginx.conf", "include a b;")], "", &[count]);
    let block = "directive \"include\" is not terminated by \";\" in /etc/nginx.conf:1";
    check(&[("/etc/nginx.conf", "include a { ; }")], "", &[block, "unexpected \";\" in /etc/nginx.conf:1"]);
}

#[test]
fn blocks_end_in_the_file_they_began_in() {
    let end = "unexpected end of file, expecting \"}\" in /etc/p:2";
    check(&[("/etc/nginx.conf", "include p; b;"), ("/etc/p", "a {\n")], "a {  } b;", &[end]);
    let close = "unexpected \"}\" in /etc/p:1";
    check(&[("/etc/nginx.conf", "a { include p; b; }"), ("/etc/p", "}")], "a { b; }", &[close]);
    let word = "unexpected end of file, expecting \";\" or \"}\" in /etc/p:1";
    check(&[("/etc/nginx.conf", "include p; b;"), ("/etc/p", "a")], "b;", &[word]);
}

#[test]
fn circles_are_reported_and_left() {
    let circle = "\"/etc/nginx.conf\" is included by itself in /etc/p:1";
    check(&[("/etc/nginx.conf", "a; include p; b;"), ("/etc/p", "include nginx.conf;")], "a; b;", &[circle]);
}

#[test]
fn includes_are_bounded_in_depth_and_number() {
    let mut files: Vec<_> = (0..200).map(|n| (format!("/etc/{n}"), format!("include {};", n + 1))).collect();
    files.push(("/etc/nginx.conf".to_owned(), "include 0;".to_owned()));
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    check(&files, "", &["\"/etc/99\" is included too deep in /etc/98:1"]);

    let mut files: Vec<_> =
        (0..20).map(|n| (format!("/etc/{n}"), format!("include {};", n + 1).repeat(10))).collect();
    files.push(("/etc/20".to_owned(), String::new()));
    files.push(("/etc/nginx.conf".to_owned(), "include 0;".to_owned()));
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let (_, errors) = read_files(&files);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("is one include too many"), "{errors:?}");
}

#[test]
fn a_text_that_stands_alone_includes_nothing() {
    let (tree, errors) = parse_text("test", b"a; include b;");
    assert_eq!(show(&tree.directives), "a;");
    let missing = "open() \"b\" failed (2: No such file or directory) in command line";
    assert_eq!(errors[0].render(&tree.files), missing);
}

#[test]
fn files_are_found_on_disk() {
    let directory = std::env::temp_dir().join(format!("moonrest-conf-{}", std::process::id()));
    fs::create_dir_all(directory.join("v/x.d")).expect("temporary directory");
    let write = |name: &str, text: &str| fs::write(directory.join(name), text).expect("temporary file");
    write("nginx.conf", "include v/*.conf; include v/?.d/[a-b];\ninclude missing;\ninclude v;");
    write("v/b.conf", "b;");
    write("v/a.conf", "a;");
    write("v/.hidden.conf", "hidden;");
    write("v/x.d/a", "d;");
    let (tree, errors) = parse(&DirectLoader, &directory, Path::new("nginx.conf"));
    fs::remove_dir_all(&directory).expect("temporary directory");
    assert_eq!(show(&tree.directives), "a; b; d;");
    let rendered: Vec<_> = errors.iter().map(|error| error.render(&tree.files)).collect();
    let at = directory.display();
    let missing =
        format!("open() \"{at}/missing\" failed (2: No such file or directory) in {at}/nginx.conf:2");
    assert_eq!(rendered, [missing, format!("pread() \"{at}/v\" failed (21: Is a directory)")]);
}
