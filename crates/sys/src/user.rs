//! Users and groups, and becoming one for good.
//!
//! <https://nginx.org/en/docs/ngx_core_module.html#user>
use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::{fmt, ptr};

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::errno::{check, describe};
use crate::path;

/// An entry of the user database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: Vec<u8>,
    pub uid: u32,
    /// The user's own group.
    pub gid: u32,
    pub home: Vec<u8>,
}

/// Whom to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// For the supplementary groups.
    pub name: Vec<u8>,
    pub uid: u32,
    pub gid: u32,
    /// Keep the right to bind to foreign addresses: `proxy_bind … transparent` is used.
    pub keep_net_raw: bool,
}

/// A step that failed. `Display` is nginx's line: `setgid(99) failed (1: Operation not permitted)`.
#[derive(Debug)]
pub struct IdentityError {
    /// `setgid(99)`
    pub call: String,
    pub error: io::Error,
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed ({})", self.call, describe(&self.error))
    }
}

impl std::error::Error for IdentityError {}

/// The effective user.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The effective group.
pub fn effective_gid() -> u32 {
    rustix::process::getegid().as_raw()
}

/// Looks a user up by name; `None` when there is none.
///
/// # Errors
/// Those of `getpwnam_r`; `InvalidInput` for a NUL.
pub fn by_name(name: &[u8]) -> io::Result<Option<User>> {
    let name = path::to_c(name)?;
    // SAFETY: the closure hands the pointers it was given on to the call they are meant for.
    user(|entry, buf, len, found| unsafe { libc::getpwnam_r(name.as_ptr(), entry, buf, len, found) })
}

/// Looks a user up by number; `None` when there is none.
///
/// # Errors
/// Those of `getpwuid_r`.
pub fn by_uid(uid: u32) -> io::Result<Option<User>> {
    // SAFETY: as in `by_name`.
    user(|entry, buf, len, found| unsafe { libc::getpwuid_r(uid, entry, buf, len, found) })
}

/// The number of a group; `None` when there is none of this name.
///
/// # Errors
/// Those of `getgrnam_r`; `InvalidInput` for a NUL.
pub fn group_by_name(name: &[u8]) -> io::Result<Option<u32>> {
    let name = path::to_c(name)?;
    lookup(
        |entry, buf, len, found| {
            // SAFETY: as in `by_name`.
            unsafe { libc::getgrnam_r(name.as_ptr(), entry, buf, len, found) }
        },
        |entry: &libc::group| entry.gr_gid,
    )
}

/// The name of a group; `None` when there is none of this number.
///
/// # Errors
/// Those of `getgrgid_r`.
pub fn group_by_gid(gid: u32) -> io::Result<Option<Vec<u8>>> {
    lookup(
        |entry, buf, len, found| {
            // SAFETY: as in `by_name`.
            unsafe { libc::getgrgid_r(gid, entry, buf, len, found) }
        },
        |entry: &libc::group| {
            // SAFETY: the entry was filled by the system and its strings live in the buffer, which is alive.
            unsafe { bytes(entry.gr_name) }
        },
    )
}

fn user(
    call: impl FnMut(*mut libc::passwd, *mut libc::c_char, usize, *mut *mut libc::passwd) -> libc::c_int,
) -> io::Result<Option<User>> {
    lookup(call, |entry: &libc::passwd| {
        // SAFETY: the entry was filled by the system and its strings live in the buffer, which is alive.
        let (name, home) = unsafe { (bytes(entry.pw_name), bytes(entry.pw_dir)) };
        User { name, uid: entry.pw_uid, gid: entry.pw_gid, home }
    })
}

