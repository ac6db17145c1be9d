//! Files: open, describe, read, write, send.
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, FileType, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::{Errno, ReadWriteFlags};

use crate::errno::retry;
use crate::path;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    File,
    Directory,
    Link,
    /// A pipe, socket or device.
    Other,
}

/// What the server wants to know about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    pub kind: FileKind,
    pub size: u64,
    /// Bytes on the disk, or the size where that is larger: what nginx counts for a cache's `max_size`.
    pub disk_size: u64,
    /// Last modification, seconds.
    pub mtime: i64,
    pub mtime_nanos: u32,
    pub atime: i64,
    pub device: u64,
    pub inode: u64,
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

impl FileStat {
    pub fn is_file(&self) -> bool {
        self.kind == FileKind::File
    }

    pub fn is_dir(&self) -> bool {
        self.kind == FileKind::Directory
    }

    pub fn is_link(&self) -> bool {
        self.kind == FileKind::Link
    }

    /// True when both describe the same file, whatever its name.
    pub fn same_file(&self, other: &Self) -> bool {
        self.inode == other.inode && self.device == other.device
    }
}

/// What happens to a file that exists, or does not, when it is opened for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// Created if missing, each write at the end: logs.
    Append,
    /// Created if missing, emptied otherwise.
    Truncate,
    /// Created if missing, left as it is otherwise.
    Keep,
    /// Created; an error if it exists.
    New,
}

/// How a whole file is locked by [`flock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    Shared,
    Exclusive,
    Release,
}

/// How a file will be read, for [`advise`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Sequential,
    WillNeed,
    DontNeed,
    Normal,
}

/// Opens for reading, following links. Does not hang on a FIFO.
///
/// # Errors
/// Those of `open`.
pub fn open_read(name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    retry(|| rustix::fs::open(name, flags, Mode::empty()))
}

/// Opens for writing (also for reading, unless appending); `mode` is the permission of a created file, less the umask.
///
/// # Errors
/// Those of `open`.
pub fn open_write(name: &[u8], how: WriteMode, mode: u32) -> io::Result<OwnedFd> {
    let flags = write_flags(how);
    retry(|| rustix::fs::open(name, flags, Mode::from_raw_mode(mode)))
}

/// Opens a file that exists for reading and writing.
///
/// # Errors
/// Those of `open`.
pub fn open_update(name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    retry(|| rustix::fs::open(name, flags, Mode::empty()))
}

pub(crate) fn write_flags(how: WriteMode) -> OFlags {
    let common = OFlags::CREATE | OFlags::CLOEXEC;
    match how {
        WriteMode::Append => OFlags::WRONLY | OFlags::APPEND | common,
        WriteMode::Truncate => OFlags::RDWR | OFlags::TRUNC | common,
        WriteMode::Keep => OFlags::RDWR | common,
        WriteMode::New => OFlags::RDWR | OFlags::EXCL | common,
    }
}

/// Describes what a name leads to.
///
/// # Errors
/// Those of `stat`.
pub fn stat(name: &[u8]) -> io::Result<FileStat> {
    Ok(describe(&rustix::fs::stat(name)?))
}

/// Describes the name itself, which may be a link.
///
/// # Errors
/// Those of `lstat`.
pub fn lstat(name: &[u8]) -> io::Result<FileStat> {
    Ok(describe(&rustix::fs::lstat(name)?))
}

/// Describes an open file.
///
/// # Errors
/// Those of `fstat`.
pub fn fstat(fd: impl AsFd) -> io::Result<FileStat> {
    Ok(describe(&rustix::fs::fstat(fd)?))
}

// The fields' types differ between architectures.
#[allow(clippy::unnecessary_cast, clippy::cast_possible_wrap, clippy::cast_sign_loss)]
pub(crate) fn describe(stat: &Stat) -> FileStat {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
    FileStat {
        kind: kind(FileType::from_raw_mode(stat.st_mode)),
        size,
        disk_size: size.max(blocks.saturating_mul(512)),
        mtime: stat.st_mtime as i64,
        mtime_nanos: stat.st_mtime_nsec as u32,
        atime: stat.st_atime as i64,
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
    }
}

pub(crate) fn kind(kind: FileType) -> FileKind {
    match kind {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Link,
        _ => FileKind::Other,
    }
}

/// Sends up to `count` bytes of `input`, from `offset` on, to a socket; `offset` moves by what was sent. Zero means
/// that the file has become shorter.
///
/// # Errors
/// `WouldBlock` when the socket takes no more; those of `sendfile` otherwise.
pub fn sendfile(out: impl AsFd, input: impl AsFd, offset: &mut u64, count: usize) -> io::Result<usize> {
    // The kernel sends at most 2 GiB less a page at once and refuses larger counts on some file systems.
    let count = count.min(0x7fff_f000);
    let (out, input) = (out.as_fd(), input.as_fd());
    retry(|| rustix::fs::sendfile(out, input, Some(offset), count))
}

