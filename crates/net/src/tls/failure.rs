//! What went wrong in a handshake, in OpenSSL's words: those are what people look for in their logs.

use rustls::{AlertDescription, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved};
use std::borrow::Cow;

/// Who has to change something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blame {
    Peer,
    Us,
}

/// A failure as the log shows it.
#[derive(Debug)]
pub struct Described {
    pub blame: Blame,
    /// `error:0A0000C1:SSL routines::no shared cipher`.
    pub text: Cow<'static, str>,
}

/// `ssl_reject_handshake` at work.
pub const REJECTED: &str = "error:0A0000EA:SSL routines::callback failed";
/// A certificate that depends on the connection could not be had.
pub const NO_CERTIFICATE: &str = "error:0A000179:SSL routines::cert cb error";

/// There is no certificate to be shown, in TLS 1.2 and in TLS 1.3.
pub const NO_CIPHER: &str = "error:0A0000C1:SSL routines::no shared cipher";
pub const NO_SIGNATURE: &str = "error:0A000076:SSL routines::no suitable signature algorithm";
/// No version is left that both sides speak.
pub const UNSUPPORTED_PROTOCOL: &str = "error:0A000102:SSL routines::unsupported protocol";

/// Describes one of the library's errors.
pub fn describe(error: &Error) -> Described {
    let (blame, text) = match error {
        Error::AlertReceived(alert) => return alert_received(*alert),
        Error::PeerIncompatible(why) => (Blame::Peer, incompatible(why)),
        Error::PeerMisbehaved(why) => (Blame::Peer, misbehaved(why)),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => (Blame::Peer, "error:0A00010B:SSL routines::wrong version number"),
        Error::InvalidMessage(InvalidMessage::MessageTooLarge) => {
            (Blame::Peer, "error:0A0000C6:SSL routines::packet length too long")
        }
        Error::InvalidMessage(_) => (Blame::Peer, "error:0A00009F:SSL routines::length mismatch"),
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            (Blame::Peer, "error:0A0000F4:SSL routines::unexpected message")
        }
        Error::DecryptError => {
            (Blame::Peer, "error:0A000119:SSL routines::decryption failed or bad record mac")
        }
        Error::NoApplicationProtocol => (Blame::Peer, "error:0A0000EB:SSL routines::no application protocol"),
        Error::PeerSentOversizedRecord => {
            (Blame::Peer, "error:0A0000C6:SSL routines::packet length too long")
        }
        Error::NoCertificatesPresented => {
            (Blame::Peer, "error:0A0000C7:SSL routines::peer did not return a certificate")
        }
        Error::InvalidCertificate(_) => {
            (Blame::Peer, "error:0A000086:SSL routines::certificate verify failed")
        }
        Error::General(text) if text.contains("no server certificate chain resolved") => {
            (Blame::Peer, NO_CERTIFICATE)
        }
        other => {
            let text = format!("error:0A0C0103:SSL routines::internal error:{other}");
            return Described { blame: Blame::Us, text: text.into() };
        }
    };
    Described { blame, text: text.into() }
}

fn incompatible(why: &PeerIncompatible) -> &'static str {
    match why {
        PeerIncompatible::NoCipherSuitesInCommon => NO_CIPHER,
        PeerIncompatible::NoKxGroupsInCommon | PeerIncompatible::NoEcPointFormatsInCommon => {
            "error:0A000065:SSL routines::no suitable key share"
        }
        PeerIncompatible::NoSignatureSchemesInCommon
        | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon
        | PeerIncompatible::SignatureAlgorithmsExtensionRequired => NO_SIGNATURE,
        PeerIncompatible::NamedGroupsExtensionRequired | PeerIncompatible::KeyShareExtensionRequired => {
            "error:0A000065:SSL routines::no suitable key share"
        }
        PeerIncompatible::NullCompressionRequired => "error:0A0000BB:SSL routines::no compression specified",
        PeerIncompatible::ExtendedMasterSecretExtensionRequired => {
            "error:0A000068:SSL routines::inconsistent extms"
        }
        // Versions, in one way or another.
        _ => UNSUPPORTED_PROTOCOL,
    }
}

