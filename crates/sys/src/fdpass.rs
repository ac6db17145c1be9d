//! A channel between two processes for messages with descriptors.
//!
//! A message is cut into packets of a `SOCK_SEQPACKET` socket: the kernel takes some 200 KB and 253 descriptors at
//! once. The first byte of a packet says whether it begins a message:
//!
//! ```text
//! 1 | descriptors u32 | bytes u64 | data…      2 | data…
//! ```
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::errno::retry;
use crate::poll::{self, Interest};

/// The longest message.
pub const MAX_BYTES: u64 = 256 << 20;
/// The most descriptors in a message.
pub const MAX_FDS: usize = 65_536;

/// Data in one packet.
const CHUNK: usize = 64 * 1024;
/// `SCM_MAX_FD`
const FDS_PER_PACKET: usize = 253;
const HEADER: usize = 13;
const FIRST: u8 = 1;
const NEXT: u8 = 2;

/// What was sent at once.
#[derive(Debug, Default)]
pub struct Message {
    pub bytes: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

/// One end of a channel. To be polled for reading when waiting for [`try_recv`](Self::try_recv), for writing while
/// [`flush`](Self::flush) says that something is left.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    incoming: Option<Incoming>,
    outgoing: VecDeque<Outgoing>,
}

#[derive(Debug)]
struct Incoming {
    message: Message,
    bytes: u64,
    fds: usize,
}

#[derive(Debug)]
struct Outgoing {
    message: Message,
    progress: Progress,
}

/// How much of a message has been sent.
#[derive(Debug, Default)]
struct Progress {
    begun: bool,
    bytes: usize,
    fds: usize,
}

