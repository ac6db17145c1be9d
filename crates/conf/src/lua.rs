//! Finds the end of a Lua block: the brace that closes it, past strings and comments.
//! <https://github.com/openresty/lua-nginx-module#content_by_lua_block>

use memchr::{memchr, memchr3, memmem};

/// Why a Lua block has no end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unclosed {
    /// The text is over; the offset of the opening brace seen last, if it is not that of the block.
    Block { last_open: Option<usize> },
    /// A long string or comment at this offset lacks this bracket.
    LongBracket { at: usize, closing: Vec<u8> },
}

/// Length of the Lua text before the brace that closes its block; `text` begins after the opening one.
pub(crate) fn body_len(text: &[u8]) -> Result<usize, Unclosed> {
    let mut depth = 0_usize;
    let mut last_open = None;
    let mut pos = 0;
    // An open string ends with its line. That is no Lua; what else is quoted on that line means nothing.
    let mut no_strings_before = 0;
    while let Some(&byte) = text.get(pos) {
        match byte {
            b'{' => {
                depth += 1;
                last_open = Some(pos);
                pos += 1;
            }
            b'}' if depth == 0 => return Ok(pos),
            b'}' => {
                depth -= 1;
                pos += 1;
            }
            b'[' => pos = long_bracket(text, pos, pos)?,
            b'-' => pos = comment(text, pos)?,
            b'"' | b'\'' if pos >= no_strings_before => match short_string(text, pos) {
                Ok(end) => pos = end,
                Err(line_end) => {
                    no_strings_before = line_end;
                    pos += 1;
                }
            },
            _ => pos += 1,
        }
    }
    Err(Unclosed::Block { last_open })
}

/// The offset after a comment, long or to the end of its line, or after what is no comment.
fn comment(text: &[u8], pos: usize) -> Result<usize, Unclosed> {
    if text.get(pos + 1) != Some(&b'-') {
        return Ok(pos + 1);
    }
    let body = pos + 2;
    if text.get(body) == Some(&b'[') {
        let end = long_bracket(text, body, pos)?;
        if end > body + 1 {
            return Ok(end);
        }
    }
    Ok(memchr(b'\n', &text[body..]).map_or(text.len(), |at| body + at))
}

/// The offset after a long bracket that opens at `pos`, or after its first byte if none does.
fn long_bracket(text: &[u8], pos: usize, from: usize) -> Result<usize, Unclosed> {
    let level = text[pos + 1..].iter().take_while(|&&byte| byte == b'=').count();
    let inner = pos + level + 2;
    if text.get(inner - 1) != Some(&b'[') {
        return Ok(pos + 1);
    }
    let mut closing = vec![b'='; level + 2];
    closing[0] = b']';
    closing[level + 1] = b']';
    match memmem::find(&text[inner..], &closing) {
        Some(at) => Ok(inner + at + closing.len()),
        None => Err(Unclosed::LongBracket { at: from, closing }),
    }
}

/// The offset after a string, or that of the line end before which it is not closed.
fn short_string(text: &[u8], pos: usize) -> Result<usize, usize> {
    let quote = text[pos];
    let mut at = pos + 1;
    while let Some(found) = text.get(at..).and_then(|rest| memchr3(b'\\', b'\n', quote, rest)) {
        at += found;
        match text[at] {
            b'\\' => at = after_escape(text, at),
            b'\n' => return Err(at),
            _ => return Ok(at + 1),
        }
    }
    Err(text.len())
}

/// The offset after a backslash and what it escapes: one byte, a line end, or with `\z` all white space.
fn after_escape(text: &[u8], at: usize) -> usize {
    match (text.get(at + 1), text.get(at + 2)) {
        (Some(b'\r'), Some(b'\n')) => at + 3,
        (Some(b'z'), _) => {
            at + 2 + text[at + 2..].iter().take_while(|byte| byte.is_ascii_whitespace()).count()
        }
        _ => at + 2,
    }
}