/// Reads at `offset` without moving the file's own position. Zero is the end of the file.
///
/// # Errors
/// Those of `pread`.
pub fn pread(fd: impl AsFd, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let fd = fd.as_fd();
    retry(|| rustix::io::pread(fd, &mut *buf, offset))
}

/// Reads at `offset` until the buffer is full or the file ends.
///
/// # Errors
/// Those of `pread`.
pub fn pread_full(fd: impl AsFd, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let fd = fd.as_fd();
    let mut done = 0;
    while done < buf.len() {
        match pread(fd, &mut buf[done..], offset + done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

/// Appends up to `len` bytes from `offset` on to the buffer, fewer only when the file ends: [`pread_full`] without
/// filling the room first.
///
/// # Errors
/// Those of `pread`; the buffer is then as long as before.
pub fn pread_append(fd: impl AsFd, buf: &mut Vec<u8>, len: usize, offset: u64) -> io::Result<usize> {
    let fd = fd.as_fd();
    let before = buf.len();
    buf.reserve(len);
    let mut done = 0;
    while done < len {
        let n = {
            let room = &mut buf.spare_capacity_mut()[..len - done];
            let read =
                retry(|| rustix::io::pread(fd, &mut *room, offset + done as u64).map(|(read, _)| read.len()));
            match read {
                Ok(n) => n,
                Err(error) => {
                    buf.truncate(before);
                    return Err(error);
                }
            }
        };
        if n == 0 {
            break;
        }
        done += n;
        // SAFETY: pread has just written the next `n` bytes of the spare room.
        unsafe { buf.set_len(before + done) };
    }
    Ok(done)
}

/// Reads at `offset` only what is in the page cache. Where the kernel or the file system cannot tell, reads anyway.
///
/// # Errors
/// `WouldBlock` when the disk would have to be read: hand the read to another thread. Those of `preadv2` otherwise.
pub fn pread_cached(fd: impl AsFd, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    static SUPPORTED: AtomicBool = AtomicBool::new(true);
    let fd = fd.as_fd();
    if !SUPPORTED.load(Ordering::Relaxed) {
        return pread(fd, buf, offset);
    }
    let flags = ReadWriteFlags::NOWAIT;
    match rustix::io::retry_on_intr(|| {
        rustix::io::preadv2(fd, &mut [IoSliceMut::new(&mut *buf)], offset, flags)
    }) {
        Ok(n) => Ok(n),
        Err(Errno::NOSYS) => {
            SUPPORTED.store(false, Ordering::Relaxed);
            pread(fd, buf, offset)
        }
        Err(Errno::OPNOTSUPP) => pread(fd, buf, offset), // this file system only
        Err(error) => Err(error.into()),
    }
}

/// Writes all of `data` at `offset`.
///
/// # Errors
/// Those of `pwrite`; `WriteZero` when the system takes nothing.
pub fn pwrite_all(fd: impl AsFd, data: &[u8], offset: u64) -> io::Result<()> {
    let fd = fd.as_fd();
    let mut done = 0;
    while done < data.len() {
        match retry(|| rustix::io::pwrite(fd, &data[done..], offset + done as u64))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => done += n,
        }
    }
    Ok(())
}

/// Writes all the pieces at `offset`, in as few calls as possible; gives the number of bytes.
///
/// # Errors
/// Those of `pwritev`; `WriteZero` when the system takes nothing.
pub fn pwritev_all(fd: impl AsFd, pieces: &mut [IoSlice<'_>], offset: u64) -> io::Result<u64> {
    let fd = fd.as_fd();
    let mut rest = pieces;
    let mut done = 0;
    IoSlice::advance_slices(&mut rest, 0); // drops empty pieces in front
    while !rest.is_empty() {
        let batch = &rest[..rest.len().min(IOV_MAX)];
        match retry(|| rustix::io::pwritev(fd, batch, offset + done))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => {
                done += n as u64;
                IoSlice::advance_slices(&mut rest, n);
            }
        }
    }
    Ok(done)
}

/// The largest number of pieces one call takes.
pub const IOV_MAX: usize = 1024;

/// Switches reads past the page cache (`directio`) on or off.
///
/// # Errors
/// `InvalidInput` where the file system cannot do it.
pub fn set_direct(fd: impl AsFd, on: bool) -> io::Result<()> {
    let fd = fd.as_fd();
    let mut flags = rustix::fs::fcntl_getfl(fd)?;
    flags.set(OFlags::DIRECT, on);
    Ok(rustix::fs::fcntl_setfl(fd, flags)?)
}

/// Tells the kernel how a range will be read; `len` 0 reaches to the end.
///
/// # Errors
/// Those of `posix_fadvise`.
pub fn advise(fd: impl AsFd, offset: u64, len: u64, access: Access) -> io::Result<()> {
    let advice = match access {
        Access::Sequential => Advice::Sequential,
        Access::WillNeed => Advice::WillNeed,
        Access::DontNeed => Advice::DontNeed,
        Access::Normal => Advice::Normal,
    };
    Ok(rustix::fs::fadvise(fd, offset, std::num::NonZeroU64::new(len), advice)?)
}

/// Locks or unlocks a whole file, at once or not at all.
///
/// # Errors
/// `WouldBlock` when another open file holds the lock.
pub fn flock(fd: impl AsFd, lock: Lock) -> io::Result<()> {
    let operation = match lock {
        Lock::Shared => FlockOperation::NonBlockingLockShared,
        Lock::Exclusive => FlockOperation::NonBlockingLockExclusive,
        Lock::Release => FlockOperation::NonBlockingUnlock,
    };
    let fd = fd.as_fd();
    retry(|| rustix::fs::flock(fd, operation))
}

/// Cuts or extends a file.
///
/// # Errors
/// Those of `ftruncate`.
pub fn truncate(fd: impl AsFd, len: u64) -> io::Result<()> {
    Ok(rustix::fs::ftruncate(fd, len)?)
}

/// Sets both times of an open file.
///
/// # Errors
/// Those of `futimens`.
pub fn set_mtime(fd: impl AsFd, mtime: i64) -> io::Result<()> {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Ok(rustix::fs::futimens(fd, &Timestamps { last_access: time, last_modification: time })?)
}

/// Sets the permissions of a name.
///
/// # Errors
/// Those of `chmod`.
pub fn chmod(name: &[u8], mode: u32) -> io::Result<()> {
    Ok(rustix::fs::chmod(name, Mode::from_raw_mode(mode))?)
}

/// Gives a name to a user, and a group unless `None`.
///
/// # Errors
/// Those of `chown`.
pub fn chown(name: &[u8], uid: u32, gid: Option<u32>) -> io::Result<()> {
    std::os::unix::fs::chown(path::from_bytes(name)?, Some(uid), gid)
}

/// Bytes that anybody may still write to the file system of `name`.
///
/// # Errors
/// Those of `statvfs`.
pub fn free_space(name: &[u8]) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(name)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Removes a file's name.
///
/// # Errors
/// Those of `unlink`.
pub fn remove(name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::unlink(name)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read as _, Seek as _};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::scratch::Scratch;

    fn file_of(dir: &Scratch, content: &[u8]) -> OwnedFd {
        fs::write(dir.path("f"), content).unwrap();
        open_read(&dir.join("f")).unwrap()
    }

    #[test]
    fn a_stat_says_what_a_name_is() {
        let dir = Scratch::new();
        let fd = file_of(&dir, b"12345");
        std::os::unix::fs::symlink("f", dir.path("link")).unwrap();
        let direct = fstat(&fd).unwrap();
        assert!(direct.is_file() && direct.size == 5 && direct.disk_size >= 5);
        assert!(direct.same_file(&stat(&dir.join("link")).unwrap()));
        assert!(lstat(&dir.join("link")).unwrap().is_link());
        assert!(stat(&dir.join("")).unwrap().is_dir());
        assert_eq!(direct.uid, rustix::process::geteuid().as_raw());
        set_mtime(open_write(&dir.join("f"), WriteMode::Keep, 0).unwrap(), 1_000_000_000).unwrap();
        assert_eq!(fstat(&fd).unwrap().mtime, 1_000_000_000);
        assert_eq!(stat(&dir.join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(stat(b"/etc\0/x").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn opening_a_fifo_does_not_hang() {
        let dir = Scratch::new();
        let name = crate::path::to_c(&dir.join("fifo")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &name, Mode::RUSR | Mode::WUSR).unwrap();
        let fd = open_read(&dir.join("fifo")).unwrap();
        assert_eq!(fstat(fd).unwrap().kind, FileKind::Other);
    }

    #[test]
    fn each_way_of_writing() {
        let dir = Scratch::new();
        let name = dir.join("w");
        let content = || fs::read(dir.path("w")).unwrap();
        pwrite_all(open_write(&name, WriteMode::New, 0o600).unwrap(), b"abc", 0).unwrap();
        assert_eq!(
            open_write(&name, WriteMode::New, 0o600).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        pwrite_all(open_write(&name, WriteMode::Keep, 0o600).unwrap(), b"X", 1).unwrap();
        assert_eq!(content(), b"aXc");
        rustix::io::write(open_write(&name, WriteMode::Append, 0o600).unwrap(), b"+").unwrap();
        assert_eq!(content(), b"aXc+");
        let fd = open_write(&name, WriteMode::Truncate, 0o600).unwrap();
        let mut pieces = [IoSlice::new(b""), IoSlice::new(b"one"), IoSlice::new(b""), IoSlice::new(b"two")];
        assert_eq!(pwritev_all(&fd, &mut pieces, 2).unwrap(), 6);
        assert_eq!(content(), b"\0\0onetwo");
        truncate(&fd, 3).unwrap();
        assert_eq!(content(), b"\0\0o");
        assert_eq!(fs::metadata(dir.path("w")).unwrap().len(), 3);
        chmod(&name, 0o640).unwrap();
        assert_eq!(stat(&name).unwrap().mode, 0o640);
        remove(&name).unwrap();
        assert!(stat(&name).is_err());
    }

    #[test]
    fn thousands_of_pieces_are_written_in_batches() {
        let dir = Scratch::new();
        let fd = open_write(&dir.join("many"), WriteMode::New, 0o600).unwrap();
        let mut pieces = vec![IoSlice::new(b"ab"); 3 * IOV_MAX];
        assert_eq!(pwritev_all(&fd, &mut pieces, 0).unwrap(), 6 * IOV_MAX as u64);
        assert_eq!(fs::read(dir.path("many")).unwrap(), b"ab".repeat(3 * IOV_MAX));
    }

    #[test]
    fn reads_leave_the_position_alone() {
        let dir = Scratch::new();
        let fd = file_of(&dir, b"0123456789");
        let mut buf = [0; 4];
        assert_eq!(pread(&fd, &mut buf, 3).unwrap(), 4);
        assert_eq!(&buf, b"3456");
        assert_eq!(pread_full(&fd, &mut buf, 8).unwrap(), 2);
        assert_eq!(pread(&fd, &mut buf, 10).unwrap(), 0);
        assert_eq!(fs::File::from(fd).stream_position().unwrap(), 0);
    }

    #[test]
    fn a_cached_read_gives_the_bytes_or_says_that_it_would_wait() {
        let dir = Scratch::new();
        let content = vec![7; 1 << 20];
        let fd = file_of(&dir, &content);
        let mut buf = vec![0; 4096];
        assert_eq!(pread_cached(&fd, &mut buf, 8192).unwrap(), 4096, "just written, so in the cache");
        assert!(buf.iter().all(|&byte| byte == 7));
        // Push it out of the cache where the file system lets us; then either answer is right.
        rustix::fs::fsync(&fd).unwrap();
        advise(&fd, 0, 0, Access::DontNeed).unwrap();
        match pread_cached(&fd, &mut buf, 1 << 19) {
            Ok(n) => assert!(n > 0),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }

    #[test]
    fn sendfile_moves_the_offset_and_stops_when_the_socket_is_full() {
        let dir = Scratch::new();
        let content: Vec<u8> = (0..4_000_000_u32).map(|i| (i % 251) as u8).collect();
        let fd = file_of(&dir, &content);
        let (out, mut peer) = UnixStream::pair().unwrap();
        out.set_nonblocking(true).unwrap();
        let mut offset = 5;
        let error = loop {
            if let Err(error) = sendfile(&out, &fd, &mut offset, usize::MAX) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(offset > 5 && offset < content.len() as u64);
        let mut got = vec![0; usize::try_from(offset).unwrap() - 5];
        peer.read_exact(&mut got).unwrap();
        assert_eq!(got, content[5..offset as usize]);
        let mut end = content.len() as u64;
        assert_eq!(sendfile(&out, &fd, &mut end, 10).unwrap(), 0);
    }

    #[test]
    fn a_lock_keeps_others_out() {
        let dir = Scratch::new();
        let first = file_of(&dir, b"");
        let second = open_read(&dir.join("f")).unwrap();
        flock(&first, Lock::Exclusive).unwrap();
        assert_eq!(flock(&second, Lock::Shared).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        flock(&first, Lock::Release).unwrap();
        flock(&second, Lock::Shared).unwrap();
        flock(&first, Lock::Shared).unwrap();
    }

    #[test]
    fn direct_reads_can_be_switched() {
        let dir = Scratch::new();
        let fd = file_of(&dir, b"x");
        match set_direct(&fd, true) {
            Ok(()) => {
                assert!(rustix::fs::fcntl_getfl(&fd).unwrap().contains(OFlags::DIRECT));
                set_direct(&fd, false).unwrap();
                assert!(!rustix::fs::fcntl_getfl(&fd).unwrap().contains(OFlags::DIRECT));
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidInput),
        }
        advise(&fd, 0, 0, Access::Sequential).unwrap();
    }
}
