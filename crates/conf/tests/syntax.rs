//! What is read, what is refused, in whose words and on which line. All lines were compared with nginx's.

mod support;

use moonrest_conf::{Body, ConfigError};
use support::{command_line_errors, errors, read, show};

fn check(text: &str, expect: &str) {
    let (tree, errors) = read(text);
    assert_eq!(errors, [""; 0], "{text}");
    assert_eq!(show(&tree.directives), expect, "{text}");
}

#[track_caller]
fn refuse(text: &str, expect: &[&str]) {
    assert_eq!(errors(text), expect, "{text}");
}

#[test]
fn words_end_at_blanks_semicolons_and_braces() {
    check("", "");
    check("a;b c\td\r\ne;", "a; b c d e;");
    check("a{b;}c d{}", "a { b; } c d {  }");
    check("a# b;# c", "a# b;");
    check("a #}{;\n b;", "a b;");
    check("a}b c};", "a}b c};");
    check("\u{feff}a;", "a;");
}

#[test]
fn a_variable_in_braces_opens_no_block() {
    check("a ${b}c {}", "a \"${b}c\" {  }");
    check("a x${{b;", "a \"x${{b\";");
    check("${a} b;", "\"${a}\" b;");
    check("a $b{}", "a $b {  }");
}

#[test]
fn quotes_keep_what_would_end_a_word() {
    check("a 'b;{}# c' \"d 'e'\" '';", "a \"b;{}# c\" \"d 'e'\" \"\";");
    check("a 'b\nc';", "a \"b\nc\";");
    check("a b\"c\"d';", "a \"b\\\"c\\\"d'\";");
    check("a \"b\"{}", "a b {  }");
    check("if ($a = \"b\") {}", "if ($a = b ) {  }");
    check("if (\"b\")c;", "if \"(\\\"b\\\")c\";");
}

