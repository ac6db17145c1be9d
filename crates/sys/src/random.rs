//! Random bytes from the kernel.
use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::errno::retry;

/// Fills the buffer with bytes fit for keys.
///
/// # Errors
/// Whatever `getrandom` reports; on a supported kernel it does not fail.
pub fn fill(buf: &mut [u8]) -> io::Result<()> {
    let mut rest = buf;
    while !rest.is_empty() {
        let n = retry(|| getrandom(&mut *rest, GetRandomFlags::empty()))?;
        rest = &mut rest[n..];
    }
    Ok(())
}

/// A random number.
///
/// # Errors
/// As [`fill`].
pub fn number() -> io::Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_buffers_are_filled_to_the_end() {
        let mut buf = vec![0; 1 << 20];
        fill(&mut buf).unwrap();
        assert!(buf[buf.len() - 64..].iter().any(|&byte| byte != 0));
        assert_ne!(number().unwrap(), number().unwrap());
    }
}
