//! From the settings of a server to what its connections begin with.

use super::{
    File, Loc, Protocols,
    dynamic::{Cache, Dynamic},
    load::{self, Loaded},
    ocsp, stapling,
};
use md5::Digest;
use moonrest_core::Env;
use moonrest_http::{
    compile::Compiler,
    prelude::*,
    tls::{ServerTls, VerifyClient},
};
use moonrest_net::tls::{
    certificate::{Certificates, CertifiedKey, Stapled},
    ciphers,
    rustls::{ProtocolVersion, ServerConfig, SupportedCipherSuite, crypto::SupportedKxGroup},
    server::Settings,
    ticket::{TicketKey, Ticketer},
    verify::Store,
};

const CIPHERS: &[u8] = b"HIGH:!aNULL:!MD5";
/// nginx's `NGX_SSL_BUFSIZE`.
const BUFFER: u64 = 16 * 1024;
/// The protocols that HTTP/1 connections may choose from.
const HTTP1: [&[u8]; 3] = [b"http/1.1", b"http/1.0", b"http/0.9"];

/// What a server says about TLS, compiled; `None` when it says nothing.
///
/// # Errors
/// nginx's words for what is wrong.
pub(super) fn server(loc: &Loc, compiler: &Compiler<'_>) -> Result<Option<ServerTls>, String> {
    let reject = loc.reject.unwrap_or(false);
    let verify = loc.verify_client();
    let certificates = loc.certificates.as_deref().unwrap_or_default();
    let keys = loc.keys.as_deref().unwrap_or_default();
    if let Some(last) = certificates.last().filter(|_| keys.len() < certificates.len()) {
        let name = String::from_utf8_lossy(&last.text);
        return Err(format!("no \"ssl_certificate_key\" is defined for certificate \"{name}\""));
    }
    let bare = ServerTls {
        reject,
        configs: None,
        settings: None,
        verify,
        store: None,
        source: None,
        revocation: None,
        stapling: None,
        depth: usize::try_from(loc.verify_depth.unwrap_or(1)).unwrap_or(usize::MAX),
        context: Arc::default(),
    };
    if certificates.is_empty() {
        return Ok((reject || verify != VerifyClient::Off).then_some(bare));
    }
    let env = compiler.env;
    let pairs: Vec<(&File, &File)> = certificates.iter().zip(keys).collect();
    let dynamic =
        pairs.iter().any(|(a, b)| a.template.as_static().is_none() || b.template.as_static().is_none());
    let loaded = if dynamic { Vec::new() } else { load_all(&pairs, loc, env)? };
    if loc.compression == Some(true) {
        load::warn(env, "\"ssl_certificate_compression\" is not supported on this platform, ignored".into());
    }
    let (store, authorities) = trust(loc, verify, env)?;
    let context = context(certificates, &loaded, authorities.as_deref().unwrap_or_default());
    let wanted = Wanted {
        prefix: "ssl",
        protocols: loc.protocols,
        ciphers: loc.ciphers.as_deref().unwrap_or(CIPHERS),
        curves: loc.curves.as_deref().unwrap_or(b"auto"),
        prefer_server_ciphers: loc.prefer_server_ciphers.unwrap_or(false),
        tickets: loc.tickets.unwrap_or(true),
        commands: loc.commands.as_deref().unwrap_or_default(),
    };
    let offer = Offer::new(&wanted, env)?;
    let loaded = overridden(loaded, &offer, loc, env)?;
    let stapled: Vec<_> = loaded.into_iter().map(Stapled::new).collect();
    let shown = |file: &File| load::Source::path(env, &file.text).display().to_string();
    let named: Vec<_> = stapled.iter().cloned().zip(certificates.iter().map(shown)).collect();
    let stapling = stapling::prepare(loc, &named, &store, env)?;
    let (configs, settings) = configs(loc, env, offer, stapled, authorities, &context)?;
    let source = dynamic.then(|| -> Arc<dyn moonrest_http::tls::CertificateSource> {
        Arc::new(Dynamic {
            pairs: certificates.iter().cloned().zip(keys.iter().cloned()).collect(),
            passwords: loc.passwords.clone().unwrap_or_default(),
            cache: loc.certificate_cache.flatten().map(Cache::new),
            conf_prefix: env.conf_prefix.clone(),
        })
    });
    let store = (verify != VerifyClient::Off).then(|| Arc::new(store));
    let settings = Some(Arc::new(settings));
    let revocation = ocsp::prepare(loc)?;
    Ok(Some(ServerTls {
        configs: Some(configs),
        settings,
        store,
        source,
        revocation,
        stapling,
        context: context.into(),
        ..bare
    }))
}

