//! Queries of `resty.mysql` as one operation: the text goes out and the rows come back as tables.
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query_response.html>

use super::exchange::{Answer, LIMIT, ask};
use moonrest_luajit::{Call, Light, LuaError, LuaResult, Native, Return, Stack, Table};
use smallvec::SmallVec;
use std::{cell::RefCell, ops::Range};

/// A packet of this size goes on in the next.
const FULL: usize = 0xff_ffff;
/// What a client sends before a query.
const QUERY: u8 = 3;

thread_local! {
    /// Where a command is put together.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn install(stack: &Stack<'_>) -> LuaResult<()> {
    crate::api::module(stack, "moonrest.mysql.native", &[("query", Native::new(query))])
}

/// `query(sock, text, max_packet, compact, rows) -> rows, status`, or the one packet that the answer is. `false` when it is
/// another one, which is still to be received. `rows` says how many there may be.
fn query(call: &mut Call<'_>) -> LuaResult<Return> {
    let text: &[u8] = call.arg(2)?;
    let (max, compact, expected): (f64, bool, Option<f64>) = (call.arg(3)?, call.arg(4)?, call.arg(5)?);
    if text.len() + 1 >= FULL {
        return Err(LuaError::new("the query is too long"));
    }
    let mut data = SCRATCH.take();
    data.clear();
    let [a, b, c, _] = (text.len() as u32 + 1).to_le_bytes();
    data.extend_from_slice(&[a, b, c, 0, QUERY]);
    data.extend_from_slice(text);
    let expected = expected.map_or(4, |rows| rows.clamp(0.0, 65536.0) as usize);
    let rows = Rows { max: (max as usize).min(FULL - 1), compact, expected, ..Rows::default() };
    let answer = ask(call, &data, rows);
    SCRATCH.set(data);
    answer
}

/// What the next packet is.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Next {
    #[default]
    First,
    /// The description of a column; so many are left.
    Column(usize),
    EndOfColumns,
    Row,
}

/// A set of rows, looked through packet by packet.
#[derive(Default)]
struct Rows {
    max: usize,
    compact: bool,
    expected: usize,
    next: Next,
    /// Where the next packet begins, and where it ends.
    at: usize,
    end: usize,
    columns: SmallVec<[Column; 8]>,
    /// Where the rows begin.
    first: usize,
    count: usize,
    status: u16,
}

struct Column {
    name: Range<usize>,
    is_number: bool,
}

/// Whether texts of a type of columns become numbers: all but 64-bit integers, which a Lua number cannot hold.
const fn is_number(kind: u8) -> bool {
    matches!(kind, 0..=5 | 9 | 0x0d | 0xf6)
}

