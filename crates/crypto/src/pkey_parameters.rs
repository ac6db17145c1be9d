//! The numbers that keys consist of.
use std::ffi::c_int;
use std::ptr::null_mut;

use aws_lc_sys as sys;

use crate::bio;
use crate::bn::BigNum;
use crate::error::{Error, Outcome, check};
use crate::pkey::{Key, Kind};

/// The numbers of an RSA key, in OpenSSL's order.
#[derive(Default)]
pub struct Rsa {
    pub n: Option<BigNum>,
    pub e: Option<BigNum>,
    pub d: Option<BigNum>,
    pub p: Option<BigNum>,
    pub q: Option<BigNum>,
    pub dmp1: Option<BigNum>,
    pub dmq1: Option<BigNum>,
    pub iqmp: Option<BigNum>,
}

/// A key on a curve.
#[derive(Default)]
pub struct Ec {
    /// OpenSSL's number of the curve.
    pub group: Option<c_int>,
    pub private: Option<BigNum>,
    pub x: Option<BigNum>,
    pub y: Option<BigNum>,
    /// The point, encoded.
    pub public: Option<Vec<u8>>,
}

impl Ec {
    /// `-----BEGIN EC PARAMETERS-----` of a curve, given by OpenSSL's number.
    ///
    /// # Errors
    /// Curves that are not known.
    pub fn parameters_pem(curve: c_int) -> Outcome<Vec<u8>> {
        // SAFETY: a live BIO; a group of the library's, which is freed.
        unsafe {
            let group = sys::EC_GROUP_new_by_curve_name(curve);
            if group.is_null() {
                return Err(Error::take());
            }
            let text = bio::write(|bio| sys::PEM_write_bio_ECPKParameters(bio, group));
            sys::EC_GROUP_free(group);
            text
        }
    }

    /// The number of the curve of such a text.
    pub fn from_parameters_pem(text: &[u8]) -> Option<c_int> {
        // SAFETY: a live BIO, and no password; the group is freed.
        unsafe {
            let read = |bio| sys::PEM_read_bio_ECPKParameters(bio, null_mut(), None, null_mut());
            let group = bio::read(text, read).ok()?;
            crate::error::clear();
            if group.is_null() {
                return None;
            }
            let curve = sys::EC_GROUP_get_curve_name(group);
            sys::EC_GROUP_free(group);
            (curve != 0).then_some(curve)
        }
    }
}

impl Key {
    pub fn rsa_parameters(&self) -> Option<Rsa> {
        // SAFETY: a live key, which lends what is copied at once.
        unsafe {
            let rsa = sys::EVP_PKEY_get0_RSA(self.ptr());
            if rsa.is_null() {
                crate::error::clear();
                return None;
            }
            Some(Rsa {
                n: BigNum::copy(sys::RSA_get0_n(rsa)),
                e: BigNum::copy(sys::RSA_get0_e(rsa)),
                d: BigNum::copy(sys::RSA_get0_d(rsa)),
                p: BigNum::copy(sys::RSA_get0_p(rsa)),
                q: BigNum::copy(sys::RSA_get0_q(rsa)),
                dmp1: BigNum::copy(sys::RSA_get0_dmp1(rsa)),
                dmq1: BigNum::copy(sys::RSA_get0_dmq1(rsa)),
                iqmp: BigNum::copy(sys::RSA_get0_iqmp(rsa)),
            })
        }
    }

