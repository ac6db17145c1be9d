//! Replies of Redis servers: no panic, and the end of a reply is the same however its bytes arrive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moonrest_proto::redis::Reply;

fuzz_target!(|data: &[u8]| {
    let Some((&step, input)) = data.split_first() else { return };
    let mut whole = Reply::default();
    let at_once = whole.watch(input);
    let (mut pieces, mut start) = (Reply::default(), 0);
    let mut in_pieces = Ok(());
    for end in (0..input.len()).step_by(usize::from(step).max(1)).chain([input.len()]) {
        if pieces.is_over() {
            break;
        }
        match pieces.watch(&input[start..end]) {
            Ok(used) => {
                assert!(start + used <= end);
                start += used;
            }
            Err(_) => {
                in_pieces = Err(());
                break;
            }
        }
    }
    assert_eq!(at_once.is_ok(), in_pieces.is_ok());
    if let Ok(used) = at_once {
        assert_eq!((used, whole.is_over()), (start, pieces.is_over()));
    }
});
