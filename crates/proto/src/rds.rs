//! Resty-DBD-Stream: what a database answered, as one module passes it to another. Written by `drizzle` and `postgres`,
//! read by `rds_json` and `rds_csv`. <https://github.com/openresty/drizzle-nginx-module#output-format>
//!
//! ```text
//! head: endianness u8, version u32, kind u8, code u16, driver's code u16, message (u16 + bytes),
//!       affected rows u64, insert id u64, columns u16
//! column: kind u16, driver's kind u16, name (u16 + bytes)
//! row: 1 u8, then for each column: value (u32 + bytes; all ones: null)          end of rows: 0 u8
//! ```
//! Numbers are in the byte order of the machine.

/// The media type of such a stream.
pub const MEDIA_TYPE: &str = "application/x-resty-dbd-stream";

const VERSION: u32 = 3;
/// A head with the longest message is shorter.
const LONGEST: usize = 70_000;
/// The length that says that there is no value.
const NULL: u32 = u32::MAX;
const ENDIANNESS: u8 = if cfg!(target_endian = "little") { 0 } else { 1 };

/// What stands before the columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// 0 for no error.
    pub code: u16,
    pub driver_code: u16,
    pub message: Vec<u8>,
    pub affected_rows: u64,
    pub insert_id: u64,
    pub columns: u16,
}

/// What is known of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub kind: u16,
    pub driver_kind: u16,
    pub name: Vec<u8>,
}

/// The two highest bits of a column's kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rough {
    Int,
    Float,
    Text,
    Bool,
}

impl Column {
    /// What its values look like.
    pub fn rough(&self) -> Rough {
        match self.kind >> 14 {
            0 => Rough::Int,
            1 => Rough::Float,
            2 => Rough::Text,
            _ => Rough::Bool,
        }
    }
}

/// Kinds of columns, by SQL's names for them.
pub mod kind {
    const INT: u16 = 0;
    const FLOAT: u16 = 1 << 14;
    const TEXT: u16 = 2 << 14;
    const BOOL: u16 = 3 << 14;

    pub const UNKNOWN: u16 = TEXT;
    pub const BIGINT: u16 = 1 | INT;
    pub const BIT: u16 = 2 | TEXT;
    pub const BIT_VARYING: u16 = 3 | TEXT;
    pub const BOOLEAN: u16 = 4 | BOOL;
    pub const CHAR: u16 = 5 | TEXT;
    pub const VARCHAR: u16 = 6 | TEXT;
    pub const DATE: u16 = 7 | TEXT;
    pub const DOUBLE: u16 = 8 | FLOAT;
    pub const INTEGER: u16 = 9 | INT;
    pub const INTERVAL: u16 = 10 | FLOAT;
    pub const DECIMAL: u16 = 11 | FLOAT;
    pub const REAL: u16 = 12 | FLOAT;
    pub const SMALLINT: u16 = 13 | INT;
    pub const TIME_WITH_TIME_ZONE: u16 = 14 | TEXT;
    pub const TIME: u16 = 15 | TEXT;
    pub const TIMESTAMP_WITH_TIME_ZONE: u16 = 16 | TEXT;
    pub const TIMESTAMP: u16 = 17 | TEXT;
    pub const XML: u16 = 18 | TEXT;
    pub const BLOB: u16 = 19 | TEXT;
}

/// Appends bytes behind their length; what the length cannot say is cut off.
fn append_short(bytes: &[u8], out: &mut Vec<u8>) {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_ne_bytes());
    out.extend_from_slice(bytes.get(..usize::from(len)).unwrap_or_default());
}

impl Head {
    /// Appends it.
    pub fn append(&self, out: &mut Vec<u8>) {
        out.push(ENDIANNESS);
        out.extend_from_slice(&VERSION.to_ne_bytes());
        out.push(0);
        out.extend_from_slice(&self.code.to_ne_bytes());
        out.extend_from_slice(&self.driver_code.to_ne_bytes());
        append_short(&self.message, out);
        out.extend_from_slice(&self.affected_rows.to_ne_bytes());
        out.extend_from_slice(&self.insert_id.to_ne_bytes());
        out.extend_from_slice(&self.columns.to_ne_bytes());
    }
}

impl Column {
    /// Appends it.
    pub fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.kind.to_ne_bytes());
        out.extend_from_slice(&self.driver_kind.to_ne_bytes());
        append_short(&self.name, out);
    }
}

