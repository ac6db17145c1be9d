//! `http2`: what the configuration says about HTTP/2; the driver is `server/h2`.
//! <https://nginx.org/en/docs/http/ngx_http_v2_module.html>

use crate::{
    compile::Http,
    location::{Location, ServerId},
    module::Set,
    prelude::*,
};
use std::sync::atomic::AtomicUsize;

/// The module.
pub struct Http2;

type D = Directive<Http2>;

const HS: Contexts = Contexts::HTTP.or(Contexts::SERVER);

/// A directive of older versions: its arguments are checked, its advice given.
const fn obsolete(name: &'static str, contexts: Contexts, set: fn(&Args<'_>) -> ConfResult) -> D {
    D::new(name, contexts, Arity::exactly(1), Set::Accepted(set))
}

impl HttpModule for Http2 {
    const NAME: &'static str = "ngx_http_v2_module";
    const DIRECTIVES: &'static [D] = &[
        D::flag("http2", |loc| &mut loc.enabled).within(HS),
        // Not nginx's: WebSockets as streams (RFC 8441).
        D::flag("http2_websocket", |loc| &mut loc.websocket).within(HS),
        D::new(
            "http2_max_concurrent_streams",
            HS,
            Arity::exactly(1),
            Set::Uint(|loc: &mut Loc| &mut loc.streams),
        ),
        D::new(
            "http2_body_preread_size",
            HS,
            Arity::exactly(1),
            Set::Loc(|loc: &mut Loc, args| {
                let size = args.size(0)?;
                if size > 0x7fff_ffff {
                    return Err(Fault::message(format!(
                        "the maximum body preread buffer size is {}",
                        0x7fff_ffff_u32
                    )));
                }
                set_once(&mut loc.preread, size)
            }),
        ),
        D::loc("http2_chunk_size", Arity::exactly(1), |loc, args| {
            let size = args.size(0)?;
            if size == 0 {
                return Err(Fault::message("the http2 chunk size cannot be zero"));
            }
            if size > 16_777_215 {
                return Err(Fault::message("the maximum http2 chunk size is 16777215"));
            }
            set_once(&mut loc.chunk, size)
        }),
        D::new("http2_recv_buffer_size", Contexts::HTTP, Arity::exactly(1), Set::Accepted(size)),
        D::new("http2_pool_size", HS, Arity::exactly(1), Set::Accepted(size)),
        D::new(
            "http2_streams_index_size",
            HS,
            Arity::exactly(1),
            Set::Accepted(|args| args.uint(0).map(|_| ())),
        ),
        obsolete("http2_recv_timeout", HS, |args| replaced(args, "client_header_timeout")),
        obsolete("http2_idle_timeout", HS, |args| replaced(args, "keepalive_timeout")),
        obsolete("http2_max_requests", HS, |args| replaced(args, "keepalive_requests")),
        obsolete("http2_max_field_size", HS, |args| replaced(args, "large_client_header_buffers")),
        obsolete("http2_max_header_size", HS, |args| replaced(args, "large_client_header_buffers")),
        obsolete("http2_max_concurrent_pushes", HS, gone),
        obsolete("http2_push", Contexts::HSL, gone),
        obsolete("http2_push_preload", Contexts::HSL, gone),
    ];
    const VARIABLES: &'static [VarDef<Request>] = &[VarDef::get("http2", |r, out| {
        if r.version.get() != moonrest_proto::http1::Version::Http2 {
            return false;
        }
        out.extend_from_slice(if r.is_tls() { b"h2" } else { b"h2c" });
        true
    })];
    type Main = ();
    type Loc = Loc;
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    enabled: Option<bool>,
    streams: Option<u64>,
    preread: Option<u64>,
    chunk: Option<u64>,
    websocket: Option<bool>,
}
inherit!(Loc { enabled, streams, preread, chunk, websocket });

impl Loc {
    /// The settings of a location, without a search.
    fn of(location: &Location) -> Option<&Self> {
        static PLACE: AtomicUsize = AtomicUsize::new(0);
        location.conf_at(&PLACE)
    }
}

fn size(args: &Args<'_>) -> ConfResult {
    args.size(0).map(|_| ())
}

fn replaced(args: &Args<'_>, by: &str) -> ConfResult {
    args.env.warn(
        format!("the \"{}\" directive is obsolete, use the \"{by}\" directive instead", args.name()),
        Some(args.span()),
    );
    Ok(())
}

fn gone(args: &Args<'_>) -> ConfResult {
    args.env.warn(format!("the \"{}\" directive is obsolete, ignored", args.name()), Some(args.span()));
    Ok(())
}

/// Bytes of body in one frame of what a location answers.
pub(crate) fn chunk_size(location: &Location) -> usize {
    let chunk = Loc::of(location).and_then(|loc| loc.chunk).unwrap_or(8192);
    usize::try_from(chunk).unwrap_or(8192)
}

/// The settings of a connection: those of its server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub enabled: bool,
    pub max_concurrent_streams: u32,
    /// Bytes of a body that may come before somebody reads it.
    pub body_preread_size: u32,
    /// Streams may carry WebSockets.
    pub websocket: bool,
}

impl Settings {
    pub(crate) fn of(http: &Http, server: ServerId) -> Self {
        let loc = Loc::of(http.location(http.server(server).location)).cloned().unwrap_or_default();
        let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Self {
            enabled: loc.enabled == Some(true),
            max_concurrent_streams: small(loc.streams.unwrap_or(128)),
            body_preread_size: small(loc.preread.unwrap_or(65_536)),
            websocket: loc.websocket == Some(true),
        }
    }
}
