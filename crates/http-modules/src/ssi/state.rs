//! What the pages of one client's request share: variables, blocks, captures. And texts and conditions that use them.

use moonrest_core::regex::Groups;
use moonrest_http::prelude::*;
use moonrest_proto::{
    escape::{Unescape, unescape},
    uri::is_unsafe,
};
use std::{
    cell::{Ref, RefCell},
    collections::HashMap,
};

/// A command that could not be carried out; the reason is in the log.
#[derive(Debug)]
pub(super) struct Failed;

/// Kept in the main request's context.
#[derive(Default)]
pub(super) struct Shared {
    variables: RefCell<HashMap<Vec<u8>, Vec<u8>>>,
    blocks: RefCell<Vec<Block>>,
    captures: RefCell<(Vec<u8>, Groups)>,
}

/// A text kept for later.
#[derive(Default)]
struct Block {
    name: Vec<u8>,
    text: Vec<u8>,
    /// The text as it is handed out, once it was.
    shared: Option<Bytes>,
}

/// The longest value that variables may be put together to: `$a$a` may not double for ever.
const LONGEST: usize = 1 << 20;

impl Shared {
    /// Sets a variable.
    pub(super) fn set(&self, name: &[u8], value: Vec<u8>) {
        self.variables.borrow_mut().insert(name.to_ascii_lowercase(), value);
    }

    /// Declares a variable that may get a value later.
    pub(super) fn declare(&self, name: &[u8]) {
        self.variables.borrow_mut().entry(name.to_ascii_lowercase()).or_default();
    }

    /// Begins a block.
    pub(super) fn add_block(&self, name: &[u8]) {
        self.blocks.borrow_mut().push(Block { name: name.to_vec(), ..Block::default() });
    }

    /// The text of the block begun last.
    pub(super) fn with_block(&self, f: impl FnOnce(&mut Vec<u8>)) {
        if let Some(block) = self.blocks.borrow_mut().last_mut() {
            block.shared = None;
            f(&mut block.text);
        }
    }

    /// The first block of that name.
    pub(super) fn block(&self, name: &[u8]) -> Option<Bytes> {
        let mut blocks = self.blocks.borrow_mut();
        let block = blocks.iter_mut().find(|block| block.name == name)?;
        Some(block.shared.get_or_insert_with(|| Bytes::copy_from_slice(&block.text)).clone())
    }

    fn capture(&self, digit: u8) -> Option<Vec<u8>> {
        let captures: Ref<'_, (Vec<u8>, Groups)> = self.captures.borrow();
        let &(start, end) = captures.1.get(usize::from(digit))?;
        Some(captures.0.get(start..end)?.to_vec())
    }
}

/// The value of a variable: a page's own, or one of the server's.
pub(super) fn variable(r: &Request, name: &[u8]) -> Option<Vec<u8>> {
    let name = name.to_ascii_lowercase();
    let shared = r.main().ctx::<Shared>();
    if let [digit @ b'0'..=b'9'] = *name
        && let Some(value) = shared.capture(digit - b'0')
    {
        return Some(value);
    }
    if let Some(value) = shared.variables.borrow().get(&name) {
        return Some(value.clone());
    }
    let mut value = Vec::new();
    let name = std::str::from_utf8(&name).ok()?;
    r.vars().append_by_name(r, name, &mut value).then_some(value)
}

/// A text with variables and escapes replaced.
pub(super) fn evaluate(r: &Request, text: &[u8]) -> Result<Vec<u8>, Failed> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'\\' => {
                let Some((&escaped, after)) = rest.split_first() else { break };
                rest = after;
                if !matches!(escaped, b'\\' | b'\'' | b'"' | b'$') {
                    out.push(b'\\');
                }
                out.push(escaped);
            }
            b'$' => {
                let braced = rest.first() == Some(&b'{');
                let name = rest.get(usize::from(braced)..).unwrap_or_default();
                let len = name.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
                let (name, after) = name.split_at_checked(len).unwrap_or_default();
                rest = if braced {
                    let Some(after) = after.strip_prefix(b"}") else {
                        let name = String::from_utf8_lossy(name);
                        moonrest_http::error!(r, "the closing bracket in \"{name}\" variable is missing");
                        return Err(Failed);
                    };
                    after
                } else {
                    after
                };
                if name.is_empty() {
                    moonrest_http::error!(
                        r,
                        "invalid variable name in \"{}\"",
                        String::from_utf8_lossy(text)
                    );
                    return Err(Failed);
                }
                out.extend(variable(r, name).unwrap_or_default());
                if out.len() > LONGEST {
                    moonrest_http::error!(r, "too long value of \"{}\"", String::from_utf8_lossy(text));
                    return Err(Failed);
                }
            }
            byte => out.push(byte),
        }
    }
    Ok(out)
}

