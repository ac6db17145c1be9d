//! Checking a password against what a password file says: nginx's own schemes and those of crypt(3).
//! <https://nginx.org/en/docs/http/ngx_http_auth_basic_module.html#auth_basic_user_file>

use super::des;
use crate::lenient_base64::decode_base64;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use md5::{Digest as _, Md5};
use sha_crypt::{PasswordVerifier as _, ShaCrypt};
use sha1::Sha1;
use yescrypt::Yescrypt;

/// The digits of crypt(3).
pub(super) const ITOA64: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Whether checking takes so long that the event loop must not wait for it.
pub(super) fn is_slow(stored: &[u8]) -> bool {
    stored.starts_with(b"$")
}

/// Whether `password` is the one that `stored` was made from. An unknown scheme matches nothing.
pub(super) fn matches(password: &[u8], stored: &[u8]) -> bool {
    // As for a C string, the password ends before a zero byte.
    let end = memchr::memchr(0, password).unwrap_or(password.len());
    let password = password.get(..end).unwrap_or_default();
    if stored.starts_with(b"$apr1$") {
        return md5_crypt(password, b"$apr1$", stored) == stored;
    }
    if let Some(plain) = stored.strip_prefix(b"{PLAIN}") {
        return plain == password;
    }
    if let Some(encoded) = stored.strip_prefix(b"{SSHA}") {
        return salted_sha(password, encoded);
    }
    if let Some(encoded) = stored.strip_prefix(b"{SHA}") {
        return STANDARD.encode(Sha1::digest(password)).as_bytes() == encoded;
    }
    libc_crypt(password, stored)
}

/// What nginx leaves to the system's crypt(3).
fn libc_crypt(password: &[u8], stored: &[u8]) -> bool {
    match stored {
        [b'$', b'1', b'$', ..] => md5_crypt(password, b"$1$", stored) == stored,
        [b'$', b'5' | b'6', b'$', ..] => {
            text(stored).is_some_and(|stored| ShaCrypt::default().verify_password(password, stored).is_ok())
        }
        [b'$', b'2', b'a' | b'b' | b'x' | b'y', b'$', ..] => {
            text(stored).is_some_and(|stored| bcrypt::verify(password, stored).unwrap_or(false))
        }
        [b'$', b'y', b'$', ..] => {
            text(stored).is_some_and(|stored| Yescrypt::default().verify_password(password, stored).is_ok())
        }
        [a, b, rest @ ..] if rest.len() == 11 => {
            des::crypt(password, [*a, *b]).is_some_and(|made| made == stored)
        }
        _ => false,
    }
}

fn text(stored: &[u8]) -> Option<&str> {
    std::str::from_utf8(stored).ok()
}

/// Base64 of the SHA-1 of password and salt, followed by the salt.
fn salted_sha(password: &[u8], encoded: &[u8]) -> bool {
    let Some(decoded) = decode_base64(encoded) else { return false };
    let Some((digest, salt)) = decoded.split_at_checked(20) else { return false };
    Sha1::new().chain_update(password).chain_update(salt).finalize()[..] == *digest
        && STANDARD.encode(&decoded).as_bytes() == encoded
}

