//! Text to values.
//!
//! Lua ends each string with a NUL, which is where reading ends; lua-cjson takes a NUL in the text for its end too.
//! Elements and members are gathered on the Lua stack first, so that their table is made in the right size at once.
use std::ffi::{c_char, c_int};

use super::{Decoding, Settings};
use crate::c_stack;
use crate::error::{LuaError, LuaResult};
use crate::ffi::{self, lua_State};
use crate::stack::{Cut, Stack};

pub(super) fn decode(settings: &Settings, stack: &Stack<'_>, index: usize) -> LuaResult<()> {
    let index = c_int::try_from(index).unwrap_or(0);
    let mut size = 0;
    // SAFETY: the caller vouches for a string or number there. Its bytes and the NUL behind them stay where they are: the
    // slot keeps the string.
    let text: &[u8] = unsafe {
        let data = ffi::lua_tolstring(stack.l, index, &raw mut size);
        if data.is_null() {
            return Err(LuaError::misuse("no string"));
        }
        std::slice::from_raw_parts(data.cast(), size + 1)
    };
    if size >= 2 && (text[0] == 0 || text[1] == 0) {
        return Err(LuaError::new("JSON parser does not support UTF-16 or UTF-32"));
    }
    stack.check_memory()?;
    stack.reserve_many(2)?;
    let mut decoder = Decoder {
        l: stack.l,
        stack,
        text,
        at: 0,
        start: 0,
        depth: 0,
        set: settings.decoding.get(),
        array_mt: settings.array_mt.0.id,
        unescaped: Vec::new(),
    };
    let cut = Cut { l: stack.l, top: stack.top() };
    decoder.document()?;
    std::mem::forget(cut);
    Ok(())
}

/// What the text holds next. The value of a string is on the Lua stack already.
#[derive(Clone, Copy)]
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    String,
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Error(&'static str),
}

impl Token {
    fn name(self) -> &'static str {
        match self {
            Self::ObjectBegin => "T_OBJ_BEGIN",
            Self::ObjectEnd => "T_OBJ_END",
            Self::ArrayBegin => "T_ARR_BEGIN",
            Self::ArrayEnd => "T_ARR_END",
            Self::String => "T_STRING",
            Self::Number(_) => "T_NUMBER",
            Self::Boolean(_) => "T_BOOLEAN",
            Self::Null => "T_NULL",
            Self::Colon => "T_COLON",
            Self::Comma => "T_COMMA",
            Self::End => "T_END",
            Self::Error(problem) => problem,
        }
    }
}

struct Decoder<'d, 's> {
    l: *mut lua_State,
    stack: &'d Stack<'s>,
    /// The text and the NUL behind it.
    text: &'d [u8],
    at: usize,
    /// Where the last token began, or where it is wrong.
    start: usize,
    depth: c_int,
    set: Decoding,
    /// The registry's reference of the metatable of arrays.
    array_mt: c_int,
    unescaped: Vec<u8>,
}

/// How many values wait on the stack for their table.
const GATHERED: c_int = 32;
/// Slots for a level of nesting that gathers nothing.
const FEW: c_int = 8;

impl Decoder<'_, '_> {
    fn document(&mut self) -> LuaResult<()> {
        let first = self.next();
        self.value(first)?;
        match self.next() {
            Token::End => self.stack.check_memory(),
            other => Err(self.unexpected("the end", other)),
        }
    }

    #[cold]
    fn unexpected(&self, expected: &str, found: Token) -> LuaError {
        // Whole numbers have a name of their own.
        let is_whole = |number: f64| {
            let text = &self.text[self.start..self.at];
            number.is_finite() && !text.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E' | b'x'))
        };
        let found = match found {
            Token::Number(number) if is_whole(number) => "T_INTEGER",
            other => other.name(),
        };
        let place = self.start + 1;
        LuaError::new(format!("Expected {expected} but found {found} at character {place}"))
    }

    #[inline]
    fn peek(&self, offset: usize) -> u8 {
        self.text.get(self.at + offset).copied().unwrap_or(0)
    }

    /// Pushes the value that begins with a token.
    #[inline]
    fn value(&mut self, token: Token) -> LuaResult<()> {
        // SAFETY: a slot was made sure of by `descend`, or is one of the first two.
        unsafe {
            match token {
                Token::String => {}
                Token::Number(number) => ffi::lua_pushnumber(self.l, number),
                Token::Boolean(value) => ffi::lua_pushboolean(self.l, c_int::from(value)),
                Token::Null => ffi::lua_pushlightuserdata(self.l, std::ptr::null_mut()),
                Token::ObjectBegin => self.object()?,
                Token::ArrayBegin => self.array()?,
                other => return Err(self.unexpected("value", other)),
            }
        }
        Ok(())
    }

