//! WebSocket frames and compressed messages: no panic, no more output than allowed, and the same however bytes arrive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moonrest_proto::websocket::Frame;
use websocket::{Deflater, Inflater, Utf8};

#[allow(dead_code, unused_imports, reason = "a part of another crate, which would bring all of Lua with it")]
#[path = "../../crates/lua/src/websocket.rs"]
mod websocket;

const MOST: usize = 64 * 1024;

fn frames(step: usize, data: &[u8]) {
    let new = || Frame::new(1000, 0x70, data.len() % 2 == 0);
    let whole = new().advance(data);
    let mut frame = new();
    let mut in_pieces = None;
    for end in (0..data.len()).step_by(step).chain([data.len()]) {
        in_pieces = frame.advance(&data[..end]);
        if in_pieces.is_some() {
            break;
        }
        assert!(frame.missing() > 0);
    }
    assert_eq!(whole, in_pieces);
    assert!(whole.is_none_or(|end| end <= data.len()));
}

fn messages(step: usize, data: &[u8]) {
    let (mut whole, mut pieces) = (Inflater::new(), Inflater::new());
    let at_once = whole.part(data, true, false, MOST).map(<[u8]>::to_vec);
    let mut out = Vec::new();
    let mut failed = false;
    let count = data.chunks(step).len();
    for (n, piece) in data.chunks(step).enumerate() {
        match pieces.part(piece, n + 1 == count, false, MOST) {
            Ok(more) => out.extend_from_slice(more),
            Err(_) => {
                failed = true;
                break;
            }
        }
    }
    if let (Ok(at_once), false, true) = (&at_once, failed, count > 0) {
        assert_eq!(at_once, &out);
    }
    assert!(at_once.is_err() || at_once.is_ok_and(|out| out.len() <= MOST));
    // What is compressed comes back.
    let mut deflater = Deflater::new(u32::from(data.len() as u8 % 10), 9 + data.len() as u8 % 7);
    let mut inflater = Inflater::new();
    for forget in [false, true, false] {
        let sent = deflater.part(data, true, forget).expect("memory takes everything").to_vec();
        assert_eq!(inflater.part(&sent, true, forget, data.len()), Ok(data));
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&step, data)) = data.split_first() else { return };
    let step = usize::from(step).max(1);
    frames(step, data);
    messages(step, data);
    let mut utf8 = Some(Utf8::default());
    for piece in data.chunks(step) {
        utf8 = utf8.and_then(|utf8| Utf8::from_bits(utf8.bits()).take(piece));
    }
    let is_text = utf8.is_some_and(|utf8| utf8 == Utf8::default());
    assert_eq!(is_text, std::str::from_utf8(data).is_ok());
});
