//! How the parser gets at files: directly, or through whoever may open them.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

/// Reads configuration files. The parser touches the file system through this alone.
pub trait Loader {
    /// The whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The names that match a pattern, sorted by byte values; none is no error.
    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>>;
}

/// The file system, with the rights of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct DirectLoader;

impl Loader for DirectLoader {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        // nginx: as much as the size said, so a device reads as empty and a growing file ends.
        // Passwords may come through a pipe made for that.
        let metadata = file.metadata()?;
        let size = if metadata.file_type().is_fifo() { u64::MAX } else { metadata.len() };
        let mut text = Vec::new();
        file.take(size).read_to_end(&mut text)?;
        Ok(text)
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(crate::glob::expand(pattern))
    }
}

/// For a text that stands alone.
pub(crate) struct NoFiles;

impl Loader for NoFiles {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Err(io::Error::from_raw_os_error(2)) // ENOENT
    }

    fn glob(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}