/// Appends the beginning of a row.
pub fn append_row(out: &mut Vec<u8>) {
    out.push(1);
}

/// Appends the end of all rows.
pub fn append_end(out: &mut Vec<u8>) {
    out.push(0);
}

/// Appends the length of a value, whose bytes are to follow; `None` for a value that is null.
pub fn append_len(len: Option<u32>, out: &mut Vec<u8>) {
    out.extend_from_slice(&len.unwrap_or(NULL).to_ne_bytes());
}

/// Appends a whole value.
pub fn append_value(value: Option<&[u8]>, out: &mut Vec<u8>) {
    let len = value.map(|value| u32::try_from(value.len()).unwrap_or(NULL - 1));
    append_len(len, out);
    out.extend_from_slice(value.unwrap_or_default());
}

/// The next thing in a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    Head(Head),
    Column(Column),
    /// Another row.
    Row,
    /// A value of so many bytes, or null.
    Value(Option<u32>),
    /// A part of the value; nothing of it is left when `last`.
    Data {
        bytes: &'a [u8],
        last: bool,
    },
    /// The stream is complete.
    End,
}

/// Reads a stream piece by piece. Values are handed out as they come.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    /// The beginning of something whose end has not come.
    held: Vec<u8>,
    columns: u16,
    at: u16,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Head,
    Columns,
    Row,
    Value,
    Data(u32),
    Over,
}

/// Reads numbers and texts from the beginning of a slice; `None` when there is too little.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_ne_bytes)
    }

    fn short(&mut self) -> Option<Vec<u8>> {
        let len = usize::from(self.u16()?);
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(text.to_vec())
    }
}

impl Decoder {
    /// The next event in `input`, which is moved behind it. `None` when more is needed.
    ///
    /// # Errors
    /// What is wrong with the stream, for the error log.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, &'static str> {
        if let State::Data(left) = self.state {
            return Ok(self.data(left, input));
        }
        if let State::Over = self.state {
            return Ok(None);
        }
        if self.held.is_empty() {
            let mut reader = Reader(input);
            let event = self.read(&mut reader)?;
            let rest = reader.0.len();
            if event.is_none() {
                self.held = std::mem::take(input).to_vec();
            } else {
                *input = input.get(input.len() - rest..).unwrap_or_default();
            }
            return Ok(event);
        }
        // What was cut in two is put together, with no more than the longest thing that is read at once.
        let held = self.held.len();
        let mut all = std::mem::take(&mut self.held);
        let more = input.get(..input.len().min(LONGEST)).unwrap_or_default();
        all.extend_from_slice(more);
        let mut reader = Reader(&all);
        let event = self.read(&mut reader)?;
        let used = all.len() - reader.0.len();
        if event.is_none() {
            *input = input.get(more.len()..).unwrap_or_default();
            self.held = all;
            return Ok(None);
        }
        *input = input.get(used.saturating_sub(held)..).unwrap_or_default();
        Ok(event)
    }

    fn read<'a>(&mut self, reader: &mut Reader<'_>) -> Result<Option<Event<'a>>, &'static str> {
        Ok(match self.state {
            State::Head => {
                let Some(head) = read_head(reader)? else { return Ok(None) };
                self.columns = head.columns;
                self.state = if head.columns == 0 { State::Over } else { State::Columns };
                Some(Event::Head(head))
            }
            State::Columns => {
                let column = (|| {
                    Some(Column { kind: reader.u16()?, driver_kind: reader.u16()?, name: reader.short()? })
                })();
                let Some(column) = column else { return Ok(None) };
                if column.name.is_empty() {
                    return Err("column name empty");
                }
                self.at += 1;
                if self.at == self.columns {
                    self.state = State::Row;
                }
                Some(Event::Column(column))
            }
            State::Row => match reader.array() {
                None => None,
                Some([0]) => {
                    self.state = State::Over;
                    Some(Event::End)
                }
                Some([_]) => {
                    (self.state, self.at) = (State::Value, 0);
                    Some(Event::Row)
                }
            },
            State::Value => reader.array().map(u32::from_ne_bytes).map(|len| {
                if matches!(len, 0 | NULL) {
                    self.value_over();
                } else {
                    self.state = State::Data(len);
                }
                Event::Value((len != NULL).then_some(len))
            }),
            State::Data(_) | State::Over => None,
        })
    }

    fn data<'a>(&mut self, left: u32, input: &mut &'a [u8]) -> Option<Event<'a>> {
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        if take == 0 {
            return None;
        }
        let (bytes, rest) = input.split_at_checked(take)?;
        *input = rest;
        let left = left.saturating_sub(u32::try_from(take).unwrap_or(left));
        if left == 0 {
            self.value_over();
        } else {
            self.state = State::Data(left);
        }
        Some(Event::Data { bytes, last: left == 0 })
    }

    fn value_over(&mut self) {
        self.at += 1;
        self.state = if self.at == self.columns { State::Row } else { State::Value };
    }

    /// Whether the stream is complete.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }
}

