//! Request heads: no panic; arrival in pieces changes nothing; what is accepted can be written again from its parts
//! and says the same; no accepted part has a character that would end a line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moonrest_proto::http1::framing::check_method;
use moonrest_proto::http1::{
    FieldRules, HeadError, HeadLimits, Known, Parse, RequestHead, Version, framing, host,
};
use moonrest_proto::uri;

const LIMITS: HeadLimits = HeadLimits { first: 64, large: 256, large_count: 4 };
const ROOMY: HeadLimits = HeadLimits { first: 1 << 20, large: 1 << 20, large_count: 4 };

fuzz_target!(|data: &[u8]| {
    let Some((&step, buf)) = data.split_first() else { return };
    let mut head = RequestHead::new();
    let whole = head.parse(buf, &ROOMY);
    let mut pieces = RequestHead::new();
    compare(buf, whole, feed(&mut pieces, buf, usize::from(step).max(1), &ROOMY));
    let mut limited = RequestHead::new();
    let small = limited.parse(buf, &LIMITS);
    if let (Ok(Parse::Complete { len }), Ok(Parse::Complete { len: same })) = (whole, small) {
        assert_eq!(len, same);
        assert!(len <= head.start() + LIMITS.total());
    }

    match whole {
        Err(error) => {
            assert!((400..=505).contains(&error.status()) && !error.log_message(buf).is_empty());
        }
        Ok(Parse::Partial) => {}
        Ok(Parse::Complete { len }) => {
            assert!(len <= buf.len());
            check(&mut head, buf);
        }
    }
});

fn feed(head: &mut RequestHead, buf: &[u8], step: usize, limits: &HeadLimits) -> Result<Parse, HeadError> {
    for end in (step..buf.len()).step_by(step) {
        match head.parse(&buf[..end], limits) {
            Ok(Parse::Partial) => {}
            done => return done,
        }
    }
    head.parse(buf, limits)
}

/// An error in a line that has no end yet may be noticed later when it comes in pieces.
fn compare(buf: &[u8], whole: Result<Parse, HeadError>, pieces: Result<Parse, HeadError>) {
    if whole.is_err() && pieces == Ok(Parse::Partial) {
        assert!(buf.len() > 64);
    } else {
        assert_eq!(whole, pieces);
    }
}

fn check(head: &mut RequestHead, buf: &[u8]) {
    for span in [head.method_name, head.target, head.path, head.args, head.host, head.scheme, head.protocol] {
        assert!(span.of(buf).iter().all(|byte| *byte > 0x20 && *byte != 0x7f));
    }
    for field in &head.fields {
        let name = field.name.of(buf);
        assert!(!name.is_empty() && name.iter().all(|byte| *byte > 0x20 && *byte != b':' && *byte != 0x7f));
        assert!(!field.value.of(buf).iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        assert_eq!(Known::lookup(name), field.known);
    }
    let mut out = Vec::new();
    let _ = uri::normalize(head.path.of(buf), true, &mut out);
    let _ = host::validate(head.host.of(buf), &mut out);
    let verdict = framing(head, buf);
    if let Ok(framing) = &verdict {
        let _ = check_method(head, framing, true);
    }
    write_and_read(head, buf);
    let _ = head.filter(FieldRules::default(), 100, |_| ());
    let _ = framing(head, buf).map_err(|error| error.log_message(buf));
}

/// What is passed on must be read by the next parser as it was read here.
fn write_and_read(head: &RequestHead, buf: &[u8]) {
    if head.version == Version::Http09 || head.has_host {
        return;
    }
    let mut copy = [head.method_name.of(buf), b" ", head.target.of(buf), b" HTTP/1.1\r\n"].concat();
    for field in &head.fields {
        copy.extend_from_slice(&[field.name.of(buf), b": ", field.value.of(buf), b"\r\n"].concat());
    }
    copy.extend_from_slice(b"\r\n");
    let mut again = RequestHead::new();
    assert_eq!(again.parse(&copy, &ROOMY), Ok(Parse::Complete { len: copy.len() }));
    assert_eq!(again.fields.len(), head.fields.len());
    for (a, b) in again.fields.iter().zip(&head.fields) {
        assert_eq!(a.name.of(&copy), b.name.of(buf));
        assert_eq!(a.value.of(&copy), b.value.of(buf));
    }
    assert_eq!(again.path.of(&copy), head.path.of(buf));
    assert_eq!(again.args.of(&copy), head.args.of(buf));
}
