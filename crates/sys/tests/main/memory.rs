//! Memory use, where no other test allocates meanwhile.
use moonrest_sys::memory;

pub(crate) fn what_is_written_to_is_counted() {
    let before = memory::usage().unwrap();
    let block = std::hint::black_box(vec![1_u8; 32 << 20]);
    let full = memory::usage().unwrap();
    assert!(full.anonymous >= before.anonymous + (31 << 20), "{before:?} {full:?}");
    drop(block);
    memory::trim();
    let after = memory::usage().unwrap();
    assert!(after.anonymous < before.anonymous + (16 << 20), "{before:?} {after:?}");
}
