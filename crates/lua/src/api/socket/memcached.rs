//! `get` of `resty.memcached` as one operation.
//! <https://github.com/memcached/memcached/blob/master/doc/protocol.txt>

use super::exchange::{Answer, LIMIT, ask};
use moonrest_luajit::{Call, LuaResult, Native, Nil, Return, Stack};

pub(super) fn install(stack: &Stack<'_>) -> LuaResult<()> {
    crate::api::module(stack, "moonrest.memcached.native", &[("get", Native::new(get))])
}

/// `get(sock, request) -> value, flags`; both are `nil` where there is no such key. `false` when the answer is another
/// one, which is still to be received.
fn get(call: &mut Call<'_>) -> LuaResult<Return> {
    let request: &[u8] = call.arg(2)?;
    ask(call, request, Value::default())
}

const END: &[u8] = b"END\r\n";

/// `VALUE key flags size`, the value, `END`; or `END` alone.
#[derive(Default)]
struct Value {
    end: usize,
}

/// What the first line says.
struct Head<'a> {
    flags: &'a [u8],
    /// Where the value is.
    at: usize,
    size: usize,
}

/// The line at the beginning, if it is whole and tells of a value.
fn head(bytes: &[u8]) -> Option<Head<'_>> {
    let end = memchr::memchr(b'\n', bytes)?;
    let line = bytes.get(..end)?.strip_suffix(b"\r")?.strip_prefix(b"VALUE ")?;
    let mut words = line.split(|byte| *byte == b' ');
    let (key, flags, size) = (words.next()?, words.next()?, words.next()?);
    let is_number = |word: &[u8]| !word.is_empty() && word.iter().all(u8::is_ascii_digit);
    if words.next().is_some() || key.is_empty() || !is_number(flags) || !is_number(size) || size.len() > 9 {
        return None;
    }
    let size = size.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
    Some(Head { flags, at: end + 1, size })
}

impl Answer for Value {
    fn end(&self) -> usize {
        self.end
    }

    fn advance(&mut self, bytes: &[u8]) -> Option<usize> {
        if bytes.starts_with(END) {
            return Some(END.len());
        }
        memchr::memchr(b'\n', bytes)?;
        let Some(head) = head(bytes) else { return Some(0) };
        let data_end = head.at + head.size;
        self.end = data_end + 2 + END.len();
        if self.end > LIMIT {
            return Some(0);
        }
        let rest = bytes.get(data_end..self.end)?;
        Some(if rest.strip_prefix(b"\r\n") == Some(END) { self.end } else { 0 })
    }

    fn push(&self, stack: &Stack<'_>, bytes: &[u8]) -> LuaResult<()> {
        let found = head(bytes).and_then(|head| Some((bytes.get(head.at..head.at + head.size)?, head.flags)));
        match found {
            Some((data, flags)) => {
                stack.push(data)?;
                stack.push(flags)
            }
            None => {
                stack.push(Nil)?;
                stack.push(Nil)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is taken of these bytes, however they come.
    fn check(input: &str, expected: Option<usize>) {
        assert_eq!(Value::default().advance(input.as_bytes()), expected, "{input:?}");
        let mut slowly = Value::default();
        let found = (0..=input.len()).find_map(|len| slowly.advance(&input.as_bytes()[..len]));
        assert_eq!(found, expected, "{input:?}, byte by byte");
    }

    #[test]
    fn a_value_is_taken_when_it_is_whole_and_all_else_is_left() {
        check("END\r\n", Some(5));
        check("END\r", None);
        check("VALUE key 0 5\r\nvalue\r\nEND\r\n", Some(27));
        check("VALUE key 0 5\r\nvalue\r\nEND\r", None);
        check("VALUE key 0 0\r\n\r\nEND\r\n", Some(22));
        check("VALUE key 0 4\r\nvalue\r\nEND\r\n", Some(0));
        check("VALUE key 0 5 7\r\nvalue\r\nEND\r\n", Some(0));
        check("VALUE key 0 x\r\n", Some(0));
        check("VALUE key 0 999999999\r\n", Some(0));
        check("SERVER_ERROR out of memory\r\n", Some(0));
        check("\n", Some(0));
    }
}
