//! TLS towards upstreams: the directives that `proxy`, `uwsgi` and `grpc` have under their own prefixes
//! (`proxy_ssl_name`, …), and what becomes of them.
//! <https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_ssl_certificate>

use super::{
    CertificateCache, Commands, File, Protocols,
    build::{Offer, Wanted, add_certificates, read},
    dynamic::{Cache, Dynamic},
    load::{self, Loaded},
};
use moonrest_core::Env;
use moonrest_http::{
    prelude::*,
    upstream::{CertificateFiles, FileNames, Tls},
};
use moonrest_net::tls::{
    certificate::CertifiedKey,
    ciphers,
    client::{Connector, Settings, session_store},
    rustls::KeyLog,
    secrets::SecretsFile,
    verify::Store,
};
use parking_lot::Mutex;
use std::{collections::HashMap, path::PathBuf};

/// Servers whose sessions a location remembers.
const SESSIONS: usize = 1024;

/// What one block says.
#[derive(Clone, Default, Debug)]
pub(crate) struct Loc {
    pub session_reuse: Option<bool>,
    pub protocols: Option<Protocols>,
    pub ciphers: Option<Box<[u8]>>,
    pub name: Option<File>,
    pub server_name: Option<bool>,
    pub verify: Option<bool>,
    pub verify_depth: Option<u64>,
    pub trusted_certificate: Option<Box<[u8]>>,
    pub crl: Option<Box<[u8]>>,
    pub certificate: Option<File>,
    pub certificate_key: Option<File>,
    pub certificate_cache: Option<Option<CertificateCache>>,
    pub passwords: Option<Arc<Vec<Vec<u8>>>>,
    pub commands: Option<Commands>,
    pub key_log: Option<PathBuf>,
}
inherit!(Loc {
    session_reuse,
    protocols,
    ciphers,
    name,
    server_name,
    verify,
    verify_depth,
    trusted_certificate,
    crl,
    certificate,
    certificate_key,
    certificate_cache,
    passwords,
    commands,
    key_log,
});

/// The rows of a table of directives: `$loc` leads from the module's settings to its upstream's, `$ssl` to these.
/// Further rows follow.
macro_rules! encrypted_upstream_directives {
    ([$($kind:ident)?] $prefix:literal, $settings:ty, $loc:ident, $ssl:ident; $($row:expr),* $(,)?) => {
        moonrest_http::upstream_directives!($($kind)? $prefix, $settings, $loc;
            moonrest_http::module::Directive::flag(concat!($prefix, "_ssl_session_reuse"), |c: &mut $settings| &mut c.$ssl.session_reuse),
            moonrest_http::module::Directive::loc(concat!($prefix, "_ssl_protocols"), moonrest_http::upstream::directive::AT_LEAST_ONE, |c: &mut $settings, args| $crate::ssl::upstream::set::protocols(&mut c.$ssl, args)),
            moonrest_http::module::Directive::new(concat!($prefix, "_ssl_ciphers"), Contexts::HSL, moonrest_http::upstream::directive::ONE, Set::Text(|c: &mut $settings| &mut c.$ssl.ciphers)),
            moonrest_http::module::Directive::loc(concat!($prefix, "_ssl_name"), moonrest_http::upstream::directive::ONE, |c: &mut $settings, args| $crate::ssl::upstream::set::file(&mut c.$ssl.name, args)),
            moonrest_http::module::Directive::flag(concat!($prefix, "_ssl_server_name"), |c: &mut $settings| &mut c.$ssl.server_name),
            moonrest_http::module::Directive::flag(concat!($prefix, "_ssl_verify"), |c: &mut $settings| &mut c.$ssl.verify),
            moonrest_http::module::Directive::new(concat!($prefix, "_ssl_verify_depth"), Contexts::HSL, moonrest_http::upstream::directive::ONE, Set::Uint(|c: &mut $settings| &mut c.$ssl.verify_depth)),
            moonrest_http::module::Directive::new(concat!($prefix, "_ssl_trusted_certificate"), Contexts::HSL, moonrest_http::upstream::directive::ONE, Set::Text(|c: &mut $settings| &mut c.$ssl.trusted_certificate)),
            moonrest_http::module::Directive::new(concat!($prefix, "_ssl_crl"), Contexts::HSL, moonrest_http::upstream::directive::ONE, Set::Text(|c: &mut $settings| &mut c.$ssl.crl)),
            moonrest_http::module::Directive::loc(concat!($prefix, "_ssl_certificate"), moonrest_http::upstream::directive::ONE, |c: &mut $settings, args| $crate::ssl::upstream::set::file(&mut c.$ssl.certificate, args)),
            moonrest_http::module::Directive::loc(concat!($prefix, "_ssl_certificate_key"), moonrest_http::upstream::directive::ONE, |c: &mut $settings, args| $crate::ssl::upstream::set::file(&mut c.$ssl.certificate_key, args)),
            moonrest_http::module::Directive::loc(concat!($prefix, "_ssl_certificate_cache"), moonrest_http::upstream::directive::ONE_TO_THREE, |c: &mut $settings, args| $crate::ssl::upstream::set::certificate_cache(&mut c.$ssl, args)),
            moonrest_http::module::Directive::loc(concat!($prefix, "_ssl_password_file"), moonrest_http::upstream::directive::ONE, |c: &mut $settings, args| $crate::ssl::upstream::set::passwords(&mut c.$ssl, args)),
            moonrest_http::module::Directive::loc(concat!($prefix, "_ssl_conf_command"), moonrest_http::upstream::directive::TWO, |c: &mut $settings, args| $crate::ssl::upstream::set::command(&mut c.$ssl, args)),
            moonrest_http::module::Directive::new(concat!($prefix, "_ssl_key_log"), Contexts::HSL, moonrest_http::upstream::directive::ONE, Set::Path(|c: &mut $settings| &mut c.$ssl.key_log)),
            $($row),*
        )
    };
}
pub(crate) use encrypted_upstream_directives;

