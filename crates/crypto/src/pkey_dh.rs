//! Diffie-Hellman keys (PKCS#3): groups, keys, and the forms that the library does not write: parameters and secret halves.
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use aws_lc_sys as sys;

use crate::bio;
use crate::bn::BigNum;
use crate::error::{self, Error, Outcome, check, int};
use crate::pkey::Key;

owned!(Exchange, sys::DH, sys::DH_free);

/// The numbers of a key, or of a group alone.
#[derive(Default)]
pub struct Dh {
    pub p: Option<BigNum>,
    pub g: Option<BigNum>,
    pub q: Option<BigNum>,
    pub public: Option<BigNum>,
    pub private: Option<BigNum>,
}

/// Larger primes are not looked for: that takes longer than a worker may be kept from everything else.
const SEARCHED_BITS: u32 = 1024;
const GENERATOR: c_int = 2;

fn give(number: Option<&BigNum>) -> Outcome<*mut sys::BIGNUM> {
    number.map_or(Ok(null_mut()), BigNum::give)
}

fn modp(make: unsafe extern "C" fn(*mut sys::BIGNUM) -> *mut sys::BIGNUM) -> Outcome<Dh> {
    // SAFETY: asked with a null pointer the library makes a new number.
    let p = BigNum::own(unsafe { make(null_mut()) })?;
    Ok(Dh { p: Some(p), g: Some(BigNum::from_word(2)?), ..Dh::default() })
}

fn of_library(make: unsafe extern "C" fn() -> *mut sys::DH) -> Outcome<Dh> {
    // SAFETY: no arguments; what is made is ours.
    Exchange::own(unsafe { make() }).map(|group| group.numbers())
}

fn of_text([p, g, q]: [&str; 3]) -> Outcome<Dh> {
    let number = |text: &str| BigNum::from_hex(text.as_bytes()).map(Some);
    Ok(Dh { p: number(p)?, g: number(g)?, q: number(q)?, ..Dh::default() })
}

impl Dh {
    /// A group by OpenSSL's name.
    ///
    /// # Errors
    /// Names that are not known.
    pub fn group(name: &str) -> Outcome<Self> {
        match name {
            "dh_1024_160" => of_text(DH_1024_160),
            "dh_2048_224" => of_text(DH_2048_224),
            "dh_2048_256" => of_library(sys::DH_get_2048_256),
            "ffdhe2048" => of_library(sys::DH_get_rfc7919_2048),
            "ffdhe4096" => of_library(sys::DH_get_rfc7919_4096),
            "modp_1536" => modp(sys::BN_get_rfc3526_prime_1536),
            "modp_2048" => modp(sys::BN_get_rfc3526_prime_2048),
            "modp_3072" => modp(sys::BN_get_rfc3526_prime_3072),
            "modp_4096" => modp(sys::BN_get_rfc3526_prime_4096),
            "modp_6144" => modp(sys::BN_get_rfc3526_prime_6144),
            "modp_8192" => modp(sys::BN_get_rfc3526_prime_8192),
            _ => Err(Error::new(format!("unknown group {name}"))),
        }
    }

    /// A group of so many bits: a well-known one, or, of few bits, a new one.
    ///
    /// # Errors
    /// Other sizes.
    pub fn of_bits(bits: u32) -> Outcome<Self> {
        match bits {
            2048 => Self::group("ffdhe2048"),
            4096 => Self::group("ffdhe4096"),
            1536 | 3072 | 6144 | 8192 => Self::group(&format!("modp_{bits}")),
            256..=SEARCHED_BITS => {
                // SAFETY: a live object, and no callback.
                unsafe {
                    let made = Exchange::own(sys::DH_new())?;
                    let bits = int(bits as usize)?;
                    check(sys::DH_generate_parameters_ex(made.ptr(), bits, GENERATOR, null_mut()))?;
                    Ok(made.numbers())
                }
            }
            _ => Err(Error::new("modulus of this size is not supported")),
        }
    }

    /// A new key of this group.
    ///
    /// # Errors
    /// A group that makes no sense.
    pub fn generate(&self) -> Outcome<Key> {
        let group = Self { p: copy(&self.p)?, g: copy(&self.g)?, q: copy(&self.q)?, ..Self::default() };
        Exchange::of(&group, true)?.key()
    }

