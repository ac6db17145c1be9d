//! Variables of the connection: addresses, ports, numbers, the PROXY protocol, the kernel's view.

use super::{bytes, number, port};
use crate::{exchange::ProxyInfo, request::Request};
use moonrest_net::addr::Addr;
use moonrest_proto::proxy_protocol::{self, TlvError};
use moonrest_sys::{socket::TcpInfo, time};

pub(super) fn binary_remote_addr(r: &Request, out: &mut Vec<u8>) -> bool {
    r.with_client(|addr| addr.append_binary(out));
    true
}

pub(super) fn remote_addr(r: &Request, out: &mut Vec<u8>) -> bool {
    r.with_client(|addr| addr.append_text(out));
    true
}

pub(super) fn remote_port(r: &Request, out: &mut Vec<u8>) -> bool {
    port(out, r.with_client(Addr::port))
}

pub(super) fn server_addr(r: &Request, out: &mut Vec<u8>) -> bool {
    r.with_local(|addr| match addr {
        Addr::Inet(_) => addr.append_text(out),
        Addr::Unix(_) => addr.append_with_port(out),
    });
    true
}

pub(super) fn server_port(r: &Request, out: &mut Vec<u8>) -> bool {
    port(out, r.with_local(Addr::port))
}

pub(super) fn server_name(r: &Request, out: &mut Vec<u8>) -> bool {
    bytes(out, &r.srv().name)
}

pub(super) fn scheme(r: &Request, out: &mut Vec<u8>) -> bool {
    bytes(out, if r.is_tls() { b"https" } else { b"http" })
}

pub(super) fn https(r: &Request, out: &mut Vec<u8>) -> bool {
    bytes(out, if r.is_tls() { b"on" } else { b"" })
}

pub(super) fn serial(r: &Request, out: &mut Vec<u8>) -> bool {
    number(out, r.conn.number)
}

pub(super) fn requests(r: &Request, out: &mut Vec<u8>) -> bool {
    number(out, r.conn.requests.get())
}

pub(super) fn age(r: &Request, out: &mut Vec<u8>) -> bool {
    crate::decimal::append_millis(out, time::monotonic_ms().saturating_sub(r.conn.started));
    true
}

fn proxied(r: &Request, f: impl FnOnce(&ProxyInfo) -> bool) -> bool {
    r.conn.proxy_protocol.get().is_some_and(|info| f(info))
}

pub(super) fn proxy_protocol_addr(r: &Request, out: &mut Vec<u8>) -> bool {
    proxied(r, |info| bytes(out, &info.source))
}

pub(super) fn proxy_protocol_port(r: &Request, out: &mut Vec<u8>) -> bool {
    proxied(r, |info| port(out, info.source_port))
}

pub(super) fn proxy_protocol_server_addr(r: &Request, out: &mut Vec<u8>) -> bool {
    proxied(r, |info| bytes(out, &info.destination))
}

pub(super) fn proxy_protocol_server_port(r: &Request, out: &mut Vec<u8>) -> bool {
    proxied(r, |info| port(out, info.destination_port))
}

pub(super) fn proxy_protocol_tlv(r: &Request, name: &[u8], out: &mut Vec<u8>) -> bool {
    let name = String::from_utf8_lossy(name);
    proxied(r, |info| match proxy_protocol::tlv(&info.tlvs, &name) {
        Ok(value) => value.is_some_and(|value| bytes(out, &value)),
        Err(error) => {
            match error {
                TlvError::Broken => crate::error!(r, "broken PROXY protocol TLV"),
                TlvError::UnknownName => crate::error!(r, "unknown PROXY protocol TLV \"{name}\""),
                TlvError::InvalidName => crate::error!(r, "invalid PROXY protocol TLV \"{name}\""),
            }
            false
        }
    })
}

pub(super) fn tcp_info(r: &Request, out: &mut Vec<u8>, field: fn(&TcpInfo) -> u32) -> bool {
    r.main().exchange.tcp_info().is_some_and(|info| number(out, u64::from(field(&info))))
}

pub(super) fn pipe(r: &Request, out: &mut Vec<u8>) -> bool {
    bytes(out, if r.main().pipelined.get() { b"p" } else { b"." })
}