/// What the rows use.
pub(crate) mod set {
    use super::{File, Loc};
    use moonrest_http::prelude::*;

    pub(crate) fn file(slot: &mut Option<File>, args: &Args<'_>) -> ConfResult {
        set_once(slot, File { text: args.bytes(0)?.into(), template: args.template(0)? })
    }

    pub(crate) fn protocols(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
        super::super::set_protocols(&mut loc.protocols, args)
    }

    pub(crate) fn certificate_cache(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
        super::super::set_certificate_cache(&mut loc.certificate_cache, args)
    }

    pub(crate) fn passwords(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
        super::super::set_passwords(&mut loc.passwords, args)
    }

    pub(crate) fn command(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
        super::super::add_command(&mut loc.commands, args)
    }
}

/// What this compilation has made: locations with the same settings share it, with sessions and connections.
#[derive(Default)]
struct Made(Mutex<HashMap<String, Arc<Tls>>>);

impl Loc {
    /// What the settings come to; `None` when they are wrong, which is reported.
    pub(crate) fn compile(&self, prefix: &'static str, to: &LocationBuilder<'_>) -> Option<Arc<Tls>> {
        let env = to.compiler.env;
        let made = env.shared::<Made>();
        let key = format!("{self:?}");
        if let Some(known) = made.0.lock().get(&key) {
            return Some(known.clone());
        }
        match self.build(prefix, env) {
            Ok(tls) => {
                let tls = Arc::new(tls);
                made.0.lock().insert(key, tls.clone());
                Some(tls)
            }
            Err(message) => {
                // nginx: what is wrong with certificates is told without the place in the configuration.
                env.report(moonrest_core::conf::Level::Emerg, message, None);
                None
            }
        }
    }

    fn build(&self, prefix: &'static str, env: &Env<'_>) -> Result<Tls, String> {
        let wanted = Wanted {
            prefix,
            protocols: self.protocols,
            ciphers: self.ciphers.as_deref().unwrap_or(b"DEFAULT"),
            curves: b"auto",
            prefer_server_ciphers: false,
            tickets: true,
            commands: self.commands.as_deref().unwrap_or_default(),
        };
        let offer = Offer::new(&wanted, env)?;
        let (shown, certificate) = self.certificates(prefix, &offer, env)?;
        let trusted = if self.verify == Some(true) { Some(self.trust(prefix, env)?) } else { None };
        let mut suites = offer.tls13_suites;
        suites.extend(offer.tls12_suites);
        let mut settings = Settings {
            tls12: offer.protocols.tls12,
            tls13: offer.protocols.tls13,
            ciphers: suites,
            groups: offer.groups,
            protocols: Vec::new(),
            certificate: shown,
            sessions: self.session_reuse.unwrap_or(true).then(|| session_store(SESSIONS)),
            key_log: self.key_log(env)?,
        };
        let connector = Connector::new(settings.clone()).or_else(|_| {
            load::warn(env, "none of the protocols and ciphers chosen is supported, using TLSv1.3".into());
            settings.tls13 = true;
            settings.ciphers = ciphers::tls13_default();
            Connector::new(settings)
        });
        let connector = connector.map_err(|error| format!("SSL_CTX_new() failed ({error})"))?;
        let http2 = connector.with_protocols(vec![b"h2".to_vec()]);
        let http2 = http2.map_err(|error| format!("SSL_CTX_set_alpn_protos() failed ({error})"))?;
        Ok(Tls {
            connectors: [connector, http2],
            name: self.name.as_ref().map(|name| name.template.clone()),
            server_name: self.server_name.unwrap_or(false),
            trusted,
            certificate,
        })
    }