/// Calls one of the `get…_r` functions with a growing buffer.
fn lookup<E, T>(
    mut call: impl FnMut(*mut E, *mut libc::c_char, usize, *mut *mut E) -> libc::c_int,
    convert: impl FnOnce(&E) -> T,
) -> io::Result<Option<T>> {
    let mut buf: Vec<libc::c_char> = vec![0; 1024];
    let mut entry = MaybeUninit::<E>::uninit();
    loop {
        let mut found = ptr::null_mut();
        match call(entry.as_mut_ptr(), buf.as_mut_ptr(), buf.len(), &mut found) {
            0 if found.is_null() => return Ok(None),
            // SAFETY: on success `found` points to `entry`, now filled.
            0 => return Ok(Some(convert(unsafe { &*found }))),
            libc::ERANGE if buf.len() < 1 << 24 => buf.resize(buf.len() * 4, 0),
            libc::EINTR => {}
            // What the manual lists as possible answers for "no such name".
            libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// # Safety
/// `text` is null or a C string.
unsafe fn bytes(text: *const libc::c_char) -> Vec<u8> {
    if text.is_null() {
        return Vec::new();
    }
    // SAFETY: by contract.
    unsafe { CStr::from_ptr(text) }.to_bytes().to_vec()
}

/// Becomes another user for good: all threads of the process, group first. Does nothing unless root.
///
/// `Ok(Some(_))`: the supplementary groups could not be set; nginx logs that and goes on, which is right in a user
/// namespace where they may not be changed.
///
/// # Errors
/// The step that failed; the process must not go on.
pub fn become_identity(identity: &Identity) -> Result<Option<IdentityError>, IdentityError> {
    if effective_uid() != 0 {
        return Ok(None);
    }
    let failed = |call: String| move |error| IdentityError { call, error };
    let gid = identity.gid;
    // SAFETY: no memory is involved.
    check(unsafe { libc::setgid(gid) }).map_err(failed(format!("setgid({gid})")))?;
    let groups = init_groups(&identity.name, gid)
        .err()
        .map(failed(format!("initgroups({}, {gid})", String::from_utf8_lossy(&identity.name))));
    let keep = identity.keep_net_raw && identity.uid != 0;
    if keep {
        rustix::thread::set_keep_capabilities(true)
            .map_err(|error| failed("prctl(PR_SET_KEEPCAPS, 1)".to_owned())(error.into()))?;
    }
    let uid = identity.uid;
    // SAFETY: no memory is involved.
    check(unsafe { libc::setuid(uid) }).map_err(failed(format!("setuid({uid})")))?;
    if keep {
        let raw = CapabilitySet::NET_RAW;
        let sets = CapabilitySets { effective: raw, permitted: raw, inheritable: CapabilitySet::empty() };
        rustix::thread::set_capabilities(None, sets)
            .map_err(|error| failed("capset()".to_owned())(error.into()))?;
    }
    Ok(groups)
}

fn init_groups(name: &[u8], gid: u32) -> io::Result<()> {
    let name: CString = path::to_c(name)?;
    // SAFETY: `name` is a C string that outlives the call.
    check(unsafe { libc::initgroups(name.as_ptr(), gid) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_both_ways() {
        let root = by_name(b"root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(by_uid(0).unwrap().unwrap(), root);
        assert_eq!(group_by_name(b"root").unwrap(), Some(0));
        assert_eq!(group_by_gid(0).unwrap().as_deref(), Some(b"root".as_slice()));
    }

    #[test]
    fn strangers_are_not_found() {
        assert_eq!(by_name(b"no-such-user-here").unwrap(), None);
        assert_eq!(by_uid(0x7fff_fff0).unwrap(), None);
        assert_eq!(group_by_name(b"no-such-group-here").unwrap(), None);
        assert_eq!(group_by_gid(0x7fff_fff0).unwrap(), None);
        assert!(by_name(b"ro\0ot").is_err());
    }

    #[test]
    fn a_small_buffer_grows() {
        let mut calls = 0;
        let found = lookup(
            |_: *mut u32, _, len, _| {
                calls += 1;
                if len < 60_000 { libc::ERANGE } else { 0 }
            },
            |&entry| entry,
        );
        assert_eq!(found.unwrap(), None);
        assert_eq!(calls, 4);
        assert!(lookup(|_: *mut u32, _, _, _| libc::EIO, |&entry| entry).is_err());
    }

    #[test]
    fn failures_read_as_in_an_nginx_log() {
        let error = io::Error::from_raw_os_error(libc::EPERM);
        let error = IdentityError { call: "setgid(99)".to_owned(), error };
        assert_eq!(error.to_string(), "setgid(99) failed (1: Operation not permitted)");
    }
}