fn number(text: &[u8]) -> Option<f64> {
    let plain = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
    if !text.iter().all(plain) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A value of a row.
enum Field {
    Null,
    Text(Range<usize>),
}

/// The value at `at`, and where the next one begins.
fn field(packet: &[u8], at: usize) -> Option<(Field, usize)> {
    let rest = packet.get(at + 1..)?;
    let wide = |n: usize| {
        let bytes = rest.get(..n)?;
        let number = bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        usize::try_from(number).ok().map(|size| (size, at + 1 + n))
    };
    let (size, at) = match *packet.get(at)? {
        251 => return Some((Field::Null, at + 1)),
        252 => wide(2)?,
        253 => wide(3)?,
        254 => wide(8)?,
        255 => return None,
        size => (usize::from(size), at + 1),
    };
    let end = at.checked_add(size).filter(|end| *end <= packet.len())?;
    Some((Field::Text(at..end), end))
}

impl Rows {
    /// The name and kind in the description of a column, which is at `at` of what has come.
    fn column(packet: &[u8], at: usize) -> Option<Column> {
        let (mut place, mut name) = (0, 0..0);
        for n in 0..6 {
            let (found, end) = field(packet, place)?;
            place = end;
            if n == 4 {
                let Field::Text(range) = found else { return None };
                name = at + range.start..at + range.end;
            }
        }
        packet.get(place + 10)?;
        Some(Column { name, is_number: is_number(*packet.get(place + 7)?) })
    }

    /// Whether a row is what the columns say.
    fn is_sound(&self, packet: &[u8]) -> bool {
        let mut at = 0;
        self.columns.iter().all(|column| {
            let Some((found, end)) = field(packet, at) else { return false };
            at = end;
            match found {
                Field::Text(range) if column.is_number => packet.get(range).and_then(number).is_some(),
                _ => true,
            }
        })
    }

    /// Takes the packet from `at` to `end`. The length of everything if it was the last, 0 if this is not for us.
    fn take(&mut self, bytes: &[u8], at: usize, end: usize) -> Option<usize> {
        let packet = bytes.get(at..end).unwrap_or_default();
        let kind = packet.first().copied().unwrap_or(0xff);
        let is_end = kind == 0xfe && packet.len() < 9;
        match self.next {
            Next::First => match kind {
                0 | 0xff => return Some(end),
                count @ 1..=64 if packet.len() == 1 => self.next = Next::Column(usize::from(count)),
                _ => return Some(0),
            },
            Next::Column(left) => {
                let column = if kind == 0xff { None } else { Self::column(packet, at) };
                let Some(column) = column else { return Some(0) };
                self.columns.push(column);
                self.next = if left > 1 { Next::Column(left - 1) } else { Next::EndOfColumns };
            }
            Next::EndOfColumns if is_end => (self.next, self.first) = (Next::Row, end),
            Next::Row if is_end => {
                let Some(&[low, high]) = packet.get(3..5) else { return Some(0) };
                self.status = u16::from_le_bytes([low, high]);
                return Some(end);
            }
            Next::Row if kind != 0xff && self.is_sound(packet) => self.count += 1,
            _ => return Some(0),
        }
        None
    }

    fn push_row(&self, stack: &Stack<'_>, bytes: &[u8], packet: &[u8]) -> LuaResult<()> {
        let count = self.columns.len();
        let row = if self.compact { stack.table(count, 0)? } else { stack.table(0, count)? };
        let mut at = 0;
        for (n, column) in self.columns.iter().enumerate() {
            let (found, end) = field(packet, at).ok_or_else(changed)?;
            at = end;
            let text = match found {
                Field::Null => None,
                Field::Text(range) => Some(packet.get(range).unwrap_or_default()),
            };
            let name = bytes.get(column.name.clone()).unwrap_or_default();
            let place = if self.compact { Place::Index(n + 1) } else { Place::Name(name) };
            match text {
                None => place.set(stack, row, Light(0))?,
                Some(text) if column.is_number => place.set(stack, row, number(text))?,
                Some(text) => place.set(stack, row, text)?,
            }
        }
        Ok(())
    }
}

/// Where in its row a value goes.
enum Place<'a> {
    Index(usize),
    Name(&'a [u8]),
}

impl Place<'_> {
    fn set(&self, stack: &Stack<'_>, row: Table<'_>, value: impl moonrest_luajit::IntoLua) -> LuaResult<()> {
        match self {
            Self::Index(n) => row.set_index(stack, *n, value),
            Self::Name(name) => row.raw_set(stack, *name, value),
        }
    }
}

fn changed() -> LuaError {
    LuaError::new("an answer has changed")
}

/// Where the packet at `at` begins and ends; `None` if its head is not all there.
fn packet(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let &[a, b, c, _] = bytes.get(at..at.checked_add(4)?)? else { return None };
    Some((at + 4, at + 4 + u32::from_le_bytes([a, b, c, 0]) as usize))
}

impl Answer for Rows {
    fn end(&self) -> usize {
        self.end
    }

    fn is_within(&self) -> bool {
        self.end > self.at
    }

