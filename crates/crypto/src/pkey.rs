//! Keys of public-key algorithms: made, and used.
use std::ffi::{CString, c_int};
use std::ptr::{null, null_mut};

use aws_lc_sys as sys;

use crate::bn::BigNum;
use crate::digest::{Algorithm, Digest};
use crate::error::{self, Error, Outcome, check};

owned!(
    /// A public key, or a pair.
    Key,
    sys::EVP_PKEY,
    sys::EVP_PKEY_free
);
owned!(Context, sys::EVP_PKEY_CTX, sys::EVP_PKEY_CTX_free);
owned!(DigestContext, sys::EVP_MD_CTX, sys::EVP_MD_CTX_free);

/// What kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Rsa,
    Ec,
    Ed25519,
    X25519,
    Dh,
    Other(c_int),
}

impl Kind {
    /// OpenSSL's number.
    pub fn nid(self) -> c_int {
        match self {
            Self::Rsa => sys::EVP_PKEY_RSA,
            Self::Ec => sys::EVP_PKEY_EC,
            Self::Ed25519 => sys::EVP_PKEY_ED25519,
            Self::X25519 => sys::EVP_PKEY_X25519,
            Self::Dh => sys::EVP_PKEY_DH,
            Self::Other(nid) => nid,
        }
    }

    fn of(nid: c_int) -> Self {
        [Self::Rsa, Self::Ec, Self::Ed25519, Self::X25519, Self::Dh]
            .into_iter()
            .find(|kind| kind.nid() == nid)
            .unwrap_or(Self::Other(nid))
    }
}

/// How RSA fills up a block, by OpenSSL's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Padding(pub c_int);

impl Padding {
    pub const PKCS1: Self = Self(sys::RSA_PKCS1_PADDING as c_int);
    pub const NONE: Self = Self(sys::RSA_NO_PADDING as c_int);
    pub const OAEP: Self = Self(sys::RSA_PKCS1_OAEP_PADDING as c_int);
    pub const PSS: Self = Self(sys::RSA_PKCS1_PSS_PADDING as c_int);
}

/// How an operation is done.
#[derive(Clone, Copy, Default)]
pub struct Options {
    pub padding: Option<Padding>,
    /// The digest that a raw signature is of.
    pub digest: Option<Algorithm>,
    pub oaep_digest: Option<Algorithm>,
    pub mgf1_digest: Option<Algorithm>,
    /// -1: as long as the digest; -2: what the signature says, or the most there is room for.
    pub pss_salt_len: Option<c_int>,
}

/// An operation on a block of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Encrypt,
    Decrypt,
    Sign,
    VerifyRecover,
}

const RSA_BITS_MAX: u32 = 16_384;

impl Key {
    fn context(&self) -> Outcome<Context> {
        // SAFETY: a live key.
        Context::own(unsafe { sys::EVP_PKEY_CTX_new(self.ptr(), null_mut()) })
    }

    /// A new RSA key.
    ///
    /// # Errors
    /// Sizes or exponents that are refused.
    pub fn generate_rsa(bits: u32, exponent: Option<u64>) -> Outcome<Self> {
        if bits > RSA_BITS_MAX {
            return Err(Error::new("too many bits"));
        }
        // SAFETY: a live context; the exponent becomes its.
        unsafe {
            let context = Context::own(sys::EVP_PKEY_CTX_new_id(Kind::Rsa.nid(), null_mut()))?;
            check(sys::EVP_PKEY_keygen_init(context.ptr()))?;
            check(sys::EVP_PKEY_CTX_set_rsa_keygen_bits(context.ptr(), error::int(bits as usize)?))?;
            if let Some(exponent) = exponent {
                let exponent = BigNum::from_word(exponent)?.give()?;
                check(sys::EVP_PKEY_CTX_set_rsa_keygen_pubexp(context.ptr(), exponent))?;
            }
            Self::from_keygen(&context)
        }
    }

