//! Numbers of any size.
use std::cmp::Ordering;
use std::ffi::{CString, c_int};

use aws_lc_sys as sys;

use crate::bio;
use crate::error::{self, Error, Outcome, check, int};

owned!(
    /// A number of any size.
    BigNum,
    sys::BIGNUM,
    sys::BN_free
);
owned!(Scratch, sys::BN_CTX, sys::BN_CTX_free);

/// What takes longer than anybody waits.
const BITS_MAX: u32 = 1 << 18;

/// An operation on two numbers.
#[derive(Clone, Copy, Debug)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Gcd,
    Exp,
}

/// An operation on two numbers modulo a third.
#[derive(Clone, Copy, Debug)]
pub enum Modular {
    Add,
    Sub,
    Mul,
    Exp,
}

fn scratch() -> Outcome<Scratch> {
    // SAFETY: no arguments.
    Scratch::own(unsafe { sys::BN_CTX_new() })
}

impl BigNum {
    /// Zero.
    ///
    /// # Errors
    /// Only for want of memory.
    pub fn new() -> Outcome<Self> {
        // SAFETY: no arguments.
        Self::own(unsafe { sys::BN_new() })
    }

    /// # Errors
    /// Only for want of memory.
    pub fn from_word(word: u64) -> Outcome<Self> {
        let number = Self::new()?;
        // SAFETY: a live number.
        check(unsafe { sys::BN_set_u64(number.ptr(), word) })?;
        Ok(number)
    }

    /// A copy of a number of the library's.
    ///
    /// # Safety
    /// Null or a live number.
    pub(crate) unsafe fn copy(number: *const sys::BIGNUM) -> Option<Self> {
        if number.is_null() {
            return None;
        }
        // SAFETY: the caller's promise.
        Self::own(unsafe { sys::BN_dup(number) }).ok()
    }

    /// # Errors
    /// Only for want of memory.
    pub fn dup(&self) -> Outcome<Self> {
        // SAFETY: a live number.
        Self::own(unsafe { sys::BN_dup(self.ptr()) })
    }

    /// A copy that the library is to own.
    pub(crate) fn give(&self) -> Outcome<*mut sys::BIGNUM> {
        let copy = self.dup()?;
        let pointer = copy.ptr();
        std::mem::forget(copy);
        Ok(pointer)
    }

    /// From bytes, the most significant first.
    ///
    /// # Errors
    /// Only for want of memory.
    pub fn from_binary(bytes: &[u8]) -> Outcome<Self> {
        // SAFETY: pointer and length of a slice.
        Self::own(unsafe { sys::BN_bin2bn(bytes.as_ptr(), bytes.len(), std::ptr::null_mut()) })
    }

    /// From bytes after their count in four bytes, as OpenSSL's `mpi` has it.
    ///
    /// # Errors
    /// A count that does not fit.
    pub fn from_mpi(bytes: &[u8]) -> Outcome<Self> {
        // SAFETY: pointer and length of a slice.
        Self::own(unsafe { sys::BN_mpi2bn(bytes.as_ptr(), bytes.len(), std::ptr::null_mut()) })
    }

    /// # Errors
    /// What is not hexadecimal.
    pub fn from_hex(text: &[u8]) -> Outcome<Self> {
        Self::parse(text, sys::BN_hex2bn)
    }

    /// # Errors
    /// What is not decimal.
    pub fn from_dec(text: &[u8]) -> Outcome<Self> {
        Self::parse(text, sys::BN_dec2bn)
    }

    fn parse(
        text: &[u8],
        parse: unsafe extern "C" fn(*mut *mut sys::BIGNUM, *const std::ffi::c_char) -> c_int,
    ) -> Outcome<Self> {
        let text = CString::new(text).map_err(|_| Error::new("invalid character"))?;
        let mut number = std::ptr::null_mut();
        // SAFETY: a string that ends with NUL; a place for the number it makes.
        let used = unsafe { parse(&raw mut number, text.as_ptr()) };
        if used == 0 {
            return Err(Error::take());
        }
        Self::own(number)
    }

    /// Bytes, the most significant first.
    pub fn to_binary(&self) -> Vec<u8> {
        // SAFETY: a live number; room for its bytes.
        unsafe {
            let mut bytes = vec![0; sys::BN_num_bytes(self.ptr()) as usize];
            sys::BN_bn2bin(self.ptr(), bytes.as_mut_ptr());
            bytes
        }
    }

    /// Bytes, the most significant first, with zeros in front up to this length.
    ///
    /// # Errors
    /// A number that needs more.
    pub fn to_binary_padded(&self, len: usize) -> Outcome<Vec<u8>> {
        let bytes = self.to_binary();
        let missing = len.checked_sub(bytes.len()).ok_or_else(|| Error::new("buffer is too small"))?;
        if missing > BITS_MAX as usize {
            return Err(Error::new("the padding is too long"));
        }
        Ok([vec![0; missing], bytes].concat())
    }

