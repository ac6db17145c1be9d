//! MySQL's client protocol, the part of a client that logs in and reads results as text.
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html>
//!
//! ```text
//! server: handshake ─► client: login ─► server: ok | switch of the method | more of the method's talk | error
//! client: query ─► server: ok | error | columns, eof, rows, eof
//! ```
//! What passwords become is for the caller to calculate: nothing here knows a digest.

use std::borrow::Cow;

/// The longest part of a packet; a packet whose last part is as long has an empty one behind it.
const PART: usize = 0xff_ffff;

/// A message that cannot be one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Invalid(pub &'static str);

/// What a server says is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServerError {
    pub code: u16,
    /// `42S02` and the like; empty when there is none.
    pub state: Vec<u8>,
    pub message: Vec<u8>,
}

/// A packet in the bytes that have come.
#[derive(Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    pub payload: Cow<'a, [u8]>,
    /// The number that the answer to it follows.
    pub number: u8,
    /// How many bytes of the input it takes.
    pub len: usize,
}

/// The first packet of `input`; `None` when it has not come yet.
///
/// # Errors
/// A packet longer than `most`.
pub fn packet(input: &[u8], most: usize) -> Result<Option<Packet<'_>>, Invalid> {
    let Some((first, number)) = part(input) else { return Ok(None) };
    if first > most {
        return Err(Invalid("packet too long"));
    }
    let Some(payload) = input.get(4..4 + first) else { return Ok(None) };
    if first < PART {
        return Ok(Some(Packet { payload: payload.into(), number, len: 4 + first }));
    }
    let (mut whole, mut at) = (payload.to_vec(), 4 + first);
    loop {
        let Some((len, number)) = part(input.get(at..).unwrap_or_default()) else { return Ok(None) };
        if whole.len() + len > most {
            return Err(Invalid("packet too long"));
        }
        let Some(payload) = input.get(at + 4..at + 4 + len) else { return Ok(None) };
        whole.extend_from_slice(payload);
        at += 4 + len;
        if len < PART {
            return Ok(Some(Packet { payload: whole.into(), number, len: at }));
        }
    }
}

fn part(input: &[u8]) -> Option<(usize, u8)> {
    let [a, b, c, number] = input.first_chunk::<4>()?;
    Some((usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16, *number))
}

/// Appends a packet.
pub fn append_packet(mut number: u8, payload: &[u8], out: &mut Vec<u8>) {
    let mut rest = payload;
    loop {
        let (part, behind) = rest.split_at(rest.len().min(PART));
        let len = u32::try_from(part.len()).unwrap_or(0).to_le_bytes();
        out.extend_from_slice(len.get(..3).unwrap_or_default());
        out.push(number);
        out.extend_from_slice(part);
        if part.len() < PART {
            return;
        }
        rest = behind;
        number = number.wrapping_add(1);
    }
}

/// Commands.
pub mod command {
    pub const QUIT: u8 = 1;
    pub const INIT_DB: u8 = 2;
    pub const QUERY: u8 = 3;
}

/// Appends a command with its text.
pub fn append_command(command: u8, text: &[u8], out: &mut Vec<u8>) {
    let mut payload = Vec::with_capacity(text.len() + 1);
    payload.push(command);
    payload.extend_from_slice(text);
    append_packet(0, &payload, out);
}

/// Reads from the beginning of a payload. Everything that is not there is an error.
struct Reader<'a>(&'a [u8]);

