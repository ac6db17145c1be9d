//! Listening sockets, as a worker accepts from them.

use crate::{
    addr::Addr,
    io::{Io, Socket},
};
use moonrest_rt::Interest;
use moonrest_sys::socket;
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// A listening socket of this worker. Others may have it, too.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    unix: bool,
    many: bool,
}

impl Listener {
    /// Watches a listening socket that does not wait; `unix`: one of that kind. With `many`, all connections that wait
    /// are taken at once, otherwise one per turn of the event loop, so that those who are served already get their share.
    /// Connections wait until [`Self::resume`].
    ///
    /// # Errors
    /// When the event loop cannot watch it.
    pub fn new(socket: OwnedFd, unix: bool, many: bool) -> io::Result<Self> {
        Ok(Self { socket: Socket::shared(socket, Interest::NONE)?, unix, many })
    }

    /// The next connection, and where it comes from.
    ///
    /// # Errors
    /// Those of `accept4`, and when the event loop cannot watch the socket.
    pub async fn accept(&self) -> io::Result<(Io, Addr)> {
        loop {
            self.socket.readable().await?;
            match self.socket.try_read(|socket| socket::accept(socket)) {
                Ok((connection, from)) => {
                    if !self.many {
                        self.socket.clear_read();
                    }
                    let from = from.map_or_else(|| Addr::Unix(Box::default()), Addr::Inet);
                    return Ok((Io::accepted(connection, self.unix), from));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Leaves connections where they are until [`Self::resume`]: nobody would take them.
    ///
    /// # Errors
    /// Those of `epoll_ctl`.
    pub fn pause(&self) -> io::Result<()> {
        self.socket.clear_read();
        self.socket.tell(Interest::NONE)
    }

    /// Takes connections from now on. As long as some wait, each turn of the event loop says so.
    ///
    /// # Errors
    /// Those of `epoll_ctl`.
    pub fn resume(&self) -> io::Result<()> {
        self.socket.tell(Interest::READ_LEVEL)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sleep::sleep, timer::within};
    use std::net::{TcpListener, TcpStream};

    fn check(many: bool) {
        moonrest_rt::block_on(async {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            let addr = socket.local_addr().unwrap();
            let listener = Listener::new(socket.into(), false, many).unwrap();
            listener.resume().unwrap();
            assert!(within(50, listener.accept()).await.is_none());
            let clients = [(); 3].map(|()| TcpStream::connect(addr).unwrap());
            for client in &clients[..2] {
                let (io, from) = listener.accept().await.unwrap();
                assert_eq!(from, Addr::Inet(client.local_addr().unwrap()));
                assert_eq!(io.local_addr().unwrap(), Addr::Inet(addr));
            }
            listener.pause().unwrap();
            assert!(within(50, listener.accept()).await.is_none());
            listener.resume().unwrap();
            sleep(1).await;
            let (io, _) = listener.accept().await.unwrap();
            assert_eq!(io.try_write(&[io::IoSlice::new(b"hello")], false).unwrap(), 5);
        });
    }

    #[test]
    fn connections_wait_while_nobody_takes_them() {
        check(false);
        check(true);
    }
}
