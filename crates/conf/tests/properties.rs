//! What holds for every text: it is read or refused, never a panic; words survive being written and read.

mod support;

use std::path::Path;

use moonrest_conf::{Body, parse, parse_text, quote, value};
use proptest::prelude::*;
use support::Memory;

const PIECES: &[&str] = &[
    "a",
    " ",
    "\n",
    "\r\n",
    ";",
    ";\n",
    "{",
    "}",
    "\"",
    "'",
    "\\",
    "#",
    "$",
    "${",
    ")",
    "include",
    " nginx.conf",
    "x_by_lua_block",
    "[[",
    "]]",
    "[=[",
    "--",
    "\u{feff}",
    "\0",
];

/// Texts of pieces that mean something to the parser.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        20 => prop::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
        1 => (4000..4200_usize).prop_map(|len| vec![b'x'; len]),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in text()) {
        let memory = Memory([("/nginx.conf".into(), text.clone())].into());
        let (tree, errors) = parse(&memory, Path::new("/"), Path::new("nginx.conf"));
        for error in &errors {
            prop_assert!(!error.render_terminal(&tree.files).is_empty());
            prop_assert!(error.span.is_some_and(|span| span.line >= 1));
        }
        parse_text("text", &text);
    }

    /// Recovery looks ahead only: what nginx reports does not change with what comes later.
    #[test]
    fn the_first_error_is_the_same_whatever_follows(text in text()) {
        let first = |text: Vec<u8>| {
            let memory = Memory([("/nginx.conf".into(), text)].into());
            let (tree, errors) = parse(&memory, Path::new("/"), Path::new("nginx.conf"));
            errors.first().map(|error| error.render(&tree.files))
        };
        let found = first(text.clone());
        if let Some(found) = found.filter(|found| found.contains("unexpected \"")) {
            prop_assert_eq!(Some(found), first([text, b"\nlisten 80;\n".to_vec()].concat()));
        }
    }

    #[test]
    fn words_survive_being_quoted(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..5)) {
        let text: Vec<u8> = words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(&b' ');
        for (end, has_block) in [(";", false), ("{}", true)] {
            let memory = Memory([("/nginx.conf".into(), [b"x ", text.as_slice(), end.as_bytes()].concat())].into());
            let (tree, errors) = parse(&memory, Path::new("/"), Path::new("nginx.conf"));
            // A bare `$` would make the brace that follows it a part of the word.
            if has_block && words.last().is_some_and(|word| word.ends_with(b"$")) {
                continue;
            }
            prop_assert_eq!(errors.len(), 0);
            let read: Vec<_> = tree.directives[0].args.iter().map(|word| word.as_bytes().to_vec()).collect();
            prop_assert_eq!(&read, &words);
            prop_assert_eq!(matches!(tree.directives[0].body, Body::Block(_)), has_block);
        }
    }

    #[test]
    fn a_time_is_the_sum_of_its_parts(d in 0..1000_u64, h in 0..1000_u64, m in 0..1000_u64, s in 0..1000_u64) {
        let seconds = ((d * 24 + h) * 60 + m) * 60 + s;
        for text in [format!("{d}d{h}h{m}m{s}s"), format!("{d}d {h}h {m}m {s}")] {
            prop_assert_eq!(value::parse_sec(text.as_bytes()), Some(seconds));
            prop_assert_eq!(value::parse_msec(text.as_bytes()), Some(seconds * 1000));
        }
    }

    #[test]
    fn values_are_read_or_refused(text in "[0-9kKmMgGyMwdhs. ]{0,24}") {
        let text = text.as_bytes();
        for parser in [value::parse_uint, value::parse_size, value::parse_offset, value::parse_msec, value::parse_sec] {
            prop_assert!(parser(text).is_none_or(|value| i64::try_from(value).is_ok()));
        }
        value::parse_fixed_point(text, 3);
    }
}
