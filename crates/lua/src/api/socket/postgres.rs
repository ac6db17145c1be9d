//! Queries of `resty.postgres` and pgmoon in two steps: the request goes out and everything up to "ready for query" comes
//! in, which is then made into tables. <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use super::{
    exchange::{Answer, LIMIT, ask},
    receive, stream,
};
use moonrest_luajit::{Call, LuaResult, Native, Return, Stack, Table, Value};
use smallvec::SmallVec;

/// Answers with more columns or statements than this are read by the client.
const MAX_COLUMNS: usize = 64;
const MAX_RESULTS: usize = 16;

pub(super) fn install(stack: &Stack<'_>) -> LuaResult<()> {
    crate::api::module(
        stack,
        "moonrest.postgres.native",
        &[("ask", Native::new(ask_for)), ("results", Native::new(results))],
    )
}

/// `ask(sock, request) -> true` when the answer is there and is a plain one. `false` when it is another one. Either way it
/// is still to be taken.
fn ask_for(call: &mut Call<'_>) -> LuaResult<Return> {
    let request: &[u8] = call.arg(2)?;
    ask(call, request, Ready::default())
}

/// Messages up to "ready for query".
#[derive(Default)]
struct Ready {
    /// Where the next message begins, and where it ends.
    at: usize,
    end: usize,
    /// How many columns the rows have that may come now.
    columns: Option<usize>,
}

/// How many columns a description has.
fn count_columns(body: &[u8]) -> Option<usize> {
    let (&count, mut rest) = body.split_first_chunk()?;
    let count = usize::from(u16::from_be_bytes(count));
    for _ in 0..count {
        rest = rest.get(memchr::memchr(0, rest)? + 19..)?;
    }
    Some(count)
}

/// Whether a row has so many values.
fn is_row(body: &[u8], columns: usize) -> bool {
    let Some((&count, mut rest)) = body.split_first_chunk() else { return false };
    usize::from(u16::from_be_bytes(count)) == columns
        && (0..columns).all(|_| {
            let Some((&size, tail)) = rest.split_first_chunk() else { return false };
            let size = usize::try_from(i32::from_be_bytes(size)).unwrap_or(0);
            tail.get(size..).map(|tail| rest = tail).is_some()
        })
}

/// The kind of the message at `at`, where its body begins and where it ends; `None` if its head is not all there.
fn message(bytes: &[u8], at: usize) -> Option<(u8, usize, usize)> {
    let &[kind, a, b, c, d] = bytes.get(at..at.checked_add(5)?)? else { return None };
    Some((kind, at + 5, at.saturating_add(1).saturating_add(u32::from_be_bytes([a, b, c, d]) as usize)))
}

impl Answer for Ready {
    fn end(&self) -> usize {
        self.end
    }

    fn is_within(&self) -> bool {
        self.end > self.at
    }

    fn advance(&mut self, bytes: &[u8]) -> Option<usize> {
        loop {
            let (kind, start, end) = message(bytes, self.at)?;
            self.end = end;
            if end < start || end > LIMIT || !b"TDCZI123nts".contains(&kind) {
                return Some(0);
            }
            if end > bytes.len() {
                return None;
            }
            let body = bytes.get(start..end)?;
            match kind {
                b'Z' => return Some(end),
                b'C' => self.columns = None,
                b'T' => match count_columns(body) {
                    None => return Some(0),
                    count => self.columns = count,
                },
                b'D' if !self.columns.is_some_and(|columns| is_row(body, columns)) => return Some(0),
                _ => {}
            }
            self.at = end;
        }
    }

    fn push(&self, stack: &Stack<'_>, _bytes: &[u8]) -> LuaResult<()> {
        stack.push(true)
    }

    fn stays(&self) -> bool {
        true
    }
}

/// What a column's texts become.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    /// A number, as long as a Lua number holds all its digits.
    Exact,
    Boolean,
}

struct Column<'b> {
    name: &'b [u8],
    oid: i32,
    kind: Kind,
}