    fn advance(&mut self, bytes: &[u8]) -> Option<usize> {
        loop {
            let (start, end) = packet(bytes, self.at)?;
            self.end = end;
            if end == start || end - start > self.max || end > LIMIT {
                return Some(0);
            }
            if end > bytes.len() {
                return None;
            }
            if let Some(done) = self.take(bytes, start, end) {
                return Some(done);
            }
            self.at = end;
        }
    }

    fn push(&self, stack: &Stack<'_>, bytes: &[u8]) -> LuaResult<()> {
        if self.next == Next::First {
            return stack.push(bytes.get(4..).unwrap_or_default());
        }
        let rows = stack.table(self.expected.max(self.count), 0)?;
        let mut at = self.first;
        for n in 1..=self.count {
            let (start, end) = packet(bytes, at).ok_or_else(changed)?;
            at = end;
            let row = bytes.get(start..end).ok_or_else(changed)?;
            rows.set_made(stack, n, |stack| self.push_row(stack, bytes, row))?;
        }
        stack.push(f64::from(self.status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(list: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for (n, packet) in list.iter().enumerate() {
            out.extend_from_slice(&(packet.len() as u32).to_le_bytes()[..3]);
            out.push(n as u8 + 1);
            out.extend_from_slice(packet);
        }
        out
    }

    fn column(name: &str, kind: u8) -> Vec<u8> {
        let mut out = b"\x03def\x01d\x01t\x01t".to_vec();
        out.push(name.len() as u8);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\x01n\x0c\x21\0\x40\0\0\0");
        out.push(kind);
        out.extend_from_slice(b"\0\0\0\0\0");
        out
    }

    /// How much is taken, and how many rows of it, however the bytes come.
    fn check(bytes: &[u8], expected: Option<(usize, usize)>) {
        let new = || Rows { max: 1000, ..Rows::default() };
        let mut whole = new();
        assert_eq!(whole.advance(bytes).map(|len| (len, whole.count)), expected);
        let mut slowly = new();
        let found = (0..=bytes.len()).find_map(|len| slowly.advance(&bytes[..len]));
        assert_eq!(found.map(|len| (len, slowly.count)), expected, "byte by byte");
    }

    #[test]
    fn rows_are_taken_when_the_last_packet_is_there() {
        let (id, name) = (column("id", 3), column("name", 0xfd));
        let end = b"\xfe\0\0\x02\0";
        let rows = packets(&[b"\x02", &id, &name, end, b"\x017\x05Grace", b"\x018\xfb", end]);
        check(&rows, Some((rows.len(), 2)));
        check(&rows[..rows.len() - 1], None);
        let more = [rows.as_slice(), b"more"].concat();
        check(&more, Some((rows.len(), 2)));
        let none = packets(&[b"\x02", &id, &name, end, end]);
        check(&none, Some((none.len(), 0)));
        let ok = packets(&[b"\0\x01\0\x02\0\0\0"]);
        check(&ok, Some((ok.len(), 0)));
        let error = packets(&[b"\xff\x28\x04#42000no"]);
        check(&error, Some((error.len(), 0)));
    }

    #[test]
    fn what_makes_no_sense_is_left() {
        let (id, end) = (column("id", 3), b"\xfe\0\0\x02\0");
        check(&packets(&[b""]), Some((0, 0)));
        check(&packets(&[b"\xfbfile"]), Some((0, 0)));
        check(&packets(&[b"\x01", b"\x03def"]), Some((0, 0)));
        check(&packets(&[b"\x01", &id, b"\x017"]), Some((0, 0)));
        check(&packets(&[b"\x01", &id, end, b"\x097"]), Some((0, 0)));
        check(&packets(&[b"\x01", &id, end, b"\x03abc"]), Some((0, 0)));
        check(&packets(&[b"\x01", &id, end, b"\xff\x28\x04"]), Some((0, 0)));
        check(&packets(&[&[0; 1001]]), Some((0, 0)));
    }
}