const SHORT: Invalid = Invalid("packet too short");

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Invalid> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Invalid> {
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*array)
    }

    fn u8(&mut self) -> Result<u8, Invalid> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Invalid> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Invalid> {
        self.array().map(u32::from_le_bytes)
    }

    /// Up to a zero byte, which must be there.
    fn text(&mut self) -> Result<&'a [u8], Invalid> {
        let end = memchr::memchr(0, self.0).ok_or(SHORT)?;
        let text = self.take(end)?;
        self.take(1)?;
        Ok(text)
    }

    /// A number of one to nine bytes; `None` for the mark of null.
    fn number(&mut self) -> Result<Option<u64>, Invalid> {
        Ok(Some(match self.u8()? {
            0xfb => return Ok(None),
            0xfc => u64::from(self.u16()?),
            0xfd => {
                let [a, b, c] = self.array()?;
                u64::from(u32::from_le_bytes([a, b, c, 0]))
            }
            0xfe => self.array().map(u64::from_le_bytes)?,
            0xff => return Err(Invalid("malformed number")),
            small => u64::from(small),
        }))
    }

    /// Bytes behind their length, or null.
    fn value(&mut self) -> Result<Option<&'a [u8]>, Invalid> {
        match self.number()? {
            None => Ok(None),
            Some(len) => self.take(usize::try_from(len).map_err(|_| SHORT)?).map(Some),
        }
    }
}

/// What a server says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handshake {
    pub version: Vec<u8>,
    pub thread_id: u32,
    /// Random bytes that the password is mixed with.
    pub scramble: Vec<u8>,
    pub capabilities: u32,
    /// How the server wants the client to show who it is.
    pub method: Vec<u8>,
}

impl Handshake {
    /// Reads the first packet of a server, which may be an error.
    ///
    /// # Errors
    /// A packet that is something else, or another version's.
    pub fn parse(payload: &[u8]) -> Result<Result<Self, ServerError>, Invalid> {
        let mut reader = Reader(payload);
        match reader.u8()? {
            10 => {}
            0xff => return parse_error(payload).map(Err),
            _ => return Err(Invalid("protocol version not supported")),
        }
        let version = reader.text()?.to_vec();
        let thread_id = reader.u32()?;
        let mut scramble = reader.take(8)?.to_vec();
        reader.take(1)?;
        let mut handshake = Self {
            version,
            thread_id,
            capabilities: u32::from(reader.u16()?),
            method: b"mysql_native_password".to_vec(),
            scramble: Vec::new(),
        };
        if !reader.0.is_empty() {
            reader.take(3)?;
            handshake.capabilities |= u32::from(reader.u16()?) << 16;
            let len = usize::from(reader.u8()?);
            reader.take(10)?;
            let more = reader.take(len.saturating_sub(8).max(13))?;
            scramble.extend_from_slice(more.strip_suffix(&[0]).unwrap_or(more));
            if handshake.capabilities & PLUGIN_AUTH != 0 {
                // Some servers leave out the zero at its end.
                let method = reader.0.split(|byte| *byte == 0).next().unwrap_or_default();
                handshake.method = method.to_vec();
            }
        }
        handshake.scramble = scramble;
        Ok(Ok(handshake))
    }
}

const LONG_PASSWORD: u32 = 1;
const LONG_FLAG: u32 = 1 << 2;
const CONNECT_WITH_DB: u32 = 1 << 3;
const PROTOCOL_41: u32 = 1 << 9;
const TRANSACTIONS: u32 = 1 << 13;
const SECURE_CONNECTION: u32 = 1 << 15;
const PLUGIN_AUTH: u32 = 1 << 19;

/// Who logs in, and how.
pub struct Login<'a> {
    pub user: &'a [u8],
    /// What the method makes of the password: at most 255 bytes.
    pub proof: &'a [u8],
    /// Empty for none.
    pub database: &'a [u8],
    pub method: &'a [u8],
    /// The number of a character set, such as 33 for UTF-8.
    pub charset: u8,
}