    /// One level deeper: how many values may be gathered there.
    fn descend(&mut self) -> LuaResult<c_int> {
        self.depth += 1;
        self.stack.check_memory()?;
        if self.depth <= self.set.max_depth && c_stack::here() >= self.stack.shared.floor.get() {
            // SAFETY: a live state in Rust's turn; these answer instead of raising.
            unsafe {
                if ffi::lua_checkstack(self.l, GATHERED * 2 + FEW) != 0 {
                    return Ok(GATHERED);
                }
                if ffi::lua_checkstack(self.l, FEW) != 0 {
                    return Ok(1);
                }
            }
        }
        let (depth, at) = (self.depth, self.at);
        Err(LuaError::new(format!("Found too many nested data structures ({depth}) at character {at}")))
    }

    fn array(&mut self) -> LuaResult<()> {
        let room = self.descend()?;
        let t = self.stack.top() + 1;
        let mut token = self.next();
        let (mut stored, mut gathered) = (0, 0);
        if matches!(token, Token::ArrayEnd) {
            self.make_array(t, 0);
            self.depth -= 1;
            return Ok(());
        }
        loop {
            self.value(token)?;
            gathered += 1;
            token = self.next();
            match token {
                Token::ArrayEnd => break,
                Token::Comma => {}
                other => return Err(self.unexpected("comma or array end", other)),
            }
            if gathered == room {
                self.store_elements(t, stored, gathered);
                stored += gathered;
                gathered = 0;
            }
            token = self.next();
        }
        self.store_elements(t, stored, gathered);
        self.depth -= 1;
        Ok(())
    }

    /// Puts a new array at `t`, below what is gathered there.
    fn make_array(&mut self, t: c_int, len: c_int) {
        // SAFETY: room for two values was made; lenient, so nothing is raised. The metatable is one of ours.
        unsafe {
            ffi::lua_createtable(self.l, len, 0);
            if self.set.array_with_array_mt {
                ffi::lua_rawgeti(self.l, ffi::REGISTRY, self.array_mt);
                ffi::lua_setmetatable(self.l, -2);
            }
            ffi::lua_insert(self.l, t);
        }
    }

    /// Moves what is gathered into the array, which is made when there is none.
    fn store_elements(&mut self, t: c_int, stored: c_int, gathered: c_int) {
        if stored == 0 {
            self.make_array(t, gathered);
        }
        for n in (stored + 1..=stored + gathered).rev() {
            // SAFETY: the array at `t`, its elements on top in order.
            unsafe { ffi::lua_rawseti(self.l, t, n) };
        }
    }

    fn object(&mut self) -> LuaResult<()> {
        let room = self.descend()?;
        let t = self.stack.top() + 1;
        let mut token = self.next();
        let (mut made, mut gathered) = (false, 0);
        if matches!(token, Token::ObjectEnd) {
            // SAFETY: room was made; lenient.
            unsafe { ffi::lua_createtable(self.l, 0, 0) };
            self.depth -= 1;
            return Ok(());
        }
        loop {
            if !matches!(token, Token::String) {
                return Err(self.unexpected("object key string", token));
            }
            match self.next() {
                Token::Colon => {}
                other => return Err(self.unexpected("colon", other)),
            }
            token = self.next();
            self.value(token)?;
            gathered += 1;
            token = self.next();
            match token {
                Token::ObjectEnd => break,
                Token::Comma => {}
                other => return Err(self.unexpected("comma or object end", other)),
            }
            if gathered == room {
                self.store_members(t, made, gathered);
                made = true;
                gathered = 0;
            }
            token = self.next();
        }
        self.store_members(t, made, gathered);
        self.depth -= 1;
        Ok(())
    }

    /// Moves what is gathered into the object. In order: of several members with one name the last one stays.
    fn store_members(&mut self, t: c_int, made: bool, gathered: c_int) {
        // SAFETY: room was made; lenient. Keys are strings, with their values behind them, on top, above the table.
        unsafe {
            if !made {
                ffi::lua_createtable(self.l, 0, gathered);
                ffi::lua_insert(self.l, t);
            }
            for n in 0..gathered {
                ffi::lua_pushvalue(self.l, t + 1 + 2 * n);
                ffi::lua_pushvalue(self.l, t + 2 + 2 * n);
                ffi::lua_rawset(self.l, t);
            }
            ffi::lua_settop(self.l, t);
        }
    }