fn misbehaved(why: &PeerMisbehaved) -> &'static str {
    match why {
        PeerMisbehaved::InvalidKeyShare => "error:0A00006C:SSL routines::bad key share",
        PeerMisbehaved::TooManyWarningAlertsReceived => "error:0A000199:SSL routines::too many warn alerts",
        PeerMisbehaved::TooMuchEarlyDataReceived => {
            "error:0A00010E:SSL routines::too much skipped early data"
        }
        _ => "error:0A0000F4:SSL routines::unexpected message",
    }
}

/// The peer's own complaint.
fn alert_received(alert: AlertDescription) -> Described {
    let number = u8::from(alert);
    let name = match alert {
        AlertDescription::CloseNotify => "close notify",
        AlertDescription::UnexpectedMessage => "sslv3 alert unexpected message",
        AlertDescription::BadRecordMac => "sslv3 alert bad record mac",
        AlertDescription::RecordOverflow => "tlsv1 alert record overflow",
        AlertDescription::HandshakeFailure => "sslv3 alert handshake failure",
        AlertDescription::NoCertificate => "sslv3 alert no certificate",
        AlertDescription::BadCertificate => "sslv3 alert bad certificate",
        AlertDescription::UnsupportedCertificate => "sslv3 alert unsupported certificate",
        AlertDescription::CertificateRevoked => "sslv3 alert certificate revoked",
        AlertDescription::CertificateExpired => "sslv3 alert certificate expired",
        AlertDescription::CertificateUnknown => "sslv3 alert certificate unknown",
        AlertDescription::IllegalParameter => "sslv3 alert illegal parameter",
        AlertDescription::UnknownCA => "tlsv1 alert unknown ca",
        AlertDescription::AccessDenied => "tlsv1 alert access denied",
        AlertDescription::DecodeError => "tlsv1 alert decode error",
        AlertDescription::DecryptError => "tlsv1 alert decrypt error",
        AlertDescription::ProtocolVersion => "tlsv1 alert protocol version",
        AlertDescription::InsufficientSecurity => "tlsv1 alert insufficient security",
        AlertDescription::InternalError => "tlsv1 alert internal error",
        AlertDescription::InappropriateFallback => "tlsv1 alert inappropriate fallback",
        AlertDescription::UserCanceled => "tlsv1 alert user cancelled",
        AlertDescription::NoRenegotiation => "tlsv1 alert no renegotiation",
        AlertDescription::MissingExtension => "tlsv13 alert missing extension",
        AlertDescription::UnsupportedExtension => "tlsv1 unsupported extension",
        AlertDescription::UnrecognisedName => "tlsv1 unrecognized name",
        AlertDescription::BadCertificateStatusResponse => "tlsv1 bad certificate status response",
        AlertDescription::CertificateRequired => "tlsv13 alert certificate required",
        AlertDescription::NoApplicationProtocol => "tlsv1 alert no application protocol",
        _ => "reason",
    };
    let code = 1000 + u32::from(number);
    let name = if name == "reason" { format!("reason({code})") } else { name.to_owned() };
    let text = format!("error:0A{code:06X}:SSL routines::{name}:SSL alert number {number}");
    Described { blame: Blame::Peer, text: text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_the_words_of_openssl() {
        let check = |error: Error, blame: Blame, text: &str| {
            let described = describe(&error);
            assert_eq!((described.blame, &*described.text), (blame, text));
        };
        check(
            Error::AlertReceived(AlertDescription::CertificateUnknown),
            Blame::Peer,
            "error:0A000416:SSL routines::sslv3 alert certificate unknown:SSL alert number 46",
        );
        check(
            Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
            Blame::Peer,
            "error:0A0000C1:SSL routines::no shared cipher",
        );
    }
}