    /// A key of these numbers.
    ///
    /// # Errors
    /// Numbers that are no key.
    pub fn from_rsa_parameters(numbers: &Rsa) -> Outcome<Self> {
        let give = |number: &Option<BigNum>| number.as_ref().map_or(Ok(null_mut()), BigNum::give);
        // SAFETY: numbers are given to the RSA key, which is given to the key. A failed gift stays ours, and leaks nothing
        // but numbers, when the library refuses a combination.
        unsafe {
            let rsa = sys::RSA_new();
            if rsa.is_null() {
                return Err(Error::take());
            }
            let fill = || {
                check(sys::RSA_set0_key(rsa, give(&numbers.n)?, give(&numbers.e)?, give(&numbers.d)?))?;
                if numbers.p.is_some() || numbers.q.is_some() {
                    check(sys::RSA_set0_factors(rsa, give(&numbers.p)?, give(&numbers.q)?))?;
                }
                if numbers.dmp1.is_some() || numbers.dmq1.is_some() || numbers.iqmp.is_some() {
                    let (dmp1, dmq1, iqmp) = (&numbers.dmp1, &numbers.dmq1, &numbers.iqmp);
                    check(sys::RSA_set0_crt_params(rsa, give(dmp1)?, give(dmq1)?, give(iqmp)?))?;
                }
                check(sys::RSA_check_key(rsa))
            };
            if let Err(error) = fill() {
                sys::RSA_free(rsa);
                return Err(error);
            }
            let key = Self::own(sys::EVP_PKEY_new())?;
            let assigned = check(sys::EVP_PKEY_assign_RSA(key.ptr(), rsa));
            if assigned.is_err() {
                sys::RSA_free(rsa);
            }
            assigned.map(|()| key)
        }
    }

    pub fn ec_parameters(&self) -> Option<Ec> {
        // SAFETY: a live key, which lends what is copied at once.
        unsafe {
            let ec = sys::EVP_PKEY_get0_EC_KEY(self.ptr());
            if ec.is_null() {
                crate::error::clear();
                return None;
            }
            let group = sys::EC_KEY_get0_group(ec);
            let point = sys::EC_KEY_get0_public_key(ec);
            let mut parameters = Ec {
                group: Some(sys::EC_GROUP_get_curve_name(group)),
                private: BigNum::copy(sys::EC_KEY_get0_private_key(ec)),
                ..Ec::default()
            };
            if point.is_null() {
                return Some(parameters);
            }
            let (x, y) = (BigNum::new().ok()?, BigNum::new().ok()?);
            if sys::EC_POINT_get_affine_coordinates(group, point, x.ptr(), y.ptr(), null_mut()) == 1 {
                (parameters.x, parameters.y) = (Some(x), Some(y));
            }
            let form = sys::EC_KEY_get_conv_form(ec);
            let size = sys::EC_POINT_point2oct(group, point, form, null_mut(), 0, null_mut());
            let mut bytes = vec![0; size];
            sys::EC_POINT_point2oct(group, point, form, bytes.as_mut_ptr(), size, null_mut());
            parameters.public = Some(bytes);
            Some(parameters)
        }
    }

    /// A key on a curve, of a point (or what the secret number makes of the curve's own) and a secret number.
    ///
    /// # Errors
    /// An unknown curve, a point that is not on it.
    pub fn from_ec_parameters(numbers: &Ec) -> Outcome<Self> {
        let curve = numbers.group.ok_or_else(|| Error::new("no group"))?;
        // SAFETY: the new EC key is given to the key; numbers and points are copied by the library.
        unsafe {
            let ec = sys::EC_KEY_new_by_curve_name(curve);
            if ec.is_null() {
                return Err(Error::take());
            }
            if let Err(error) = fill_ec(ec, numbers) {
                sys::EC_KEY_free(ec);
                return Err(error);
            }
            let key = Self::own(sys::EVP_PKEY_new())?;
            let assigned = check(sys::EVP_PKEY_assign_EC_KEY(key.ptr(), ec));
            if assigned.is_err() {
                sys::EC_KEY_free(ec);
            }
            assigned.map(|()| key)
        }
    }

