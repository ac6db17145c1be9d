//! FastCGI records (FastCGI specification 1.0, 3.3): written, and read piece by piece.

/// Bytes of a record's header.
pub(super) const HEADER: usize = 8;
/// The most a record holds.
pub(super) const MOST: usize = 65_535;
/// What we send at most in one: a multiple of eight, so that nothing need be padded.
pub(super) const PIECE: usize = 65_528;

pub(super) const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
pub(super) const PARAMS: u8 = 4;
pub(super) const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;

/// Appends the header of a record of `len` bytes, at most [`MOST`], without padding.
pub(super) fn open(kind: u8, len: usize, out: &mut Vec<u8>) {
    let [high, low] = u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
    out.extend_from_slice(&[1, kind, 0, 1, high, low, 0, 0]);
}

/// Sets the length of the record whose header stands at `at`.
pub(super) fn set_length(at: usize, len: usize, out: &mut [u8]) {
    if let Some(place) = out.get_mut(at + 4..at + 6) {
        place.copy_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
    }
}

/// Appends a name or a value's length (FastCGI, 3.4).
pub(super) fn length(len: usize, out: &mut Vec<u8>) {
    match u8::try_from(len) {
        Ok(len) if len < 128 => out.push(len),
        _ => out.extend_from_slice(&(u32::try_from(len).unwrap_or(u32::MAX) | 1 << 31).to_be_bytes()),
    }
}

/// Reads records.
#[derive(Clone, Debug, Default)]
pub(super) struct Reader {
    kind: u8,
    /// Bytes left of the present record's content.
    content: usize,
    padding: usize,
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// More bytes are needed; the input is used up to here.
    More(usize),
    /// Bytes of the answer: a range of the input.
    Output(usize, usize),
    /// The answer's end; records of another kind may follow.
    OutputEnd(usize),
    /// Bytes of what the program complains of.
    Errors(usize, usize),
    /// The request has ended; the input is used up to here.
    End(usize),
}

impl Reader {
    /// The reader as it was before the last `unused` bytes of output.
    pub(super) fn give_back(mut self, unused: usize) -> Self {
        self.content += unused;
        self
    }

    /// The next event from `at` on.
    pub(super) fn next(&mut self, input: &[u8], at: usize) -> Result<Event, String> {
        let mut at = at;
        loop {
            let left = input.len().saturating_sub(at);
            if self.content > 0 {
                let take = self.content.min(left);
                if take == 0 {
                    return Ok(Event::More(at));
                }
                match self.kind {
                    STDOUT => {
                        self.content -= take;
                        return Ok(Event::Output(at, at + take));
                    }
                    STDERR => {
                        self.content -= take;
                        return Ok(Event::Errors(at, at + take));
                    }
                    // The whole record is needed, so that nothing of it is left on the connection.
                    _ if left < self.content + self.padding => return Ok(Event::More(at)),
                    _ => {
                        at += self.content + self.padding;
                        (self.content, self.padding) = (0, 0);
                        return Ok(Event::End(at));
                    }
                }
            }
            if self.padding > 0 {
                let skip = self.padding.min(left);
                self.padding -= skip;
                at += skip;
                if self.padding > 0 {
                    return Ok(Event::More(at));
                }
                continue;
            }
            let Some([version, kind, id1, id0, high, low, padding, _]) =
                input.get(at..at + HEADER).and_then(|header| <[u8; HEADER]>::try_from(header).ok())
            else {
                return Ok(Event::More(at));
            };
            if version != 1 {
                return Err(format!("upstream sent unsupported FastCGI protocol version: {version}"));
            }
            if !matches!(kind, STDOUT | STDERR | END_REQUEST) {
                return Err(format!("upstream sent invalid FastCGI record type: {kind}"));
            }
            if [id1, id0] != [0, 1] {
                let id = u16::from_be_bytes([id1, id0]);
                return Err(format!("upstream sent unexpected FastCGI request id: {id}"));
            }
            self.kind = kind;
            self.content = usize::from(u16::from_be_bytes([high, low]));
            self.padding = usize::from(padding);
            at += HEADER;
            if self.content == 0 {
                match kind {
                    STDOUT => return Ok(Event::OutputEnd(at)),
                    END_REQUEST => return Err("upstream sent invalid FastCGI end of request".to_owned()),
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, content: &[u8], padding: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        open(kind, content.len(), &mut bytes);
        bytes[6] = padding;
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len() + usize::from(padding), 0);
        bytes
    }

    #[test]
    fn records_are_read_however_they_are_cut() {
        let mut all = record(STDOUT, b"hello", 3);
        all.extend(record(STDERR, b"oops", 0));
        all.extend(record(STDOUT, b" world", 2));
        all.extend(record(STDOUT, b"", 0));
        all.extend(record(END_REQUEST, &[0; 8], 0));
        for step in 1..all.len() {
            let (mut reader, mut output, mut errors) = (Reader::default(), Vec::new(), Vec::new());
            let (mut buffer, mut ended) = (Vec::new(), false);
            for part in all.chunks(step) {
                buffer.extend_from_slice(part);
                let mut at = 0;
                loop {
                    match reader.next(&buffer, at).unwrap() {
                        Event::More(used) => {
                            buffer.drain(..used);
                            break;
                        }
                        Event::Output(start, end) => {
                            output.extend_from_slice(&buffer[start..end]);
                            at = end;
                        }
                        Event::Errors(start, end) => {
                            errors.extend_from_slice(&buffer[start..end]);
                            at = end;
                        }
                        Event::OutputEnd(next) => at = next,
                        Event::End(next) => {
                            ended = true;
                            buffer.drain(..next);
                            break;
                        }
                    }
                }
            }
            assert_eq!(
                (output.as_slice(), errors.as_slice(), ended),
                (&b"hello world"[..], &b"oops"[..], true)
            );
            assert!(buffer.is_empty(), "{step}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(Reader::default().next(&[2, 6, 0, 1, 0, 0, 0, 0], 0).is_err());
        assert!(Reader::default().next(&[1, 9, 0, 1, 0, 0, 0, 0], 0).is_err());
        assert!(Reader::default().next(&[1, 6, 0, 2, 0, 0, 0, 0], 0).is_err());
        assert!(Reader::default().next(&[1, 3, 0, 1, 0, 0, 0, 0], 0).is_err());
    }
}