    /// The key of these numbers; a public half that is not given is calculated.
    ///
    /// # Errors
    /// Numbers that are no key.
    pub fn key(&self) -> Outcome<Key> {
        Exchange::of(self, self.public.is_none())?.key()
    }

    /// `-----BEGIN DH PARAMETERS-----`.
    ///
    /// # Errors
    /// A group that makes no sense.
    pub fn parameters_pem(&self) -> Outcome<Vec<u8>> {
        let group = Exchange::of(self, false)?;
        // SAFETY: a live BIO and a live group.
        bio::write(|bio| unsafe { sys::PEM_write_bio_DHparams(bio, group.ptr()) })
    }

    /// # Errors
    /// Text without parameters.
    pub fn from_parameters_pem(text: &[u8]) -> Outcome<Self> {
        // SAFETY: a live BIO; no password is asked for.
        let read =
            bio::read(text, |bio| unsafe { sys::PEM_read_bio_DHparams(bio, null_mut(), None, null_mut()) })?;
        Exchange::own(read).map(|group| group.numbers())
    }
}

fn copy(number: &Option<BigNum>) -> Outcome<Option<BigNum>> {
    number.as_ref().map(BigNum::dup).transpose()
}

impl Exchange {
    fn of(numbers: &Dh, calculate: bool) -> Outcome<Self> {
        if numbers.p.is_none() || numbers.g.is_none() {
            return Err(Error::new("\"p\" and \"g\" are needed"));
        }
        // SAFETY: a live object; numbers are given to it, and a failed gift leaks nothing but numbers.
        unsafe {
            let made = Self::own(sys::DH_new())?;
            let (p, q, g) = (give(numbers.p.as_ref())?, give(numbers.q.as_ref())?, give(numbers.g.as_ref())?);
            check(sys::DH_set0_pqg(made.ptr(), p, q, g))?;
            if numbers.public.is_some() || numbers.private.is_some() {
                let (public, private) = (give(numbers.public.as_ref())?, give(numbers.private.as_ref())?);
                check(sys::DH_set0_key(made.ptr(), public, private))?;
            }
            if calculate {
                check(sys::DH_generate_key(made.ptr()))?;
            }
            Ok(made)
        }
    }

    fn numbers(&self) -> Dh {
        // SAFETY: a live object, which lends what is copied at once.
        unsafe {
            let l = self.ptr();
            Dh {
                p: BigNum::copy(sys::DH_get0_p(l)),
                g: BigNum::copy(sys::DH_get0_g(l)),
                q: BigNum::copy(sys::DH_get0_q(l)),
                public: BigNum::copy(sys::DH_get0_pub_key(l)),
                private: BigNum::copy(sys::DH_get0_priv_key(l)),
            }
        }
    }

    fn key(self) -> Outcome<Key> {
        // SAFETY: both live; the key counts what it is given.
        unsafe {
            let key = Key::own(sys::EVP_PKEY_new())?;
            check(sys::EVP_PKEY_set1_DH(key.ptr(), self.ptr()))?;
            Ok(key)
        }
    }
}

impl Key {
    pub fn dh_parameters(&self) -> Option<Dh> {
        // SAFETY: a live key; the object is counted.
        unsafe {
            let exchange = sys::EVP_PKEY_get1_DH(self.ptr());
            error::clear();
            Exchange::own(exchange).ok().map(|exchange| exchange.numbers())
        }
    }

    /// A secret half as PKCS#8 has it (RFC 5208; PKCS#3, 9).
    ///
    /// # Errors
    /// Another kind of key, or one without it.
    pub(crate) fn dh_private_der(&self) -> Outcome<Vec<u8>> {
        let missing = || Error::new("not a private key");
        let numbers = self.dh_parameters().ok_or_else(missing)?;
        let (p, g) = (numbers.p.ok_or_else(missing)?, numbers.g.ok_or_else(missing)?);
        let private = numbers.private.ok_or_else(missing)?;
        let group = tlv(0x30, &[integer(&p), integer(&g)].concat());
        let algorithm = tlv(0x30, &[tlv(6, OID), group].concat());
        Ok(tlv(0x30, &[tlv(2, &[0]), algorithm, tlv(4, &integer(&private))].concat()))
    }