    pub fn to_mpi(&self) -> Vec<u8> {
        // SAFETY: a live number; asked with a null pointer it says how many bytes it needs.
        unsafe {
            let mut bytes = vec![0; sys::BN_bn2mpi(self.ptr(), std::ptr::null_mut())];
            sys::BN_bn2mpi(self.ptr(), bytes.as_mut_ptr());
            bytes
        }
    }

    /// Upper-case digits, two for each byte.
    pub fn to_hex(&self) -> String {
        let digits: String = self.to_binary().iter().map(|byte| format!("{byte:02X}")).collect();
        let sign = if self.is_negative() { "-" } else { "" };
        if digits.is_empty() { "0".to_owned() } else { format!("{sign}{digits}") }
    }

    /// # Errors
    /// Only for want of memory.
    pub fn to_dec(&self) -> Outcome<String> {
        // SAFETY: a live number; the text is copied and freed.
        unsafe {
            let text = sys::BN_bn2dec(self.ptr());
            let digits = error::text(text);
            sys::OPENSSL_free(text.cast());
            digits.ok_or_else(Error::take)
        }
    }

    /// The number where it fits into 64 bits, all ones where not.
    pub fn to_word(&self) -> u64 {
        // SAFETY: a live number.
        unsafe { sys::BN_get_word(self.ptr()) }
    }

    pub fn bits(&self) -> u32 {
        // SAFETY: a live number.
        unsafe { sys::BN_num_bits(self.ptr()) }
    }

    pub fn is_negative(&self) -> bool {
        // SAFETY: a live number.
        unsafe { sys::BN_is_negative(self.ptr()) != 0 }
    }

    pub fn is_odd(&self) -> bool {
        // SAFETY: a live number.
        unsafe { sys::BN_is_odd(self.ptr()) != 0 }
    }

    pub fn is_word(&self, word: u64) -> bool {
        // SAFETY: a live number.
        unsafe { sys::BN_is_word(self.ptr(), word) != 0 }
    }

    /// The same with the other sign.
    ///
    /// # Errors
    /// Only for want of memory.
    pub fn negated(&self) -> Outcome<Self> {
        let copy = self.dup()?;
        // SAFETY: a live number.
        unsafe { sys::BN_set_negative(copy.ptr(), c_int::from(!self.is_negative())) };
        Ok(copy)
    }

    /// # Errors
    /// A division by zero, a power that is too large.
    pub fn apply(&self, operation: Binary, other: &Self) -> Outcome<Self> {
        let (result, scratch) = (Self::new()?, scratch()?);
        let (r, a, b, null) = (result.ptr(), self.ptr(), other.ptr(), std::ptr::null_mut());
        if matches!(operation, Binary::Exp)
            && (other.is_negative()
                || u64::from(self.bits()).saturating_mul(other.to_word()) > u64::from(BITS_MAX))
        {
            return Err(Error::new("the power is too large"));
        }
        // SAFETY: live numbers, and a live scratch area.
        check(unsafe {
            match operation {
                Binary::Add => sys::BN_add(r, a, b),
                Binary::Sub => sys::BN_sub(r, a, b),
                Binary::Mul => sys::BN_mul(r, a, b, scratch.ptr()),
                Binary::Div => sys::BN_div(r, null, a, b, scratch.ptr()),
                Binary::Mod => sys::BN_div(null, r, a, b, scratch.ptr()),
                Binary::Gcd => sys::BN_gcd(r, a, b, scratch.ptr()),
                Binary::Exp => sys::BN_exp(r, a, b, scratch.ptr()),
            }
        })?;
        Ok(result)
    }

    /// # Errors
    /// A modulus of zero, or an even or negative one for powers that need another.
    pub fn apply_modulo(&self, operation: Modular, other: &Self, modulus: &Self) -> Outcome<Self> {
        let (result, scratch) = (Self::new()?, scratch()?);
        let (r, a, b, m, s) = (result.ptr(), self.ptr(), other.ptr(), modulus.ptr(), scratch.ptr());
        // SAFETY: live numbers, and a live scratch area.
        check(unsafe {
            match operation {
                Modular::Add => sys::BN_mod_add(r, a, b, m, s),
                Modular::Sub => sys::BN_mod_sub(r, a, b, m, s),
                Modular::Mul => sys::BN_mod_mul(r, a, b, m, s),
                Modular::Exp => {
                    // The library takes bases below the modulus only.
                    check(sys::BN_nnmod(r, a, m, s))?;
                    sys::BN_mod_exp(r, r, b, m, s)
                }
            }
        })?;
        Ok(result)
    }

    /// Times a power of two; by one of a negative exponent, divided.
    ///
    /// # Errors
    /// A shift that is too long.
    pub fn shifted(&self, bits: i32) -> Outcome<Self> {
        if bits.unsigned_abs() > BITS_MAX {
            return Err(Error::new("the shift is too long"));
        }
        let result = Self::new()?;
        // SAFETY: live numbers.
        check(unsafe {
            if bits < 0 {
                sys::BN_rshift(result.ptr(), self.ptr(), -bits)
            } else {
                sys::BN_lshift(result.ptr(), self.ptr(), bits)
            }
        })?;
        Ok(result)
    }

