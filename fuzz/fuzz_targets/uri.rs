//! Targets and paths: no panic; a normalised path stays below its root; what was escaped is decoded back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moonrest_proto::escape::{Kind, Unescape, escape, unescape};
use moonrest_proto::{cookie, date, escape, query, uri};

fuzz_target!(|data: &[u8]| {
    let mut out = Vec::new();
    if let Ok(target) = uri::split(data) {
        for merge_slashes in [false, true] {
            match uri::normalize(target.path, merge_slashes, &mut out) {
                Ok(normalized) => check(&out, normalized.ext, merge_slashes),
                Err(_) => assert!(target.complex),
            }
        }
        if !target.complex {
            assert_eq!(out, target.path);
        }
        let _ = query::find(target.args.unwrap_or_default(), b"a");
    }
    escapes(data);
    for kind in [Unescape::All, Unescape::Uri, Unescape::Redirect] {
        out.clear();
        assert!(unescape(kind, data, &mut out) <= data.len() && out.len() <= data.len());
    }
    let _ = cookie::find([data], b"a");
    let _ = cookie::find_set([data], b"a");
    if let Some(at) = date::parse_http(data) {
        assert!((0..=253_402_300_799).contains(&at) == (date::parse_http(&date::http(at)) == Some(at)));
    }
});

fn check(path: &[u8], ext: Option<std::ops::Range<usize>>, merge_slashes: bool) {
    assert_eq!(path.first(), Some(&b'/'));
    let mut segments = path.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        assert!(segment != b"." && segment != b"..");
        assert!(!merge_slashes || !segment.is_empty() || segments.peek().is_none());
    }
    assert!(!path.contains(&0));
    if let Some(ext) = ext {
        assert!(path[ext.start - 1] == b'.' && ext.end == path.len() && !path[ext].contains(&b'/'));
    }
}

fn escapes(data: &[u8]) {
    for kind in [Kind::Uri, Kind::Args, Kind::UriComponent] {
        let (mut escaped, mut back) = (Vec::new(), Vec::new());
        escape(kind, data, &mut escaped);
        assert_eq!(escaped.len(), data.len() + 2 * escape::count(kind, data));
        unescape(Unescape::All, &escaped, &mut back);
        assert_eq!(back, data);
    }
    let (mut html, mut json) = (Vec::new(), Vec::new());
    escape::html(data, &mut html);
    assert!(!html.iter().any(|byte| matches!(byte, b'<' | b'>' | b'"')));
    escape::json(data, &mut json);
    assert!(json.iter().all(|byte| *byte >= 0x20));
}