/// The target of an `include`: path, decoded, and arguments. A path without a slash in front is relative to the page.
pub(super) fn target(r: &Request, text: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Failed> {
    let mut uri = evaluate(r, text)?;
    if uri.first() != Some(&b'/') {
        let page = r.uri();
        let directory = page.iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
        let mut full = page.get(..directory).unwrap_or_default().to_vec();
        full.append(&mut uri);
        uri = full;
    }
    let (path, args) = match memchr::memchr(b'?', &uri) {
        Some(at) => (uri.get(..at).unwrap_or_default(), uri.get(at + 1..).unwrap_or_default()),
        None => (&uri[..], &[][..]),
    };
    let mut decoded = Vec::with_capacity(path.len());
    unescape(Unescape::All, path, &mut decoded);
    let refused = if is_unsafe(path) { Some(&uri) } else { Some(&decoded).filter(|path| is_unsafe(path)) };
    if let Some(refused) = refused {
        moonrest_http::error!(r, "unsafe URI \"{}\" was detected", String::from_utf8_lossy(refused));
        return Err(Failed);
    }
    Ok((decoded, args.to_vec()))
}

/// Whether a condition holds: `$a`, `$a = text`, `$a != text`, `$a = /regex/`.
pub(super) fn holds(r: &Request, expression: &[u8]) -> Result<bool, Failed> {
    let end = expression
        .iter()
        .position(|b| !(b.is_ascii_alphanumeric() || b"${}_\"'".contains(b)))
        .unwrap_or(expression.len());
    let (left, rest) = expression.split_at_checked(end).unwrap_or_default();
    let left = evaluate(r, &left.to_ascii_lowercase())?;
    let rest = skip_spaces(rest);
    if rest.is_empty() {
        return Ok(!left.is_empty());
    }
    let (negative, right) = match rest {
        [b'=', right @ ..] => (false, skip_spaces(right)),
        [b'!', b'=', right @ ..] => (true, skip_spaces(right)),
        _ => return Err(invalid(r, expression)),
    };
    let same = match right {
        [b'/', pattern @ .., b'/'] => matches(r, &evaluate(r, pattern)?, &left)?,
        [b'/', _, ..] => return Err(invalid(r, expression)),
        [b'\\', b'/', ..] => evaluate(r, right.get(1..).unwrap_or_default())? == left,
        text => evaluate(r, text)? == left,
    };
    Ok(same != negative)
}

fn skip_spaces(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|b| **b == b' ').count();
    text.get(spaces..).unwrap_or_default()
}

fn invalid(r: &Request, expression: &[u8]) -> Failed {
    moonrest_http::error!(r, "invalid expression in \"{}\"", String::from_utf8_lossy(expression));
    Failed
}

/// Matches and keeps what was captured.
fn matches(r: &Request, pattern: &[u8], text: &[u8]) -> Result<bool, Failed> {
    let regex = Regex::new(pattern, false).map_err(|fault| {
        let message = match fault {
            Fault::Message(message) => message,
            _ => String::from("invalid regular expression"),
        };
        moonrest_http::error!(r, "{message}");
        Failed
    })?;
    let mut groups = Groups::new();
    if !regex.captures(text, &mut groups) {
        return Ok(false);
    }
    // Groups behind the last one that took part do not exist.
    while groups.len() > 1 && groups.last() == Some(&(0, 0)) {
        groups.pop();
    }
    let shared = r.main().ctx::<Shared>();
    for (name, group) in regex.names() {
        let value = groups.get(*group).and_then(|&(start, end)| text.get(start..end)).unwrap_or_default();
        shared.set(name.as_bytes(), value.to_vec());
    }
    *shared.captures.borrow_mut() = (text.to_vec(), groups);
    Ok(true)
}