    /// # Errors
    /// See [`Key::dh_private_der`].
    pub(crate) fn dh_private_pem(&self) -> Outcome<Vec<u8>> {
        let der = self.dh_private_der()?;
        let len = int(der.len())?.into();
        // SAFETY: a live BIO; texts that end with NUL; pointer and length of a slice.
        bio::write(|bio| unsafe {
            sys::PEM_write_bio(bio, c"PRIVATE KEY".as_ptr(), c"".as_ptr(), der.as_ptr(), len)
        })
    }

    /// Reads what [`Key::dh_private_pem`] writes; `None` for anything else.
    pub(crate) fn from_dh_private_pem(text: &[u8]) -> Option<Self> {
        let (mut label, mut header, mut data, mut len) = (null_mut(), null_mut(), null_mut(), 0);
        // SAFETY: a live BIO; places for what the library allocates, which is copied and freed.
        let der = unsafe {
            let read = bio::read(text, |bio| {
                sys::PEM_read_bio(bio, &raw mut label, &raw mut header, &raw mut data, &raw mut len)
            });
            error::clear();
            if !matches!(read, Ok(1)) {
                return None;
            }
            let der = bio::slice(data, usize::try_from(len).unwrap_or(0)).to_vec();
            sys::OPENSSL_free(label.cast::<c_void>());
            sys::OPENSSL_free(header.cast::<c_void>());
            sys::OPENSSL_free(data.cast::<c_void>());
            der
        };
        Self::from_dh_private_der(&der)
    }

    pub(crate) fn from_dh_private_der(der: &[u8]) -> Option<Self> {
        let (0x30, whole, _) = element(der)? else { return None };
        let (2, _, rest) = element(whole)? else { return None };
        let (0x30, algorithm, rest) = element(rest)? else { return None };
        let (6, OID, group) = element(algorithm)? else { return None };
        let (0x30, group, _) = element(group)? else { return None };
        let (2, p, group) = element(group)? else { return None };
        let (2, g, _) = element(group)? else { return None };
        let (4, private, _) = element(rest)? else { return None };
        let (2, private, _) = element(private)? else { return None };
        let number = |bytes: &[u8]| BigNum::from_binary(bytes).ok();
        let dh = Dh { p: number(p), g: number(g), private: number(private), ..Dh::default() };
        let key = dh.key().ok();
        error::clear();
        key
    }
}

/// 1.2.840.113549.1.3.1
const OID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 3, 1];

fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let bytes = contents.len().to_be_bytes();
    let significant = bytes.iter().position(|byte| *byte != 0).map_or(&[][..], |at| &bytes[at..]);
    match u8::try_from(contents.len()) {
        Ok(len) if len < 128 => out.push(len),
        _ => {
            out.push(0x80 | significant.len() as u8);
            out.extend_from_slice(significant);
        }
    }
    out.extend_from_slice(contents);
    out
}

fn integer(number: &BigNum) -> Vec<u8> {
    let mut bytes = number.to_binary();
    // No sign, and at least one byte.
    if bytes.first().is_none_or(|first| *first >= 128) {
        bytes.insert(0, 0);
    }
    tlv(2, &bytes)
}

/// `tag, contents, what follows` of the first element.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], mut rest) = der.split_first_chunk::<2>()?;
    let mut len = usize::from(first);
    if first >= 128 {
        let (bytes, behind) = rest.split_at_checked(usize::from(first & 127))?;
        if bytes.is_empty() || bytes.len() > 4 {
            return None;
        }
        len = bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
        rest = behind;
    }
    let (contents, rest) = rest.split_at_checked(len)?;
    Some((tag, contents, rest))
}

