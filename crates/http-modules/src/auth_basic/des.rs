//! The oldest scheme of crypt(3): a block of zeros, enciphered 25 times with DES whose expansion the salt has changed.
//! Weak, but still found in old password files.

/// Initial permutation of a block, as numbers of bits counted from 1 at the left; the final one is its inverse.
const IP: [u8; 64] = [
    58, 50, 42, 34, 26, 18, 10, 2, 60, 52, 44, 36, 28, 20, 12, 4, 62, 54, 46, 38, 30, 22, 14, 6, 64, 56, 48,
    40, 32, 24, 16, 8, 57, 49, 41, 33, 25, 17, 9, 1, 59, 51, 43, 35, 27, 19, 11, 3, 61, 53, 45, 37, 29, 21,
    13, 5, 63, 55, 47, 39, 31, 23, 15, 7,
];
const FP: [u8; 64] = [
    40, 8, 48, 16, 56, 24, 64, 32, 39, 7, 47, 15, 55, 23, 63, 31, 38, 6, 46, 14, 54, 22, 62, 30, 37, 5, 45,
    13, 53, 21, 61, 29, 36, 4, 44, 12, 52, 20, 60, 28, 35, 3, 43, 11, 51, 19, 59, 27, 34, 2, 42, 10, 50, 18,
    58, 26, 33, 1, 41, 9, 49, 17, 57, 25,
];
/// Expansion of half a block to 48 bits.
const E: [u8; 48] = [
    32, 1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 9, 8, 9, 10, 11, 12, 13, 12, 13, 14, 15, 16, 17, 16, 17, 18, 19, 20,
    21, 20, 21, 22, 23, 24, 25, 24, 25, 26, 27, 28, 29, 28, 29, 30, 31, 32, 1,
];
const P: [u8; 32] = [
    16, 7, 20, 21, 29, 12, 28, 17, 1, 15, 23, 26, 5, 18, 31, 10, 2, 8, 24, 14, 32, 27, 3, 9, 19, 13, 30, 6,
    22, 11, 4, 25,
];
/// From the key to 56 bits, and from those to the key of a round.
const PC1: [u8; 56] = [
    57, 49, 41, 33, 25, 17, 9, 1, 58, 50, 42, 34, 26, 18, 10, 2, 59, 51, 43, 35, 27, 19, 11, 3, 60, 52, 44,
    36, 63, 55, 47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22, 14, 6, 61, 53, 45, 37, 29, 21, 13, 5, 28, 20,
    12, 4,
];
const PC2: [u8; 48] = [
    14, 17, 11, 24, 1, 5, 3, 28, 15, 6, 21, 10, 23, 19, 12, 4, 26, 8, 16, 7, 27, 20, 13, 2, 41, 52, 31, 37,
    47, 55, 30, 40, 51, 45, 33, 48, 44, 49, 39, 56, 34, 53, 46, 42, 50, 36, 29, 32,
];
const SHIFTS: [u8; 16] = [1, 1, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 1];
const S: [[u8; 64]; 8] = [
    [
        14, 4, 13, 1, 2, 15, 11, 8, 3, 10, 6, 12, 5, 9, 0, 7, 0, 15, 7, 4, 14, 2, 13, 1, 10, 6, 12, 11, 9, 5,
        3, 8, 4, 1, 14, 8, 13, 6, 2, 11, 15, 12, 9, 7, 3, 10, 5, 0, 15, 12, 8, 2, 4, 9, 1, 7, 5, 11, 3, 14,
        10, 0, 6, 13,
    ],
    [
        15, 1, 8, 14, 6, 11, 3, 4, 9, 7, 2, 13, 12, 0, 5, 10, 3, 13, 4, 7, 15, 2, 8, 14, 12, 0, 1, 10, 6, 9,
        11, 5, 0, 14, 7, 11, 10, 4, 13, 1, 5, 8, 12, 6, 9, 3, 2, 15, 13, 8, 10, 1, 3, 15, 4, 2, 11, 6, 7, 12,
        0, 5, 14, 9,
    ],
    [
        10, 0, 9, 14, 6, 3, 15, 5, 1, 13, 12, 7, 11, 4, 2, 8, 13, 7, 0, 9, 3, 4, 6, 10, 2, 8, 5, 14, 12, 11,
        15, 1, 13, 6, 4, 9, 8, 15, 3, 0, 11, 1, 2, 12, 5, 10, 14, 7, 1, 10, 13, 0, 6, 9, 8, 7, 4, 15, 14, 3,
        11, 5, 2, 12,
    ],
    [
        7, 13, 14, 3, 0, 6, 9, 10, 1, 2, 8, 5, 11, 12, 4, 15, 13, 8, 11, 5, 6, 15, 0, 3, 4, 7, 2, 12, 1, 10,
        14, 9, 10, 6, 9, 0, 12, 11, 7, 13, 15, 1, 3, 14, 5, 2, 8, 4, 3, 15, 0, 6, 10, 1, 13, 8, 9, 4, 5, 11,
        12, 7, 2, 14,
    ],
    [
        2, 12, 4, 1, 7, 10, 11, 6, 8, 5, 3, 15, 13, 0, 14, 9, 14, 11, 2, 12, 4, 7, 13, 1, 5, 0, 15, 10, 3, 9,
        8, 6, 4, 2, 1, 11, 10, 13, 7, 8, 15, 9, 12, 5, 6, 3, 0, 14, 11, 8, 12, 7, 1, 14, 2, 13, 6, 15, 0, 9,
        10, 4, 5, 3,
    ],
    [
        12, 1, 10, 15, 9, 2, 6, 8, 0, 13, 3, 4, 14, 7, 5, 11, 10, 15, 4, 2, 7, 12, 9, 5, 6, 1, 13, 14, 0, 11,
        3, 8, 9, 14, 15, 5, 2, 8, 12, 3, 7, 0, 4, 10, 1, 13, 11, 6, 4, 3, 2, 12, 9, 5, 15, 10, 11, 14, 1, 7,
        6, 0, 8, 13,
    ],
    [
        4, 11, 2, 14, 15, 0, 8, 13, 3, 12, 9, 7, 5, 10, 6, 1, 13, 0, 11, 7, 4, 9, 1, 10, 14, 3, 5, 12, 2, 15,
        8, 6, 1, 4, 11, 13, 12, 3, 7, 14, 10, 15, 6, 8, 0, 5, 9, 2, 6, 11, 13, 8, 1, 4, 10, 7, 9, 5, 0, 15,
        14, 2, 3, 12,
    ],
    [
        13, 2, 8, 4, 6, 15, 11, 1, 10, 9, 3, 14, 5, 0, 12, 7, 1, 15, 13, 8, 10, 3, 7, 4, 12, 5, 6, 11, 0, 14,
        9, 2, 7, 11, 4, 1, 9, 12, 14, 2, 0, 6, 10, 13, 15, 3, 5, 8, 2, 1, 14, 7, 4, 10, 8, 13, 15, 12, 9, 0,
        3, 5, 6, 11,
    ],
];

