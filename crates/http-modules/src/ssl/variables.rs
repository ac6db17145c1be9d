//! `$ssl_*`: what a connection agreed on, and whom its client's certificate is of.

use moonrest_http::prelude::*;
use moonrest_net::tls::{
    Info, names,
    verify::Failure,
    x509::{Certificate, name_legacy, name_rfc2253, time_text},
};
use std::{fmt::Write as _, io::Write as _};

/// nginx: all of them may be declared again.
const fn variable(name: &'static str, get: GetFn<Request>) -> VarDef<Request> {
    VarDef { changeable: true, ..VarDef::get(name, get) }
}

pub(super) const ALL: &[VarDef<Request>] = &[
    variable("ssl_protocol", |r, out| with(r, |info| text(out, names::version(info.version.get())))),
    variable("ssl_cipher", |r, out| with(r, |info| text(out, names::cipher(info.cipher.get())))),
    variable("ssl_ciphers", |r, out| with(r, |info| list(out, &info.ciphers, names::cipher))),
    variable("ssl_curve", |r, out| {
        with(r, |info| match info.group.get() {
            0 => false,
            group => list(out, &group.to_be_bytes(), names::group),
        })
    }),
    variable("ssl_curves", |r, out| with(r, |info| list(out, &info.groups, names::group))),
    variable("ssl_sigalg", |r, out| with(r, |info| text(out, names::scheme(info.scheme.get())))),
    variable("ssl_sigalgs", |r, out| with(r, |info| list(out, &info.signature_schemes, names::scheme))),
    variable("ssl_session_id", |r, out| {
        with(r, |info| {
            let id = info.session_id.get().filter(|_| info.version.get() == 0x0303);
            hex(out, id.map_or(&info.random[..], |id| id))
        })
    }),
    variable("ssl_session_reused", |r, out| {
        with(r, |info| text(out, Some(if info.reused.get() { "r" } else { "." })))
    }),
    variable("ssl_early_data", |r, out| {
        // The handshake may be over by now, although the request came before its end.
        with(r, |info| info.handshaking.get() && text(out, Some("1")))
    }),
    variable("ssl_server_name", |r, out| {
        with(r, |info| info.server_name.as_deref().is_some_and(|name| bytes(out, name)))
    }),
    variable("ssl_alpn_protocol", |r, out| {
        with(r, |info| info.alpn.get().is_some_and(|name| bytes(out, name)))
    }),
    variable("ssl_ech_status", |r, out| with(r, |_| text(out, Some("NOT_TRIED")))),
    variable("ssl_ech_outer_server_name", |_, _| false),
    variable("ssl_client_cert", |r, out| {
        certificate(r, |certificate| {
            // A header field can hold it: lines behind the first are folded.
            let pem = certificate.pem();
            text(out, Some(&pem.trim_end().replace('\n', "\n\t")))
        })
    }),
    variable("ssl_client_raw_cert", |r, out| {
        certificate(r, |certificate| text(out, Some(&certificate.pem())))
    }),
    variable("ssl_client_escaped_cert", |r, out| {
        certificate(r, |certificate| {
            for byte in certificate.pem().bytes() {
                match byte {
                    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte),
                    _ => {
                        let _ = write!(out, "%{byte:02X}");
                    }
                }
            }
            true
        })
    }),
    variable("ssl_client_s_dn", |r, out| {
        certificate(r, |c| text(out, Some(&name_rfc2253(c.parsed.tbs_certificate().subject()))))
    }),
    variable("ssl_client_i_dn", |r, out| {
        certificate(r, |c| text(out, Some(&name_rfc2253(c.parsed.tbs_certificate().issuer()))))
    }),
    variable("ssl_client_s_dn_legacy", |r, out| {
        certificate(r, |c| text(out, Some(&name_legacy(c.parsed.tbs_certificate().subject()))))
    }),
    variable("ssl_client_i_dn_legacy", |r, out| {
        certificate(r, |c| text(out, Some(&name_legacy(c.parsed.tbs_certificate().issuer()))))
    }),
    variable("ssl_client_serial", |r, out| certificate(r, |c| text(out, Some(&c.serial_text())))),
    variable("ssl_client_fingerprint", |r, out| {
        certificate(r, |c| {
            use sha1::Digest;
            hex(out, &sha1::Sha1::digest(c.der()))
        })
    }),
    variable("ssl_client_sigalg", |r, out| {
        with(r, |info| text(out, names::scheme(info.client_scheme.get())))
    }),
    variable("ssl_client_verify", |r, out| with(r, |info| text(out, Some(&verdict(info))))),
    variable("ssl_client_v_start", |r, out| {
        certificate(r, |c| text(out, Some(&time_text(&c.parsed.tbs_certificate().validity().not_before))))
    }),
    variable("ssl_client_v_end", |r, out| {
        certificate(r, |c| text(out, Some(&time_text(&c.parsed.tbs_certificate().validity().not_after))))
    }),
    variable("ssl_client_v_remain", |r, out| {
        certificate(r, |c| {
            let left = c.validity().1.saturating_sub(r.worker.now());
            let days = if left < 86_400 { 0 } else { left / 86_400 };
            text(out, Some(&days.to_string()))
        })
    }),
];

fn with(r: &Request, f: impl FnOnce(&Info) -> bool) -> bool {
    r.tls().is_some_and(f)
}

/// The client's certificate, decoded for each use: few configurations ask, and most ask once.
fn certificate(r: &Request, f: impl FnOnce(&Certificate) -> bool) -> bool {
    let shown = r.tls().and_then(|info| info.certificates.get()).and_then(|chain| chain.first());
    shown.and_then(|der| Certificate::from_der(der)).is_some_and(|certificate| f(&certificate))
}

fn verdict(info: &Info) -> String {
    if info.certificates.get().is_none_or(|chain| chain.is_empty()) {
        return "NONE".into();
    }
    match (info.verified.get(), info.revoked.get()) {
        (0, None) => "SUCCESS".into(),
        (0, Some(reason)) => format!("FAILED:{reason}"),
        (code, _) => format!("FAILED:{}", Failure::from_code(code).map_or("", Failure::text)),
    }
}

fn text(out: &mut Vec<u8>, value: Option<&str>) -> bool {
    value.is_some_and(|value| bytes(out, value.as_bytes()))
}

fn bytes(out: &mut Vec<u8>, value: &[u8]) -> bool {
    out.extend_from_slice(value);
    !value.is_empty()
}

fn hex(out: &mut Vec<u8>, value: &[u8]) -> bool {
    for byte in value {
        let _ = write!(out, "{byte:02x}");
    }
    !value.is_empty()
}

/// Names between colons; what has none is shown as its number.
fn list(out: &mut Vec<u8>, numbers: &[u8], name: fn(u16) -> Option<&'static str>) -> bool {
    let mut shown = String::new();
    for number in Info::numbers(numbers) {
        if !shown.is_empty() {
            shown.push(':');
        }
        match name(number) {
            Some(name) => shown.push_str(name),
            None => {
                let _ = write!(shown, "0x{number:04x}");
            }
        }
    }
    text(out, Some(&shown))
}