    /// The bytes of an Ed25519 or X25519 key: its public half, and its secret one.
    pub fn raw(&self) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        type Getter = unsafe extern "C" fn(*const sys::EVP_PKEY, *mut u8, *mut usize) -> c_int;
        let get = |getter: Getter| {
            let mut size = 0;
            // SAFETY: a live key; asked with a null pointer it says how much room it needs.
            let bytes = unsafe {
                let known = getter(self.ptr(), null_mut(), &raw mut size) == 1;
                let mut bytes = vec![0; if known { size } else { 0 }];
                (known && getter(self.ptr(), bytes.as_mut_ptr(), &raw mut size) == 1).then_some(bytes)
            };
            crate::error::clear();
            bytes
        };
        (get(sys::EVP_PKEY_get_raw_public_key), get(sys::EVP_PKEY_get_raw_private_key))
    }

    /// An Ed25519 or X25519 key of its bytes.
    ///
    /// # Errors
    /// A wrong number of bytes, another kind.
    pub fn from_raw(kind: Kind, is_private: bool, bytes: &[u8]) -> Outcome<Self> {
        // Ed25519 wants the seed alone.
        let (nid, data, len) = (kind.nid(), bytes.as_ptr(), bytes.len());
        // SAFETY: pointer and length of a slice.
        Self::own(unsafe {
            if is_private {
                sys::EVP_PKEY_new_raw_private_key(nid, null_mut(), data, len)
            } else {
                sys::EVP_PKEY_new_raw_public_key(nid, null_mut(), data, len)
            }
        })
    }
}

/// # Safety
/// A live EC key with a curve.
unsafe fn fill_ec(ec: *mut sys::EC_KEY, numbers: &Ec) -> Outcome<()> {
    // SAFETY: the caller's promise; points are freed.
    unsafe {
        let group = sys::EC_KEY_get0_group(ec);
        if let (Some(x), Some(y)) = (&numbers.x, &numbers.y) {
            check(sys::EC_KEY_set_public_key_affine_coordinates(ec, x.ptr(), y.ptr()))?;
        } else if let Some(public) = &numbers.public {
            let point = Point::own(sys::EC_POINT_new(group))?;
            let (data, len) = (public.as_ptr(), public.len());
            check(sys::EC_POINT_oct2point(group, point.ptr(), data, len, null_mut()))?;
            check(sys::EC_KEY_set_public_key(ec, point.ptr()))?;
        }
        if let Some(private) = &numbers.private {
            check(sys::EC_KEY_set_private_key(ec, private.ptr()))?;
            if sys::EC_KEY_get0_public_key(ec).is_null() {
                let point = Point::own(sys::EC_POINT_new(group))?;
                let no = std::ptr::null();
                check(sys::EC_POINT_mul(group, point.ptr(), private.ptr(), no, no.cast(), null_mut()))?;
                check(sys::EC_KEY_set_public_key(ec, point.ptr()))?;
            }
        }
        if sys::EC_KEY_get0_public_key(ec).is_null() {
            return Err(Error::new("no public key"));
        }
        check(sys::EC_KEY_check_key(ec))
    }
}

owned!(Point, sys::EC_POINT, sys::EC_POINT_free);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pkey::curve_by_name;

    #[test]
    fn keys_come_back_from_their_numbers() {
        let rsa = Key::generate_rsa(2048, None).unwrap();
        let numbers = rsa.rsa_parameters().unwrap();
        assert!(Key::from_rsa_parameters(&numbers).unwrap().same_public(&rsa));
        let public = Rsa { n: numbers.n, e: numbers.e, ..Rsa::default() };
        assert!(!Key::from_rsa_parameters(&public).unwrap().is_private());
        assert!(Key::from_rsa_parameters(&Rsa::default()).is_err());

        let ec = Key::generate_ec(curve_by_name("P-256").or_else(|| curve_by_name("prime256v1")).unwrap())
            .unwrap();
        let numbers = ec.ec_parameters().unwrap();
        let secret = Ec { group: numbers.group, private: numbers.private, ..Ec::default() };
        assert!(Key::from_ec_parameters(&secret).unwrap().same_public(&ec));

        let ed = Key::generate(Kind::Ed25519).unwrap();
        let (public, secret) = ed.raw();
        assert!(Key::from_raw(Kind::Ed25519, true, &secret.unwrap()).unwrap().same_public(&ed));
        assert!(Key::from_raw(Kind::Ed25519, false, &public.unwrap()).unwrap().same_public(&ed));
        assert!(Key::from_raw(Kind::Ed25519, false, b"short").is_err());
    }
}
