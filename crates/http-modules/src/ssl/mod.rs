//! `ssl`: HTTPS. Directives and variables; [`build`] makes of them what connections begin with.
//! <https://nginx.org/en/docs/http/ngx_http_ssl_module.html>

mod build;
mod dynamic;
mod load;
mod ocsp;
mod responder;
mod session;
mod stapling;
pub(crate) mod upstream;
mod variables;

use moonrest_core::conf::value::{parse_sec, parse_uint};
use moonrest_http::{prelude::*, tls::VerifyClient};
use session::SessionCache;

/// The module.
pub struct Ssl;
type D = Directive<Ssl>;

/// Where all of its directives stand.
const HS: Contexts = Contexts::HTTP.or(Contexts::SERVER);
const ONE: Arity = Arity::exactly(1);

impl HttpModule for Ssl {
    const NAME: &'static str = "ngx_http_ssl_module";
    const DIRECTIVES: &'static [D] = &[
        D::new("ssl_certificate", HS, ONE, Set::Loc(|loc: &mut Loc, args| add(&mut loc.certificates, args))),
        D::new("ssl_certificate_key", HS, ONE, Set::Loc(|loc: &mut Loc, args| add(&mut loc.keys, args))),
        D::new(
            "ssl_certificate_cache",
            HS,
            Arity::between(1, 3),
            Set::Loc(|loc: &mut Loc, args| set_certificate_cache(&mut loc.certificate_cache, args)),
        ),
        D::new("ssl_ech_file", HS, ONE, Set::Accepted(unsupported)),
        D::new(
            "ssl_password_file",
            HS,
            ONE,
            Set::Loc(|loc: &mut Loc, args| set_passwords(&mut loc.passwords, args)),
        ),
        D::flag("ssl_certificate_compression", |loc| &mut loc.compression).within(HS),
        D::new("ssl_dhparam", HS, ONE, Set::Loc(set_dhparam)),
        D::new("ssl_ecdh_curve", HS, ONE, Set::Text(|loc: &mut Loc| &mut loc.curves)),
        D::new(
            "ssl_protocols",
            HS,
            Arity::at_least(1),
            Set::Loc(|loc: &mut Loc, args| set_protocols(&mut loc.protocols, args)),
        ),
        D::new("ssl_ciphers", HS, ONE, Set::Text(|loc: &mut Loc| &mut loc.ciphers)),
        D::size("ssl_buffer_size", |loc| &mut loc.buffer_size).within(HS),
        D::new("ssl_verify_client", HS, ONE, Set::Enum(VERIFY, |loc: &mut Loc| &mut loc.verify)),
        D::new("ssl_verify_depth", HS, ONE, Set::Uint(|loc: &mut Loc| &mut loc.verify_depth)),
        D::new("ssl_client_certificate", HS, ONE, Set::Text(|loc: &mut Loc| &mut loc.client_certificate)),
        D::new("ssl_trusted_certificate", HS, ONE, Set::Text(|loc: &mut Loc| &mut loc.trusted_certificate)),
        D::flag("ssl_prefer_server_ciphers", |loc| &mut loc.prefer_server_ciphers).within(HS),
        D::new("ssl_session_cache", HS, Arity::between(1, 2), Set::Loc(session::set_cache)),
        D::flag("ssl_session_tickets", |loc| &mut loc.tickets).within(HS),
        D::new(
            "ssl_session_ticket_key",
            HS,
            ONE,
            Set::Loc(|loc: &mut Loc, args| add(&mut loc.ticket_keys, args)),
        ),
        D::new("ssl_session_timeout", HS, ONE, Set::Sec(|loc: &mut Loc| &mut loc.session_timeout)),
        D::new("ssl_crl", HS, ONE, Set::Text(|loc: &mut Loc| &mut loc.crl)),
        D::new("ssl_ocsp", HS, ONE, Set::Enum(ocsp::WORDS, |loc: &mut Loc| &mut loc.ocsp)),
        D::new("ssl_ocsp_responder", HS, ONE, Set::Text(|loc: &mut Loc| &mut loc.ocsp_responder)),
        D::new("ssl_ocsp_cache", HS, ONE, Set::Loc(ocsp::set_cache)),
        D::flag("ssl_stapling", |loc| &mut loc.stapling).within(HS),
        D::new("ssl_stapling_file", HS, ONE, Set::Text(|loc: &mut Loc| &mut loc.stapling_file)),
        D::new("ssl_stapling_responder", HS, ONE, Set::Text(|loc: &mut Loc| &mut loc.stapling_responder)),
        D::flag("ssl_stapling_verify", |loc| &mut loc.stapling_verify).within(HS),
        D::flag("ssl_early_data", |loc| &mut loc.early_data).within(HS),
        D::new(
            "ssl_conf_command",
            HS,
            Arity::exactly(2),
            Set::Loc(|loc: &mut Loc, args| add_command(&mut loc.commands, args)),
        ),
        D::flag("ssl_reject_handshake", |loc| &mut loc.reject).within(HS),
    ];
    const VARIABLES: &'static [VarDef<Request>] = variables::ALL;
    type Main = ();
    type Loc = Loc;

    fn attach(_main: &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if to.kind != LocationKind::Server {
            return Ok(());
        }
        // nginx: what is wrong with certificates is told without the place in the configuration.
        match build::server(loc, to.compiler) {
            Ok(Some(server)) => to.tls(server),
            Ok(None) => {}
            Err(message) => to.compiler.env.report(moonrest_core::conf::Level::Emerg, message, None),
        }
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    certificates: Option<Vec<File>>,
    keys: Option<Vec<File>>,
    certificate_cache: Option<Option<CertificateCache>>,
    passwords: Option<Arc<Vec<Vec<u8>>>>,
    compression: Option<bool>,
    curves: Option<Box<[u8]>>,
    protocols: Option<Protocols>,
    ciphers: Option<Box<[u8]>>,
    buffer_size: Option<u64>,
    verify: Option<usize>,
    verify_depth: Option<u64>,
    client_certificate: Option<Box<[u8]>>,
    trusted_certificate: Option<Box<[u8]>>,
    prefer_server_ciphers: Option<bool>,
    session_cache: Option<SessionCache>,
    tickets: Option<bool>,
    ticket_keys: Option<Vec<File>>,
    session_timeout: Option<u64>,
    crl: Option<Box<[u8]>>,
    early_data: Option<bool>,
    commands: Option<Vec<(Box<str>, Box<str>)>>,
    reject: Option<bool>,
    ocsp: Option<usize>,
    ocsp_responder: Option<Box<[u8]>>,
    ocsp_cache: Option<Option<Arc<ocsp::Known>>>,
    stapling: Option<bool>,
    stapling_file: Option<Box<[u8]>>,
    stapling_responder: Option<Box<[u8]>>,
    stapling_verify: Option<bool>,
}
inherit!(Loc {
    certificates,
    keys,
    certificate_cache,
    passwords,
    compression,
    curves,
    protocols,
    ciphers,
    buffer_size,
    verify,
    verify_depth,
    client_certificate,
    trusted_certificate,
    prefer_server_ciphers,
    session_cache,
    tickets,
    ticket_keys,
    session_timeout,
    crl,
    early_data,
    commands,
    reject,
    ocsp,
    ocsp_responder,
    ocsp_cache,
    stapling,
    stapling_file,
    stapling_responder,
    stapling_verify,
});

