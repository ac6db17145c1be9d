//! PostgreSQL's frontend/backend protocol, version 3: the part of a client that logs in and asks one question at a time.
//! <https://www.postgresql.org/docs/current/protocol.html>
//!
//! ```text
//! client: startup ─► server: authentication …, parameters, key, ready
//! client: parse, bind, describe, execute, sync ─► server: … row description, rows, complete | error …, ready
//! ```
//! What passwords become is for the caller to calculate: nothing here knows a digest.

/// A message that cannot be one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Invalid(pub &'static str);

const SHORT: Invalid = Invalid("message too short");

/// A message's letter and what it holds.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Message<'a> {
    pub kind: u8,
    pub body: &'a [u8],
    /// How many bytes of the input it takes.
    pub len: usize,
}

/// The first message of `input`; `None` when it has not come yet.
///
/// # Errors
/// A length that none has, or one longer than `most`.
pub fn message(input: &[u8], most: usize) -> Result<Option<Message<'_>>, Invalid> {
    let Some((head, rest)) = input.split_first_chunk::<5>() else { return Ok(None) };
    let [kind, a, b, c, d] = *head;
    let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    let len = len.checked_sub(4).ok_or(Invalid("malformed length"))?;
    if len > most {
        return Err(Invalid("message too long"));
    }
    Ok(rest.get(..len).map(|body| Message { kind, body, len: len + 5 }))
}

/// Appends a message.
fn append(kind: u8, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    append_untyped(out, body);
}

fn append_untyped(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let len = u32::try_from(out.len() - start).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&len);
    }
}

/// A text as the protocol ends it; what stands behind a zero in it is left out.
fn append_text(text: &[u8], out: &mut Vec<u8>) {
    out.extend(text.iter().take_while(|byte| **byte != 0));
    out.push(0);
}

/// Appends the first message of a client, with its parameters by name.
pub fn append_startup(parameters: &[(&str, &[u8])], out: &mut Vec<u8>) {
    append_untyped(out, |out| {
        out.extend_from_slice(&0x0003_0000_u32.to_be_bytes());
        for (name, value) in parameters {
            append_text(name.as_bytes(), out);
            append_text(value, out);
        }
        out.push(0);
    });
}

/// Appends a password, in clear or as a digest.
pub fn append_password(password: &[u8], out: &mut Vec<u8>) {
    append(b'p', out, |out| append_text(password, out));
}

/// Appends the beginning of a method of SASL.
pub fn append_sasl_start(method: &str, first: &[u8], out: &mut Vec<u8>) {
    append(b'p', out, |out| {
        append_text(method.as_bytes(), out);
        out.extend_from_slice(&u32::try_from(first.len()).unwrap_or(0).to_be_bytes());
        out.extend_from_slice(first);
    });
}

/// Appends the next part of a method's talk.
pub fn append_sasl(data: &[u8], out: &mut Vec<u8>) {
    append(b'p', out, |out| out.extend_from_slice(data));
}

/// Appends a query whose values are to come as text. It may be several at once.
pub fn append_simple_query(sql: &[u8], out: &mut Vec<u8>) {
    append(b'Q', out, |out| append_text(sql, out));
}

/// Appends everything that asks one query without parameters; `binary` says how values are to come.
pub fn append_query(sql: &[u8], binary: bool, out: &mut Vec<u8>) {
    append(b'P', out, |out| {
        append_text(b"", out);
        append_text(sql, out);
        out.extend_from_slice(&[0, 0]);
    });
    append(b'B', out, |out| {
        append_text(b"", out);
        append_text(b"", out);
        out.extend_from_slice(&[0, 0, 0, 0]);
        out.extend_from_slice(&[0, 1, 0, u8::from(binary)]);
    });
    append(b'D', out, |out| {
        out.push(b'P');
        append_text(b"", out);
    });
    append(b'E', out, |out| {
        append_text(b"", out);
        out.extend_from_slice(&[0; 4]);
    });
    append(b'S', out, |_| {});
}

/// Appends a goodbye.
pub fn append_terminate(out: &mut Vec<u8>) {
    append(b'X', out, |_| {});
}