    /// The next token, and for a string its value on the stack.
    #[inline]
    fn next(&mut self) -> Token {
        loop {
            while matches!(self.peek(0), b' ' | b'\t' | b'\n' | b'\r') {
                self.at += 1;
            }
            if self.peek(0) == b'/' && self.set.allow_comment && matches!(self.peek(1), b'/' | b'*') {
                if !self.skip_comment() {
                    self.start = self.at;
                    return Token::Error("unclosed multi-line comment");
                }
                continue;
            }
            break;
        }
        self.start = self.at;
        let token = match self.peek(0) {
            b'"' => return self.string(),
            b'-' | b'0'..=b'9' => return self.number(),
            b',' => Token::Comma,
            b':' => Token::Colon,
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            0 => return Token::End,
            _ => return self.word(),
        };
        self.at += 1;
        token
    }

    /// False if it has no end.
    fn skip_comment(&mut self) -> bool {
        let is_line = self.peek(1) == b'/';
        self.at += 2;
        loop {
            match self.peek(0) {
                0 => return is_line,
                b'\n' if is_line => return true,
                b'*' if !is_line && self.peek(1) == b'/' => {
                    self.at += 2;
                    return true;
                }
                _ => self.at += 1,
            }
        }
    }

    fn word(&mut self) -> Token {
        let rest = &self.text[self.at..];
        let (len, token) = if rest.starts_with(b"true") {
            (4, Token::Boolean(true))
        } else if rest.starts_with(b"false") {
            (5, Token::Boolean(false))
        } else if rest.starts_with(b"null") {
            (4, Token::Null)
        } else if self.set.invalid_numbers
            && matches!(rest.first(), Some(b'+' | b'i' | b'I' | b'n' | b'N'))
            && self.is_invalid_number()
        {
            return self.odd_number();
        } else {
            return Token::Error("invalid token");
        };
        self.at += len;
        token
    }

    /// What C reads as a number and JSON does not have.
    fn is_invalid_number(&self) -> bool {
        let begins = |offset: usize, name: &[u8; 3]| {
            let found = self.text.get(self.at + offset..self.at + offset + 3);
            found.is_some_and(|found| found.eq_ignore_ascii_case(name))
        };
        if self.peek(0) == b'+' {
            return true;
        }
        let offset = usize::from(self.peek(0) == b'-');
        match self.peek(offset) {
            b'0' => matches!(self.peek(offset + 1), b'x' | b'X' | b'0'..=b'9'),
            _ => begins(offset, b"inf") || begins(offset, b"nan"),
        }
    }

