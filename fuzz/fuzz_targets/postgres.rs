//! Messages of PostgreSQL servers: no panic, parts lie within, and what was a message is one with more behind it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moonrest_proto::postgres::{
    affected_rows, message, parse_authentication, parse_columns, parse_error, parse_row,
};

const MOST: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Ok(Some(found)) = message(rest, MOST) {
        assert!(found.len <= rest.len() && found.body.len() + 5 == found.len);
        let more = [&rest[..found.len], b"more"].concat();
        assert_eq!(message(&more, MOST).unwrap(), Some(found));
        let body = found.body;
        let _ = (parse_authentication(body).is_ok(), affected_rows(body));
        let error = parse_error(body);
        assert!(error.message.len() + error.code.len() + error.severity.len() <= body.len());
        let columns = parse_columns(body).map_or(1, |columns| columns.len());
        assert!(columns <= 65_535);
        for columns in [0, 1, columns] {
            if let Ok(values) = parse_row(body, columns) {
                assert_eq!(values.len(), columns);
            }
        }
        rest = &rest[found.len..];
    }
});
