//! The way back: how a word has to be written so that it is read as it is.

use crate::lexer::BYTE_ORDER_MARK;

/// The word as it stands in a configuration: bare if that is possible, in double quotes otherwise.
pub fn quote(word: &[u8]) -> Vec<u8> {
    if is_bare(word) {
        return word.to_vec();
    }
    let mut out = Vec::with_capacity(word.len() + 2);
    out.push(b'"');
    for &byte in word {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
    out
}

/// Whether the word means itself when written without quotes.
fn is_bare(word: &[u8]) -> bool {
    let plain =
        |&byte: &u8| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{' | b'"' | b'\'' | b'\\');
    // The mark would be lost if the word came first in its file.
    let special = word.is_empty() || matches!(word[0], b'#' | b'}') || word.starts_with(BYTE_ORDER_MARK);
    !special && word.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(word: &str, expect: &str) {
        assert_eq!(String::from_utf8_lossy(&quote(word.as_bytes())), expect);
    }

    #[test]
    fn only_what_needs_quotes_gets_them() {
        check("a", "a");
        check("$uri", "$uri");
        check("a#}b", "a#}b");
        check("", "\"\"");
        check("#a", "\"#a\"");
        check("}", "\"}\"");
        check("a b", "\"a b\"");
        check("${a}", "\"${a}\"");
        check("\\d\"", "\"\\\\d\\\"\"");
        check("\u{feff}a", "\"\u{feff}a\"");
    }
}
