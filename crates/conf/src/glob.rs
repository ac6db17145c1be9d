//! Wildcards of `include`: `*`, `?`, `[a-z]`, matched as the C library does.
//! <https://man7.org/linux/man-pages/man7/glob.7.html>

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// Whether nginx takes this name for a pattern.
pub fn is_pattern(path: &Path) -> bool {
    has_wildcard(path.as_os_str().as_bytes())
}

fn has_wildcard(bytes: &[u8]) -> bool {
    memchr::memchr3(b'*', b'?', b'[', bytes).is_some()
}

/// The existing names that match, sorted by byte values. Directories that cannot be read match nothing.
pub fn expand(pattern: &Path) -> Vec<PathBuf> {
    let pattern = pattern.as_os_str().as_bytes();
    let mut found = vec![Vec::new()];
    for component in pattern.split_inclusive(|&byte| byte == b'/') {
        let (name, slash) = match component.strip_suffix(b"/") {
            Some(name) => (name, true),
            None => (component, false),
        };
        found = if has_wildcard(name) {
            found.iter().flat_map(|base| list(base, name, slash)).collect()
        } else {
            let name = [literal(name), if slash { vec![b'/'] } else { vec![] }].concat();
            found.into_iter().map(|base| [base, name.clone()].concat()).collect()
        };
    }
    let mut paths: Vec<_> =
        found.into_iter().map(|path| PathBuf::from(std::ffi::OsString::from_vec(path))).collect();
    paths.retain(|path| path.symlink_metadata().is_ok());
    paths.sort_unstable_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    paths
}

/// The names in a directory that match one component, each after the directory as it was spelled.
fn list(base: &[u8], pattern: &[u8], slash: bool) -> Vec<Vec<u8>> {
    let directory = if base.is_empty() { b"." } else { base };
    let Ok(entries) = fs::read_dir(OsStr::from_bytes(directory)) else {
        return Vec::new();
    };
    let names = entries.flatten().map(|entry| entry.file_name().into_vec());
    let hidden = |name: &[u8]| name.starts_with(b".") && !pattern.starts_with(b".");
    names
        .filter(|name| !hidden(name) && matches(pattern, name))
        .map(|name| [base, &name, if slash { b"/".as_slice() } else { b"" }].concat())
        .collect()
}

/// A component without wildcards, its backslashes taken away.
fn literal(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(&byte) = bytes.next() {
        let escaped = if byte == b'\\' { bytes.next() } else { None };
        out.push(*escaped.unwrap_or(&byte));
    }
    out
}

/// Whether a name matches a component. After a `*` that took too little, it takes one byte more: only the last `*`
/// has to be tried again, so the time is bounded by the product of the lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut pattern, mut name) = (pattern, name);
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', after @ ..] = pattern {
            pattern = after;
            retry = Some((after, name));
            continue;
        }
        let step = match name {
            [] if pattern.is_empty() => return true,
            [] => return false,
            [byte, rest @ ..] => one(pattern, *byte).map(|after| (after, rest)),
        };
        (pattern, name) = match (step, retry) {
            (Some(next), _) => next,
            (None, Some((after, [_, rest @ ..]))) => {
                retry = Some((after, rest));
                (after, rest)
            }
            (None, _) => return false,
        };
    }
}

/// Matches one byte; the rest of the pattern, if it does.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', after @ ..] => Some(after),
        [b'[', set @ ..] => match in_set(set, byte) {
            Some((true, after)) => Some(after),
            Some((false, _)) => None,
            None => (byte == b'[').then_some(set), // no closing bracket: it means itself
        },
        [b'\\', escaped, after @ ..] => (*escaped == byte).then_some(after),
        [literal, after @ ..] => (*literal == byte).then_some(after),
    }
}

/// Whether the byte is in a bracket expression, and the pattern after it; `None` if the bracket is not closed.
fn in_set(set: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let negated = matches!(set.first(), Some(b'!' | b'^'));
    let mut rest = if negated { &set[1..] } else { set };
    let mut found = false;
    let mut first = true;
    loop {
        let (&head, tail) = rest.split_first()?;
        if head == b']' && !first {
            return Some((found != negated, tail));
        }
        first = false;
        if let Some((inside, after)) = class(rest, byte) {
            found |= inside;
            rest = after;
            continue;
        }
        let (low, tail) =
            if head == b'\\' { tail.split_first().map(|(&b, t)| (b, t))? } else { (head, tail) };
        rest = match tail {
            [b'-', high, after @ ..] if *high != b']' => {
                found |= (low..=*high).contains(&byte);
                after
            }
            _ => {
                found |= low == byte;
                tail
            }
        };
    }
}

/// Whether the byte is in a class such as `[:alpha:]`, and the pattern after it.
fn class(rest: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let body = rest.strip_prefix(b"[:")?;
    let end = memchr::memmem::find(body, b":]")?;
    let inside = match &body[..end] {
        b"alpha" => byte.is_ascii_alphabetic(),
        b"digit" => byte.is_ascii_digit(),
        b"alnum" => byte.is_ascii_alphanumeric(),
        b"upper" => byte.is_ascii_uppercase(),
        b"lower" => byte.is_ascii_lowercase(),
        b"xdigit" => byte.is_ascii_hexdigit(),
        b"punct" => byte.is_ascii_punctuation(),
        b"space" => byte.is_ascii_whitespace() || byte == 0x0b,
        b"blank" => matches!(byte, b' ' | b'\t'),
        _ => return None,
    };
    Some((inside, &body[end + 2..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, name: &str, expect: bool) {
        assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expect, "{pattern} {name}");
    }

    #[test]
    fn wildcards_match_as_in_a_shell() {
        check("*.conf", "a.conf", true);
        check("*.conf", ".conf", true);
        check("*.conf", "a.conf~", false);
        check("a*b*c", "aXbXbXc", true);
        check("a*b*c", "aXcXb", false);
        check("?x", "ax", true);
        check("?x", "x", false);
        check("[a-c]1", "b1", true);
        check("[!a-c]1", "b1", false);
        check("[^a-c]1", "d1", true);
        check("[]x]", "]", true);
        check("[a-]", "-", true);
        check("[[:digit:]x]", "7", true);
        check("[[:digit:]x]", "y", false);
        check("[ab", "[ab", true);
        check("\\*", "*", true);
        check("\\*", "a", false);
        check("", "", true);
        check("**", "anything", true);
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        check(&"*a".repeat(200), &"a".repeat(5000), true);
        check(&format!("{}b", "*a".repeat(200)), &"a".repeat(5000), false);
    }
}
