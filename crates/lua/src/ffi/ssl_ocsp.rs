//! `ngx.ocsp`: asking an issuer about a certificate, and passing its word on to clients.
//! <https://github.com/openresty/lua-resty-core/blob/master/lib/ngx/ocsp.md>

use super::{BUSY, DECLINED, OK, Token, fail, fail_into, ssl::with_handshake};
use crate::handshake;
use moonrest_luajit::{ffi_entry, raw};
use moonrest_net::tls::{
    certificate,
    ocsp::{Question, Signer, Status, responder},
    x509::Certificate,
};
use std::ffi::{CStr, c_char, c_int, c_long};

/// The extension by which a client asks for its certificate's status.
const STATUS_REQUEST: u16 = 5;

/// The first certificate of a chain that is encoded one behind the other, and its issuer's.
struct Pair {
    certificate: Certificate,
    issuer: Option<Certificate>,
}

fn pair(chain: &[u8]) -> Result<Pair, &'static CStr> {
    let broken = c"d2i_X509_bio() failed";
    let (first, rest) = certificate::split_der(chain).ok_or(broken)?;
    let certificate = Certificate::from_der(first).ok_or(broken)?;
    if rest.is_empty() {
        return Ok(Pair { certificate, issuer: None });
    }
    let (second, _) = certificate::split_der(rest).ok_or(broken)?;
    Ok(Pair { certificate, issuer: Some(Certificate::from_der(second).ok_or(broken)?) })
}

const NO_ISSUER: &CStr = c"no issuer certificate in chain";

/// The room in Lua's buffer.
fn room(size: *mut usize) -> usize {
    // SAFETY: Lua passes a place with the buffer's size.
    unsafe { size.as_ref() }.copied().unwrap_or(0)
}

ffi_entry! {
    /// The address of the responder that a certificate names, cut to the buffer.
    fn ngx_http_lua_ffi_ssl_get_ocsp_responder_from_der_chain(
        chain: *const u8, len: usize, out: *mut u8, size: *mut usize, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes a string.
        let pair = match pair(unsafe { raw::bytes(chain, len) }) {
            Ok(pair) => pair,
            Err(problem) => return fail(err, problem),
        };
        let Some(address) = responder(&pair.certificate) else { return DECLINED };
        let room = room(size);
        // SAFETY: Lua passes a buffer of that size, and the place where it says so.
        unsafe {
            let written = raw::fill(out, room, address.as_bytes());
            raw::store(size, written);
        }
        let Some(issuer) = &pair.issuer else { return fail(err, NO_ISSUER) };
        if issuer.subject_form() != pair.certificate.issuer_form() {
            return fail(err, c"issuer certificate not next to leaf");
        }
        if address.len() > room { BUSY } else { OK }
    }

    /// The request that is sent there.
    fn ngx_http_lua_ffi_ssl_create_ocsp_request(
        chain: *const u8, len: usize, out: *mut u8, size: *mut usize, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes a string.
        let Pair { certificate, issuer } = match pair(unsafe { raw::bytes(chain, len) }) {
            Ok(pair) => pair,
            Err(problem) => return fail(err, problem),
        };
        let Some(issuer) = issuer else { return fail(err, NO_ISSUER) };
        let request = Question { certificate: &certificate, issuer: &issuer }.encode();
        let room = room(size);
        // SAFETY: Lua passes a buffer of that size, and the place where it says so.
        unsafe {
            raw::store(size, request.len());
            if request.len() <= room {
                raw::fill(out, room, &request);
                return OK;
            }
        }
        fail(err, c"output buffer too small");
        BUSY
    }

    /// Checks an answer; `valid` takes the moment until which it holds, in seconds since 1970.
    fn ngx_http_lua_ffi_ssl_validate_ocsp_response(
        response: *const u8, response_len: usize, chain: *const u8, len: usize, errbuf: *mut u8,
        errbuf_size: *mut usize, valid: *mut c_long
    ) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes strings.
        let (response, chain) = unsafe { (raw::bytes(response, response_len), raw::bytes(chain, len)) };
        let refuse = |text: &str| fail_into(errbuf, errbuf_size, text.as_bytes());
        if let Err(problem) = moonrest_net::tls::ocsp::check_form(response) {
            return refuse(&problem);
        }
        let Pair { certificate, issuer } = match pair(chain) {
            Ok(pair) => pair,
            Err(problem) => return refuse(&problem.to_string_lossy()),
        };
        let Some(issuer) = issuer else { return refuse("no issuer certificate in chain") };
        let question = Question { certificate: &certificate, issuer: &issuer };
        let now = moonrest_sys::time::wall().secs;
        match question.check(response, &Signer::Anybody(&[]), now) {
            Ok(answer) if answer.status == Status::Good => {
                if let Some(until) = answer.until {
                    // SAFETY: Lua passes a place for a number.
                    unsafe { raw::store(valid, until) };
                }
                OK
            }
            Ok(answer) => {
                refuse(&format!("certificate status \"{}\" in the OCSP response", answer.status.text()))
            }
            Err(problem) => refuse(problem.split(" (SSL:").next().unwrap_or(&problem)),
        }
    }

    /// Sends an answer along with the certificate, if the client wants to have it.
    fn ngx_http_lua_ffi_ssl_set_ocsp_status_resp(
        r: Token, response: *const u8, len: usize, err: *mut *const c_char
    ) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes a string.
        let response = unsafe { raw::bytes(response, len) };
        with_handshake(r, err, |handshake, _| {
            let asked = handshake.hello.borrow().as_ref().is_some_and(|hello| {
                hello.extension(STATUS_REQUEST).is_some()
            });
            if !asked {
                return DECLINED;
            }
            let Some(kept) = handshake::kept(handshake) else { return fail(err, c"bad ssl conn") };
            let mut choice = kept.choice.borrow_mut();
            choice.set_response(response);
            *handshake.offered.borrow_mut() = Some(choice.offered());
            OK
        })
    }
}
