//! The names and numbers of things in ASN.1.
use std::ffi::{CString, c_char};

use aws_lc_sys as sys;

use crate::error;

/// The number of a short name, long name or dotted identifier.
pub fn nid(text: &str) -> Option<i32> {
    let text = CString::new(text).ok()?;
    // SAFETY: a string that ends with NUL.
    let nid = unsafe { sys::OBJ_txt2nid(text.as_ptr()) };
    error::clear();
    (nid != 0).then_some(nid)
}

/// The short name of a number.
pub fn short_name(nid: i32) -> Option<String> {
    // SAFETY: static strings.
    let name = unsafe { error::text(sys::OBJ_nid2sn(nid)) };
    error::clear();
    name
}

/// The long name of a number.
pub fn long_name(nid: i32) -> Option<String> {
    // SAFETY: static strings.
    let name = unsafe { error::text(sys::OBJ_nid2ln(nid)) };
    error::clear();
    name
}

/// The dotted identifier of a number.
pub fn dotted(nid: i32) -> Option<String> {
    // SAFETY: static objects.
    let object = unsafe { sys::OBJ_nid2obj(nid) };
    error::clear();
    (!object.is_null()).then(|| {
        // SAFETY: as above.
        unsafe { dotted_of(object) }
    })
}

/// The number of the digest of a signature's algorithm.
pub fn signature_digest(nid: i32) -> Option<i32> {
    let mut digest = 0;
    // SAFETY: a place for a number; the other is not asked for.
    let found = unsafe { sys::OBJ_find_sigid_algs(nid, &raw mut digest, std::ptr::null_mut()) };
    error::clear();
    (found == 1).then_some(digest)
}

/// # Safety
/// A live object.
pub(crate) unsafe fn dotted_of(object: *const sys::ASN1_OBJECT) -> String {
    let mut text: [c_char; 256] = [0; 256];
    // SAFETY: the caller's promise; the buffer's size is given.
    unsafe {
        sys::OBJ_obj2txt(text.as_mut_ptr(), 256, object, 1);
        error::text(text.as_ptr()).unwrap_or_default()
    }
}
