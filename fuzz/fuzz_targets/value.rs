//! Sizes, times and numbers, names of files, and misspelled words: no panic, and what is read is in range.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moonrest_conf::{did_you_mean, value};

fuzz_target!(|data: &[u8]| {
    let parsers =
        [value::parse_uint, value::parse_size, value::parse_offset, value::parse_msec, value::parse_sec];
    for parser in parsers {
        assert!(parser(data).is_none_or(|value| i64::try_from(value).is_ok()));
    }
    assert!(value::parse_fixed_point(data, 3).is_none_or(|value| i64::try_from(value).is_ok()));
    // Whatever is a number is the same for all of them, but for the unit.
    if let Some(number) = value::parse_uint(data) {
        assert_eq!(value::parse_size(data), Some(number));
        assert_eq!(value::parse_sec(data), Some(number));
        assert_eq!(
            value::parse_msec(data),
            number.checked_mul(1000).filter(|&value| i64::try_from(value).is_ok())
        );
    }
    value::parse_flag(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let (word, rest) = text.split_once(' ').unwrap_or((text, "listen server location"));
        did_you_mean(word, rest.split(' '));
    }
});