fn load_all(pairs: &[(&File, &File)], loc: &Loc, env: &Env<'_>) -> Result<Vec<Arc<CertifiedKey>>, String> {
    let known = env.shared::<Loaded>();
    let passwords = loc.passwords.as_ref().map_or(&[][..], |passwords| passwords);
    pairs.iter().map(|(certificate, key)| known.pair(certificate, key, passwords, env)).collect()
}

/// Names of authorities, encoded.
type Names = Vec<Vec<u8>>;

/// Whom clients' certificates are checked against, and the names that clients are told.
fn trust(loc: &Loc, verify: VerifyClient, env: &Env<'_>) -> Result<(Store, Option<Names>), String> {
    let client = loc.client_certificate.as_deref().unwrap_or_default();
    let trusted = loc.trusted_certificate.as_deref().unwrap_or_default();
    let asks = verify != VerifyClient::Off;
    if asks && verify != VerifyClient::OptionalNoCa && client.is_empty() && trusted.is_empty() {
        return Err("no ssl_client_certificate or ssl_trusted_certificate for ssl_verify_client".into());
    }
    let depth = loc.verify_depth.unwrap_or(1);
    let mut store = Store { depth: usize::try_from(depth).unwrap_or(usize::MAX), ..Store::default() };
    let mut names: Vec<Vec<u8>> = Vec::new();
    if asks && !client.is_empty() {
        add_certificates(&mut store, client, env)?;
        for anchor in &store.anchors {
            if !names.iter().any(|known| known == anchor.subject()) {
                names.push(anchor.subject().to_vec());
            }
        }
    }
    if !trusted.is_empty() {
        add_certificates(&mut store, trusted, env)?;
    }
    if let Some(crl) = loc.crl.as_deref().filter(|crl| !crl.is_empty()) {
        let (text, shown) = read(crl, "CRL", env)?;
        store.add_crls(&text).map_err(|reason| {
            format!("cannot load CRL \"{shown}\": PEM_read_bio_X509_CRL() failed (SSL: {reason})")
        })?;
    }
    Ok((store, asks.then_some(names)))
}

pub(super) fn add_certificates(store: &mut Store, name: &[u8], env: &Env<'_>) -> Result<(), String> {
    let (text, shown) = read(name, "certificate", env)?;
    match store.add_pem(&text) {
        Ok(_) => Ok(()),
        Err(reason) => Err(format!(
            "cannot load certificate \"{shown}\": PEM_read_bio_X509_AUX() failed (SSL: {reason})"
        )),
    }
}

pub(super) fn read(name: &[u8], what: &str, env: &Env<'_>) -> Result<(Vec<u8>, String), String> {
    load::text(name, env)
        .map_err(|(shown, why)| format!("cannot load {what} \"{shown}\": {} (SSL: {})", why.call, why.reason))
}

/// Stands for what a session was made under: certificates, and those whom clients' are asked of.
fn context(certificates: &[File], loaded: &[Arc<CertifiedKey>], authorities: &[Vec<u8>]) -> Vec<u8> {
    let mut digest = sha1::Sha1::new();
    digest.update(b"HTTP");
    for key in loaded {
        digest.update(sha1::Sha1::digest(key.cert.first().map_or(&[][..], |der| der)));
    }
    if loaded.is_empty() {
        for file in certificates {
            digest.update(&file.text);
        }
    }
    for name in authorities {
        digest.update(sha1::Sha1::digest(name));
    }
    digest.finalize().to_vec()
}