/// `results(sock, kinds, null, decoders) -> { { rows, columns, tag }, … }, status`, of the answer that has come; `false` if
/// there is something in it that is not plain. `kinds` says by the numbers of types what becomes of texts, `null` stands for
/// missing values. With `decoders` the columns are given as well, each with its decoder.
fn results(call: &mut Call<'_>) -> LuaResult<Return> {
    let owner = super::owner(call)?;
    let handle = stream::of(call)?;
    let stream = match receive::ready_to_read(call, handle.as_deref().map(|handle| &handle.0), owner)? {
        Ok(stream) => stream,
        Err(answer) => return Ok(answer),
    };
    let kinds: Table<'_> = call.arg(2)?;
    let decoders: Option<Table<'_>> = call.arg(4)?;
    let mut inbox = stream.inbox.borrow_mut();
    let Some((list, status, used)) = read(call, inbox.unread(), kinds, decoders)? else {
        return call.ret(false);
    };
    inbox.take(used);
    call.ret((list, status))
}

/// The results, the status and how many bytes they are; `None` if they are not plain.
fn read<'c>(
    call: &Call<'c>,
    bytes: &[u8],
    kinds: Table<'_>,
    decoders: Option<Table<'_>>,
) -> LuaResult<Option<(Table<'c>, String, usize)>> {
    let list = call.table(1, 0)?;
    let mut columns: SmallVec<[Column<'_>; 8]> = SmallVec::new();
    let mut shown = None;
    let mut rows: Option<(Table<'_>, usize)> = None;
    let (mut at, mut count) = (0, 0);
    loop {
        let Some((kind, start, end)) = message(bytes, at) else { return Ok(None) };
        let Some(body) = bytes.get(start..end) else { return Ok(None) };
        at = end;
        match kind {
            b'T' => {
                let Some(found) = read_columns(call, body, kinds)? else { return Ok(None) };
                columns = found;
                rows = Some((call.table(4, 0)?, 0));
                shown = decoders.map(|decoders| show(call, &columns, decoders)).transpose()?;
            }
            b'D' => {
                let Some((table, n)) = &mut rows else { return Ok(None) };
                *n += 1;
                let mut sound = true;
                let (columns, plain) = (&columns, &mut sound);
                table.set_made(call, *n, |stack| {
                    *plain = push_row(stack, body, columns)?;
                    Ok(())
                })?;
                if !sound {
                    return Ok(None);
                }
            }
            b'C' => {
                count += 1;
                if count > MAX_RESULTS {
                    return Ok(None);
                }
                let result = call.table(0, 3)?;
                if let Some((rows, _)) = rows.take() {
                    result.raw_set(call, "rows", rows)?;
                }
                if let Some(shown) = shown.take() {
                    result.raw_set(call, "columns", shown)?;
                }
                let tag = body.split(|byte| *byte == 0).next().unwrap_or_default();
                result.raw_set(call, "tag", tag)?;
                list.set_index(call, count, result)?;
            }
            b'Z' => {
                let status = body.first().map(|status| char::from(*status).to_string());
                return Ok(Some((list, status.unwrap_or_default(), end)));
            }
            b'I' | b'1' | b'2' | b'3' | b'n' | b't' | b's' => {}
            _ => return Ok(None),
        }
    }
}

fn read_columns<'b>(
    call: &Call<'_>,
    body: &'b [u8],
    kinds: Table<'_>,
) -> LuaResult<Option<SmallVec<[Column<'b>; 8]>>> {
    let Some((&[high, low], mut rest)) = body.split_first_chunk() else { return Ok(None) };
    let count = usize::from(u16::from_be_bytes([high, low]));
    if count > MAX_COLUMNS {
        return Ok(None);
    }
    let mut columns = SmallVec::with_capacity(count);
    for _ in 0..count {
        let Some(end) = memchr::memchr(0, rest) else { return Ok(None) };
        let Some((name, tail)) = rest.split_at_checked(end) else { return Ok(None) };
        // Table, column, type, size, modifier, format.
        let (Some(&[a, b, c, d]), Some(tail)) = (tail.get(7..11), tail.get(19..)) else { return Ok(None) };
        rest = tail;
        let oid = i32::from_be_bytes([a, b, c, d]);
        let kind = match usize::try_from(oid).map(|oid| kinds.raw_index(call, oid)) {
            Err(_) => Kind::Text,
            Ok(kind) => match kind? {
                Value::Nil | Value::String(b"string") => Kind::Text,
                Value::String(b"number") => Kind::Number,
                Value::String(b"exact") => Kind::Exact,
                Value::String(b"boolean") => Kind::Boolean,
                _ => return Ok(None),
            },
        };
        columns.push(Column { name, oid, kind });
    }
    Ok(Some(columns))
}

/// The columns as Lua sees them.
fn show<'c>(call: &Call<'c>, columns: &[Column<'_>], decoders: Table<'_>) -> LuaResult<Table<'c>> {
    let list = call.table(columns.len(), 0)?;
    for (n, column) in columns.iter().enumerate() {
        let shown = call.table(0, 3)?;
        shown.raw_set(call, "name", column.name)?;
        shown.raw_set(call, "oid", column.oid)?;
        if let Ok(oid) = usize::try_from(column.oid) {
            shown.raw_set(call, "decode", decoders.raw_index(call, oid)?)?;
        }
        list.set_index(call, n + 1, shown)?;
    }
    Ok(list)
}

