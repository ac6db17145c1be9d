//! `tunnel`: CONNECT, a connection to wherever the client wants to go.
//! <https://nginx.org/en/docs/http/ngx_http_tunnel_module.html>

use crate::cgi::{self, Pass};
use moonrest_http::{
    prelude::*,
    upstream::{
        self, Bind, Conf, Destination, Framing, HeadStep, Job, Protocol, RequestLength, directive, mask,
        start,
    },
};
use moonrest_net::addr::Addr;
use moonrest_proto::http1::{Method, ResponseHead};
use std::ops::Range;

/// The module.
pub struct Tunnel;
type D = Directive<Tunnel>;

/// Where clients go if the configuration does not say so: where they want.
const WANTED: &[u8] = b"$host:$request_port";

/// The words of `tunnel_next_upstream`.
const NEXT: &[(&str, u32)] = &[("error", mask::ERROR), ("timeout", mask::TIMEOUT), ("off", mask::OFF)];

/// What one block says.
#[derive(Clone, Default)]
pub struct TunnelLoc {
    upstream: upstream::Loc,
    /// Not inherited by locations inside.
    pass: Option<Arc<Pass>>,
}

impl Inherit for TunnelLoc {
    fn inherit(&mut self, outer: &Self) {
        self.upstream.inherit(&outer.upstream);
        if self.pass.is_none() {
            self.pass.clone_from(&outer.pass);
        }
    }
}

impl HttpModule for Tunnel {
    const NAME: &'static str = "ngx_http_tunnel_module";
    const DIRECTIVES: &'static [D] = &[
        D::loc("tunnel_pass", Arity::between(0, 1), set_pass)
            .within(Contexts::SERVER.or(Contexts::LOCATION).or(Contexts::IF)),
        D::loc("tunnel_bind", directive::ONE_OR_TWO, |c: &mut TunnelLoc, args| {
            Bind::set(&mut c.upstream.bind, args)
        }),
        D::flag("tunnel_socket_keepalive", |c| &mut c.upstream.socket_keepalive),
        D::size("tunnel_socket_rcvbuf", |c| &mut c.upstream.socket_rcvbuf),
        D::size("tunnel_socket_sndbuf", |c| &mut c.upstream.socket_sndbuf),
        D::msec("tunnel_connect_timeout", |c| &mut c.upstream.connect_timeout),
        D::msec("tunnel_send_timeout", |c| &mut c.upstream.send_timeout),
        D::size("tunnel_send_lowat", |c| &mut c.upstream.send_lowat),
        D::size("tunnel_buffer_size", |c| &mut c.upstream.buffer_size),
        D::msec("tunnel_read_timeout", |c| &mut c.upstream.read_timeout),
        D::loc("tunnel_next_upstream", directive::AT_LEAST_ONE, |c: &mut TunnelLoc, args| {
            directive::set_mask(&mut c.upstream.next_upstream, args, NEXT)
        }),
        directive::uint("tunnel_next_upstream_tries", |c: &mut TunnelLoc| {
            &mut c.upstream.next_upstream_tries
        }),
        D::msec("tunnel_next_upstream_timeout", |c| &mut c.upstream.next_upstream_timeout),
    ];
    type Main = ();
    type Loc = TunnelLoc;

    fn attach((): &(), loc: &Arc<TunnelLoc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        let Some(pass) = loc.pass.as_ref().filter(|pass| to.belongs(pass.block)) else {
            return loc.upstream.check("tunnel", &[], to);
        };
        let conf = loc.upstream.resolve("tunnel", &[], to)?;
        to.content(Handler { conf: Arc::new(conf), pass: pass.clone() });
        Ok(())
    }
}

/// `tunnel_pass [ADDRESS]`.
fn set_pass(loc: &mut TunnelLoc, args: &Args<'_>) -> ConfResult {
    args.compiler.allow_connect(args.block);
    if args.len() > 0 {
        return cgi::pass::set(&mut loc.pass, args, &[]);
    }
    let wanted = Template::parse(WANTED, |name| args.vars.reference(name, Some(args.span())))?;
    cgi::pass::set_template(&mut loc.pass, args, wanted, &[])
}

struct Handler {
    conf: Arc<Conf>,
    pass: Arc<Pass>,
}

impl PhaseHandler for Handler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        if r.method.get() != Method::Connect {
            return Step::finish(405);
        }
        let (destination, _) = self.pass.destination(r)?;
        if let Destination::Dynamic { host, addr: Some(Addr::Unix(_)), .. } = &destination
            && host.iter().all(u8::is_ascii_digit)
        {
            // Whoever asks for `unix:80` means a host of that name, and gets no socket of ours.
            return Err(RequestError::internal("invalid host in upstream \"unix\""));
        }
        let job = Job {
            conf: self.conf.clone(),
            destination,
            protocol: Box::new(Talk),
            pass_body: false,
            stream_body: false,
            secure: false,
        };
        start(r, job)
    }
}

/// What the client is told once the connection is there.
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

/// No conversation of ours: the client has its own.
struct Talk;

impl Protocol for Talk {
    fn scheme(&self) -> &'static [u8] {
        b""
    }

    fn is_tunnel(&self) -> bool {
        true
    }

    fn request(
        &mut self,
        _r: &RequestRef,
        _body: RequestLength,
        _out: &mut Vec<u8>,
    ) -> Result<Range<usize>, RequestError> {
        Ok(0..0)
    }

    fn read_head(&mut self, _input: &[u8], head: &mut ResponseHead) -> Result<HeadStep, String> {
        head.parse(ESTABLISHED).map_err(|error| error.log_message(ESTABLISHED))?;
        let framing =
            Framing { tunnel: true, text: Some(Bytes::from_static(ESTABLISHED)), ..Framing::default() };
        Ok(HeadStep::Done(0, framing))
    }
}