impl Channel {
    /// Two connected ends, close-on-exec.
    ///
    /// # Errors
    /// Those of `socketpair`.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self::new(a), Self::new(b)))
    }

    /// A channel over an end that came from elsewhere. It must be a `SOCK_SEQPACKET` socket between messages.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, incoming: None, outgoing: VecDeque::new() }
    }

    /// Sends a message and waits until the kernel has it all, after what was queued. The receiver must be reading:
    /// the kernel holds about 200 KB, and as many descriptors as may be open.
    ///
    /// # Errors
    /// `BrokenPipe` when the other end is closed; `InvalidInput` for a message above the limits. After an error in
    /// the middle of a message the channel is of no use.
    pub fn send(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        check_size(bytes.len(), fds.len())?;
        while !self.flush()? {
            self.wait_writable()?;
        }
        let mut progress = Progress::default();
        loop {
            match step(&self.socket, bytes, fds, &mut progress) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_writable()?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Puts a message at the end of the queue that [`flush`](Self::flush) sends.
    ///
    /// # Errors
    /// `InvalidInput` for a message above the limits.
    pub fn queue(&mut self, bytes: Vec<u8>, fds: Vec<OwnedFd>) -> io::Result<()> {
        check_size(bytes.len(), fds.len())?;
        let message = Message { bytes, fds };
        self.outgoing.push_back(Outgoing { message, progress: Progress::default() });
        Ok(())
    }

    /// Sends what it can of the queue without waiting; true when nothing is left.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn flush(&mut self) -> io::Result<bool> {
        while let Some(Outgoing { message, progress }) = self.outgoing.front_mut() {
            match step(&self.socket, &message.bytes, &message.fds, progress) {
                Ok(true) => drop(self.outgoing.pop_front()),
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Waits for a whole message; `None` when the other end is closed.
    ///
    /// # Errors
    /// `UnexpectedEof` when it was closed in the middle; `InvalidData` for what this module did not send.
    pub fn recv(&mut self) -> io::Result<Option<Message>> {
        loop {
            match self.try_recv() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll::wait(&[(self.socket.as_fd(), Interest::Read)], None)?;
                }
                received => return received,
            }
        }
    }

    /// A whole message if it is there; `None` when the other end is closed. Parts are kept for the next call.
    ///
    /// # Errors
    /// `WouldBlock` when more must arrive; otherwise as [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> io::Result<Option<Message>> {
        let mut packet = vec![0; HEADER + CHUNK];
        loop {
            let (len, fds) = self.recv_packet(&mut packet)?;
            if len == 0 {
                return if self.incoming.is_some() {
                    Err(io::ErrorKind::UnexpectedEof.into())
                } else {
                    Ok(None)
                };
            }
            if let Some(message) = self.assemble(&packet[..len], fds)? {
                return Ok(Some(message));
            }
        }
    }

    fn recv_packet(&self, packet: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FDS_PER_PACKET))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = retry(|| recvmsg(&self.socket, &mut [IoSliceMut::new(packet)], &mut control, flags))?;
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            // The kernel drops what does not fit below the limit of open descriptors.
            return Err(Errno::MFILE.into());
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok((received.bytes, fds))
    }

    fn assemble(&mut self, packet: &[u8], fds: Vec<OwnedFd>) -> io::Result<Option<Message>> {
        let (mut incoming, data) = match (packet, self.incoming.take()) {
            ([FIRST, f0, f1, f2, f3, b0, b1, b2, b3, b4, b5, b6, b7, data @ ..], None) => {
                let bytes = u64::from_le_bytes([*b0, *b1, *b2, *b3, *b4, *b5, *b6, *b7]);
                let fds = u32::from_le_bytes([*f0, *f1, *f2, *f3]) as usize;
                (Incoming { message: Message::default(), bytes, fds }, data)
            }
            ([NEXT, data @ ..], Some(incoming)) => (incoming, data),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        let Incoming { message, bytes, fds: fds_due } = &mut incoming;
        message.bytes.extend_from_slice(data);
        message.fds.extend(fds);
        let have = message.bytes.len() as u64;
        if have > *bytes || *bytes > MAX_BYTES || message.fds.len() > *fds_due || *fds_due > MAX_FDS {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if have == *bytes && message.fds.len() == *fds_due {
            return Ok(Some(incoming.message));
        }
        self.incoming = Some(incoming);
        Ok(None)
    }

    fn wait_writable(&self) -> io::Result<()> {
        poll::wait(&[(self.socket.as_fd(), Interest::Write)], None)?;
        // Writable and yet refused means too many descriptors on their way: only time helps.
        std::thread::sleep(Duration::from_millis(1));
        Ok(())
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.socket
    }
}

fn check_size(bytes: usize, fds: usize) -> io::Result<()> {
    if bytes as u64 > MAX_BYTES || fds > MAX_FDS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "message too large for the channel"));
    }
    Ok(())
}