fn configs(
    loc: &Loc,
    env: &Env<'_>,
    offer: Offer,
    certificates: Vec<Arc<Stapled>>,
    authorities: Option<Vec<Vec<u8>>>,
    context: &[u8],
) -> Result<([Arc<ServerConfig>; 2], Settings), String> {
    let timeout = loc.session_timeout.unwrap_or(300);
    let lifetime = u32::try_from(timeout).unwrap_or(u32::MAX);
    let tickets = offer.tickets;
    // What may be replayed must be known not to have been played before: clients' tickets cannot tell.
    let early_data = loc.early_data.unwrap_or(false);
    let cache = loc.session_cache.clone().unwrap_or_default();
    let cache = if early_data { cache.or_builtin() } else { cache };
    let tickets = match tickets && !early_data {
        true => Some(Arc::new(Ticketer::new(ticket_keys(loc, env)?, context.to_vec(), lifetime)) as Arc<_>),
        false => None,
    };
    let buffer = loc.buffer_size.unwrap_or(BUFFER);
    let mut suites = offer.tls13_suites;
    suites.extend(offer.tls12_suites);
    let has = |version| suites.iter().any(|suite| ciphers::is_of(suite, version));
    let usable = (offer.protocols.tls12 && has(ProtocolVersion::TLSv1_2))
        || (offer.protocols.tls13 && has(ProtocolVersion::TLSv1_3));
    let protocols = if usable { offer.protocols } else { Protocols { tls12: false, tls13: true } };
    if !usable {
        load::warn(env, "none of the protocols and ciphers chosen is supported, using TLSv1.3".into());
        suites.extend(ciphers::tls13_default());
    }
    let settings = Settings {
        tls12: protocols.tls12,
        tls13: protocols.tls13,
        ciphers: suites,
        groups: offer.groups,
        prefer_server_ciphers: offer.prefer_server_ciphers,
        certificates: Certificates(certificates),
        client_authorities: authorities,
        tickets,
        sessions: cache.store(context, timeout),
        record_size: usize::try_from(buffer).unwrap_or(usize::MAX),
        early_data,
        protocols: HTTP1.iter().map(|name| name.to_vec()).collect(),
    };
    let config = settings.build().map_err(|error| format!("SSL_CTX_new() failed ({error})"))?;
    let mut http2 = config.clone();
    http2.alpn_protocols.insert(0, b"h2".to_vec());
    Ok(([Arc::new(config), Arc::new(http2)], settings))
}

/// `Certificate` and `PrivateKey` of `ssl_conf_command` take the place of the certificate of the same kind.
fn overridden(
    mut loaded: Vec<Arc<CertifiedKey>>,
    offer: &Offer,
    loc: &Loc,
    env: &Env<'_>,
) -> Result<Vec<Arc<CertifiedKey>>, String> {
    let Some(certificate) = &offer.certificate else { return Ok(loaded) };
    let key = offer.key.as_ref().unwrap_or(certificate);
    let passwords = loc.passwords.as_ref().map_or(&[][..], |passwords| passwords);
    let pair = load::pair(certificate.as_bytes(), key.as_bytes(), passwords, env)?;
    loaded.retain(|known| known.key.algorithm() != pair.key.algorithm());
    loaded.push(Arc::new(pair));
    Ok(loaded)
}

fn ticket_keys(loc: &Loc, env: &Env<'_>) -> Result<Vec<Arc<TicketKey>>, String> {
    let mut keys = Vec::new();
    for file in loc.ticket_keys.as_deref().unwrap_or_default() {
        let path = load::Source::path(env, &file.text);
        let shown = path.display();
        let contents = env.resources.read(&path).map_err(|error| {
            format!("open() \"{shown}\" failed ({})", moonrest_core::env::os_error(&error))
        })?;
        let key = TicketKey::from_file(&contents);
        keys.push(Arc::new(key.ok_or_else(|| format!("\"{shown}\" must be 48 or 80 bytes"))?));
    }
    Ok(keys)
}

