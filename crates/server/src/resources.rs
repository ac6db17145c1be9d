//! The door to files and sockets: opened here and now by whoever has the rights.

use moonrest_core::env::Resources;
use moonrest_sys::{
    listen::{self, ListenSpec, Purpose},
    log_write, path, tree,
};
use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// Opens with the rights of this process.
pub struct Direct {
    how: How,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Serve,
    /// `-t`: nothing stays behind.
    Test,
    /// `-s`: only the configuration is looked at.
    Look,
}

impl Direct {
    /// For a server.
    pub fn serving() -> Self {
        Self { how: How::Serve }
    }

    /// For a test of the configuration.
    pub fn testing() -> Self {
        Self { how: How::Test }
    }

    /// For who wants to know what the configuration says, and nothing else.
    pub fn looking() -> Self {
        Self { how: How::Look }
    }
}

impl moonrest_core::conf::Loader for Direct {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        moonrest_core::conf::DirectLoader.read(path)
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        moonrest_core::conf::DirectLoader.glob(pattern)
    }
}

impl Resources for Direct {
    fn open_log(&self, name: &Path) -> io::Result<File> {
        let name = if self.how == How::Look { Path::new("/dev/null") } else { name };
        log_write::open(path::to_bytes(name)).map(File::from)
    }

    fn listen(&self, spec: &ListenSpec, _shard: usize) -> io::Result<OwnedFd> {
        let purpose = if self.testing() { Purpose::Test } else { Purpose::Serve };
        Ok(listen::open(spec, purpose)?)
    }

    fn testing(&self) -> bool {
        self.how != How::Serve
    }

    fn make_dir(&self, name: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
        if self.how == How::Look {
            return Ok(());
        }
        tree::prepare(path::to_bytes(name), owner.map(|(uid, _)| uid)).map_err(|(_, error)| error)
    }
}
