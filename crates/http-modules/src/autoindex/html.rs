//! A directory as a page.

use super::Entry;
use moonrest_proto::{date::Civil, escape};
use std::io::Write;

/// Columns of a name.
const WIDTH: usize = 50;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// How a page shows its entries.
pub(super) struct Style {
    /// Names are UTF-8, so that a character is more than a byte.
    pub(super) utf8: bool,
    /// Seconds that the times shown are east of Greenwich.
    pub(super) offset: i32,
    /// Sizes in bytes.
    pub(super) exact_size: bool,
}

pub(super) fn page(uri: &[u8], entries: &[Entry], style: &Style) -> Vec<u8> {
    let mut out = Vec::with_capacity(512 + entries.len() * 128);
    out.extend_from_slice(b"<html>\r\n<head><title>Index of ");
    escape::html(uri, &mut out);
    out.extend_from_slice(b"</title></head>\r\n<body>\r\n<h1>Index of ");
    escape::html(uri, &mut out);
    out.extend_from_slice(b"</h1><hr><pre><a href=\"../\">../</a>\r\n");
    for entry in entries {
        link(entry, style.utf8, &mut out);
        let civil = Civil::local(entry.mtime, style.offset);
        let month = MONTHS.get(usize::from(civil.month).wrapping_sub(1)).unwrap_or(&"Jan");
        let _ =
            write!(out, " {:02}-{month}-{} {:02}:{:02} ", civil.day, civil.year, civil.hour, civil.minute);
        size(entry, style.exact_size, &mut out);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"</pre><hr></body>\r\n</html>\r\n");
    out
}

/// The link, with blanks behind it up to the next column. A name too long for its column is cut.
fn link(entry: &Entry, utf8: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"<a href=\"");
    escape::escape(escape::Kind::UriComponent, &entry.name, out);
    if entry.is_dir {
        out.push(b'/');
    }
    out.extend_from_slice(b"\">");
    let (mut len, cut) = measure(&entry.name, utf8);
    if len > WIDTH {
        escape::html(entry.name.get(..cut).unwrap_or_default(), out);
        out.extend_from_slice(b"..&gt;</a>");
        return;
    }
    escape::html(&entry.name, out);
    if entry.is_dir && len < WIDTH {
        out.push(b'/');
        len += 1;
    }
    out.extend_from_slice(b"</a>");
    out.resize(out.len() + WIDTH - len, b' ');
}

/// How many characters a name has, and how many of its bytes are shown when those are too many.
fn measure(name: &[u8], utf8: bool) -> (usize, usize) {
    const SHOWN: usize = WIDTH - 3;
    match std::str::from_utf8(name) {
        Ok(text) if utf8 => {
            (text.chars().count(), text.char_indices().nth(SHOWN).map_or(name.len(), |(at, _)| at))
        }
        _ => (name.len(), SHOWN.min(name.len())),
    }
}

fn size(entry: &Entry, exact: bool, out: &mut Vec<u8>) {
    let _ = match (exact, entry.is_dir) {
        (true, true) => write!(out, "{:>19}", "-"),
        (true, false) => write!(out, "{:>19}", entry.size),
        (false, true) => write!(out, "{:>7}", "-"),
        (false, false) => {
            let (number, unit) = rounded(entry.size);
            match unit {
                Some(unit) => write!(out, "{number:>6}{unit}"),
                None => write!(out, " {number:>6}"),
            }
        }
    };
}

/// A size in the unit that suits it, rounded.
fn rounded(size: u64) -> (u64, Option<char>) {
    let in_units = |unit: u64| size / unit + u64::from(size % unit > unit / 2 - 1);
    match size {
        0..=9999 => (size, None),
        10_000..0x10_0000 => (in_units(1 << 10), Some('K')),
        0x10_0000..0x4000_0000 => (in_units(1 << 20), Some('M')),
        _ => (in_units(1 << 30), Some('G')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, is_dir: bool, size: u64) -> Entry {
        Entry { name: name.into(), is_dir, is_file: !is_dir, mtime: 23_349_600, size }
    }

    fn check(entry: &Entry, utf8: bool, exact_size: bool, expect: &str) {
        let style = Style { utf8, offset: 3600, exact_size };
        let page = page(b"/<d>/", std::slice::from_ref(entry), &style);
        let page = String::from_utf8(page).unwrap();
        assert!(page.starts_with("<html>\r\n<head><title>Index of /&lt;d&gt;/</title></head>\r\n<body>\r\n"));
        assert_eq!(page.lines().nth(4).unwrap(), expect);
    }

    #[test]
    fn lines_have_columns() {
        let blanks = " ".repeat(47);
        check(
            &entry("a&b", false, 12345),
            false,
            true,
            &format!("<a href=\"a%26b\">a&amp;b</a>{blanks} 28-Sep-1970 07:00               12345"),
        );
        check(
            &entry("dir", true, 4096),
            false,
            false,
            &format!("<a href=\"dir/\">dir/</a>{} 28-Sep-1970 07:00       -", " ".repeat(46)),
        );
    }

    #[test]
    fn long_names_are_cut_where_a_character_ends() {
        let (n50, n51) = ("x".repeat(50), "x".repeat(51));
        check(
            &entry(&n50, true, 0),
            false,
            false,
            &format!("<a href=\"{n50}/\">{n50}</a> 28-Sep-1970 07:00       -"),
        );
        check(
            &entry(&n51, false, 9999),
            false,
            false,
            &format!("<a href=\"{n51}\">{}..&gt;</a> 28-Sep-1970 07:00    9999", "x".repeat(47)),
        );
        let cyrillic = "ж".repeat(51);
        check(
            &entry(&cyrillic, false, 10_000),
            true,
            false,
            &format!(
                "<a href=\"{}\">{}..&gt;</a> 28-Sep-1970 07:00     10K",
                "%D0%B6".repeat(51),
                "ж".repeat(47)
            ),
        );
        check(
            &entry("ж", false, 0),
            true,
            false,
            &format!("<a href=\"%D0%B6\">ж</a>{} 28-Sep-1970 07:00       0", " ".repeat(49)),
        );
    }

    #[test]
    fn sizes_are_rounded() {
        assert_eq!(rounded(9999), (9999, None));
        assert_eq!(rounded(10_000), (10, Some('K')));
        assert_eq!(rounded((1 << 20) - 1), (1024, Some('K')));
        assert_eq!(rounded(1 << 20), (1, Some('M')));
        assert_eq!(rounded((1 << 20) * 3 / 2), (2, Some('M')));
        assert_eq!(rounded(5 << 30), (5, Some('G')));
    }
}
