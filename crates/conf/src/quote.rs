//! The way back: how a word has to be written so that it is read as it is.

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
    !word.is_empty() && !matches!(word[0], b'#' | b'}') && word.iter().all(plain)
}