    /// A new key on a curve, given by OpenSSL's number.
    ///
    /// # Errors
    /// Curves that are not known.
    pub fn generate_ec(curve: c_int) -> Outcome<Self> {
        // SAFETY: live contexts; the parameters are freed.
        unsafe {
            let context = Context::own(sys::EVP_PKEY_CTX_new_id(Kind::Ec.nid(), null_mut()))?;
            check(sys::EVP_PKEY_keygen_init(context.ptr()))?;
            check(sys::EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context.ptr(), curve))?;
            Self::from_keygen(&context)
        }
    }

    /// A new key of a kind that needs no parameters.
    ///
    /// # Errors
    /// Kinds that do.
    pub fn generate(kind: Kind) -> Outcome<Self> {
        // SAFETY: a live context.
        unsafe {
            let context = Context::own(sys::EVP_PKEY_CTX_new_id(kind.nid(), null_mut()))?;
            check(sys::EVP_PKEY_keygen_init(context.ptr()))?;
            Self::from_keygen(&context)
        }
    }

    /// # Safety
    /// The context was made ready.
    unsafe fn from_keygen(context: &Context) -> Outcome<Self> {
        let mut key = null_mut();
        // SAFETY: the caller's promise; a place for the key.
        check(unsafe { sys::EVP_PKEY_keygen(context.ptr(), &raw mut key) })?;
        Self::own(key)
    }

    pub fn kind(&self) -> Kind {
        // SAFETY: a live key.
        Kind::of(unsafe { sys::EVP_PKEY_id(self.ptr()) })
    }

    /// The size of what it makes, in bytes.
    pub fn size(&self) -> usize {
        // SAFETY: a live key.
        usize::try_from(unsafe { sys::EVP_PKEY_size(self.ptr()) }).unwrap_or(0)
    }

    pub fn bits(&self) -> u32 {
        // SAFETY: a live key.
        u32::try_from(unsafe { sys::EVP_PKEY_bits(self.ptr()) }).unwrap_or(0)
    }

    /// Whether the secret half is there.
    pub fn is_private(&self) -> bool {
        // SAFETY: a live key; what it lends is only compared with null.
        unsafe {
            match self.kind() {
                Kind::Rsa => {
                    let rsa = sys::EVP_PKEY_get0_RSA(self.ptr());
                    !rsa.is_null() && !sys::RSA_get0_d(rsa).is_null()
                }
                Kind::Ec => {
                    let ec = sys::EVP_PKEY_get0_EC_KEY(self.ptr());
                    !ec.is_null() && !sys::EC_KEY_get0_private_key(ec).is_null()
                }
                Kind::Dh => {
                    let dh = sys::EVP_PKEY_get0_DH(self.ptr());
                    !dh.is_null() && !sys::DH_get0_priv_key(dh).is_null()
                }
                _ => {
                    let mut size = 0;
                    let found = sys::EVP_PKEY_get_raw_private_key(self.ptr(), null_mut(), &raw mut size) == 1;
                    error::clear();
                    found
                }
            }
        }
    }

    /// Applies what the options say to an operation that is ready.
    ///
    /// # Safety
    /// A live context that is ready.
    unsafe fn configure(&self, context: *mut sys::EVP_PKEY_CTX, options: &Options) -> Outcome<()> {
        let is_rsa = self.kind() == Kind::Rsa;
        // SAFETY: the caller's promise; digests are static.
        unsafe {
            if let Some(padding) = options.padding.filter(|_| is_rsa) {
                check(sys::EVP_PKEY_CTX_set_rsa_padding(context, padding.0))?;
            }
            if let Some(digest) = options.digest {
                check(sys::EVP_PKEY_CTX_set_signature_md(context, digest.ptr()))?;
            }
            if let Some(digest) = options.oaep_digest {
                check(sys::EVP_PKEY_CTX_set_rsa_oaep_md(context, digest.ptr()))?;
            }
            if let Some(digest) = options.mgf1_digest {
                check(sys::EVP_PKEY_CTX_set_rsa_mgf1_md(context, digest.ptr()))?;
            }
            if let Some(len) = options.pss_salt_len {
                check(sys::EVP_PKEY_CTX_set_rsa_pss_saltlen(context, len))?;
            }
        }
        Ok(())
    }

    /// Runs an operation on a block.
    ///
    /// # Errors
    /// The library's.
    pub fn operate(&self, operation: Operation, input: &[u8], options: &Options) -> Outcome<Vec<u8>> {
        let context = self.context()?;
        let l = context.ptr();
        let mut out = vec![0; self.size() + 64];
        let mut size = out.len();
        let (to, data, len) = (out.as_mut_ptr(), input.as_ptr(), input.len());
        // SAFETY: a live context, made ready for the operation first; the buffer's size is given.
        unsafe {
            match operation {
                Operation::Encrypt => check(sys::EVP_PKEY_encrypt_init(l))?,
                Operation::Decrypt => check(sys::EVP_PKEY_decrypt_init(l))?,
                Operation::Sign => check(sys::EVP_PKEY_sign_init(l))?,
                Operation::VerifyRecover => check(sys::EVP_PKEY_verify_recover_init(l))?,
            }
            self.configure(l, options)?;
            check(match operation {
                Operation::Encrypt => sys::EVP_PKEY_encrypt(l, to, &raw mut size, data, len),
                Operation::Decrypt => sys::EVP_PKEY_decrypt(l, to, &raw mut size, data, len),
                Operation::Sign => sys::EVP_PKEY_sign(l, to, &raw mut size, data, len),
                Operation::VerifyRecover => sys::EVP_PKEY_verify_recover(l, to, &raw mut size, data, len),
            })?;
        }
        out.truncate(size);
        Ok(out)
    }

    /// Whether this is the signature of a digest (or, without a digest in the options, of these bytes).
    ///
    /// # Errors
    /// What makes a check impossible, and, without a line of the library's, a wrong signature.
    pub fn verify_raw(&self, signature: &[u8], input: &[u8], options: &Options) -> Outcome<()> {
        let context = self.context()?;
        // SAFETY: a live context, made ready first; pointers and lengths of slices.
        unsafe {
            check(sys::EVP_PKEY_verify_init(context.ptr()))?;
            self.configure(context.ptr(), options)?;
            let (data, len) = (input.as_ptr(), input.len());
            check(sys::EVP_PKEY_verify(context.ptr(), signature.as_ptr(), signature.len(), data, len))
        }
    }

    /// The signature of a message. Ed25519 takes no digest.
    ///
    /// # Errors
    /// The library's.
    pub fn sign(&self, message: &[u8], digest: Option<Algorithm>, options: &Options) -> Outcome<Vec<u8>> {
        let digest = digest.map_or(null(), Algorithm::ptr);
        let mut out = vec![0; self.size().max(64)];
        let mut size = out.len();
        let mut operation = null_mut();
        // SAFETY: a live context, made ready first; it owns the operation; the buffer's size is given.
        unsafe {
            let context = DigestContext::own(sys::EVP_MD_CTX_new())?;
            check(sys::EVP_DigestSignInit(
                context.ptr(),
                &raw mut operation,
                digest,
                null_mut(),
                self.ptr(),
            ))?;
            self.configure(operation, options)?;
            let (data, len) = (message.as_ptr(), message.len());
            check(sys::EVP_DigestSign(context.ptr(), out.as_mut_ptr(), &raw mut size, data, len))?;
        }
        out.truncate(size);
        Ok(out)
    }

    /// Whether this is the signature of a message.
    ///
    /// # Errors
    /// As `verify_raw`.
    pub fn verify(
        &self,
        signature: &[u8],
        message: &[u8],
        digest: Option<Algorithm>,
        options: &Options,
    ) -> Outcome<()> {
        let digest = digest.map_or(null(), Algorithm::ptr);
        let mut operation = null_mut();
        // SAFETY: a live context, made ready first; it owns the operation; pointers and lengths of slices.
        unsafe {
            let context = DigestContext::own(sys::EVP_MD_CTX_new())?;
            check(sys::EVP_DigestVerifyInit(
                context.ptr(),
                &raw mut operation,
                digest,
                null_mut(),
                self.ptr(),
            ))?;
            self.configure(operation, options)?;
            let (data, len) = (message.as_ptr(), message.len());
            check(sys::EVP_DigestVerify(context.ptr(), signature.as_ptr(), signature.len(), data, len))
        }
    }

    /// The signature of what a digest has taken in.
    ///
    /// # Errors
    /// The library's.
    pub fn sign_digest(&self, digest: &Digest) -> Outcome<Vec<u8>> {
        let options = Options { digest: Some(digest.algorithm()), ..Options::default() };
        self.operate(Operation::Sign, &digest.peek()?, &options)
    }

    /// Whether this is the signature of what a digest has taken in.
    ///
    /// # Errors
    /// As `verify_raw`.
    pub fn verify_digest(&self, signature: &[u8], digest: &Digest) -> Outcome<()> {
        let options = Options { digest: Some(digest.algorithm()), ..Options::default() };
        self.verify_raw(signature, &digest.peek()?, &options)
    }

    /// The secret that this key and another's public half have in common.
    ///
    /// # Errors
    /// Keys that do not fit each other.
    pub fn derive(&self, peer: &Self) -> Outcome<Vec<u8>> {
        let context = self.context()?;
        // SAFETY: a live context, made ready first; asked with a null pointer it says how much room it needs.
        unsafe {
            check(sys::EVP_PKEY_derive_init(context.ptr()))?;
            check(sys::EVP_PKEY_derive_set_peer(context.ptr(), peer.ptr()))?;
            let mut size = 0;
            check(sys::EVP_PKEY_derive(context.ptr(), null_mut(), &raw mut size))?;
            let mut out = vec![0; size];
            check(sys::EVP_PKEY_derive(context.ptr(), out.as_mut_ptr(), &raw mut size))?;
            out.truncate(size);
            Ok(out)
        }
    }

    /// The curve, by OpenSSL's number.
    pub fn curve(&self) -> Option<c_int> {
        // SAFETY: a live key; what it lends is used at once.
        unsafe {
            let ec = sys::EVP_PKEY_get0_EC_KEY(self.ptr());
            if ec.is_null() {
                error::clear();
                return None;
            }
            Some(sys::EC_GROUP_get_curve_name(sys::EC_KEY_get0_group(ec)))
        }
    }

    /// How many bytes the curve's order has.
    pub fn order_len(&self) -> Option<usize> {
        // SAFETY: as above.
        unsafe {
            let ec = sys::EVP_PKEY_get0_EC_KEY(self.ptr());
            if ec.is_null() {
                error::clear();
                return None;
            }
            let order = sys::EC_GROUP_get0_order(sys::EC_KEY_get0_group(ec));
            Some(sys::BN_num_bytes(order) as usize)
        }
    }

    /// Whether two keys have the same public half.
    pub fn same_public(&self, other: &Self) -> bool {
        // SAFETY: live keys.
        let same = unsafe { sys::EVP_PKEY_cmp(self.ptr(), other.ptr()) } == 1;
        error::clear();
        same
    }

    /// Another handle to the same key.
    #[must_use]
    pub fn share(&self) -> Self {
        // SAFETY: a live key, counted by the library.
        unsafe { sys::EVP_PKEY_up_ref(self.ptr()) };
        Self(self.0)
    }
}