/// Letters of a server's messages.
pub mod kind {
    pub const AUTHENTICATION: u8 = b'R';
    pub const BIND_COMPLETE: u8 = b'2';
    pub const COMMAND_COMPLETE: u8 = b'C';
    pub const COPY_BOTH: u8 = b'W';
    pub const COPY_IN: u8 = b'G';
    pub const COPY_OUT: u8 = b'H';
    pub const DATA_ROW: u8 = b'D';
    pub const EMPTY_QUERY: u8 = b'I';
    pub const ERROR: u8 = b'E';
    pub const KEY_DATA: u8 = b'K';
    pub const NO_DATA: u8 = b'n';
    pub const NOTICE: u8 = b'N';
    pub const NOTIFICATION: u8 = b'A';
    pub const PARAMETER_STATUS: u8 = b'S';
    pub const PARSE_COMPLETE: u8 = b'1';
    pub const READY: u8 = b'Z';
    pub const ROW_DESCRIPTION: u8 = b'T';
}

/// How a client is to show who it is.
#[derive(Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    Done,
    Cleartext,
    Md5 {
        salt: [u8; 4],
    },
    /// Names of methods, the preferred first.
    Sasl(Vec<&'a [u8]>),
    SaslMore(&'a [u8]),
    SaslDone(&'a [u8]),
    /// Kerberos and the like.
    Other(u32),
}

/// Reads an authentication message.
///
/// # Errors
/// One that is too short.
pub fn parse_authentication(body: &[u8]) -> Result<Authentication<'_>, Invalid> {
    let (code, rest) = body.split_first_chunk::<4>().ok_or(SHORT)?;
    Ok(match u32::from_be_bytes(*code) {
        0 => Authentication::Done,
        3 => Authentication::Cleartext,
        5 => Authentication::Md5 { salt: *rest.first_chunk().ok_or(SHORT)? },
        10 => Authentication::Sasl(rest.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect()),
        11 => Authentication::SaslMore(rest),
        12 => Authentication::SaslDone(rest),
        other => Authentication::Other(other),
    })
}

/// What a server says is wrong, or worth a note.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// `ERROR`, `FATAL`, `NOTICE` ….
    pub severity: Vec<u8>,
    /// Five characters.
    pub code: Vec<u8>,
    pub message: Vec<u8>,
}

/// Reads an error or a notice.
pub fn parse_error(body: &[u8]) -> ServerError {
    let mut error = ServerError::default();
    for field in body.split(|byte| *byte == 0) {
        let Some((kind, text)) = field.split_first() else { continue };
        match kind {
            b'S' => error.severity = text.to_vec(),
            b'C' => error.code = text.to_vec(),
            b'M' => error.message = text.to_vec(),
            _ => {}
        }
    }
    error
}

/// What is known of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: Vec<u8>,
    /// The number of its type.
    pub oid: u32,
}

/// Reads the description of rows.
///
/// # Errors
/// One that is no description.
pub fn parse_columns(body: &[u8]) -> Result<Vec<Column>, Invalid> {
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or(SHORT)?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let end = memchr::memchr(0, rest).ok_or(SHORT)?;
        let (name, behind) = rest.split_at(end);
        // table, number in it, type, its length, its modifier, format
        let (fixed, behind) = behind.get(1..).and_then(<[u8]>::split_first_chunk::<18>).ok_or(SHORT)?;
        let [_, _, _, _, _, _, a, b, c, d, ..] = *fixed;
        columns.push(Column { name: name.to_vec(), oid: u32::from_be_bytes([a, b, c, d]) });
        rest = behind;
    }
    if rest.is_empty() { Ok(columns) } else { Err(Invalid("row description too long")) }
}

/// The values of a row, in order.
///
/// # Errors
/// A message that is no row of so many columns.
pub fn parse_row(body: &[u8], columns: usize) -> Result<Vec<Option<&[u8]>>, Invalid> {
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or(SHORT)?;
    if usize::from(u16::from_be_bytes(*count)) != columns {
        return Err(Invalid("row of another length"));
    }
    let mut values = Vec::with_capacity(columns);
    for _ in 0..columns {
        let (len, behind) = rest.split_first_chunk::<4>().ok_or(SHORT)?;
        let len = u32::from_be_bytes(*len);
        if len == u32::MAX {
            values.push(None);
            rest = behind;
            continue;
        }
        let len = usize::try_from(len).map_err(|_| SHORT)?;
        let (value, behind) = behind.split_at_checked(len).ok_or(SHORT)?;
        values.push(Some(value));
        rest = behind;
    }
    if rest.is_empty() { Ok(values) } else { Err(Invalid("row too long")) }
}

