//! The charsets that a configuration names, and `charset_map`s between them.

use super::{
    Main,
    recode::{Decoded, Table, decode},
};
use moonrest_http::prelude::*;
use moonrest_proto::escape::hex_value;

/// Every charset named in the configuration.
#[derive(Default)]
pub(super) struct Charsets {
    names: Vec<Bytes>,
    /// Tables from one charset to another.
    tables: Vec<(usize, usize, Arc<Table>)>,
}

/// A charset, and its number if the configuration names it.
pub(super) struct Lookup {
    pub(super) name: Bytes,
    pub(super) index: Option<usize>,
}

impl Charsets {
    /// The number of a charset, added if it is new.
    pub(super) fn add(&mut self, name: &[u8]) -> usize {
        if let Some(known) = self.find(name) {
            return known;
        }
        self.names.push(Bytes::copy_from_slice(name));
        self.names.len() - 1
    }

    fn find(&self, name: &[u8]) -> Option<usize> {
        self.names.iter().position(|known| known.eq_ignore_ascii_case(name))
    }

    /// The charset of that name; a known one is called as the caller calls it.
    pub(super) fn lookup(&self, name: Bytes) -> Lookup {
        Lookup { index: self.find(&name), name }
    }

    /// The charset of that number.
    pub(super) fn known(&self, index: usize) -> Lookup {
        Lookup { name: self.names.get(index).cloned().unwrap_or_default(), index: Some(index) }
    }

    pub(super) fn name(&self, index: usize) -> &[u8] {
        self.names.get(index).map_or(b"", |name| name)
    }

    /// How to come from one to the other.
    pub(super) fn table(&self, from: usize, to: usize) -> Option<Arc<Table>> {
        let found = self.tables.iter().find(|(src, dst, _)| (*src, *dst) == (from, to));
        found.map(|(_, _, table)| table.clone())
    }
}

/// Sets `charset_map CHARSET1 CHARSET2 { BYTE BYTE; … }`.
pub(super) fn set(main: &mut Main, args: &Args<'_>) -> ConfResult {
    let (source, target) = (args.bytes(0)?, args.bytes(1)?);
    let (from, to) = (main.charsets.add(source), main.charsets.add(target));
    if from == to {
        return Err(Fault::message(format!(
            "\"charset_map\" between the same charsets \"{}\" and \"{}\"",
            args.lossy(0),
            args.lossy(1)
        )));
    }
    if source.eq_ignore_ascii_case(b"utf-8") {
        return Err(Fault::message(
            "\"charset_map\" with \"utf-8\" charset should be given in the second column",
        ));
    }
    if main.charsets.table(from, to).is_some() {
        return Err(Fault::message(format!(
            "duplicate \"charset_map\" between \"{}\" and \"{}\"",
            args.lossy(0),
            args.lossy(1)
        )));
    }
    let (there, back) = if target.eq_ignore_ascii_case(b"utf-8") { utf8(args)? } else { bytes(args)? };
    main.charsets.tables.push((from, to, Arc::new(there)));
    main.charsets.tables.push((to, from, Arc::new(back)));
    Ok(())
}

/// The two columns of each row.
fn rows<'a>(args: &Args<'a>) -> impl Iterator<Item = ConfResult<(u8, &'a moonrest_conf::Word)>> {
    args.block().iter().map(|row| {
        let [value] = &*row.args else { return Err(at("invalid parameters number".to_owned(), row.span)) };
        match byte(&row.name.text) {
            Some(source) => Ok((source, value)),
            None => Err(invalid(&row.name)),
        }
    })
}

fn at(message: String, span: moonrest_conf::Span) -> Fault {
    moonrest_conf::ConfigError::emerg(message).with_span(span).into()
}

fn invalid(word: &moonrest_conf::Word) -> Fault {
    at(format!("invalid value \"{}\"", word.lossy()), word.span)
}

/// A hexadecimal number up to 255.
fn byte(text: &[u8]) -> Option<u8> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u8, |value, digit| value.checked_mul(16)?.checked_add(hex_value(*digit)?))
}

fn bytes(args: &Args<'_>) -> ConfResult<(Table, Table)> {
    let (mut there, mut back) = (Table::bytes(), Table::bytes());
    for row in rows(args) {
        let (source, word) = row?;
        let target = byte(&word.text).ok_or_else(|| invalid(word))?;
        there[usize::from(source)] = target;
        back[usize::from(target)] = source;
    }
    Ok((Table::Bytes(there), Table::Bytes(back)))
}

fn utf8(args: &Args<'_>) -> ConfResult<(Table, Table)> {
    let (mut there, mut back) = (Table::to_utf8(), Table::from_utf8());
    for row in rows(args) {
        let (source, word) = row?;
        let character: Option<Vec<u8>> =
            word.text.chunks(2).map(|pair| byte(pair).filter(|_| pair.len() == 2)).collect();
        let character =
            character.filter(|bytes| (1..=3).contains(&bytes.len())).ok_or_else(|| invalid(word))?;
        let Decoded::Char(number @ 0..=0xffff, len) = decode(&character) else { return Err(invalid(word)) };
        if len != character.len() {
            return Err(invalid(word));
        }
        let mut entry = [0; 4];
        for (slot, byte) in entry.iter_mut().zip([len as u8].iter().chain(&character)) {
            *slot = *byte;
        }
        there[usize::from(source)] = entry;
        let [_, _, page, low] = number.to_be_bytes();
        back[usize::from(page)].get_or_insert_with(|| Box::new([0; 256]))[usize::from(low)] = source;
    }
    Ok((Table::ToUtf8(there), Table::FromUtf8(back)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_hexadecimal_bytes() {
        assert_eq!(byte(b"E1"), Some(0xe1));
        assert_eq!(byte(b"7"), Some(7));
        assert_eq!(byte(b"00ff"), Some(255));
        assert_eq!(byte(b"100"), None);
        assert_eq!(byte(b"g"), None);
        assert_eq!(byte(b""), None);
    }

    #[test]
    fn charsets_are_the_same_in_any_case() {
        let mut charsets = Charsets::default();
        let first = charsets.add(b"koi8-r");
        assert_eq!(charsets.add(b"KOI8-R"), first);
        assert_eq!(charsets.lookup(Bytes::from_static(b"Koi8-R")).index, Some(first));
        assert_eq!(charsets.lookup(Bytes::from_static(b"utf-8")).index, None);
    }
}
