//! The door to files and sockets: opened here and now, opened and recorded, or answered from a record.

use crate::handover::{Record, Sockets};
use moonrest_core::{conf::Loader, env::Resources};
use moonrest_sys::{
    listen::{self, ListenSpec, Purpose},
    log_write, path, tree,
};
use std::{
    cell::{Cell, RefCell},
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// Opens with the rights of this process.
#[derive(Default)]
pub(crate) struct Direct {
    how: How,
    /// Whom directories belong to.
    owner: Cell<Option<(u32, u32)>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum How {
    #[default]
    Serve,
    /// `-t`: nothing stays behind.
    Test,
    /// `-s`: only the configuration is looked at.
    Look,
}

impl Direct {
    /// For a server.
    pub(crate) fn serving() -> Self {
        Self::default()
    }

    /// For a test of the configuration.
    pub(crate) fn testing() -> Self {
        Self { how: How::Test, ..Self::default() }
    }

    /// For who wants to know what the configuration says, and nothing else.
    pub(crate) fn looking() -> Self {
        Self { how: How::Look, ..Self::default() }
    }
}

impl Loader for Direct {
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
        tree::prepare(path::to_bytes(name), owner.or(self.owner.get()).map(|(uid, _)| uid))
            .map_err(|(_, error)| error)
    }

    fn set_owner(&self, owner: Option<(u32, u32)>) {
        self.owner.set(owner);
    }
}

/// Opens, and keeps what a serving process will ask for when it compiles the same configuration.
pub(crate) struct Recording {
    direct: Direct,
    record: RefCell<Record>,
}

impl Recording {
    /// Opens with the rights of this process.
    pub(crate) fn new() -> Self {
        let direct = Direct::serving();
        let record = Record { privileged: direct.privileged(), ..Record::default() };
        Self { direct, record: RefCell::new(record) }
    }

    /// What was opened.
    pub(crate) fn finish(self) -> Record {
        self.record.into_inner()
    }
}

impl Loader for Recording {
    fn read(&self, name: &Path) -> io::Result<Vec<u8>> {
        let read = self.direct.read(name);
        let kept = match &read {
            Ok(text) => Ok(text.clone()),
            Err(error) => Err(error.raw_os_error().unwrap_or(libc::EIO)),
        };
        self.record.borrow_mut().files.push((name.to_owned(), kept));
        read
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let names = self.direct.glob(pattern)?;
        self.record.borrow_mut().globs.push((pattern.to_owned(), names.clone()));
        Ok(names)
    }
}

impl Resources for Recording {
    fn open_log(&self, name: &Path) -> io::Result<File> {
        let file = self.direct.open_log(name)?;
        self.record.borrow_mut().logs.push((name.to_owned(), file.try_clone()?));
        Ok(file)
    }

    fn listen(&self, spec: &ListenSpec, shard: usize) -> io::Result<OwnedFd> {
        self.direct.listen(spec, shard)
    }

    fn testing(&self) -> bool {
        false
    }

    fn make_dir(&self, name: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
        self.direct.make_dir(name, owner)?;
        self.record.borrow_mut().directories.push(name.to_owned());
        Ok(())
    }

    fn set_owner(&self, owner: Option<(u32, u32)>) {
        self.direct.set_owner(owner);
    }
}

/// Answers from a record, and tries itself what is not in it.
pub(crate) struct Handed<'a> {
    pub record: &'a Record,
    pub sockets: &'a Sockets,
}

fn find<'a, T>(entries: &'a [(PathBuf, T)], name: &Path) -> Option<&'a T> {
    entries.iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

impl Loader for Handed<'_> {
    fn read(&self, name: &Path) -> io::Result<Vec<u8>> {
        match find(&self.record.files, name) {
            Some(Ok(text)) => Ok(text.clone()),
            Some(Err(code)) => Err(io::Error::from_raw_os_error(*code)),
            None => Direct::serving().read(name),
        }
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        match find(&self.record.globs, pattern) {
            Some(names) => Ok(names.clone()),
            None => Direct::serving().glob(pattern),
        }
    }
}

impl Resources for Handed<'_> {
    fn open_log(&self, name: &Path) -> io::Result<File> {
        match find(&self.record.logs, name) {
            Some(file) => file.try_clone(),
            None => Direct::serving().open_log(name),
        }
    }

    fn listen(&self, spec: &ListenSpec, shard: usize) -> io::Result<OwnedFd> {
        let known = self.sockets.iter().find(|(place, _)| place.addr == spec.addr && place.kind == spec.kind);
        match known {
            Some((_, shards)) => match shards.get(shard) {
                Some(fd) => fd.try_clone(),
                None => Err(io::ErrorKind::AddrNotAvailable.into()),
            },
            None => Direct::serving().listen(spec, shard),
        }
    }

    fn testing(&self) -> bool {
        false
    }

    fn make_dir(&self, name: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
        if self.record.directories.iter().any(|known| known == name) {
            return Ok(());
        }
        Direct::serving().make_dir(name, owner)
    }

    fn privileged(&self) -> bool {
        self.record.privileged
    }
}