fn read_head(reader: &mut Reader<'_>) -> Result<Option<Head>, &'static str> {
    let Some([endianness]) = reader.array() else { return Ok(None) };
    if endianness != ENDIANNESS {
        return Err("endian type in the header differ");
    }
    let Some(version) = reader.array().map(u32::from_ne_bytes) else { return Ok(None) };
    if version != VERSION {
        return Err("RDS format version differ");
    }
    let Some([kind]) = reader.array() else { return Ok(None) };
    if kind != 0 {
        return Err("RDS result type must be 0 for now");
    }
    let head = || {
        Some(Head {
            code: reader.u16()?,
            driver_code: reader.u16()?,
            message: reader.short()?,
            affected_rows: reader.u64()?,
            insert_id: reader.u64()?,
            columns: reader.u16()?,
        })
    };
    let mut head = head;
    Ok(head())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut out = Vec::new();
        Head { message: b"fine".to_vec(), affected_rows: 7, columns: 2, ..Head::default() }.append(&mut out);
        Column { kind: kind::INTEGER, driver_kind: 3, name: b"id".to_vec() }.append(&mut out);
        Column { kind: kind::VARCHAR, driver_kind: 4, name: b"name".to_vec() }.append(&mut out);
        append_row(&mut out);
        append_value(Some(b"12"), &mut out);
        append_value(None, &mut out);
        append_row(&mut out);
        append_value(Some(b""), &mut out);
        append_value(Some(b"moon"), &mut out);
        append_end(&mut out);
        out
    }

    /// What a stream says, its pieces being so long.
    fn read(stream: &[u8], piece: usize) -> Result<String, &'static str> {
        let (mut decoder, mut shown) = (Decoder::default(), String::new());
        for mut input in stream.chunks(piece) {
            while let Some(event) = decoder.next(&mut input)? {
                match event {
                    Event::Head(head) => shown.push_str(&format!("{}:{} ", head.columns, head.affected_rows)),
                    Event::Column(column) => {
                        shown.push_str(&format!("{:?} ", column.rough()));
                        shown.push_str(&String::from_utf8_lossy(&column.name));
                        shown.push(' ');
                    }
                    Event::Row => shown.push_str("| "),
                    Event::Value(None) => shown.push_str("null "),
                    Event::Value(Some(len)) => shown.push_str(&format!("{len}:")),
                    Event::Data { bytes, .. } => shown.push_str(&String::from_utf8_lossy(bytes)),
                    Event::End => shown.push('.'),
                }
            }
        }
        if decoder.is_over() { Ok(shown) } else { Err("unfinished") }
    }

    #[test]
    fn what_was_written_is_read_however_it_is_cut() {
        let stream = sample();
        for piece in [1, 2, 3, 7, 1000] {
            let expect = "2:7 Int id Text name | 2:12null | 0:4:moon.";
            assert_eq!(read(&stream, piece).as_deref(), Ok(expect), "{piece}");
        }
        let mut empty = Vec::new();
        Head::default().append(&mut empty);
        assert_eq!(read(&empty, 5).as_deref(), Ok("0:0 "));
    }

    #[test]
    fn broken_streams_are_refused() {
        let stream = sample();
        for end in 0..stream.len() {
            assert_eq!(read(&stream[..end], 4), Err("unfinished"), "{end}");
        }
        for (at, byte) in [(0, 9), (1, 9), (5, 9)] {
            let mut wrong = stream.clone();
            wrong[at] = byte;
            assert!(read(&wrong, 3).is_err());
        }
    }
}
