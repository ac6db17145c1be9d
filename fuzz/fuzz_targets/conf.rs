//! Configuration texts: no panic, no endless loop, and whatever is read says the same when written and read again.
#![no_main]

use std::io;
use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use moonrest_conf::{Body, DirectLoader, Directive, Loader, Span, Tree, Word, parse, parse_text, quote};

fuzz_target!(|data: &[u8]| {
    // A zero byte separates the files, which may include each other by their numbers.
    let files: Vec<&[u8]> = data.split(|&byte| byte == 0).collect();
    let (tree, errors) = parse(&Numbered(&files), Path::new("/"), Path::new("0"));
    for error in &errors {
        error.render_terminal(&tree.files);
    }
    for directive in &tree.directives {
        check_spans(&tree, directive);
    }

    let mut text = Vec::new();
    write(&tree.directives, &mut text);
    if text.len() < 100_000 {
        let again = [text.as_slice()];
        let (copy, errors) = parse(&Numbered(&again), Path::new("/"), Path::new("0"));
        assert!(errors.is_empty() || has_long_word(&tree.directives), "{errors:?}");
        if errors.is_empty() {
            assert!(same(&tree.directives, &copy.directives));
        }
    }
    parse_text("-g", data);
});

/// Files named by numbers. A pattern matches the first three.
struct Numbered<'a>(&'a [&'a [u8]]);

impl Loader for Numbered<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let number = path.to_str().and_then(|path| path.trim_start_matches('/').parse::<usize>().ok());
        let text = number.and_then(|number| self.0.get(number)).copied();
        text.map(<[u8]>::to_vec).ok_or_else(|| io::Error::from_raw_os_error(2))
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        if pattern.as_os_str().len() > 100 {
            return DirectLoader.glob(Path::new("/nowhere/*"));
        }
        Ok((0..self.0.len().min(3)).map(|number| PathBuf::from(format!("/{number}"))).collect())
    }
}

fn check_spans(tree: &Tree, directive: &Directive) {
    let check = |span: Span| {
        let text = tree.files.text(span.file);
        assert!(span.start <= span.end && span.end as usize <= text.len());
        tree.files.line(span);
    };
    check(directive.span);
    let words = std::iter::once(&directive.name).chain(&directive.args);
    for word in words {
        check(word.span);
        assert!(word.span.line >= 1 && word.span.line <= directive.span.line);
    }
    if let Some(close) = directive.close {
        check(close);
        assert_eq!(tree.files.slice(close), b"}");
        assert!(close.line >= directive.span.line);
    }
    if let Body::Lua(code) = &directive.body {
        assert_eq!(tree.files.slice(code.span), code.as_bytes());
    }
    for child in directive.children() {
        assert!(child.order > directive.order && child.close_order <= directive.close_order);
        check_spans(tree, child);
    }
}

fn write(directives: &[Directive], out: &mut Vec<u8>) {
    for directive in directives {
        write_word(&directive.name, out);
        for word in &directive.args {
            out.push(b' ');
            write_word(word, out);
        }
        match &directive.body {
            Body::None => out.extend_from_slice(b";\n"),
            Body::Block(children) => {
                out.extend_from_slice(b" {\n");
                write(children, out);
                out.extend_from_slice(b"}\n");
            }
            Body::Lua(code) => {
                out.extend_from_slice(b" {");
                out.extend_from_slice(code.as_bytes());
                out.extend_from_slice(b"}\n");
            }
        }
    }
}

fn write_word(word: &Word, out: &mut Vec<u8>) {
    out.extend_from_slice(&quote(word.as_bytes()));
}

/// Whether quoting may have made a word longer than words may be.
fn has_long_word(directives: &[Directive]) -> bool {
    directives.iter().any(|directive| {
        let long = |word: &Word| word.text.len() > 2000;
        long(&directive.name) || directive.args.iter().any(long) || has_long_word(directive.children())
    })
}

fn same(a: &[Directive], b: &[Directive]) -> bool {
    let words = |directive: &Directive| -> Vec<Box<[u8]>> {
        std::iter::once(&directive.name).chain(&directive.args).map(|word| word.text.clone()).collect()
    };
    let body = |a: &Directive, b: &Directive| match (&a.body, &b.body) {
        (Body::None, Body::None) => true,
        (Body::Block(a), Body::Block(b)) => same(a, b),
        (Body::Lua(a), Body::Lua(b)) => a.text == b.text,
        _ => false,
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| words(a) == words(b) && body(a, b))
}
