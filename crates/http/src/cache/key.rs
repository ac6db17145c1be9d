//! Names of entries: digests of keys, and of the request fields that `Vary` names.

use super::index::Key;
use crate::request::Request;
use md5::{Digest, Md5};

/// The name of the entry for a key.
pub(crate) fn digest(key: &[u8]) -> Key {
    Md5::digest(key).into()
}

/// The name of a variant: of the entry's own name, its family, and the values of the request's fields that `vary` lists.
pub(crate) fn variant(r: &Request, main: &Key, family: u64, vary: &[u8]) -> Key {
    let head = r.head.borrow();
    let block = r.block.borrow();
    let fields = || head.fields.iter().map(|field| (field.name.of(&block), field.value.of(&block)));
    of_fields(main, family, vary, fields)
}

fn of_fields<'a, I: Iterator<Item = (&'a [u8], &'a [u8])>>(
    main: &Key,
    family: u64,
    vary: &[u8],
    fields: impl Fn() -> I,
) -> Key {
    let mut digest = Md5::new();
    digest.update(main);
    digest.update(family.to_le_bytes());
    for name in words(vary) {
        digest.update(name.to_ascii_lowercase());
        digest.update(b":");
        // Lists of what is accepted mean the same however they are spaced.
        let list = [&b"accept-charset"[..], b"accept-encoding", b"accept-language"];
        let list = list.iter().any(|list| name.eq_ignore_ascii_case(list));
        let mut several = false;
        let mut add = |value: &[u8]| {
            if std::mem::replace(&mut several, true) {
                digest.update(b",");
            }
            digest.update(value);
        };
        for (_, value) in fields().filter(|(field, _)| field.eq_ignore_ascii_case(name)) {
            match list {
                true => words(value).for_each(&mut add),
                false => add(value),
            }
        }
        digest.update(b"\r\n");
    }
    digest.finalize().into()
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| matches!(byte, b' ' | b',')).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(vary: &str, fields: &[(&str, &str)]) -> Key {
        of_fields(&[7; 16], 5, vary.as_bytes(), || {
            fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        })
    }

    #[test]
    fn variants_differ_by_the_named_fields_alone() {
        let gzip = of("Accept-Encoding", &[("accept-encoding", "gzip, br"), ("X", "1")]);
        assert_eq!(gzip, of("accept-encoding", &[("Accept-Encoding", "gzip,br")]));
        assert_eq!(gzip, of("Accept-Encoding", &[("Accept-Encoding", "gzip"), ("Accept-Encoding", "br")]));
        assert_ne!(gzip, of("Accept-Encoding", &[("Accept-Encoding", "gzip")]));
        assert_ne!(of("X", &[("X", "a, b")]), of("X", &[("X", "a,b")]));
        assert_ne!(of("X, Y", &[("X", "a")]), of("X, Y", &[("Y", "a")]));
        assert_ne!(of("X", &[]), of("Y", &[]));
    }

    #[test]
    fn a_name_is_the_keys_digest() {
        assert_eq!(digest(b"")[..4], [0xd4, 0x1d, 0x8c, 0xd9]);
    }
}