#[test]
fn backslashes_stand_for_themselves_unless_they_escape() {
    check(
        r#"a \"b\' c\\d \t\r\n x\.y \$ \;z;"#,
        "a \"\\\"b'\" \"c\\\\d\" \"\t\r\n\" \"x\\\\.y\" \"\\\\$\" \"\\\\;z\";",
    );
    check(r#"a "b\"c" 'd\'e' "\d";"#, "a \"b\\\"c\" \"d'e\" \"\\\\d\";");
    check("a b\\ c;", "a \"b\\\\ c\";");
}

#[test]
fn lines_are_those_nginx_reports() {
    let (tree, _) = read("a\n  b\n c;\nserver\n{\n x 'y\nz' w;\n}\n");
    let [a, server] = &*tree.directives else { panic!("{tree:?}") };
    assert_eq!((a.span.line, a.args[0].span.line, a.args[1].span.line), (3, 2, 3));
    assert_eq!((server.span.line, server.close.map(|close| close.line)), (5, Some(8)));
    let x = &server.children()[0];
    assert_eq!((x.span.line, x.args[0].span.line, x.args[1].span.line), (7, 6, 7));
    assert_eq!(tree.files.slice(x.args[0].span), b"'y\nz'");
    assert_eq!(tree.files.slice(x.span), b"x 'y\nz' w;");
    assert!(a.order < server.order && server.order < x.order && x.order < server.close_order);
}

#[test]
fn what_nginx_refuses_is_refused_in_its_words() {
    refuse(";", &["unexpected \";\" @1"]);
    refuse("a;\n ;b;", &["unexpected \";\" @2"]);
    refuse("{a;}", &["unexpected \"{\" @1"]);
    refuse("a;\n}", &["unexpected \"}\" @2"]);
    refuse("a {\nb }\n", &["unexpected \"}\" @2"]);
    refuse("a", &["unexpected end of file, expecting \";\" or \"}\" @1"]);
    refuse("a\n\n", &["unexpected end of file, expecting \";\" or \"}\" @3"]);
    refuse("a # b;", &["unexpected end of file, expecting \";\" or \"}\" @1"]);
    refuse("a {\nb;\n", &["unexpected end of file, expecting \"}\" @3"]);
    refuse("a {b {\n", &["unexpected end of file, expecting \"}\" @2"]);
    refuse("a \"b\"c;", &["unexpected \"c\" @1"]);
    refuse("a 'b'\"c\";", &["unexpected \"\"\" @1"]);
    refuse("a 'b'#;\n;", &["unexpected \"#\" @1"]);
    refuse("a 'b", &["unexpected end of file, expecting \";\" or \"}\" @1"]);
}

#[test]
fn words_and_comments_are_as_long_as_nginx_allows() {
    let long = |len: usize| "x".repeat(len);
    check(&format!("a {};", long(4095)), &format!("a {};", long(4095)));
    refuse(&format!("\na {};", long(4096)), &["too long parameter \"xxxxxxxxxx...\" started @2"]);
    refuse(&format!("a {} ;", long(4095)), &["too long parameter \"xxxxxxxxxx...\" started @1"]);
    refuse(
        &format!("a\n'x\n{}';", long(4096)),
        &["too long parameter, probably missing terminating \"'\" character @2"],
    );
    refuse(&format!("a 'b{}';", long(4094)), &["too long parameter \"bxxxxxxxxx...\" started @1"]);
    check(&format!("a '{}';", long(4094)), &format!("a {};", long(4094)));
    refuse(&format!("#{}\n", long(4095)), &["too long parameter \"#xxxxxxxxx...\" started @1"]);
    check(&format!("#{}\na;", long(4094)), "a;");
}

#[test]
fn lua_blocks_end_at_the_brace_that_matches() {
    check("content_by_lua_block { return {1} } a;", "content_by_lua_block < return {1} > a;");
    check("set_by_lua_block $x {return '}'}", "set_by_lua_block $x <return '}'>");
    check("a_by_lua_block { '\\'}' \"\\\"}\" } b;", "a_by_lua_block < '\\'}' \"\\\"}\" > b;");
    check("a_by_lua_block { [[}]] [==[ ]] } ]==] } b;", "a_by_lua_block < [[}]] [==[ ]] } ]==] > b;");
    check(
        "a_by_lua_block { -- }\n --[[ }\n}]] --[=}\n} b;",
        "a_by_lua_block < -- }\n --[[ }\n}]] --[=}\n> b;",
    );
    check("a_by_lua_block { x[y[1]] - 1 } b;", "a_by_lua_block < x[y[1]] - 1 > b;");
    check("a_by_lua_block { '\\z  \n }' '\\\n}' } b;", "a_by_lua_block < '\\z  \n }' '\\\n}' > b;");
    check("a_by_lua_block { don't } b;", "a_by_lua_block < don't > b;");
    check("a_by_lua_block { don't \"}\"\n'}' } b;", "a_by_lua_block < don't \"}\"\n'}' > b;");
    check("a_by_lua_block b;", "a_by_lua_block b;");
}

#[test]
fn lua_blocks_know_their_lines() {
    let (tree, _) = read("\na_by_lua_block\n{\n x\n}\nb;");
    let [lua, b] = &*tree.directives else { panic!("{tree:?}") };
    let Body::Lua(code) = &lua.body else { panic!("{lua:?}") };
    assert_eq!(
        (lua.span.line, code.span.line, lua.close.map(|close| close.line), b.span.line),
        (3, 3, Some(5), 6)
    );
    assert_eq!(tree.files.slice(code.span), b"\n x\n");
}

#[test]
fn lua_blocks_without_an_end_are_refused_in_the_words_of_openresty() {
    let end = "unexpected end of file, expecting terminating characters for lua code block";
    refuse("a;\nb_by_lua_block {\n x\n", &[&format!("{end} @2")]);
    refuse("b_by_lua_block {\n x\n {\n", &[&format!("{end} @3")]);
    let bracket = "Lua code block missing the closing long bracket";
    let hint = "the inlined Lua code may be too long";
    refuse("b_by_lua_block {\n [=[ ]] }\n", &[&format!("{bracket} \"]=]\", {hint} @2")]);
    refuse("b_by_lua_block {\n --[[ }", &[&format!("{bracket} \"]]\", {hint} @2")]);
}

#[test]
fn the_command_line_has_no_blocks() {
    let end = "unexpected end of parameter, expecting \";\" in command line";
    assert_eq!(command_line_errors("daemon off;"), [""; 0]);
    assert_eq!(command_line_errors("daemon off"), [end]);
    assert_eq!(command_line_errors("}"), ["unexpected \"}\" in command line"]);
    assert_eq!(command_line_errors(";"), ["unexpected \";\" in command line"]);
    let blocks = "block directives are not supported in -g option in command line";
    assert_eq!(command_line_errors("events {}"), [blocks]);
    assert_eq!(command_line_errors("{}"), ["unexpected \"{\" in command line"]);
    assert_eq!(command_line_errors("a_by_lua_block { '"), [blocks]);
    assert_eq!(command_line_errors(&format!("a {};", "x".repeat(5000))), [""; 0]);
}

#[test]
fn reading_goes_on_after_an_error() {
    let (tree, errors) = read("a;\n;\nhttp {\n listen 80 }\nb 'c'd;\ne {\n ;f;\n}\ng;");
    let lines: Vec<_> = errors.iter().filter_map(|line| line.rsplit(':').next()).collect();
    assert_eq!(lines, ["2", "4", "5", "7"]);
    assert_eq!(show(&tree.directives), "a; http {  } e { f; } g;");
}

#[test]
fn a_forgotten_quote_costs_its_own_line_only() {
    let (tree, errors) = read("server {\n name \"abc;\n listen 80;\n root \"/x\";\n log '/y;\n a b;\n}\n");
    let end = "unexpected end of file, expecting \";\" or \"}\"";
    assert_eq!(errors, ["unexpected \"/\" in /etc/nginx.conf:4", &format!("{end} in /etc/nginx.conf:8")]);
    assert_eq!(show(&tree.directives), "server { listen 80; root /x; a b; }");
}

#[test]
fn a_quoted_word_over_several_lines_is_not_taken_apart() {
    refuse("log main 'a\n b ; c'd\n;e;", &["unexpected \"d\" @2"]);
}

#[test]
fn a_lua_block_without_an_end_costs_itself_only() {
    let text = "http {\n  a_by_lua_block {\n    {{{\n  }\n  b { ; }\n}\n";
    let end = "unexpected end of file, expecting terminating characters for lua code block";
    let (tree, errors) = read(text);
    assert_eq!(errors, [&format!("{end} in /etc/nginx.conf:5"), "unexpected \";\" in /etc/nginx.conf:5"]);
    assert_eq!(show(&tree.directives), "http { b {  } }");
}

#[test]
fn braces_that_do_not_match_are_reported_once() {
    refuse("a {\n}\n}\n}\nb;", &["unexpected \"}\" @3"]);
    refuse("a {\n {\n b;\n}\n", &["unexpected \"{\" @2"]);
    refuse("a { b { c {", &["unexpected end of file, expecting \"}\" @1"]);
}

#[test]
fn nesting_is_bounded() {
    let deep = |depth: usize| format!("{}{}", "a{".repeat(depth), "}".repeat(depth));
    refuse(&deep(100), &[]);
    refuse(&deep(101), &["too many nested blocks @1"]);
    refuse(&deep(1_000_000), &["too many nested blocks @1"]);
}

#[test]
fn errors_are_bounded() {
    let (tree, errors) = read(&";\n".repeat(100_000));
    assert_eq!((tree.directives.len(), errors.len()), (0, 100));
}

#[test]
fn errors_come_in_the_order_in_which_nginx_meets_them() {
    let files = [("/etc/nginx.conf", "a;\n;\nb {\n;\n}\n;")];
    let memory = support::Memory::new(&files);
    let (tree, syntax) = moonrest_conf::parse(&memory, "/etc".as_ref(), "nginx.conf".as_ref());
    let [a, b] = &*tree.directives else { panic!("{tree:?}") };
    let found = vec![
        ConfigError::emerg("a").at(a),
        ConfigError::emerg("b").at(b),
        ConfigError::emerg("b ends").at_close(b),
    ];
    let all: Vec<_> = ConfigError::merge(syntax, found).iter().map(|error| error.message.clone()).collect();
    assert_eq!(all, ["a", "unexpected \";\"", "b", "unexpected \";\"", "b ends", "unexpected \";\""]);
}

#[test]
fn a_terminal_shows_the_line_a_caret_and_a_hint() {
    let memory = support::Memory::new(&[("/etc/nginx.conf", "a {\n\tlisten 80\n}\n")]);
    let (tree, errors) = moonrest_conf::parse(&memory, "/etc".as_ref(), "nginx.conf".as_ref());
    let expect = "[emerg] unexpected \"}\" in /etc/nginx.conf:3\n  |\n3 | }\n  | ^\n  = \"listen\" on line 2 is not terminated by \";\"";
    assert_eq!(errors[0].render_terminal(&tree.files), expect);

    let directive = &tree.directives[0];
    let error = ConfigError::emerg("unknown directive \"a\"").at(directive);
    let expect = "[emerg] unknown directive \"a\" in /etc/nginx.conf:1\n  |\n1 | a {\n  | ^^^";
    assert_eq!(error.render_terminal(&tree.files), expect);
}
