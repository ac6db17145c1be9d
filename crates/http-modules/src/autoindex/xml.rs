//! A directory as XML.

use super::Entry;
use moonrest_proto::{date::Civil, escape};
use std::io::Write;

pub(super) fn text(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + entries.len() * 96);
    out.extend_from_slice(b"<?xml version=\"1.0\"?>\r\n<list>\r\n");
    for entry in entries {
        let time = Civil::from_unix(entry.mtime);
        let _ = write!(
            out,
            "<{} mtime=\"{:4}-{:02}-{:02}T{:02}:{:02}:{:02}Z\"",
            entry.kind(),
            time.year,
            time.month,
            time.day,
            time.hour,
            time.minute,
            time.second
        );
        if entry.is_file {
            let _ = write!(out, " size=\"{}\"", entry.size);
        }
        out.push(b'>');
        escape::html(&entry.name, &mut out);
        let _ = write!(out, "</{}>\r\n", entry.kind());
    }
    out.extend_from_slice(b"</list>\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_become_elements() {
        let entry = |name: &str, is_file| Entry {
            name: name.into(),
            is_dir: false,
            is_file,
            mtime: 23_349_600,
            size: 9,
        };
        let expect = "<?xml version=\"1.0\"?>\r\n<list>\r\n\
            <file mtime=\"1970-09-28T06:00:00Z\" size=\"9\">a&lt;b</file>\r\n\
            <other mtime=\"1970-09-28T06:00:00Z\">s</other>\r\n</list>\r\n";
        assert_eq!(String::from_utf8(text(&[entry("a<b", true), entry("s", false)])).unwrap(), expect);
    }
}