/// What the directives say, under some prefix.
pub(super) struct Wanted<'a> {
    pub prefix: &'static str,
    pub protocols: Option<Protocols>,
    pub ciphers: &'a [u8],
    pub curves: &'a [u8],
    pub prefer_server_ciphers: bool,
    pub tickets: bool,
    pub commands: &'a [(Box<str>, Box<str>)],
}

/// What is offered to the other side, after every directive that speaks about it.
pub(super) struct Offer {
    /// Of the directives' names.
    prefix: &'static str,
    pub protocols: Protocols,
    pub tls12_suites: Vec<SupportedCipherSuite>,
    pub tls13_suites: Vec<SupportedCipherSuite>,
    pub groups: Vec<&'static dyn SupportedKxGroup>,
    prefer_server_ciphers: bool,
    tickets: bool,
    /// Files that `ssl_conf_command` names.
    pub certificate: Option<String>,
    pub key: Option<String>,
}

impl Offer {
    pub(super) fn new(wanted: &Wanted<'_>, env: &Env<'_>) -> Result<Self, String> {
        let prefix = wanted.prefix;
        let mut offer = Self {
            prefix,
            protocols: wanted.protocols.unwrap_or(Protocols { tls12: true, tls13: true }),
            tls12_suites: Vec::new(),
            tls13_suites: ciphers::tls13_default(),
            groups: Vec::new(),
            prefer_server_ciphers: wanted.prefer_server_ciphers,
            tickets: wanted.tickets,
            certificate: None,
            key: None,
        };
        let list = String::from_utf8_lossy(wanted.ciphers);
        offer.ciphers(&list, &format!("{prefix}_ciphers"), env).map_err(|()| {
            format!("SSL_CTX_set_cipher_list(\"{list}\") failed (SSL: error:0A0000B9:SSL routines::no cipher match)")
        })?;
        let curves = String::from_utf8_lossy(wanted.curves);
        offer
            .curves(&curves, &format!("{prefix}_ecdh_curve"), env)
            .map_err(|()| format!("SSL_CTX_set1_curves_list(\"{curves}\") failed (SSL:)"))?;
        for (name, value) in wanted.commands {
            offer.command(name, value, env)?;
        }
        Ok(offer)
    }

    fn ciphers(&mut self, list: &str, directive: &str, env: &Env<'_>) -> Result<(), ()> {
        let chosen = ciphers::tls12(list);
        if chosen.list.is_empty() && chosen.unsupported.is_empty() {
            return Err(());
        }
        for (names, why) in [(&chosen.unsupported, "not supported"), (&chosen.unknown, "unknown")] {
            if !names.is_empty() {
                let names = names.join(":");
                load::warn(env, format!("\"{directive}\": {names} is {why}, ignored"));
            }
        }
        self.tls12_suites = chosen.list;
        Ok(())
    }

    fn curves(&mut self, list: &str, directive: &str, env: &Env<'_>) -> Result<(), ()> {
        let chosen = ciphers::groups(list);
        if !chosen.unknown.is_empty() {
            return Err(());
        }
        if !chosen.unsupported.is_empty() {
            let names = chosen.unsupported.join(":");
            load::warn(env, format!("\"{directive}\": {names} is not supported, ignored"));
        }
        self.groups = chosen.list;
        if self.groups.is_empty() {
            self.groups = ciphers::groups("auto").list;
        }
        Ok(())
    }

