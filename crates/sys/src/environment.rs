//! The environment: read, and replaced as a whole by what `env` directives allow.
//!
//! <https://nginx.org/en/docs/ngx_core_module.html#env>
use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt};

use crate::process;

/// All variables, as name and value.
pub fn all() -> Vec<(Vec<u8>, Vec<u8>)> {
    env::vars_os().map(|(name, value)| (name.into_vec(), value.into_vec())).collect()
}

/// One variable.
pub fn get(name: &[u8]) -> Option<Vec<u8>> {
    env::var_os(OsStr::from_bytes(name)).map(OsStringExt::into_vec)
}

/// Makes these the only variables.
///
/// # Errors
/// `Unsupported` in a process with several threads: C code reads the environment without a lock. `InvalidInput` for
/// a name that is empty or holds `=`, and for a NUL; nothing is changed then.
pub fn replace(variables: &[(Vec<u8>, Vec<u8>)]) -> io::Result<()> {
    if process::thread_count().is_some_and(|threads| threads > 1) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let valid = |(name, value): &(Vec<u8>, Vec<u8>)| {
        !name.is_empty() && !name.contains(&b'=') && !name.contains(&0) && !value.contains(&0)
    };
    if !variables.iter().all(valid) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (name, _) in env::vars_os() {
        // SAFETY: no other thread exists that could read the environment meanwhile.
        unsafe { env::remove_var(name) };
    }
    for (name, value) in variables {
        // SAFETY: as above.
        unsafe { env::set_var(OsStr::from_bytes(name), OsStr::from_bytes(value)) };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read() {
        let path = get(b"PATH").unwrap();
        assert!(all().contains(&(b"PATH".to_vec(), path)));
        assert_eq!(get(b"NO_SUCH_VARIABLE_HERE"), None);
    }

    #[test]
    fn a_process_with_threads_keeps_its_environment() {
        assert_eq!(replace(&[]).unwrap_err().kind(), io::ErrorKind::Unsupported);
    }
}
