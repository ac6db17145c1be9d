//! Free ports: taken from the kernel and held until the test is over.
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// A TCP port that nobody else is given while this value lives.
///
/// The reservation is a bound socket that never listens. The kernel hands out neither its port to a `bind` to port 0
/// nor to an outgoing connection, yet a server that sets `SO_REUSEADDR`, as nginx does, may listen there.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _held: Socket,
}

impl Port {
    /// Takes a free port from the kernel.
    pub fn reserve() -> io::Result<Self> {
        let held = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // Bound first without the option: so the kernel chooses a port that no other socket has in any way.
        held.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
        held.set_reuse_address(true)?;
        let number = held.local_addr()?.as_socket().map(|addr| addr.port());
        let number = number.ok_or_else(|| io::Error::other("a TCP socket without a port"))?;
        Ok(Self { number, _held: held })
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on 127.0.0.1.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_can_be_listened_on_and_is_not_given_twice() {
        let ports: Vec<Port> = (0..200).map(|_| Port::reserve().unwrap()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), ports.len());

        let server = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        server.set_reuse_address(true).unwrap();
        server.bind(&ports[0].addr().into()).unwrap();
        server.listen(5).unwrap();
        std::net::TcpStream::connect(ports[0].addr()).unwrap();
    }
}
