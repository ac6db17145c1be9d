//! Values of a specification's sections, as the evaluator writes them.
use std::collections::BTreeMap;

/// A value of a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Undefined,
    Bytes(Vec<u8>),
    /// A regular expression in Perl's notation.
    Regex(Vec<u8>),
    List(Vec<Self>),
    Map(BTreeMap<String, Self>),
    /// A subroutine, to be called by its number.
    Code(usize),
}

/// The evaluator wrote something else than a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the evaluator's answer cannot be read at byte {at}")]
pub(super) struct Unreadable {
    at: usize,
}

impl Value {
    /// Reads one value that fills `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader { bytes, at: 0 };
        let value = reader.value()?;
        if reader.at == bytes.len() { Ok(value) } else { Err(Unreadable { at: reader.at }) }
    }

    /// The bytes of a string or the text of an expression.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) | Self::Regex(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A string as text.
    pub(super) fn text(&self) -> Option<String> {
        self.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// An entry of a map.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries.get(key).filter(|value| **value != Self::Undefined),
            _ => None,
        }
    }

    /// The elements of a list; of anything else, the value alone.
    pub(super) fn elements(&self) -> Vec<&Self> {
        match self {
            Self::List(values) => values.iter().collect(),
            other => vec![other],
        }
    }

    /// A decimal number.
    pub(super) fn number<T: std::str::FromStr>(&self) -> Option<T> {
        self.text()?.trim().parse().ok()
    }

    /// Whether Perl takes it for true.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Undefined => false,
            Self::Bytes(bytes) => !bytes.is_empty() && bytes != b"0",
            _ => true,
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self) -> Result<Value, Unreadable> {
        let kind = *self.bytes.get(self.at).ok_or(Unreadable { at: self.at })?;
        self.at += 1;
        if kind == b'u' {
            return Ok(Value::Undefined);
        }
        let number = self.number()?;
        match kind {
            b's' => Ok(Value::Bytes(self.take(number)?)),
            b'r' => Ok(Value::Regex(self.take(number)?)),
            b'c' => Ok(Value::Code(number)),
            b'l' => (0..number).map(|_| self.value()).collect::<Result<_, _>>().map(Value::List),
            b'm' => (0..number).map(|_| self.entry()).collect::<Result<_, _>>().map(Value::Map),
            _ => Err(Unreadable { at: self.at }),
        }
    }

    fn entry(&mut self) -> Result<(String, Value), Unreadable> {
        let key = self.value()?.text().ok_or(Unreadable { at: self.at })?;
        Ok((key, self.value()?))
    }

    fn number(&mut self) -> Result<usize, Unreadable> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().position(|&b| b == b':').ok_or(Unreadable { at: self.at })?;
        let digits = std::str::from_utf8(&rest[..len]).ok().and_then(|digits| digits.parse().ok());
        let number = digits.ok_or(Unreadable { at: self.at })?;
        self.at += len + 1;
        Ok(number)
    }

    fn take(&mut self, len: usize) -> Result<Vec<u8>, Unreadable> {
        let taken =
            self.bytes.get(self.at..).and_then(|rest| rest.get(..len)).ok_or(Unreadable { at: self.at })?;
        self.at += len;
        Ok(taken.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_values_are_read() {
        let value = Value::decode(b"m2:s1:al2:s3:x:yus1:br4:(?i)").unwrap();
        let list = Value::List(vec![Value::Bytes(b"x:y".to_vec()), Value::Undefined]);
        assert_eq!(value.get("a"), Some(&list));
        assert_eq!(value.get("b"), Some(&Value::Regex(b"(?i)".to_vec())));
    }

    #[test]
    fn broken_values_are_refused() {
        for broken in ["", "s", "s5:ab", "x1:", "l2:u", "uu", "m1:us1:a"] {
            assert!(Value::decode(broken.as_bytes()).is_err(), "{broken}");
        }
    }
}