impl Loc {
    fn verify_client(&self) -> VerifyClient {
        match self.verify {
            Some(1) => VerifyClient::On,
            Some(2) => VerifyClient::Optional,
            Some(3) => VerifyClient::OptionalNoCa,
            _ => VerifyClient::Off,
        }
    }
}

/// The words of `ssl_verify_client`.
const VERIFY: &[&str] = &["off", "on", "optional", "optional_no_ca"];

/// A file as written, which may have variables.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) text: Box<[u8]>,
    pub(crate) template: Template,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Protocols {
    tls12: bool,
    tls13: bool,
}

/// `ssl_certificate_cache`; times in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CertificateCache {
    max: u64,
    inactive: u64,
    valid: u64,
}

fn add(list: &mut Option<Vec<File>>, args: &Args<'_>) -> ConfResult {
    let file = File { text: args.bytes(0)?.into(), template: args.template(0)? };
    list.get_or_insert_default().push(file);
    Ok(())
}

fn unsupported(args: &Args<'_>) -> ConfResult {
    args.env
        .warn(format!("\"{}\" is not supported on this platform, ignored", args.name()), Some(args.span()));
    Ok(())
}

/// The file must be there; finite-field Diffie-Hellman is not offered.
fn set_dhparam(_loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    let path = args.env.conf_path(args.bytes(0)?)?;
    if let Err(error) = args.env.resources.read(&path) {
        let reason = load::not_opened(&path, &error);
        return Err(Fault::message(format!("BIO_new_file(\"{}\") failed (SSL: {reason})", path.display())));
    }
    args.env
        .warn("\"ssl_dhparam\" has no effect: there are no DHE ciphers here".to_owned(), Some(args.span()));
    Ok(())
}