/// Pushes a row; false if it is not plain.
fn push_row(stack: &mut Stack<'_>, body: &[u8], columns: &[Column<'_>]) -> LuaResult<bool> {
    let Some((&[high, low], mut rest)) = body.split_first_chunk() else { return Ok(false) };
    if usize::from(u16::from_be_bytes([high, low])) != columns.len() {
        return Ok(false);
    }
    let row = stack.table(0, columns.len())?;
    for column in columns {
        let Some((&size, tail)) = rest.split_first_chunk() else { return Ok(false) };
        let Ok(size) = usize::try_from(i32::from_be_bytes(size)) else {
            row.raw_set(stack, column.name, stack.value(3))?;
            rest = tail;
            continue;
        };
        let Some((text, tail)) = tail.split_at_checked(size) else { return Ok(false) };
        rest = tail;
        match column.kind {
            Kind::Text => row.raw_set(stack, column.name, text)?,
            Kind::Boolean => row.raw_set(stack, column.name, text == b"t")?,
            Kind::Exact if !is_exact(text) => return Ok(false),
            Kind::Exact | Kind::Number => match number(text) {
                Some(number) => row.raw_set(stack, column.name, number)?,
                None => return Ok(false),
            },
        }
    }
    Ok(true)
}

/// A number in digits. Others are left to the client.
fn number(text: &[u8]) -> Option<f64> {
    let plain = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
    if !text.iter().all(plain) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Whether a Lua number holds all the digits, in their usual form.
fn is_exact(text: &[u8]) -> bool {
    text.len() <= 15 && text.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![kind];
        out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        out.extend_from_slice(body);
        out
    }

    /// How much is there of these bytes, however they come.
    fn check(messages: &[Vec<u8>], expected: Option<usize>) {
        let bytes = messages.concat();
        assert_eq!(Ready::default().advance(&bytes), expected);
        let mut slowly = Ready::default();
        let found = (0..=bytes.len()).find_map(|len| slowly.advance(&bytes[..len]));
        assert_eq!(found, expected, "byte by byte");
    }

    #[test]
    fn an_answer_is_there_when_the_server_is_ready() {
        let (row, done, ready) = (text(b'D', b"\0\0"), text(b'C', b"SELECT 1\0"), text(b'Z', b"I"));
        let none = text(b'T', b"\0\0");
        check(&[none.clone(), row.clone(), done.clone()], None);
        check(&[none.clone(), row.clone(), done.clone(), ready.clone()], Some(7 + 7 + 14 + 6));
        let columns = text(b'T', &[&b"\0\x01id\0"[..], &[0; 18]].concat());
        let good = text(b'D', b"\0\x01\0\0\0\x017");
        check(&[columns.clone(), good.clone(), done.clone(), ready.clone()], Some(28 + 12 + 14 + 6));
        check(&[good, done.clone(), ready.clone()], Some(0));
        check(&[columns.clone(), row, done.clone(), ready.clone()], Some(0));
        check(&[columns, text(b'D', b"\0\x01\0\0\0\x097"), ready.clone()], Some(0));
        check(&[text(b'T', b"\0\x01id\0"), ready.clone()], Some(0));
        check(&[text(b'E', b"SERROR\0"), ready.clone()], Some(0));
        check(&[text(b'N', b""), done, ready], Some(0));
        check(&[b"D\0\0\0\x03".to_vec()], Some(0));
        check(&[b"D\xff\xff\xff\xff".to_vec()], Some(0));
    }

    #[test]
    fn numbers_are_read_where_nothing_is_lost() {
        assert_eq!(number(b"-12.5e3"), Some(-12500.0));
        assert_eq!(number(b"NaN"), None);
        assert_eq!(number(b""), None);
        assert!(is_exact(b"123456789012345") && is_exact(b"-0.001"));
        assert!(!is_exact(b"1234567890123456") && !is_exact(b"NaN"));
    }
}
