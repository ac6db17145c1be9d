//! The Huffman code of HPACK (RFC 7541, appendix B). It is canonical: the lengths say all.

/// Bits of each byte's code.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26,
];

/// No code is longer.
const LONGEST: usize = 30;

struct Tables {
    codes: [u32; 256],
    /// Bytes in the order of their codes.
    order: [u8; 256],
    /// By length: the first code, and where its byte stands in `order`.
    first: [(u32, u16, u16); LONGEST + 1],
}

static TABLES: Tables = build();

#[allow(clippy::indexing_slicing, reason = "evaluated when compiling")]
const fn build() -> Tables {
    let mut tables = Tables { codes: [0; 256], order: [0; 256], first: [(0, 0, 0); LONGEST + 1] };
    let (mut code, mut at, mut len) = (0u32, 0u16, 1);
    while len <= LONGEST {
        code <<= 1;
        let start = at;
        tables.first[len].0 = code;
        tables.first[len].1 = at;
        let mut byte = 0;
        while byte < 256 {
            if LENGTHS[byte] as usize == len {
                tables.codes[byte] = code;
                tables.order[at as usize] = byte as u8;
                code += 1;
                at += 1;
            }
            byte += 1;
        }
        tables.first[len].2 = at - start;
        len += 1;
    }
    tables
}

/// Appends the text of `input`; `false` when it is no code, or more than `limit` bytes.
pub(super) fn decode(input: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
    let end = out.len().saturating_add(limit);
    let (mut code, mut len) = (0u32, 0usize);
    let mut ones = true;
    for byte in input {
        for bit in (0..8).rev() {
            let bit = u32::from(byte >> bit & 1);
            ones &= bit == 1;
            code = code << 1 | bit;
            len += 1;
            let Some((first, at, count)) = TABLES.first.get(len) else { return false };
            let Some(index) = code.checked_sub(*first).filter(|index| *index < u32::from(*count)) else {
                continue;
            };
            let Some(symbol) = TABLES.order.get(usize::from(*at) + index as usize) else { return false };
            if out.len() >= end {
                return false;
            }
            out.push(*symbol);
            (code, len, ones) = (0, 0, true);
        }
    }
    // nginx: a whole byte of padding passes, although seven bits are the most there should be.
    ones && len < 16
}

/// How many bytes the code of `text` has.
pub(super) fn encoded_len(text: &[u8]) -> usize {
    let bits: usize =
        text.iter().map(|byte| usize::from(LENGTHS.get(usize::from(*byte)).copied().unwrap_or(0))).sum();
    bits.div_ceil(8)
}

/// Appends the code of `text`.
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let (mut held, mut bits) = (0u64, 0u32);
    for byte in text {
        let at = usize::from(*byte);
        let (Some(code), Some(len)) = (TABLES.codes.get(at), LENGTHS.get(at)) else { continue };
        held = held << len | u64::from(*code);
        bits += u32::from(*len);
        while bits >= 8 {
            bits -= 8;
            out.push((held >> bits) as u8);
        }
    }
    if bits > 0 {
        out.push((held << (8 - bits)) as u8 | 0xff >> bits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_of_the_standard() {
        let check = |text: &str, code: &[u8]| {
            let mut out = Vec::new();
            encode(text.as_bytes(), &mut out);
            assert_eq!((out.as_slice(), encoded_len(text.as_bytes())), (code, code.len()), "{text}");
            let mut back = Vec::new();
            assert!(decode(code, 100, &mut back));
            assert_eq!(back, text.as_bytes());
        };
        // RFC 7541, C.4 and C.6.
        check("www.example.com", &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff]);
        check("no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]);
        check("302", &[0x64, 0x02]);
        check("", &[]);
    }

    #[test]
    fn what_is_no_code_is_refused() {
        let refused = |code: &[u8]| assert!(!decode(code, 100, &mut Vec::new()), "{code:?}");
        refused(&[0xff, 0xff]);
        refused(&[0xff, 0xff, 0xff, 0xff]);
        // Padding that is not all ones.
        refused(&[0x64, 0x02, 0x00, 0x07, 0x00, 0xfe]);
        assert!(!decode(&[0x64, 0x02], 2, &mut Vec::new()));
        assert!(decode(&[0xff], 2, &mut Vec::new()));
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut code = Vec::new();
            encode(&text, &mut code);
            let mut back = Vec::new();
            prop_assert!(decode(&code, 200, &mut back));
            prop_assert_eq!(back, text);
        }

        #[test]
        fn no_code_does_harm(code in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            decode(&code, 50, &mut out);
            prop_assert!(out.len() <= 50);
        }
    }
}
