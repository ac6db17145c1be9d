//! A directory as JSON, or as a call with it.

use super::Entry;
use moonrest_proto::{date, escape};
use std::io::Write;

pub(super) fn text(entries: &[Entry], callback: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + entries.len() * 112);
    if let Some(callback) = callback {
        // The comment keeps the answer from being taken for something else (Flash).
        out.extend_from_slice(b"/* callback */\r\n");
        out.extend_from_slice(callback);
        out.push(b'(');
    }
    out.push(b'[');
    for (n, entry) in entries.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"\r\n{ \"name\":\"");
        escape::json(&entry.name, &mut out);
        out.extend_from_slice(b"\", \"type\":\"");
        out.extend_from_slice(entry.kind().as_bytes());
        out.extend_from_slice(b"\", \"mtime\":\"");
        out.extend_from_slice(&date::http(entry.mtime));
        out.push(b'"');
        if entry.is_file {
            let _ = write!(out, ", \"size\":{}", entry.size);
        }
        out.extend_from_slice(b" }");
    }
    out.extend_from_slice(b"\r\n]");
    if callback.is_some() {
        out.extend_from_slice(b");");
    }
    out
}

impl Entry {
    /// The word for it in JSON and XML.
    pub(super) fn kind(&self) -> &'static str {
        match (self.is_dir, self.is_file) {
            (true, _) => "directory",
            (false, true) => "file",
            (false, false) => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_become_objects() {
        let entries = [
            Entry { name: b"d".to_vec(), is_dir: true, is_file: false, mtime: 0, size: 9 },
            Entry { name: b"a\"".to_vec(), is_dir: false, is_file: true, mtime: 0, size: 9 },
        ];
        let expect = "[\r\n{ \"name\":\"d\", \"type\":\"directory\", \"mtime\":\"Thu, 01 Jan 1970 00:00:00 GMT\" },\
            \r\n{ \"name\":\"a\\\"\", \"type\":\"file\", \"mtime\":\"Thu, 01 Jan 1970 00:00:00 GMT\", \"size\":9 }\r\n]";
        assert_eq!(String::from_utf8(text(&entries, None)).unwrap(), expect);
        assert_eq!(text(&[], None), b"[\r\n]");
        assert_eq!(text(&[], Some(b"f")), b"/* callback */\r\nf([\r\n]);");
    }
}