/// RFC 5114, 2.1.
const DH_1024_160: [&str; 3] = [
    "B10B8F96A080E01DDE92DE5EAE5D54EC52C99FBCFB06A3C69A6A9DCA52D23B616073E28675A23D189838EF1E2EE652C0\
     13ECB4AEA906112324975C3CD49B83BFACCBDD7D90C4BD7098488E9C219A73724EFFD6FAE5644738FAA31A4FF55BCCC0\
     A151AF5F0DC8B4BD45BF37DF365C1A65E68CFDA76D4DA708DF1FB2BC2E4A4371",
    "A4D1CBD5C3FD34126765A442EFB99905F8104DD258AC507FD6406CFF14266D31266FEA1E5C41564B777E690F5504F213\
     160217B4B01B886A5E91547F9E2749F4D7FBD7D3B9A92EE1909D0D2263F80A76A6A24C087A091F531DBF0A0169B6A28A\
     D662A4D18E73AFA32D779D5918D08BC8858F4DCEF97C2A24855E6EEB22B3B2E5",
    "F518AA8781A8DF278ABA4E7D64B7CB9D49462353",
];

/// RFC 5114, 2.2.
const DH_2048_224: [&str; 3] = [
    "AD107E1E9123A9D0D660FAA79559C51FA20D64E5683B9FD1B54B1597B61D0A75E6FA141DF95A56DBAF9A3C407BA1DF15\
     EB3D688A309C180E1DE6B85A1274A0A66D3F8152AD6AC2129037C9EDEFDA4DF8D91E8FEF55B7394B7AD5B7D0B6C12207\
     C9F98D11ED34DBF6C6BA0B2C8BBC27BE6A00E0A0B9C49708B3BF8A317091883681286130BC8985DB1602E714415D9330\
     278273C7DE31EFDC7310F7121FD5A07415987D9ADC0A486DCDF93ACC44328387315D75E198C641A480CD86A1B9E587E8\
     BE60E69CC928B2B9C52172E413042E9B23F10B0E16E79763C9B53DCF4BA80A29E3FB73C16B8E75B97EF363E2FFA31F71\
     CF9DE5384E71B81C0AC4DFFE0C10E64F",
    "AC4032EF4F2D9AE39DF30B5C8FFDAC506CDEBE7B89998CAF74866A08CFE4FFE3A6824A4E10B9A6F0DD921F01A70C4AFA\
     AB739D7700C29F52C57DB17C620A8652BE5E9001A8D66AD7C17669101999024AF4D027275AC1348BB8A762D0521BC98A\
     E247150422EA1ED409939D54DA7460CDB5F6C6B250717CBEF180EB34118E98D119529A45D6F834566E3025E316A330EF\
     BB77A86F0C1AB15B051AE3D428C8F8ACB70A8137150B8EEB10E183EDD19963DDD9E263E4770589EF6AA21E7F5F2FF381\
     B539CCE3409D13CD566AFBB48D6C019181E1BCFE94B30269EDFE72FE9B6AA4BD7B5A0F1C71CFFF4C19C418E1F6EC0179\
     81BC087F2A7065B384B890D3191F2BFA",
    "801C0D34C58D93FE997177101F80535A4738CEBCBF389A99B36371EB",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pkey_text::Half;

    #[test]
    fn two_sides_come_to_the_same_secret() {
        for name in ["dh_1024_160", "ffdhe2048", "modp_1536"] {
            let group = Dh::group(name).unwrap();
            let (a, b) = (group.generate().unwrap(), group.generate().unwrap());
            let secret = a.derive(&b).unwrap();
            assert_eq!(secret, b.derive(&a).unwrap(), "{name}");
            assert!(!secret.is_empty() && a.is_private());
        }
        assert!(Dh::group("curve25519").is_err() && Dh::of_bits(1).is_err());
    }

    #[test]
    fn keys_and_parameters_are_written_and_read() {
        let key = Dh::group("dh_1024_160").unwrap().generate().unwrap();
        let pem = key.private_pem(None).unwrap();
        let back = Key::from_pem(&pem, Half::Any, None).unwrap();
        assert_eq!(back.private_pem(None).unwrap(), pem);
        assert!(back.same_public(&key));
        let der = key.dh_private_der().unwrap();
        for end in 0..der.len() {
            assert!(Key::from_dh_private_der(&der[..end]).is_none());
        }
        let public = Key::from_pem(&key.public_pem().unwrap(), Half::Any, None).unwrap();
        assert!(!public.is_private() && public.private_pem(None).is_err());
        let text = Dh::group("modp_2048").unwrap().parameters_pem().unwrap();
        let group = Dh::from_parameters_pem(&text).unwrap();
        assert_eq!(group.p.unwrap().to_binary().len(), 256);
    }
}