/// The number of a curve, given by name.
pub fn curve_by_name(name: &str) -> Option<c_int> {
    let text = CString::new(name).ok()?;
    // SAFETY: a string that ends with NUL.
    let nid = unsafe { sys::OBJ_txt2nid(text.as_ptr()) };
    error::clear();
    (nid != 0).then_some(nid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_verified() {
        let sha256 = Algorithm::by_name("sha256");
        let curve = curve_by_name("prime256v1").unwrap();
        for (key, digest) in [
            (Key::generate_rsa(2048, None).unwrap(), sha256),
            (Key::generate_ec(curve).unwrap(), sha256),
            (Key::generate(Kind::Ed25519).unwrap(), None),
        ] {
            let options = Options::default();
            let signature = key.sign(b"hello", digest, &options).unwrap();
            assert!(key.is_private());
            assert!(key.verify(&signature, b"hello", digest, &options).is_ok());
            assert!(key.verify(&signature, b"other", digest, &options).is_err());
        }
    }

    #[test]
    fn secrets_are_shared() {
        let (a, b) = (Key::generate(Kind::X25519).unwrap(), Key::generate(Kind::X25519).unwrap());
        assert_eq!(a.derive(&b).unwrap(), b.derive(&a).unwrap());
        assert!(a.derive(&Key::generate(Kind::Ed25519).unwrap()).is_err());
    }

    #[test]
    fn rsa_encrypts_in_every_padding() {
        let key = Key::generate_rsa(2048, Some(65537)).unwrap();
        for padding in [Padding::PKCS1, Padding::OAEP] {
            let options = Options { padding: Some(padding), ..Options::default() };
            let secret = key.operate(Operation::Encrypt, b"hello", &options).unwrap();
            assert_eq!(key.operate(Operation::Decrypt, &secret, &options).unwrap(), b"hello");
        }
        let none = Options { padding: Some(Padding::NONE), ..Options::default() };
        assert!(key.operate(Operation::Encrypt, b"short", &none).is_err());
    }
}
