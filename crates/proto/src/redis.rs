//! Redis's protocol: commands written, replies measured. Nothing is kept of a reply; what passes is only watched for its
//! end. <https://redis.io/docs/latest/develop/reference/protocol-spec/>

/// How deep lists may lie in lists.
const MAX_DEPTH: usize = 32;
/// A number and what belongs to it.
const MAX_HEAD: usize = 32;
/// What one reply may hold: Redis's own limit.
const MAX_LEN: u64 = 512 << 20;

/// Appends a command: a list of texts of any bytes.
pub fn command<T: AsRef<[u8]>>(words: &[T], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        let word = word.as_ref();
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether a reply can begin so.
pub fn begins_reply(byte: u8) -> bool {
    matches!(byte, b'+' | b'-' | b':' | b'$' | b'*')
}

/// Finds the end of a reply, piece by piece.
#[derive(Debug, Default)]
pub struct Reply {
    /// Items that the open lists still lack, the innermost last.
    open: Vec<u64>,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// An item begins here.
    #[default]
    Item,
    /// Inside a line of text.
    Line,
    /// So many bytes are left of a text, its line end included.
    Text(u64),
    /// The reply is complete.
    Over,
}

/// A reply that cannot be one, at this byte of the input.
#[derive(Debug, PartialEq, Eq)]
pub struct Invalid(pub usize);

impl Reply {
    /// Whether the reply is complete.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Looks at more of a reply; gives how many bytes of the input belong to it. What is left, if the reply is not over,
    /// must be given again with more behind it.
    ///
    /// # Errors
    /// Bytes that no reply has there.
    pub fn watch(&mut self, input: &[u8]) -> Result<usize, Invalid> {
        let mut at = 0;
        while self.state != State::Over {
            let rest = input.get(at..).unwrap_or_default();
            let used = self.step(rest).map_err(|Invalid(more)| Invalid(at + more))?;
            if used == 0 {
                break;
            }
            at += used;
        }
        Ok(at)
    }

    /// The next part; 0 when more is needed.
    fn step(&mut self, rest: &[u8]) -> Result<usize, Invalid> {
        match self.state {
            State::Over => Ok(0),
            State::Item => self.item(rest),
            State::Line => Ok(self.line(rest)),
            State::Text(left @ ..=2) => {
                // nginx: the bytes at a text's end are checked like all others.
                let end = b"\r\n".get(2 - usize::try_from(left).unwrap_or(2)..).unwrap_or_default();
                let take = end.len().min(rest.len());
                if rest.get(..take) != end.get(..take) {
                    return Err(Invalid(0));
                }
                match left - take as u64 {
                    0 => self.complete(),
                    left => self.state = State::Text(left),
                }
                Ok(take)
            }
            State::Text(left) => {
                let take = usize::try_from(left - 2).unwrap_or(usize::MAX).min(rest.len());
                self.state = State::Text(left - take as u64);
                Ok(take)
            }
        }
    }

    fn item(&mut self, rest: &[u8]) -> Result<usize, Invalid> {
        let Some(kind) = rest.first() else { return Ok(0) };
        match kind {
            b'+' | b'-' | b':' => {
                self.state = State::Line;
                Ok(1)
            }
            b'$' | b'*' => {
                let Some((number, used)) = head(rest)? else { return Ok(0) };
                match number {
                    None | Some(0) if *kind == b'*' => self.complete(),
                    None => self.complete(),
                    Some(len) if *kind == b'$' => self.state = State::Text(len + 2),
                    Some(count) => {
                        if self.open.len() >= MAX_DEPTH {
                            return Err(Invalid(0));
                        }
                        self.open.push(count);
                    }
                }
                Ok(used)
            }
            _ => Err(Invalid(0)),
        }
    }

    fn line(&mut self, rest: &[u8]) -> usize {
        match memchr::memchr(b'\n', rest) {
            Some(end) => {
                self.complete();
                end + 1
            }
            None => rest.len(),
        }
    }

    /// An item is complete, and perhaps the lists it ends.
    fn complete(&mut self) {
        self.state = State::Item;
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return;
            }
            self.open.pop();
        }
        self.state = State::Over;
    }
}

/// The number of a line such as `$5`, `None` being -1, and the line's length with its end.
fn head(rest: &[u8]) -> Result<Option<(Option<u64>, usize)>, Invalid> {
    let Some(end) = memchr::memchr(b'\n', rest.get(..MAX_HEAD.min(rest.len())).unwrap_or_default()) else {
        return if rest.len() >= MAX_HEAD { Err(Invalid(MAX_HEAD)) } else { Ok(None) };
    };
    let line = rest.get(1..end).and_then(|line| line.strip_suffix(b"\r"));
    let number = match line {
        Some(b"-1") => None,
        Some(digits) => Some(number(digits).ok_or(Invalid(1))?),
        None => return Err(Invalid(end)),
    };
    Ok(Some((number, end + 1)))
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 10 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    (number <= MAX_LEN).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The length of the reply that `text` begins with, told byte by byte and all at once.
    fn check(text: &str, expect: Result<usize, ()>) {
        let text = text.as_bytes();
        let mut reply = Reply::default();
        let at_once = reply.watch(text).map_err(drop);
        if let Ok(len) = expect {
            assert_eq!((at_once, reply.is_over()), (Ok(len), true));
        } else {
            assert_eq!(at_once, Err(()));
        }
        let (mut reply, mut start) = (Reply::default(), 0);
        for end in 0..=text.len() {
            if reply.is_over() {
                break;
            }
            match reply.watch(&text[start..end]) {
                Ok(used) => start += used,
                Err(_) => return assert_eq!(expect, Err(())),
            }
        }
        assert_eq!(expect, if reply.is_over() { Ok(start) } else { Err(()) });
    }

    #[test]
    fn replies_end_where_they_end() {
        check("+OK\r\n+more", Ok(5));
        check("-ERR what\r\n", Ok(11));
        check(":12\r\n", Ok(5));
        check("$3\r\na\nb\r\n:1", Ok(9));
        check("$0\r\n\r\n", Ok(6));
        check("$-1\r\n", Ok(5));
        check("*-1\r\n", Ok(5));
        check("*0\r\n", Ok(4));
        check("*2\r\n$1\r\na\r\n*1\r\n:1\r\n:2", Ok(19));
    }

    #[test]
    fn impossible_replies_are_refused() {
        check("OK\r\n", Err(()));
        check("$x\r\n", Err(()));
        check("$-2\r\n", Err(()));
        check("$3\r\nabcd\r\n", Err(()));
        check("$99999999999999999999\r\n", Err(()));
        check("$600000000\r\n", Err(()));
        check("$00000000000000000000000000000000000001\r\n", Err(()));
        check("$3\nabc\r\n", Err(()));
        check(&"*1\r\n".repeat(40), Err(()));
    }

    #[test]
    fn commands_carry_any_bytes() {
        let mut out = Vec::new();
        command(&[&b"set"[..], b"\r\n", b""], &mut out);
        assert_eq!(out, b"*3\r\n$3\r\nset\r\n$2\r\n\r\n\r\n$0\r\n\r\n");
    }
}