impl Login<'_> {
    /// Appends the packet that answers the handshake.
    pub fn append(&self, number: u8, out: &mut Vec<u8>) {
        let mut capabilities =
            LONG_PASSWORD | LONG_FLAG | PROTOCOL_41 | TRANSACTIONS | SECURE_CONNECTION | PLUGIN_AUTH;
        if !self.database.is_empty() {
            capabilities |= CONNECT_WITH_DB;
        }
        let mut payload = capabilities.to_le_bytes().to_vec();
        payload.extend_from_slice(&0x00ff_ffff_u32.to_le_bytes());
        payload.push(self.charset);
        payload.extend_from_slice(&[0; 23]);
        payload.extend_from_slice(self.user);
        payload.push(0);
        payload.push(u8::try_from(self.proof.len()).unwrap_or(0));
        if self.proof.len() <= 255 {
            payload.extend_from_slice(self.proof);
        }
        if !self.database.is_empty() {
            payload.extend_from_slice(self.database);
            payload.push(0);
        }
        payload.extend_from_slice(self.method);
        payload.push(0);
        append_packet(number, &payload, out);
    }
}

/// What a server answers a login.
#[derive(Debug, PartialEq, Eq)]
pub enum LoginStep {
    Done,
    /// Another method is wanted, with these random bytes.
    Switch {
        method: Vec<u8>,
        scramble: Vec<u8>,
    },
    /// The method's own talk.
    More(Vec<u8>),
    Refused(ServerError),
}

/// Reads an answer to a login.
///
/// # Errors
/// A packet that is none.
pub fn parse_login_step(payload: &[u8]) -> Result<LoginStep, Invalid> {
    let mut reader = Reader(payload);
    Ok(match reader.u8()? {
        0 => LoginStep::Done,
        1 => LoginStep::More(reader.0.to_vec()),
        0xff => LoginStep::Refused(parse_error(payload)?),
        // Servers before 4.1 ask for a digest that is as good as none.
        0xfe if reader.0.is_empty() => return Err(Invalid("old authentication method not supported")),
        0xfe => {
            let method = reader.text()?.to_vec();
            let scramble = reader.0.strip_suffix(&[0]).unwrap_or(reader.0).to_vec();
            LoginStep::Switch { method, scramble }
        }
        _ => return Err(Invalid("unexpected packet")),
    })
}

fn parse_error(payload: &[u8]) -> Result<ServerError, Invalid> {
    let mut reader = Reader(payload);
    reader.take(1)?;
    let code = reader.u16()?;
    let mut state = Vec::new();
    if let [b'#', rest @ ..] = reader.0 {
        let (digits, message) = rest.split_at_checked(5).ok_or(SHORT)?;
        state = digits.to_vec();
        reader.0 = message;
    }
    Ok(ServerError { code, state, message: reader.0.to_vec() })
}

/// What came of a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Ok {
        affected_rows: u64,
        insert_id: u64,
        /// More results follow this one.
        more: bool,
        /// What the server has to say of it.
        message: Vec<u8>,
    },
    Error(ServerError),
    /// Rows follow, behind so many columns.
    Columns(u16),
}

/// More results follow.
const MORE_RESULTS: u16 = 8;

/// Reads the first packet behind a command.
///
/// # Errors
/// A packet that is no answer; the wish for a local file, which nobody has offered.
pub fn parse_answer(payload: &[u8]) -> Result<Answer, Invalid> {
    let mut reader = Reader(payload);
    match payload.first().ok_or(SHORT)? {
        0 => {
            reader.take(1)?;
            let number = |reader: &mut Reader<'_>| reader.number()?.ok_or(Invalid("malformed number"));
            let (affected_rows, insert_id) = (number(&mut reader)?, number(&mut reader)?);
            let more = reader.u16()? & MORE_RESULTS != 0;
            // How many warnings there are; what follows may have its length before it.
            let _ = reader.u16();
            let rest = reader.0;
            let message = match reader.value() {
                Ok(Some(message)) if reader.0.is_empty() => message,
                _ => rest,
            };
            Ok(Answer::Ok { affected_rows, insert_id, more, message: message.to_vec() })
        }
        0xff => parse_error(payload).map(Answer::Error),
        0xfb => Err(Invalid("the server wants a local file")),
        _ => {
            let count = reader.number()?.and_then(|count| u16::try_from(count).ok());
            match count {
                Some(count @ 1..) if reader.0.is_empty() => Ok(Answer::Columns(count)),
                _ => Err(Invalid("malformed number of columns")),
            }
        }
    }
}