/// Poul-Henning Kamp's MD5 crypt; Apache's differs in the magic alone.
fn md5_crypt(password: &[u8], magic: &[u8], stored: &[u8]) -> Vec<u8> {
    let salt = stored.get(magic.len()..).unwrap_or_default();
    let end = memchr::memchr(b'$', salt).unwrap_or(salt.len()).min(8);
    let salt = salt.get(..end).unwrap_or_default();

    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut md5 = Md5::new().chain_update(password).chain_update(magic).chain_update(salt);
    for chunk in password.chunks(16) {
        md5.update(&inner[..chunk.len()]);
    }
    let mut bits = password.len();
    while bits > 0 {
        // A zero byte, or the first of the password.
        md5.update(if bits & 1 == 1 { &[0] } else { password.get(..1).unwrap_or_default() });
        bits >>= 1;
    }
    let mut digest = md5.finalize();
    for round in 0..1000 {
        let odd = round & 1 == 1;
        let mut md5 = Md5::new();
        md5.update(if odd { password } else { &digest[..] });
        if round % 3 != 0 {
            md5.update(salt);
        }
        if round % 7 != 0 {
            md5.update(password);
        }
        md5.update(if odd { &digest[..] } else { password });
        digest = md5.finalize();
    }

    let mut out = [magic, salt, b"$"].concat();
    for [a, b, c] in [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]] {
        let word = u32::from(digest[a]) << 16 | u32::from(digest[b]) << 8 | u32::from(digest[c]);
        push_digits(word, 4, &mut out);
    }
    push_digits(digest[11].into(), 2, &mut out);
    out
}

fn push_digits(mut word: u32, count: usize, out: &mut Vec<u8>) {
    for _ in 0..count {
        out.push(ITOA64[usize::try_from(word & 0x3f).unwrap_or(0)]);
        word >>= 6;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(password: &str, stored: &str) {
        assert!(matches(password.as_bytes(), stored.as_bytes()), "{stored}");
        assert!(
            !matches(format!("{password}?").as_bytes(), stored.as_bytes()) || password.len() >= 8,
            "{stored}"
        );
        assert!(!matches(b"wrong", stored.as_bytes()), "{stored}");
    }

    #[test]
    fn every_scheme_knows_its_password() {
        check("foo-pass", "ab5gZNWG8WS2o");
        check("foo-pass", "$1$saltsalt$J1qHwXrLGhcFnuxXjuvg40");
        check("foo-pass", "$apr1$saltsalt$ZGNIkD6C2HW3.Zar8lgf21");
        check("", "$apr1$x$tMwYqBfQwi3FYAr0aJc8M/");
        check("foo-pass", "$5$saltsalt$i5Xs30bhClGhfqzX0uflMHUQCBsFLx0exz9QjqN6o51");
        check("foo-pass", "$5$rounds=1000$saltsalt$mAcRHtF/p7dUdfSnqeeVevv94v2FsBbyAUwt..GIarB");
        check(
            "foo-pass",
            "$6$saltsalt$GlQdiv8Gqy9x0lf9sh3b0wWjbJgeusrWH7g5QLNnLSRyj.PwTbk/u0gYJ9CLiDuKYhs3w/DZ6vYZ5Wxk5xbvB/",
        );
        check("foo-pass", "$2y$05$abcdefghijklmnopqrstuu9VqOvpvwEaNA7xfyCDJ1dHu2I1P0kBS");
        check("foo-pass", "$2b$05$abcdefghijklmnopqrstuu9VqOvpvwEaNA7xfyCDJ1dHu2I1P0kBS");
        check("foo-pass", "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$kOHEs4lG3C7XOWvJ51kkjDlOyLglCFWmkPMshn2K1.8");
        check("password", "{PLAIN}password");
        check("password", "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=");
        check("password", "{SSHA}yI6cZwQadOA1e+/f+T+H3eCQQhRzYWx0");
    }

    #[test]
    fn broken_entries_match_nothing() {
        for stored in [
            "",
            "$1$",
            "$apr1$",
            "$5$",
            "$6$$",
            "$6$rounds=10$salt$x",
            "$2y$",
            "$2y$99$x",
            "$y$",
            "$y$j9T$$",
            "{SSHA}",
            "{SSHA}Zm9vCg==",
            "{SSHA}_____wQadOA1e+/f+T+H3eCQQhRzYWx0",
            "{SHA}",
            "{SHA}Zm9vCg==",
            "*",
            "x",
            "$9$x",
            "plain",
        ] {
            assert!(!matches(b"1", stored.as_bytes()), "{stored}");
            assert!(!matches(b"", stored.as_bytes()), "{stored}");
        }
    }
}