/// The number of rows that a command changed, from what completes it (`UPDATE 3`, `INSERT 0 1`).
pub fn affected_rows(tag: &[u8]) -> Option<u64> {
    let tag = tag.strip_suffix(&[0]).unwrap_or(tag);
    let mut words = tag.split(|byte| *byte == b' ');
    let command = words.next()?;
    let changes: [&[u8]; 7] = [b"INSERT", b"UPDATE", b"DELETE", b"MOVE", b"FETCH", b"COPY", b"MERGE"];
    if !changes.contains(&command) {
        return None;
    }
    let digits = words.next_back()?;
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_when_they_are_whole() {
        let text = b"Z\0\0\0\x05IC\0\0\0\x04";
        for end in 0..6 {
            assert_eq!(message(&text[..end], 100), Ok(None));
        }
        assert_eq!(message(text, 100), Ok(Some(Message { kind: b'Z', body: b"I", len: 6 })));
        assert_eq!(message(&text[6..], 100), Ok(Some(Message { kind: b'C', body: b"", len: 5 })));
        assert!(message(b"Z\0\0\0\x03", 100).is_err());
        assert!(message(b"Z\0\x01\0\0", 100).is_err());
        assert!(message(b"Z\xff\xff\xff\xff", 100).is_err());
    }

    #[test]
    fn clients_write_messages() {
        let mut out = Vec::new();
        append_startup(&[("user", b"bob\0x")], &mut out);
        assert_eq!(out, b"\0\0\0\x12\0\x03\0\0user\0bob\0\0");
        out.clear();
        append_sasl_start("SCRAM", b"n", &mut out);
        assert_eq!(out, b"p\0\0\0\x0fSCRAM\0\0\0\0\x01n");
        out.clear();
        append_query(b"select 1", true, &mut out);
        let mut kinds = Vec::new();
        let mut rest = &out[..];
        while let Some(found) = message(rest, 1000).unwrap() {
            kinds.push(found.kind);
            rest = &rest[found.len..];
        }
        assert_eq!((kinds.as_slice(), rest.len()), (&b"PBDES"[..], 0));
    }

    #[test]
    fn methods_are_told() {
        assert_eq!(parse_authentication(b"\0\0\0\0"), Ok(Authentication::Done));
        assert_eq!(parse_authentication(b"\0\0\0\x05abcd"), Ok(Authentication::Md5 { salt: *b"abcd" }));
        assert_eq!(
            parse_authentication(b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"),
            Ok(Authentication::Sasl(vec![b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"]))
        );
        assert!(parse_authentication(b"\0\0\0\x05ab").is_err());
        assert!(parse_authentication(b"\0\0").is_err());
    }

    #[test]
    fn errors_rows_and_tags_are_read() {
        let error = parse_error(b"SERROR\0C42P01\0Mno table\0\0");
        assert_eq!((error.code.as_slice(), error.message.as_slice()), (&b"42P01"[..], &b"no table"[..]));
        let mut columns = b"\0\x01id\0".to_vec();
        columns.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 23, 0, 4, 0, 0, 0, 0, 0, 0]);
        assert_eq!(parse_columns(&columns), Ok(vec![Column { name: b"id".to_vec(), oid: 23 }]));
        for end in 0..columns.len() {
            assert!(parse_columns(&columns[..end]).is_err());
        }
        assert_eq!(parse_row(b"\0\x02\0\0\0\x01a\xff\xff\xff\xff", 2), Ok(vec![Some(&b"a"[..]), None]));
        assert!(parse_row(b"\0\x02\0\0\0\x01a", 2).is_err());
        assert!(parse_row(b"\0\x01\0\0\0\x09a", 1).is_err());
        assert_eq!(affected_rows(b"INSERT 0 12\0"), Some(12));
        assert_eq!(affected_rows(b"SELECT 12\0"), None);
        assert_eq!(affected_rows(b"UPDATE\0"), None);
    }
}
