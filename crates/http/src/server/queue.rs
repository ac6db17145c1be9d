//! What waits to be written to a client: one buffer of small things in front of shared bytes and file ranges.

use crate::filter::FileRange;
use bytes::Bytes;
use moonrest_net::io::Io;
use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    os::fd::AsFd,
};

/// Data up to this length is copied behind what is already in the buffer; longer data is queued as it is.
pub(super) const COPY: usize = 4096;
/// Files up to this length are read into the buffer, so that head and body leave in one call; larger ones use sendfile.
pub(crate) const READ_FILE: u64 = 64 * 1024;
/// How much of a file is read at once where sendfile may not be used.
const READ_STEP: u64 = 64 * 1024;
/// Pieces handed to one writing call.
const PIECES: usize = 16;

/// Bytes and files in the order they must leave.
#[derive(Default)]
pub(crate) struct Queue {
    chunks: VecDeque<Chunk>,
    /// Behind all chunks. Small responses live here alone.
    tail: Vec<u8>,
    /// How much of the first thing in line has left.
    sent: usize,
    queued: u64,
    /// How much of `tail` is counted in `queued`, while somebody appends to it.
    settled: usize,
}

enum Chunk {
    Owned(Vec<u8>),
    Shared(Bytes),
    File(FileRange),
}

impl Queue {
    /// Bytes not yet written.
    pub(crate) fn len(&self) -> u64 {
        self.queued
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Whether a file is first in line.
    pub(crate) fn file_is_next(&self) -> bool {
        matches!(self.chunks.front(), Some(Chunk::File(_)))
    }

    /// The buffer for small things of whoever does not want to count; call [`Queue::settle`] behind it.
    pub(crate) fn scratch(&mut self) -> &mut Vec<u8> {
        self.settled = self.tail.len();
        &mut self.tail
    }

    /// Accounts for what was appended to [`Queue::scratch`].
    pub(crate) fn settle(&mut self) {
        self.queued += self.tail.len().saturating_sub(self.settled) as u64;
        self.settled = self.tail.len();
    }

    /// The buffer for small things; call [`Queue::grown`] with what was added.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Accounts for bytes that were appended to [`Queue::tail`].
    pub(crate) fn grown(&mut self, by: usize) {
        self.queued += by as u64;
    }

    pub(crate) fn push_slice(&mut self, data: &[u8]) {
        self.tail.extend_from_slice(data);
        self.queued += data.len() as u64;
    }

    pub(crate) fn push_bytes(&mut self, data: Bytes) {
        if data.len() <= COPY {
            self.push_slice(&data);
            return;
        }
        self.queued += data.len() as u64;
        self.seal();
        self.chunks.push_back(Chunk::Shared(data));
    }

    /// Queues a file; a small one is read at once.
    ///
    /// # Errors
    /// The system's, or `UnexpectedEof` when the file became shorter.
    pub(crate) fn push_file(&mut self, range: FileRange) -> io::Result<()> {
        let len = range.len();
        if len <= READ_FILE {
            self.read_into_tail(&range)?;
            self.queued += len;
            return Ok(());
        }
        self.queued += len;
        self.seal();
        self.chunks.push_back(Chunk::File(range));
        Ok(())
    }

    fn read_into_tail(&mut self, range: &FileRange) -> io::Result<()> {
        let len = usize::try_from(range.len()).unwrap_or(0);
        let start = self.tail.len();
        if range.file.append_at(&mut self.tail, len, range.start)? < len {
            self.tail.truncate(start);
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            let full = std::mem::take(&mut self.tail);
            self.chunks.push_back(Chunk::Owned(full));
        }
    }

    /// Writes once, at most `limit` bytes; returns how many left.
    ///
    /// # Errors
    /// `WouldBlock`, or the system's.
    #[inline]
    pub(crate) fn write(&mut self, io: &Io, limit: u64) -> io::Result<usize> {
        if !self.chunks.is_empty() {
            return self.write_chunks(io, limit);
        }
        let rest = self.tail.get(self.sent..).unwrap_or_default();
        let rest = rest.get(..usize::try_from(limit).unwrap_or(usize::MAX)).unwrap_or(rest);
        let n = io.try_write(&[IoSlice::new(rest)], false)?;
        self.advance(n);
        Ok(n)
    }

    fn write_chunks(&mut self, io: &Io, limit: u64) -> io::Result<usize> {
        if let Some(Chunk::File(_)) = self.chunks.front() {
            return self.write_file(io, limit);
        }
        let n = self.write_several(io, limit)?;
        self.advance(n);
        Ok(n)
    }

    fn write_several(&self, io: &Io, limit: u64) -> io::Result<usize> {
        let mut slices = Vec::with_capacity(PIECES);
        let mut skip = self.sent;
        let mut room = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut file_follows = false;
        for chunk in self.chunks.iter().take(PIECES - 1) {
            let data = match chunk {
                Chunk::Owned(data) => data.as_slice(),
                Chunk::Shared(data) => data,
                Chunk::File(_) => {
                    file_follows = true;
                    break;
                }
            };
            let rest = data.get(skip..).unwrap_or_default();
            skip = 0;
            let rest = rest.get(..room).unwrap_or(rest);
            room -= rest.len();
            slices.push(IoSlice::new(rest));
        }
        if !file_follows && self.chunks.len() < PIECES && room > 0 {
            let rest = self.tail.get(..room).unwrap_or(&self.tail);
            slices.push(IoSlice::new(rest));
        }
        io.try_write(&slices, file_follows)
    }

    fn write_file(&mut self, io: &Io, limit: u64) -> io::Result<usize> {
        let Some(Chunk::File(range)) = self.chunks.front_mut() else { return Ok(0) };
        if range.file.sendfile && !io.is_encrypted() {
            let count = usize::try_from(range.len().min(limit)).unwrap_or(usize::MAX);
            let mut offset = range.start;
            let n = io.try_sendfile(range.file.file.as_fd(), &mut offset, count)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            range.start += n as u64;
            self.queued -= n as u64;
            if range.is_empty() {
                self.chunks.pop_front();
            }
            return Ok(n);
        }
        let len = usize::try_from(range.len().min(READ_STEP)).unwrap_or(0);
        let mut buffer = vec![0; len];
        let n = range.file.read_at(&mut buffer, range.start)?;
        if n < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        range.start += len as u64;
        if range.is_empty() {
            self.chunks.pop_front();
        }
        self.chunks.push_front(Chunk::Owned(buffer));
        self.sent = 0;
        self.write(io, limit)
    }

    #[inline]
    fn advance(&mut self, written: usize) {
        self.queued -= written as u64;
        self.sent += written;
        if !self.chunks.is_empty() {
            self.drop_sent();
        } else if self.sent >= self.tail.len() {
            self.tail.clear();
            self.sent = 0;
        }
    }

    /// Forgets the chunks that have left.
    fn drop_sent(&mut self) {
        loop {
            let len = match self.chunks.front() {
                Some(Chunk::Owned(data)) => data.len(),
                Some(Chunk::Shared(data)) => data.len(),
                Some(Chunk::File(_)) => return,
                None => break,
            };
            if self.sent < len {
                return;
            }
            self.sent -= len;
            self.chunks.pop_front();
        }
        if self.sent >= self.tail.len() {
            self.tail.clear();
            self.sent = 0;
        }
    }

    /// Forgets everything; returns how much memory is kept for reuse.
    pub(crate) fn clear(&mut self) -> usize {
        self.chunks.clear();
        self.tail.clear();
        self.sent = 0;
        self.queued = 0;
        self.tail.capacity()
    }
}
