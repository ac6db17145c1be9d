//! DER, as far as its bytes are needed as they are: what was signed, names, keys. All else is decoded by `der`.

/// One element: its tag, its contents, and all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element<'a> {
    pub tag: u8,
    pub contents: &'a [u8],
    pub whole: &'a [u8],
}

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;

/// Reads elements one behind the other.
#[derive(Clone, Copy)]
pub(super) struct Elements<'a>(pub &'a [u8]);

impl<'a> Elements<'a> {
    /// The next element, whatever it is.
    pub(super) fn any(&mut self) -> Option<Element<'a>> {
        let input = self.0;
        let (&tag, rest) = input.split_first()?;
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit)), rest)
            }
            _ => return None,
        };
        let (contents, behind) = rest.split_at_checked(len)?;
        let whole = input.get(..input.len() - behind.len())?;
        self.0 = behind;
        Some(Element { tag, contents, whole })
    }

    /// The next element, if it has that tag; otherwise nothing is read.
    pub(super) fn next(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut ahead = *self;
        let element = ahead.any().filter(|element| element.tag == tag)?;
        *self = ahead;
        Some(element)
    }

    /// What is in the next element, if it has that tag.
    pub(super) fn open(&mut self, tag: u8) -> Option<Self> {
        self.next(tag).map(|element| Self(element.contents))
    }

    /// The whole bytes of the next element, a bit string.
    pub(super) fn bits(&mut self) -> Option<&'a [u8]> {
        self.next(BIT_STRING)?.contents.strip_prefix(&[0])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The first element of some bytes, with its head.
pub(super) fn first(input: &[u8]) -> Option<&[u8]> {
    Elements(input).any().map(|element| element.whole)
}

/// Encodes an element.
pub(super) fn encode(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let len = contents.len();
    if let (Ok(short), true) = (u8::try_from(len), len < 0x80) {
        out.push(short);
    } else {
        let digits = len.to_be_bytes();
        let skip = digits.iter().take_while(|digit| **digit == 0).count();
        let digits = digits.get(skip..).unwrap_or_default();
        out.push(0x80 | u8::try_from(digits.len()).unwrap_or(0));
        out.extend_from_slice(digits);
    }
    out.extend_from_slice(contents);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_one_behind_the_other() {
        let long = encode(SEQUENCE, &[7; 300]);
        assert_eq!(&long[..4], [0x30, 0x82, 1, 44]);
        let input = [&[0x02, 0x01, 0x05][..], &long].concat();
        let mut elements = Elements(&input);
        assert_eq!(elements.next(SEQUENCE), None);
        assert_eq!(elements.next(INTEGER).map(|e| e.contents), Some(&[5][..]));
        assert_eq!(elements.open(SEQUENCE).map(|inner| inner.0.len()), Some(300));
        assert!(elements.is_empty());
        assert_eq!(Elements(&[0x30, 0x85, 0, 0, 0, 0, 0]).any(), None);
        assert_eq!(Elements(&[0x30, 5, 1]).any(), None);
    }
}