/// What is known of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: Vec<u8>,
    /// One of [`kind`].
    pub kind: u8,
    pub charset: u16,
    pub flags: u16,
}

/// Kinds of columns.
pub mod kind {
    pub const DECIMAL: u8 = 0;
    pub const TINY: u8 = 1;
    pub const SHORT: u8 = 2;
    pub const LONG: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const DOUBLE: u8 = 5;
    pub const NULL: u8 = 6;
    pub const TIMESTAMP: u8 = 7;
    pub const LONG_LONG: u8 = 8;
    pub const INT24: u8 = 9;
    pub const DATE: u8 = 10;
    pub const TIME: u8 = 11;
    pub const DATETIME: u8 = 12;
    pub const YEAR: u8 = 13;
    pub const NEW_DATE: u8 = 14;
    pub const VARCHAR: u8 = 15;
    pub const BIT: u8 = 16;
    pub const NEW_DECIMAL: u8 = 246;
    pub const ENUM: u8 = 247;
    pub const SET: u8 = 248;
    pub const TINY_BLOB: u8 = 249;
    pub const MEDIUM_BLOB: u8 = 250;
    pub const LONG_BLOB: u8 = 251;
    pub const BLOB: u8 = 252;
    pub const VAR_STRING: u8 = 253;
    pub const STRING: u8 = 254;
    pub const GEOMETRY: u8 = 255;
}

/// Reads a column's packet.
///
/// # Errors
/// A packet that is none.
pub fn parse_column(payload: &[u8]) -> Result<Column, Invalid> {
    let mut reader = Reader(payload);
    // catalog, schema, table, original table
    for _ in 0..4 {
        reader.value()?;
    }
    let name = reader.value()?.unwrap_or_default().to_vec();
    reader.value()?;
    reader.number()?;
    let charset = reader.u16()?;
    reader.u32()?;
    Ok(Column { name, charset, kind: reader.u8()?, flags: reader.u16()? })
}

/// Whether a packet is what stands behind columns and rows; an error may stand behind rows too.
///
/// # Errors
/// A malformed error.
pub fn parse_end(payload: &[u8]) -> Result<Option<Result<(), ServerError>>, Invalid> {
    match payload {
        [0xff, ..] => parse_error(payload).map(|error| Some(Err(error))),
        [0xfe, ..] if payload.len() < 9 => Ok(Some(Ok(()))),
        _ => Ok(None),
    }
}

/// Whether an end of rows says that more results follow.
pub fn has_more_results(end: &[u8]) -> bool {
    let mut reader = Reader(end);
    let status = reader.take(3).and_then(|_| reader.u16());
    status.is_ok_and(|status| status & MORE_RESULTS != 0)
}

