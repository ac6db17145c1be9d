//! The pid file and its `.oldbin` twin during a binary upgrade.
use std::fs;
use std::io::{self, Read as _};

use crate::file::{self, WriteMode};
use crate::path;

/// What nginx appends to the pid file's name while the old master runs beside a new one.
pub const OLDBIN: &[u8] = b".oldbin";

/// Why a pid file gives no process.
#[derive(Debug)]
pub enum ReadError {
    /// `open()` failed.
    Open(io::Error),
    /// `read()` failed.
    Read(io::Error),
    /// The content, up to the size of a number, is not a positive number.
    Invalid(Vec<u8>),
}

/// Writes the calling process' id and a newline.
///
/// # Errors
/// Those of `open` and `write`; nginx refuses to start on them.
pub fn write(name: &[u8]) -> io::Result<()> {
    let fd = file::open_write(name, WriteMode::Truncate, 0o644)?;
    let line = format!("{}\n", std::process::id());
    file::pwrite_all(&fd, line.as_bytes(), 0)
}

/// Checks that the pid file could be written and leaves its content alone: what `-t` does.
///
/// # Errors
/// Those of `open`.
pub fn probe(name: &[u8]) -> io::Result<()> {
    file::open_write(name, WriteMode::Keep, 0o644).map(drop)
}

/// Reads the process id, for `-s signal`.
///
/// # Errors
/// See [`ReadError`].
pub fn read(name: &[u8]) -> Result<i32, ReadError> {
    let path = path::from_bytes(name).map_err(ReadError::Open)?;
    let file = fs::File::open(path).map_err(ReadError::Open)?;
    // nginx: 20 digits, CR, LF; what follows is not looked at.
    let mut content = Vec::with_capacity(22);
    file.take(22).read_to_end(&mut content).map_err(ReadError::Read)?;
    while content.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
        content.pop();
    }
    match parse(&content) {
        Some(pid) => Ok(pid),
        None => Err(ReadError::Invalid(content)),
    }
}

/// Moves the pid file out of the new master's way.
///
/// # Errors
/// Those of `rename`.
pub fn rename_to_oldbin(name: &[u8]) -> io::Result<()> {
    fs::rename(path::from_bytes(name)?, path::from_bytes(&oldbin(name))?)
}

/// Moves it back when the new master is gone.
///
/// # Errors
/// Those of `rename`.
pub fn rename_from_oldbin(name: &[u8]) -> io::Result<()> {
    fs::rename(path::from_bytes(&oldbin(name))?, path::from_bytes(name)?)
}

/// The name of the old master's pid file.
pub fn oldbin(name: &[u8]) -> Vec<u8> {
    [name, OLDBIN].concat()
}

/// Deletes a pid file.
///
/// # Errors
/// Those of `unlink`.
pub fn remove(name: &[u8]) -> io::Result<()> {
    fs::remove_file(path::from_bytes(name)?)
}

fn parse(digits: &[u8]) -> Option<i32> {
    if digits.is_empty() {
        return None;
    }
    let mut pid: i32 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        pid = pid.checked_mul(10)?.checked_add(i32::from(digit - b'0'))?;
    }
    (pid > 0).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_written_pid_is_read_back() {
        let dir = Scratch::new();
        let name = dir.join("server.pid");
        fs::write(dir.path("server.pid"), "999999999 longer than what replaces it").unwrap();
        write(&name).unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        assert_eq!(read(&name).unwrap(), pid);
        assert_eq!(fs::read(dir.path("server.pid")).unwrap(), format!("{pid}\n").as_bytes());
    }

    #[test]
    fn the_upgrade_dance() {
        let dir = Scratch::new();
        let name = dir.join("p");
        write(&name).unwrap();
        rename_to_oldbin(&name).unwrap();
        assert!(dir.path("p.oldbin").exists() && !dir.path("p").exists());
        rename_from_oldbin(&name).unwrap();
        assert!(!dir.path("p.oldbin").exists());
        remove(&name).unwrap();
        assert_eq!(remove(&name).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_probe_creates_but_does_not_change() {
        let dir = Scratch::new();
        let name = dir.join("p");
        probe(&name).unwrap();
        fs::write(dir.path("p"), "17\n").unwrap();
        probe(&name).unwrap();
        assert_eq!(read(&name).unwrap(), 17);
        assert!(probe(&dir.join("no/such/dir")).is_err());
    }

    #[test]
    fn nonsense_is_reported_with_the_text() {
        let dir = Scratch::new();
        let name = dir.join("p");
        for bad in ["", "0\n", "-5", "12x", "99999999999999999999"] {
            fs::write(dir.path("p"), bad).unwrap();
            let Err(ReadError::Invalid(text)) = read(&name) else { panic!("{bad} was taken") };
            assert_eq!(text, bad.trim_end().as_bytes());
        }
        fs::write(dir.path("p"), "71\r\n").unwrap();
        assert_eq!(read(&name).unwrap(), 71);
        assert!(matches!(read(&dir.join("none")), Err(ReadError::Open(_))));
    }
}