/// The 13 characters of `crypt(password, salt)`, or `None` when these two characters are no salt.
pub(super) fn crypt(password: &[u8], salt: [u8; 2]) -> Option<[u8; 13]> {
    let mask = u32::from(value(salt[0])?) | u32::from(value(salt[1])?) << 6;
    // Seven bits of each of the first eight characters.
    let key = (0..8).fold(0_u64, |key, n| key << 8 | u64::from(password.get(n).copied().unwrap_or(0) << 1));
    let keys = schedule(key);
    let mut block = 0_u64;
    for _ in 0..25 {
        block = encipher(block, &keys, mask);
    }
    let mut out = [salt[0], salt[1], 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (n, slot) in out.iter_mut().skip(2).enumerate() {
        // Eleven groups of six bits from the left; the last has only four.
        let group = if n < 10 { block >> (58 - 6 * n) } else { block << 2 } & 0x3f;
        *slot = super::crypt::ITOA64[usize::try_from(group).unwrap_or(0)];
    }
    Some(out)
}

/// The value of a salt's character.
fn value(character: u8) -> Option<u8> {
    super::crypt::ITOA64.iter().position(|known| *known == character).and_then(|at| u8::try_from(at).ok())
}

/// Takes bits of a word of `width` bits in the order of `table`.
fn permute(word: u64, width: u32, table: &[u8]) -> u64 {
    table.iter().fold(0, |out, &bit| out << 1 | word >> (width - u32::from(bit)) & 1)
}

fn schedule(key: u64) -> [u64; 16] {
    const HALF: u64 = (1 << 28) - 1;
    let both = permute(key, 64, &PC1);
    let (mut c, mut d) = (both >> 28, both & HALF);
    SHIFTS.map(|shift| {
        c = (c << shift | c >> (28 - shift)) & HALF;
        d = (d << shift | d >> (28 - shift)) & HALF;
        permute(c << 28 | d, 56, &PC2)
    })
}

fn encipher(block: u64, keys: &[u64; 16], salt: u32) -> u64 {
    let block = permute(block, 64, &IP);
    let (mut left, mut right) = (block >> 32, block & 0xffff_ffff);
    for key in keys {
        let expanded = swap(permute(right, 32, &E), salt) ^ key;
        let chosen = S.iter().enumerate().fold(0_u64, |out, (n, table)| {
            let six = expanded >> (42 - 6 * n) & 0x3f;
            let (row, column) = (six >> 4 & 2 | six & 1, six >> 1 & 0xf);
            out << 4 | u64::from(table[usize::try_from(row << 4 | column).unwrap_or(0)])
        });
        (left, right) = (right, left ^ permute(chosen, 32, &P));
    }
    permute(right << 32 | left, 64, &FP)
}

/// Exchanges bit `n` of one half of the expansion with that of the other where bit `n` of the salt is set.
fn swap(expanded: u64, salt: u32) -> u64 {
    let mut out = expanded;
    for n in 0..12 {
        if salt >> n & 1 == 1 {
            let (a, b) = (47 - n, 23 - n);
            if expanded >> a & 1 != expanded >> b & 1 {
                out ^= 1 << a | 1 << b;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_passwords() {
        let check = |password: &str, expect: &str| {
            let salt = [expect.as_bytes()[0], expect.as_bytes()[1]];
            assert_eq!(&crypt(password.as_bytes(), salt).unwrap(), expect.as_bytes(), "{password}");
        };
        check("foo-pass", "ab5gZNWG8WS2o");
        check("foo-pass", "xy3/FHhVEViKQ");
        check("a longer password than eight", "q/iHI0viCLW/E");
        check("", "zz6dpSdr.LHZw");
        assert_eq!(crypt(b"x", *b"!a"), None);
    }
}