/// The values of a row, in order.
///
/// # Errors
/// A packet that is no row of so many columns.
pub fn parse_row(payload: &[u8], columns: usize) -> Result<Vec<Option<&[u8]>>, Invalid> {
    let mut reader = Reader(payload);
    let mut values = Vec::with_capacity(columns);
    for _ in 0..columns {
        values.push(reader.value()?);
    }
    if reader.0.is_empty() { Ok(values) } else { Err(Invalid("row too long")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_found_and_joined() {
        let mut out = Vec::new();
        append_packet(3, b"abc", &mut out);
        assert_eq!(out, b"\x03\0\0\x03abc");
        for end in 0..out.len() {
            assert_eq!(packet(&out[..end], 100), Ok(None));
        }
        assert_eq!(packet(&out, 100).unwrap().unwrap().payload, &b"abc"[..]);
        assert_eq!(packet(&out, 2), Err(Invalid("packet too long")));
        for len in [PART - 1, PART, PART + 5] {
            let long = vec![b'x'; len];
            let mut out = Vec::new();
            append_packet(255, &long, &mut out);
            let found = packet(&out, 1 << 30).unwrap().unwrap();
            assert_eq!((found.payload.len(), found.len), (len, out.len()));
            assert_eq!(packet(&out[..out.len() - 1], 1 << 30), Ok(None));
        }
    }

    fn handshake() -> Vec<u8> {
        let mut payload = b"\x0a5.5.5\0\x07\0\0\0abcdefgh\0\xff\xf7\x21\x02\0\xff\x81\x15".to_vec();
        payload.extend_from_slice(&[0; 10]);
        payload.extend_from_slice(b"ijklmnopqrst\0mysql_native_password\0");
        payload
    }

    #[test]
    fn a_server_says_who_it_is() {
        let shown = Handshake::parse(&handshake()).unwrap().unwrap();
        assert_eq!(shown.version, b"5.5.5");
        assert_eq!((shown.thread_id, shown.scramble.as_slice()), (7, &b"abcdefghijklmnopqrst"[..]));
        assert_eq!(shown.method, b"mysql_native_password");
        let whole = handshake();
        for end in 0..whole.len() {
            let _ = Handshake::parse(&whole[..end]);
        }
        let refused = Handshake::parse(b"\xff\x10\x04Too many connections").unwrap().unwrap_err();
        assert_eq!((refused.code, refused.message.as_slice()), (1040, &b"Too many connections"[..]));
        assert!(Handshake::parse(b"\x09old").is_err());
    }

    #[test]
    fn logins_are_answered() {
        let login = Login { user: b"bob", proof: b"pp", database: b"db", method: b"m", charset: 33 };
        let mut out = Vec::new();
        login.append(1, &mut out);
        assert!(out.ends_with(b"bob\0\x02ppdb\0m\0"));
        assert_eq!(parse_login_step(b"\0\0\0\x02\0\0\0"), Ok(LoginStep::Done));
        let switch = parse_login_step(b"\xfecaching_sha2_password\0abc\0").unwrap();
        assert_eq!(
            switch,
            LoginStep::Switch { method: b"caching_sha2_password".to_vec(), scramble: b"abc".to_vec() }
        );
        assert!(parse_login_step(b"\xfe").is_err());
        assert!(
            matches!(parse_login_step(b"\xff\x15\x04#28000no"), Ok(LoginStep::Refused(error)) if error.state == b"28000")
        );
    }

    #[test]
    fn results_are_read() {
        assert_eq!(
            parse_answer(b"\0\x03\xfc\x00\x01\x02\0\0\0"),
            Ok(Answer::Ok { affected_rows: 3, insert_id: 256, more: false, message: Vec::new() })
        );
        for message in [&b"\0\0\0\x02\0\0\0\x02hi"[..], b"\0\0\0\x02\0\0\0hi"] {
            assert!(matches!(parse_answer(message), Ok(Answer::Ok { message, .. }) if message == b"hi"));
        }
        assert_eq!(parse_answer(b"\x02"), Ok(Answer::Columns(2)));
        assert!(parse_answer(b"\xfb/etc/passwd").is_err());
        assert!(parse_answer(b"\x02x").is_err());
        let column = b"\x03def\x01s\x01t\x01t\x02id\x02id\x0c\x3f\0\x0b\0\0\0\x03\x03\x42\0\0\0";
        let column = parse_column(column).unwrap();
        assert_eq!((column.name.as_slice(), column.kind), (&b"id"[..], kind::LONG));
        assert_eq!(parse_row(b"\x011\xfb\x00", 3), Ok(vec![Some(&b"1"[..]), None, Some(b"")]));
        for wrong in [&b"\x011"[..], b"\x05a", b"\x011\x011\x011", b"\xff\x01", b""] {
            assert!(parse_row(wrong, 2).is_err(), "{wrong:?}");
        }
        assert_eq!(parse_end(b"\xfe\0\0\x02\0"), Ok(Some(Ok(()))));
        assert_eq!(parse_end(b"\xfe\0\0\x02\0\0\0\0\0"), Ok(None));
        assert!(has_more_results(b"\xfe\0\0\x0a\0") && !has_more_results(b"\xfe"));
    }
}