    /// A command of `ssl_conf_command`: what OpenSSL reads in its own configuration.
    fn command(&mut self, name: &str, value: &str, env: &Env<'_>) -> Result<(), String> {
        let failed = |reason: &str| format!("SSL_CONF_cmd(\"{name}\", \"{value}\") failed (SSL: {reason})");
        let bad_value = || failed("error:0A000180:SSL routines::bad value");
        let directive = format!("{}_conf_command", self.prefix);
        match &*name.to_ascii_lowercase() {
            "ciphersuites" => {
                let chosen = ciphers::tls13(value);
                if !chosen.unknown.is_empty() {
                    return Err(bad_value());
                }
                self.tls13_suites = chosen.list;
            }
            "cipherstring" => {
                self.ciphers(value, &directive, env).map_err(|()| bad_value())?;
            }
            "curves" | "groups" => {
                self.curves(value, &directive, env).map_err(|()| bad_value())?;
            }
            "minprotocol" | "maxprotocol" => {
                let at = |value: &str| match value {
                    "None" | "SSLv3" | "TLSv1" | "TLSv1.1" => Some(0),
                    "TLSv1.2" => Some(2),
                    "TLSv1.3" => Some(3),
                    _ => None,
                };
                let limit = at(value).ok_or_else(bad_value)?;
                if name.eq_ignore_ascii_case("minprotocol") {
                    self.protocols.tls12 &= limit <= 2;
                } else if value != "None" {
                    self.protocols.tls13 &= limit >= 3;
                    self.protocols.tls12 &= limit >= 2;
                }
            }
            "protocol" => {
                for word in value.split(',') {
                    let (on, word) = match word.strip_prefix('-') {
                        Some(word) => (false, word),
                        None => (true, word.strip_prefix('+').unwrap_or(word)),
                    };
                    match word {
                        "ALL" => self.protocols = Protocols { tls12: on, tls13: on },
                        "TLSv1.2" => self.protocols.tls12 = on,
                        "TLSv1.3" => self.protocols.tls13 = on,
                        "SSLv3" | "TLSv1" | "TLSv1.1" => {}
                        _ => return Err(bad_value()),
                    }
                }
            }
            "certificate" => self.certificate = Some(value.to_owned()),
            "privatekey" => self.key = Some(value.to_owned()),
            "options" => {
                value.split(',').try_for_each(|word| self.option(word, env).map_err(|()| bad_value()))?
            }
            "signaturealgorithms"
            | "clientsignaturealgorithms"
            | "dhparameters"
            | "ecdhparameters"
            | "recordpadding"
            | "verifymode"
            | "verifycafile"
            | "clientcafile"
            | "numtickets"
            | "requestcafile"
            | "chaincafile" => load::warn(env, format!("\"{directive}\": {name} is not supported, ignored")),
            _ => return Err(failed("error:0A000182:SSL routines::unknown cmd name")),
        }
        Ok(())
    }

    fn option(&mut self, word: &str, env: &Env<'_>) -> Result<(), ()> {
        let (on, name) = match word.strip_prefix('-') {
            Some(name) => (false, name),
            None => (true, word.strip_prefix('+').unwrap_or(word)),
        };
        match name {
            "ServerPreference" => self.prefer_server_ciphers = on,
            "SessionTicket" => self.tickets = on,
            // As it is in any case: no compression, no renegotiation, single-use keys, no extra middleboxes' bytes.
            "EmptyFragments"
            | "Bugs"
            | "Compression"
            | "NoResumptionOnRenegotiation"
            | "NoRenegotiation"
            | "UnsafeLegacyServerConnect"
            | "UnsafeLegacyRenegotiation"
            | "DHSingle"
            | "ECDHSingle"
            | "EncryptThenMac"
            | "ExtendedMasterSecret"
            | "MiddleboxCompat"
            | "AntiReplay"
            | "PrioritizeChaCha"
            | "CANames" => {}
            "KTLS" | "KTLSTxZerocopySendfile" | "TxCertificateCompression" | "RxCertificateCompression" => {
                load::warn(
                    env,
                    format!("\"{}_conf_command\": {name} is not supported, ignored", self.prefix),
                );
            }
            _ => return Err(()),
        }
        Ok(())
    }
}
