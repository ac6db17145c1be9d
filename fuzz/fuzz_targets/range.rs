//! Range fields: no panic; every range lies inside the content.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moonrest_proto::range::{Outcome, parse};

fuzz_target!(|data: &[u8]| {
    let Some((length, value)) = data.split_first_chunk::<8>() else { return };
    let value = [b"bytes=", value].concat();
    let long = u64::from_le_bytes(*length);
    let mut out = Vec::new();
    for (length, max_ranges) in [(long, None), (long >> 40, None), (1000, Some(3)), (0, Some(1))] {
        match parse(&value, length, max_ranges, &mut out) {
            Outcome::Partial => {
                assert!(!out.is_empty() && out.len() <= max_ranges.map_or(usize::MAX, |max| max as usize));
                assert!(out.iter().all(|range| range.start < range.end && range.end <= length));
            }
            Outcome::Whole | Outcome::NotSatisfiable => {}
        }
    }
});