    /// The certificate to show, or where it will be found.
    #[allow(clippy::type_complexity, reason = "one or the other, if any")]
    fn certificates(
        &self,
        prefix: &str,
        offer: &Offer,
        env: &Env<'_>,
    ) -> Result<(Option<Arc<CertifiedKey>>, Option<Box<dyn CertificateFiles>>), String> {
        let passwords = self.passwords.clone().unwrap_or_default();
        if let Some(certificate) = &offer.certificate {
            let key = offer.key.as_ref().unwrap_or(certificate);
            let pair = load::pair(certificate.as_bytes(), key.as_bytes(), &passwords, env)?;
            return Ok((Some(Arc::new(pair)), None));
        }
        let Some(certificate) = self.certificate.as_ref().filter(|file| !file.text.is_empty()) else {
            return Ok((None, None));
        };
        let Some(key) = &self.certificate_key else {
            let name = String::from_utf8_lossy(&certificate.text);
            return Err(format!("no \"{prefix}_certificate_key\" is defined for certificate \"{name}\""));
        };
        if certificate.template.as_static().is_some() && key.template.as_static().is_some() {
            let pair = env.shared::<Loaded>().pair(certificate, key, &passwords, env)?;
            return Ok((Some(pair), None));
        }
        let files = Dynamic {
            pairs: vec![(certificate.clone(), key.clone())],
            passwords,
            cache: self.certificate_cache.flatten().map(Cache::new),
            conf_prefix: env.conf_prefix.clone(),
        };
        Ok((None, Some(Box::new(files))))
    }

    /// Whom servers' certificates are checked against.
    fn trust(&self, prefix: &str, env: &Env<'_>) -> Result<Store, String> {
        let Some(trusted) = self.trusted_certificate.as_deref().filter(|name| !name.is_empty()) else {
            return Err(format!("no {prefix}_trusted_certificate for {prefix}_verify"));
        };
        let depth = self.verify_depth.unwrap_or(1);
        let mut store = Store { depth: usize::try_from(depth).unwrap_or(usize::MAX), ..Store::default() };
        add_certificates(&mut store, trusted, env)?;
        if let Some(crl) = self.crl.as_deref().filter(|name| !name.is_empty()) {
            let (text, shown) = read(crl, "CRL", env)?;
            store.add_crls(&text).map_err(|reason| {
                format!("cannot load CRL \"{shown}\": PEM_read_bio_X509_CRL() failed (SSL: {reason})")
            })?;
        }
        Ok(store)
    }

    fn key_log(&self, env: &Env<'_>) -> Result<Option<Arc<dyn KeyLog>>, String> {
        let Some(path) = &self.key_log else { return Ok(None) };
        let file = env.resources.open_log(path).map_err(|error| {
            format!("open() \"{}\" failed ({})", path.display(), moonrest_core::env::os_error(&error))
        })?;
        Ok(Some(Arc::new(SecretsFile::new(file))))
    }
}

impl CertificateFiles for Dynamic {
    fn names(&self, r: &Request) -> Option<FileNames> {
        let (certificate, key) = self.pairs.first()?;
        let certificate = certificate.template.eval(r).into_owned();
        // A certificate may be for some requests only.
        (!certificate.is_empty()).then(|| (certificate, key.template.eval(r).into_owned()))
    }

    fn load(&self, names: &FileNames) -> Result<Arc<CertifiedKey>, String> {
        self.pair(&names.0, &names.1)
    }
}
