//! Response heads: no panic; arrival in pieces changes nothing; no accepted part has a character that would end a line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moonrest_proto::http1::response::{ResponseBody, ResponseHead, response_framing};
use moonrest_proto::http1::{Method, Parse};

fuzz_target!(|data: &[u8]| {
    let Some((&step, buf)) = data.split_first() else { return };
    let mut head = ResponseHead::new();
    let whole = head.parse(buf);

    let mut pieces = ResponseHead::new();
    let mut last = Ok(Parse::Partial);
    for end in (0..buf.len()).step_by(usize::from(step).max(1)).chain([buf.len()]) {
        last = pieces.parse(&buf[..end]);
        if last != Ok(Parse::Partial) {
            break;
        }
    }
    // An error in a line that has no end yet may be noticed later when it comes in pieces.
    assert!(whole == last || (whole.is_err() && last == Ok(Parse::Partial)));

    match whole {
        Err(error) => assert!(!error.log_message(buf).is_empty()),
        Ok(Parse::Partial) => {}
        Ok(Parse::Complete { len }) => {
            assert!(len <= buf.len() && (100..1000).contains(&head.status));
            let texts = head.fields.iter().flat_map(|field| [field.name, field.value]);
            for span in texts.chain([head.reason, head.status_line]) {
                assert!(!span.of(buf).iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
            }
            for method in [Method::Get, Method::Head, Method::Connect] {
                match response_framing(&head, buf, method) {
                    Ok(framing) => {
                        assert!(!framing.keep_alive || framing.body != ResponseBody::UntilClose);
                    }
                    Err(error) => assert!(!error.log_message(buf).is_empty()),
                }
            }
        }
    }
});