    pub fn compare(&self, other: &Self) -> Ordering {
        // SAFETY: live numbers.
        unsafe { sys::BN_cmp(self.ptr(), other.ptr()) }.cmp(&0)
    }

    /// Whether it is prime, almost certainly; 0 checks means as many as its size needs.
    ///
    /// # Errors
    /// Only for want of memory.
    pub fn is_prime(&self, checks: u32) -> Outcome<bool> {
        let scratch = scratch()?;
        let checks = int(checks.min(1000) as usize)?;
        // SAFETY: a live number and a live scratch area.
        match unsafe { sys::BN_is_prime_ex(self.ptr(), checks, scratch.ptr(), std::ptr::null_mut()) } {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Error::take()),
        }
    }

    /// A random prime; a safe one has (p - 1) / 2 prime too.
    ///
    /// # Errors
    /// Sizes out of bounds.
    pub fn prime(bits: u32, is_safe: bool) -> Outcome<Self> {
        if bits > 16_384 {
            return Err(Error::new("too many bits"));
        }
        let prime = Self::new()?;
        let (safe, null) = (c_int::from(is_safe), std::ptr::null());
        // SAFETY: a live number; no constraints, no callback.
        check(unsafe {
            sys::BN_generate_prime_ex(
                prime.ptr(),
                int(bits as usize)?,
                safe,
                null,
                null,
                std::ptr::null_mut(),
            )
        })?;
        Ok(prime)
    }

    /// A DER INTEGER's number.
    pub(crate) unsafe fn of_asn1(integer: *const sys::ASN1_INTEGER) -> Outcome<Self> {
        // SAFETY: the caller has a live integer.
        Self::own(unsafe { sys::ASN1_INTEGER_to_BN(integer, std::ptr::null_mut()) })
    }
}

/// The two numbers of an ECDSA signature in DER.
///
/// # Errors
/// What is no signature.
pub fn ecdsa_from_der(der: &[u8]) -> Outcome<(BigNum, BigNum)> {
    // SAFETY: pointer and length of a slice; the numbers are copied before the signature is freed.
    unsafe {
        let signature = sys::ECDSA_SIG_from_bytes(der.as_ptr(), der.len());
        if signature.is_null() {
            return Err(Error::take());
        }
        let numbers = BigNum::copy(sys::ECDSA_SIG_get0_r(signature))
            .zip(BigNum::copy(sys::ECDSA_SIG_get0_s(signature)));
        sys::ECDSA_SIG_free(signature);
        numbers.ok_or_else(Error::take)
    }
}

/// An ECDSA signature in DER.
///
/// # Errors
/// Only for want of memory.
pub fn ecdsa_to_der(r: &BigNum, s: &BigNum) -> Outcome<Vec<u8>> {
    // SAFETY: the numbers become the signature's; its bytes are copied and freed.
    unsafe {
        let signature = sys::ECDSA_SIG_new();
        if signature.is_null() {
            return Err(Error::take());
        }
        let (r, s) = (r.give()?, s.give()?);
        let done = sys::ECDSA_SIG_set0(signature, r, s);
        let (mut data, mut size) = (std::ptr::null_mut(), 0);
        let answer = if done == 1 && sys::ECDSA_SIG_to_bytes(&raw mut data, &raw mut size, signature) == 1 {
            let bytes = bio::slice(data, size).to_vec();
            sys::OPENSSL_free(data.cast());
            Ok(bytes)
        } else {
            Err(Error::take())
        };
        sys::ECDSA_SIG_free(signature);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dec(text: &str) -> BigNum {
        BigNum::from_dec(text.as_bytes()).unwrap()
    }

    #[test]
    fn arithmetic_is_exact() {
        let (a, b) = (dec("123456789012345678901234567890"), dec("987654321"));
        let check = |operation, expected: &str| {
            assert_eq!(a.apply(operation, &b).unwrap().to_dec().unwrap(), expected);
        };
        check(Binary::Add, "123456789012345678902222222211");
        check(Binary::Div, "124999998873437499901");
        check(Binary::Mod, "574845669");
        assert!(a.apply(Binary::Div, &dec("0")).is_err());
        assert!(a.apply(Binary::Exp, &a).is_err());
        let power = dec("4").apply_modulo(Modular::Exp, &dec("13"), &dec("497")).unwrap();
        assert_eq!(power.to_dec().unwrap(), "445");
        assert_eq!(dec("1").shifted(10).unwrap().to_dec().unwrap(), "1024");
        assert!(dec("97").is_prime(0).unwrap() && !dec("98").is_prime(0).unwrap());
    }

    #[test]
    fn numbers_come_back_from_their_text() {
        let number = dec("-255");
        assert_eq!(number.to_hex(), "-FF");
        assert_eq!(BigNum::from_hex(b"-ff").unwrap().to_dec().unwrap(), "-255");
        assert_eq!(BigNum::from_mpi(&number.to_mpi()).unwrap().to_dec().unwrap(), "-255");
        assert_eq!(BigNum::from_binary(&[1, 0]).unwrap().to_binary_padded(4).unwrap(), [0, 0, 1, 0]);
        assert!(BigNum::from_dec(b"x").is_err());
    }
}
