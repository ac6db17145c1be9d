//! `realip`: the client's address as trusted proxies tell it.
//! <https://nginx.org/en/docs/http/ngx_http_realip_module.html>

use moonrest_core::{Cidr, cidr::forwarded};
use moonrest_http::prelude::*;
use moonrest_net::addr::Addr;
use std::{
    io::Write,
    net::{SocketAddr, ToSocketAddrs},
};

/// The module.
pub struct RealIp;
type D = Directive<RealIp>;

impl HttpModule for RealIp {
    const NAME: &'static str = "ngx_http_realip_module";
    const DIRECTIVES: &'static [D] = &[
        D::loc("set_real_ip_from", Arity::exactly(1), add_trusted),
        D::loc("real_ip_header", Arity::exactly(1), |loc, args| {
            let source = match args.bytes(0)? {
                b"X-Forwarded-For" => Origin::ForwardedFor,
                b"proxy_protocol" => Origin::ProxyProtocol,
                name => Origin::Field(name.to_ascii_lowercase().into()),
            };
            set_once(&mut loc.origin, source)
        }),
        D::flag("real_ip_recursive", |loc| &mut loc.recursive),
    ];
    const VARIABLES: &'static [VarDef<Request>] = &[
        VarDef::get("realip_remote_addr", |r, out| {
            r.conn.remote.append_text(out);
            true
        }),
        VarDef::get("realip_remote_port", |r, out| match r.conn.remote.port() {
            0 => true,
            port => write!(out, "{port}").is_ok(),
        }),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach(_main: &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        let Some(trusted) = &loc.trusted else { return Ok(()) };
        let origin = loc.origin.clone().unwrap_or_else(|| Origin::Field((*b"x-real-ip").into()));
        let recursive = loc.recursive.unwrap_or(false);
        for phase in [Phase::PostRead, Phase::Preaccess] {
            let (trusted, origin) = (trusted.as_slice().into(), origin.clone());
            to.on(phase, Replacer { trusted, origin, recursive });
        }
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    trusted: Option<Vec<Cidr>>,
    origin: Option<Origin>,
    recursive: Option<bool>,
}
inherit!(Loc { trusted, origin, recursive });

/// Where the address stands.
#[derive(Clone)]
enum Origin {
    /// The first field of this name, in lower case.
    Field(Box<[u8]>),
    /// All fields, as one list.
    ForwardedFor,
    ProxyProtocol,
}

fn add_trusted(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    let trusted = loc.trusted.get_or_insert_default();
    if args.bytes(0)? == b"unix:" {
        trusted.push(Cidr::Unix);
        return Ok(());
    }
    if let Some(parsed) = Cidr::parse(args.bytes(0)?) {
        if parsed.low_bits {
            let message = format!("low address bits of {} are meaningless", args.lossy(0));
            args.env.warn(message, Some(args.span()));
        }
        trusted.push(parsed.cidr);
        return Ok(());
    }
    let found =
        (args.str(0)?, 0).to_socket_addrs().ok().into_iter().flatten().map(|addr| Cidr::host(addr.ip()));
    let before = trusted.len();
    trusted.extend(found);
    if trusted.len() == before {
        let message = format!("host not found in set_real_ip_from \"{}\"", args.lossy(0));
        return Err(Fault::message(message));
    }
    Ok(())
}

struct Replacer {
    trusted: Box<[Cidr]>,
    origin: Origin,
    recursive: bool,
}

impl PhaseHandler for Replacer {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        let main = r.main();
        // Once replaced, an address stays for the request, whatever location it moves to.
        if main.client.borrow().is_none()
            && let Some(addr) = self.find(r)
        {
            *main.client.borrow_mut() = Some(addr);
        }
        Step::next()
    }
}

impl Replacer {
    fn find(&self, r: &Request) -> Option<Addr> {
        let follow = |fields: &[&[u8]]| forwarded(&r.conn.remote, fields, &self.trusted, self.recursive);
        match &self.origin {
            Origin::Field(name) => r.with_header(name, |value| follow(&[value?])),
            Origin::ForwardedFor => r.with_headers(b"x-forwarded-for", follow),
            Origin::ProxyProtocol => {
                let header = r.conn.proxy_protocol.get();
                let header = header.as_ref()?;
                match follow(&[&header.source])? {
                    Addr::Inet(addr) => Some(Addr::Inet(SocketAddr::new(addr.ip(), header.source_port))),
                    unix => Some(unix),
                }
            }
        }
    }
}
