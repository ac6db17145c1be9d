//! `proxy_pass`: where requests go.

use super::ProxyLoc;
use bytes::Bytes;
use moonrest_core::upstream::Url;
use moonrest_http::{
    compile::BlockId,
    prelude::*,
    upstream::{Destination, GroupId, Main},
};

/// One `proxy_pass`.
pub(super) struct Pass {
    /// Where it stands.
    pub block: BlockId,
    to: To,
    /// The name of its location, which the URI takes the place of.
    pub location: Box<[u8]>,
    /// The URL as written, if it has no variables.
    pub url: Option<Box<[u8]>>,
}

enum To {
    Fixed(GroupId, Arc<Target>),
    Template(Template),
}

/// The parts of a URL that a request is made of.
#[derive(Debug)]
pub(crate) struct Target {
    /// `$proxy_host`
    pub host: Bytes,
    /// `Host` as a line, unless the configuration says otherwise.
    pub host_line: Box<[u8]>,
    /// `$proxy_port`.
    pub port: Bytes,
    pub uri: Bytes,
    /// The URI is complete, whatever was asked for.
    pub whole: bool,
    /// `https`
    pub secure: bool,
    /// What cache keys begin with: scheme and host.
    pub start: Bytes,
}

/// The port of a URL without one.
const fn usual_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

/// `proxy_pass URL`.
pub(super) fn set(loc: &mut ProxyLoc, args: &Args<'_>) -> ConfResult {
    if loc.pass.is_some() {
        return Err(Fault::DUPLICATE);
    }
    let template = args.template(0)?;
    let (name, plain) = args.compiler.location_name(args.block);
    let Some(url) = template.as_static() else {
        let pass = Pass { block: args.block, to: To::Template(template), location: name, url: None };
        loc.pass = Some(Arc::new(pass));
        return Ok(());
    };
    let Some((rest, secure)) = strip_scheme(url) else {
        return Err(Fault::message("invalid URL prefix"));
    };
    let parsed = Url::parse(rest, usual_port(secure), true).map_err(|error| {
        Fault::message(format!("{error} in upstream \"{}\"", String::from_utf8_lossy(rest)))
    })?;
    let group = args.compiler.with_main(|main: &mut Main| main.reference(&parsed, args.span()));
    let group = group.unwrap_or_else(|| Err(Fault::message("no upstream module")))?;
    if !plain && !parsed.uri.is_empty() {
        return Err(Fault::message(
            "\"proxy_pass\" cannot have URI part in location given by regular expression, or inside named location, \
             or inside \"if\" statement, or inside \"limit_except\" block",
        ));
    }
    loc.pass = Some(Arc::new(Pass {
        block: args.block,
        to: To::Fixed(group, Arc::new(Target::new(&parsed, secure, false))),
        location: if plain { name } else { Box::default() },
        url: Some(url.into()),
    }));
    Ok(())
}

/// What stands behind the scheme, and whether that is `https`.
fn strip_scheme(url: &[u8]) -> Option<(&[u8], bool)> {
    for (scheme, secure) in [(&b"http://"[..], false), (b"https://", true)] {
        if let Some((start, rest)) = url.split_at_checked(scheme.len())
            && start.eq_ignore_ascii_case(scheme)
        {
            return Some((rest, secure));
        }
    }
    None
}

impl Target {
    /// As log lines show it.
    pub(super) fn scheme(&self) -> &'static [u8] {
        if self.secure { b"https://" } else { b"http://" }
    }

    fn new(url: &Url<'_>, secure: bool, variable: bool) -> Self {
        let usual = usual_port(secure);
        let (host, port) = if url.is_unix() {
            (b"localhost".to_vec(), &b""[..])
        } else if url.no_port || url.port == usual {
            (url.host.to_vec(), if secure { &b"443"[..] } else { b"80" })
        } else {
            (url.authority(), url.port_text)
        };
        // A URL may have arguments without a path.
        let uri = match url.uri.first() {
            Some(b'?') if variable => [b"/", url.uri].concat(),
            _ => url.uri.to_vec(),
        };
        let whole = variable && !uri.is_empty();
        let scheme: &[u8] = if secure { b"https://" } else { b"http://" };
        let start = [scheme, if url.is_unix() { url.host } else { &host }].concat();
        Self {
            host_line: [b"Host: ", &host[..], b"\r\n"].concat().into(),
            host: host.into(),
            port: Bytes::copy_from_slice(port),
            uri: uri.into(),
            whole,
            secure,
            start: start.into(),
        }
    }
}

impl Pass {
    /// The upstream, where it is always the same.
    pub(super) fn group(&self) -> Option<GroupId> {
        match &self.to {
            To::Fixed(group, _) => Some(*group),
            To::Template(_) => None,
        }
    }

    /// Whether the URI of the URL takes the place of the location's name.
    pub(super) fn has_uri(&self) -> bool {
        matches!(&self.to, To::Fixed(_, target) if !target.uri.is_empty())
    }

    /// Whether connections may have to be encrypted.
    pub(super) fn may_be_secure(&self) -> bool {
        match &self.to {
            To::Fixed(_, target) => target.secure,
            To::Template(_) => true,
        }
    }

    /// Where this request goes.
    pub(super) fn target(&self, r: &Request) -> Result<(Destination, Arc<Target>), RequestError> {
        let template = match &self.to {
            To::Fixed(group, target) => return Ok((Destination::Group(*group), target.clone())),
            To::Template(template) => template,
        };
        let url = template.eval(r);
        let shown = || String::from_utf8_lossy(&url).into_owned();
        let Some((rest, secure)) = strip_scheme(&url).filter(|(rest, _)| !rest.is_empty()) else {
            return Err(RequestError::internal(format!("invalid URL prefix in \"{}\"", shown())));
        };
        let parsed = Url::parse(rest, usual_port(secure), true).map_err(|error| {
            RequestError::internal(format!("{error} in upstream \"{}\"", String::from_utf8_lossy(rest)))
        })?;
        let destination = Destination::Dynamic {
            host: parsed.host.to_vec(),
            port: parsed.port,
            no_port: parsed.no_port,
            addr: parsed.addr.clone(),
        };
        Ok((destination, Arc::new(Target::new(&parsed, secure, true))))
    }
}
