//! `ssl_ocsp`: whether clients' certificates have been revoked, asked of their issuers.

use super::{
    Loc,
    responder::{Responder, Subject},
};
use moonrest_core::{Level, conf::value, zone::Lru};
use moonrest_http::{core::Core, prelude::*, tls::RevocationCheck};
use moonrest_net::tls::{
    ocsp::{self, Question, Signer, Status},
    x509::Certificate,
};
use moonrest_sys::time::wall_coarse;
use std::pin::Pin;

/// What is known of certificates, in a zone that all workers share.
pub(super) struct Known(Lru);

/// How far a server asks.
pub(super) struct Checker {
    /// Only about the client's own certificate.
    leaf: bool,
    responder: Option<Responder>,
    cache: Option<Arc<Known>>,
}

/// The words of `ssl_ocsp`.
pub(super) const WORDS: &[&str] = &["off", "on", "leaf"];

pub(super) fn set_cache(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    if loc.ocsp_cache.is_some() {
        return Err(Fault::DUPLICATE);
    }
    let word = args.lossy(0);
    let invalid = || Fault::message(format!("invalid OCSP cache \"{word}\""));
    if word == "off" {
        loc.ocsp_cache = Some(None);
        return Ok(());
    }
    let (name, size) =
        word.strip_prefix("shared:").and_then(|zone| zone.split_once(':')).ok_or_else(invalid)?;
    let size = value::parse_size(size.as_bytes()).ok_or_else(invalid)?;
    if name.is_empty() {
        return Err(invalid());
    }
    if size < 8 * 4096 {
        return Err(Fault::message(format!("OCSP cache \"{word}\" is too small")));
    }
    let zone = args.env.zones.declare::<Known>(name, size, || Known(Lru::with_bytes(size)))?;
    loc.ocsp_cache = Some(Some(zone));
    Ok(())
}

/// What `ssl_ocsp` means for a server.
///
/// # Errors
/// nginx's words for settings that do not go together.
pub(super) fn prepare(loc: &Loc) -> Result<Option<Arc<dyn RevocationCheck>>, String> {
    let mode = loc.ocsp.unwrap_or(0);
    if mode == 0 {
        return Ok(None);
    }
    if loc.verify_client() == moonrest_http::tls::VerifyClient::OptionalNoCa {
        return Err("\"ssl_ocsp\" is incompatible with \"ssl_verify_client optional_no_ca\"".into());
    }
    let url = loc.ocsp_responder.as_deref().filter(|url| !url.is_empty());
    let responder = url.map(|url| {
        let url = String::from_utf8_lossy(url);
        let mut responder = Responder::parse(&url)
            .map_err(|why| format!("{} in OCSP responder \"{url}\" in \"ssl_ocsp_responder\"", why.text()))?;
        if !responder.look_up() {
            return Err(format!("host not found in OCSP responder \"{url}\" in \"ssl_ocsp_responder\""));
        }
        Ok(responder)
    });
    let cache = loc.ocsp_cache.clone().flatten();
    Ok(Some(Arc::new(Checker { leaf: mode == 2, responder: responder.transpose()?, cache })))
}

impl RevocationCheck for Checker {
    fn check(
        self: Arc<Self>,
        r: &RequestRef,
        chain: Vec<Arc<Certificate>>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Box<str>>>>> {
        let (core, connection) = (r.loc().core.clone(), Some(r.conn.number));
        Box::pin(async move {
            let pairs = chain.iter().zip(chain.iter().skip(1));
            for (certificate, issuer) in pairs.take(if self.leaf { 1 } else { usize::MAX }) {
                let question = Question { certificate, issuer };
                match self.status(&core, connection, &question).await {
                    Some(Status::Good) => {}
                    Some(other) => return Err(ocsp::refusal(other).into()),
                    None => return Err(ocsp::UNKNOWN.into()),
                }
            }
            Ok(())
        })
    }
}

impl Checker {
    /// What the issuer says; `None` when that cannot be found out, and the log has the reason.
    async fn status(&self, core: &Core, connection: Option<u64>, question: &Question<'_>) -> Option<Status> {
        if let Some(known) = self.known(question) {
            return Some(known);
        }
        let named = match &self.responder {
            Some(responder) => responder.clone(),
            None => self.named(core, connection, question)?,
        };
        let subject = Subject { responder: &named.host, certificate: "", connection };
        let response = named.ask(core, &question.encode(), &subject).await?;
        match question.check(&response, &Signer::Authorized, wall_coarse().secs) {
            Ok(answer) => {
                self.keep(question, answer);
                Some(answer.status)
            }
            Err(message) => {
                subject.log(core, Level::Error, &message);
                None
            }
        }
    }

    /// The responder that the certificate names.
    fn named(&self, core: &Core, connection: Option<u64>, question: &Question<'_>) -> Option<Responder> {
        let log = |message: String| {
            let text = format_args!("{message} while requesting certificate status");
            core.error_log.write(Level::Error, connection, text);
        };
        let Some(url) = ocsp::responder(question.certificate) else {
            log("no OCSP responder URL in certificate".into());
            return None;
        };
        let parsed = Responder::parse(&url);
        parsed.map_err(|why| log(format!("{} in OCSP responder \"{url}\" in certificate", why.text()))).ok()
    }

    fn known(&self, question: &Question<'_>) -> Option<Status> {
        let id = question.id();
        let mut slot = self.cache.as_ref()?.0.lock(&id);
        let record = slot.get()?;
        if i64::try_from(record.expires()).unwrap_or(i64::MAX) <= wall_coarse().secs {
            slot.remove();
            return None;
        }
        match record.value() {
            [0] => Some(Status::Good),
            [1] => Some(Status::Revoked),
            _ => Some(Status::Unknown),
        }
    }

    fn keep(&self, question: &Question<'_>, answer: ocsp::Answer) {
        let (Some(cache), Some(until)) = (&self.cache, answer.until) else { return };
        let id = question.id();
        let mut slot = cache.0.lock(&id);
        // A full zone keeps nothing new: asking again is all it costs.
        if let Ok(mut put) = slot.put(1, usize::MAX) {
            let value = match answer.status {
                Status::Good => 0,
                Status::Revoked => 1,
                Status::Unknown => 2,
            };
            put.record.value_mut().fill(value);
            put.record.set_expires(u64::try_from(until).unwrap_or(0));
        }
    }
}