    #[inline]
    fn number(&mut self) -> Token {
        if !self.set.invalid_numbers && self.is_invalid_number() {
            return Token::Error("invalid number");
        }
        let text = self.text;
        let is_negative = text[self.at] == b'-';
        let first = self.at + usize::from(is_negative);
        let mut end = first;
        let mut mantissa = 0u64;
        let digits = |mut end: usize, mantissa: &mut u64| {
            while let Some(digit) =
                text.get(end).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10)
            {
                *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
                end += 1;
            }
            end
        };
        end = digits(end, &mut mantissa);
        let whole = end - first;
        match text[end] {
            _ if whole == 0 => return self.odd_number(),
            b'x' => return self.odd_number(),
            b'.' | b'e' | b'E' => {}
            _ if whole <= 18 => {
                self.at = end;
                // As an integer of C, which has no negative zero.
                let number = mantissa as f64;
                return Token::Number(if is_negative && mantissa != 0 { -number } else { number });
            }
            _ => return self.long_number(end),
        }
        let mut fraction = 0;
        if text[end] == b'.' {
            let begin = end + 1;
            end = digits(begin, &mut mantissa);
            fraction = end - begin;
        }
        if matches!(text[end], b'e' | b'E') {
            let sign = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
            let stop = digits(end + 1 + sign, &mut 0);
            if stop > end + 1 + sign {
                return self.long_number(stop);
            }
            return self.long_number(end);
        }
        // A quotient of two exact numbers is rounded once.
        if whole + fraction <= 15
            && let Some(power) = POWERS.get(fraction)
        {
            self.at = end;
            let number = mantissa as f64 / power;
            return Token::Number(if is_negative { -number } else { number });
        }
        self.long_number(end)
    }

    /// The number that ends before `end`.
    fn long_number(&mut self, end: usize) -> Token {
        let text = std::str::from_utf8(&self.text[self.at..end]).ok();
        match text.and_then(|text| text.parse().ok()) {
            Some(number) => {
                self.at = end;
                Token::Number(number)
            }
            None => self.odd_number(),
        }
    }

    /// A number in any form that C knows.
    #[cold]
    fn odd_number(&mut self) -> Token {
        let mut end: *mut c_char = std::ptr::null_mut();
        let begin = self.text[self.at..].as_ptr().cast::<c_char>();
        // SAFETY: the text ends with a NUL.
        let (number, used) = unsafe {
            let number = libc::strtod(begin, &raw mut end);
            (number, end.addr() - begin.addr())
        };
        if used == 0 {
            return Token::Error("invalid number");
        }
        self.at += used;
        Token::Number(number)
    }

    /// Pushes the string that begins here.
    #[inline]
    fn string(&mut self) -> Token {
        self.at += 1;
        let begin = self.at;
        let len = plain_len(&self.text[begin..]);
        self.at += len;
        if self.text[self.at] != b'"' {
            return self.escaped_string(begin);
        }
        self.at += 1;
        self.push(&self.text[begin..begin + len]);
        Token::String
    }

    #[inline]
    fn push(&self, bytes: &[u8]) {
        // SAFETY: a slot was made sure of; lenient, so nothing is raised; the bytes are copied.
        unsafe { ffi::lua_pushlstring(self.l, bytes.as_ptr().cast(), bytes.len()) };
    }

    /// A string with an escape, or without an end, at the present place; `begin` is behind the quote.
    fn escaped_string(&mut self, begin: usize) -> Token {
        let mut out = std::mem::take(&mut self.unescaped);
        out.clear();
        out.extend_from_slice(&self.text[begin..self.at]);
        let problem = loop {
            match self.peek(0) {
                b'"' => {
                    self.at += 1;
                    break None;
                }
                0 => break Some("unexpected end of string"),
                b'\\' => {
                    if let Some(problem) = self.escape(&mut out) {
                        break Some(problem);
                    }
                }
                _ => {
                    let len = plain_len(&self.text[self.at..]);
                    out.extend_from_slice(&self.text[self.at..self.at + len]);
                    self.at += len;
                }
            }
        };
        if problem.is_none() {
            self.push(&out);
        } else {
            self.start = self.at;
        }
        self.unescaped = out;
        problem.map_or(Token::String, Token::Error)
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Option<&'static str> {
        let byte = match self.peek(1) {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 8,
            b't' => b'\t',
            b'n' => b'\n',
            b'f' => 12,
            b'r' => b'\r',
            b'u' => {
                let Some((code, len)) = self.unicode() else { return Some("invalid unicode escape code") };
                let mut utf8 = [0; 4];
                self.at += len;
                // Half of a pair never comes out of `unicode`.
                let character = char::from_u32(code)?;
                out.extend_from_slice(character.encode_utf8(&mut utf8).as_bytes());
                return None;
            }
            _ => return Some("invalid escape code"),
        };
        out.push(byte);
        self.at += 2;
        None
    }

    /// The code of the escape here, two for what UTF-16 has as a pair, and how long it is.
    fn unicode(&self) -> Option<(u32, usize)> {
        let unit = |offset: usize| {
            let digits = self.text.get(self.at + offset..self.at + offset + 4)?;
            digits.iter().try_fold(0, |code, digit| Some(code * 16 + char::from(*digit).to_digit(16)?))
        };
        let first = unit(2)?;
        match first {
            0xd800..=0xdbff if self.peek(6) == b'\\' && self.peek(7) == b'u' => {
                let second = unit(8).filter(|second| (0xdc00..=0xdfff).contains(second))?;
                Some((0x10000 + ((first & 0x3ff) << 10 | second & 0x3ff), 12))
            }
            0xd800..=0xdfff => None,
            _ => Some((first, 6)),
        }
    }
}

const POWERS: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// How many bytes at the front are neither quote nor backslash nor NUL. The last byte is a NUL.
#[inline]
fn plain_len(text: &[u8]) -> usize {
    let special = |byte: u8| (byte == b'"') | (byte == b'\\') | (byte == 0);
    let mut at = 0;
    for chunk in text.chunks_exact(16) {
        if chunk.iter().fold(false, |found, byte| found | special(*byte)) {
            break;
        }
        at += 16;
    }
    at + text[at..].iter().position(|byte| special(*byte)).unwrap_or(0)
}