fn set_protocols(slot: &mut Option<Protocols>, args: &Args<'_>) -> ConfResult {
    let mut protocols = Protocols { tls12: false, tls13: false };
    let mut seen: Vec<String> = Vec::new();
    for n in 0..args.len() {
        let word = args.lossy(n);
        match &*word.to_ascii_lowercase() {
            "tlsv1.2" => protocols.tls12 = true,
            "tlsv1.3" => protocols.tls13 = true,
            "sslv2" | "sslv3" | "tlsv1" | "tlsv1.1" => args
                .env
                .warn(format!("\"{}\": {word} is not supported, ignored", args.name()), Some(args.span())),
            _ => return Err(args.invalid_value(n)),
        }
        if seen.contains(&word) {
            args.env.warn(format!("duplicate value \"{word}\""), Some(args.span()));
        }
        seen.push(word);
    }
    set_once(slot, protocols)
}

fn set_passwords(slot: &mut Option<Arc<Vec<Vec<u8>>>>, args: &Args<'_>) -> ConfResult {
    if slot.is_some() {
        return Err(Fault::DUPLICATE);
    }
    let text = args.env.read_file(args.word(0)?)?;
    let lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut passwords: Vec<Vec<u8>> = lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
    if passwords.is_empty() {
        passwords.push(Vec::new());
    }
    *slot = Some(Arc::new(passwords));
    Ok(())
}

fn set_certificate_cache(slot: &mut Option<Option<CertificateCache>>, args: &Args<'_>) -> ConfResult {
    if slot.is_some() {
        return Err(Fault::DUPLICATE);
    }
    let mut cache = CertificateCache { max: 0, inactive: 10, valid: 60 };
    for n in 0..args.len() {
        let text = args.bytes(n)?;
        let invalid = || args.invalid_parameter(n);
        if let Some(max) = text.strip_prefix(b"max=") {
            cache.max = parse_uint(max).filter(|max| *max > 0).ok_or_else(invalid)?;
        } else if let Some(time) = text.strip_prefix(b"inactive=") {
            cache.inactive = parse_sec(time).ok_or_else(invalid)?;
        } else if let Some(time) = text.strip_prefix(b"valid=") {
            cache.valid = parse_sec(time).ok_or_else(invalid)?;
        } else if text == b"off" {
            *slot = Some(None);
        } else {
            return Err(invalid());
        }
    }
    if slot.is_some() {
        return Ok(());
    }
    if cache.max == 0 {
        return Err(Fault::message(format!("\"{}\" must have the \"max\" parameter", args.name())));
    }
    *slot = Some(Some(cache));
    Ok(())
}

/// Names and values of commands.
type Commands = Vec<(Box<str>, Box<str>)>;

fn add_command(list: &mut Option<Commands>, args: &Args<'_>) -> ConfResult {
    let command = (args.str(0)?.into(), args.str(1)?.into());
    list.get_or_insert_default().push(command);
    Ok(())
}
