//! `ssl_stapling`: the issuer's word about our own certificates, from a file or asked for at run time.

use super::{
    Loc, load,
    responder::{BadUrl, Responder, Subject},
};
use moonrest_core::{Env, Level};
use moonrest_http::{core::Core, prelude::*, tls::Stapling};
use moonrest_net::tls::{
    certificate::Stapled,
    ocsp::{Question, Signer, Status, responder},
    verify::Store,
    x509::Certificate,
};
use moonrest_sys::time::wall_coarse;
use parking_lot::Mutex;

/// Seconds: nothing is asked again sooner, nor later, than this.
const SOON: i64 = 300;
const LATE: i64 = 3600;

/// A server's certificates that the issuer is asked about.
pub(super) struct Staples {
    all: Vec<Staple>,
    verify: bool,
    /// Whose certificates may have signed an answer that is not verified.
    known: Vec<Arc<Certificate>>,
}

struct Staple {
    key: Arc<Stapled>,
    certificate: Certificate,
    issuer: Arc<Certificate>,
    responder: Responder,
    /// The certificate's file.
    name: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    asking: bool,
    /// Seconds since 1970.
    next: i64,
}

/// What `ssl_stapling` means for these certificates; `None` when there is nothing to ask at run time.
///
/// # Errors
/// nginx's words for a file that cannot be used.
pub(super) fn prepare(
    loc: &Loc,
    keys: &[(Arc<Stapled>, String)],
    store: &Store,
    env: &Env<'_>,
) -> Result<Option<Arc<dyn Stapling>>, String> {
    if !loc.stapling.unwrap_or(false) {
        return Ok(None);
    }
    if let Some(file) = loc.stapling_file.as_deref().filter(|file| !file.is_empty()) {
        let (response, shown) = load::text(file, env)
            .map_err(|(shown, why)| format!("BIO_new_file(\"{shown}\") failed (SSL: {})", why.reason))?;
        if response.first() != Some(&0x30) {
            return Err(format!("d2i_OCSP_RESPONSE_bio(\"{shown}\") failed (SSL:)"));
        }
        for (key, _) in keys {
            key.staple(response.clone(), i64::MAX);
        }
        return Ok(None);
    }
    let mut all = Vec::new();
    let mut known = store.anchors.clone();
    for (key, name) in keys {
        let chain = key.bare().cert.iter().filter_map(|der| Certificate::from_der(der));
        let mut chain: Vec<Arc<Certificate>> = chain.map(Arc::new).collect();
        match staple(loc, key, name, &chain, store) {
            Ok(staple) => all.push(staple),
            Err(why) => env.warn(format!("\"ssl_stapling\" ignored, {why} \"{name}\""), None),
        }
        known.append(&mut chain);
    }
    let verify = loc.stapling_verify.unwrap_or(false);
    Ok((!all.is_empty()).then(|| Arc::new(Staples { all, verify, known }) as Arc<dyn Stapling>))
}

fn staple(
    loc: &Loc,
    key: &Arc<Stapled>,
    name: &str,
    chain: &[Arc<Certificate>],
    store: &Store,
) -> Result<Staple, String> {
    let not_found = || "issuer certificate not found for certificate".to_owned();
    let own = key.bare().cert.first().and_then(|der| Certificate::from_der(der)).ok_or_else(not_found)?;
    let issues = |candidate: &&Arc<Certificate>| {
        candidate.subject_form() == own.issuer_form() && own.is_signed_by(candidate)
    };
    let issuer = chain.iter().skip(1).find(issues).or_else(|| store.anchors.iter().find(issues));
    let issuer = issuer.cloned().ok_or_else(not_found)?;
    let configured = loc.stapling_responder.as_deref().filter(|url| !url.is_empty());
    let url = match configured {
        Some(url) => String::from_utf8_lossy(url).into_owned(),
        None => responder(&own).ok_or("no OCSP responder URL in the certificate")?,
    };
    let invalid = |why: &str| format!("{why} in OCSP responder \"{url}\" in the certificate");
    let mut responder = Responder::parse(&url).map_err(|why: BadUrl| invalid(why.text()))?;
    if !responder.look_up() {
        return Err(invalid("host not found"));
    }
    Ok(Staple {
        key: key.clone(),
        certificate: own,
        issuer,
        responder,
        name: name.into(),
        state: Mutex::default(),
    })
}

impl Stapling for Staples {
    fn asked(self: Arc<Self>, r: &RequestRef) {
        let now = wall_coarse().secs;
        for (n, staple) in self.all.iter().enumerate() {
            let mut state = staple.state.lock();
            if state.asking || now < state.next {
                continue;
            }
            state.asking = true;
            drop(state);
            // The task outlives the connection: it keeps nothing of it.
            let (this, core) = (self.clone(), r.loc().core.clone());
            moonrest_rt::spawn(async move { this.refresh(n, &core).await });
        }
    }
}

impl Staples {
    async fn refresh(&self, n: usize, core: &Core) {
        let Some(staple) = self.all.get(n) else { return };
        let until = self.ask(staple, core).await;
        let now = wall_coarse().secs;
        let mut state = staple.state.lock();
        state.asking = false;
        // nginx: five minutes before it ends, but within the hour.
        state.next = until.map_or(now + SOON, |until| (until - SOON).min(now + LATE).max(now + SOON));
    }

    /// Asks, and staples what is answered if it is good; until when it is.
    async fn ask(&self, staple: &Staple, core: &Core) -> Option<i64> {
        let question = Question { certificate: &staple.certificate, issuer: &staple.issuer };
        let subject =
            Subject { responder: &staple.responder.host, certificate: &staple.name, connection: None };
        let response = staple.responder.ask(core, &question.encode(), &subject).await?;
        let signer = if self.verify { Signer::Authorized } else { Signer::Anybody(&self.known) };
        match question.check(&response, &signer, wall_coarse().secs) {
            Ok(answer) if answer.status == Status::Good => {
                let until = answer.until.unwrap_or(i64::MAX);
                staple.key.staple(response, until);
                Some(until)
            }
            Ok(answer) => {
                let status = answer.status.text();
                let message = format!("certificate status \"{status}\" in the OCSP response");
                subject.log(core, Level::Error, &message);
                None
            }
            Err(message) => {
                subject.log(core, Level::Error, &message);
                None
            }
        }
    }
}
