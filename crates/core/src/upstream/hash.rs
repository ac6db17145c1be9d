//! Choosing by a key: the checksums and the ring that memcached's clients use, so that they agree with us.

use super::Peer;
use std::sync::Arc;

/// CRC-32 as in Ethernet, begun; [`Crc::value`] ends it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crc(u32);

const TABLE: [u32; 256] = table();

#[allow(clippy::indexing_slicing, reason = "evaluated when compiling")]
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let mut value = n as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        table[n] = value;
        n += 1;
    }
    table
}

impl Crc {
    pub(super) const fn new() -> Self {
        Self(u32::MAX)
    }

    #[must_use]
    pub(super) fn update(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            let index = (self.0 as u8 ^ byte) as usize;
            self.0 = TABLE.get(index).copied().unwrap_or_default() ^ (self.0 >> 8);
        }
        self
    }

    pub(super) const fn value(self) -> u32 {
        self.0 ^ u32::MAX
    }
}

/// The next step of a plain hash, compatible with Cache::Memcached: `(crc32([N] KEY) >> 16) & 0x7fff`.
pub(super) fn step(key: &[u8], rehash: u32) -> u32 {
    let mut crc = Crc::new();
    if rehash > 0 {
        crc = crc.update(rehash.to_string().as_bytes());
    }
    (crc.update(key).value() >> 16) & 0x7fff
}

/// The next step of the hash over a client's address.
pub(super) fn ip_step(hash: u32, address: &[u8]) -> u32 {
    address.iter().fold(hash, |hash, byte| (hash.wrapping_mul(113).wrapping_add(u32::from(*byte))) % 6271)
}

/// Where [`ip_step`] begins.
pub(super) const IP_START: u32 = 89;

/// Points of a consistent hash, compatible with Cache::Memcached::Fast (`ketama_points` 160): `crc32(HOST \0 PORT
/// PREVIOUS)`.
#[derive(Debug, Default)]
pub(super) struct Ring {
    names: Vec<Box<[u8]>>,
    order: Vec<(u32, u32)>,
}

/// Points for each unit of weight.
const POINTS: i64 = 160;

impl Ring {
    pub(super) fn new(peers: &[Arc<Peer>]) -> Self {
        let mut ring = Self::default();
        for peer in peers {
            let name = &peer.server.name;
            let index = match ring.names.iter().position(|known| known == name) {
                Some(index) => index,
                None => {
                    ring.names.push(name.clone());
                    ring.names.len() - 1
                }
            };
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let (host, port) = split(name);
            let base = Crc::new().update(host).update(b"\0").update(port);
            let mut previous = 0u32;
            for _ in 0..peer.weight * POINTS {
                previous = base.update(&previous.to_le_bytes()).value();
                ring.order.push((previous, index));
            }
        }
        ring.order.sort_by_key(|(hash, _)| *hash);
        ring.order.dedup_by_key(|(hash, _)| *hash);
        ring
    }

    /// The first point at or behind the key's.
    pub(super) fn find(&self, key: &[u8]) -> u32 {
        let hash = Crc::new().update(key).value();
        let at = self.order.partition_point(|(point, _)| *point < hash);
        u32::try_from(at).unwrap_or(0)
    }

    /// The server at a point, counted around the ring.
    pub(super) fn server(&self, point: u32) -> Option<&[u8]> {
        let at = (point as usize).checked_rem(self.order.len())?;
        let (_, index) = self.order.get(at)?;
        self.names.get(*index as usize).map(|name| &**name)
    }
}

/// Host and port as the hash takes them.
fn split(server: &[u8]) -> (&[u8], &[u8]) {
    if let Some((scheme, path)) = server.split_at_checked(5)
        && scheme.eq_ignore_ascii_case(b"unix:")
    {
        return (path, b"");
    }
    match memchr::memrchr(b':', server) {
        Some(at) if server.iter().skip(at + 1).all(u8::is_ascii_digit) => {
            (server.get(..at).unwrap_or_default(), server.get(at + 1..).unwrap_or_default())
        }
        _ => (server, b""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_ethernets() {
        assert_eq!(Crc::new().update(b"123456789").value(), 0xcbf4_3926);
        assert_eq!(step(b"a", 0), (0xe8b7_be43 >> 16) & 0x7fff);
    }

    #[test]
    fn hosts_and_ports_are_split() {
        assert_eq!(split(b"127.0.0.1:8080"), (&b"127.0.0.1"[..], &b"8080"[..]));
        assert_eq!(split(b"a.example"), (&b"a.example"[..], &b""[..]));
        assert_eq!(split(b"unix:/tmp/a:1"), (&b"/tmp/a:1"[..], &b""[..]));
    }
}
