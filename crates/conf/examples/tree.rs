//! Prints how a configuration is read: its directives with their lines, and all syntax errors.
//!
//! `cargo run -p moonrest-conf --example tree -- /etc/nginx/nginx.conf`
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::time::Instant;

use moonrest_conf::{Body, DirectLoader, Directive, parse, quote};

fn main() {
    let Some(file) = std::env::args_os().nth(1) else {
        println!("usage: tree FILE");
        return;
    };
    let began = Instant::now();
    let (tree, errors) = parse(&DirectLoader, Path::new("."), Path::new(&file));
    let took = began.elapsed();
    print(&tree.directives, 0);
    for error in errors {
        println!("{}", error.render_terminal(&tree.files));
    }
    println!("{} files in {took:?}", tree.files.iter().count());
}

fn print(directives: &[Directive], depth: usize) {
    for directive in directives {
        let words = std::iter::once(&directive.name).chain(&directive.args);
        let words: Vec<_> =
            words.map(|word| String::from_utf8_lossy(&quote(&word.text)).into_owned()).collect();
        let end = match &directive.body {
            Body::None => ";".to_owned(),
            Body::Block(_) => " {".to_owned(),
            Body::Lua(code) => format!(" {{ {} bytes of Lua }}", code.text.len()),
        };
        println!("{:5} {}{}{end}", directive.span.line, "    ".repeat(depth), words.join(" "));
        print(directive.children(), depth + 1);
    }
}
