//! Packets of MySQL servers: no panic, parts lie within, and what was a packet is one with more behind it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moonrest_proto::mysql::{
    Handshake, has_more_results, packet, parse_answer, parse_column, parse_end, parse_login_step, parse_row,
};

const MOST: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Ok(Some(found)) = packet(rest, MOST) {
        assert!(found.len <= rest.len() && found.payload.len() <= MOST && found.len >= 4);
        let more = [&rest[..found.len], b"more"].concat();
        let again = packet(&more, MOST).unwrap().unwrap();
        assert_eq!((again.len, again.number, &again.payload), (found.len, found.number, &found.payload));
        let payload = &found.payload;
        let _ = (Handshake::parse(payload).is_ok(), parse_login_step(payload).is_ok());
        let _ = (parse_answer(payload).is_ok(), parse_column(payload).is_ok(), parse_end(payload).is_ok());
        let _ = has_more_results(payload);
        for columns in [0, 1, 3, 4096] {
            if let Ok(values) = parse_row(payload, columns) {
                assert_eq!(values.len(), columns);
                assert!(values.iter().flatten().map(|value| value.len()).sum::<usize>() <= payload.len());
            }
        }
        rest = &rest[found.len..];
    }
});
