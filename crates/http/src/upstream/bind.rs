//! `proxy_bind` and the like: the address that connections are made from.

use crate::{args::Args, request::Request};
use moonrest_core::{ConfResult, Fault, Template, set_once, upstream::Url};
use moonrest_net::addr::Addr;
use std::net::SocketAddr;

/// The local address of connections.
#[derive(Clone, Debug)]
pub struct Bind {
    address: Address,
    /// The address need not be the machine's own.
    pub transparent: bool,
}

#[derive(Clone, Debug)]
enum Address {
    Fixed(SocketAddr),
    Template(Template),
}

impl Bind {
    /// `bind ADDRESS [transparent] | off`.
    ///
    /// # Errors
    /// nginx's `invalid address "x"` and `invalid parameter "x"`.
    pub fn set(slot: &mut Option<Option<Self>>, args: &Args<'_>) -> ConfResult {
        if args.len() == 1 && args.bytes(0)? == b"off" {
            return set_once(slot, None);
        }
        let template = args.template(0)?;
        let address = match template.as_static() {
            Some(text) => Address::Fixed(
                parse(text)
                    .ok_or_else(|| Fault::message(format!("invalid address \"{}\"", args.lossy(0))))?,
            ),
            None => Address::Template(template),
        };
        if args.len() > 1 && args.bytes(1)? != b"transparent" {
            return Err(args.invalid_parameter(1));
        }
        set_once(slot, Some(Self { address, transparent: args.len() > 1 }))
    }

    /// The address for this request; none when a variable says so.
    pub fn address(&self, r: &Request) -> Option<SocketAddr> {
        match &self.address {
            Address::Fixed(addr) => Some(*addr),
            Address::Template(template) => {
                let text = template.eval(r);
                if text.is_empty() {
                    return None;
                }
                let addr = parse(&text);
                if addr.is_none() {
                    crate::error!(r, "invalid local address \"{}\"", String::from_utf8_lossy(&text));
                }
                addr
            }
        }
    }
}

/// An IP address with or without a port.
fn parse(text: &[u8]) -> Option<SocketAddr> {
    if let Some(ip) = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()) {
        return Some(SocketAddr::new(ip, 0));
    }
    match Url::parse(text, 0, false).ok()?.addr? {
        Addr::Inet(addr) => Some(addr),
        Addr::Unix(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_ports() {
        let check = |text: &str, expect: Option<&str>| {
            let got = parse(text.as_bytes()).map(|addr| addr.to_string());
            assert_eq!(got.as_deref(), expect, "{text}");
        };
        check("127.0.0.1", Some("127.0.0.1:0"));
        check("127.0.0.1:80", Some("127.0.0.1:80"));
        check("::1", Some("[::1]:0"));
        check("[::1]:80", Some("[::1]:80"));
        check("localhost", None);
        check("unix:/tmp/x", None);
    }
}