/// Sends one packet; true when the message is complete.
fn step<F: AsFd>(socket: &OwnedFd, bytes: &[u8], fds: &[F], progress: &mut Progress) -> io::Result<bool> {
    let data = &bytes[progress.bytes..bytes.len().min(progress.bytes + CHUNK)];
    let last_fd = fds.len().min(progress.fds + FDS_PER_PACKET);
    let rights: Vec<BorrowedFd<'_>> = fds[progress.fds..last_fd].iter().map(AsFd::as_fd).collect();

    let mut head = Vec::with_capacity(HEADER);
    if progress.begun {
        head.push(NEXT);
    } else {
        head.push(FIRST);
        head.extend_from_slice(&u32::try_from(fds.len()).unwrap_or(u32::MAX).to_le_bytes());
        head.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    }

    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FDS_PER_PACKET))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !rights.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&rights)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let pieces = [IoSlice::new(&head), IoSlice::new(data)];
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    match rustix::io::retry_on_intr(|| sendmsg(socket, &pieces, &mut control, flags)) {
        Ok(_) => {} // a packet is sent whole
        Err(Errno::TOOMANYREFS) => return Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => return Err(error.into()),
    }
    progress.begun = true;
    progress.bytes += data.len();
    progress.fds = last_fd;
    Ok(progress.bytes == bytes.len() && progress.fds == fds.len())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::thread;

    use super::*;
    use crate::file;

    fn pipe() -> (File, File) {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        (reader.into(), writer.into())
    }

    #[test]
    fn bytes_and_descriptors_arrive_together() {
        let (mut a, mut b) = Channel::pair().unwrap();
        let (mut reader, writer) = pipe();
        a.send(b"listen", &[writer.as_fd()]).unwrap();
        drop(writer);
        let message = b.recv().unwrap().unwrap();
        assert_eq!(message.bytes, b"listen");
        let [fd] = <[OwnedFd; 1]>::try_from(message.fds).unwrap();
        assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        File::from(fd).write_all(b"through").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn messages_keep_their_bounds() {
        let (mut a, mut b) = Channel::pair().unwrap();
        for text in ["", "one", "", "two"] {
            a.send(text.as_bytes(), &[]).unwrap();
        }
        for text in ["", "one", "", "two"] {
            assert_eq!(b.recv().unwrap().unwrap().bytes, text.as_bytes());
        }
        assert_eq!(b.try_recv().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(a);
        assert!(b.recv().unwrap().is_none());
        assert_eq!(b.send(b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn large_messages_with_thousands_of_descriptors() {
        crate::limits::raise_open_files().unwrap();
        let room = crate::limits::open_files().soft.unwrap_or(1 << 20);
        let count = usize::try_from(room.saturating_sub(200).min(3000)).unwrap();
        let bytes: Vec<u8> = (0..5_000_000_u32).map(|i| (i % 253) as u8).collect();
        let null = File::open("/dev/null").unwrap();
        let (mut a, mut b) = Channel::pair().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                a.send(&bytes, &vec![null.as_fd(); count]).unwrap();
                a.send(b"", &vec![null.as_fd(); 600]).unwrap();
                a.send(b"end", &[]).unwrap();
            });
            let message = b.recv().unwrap().unwrap();
            assert!(message.bytes == bytes);
            assert_eq!(message.fds.len(), count);
            let device = file::fstat(&null).unwrap();
            assert!(message.fds.iter().all(|fd| file::fstat(fd).unwrap().same_file(&device)));
            drop(message);
            assert_eq!(b.recv().unwrap().unwrap().fds.len(), 600);
            assert_eq!(b.recv().unwrap().unwrap().bytes, b"end");
        });
    }

    #[test]
    fn a_queue_is_flushed_as_the_reader_reads() {
        let (mut a, mut b) = Channel::pair().unwrap();
        let (_reader, writer) = pipe();
        let bytes = vec![5; 3_000_000];
        a.queue(bytes.clone(), vec![writer.into()]).unwrap();
        a.queue(b"second".to_vec(), Vec::new()).unwrap();
        assert!(!a.flush().unwrap());
        let first = loop {
            match b.try_recv() {
                Ok(message) => break message.unwrap(),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            a.flush().unwrap();
        };
        assert!(first.bytes == bytes && first.fds.len() == 1);
        while !a.flush().unwrap() {}
        assert_eq!(b.recv().unwrap().unwrap().bytes, b"second");
    }

    #[test]
    fn a_message_cut_short_is_an_error() {
        let (mut a, mut b) = Channel::pair().unwrap();
        a.queue(vec![1; 3_000_000], Vec::new()).unwrap();
        assert!(!a.flush().unwrap());
        drop(a);
        assert_eq!(b.recv().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn strange_packets_are_refused() {
        let header =
            |fds: u32, bytes: u64| [&[FIRST][..], &fds.to_le_bytes(), &bytes.to_le_bytes(), b"data"].concat();
        for packet in [
            vec![9],
            vec![NEXT, 1],
            vec![FIRST, 0],
            header(0, 3),        // more data than announced
            header(0, u64::MAX), // too long
            header(u32::MAX, 4), // too many descriptors
        ] {
            let (a, mut b) = Channel::pair().unwrap();
            rustix::net::send(&a, &packet, SendFlags::empty()).unwrap();
            assert_eq!(b.recv().unwrap_err().kind(), io::ErrorKind::InvalidData, "{packet:?}");
        }
        let (mut a, _b) = Channel::pair().unwrap();
        let null = File::open("/dev/null").unwrap();
        let error = a.send(b"", &vec![null.as_fd(); MAX_FDS + 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
