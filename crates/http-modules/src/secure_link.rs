//! `secure_link`: links that nobody can make up, and that expire.
//! <https://nginx.org/en/docs/http/ngx_http_secure_link_module.html>

use crate::lenient_base64::decode_base64_url;
use md5::{Digest as _, Md5};
use moonrest_http::prelude::*;
use std::cell::RefCell;

/// The module.
pub struct SecureLink;
type D = Directive<SecureLink>;

impl HttpModule for SecureLink {
    const NAME: &'static str = "ngx_http_secure_link_module";
    const DIRECTIVES: &'static [D] = &[
        D::loc("secure_link", Arity::exactly(1), |loc, args| set_once(&mut loc.link, args.template(0)?)),
        D::loc("secure_link_md5", Arity::exactly(1), |loc, args| set_once(&mut loc.text, args.template(0)?)),
        D::loc("secure_link_secret", Arity::exactly(1), |loc, args| {
            set_once(&mut loc.secret, args.bytes(0)?.into())
        }),
    ];
    const VARIABLES: &'static [VarDef<Request>] = &[
        VarDef::get("secure_link", |r, out| {
            let Some(loc) = r.loc().conf::<Loc>() else { return false };
            match &loc.secret {
                Some(secret) => loc.old_link(r, secret, out),
                None => loc.link(r, out),
            }
        }),
        VarDef::get("secure_link_expires", |r, out| {
            let Some(found) = r.find_ctx::<Expires>() else { return false };
            out.extend_from_slice(&found.0.borrow());
            true
        }),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach(_main: &(), loc: &Arc<Loc>, _to: &mut LocationBuilder<'_>) -> ConfResult {
        if loc.secret.is_some() && (loc.link.is_some() || loc.text.is_some()) {
            return Err(Fault::message(
                "\"secure_link_secret\" cannot be mixed with \"secure_link\" and \"secure_link_md5\"",
            ));
        }
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    link: Option<Template>,
    text: Option<Template>,
    secret: Option<Box<[u8]>>,
}

impl Inherit for Loc {
    fn inherit(&mut self, outer: &Self) {
        // The two forms exclude each other: where one is used, the other is not inherited.
        if self.secret.is_some() {
            return;
        }
        self.link = self.link.take().or_else(|| outer.link.clone());
        self.text = self.text.take().or_else(|| outer.text.clone());
        if self.link.is_none() && self.text.is_none() {
            self.secret.clone_from(&outer.secret);
        }
    }
}

/// `$secure_link_expires`, known once `$secure_link` was asked for.
#[derive(Default)]
struct Expires(RefCell<Vec<u8>>);

impl Loc {
    /// `1` for a good link, `0` for one that has expired, nothing for any other.
    fn link(&self, r: &Request, out: &mut Vec<u8>) -> bool {
        let (Some(link), Some(text)) = (&self.link, &self.text) else { return false };
        let link = link.eval(r);
        let (hash, expires) = match memchr::memchr(b',', &link) {
            Some(comma) => (link.get(..comma).unwrap_or_default(), link.get(comma + 1..)),
            None => (&*link, None),
        };
        let mut end = None;
        if let Some(expires) = expires {
            end = moonrest_core::conf::value::parse_uint(expires).filter(|seconds| *seconds > 0);
            if end.is_none() {
                return false;
            }
            *r.ctx::<Expires>().0.borrow_mut() = expires.to_vec();
        }
        let Some(hash) = decode_hash(hash) else { return false };
        if !equal(&hash, &Md5::digest(text.eval(r))) {
            return false;
        }
        let expired = end.is_some_and(|end| i64::try_from(end).is_ok_and(|end| end < r.worker.now()));
        out.push(if expired { b'0' } else { b'1' });
        true
    }

    /// `/prefix/hash/link`: the link, if the hash is that of link and secret.
    fn old_link(&self, r: &Request, secret: &[u8], out: &mut Vec<u8>) -> bool {
        let main = r.main();
        let (head, block) = (main.head.borrow(), main.block.borrow());
        let Some(link) = old_link(head.target.of(&block), secret) else { return false };
        out.extend_from_slice(link);
        true
    }
}

fn decode_hash(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() > 24 {
        return None;
    }
    decode_base64_url(text)
}

fn old_link<'a>(target: &'a [u8], secret: &[u8]) -> Option<&'a [u8]> {
    let rest = target.get(1..)?;
    let rest = rest.get(memchr::memchr(b'/', rest)? + 1..)?;
    let end = memchr::memchr(b'/', rest)?;
    let (hash, link) = (rest.get(..end)?, rest.get(end + 1..)?);
    if hash.len() != 32 || link.is_empty() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let hash = hash
        .chunks_exact(2)
        .map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?))
        .collect::<Option<Vec<u8>>>()?;
    equal(&hash, &Md5::new().chain_update(link).chain_update(secret).finalize()).then_some(link)
}

/// Takes the same time wherever the first difference is.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_read_as_nginx_reads_them() {
        assert_eq!(decode_hash(b"1B2M2Y8AsgTpgAmY7PhCfg").unwrap(), Md5::digest(b"").to_vec());
        assert_eq!(decode_hash(b"1B2M2Y8AsgTpgAmY7PhCfg==").unwrap(), Md5::digest(b"").to_vec());
        assert_eq!(decode_hash(b"1B2M2Y8AsgTpgAmY7PhCfg===").map(|hash| hash.len()), None);
        assert!(decode_hash(b"+B2M2Y8AsgTpgAmY7PhCfg").is_none());
        assert!(!equal(&decode_hash(b"1B2M").unwrap(), &Md5::digest(b"")));
    }

    #[test]
    fn the_old_form_carries_the_hash_in_its_path() {
        // The MD5 of "linksecret".
        let hash: String =
            Md5::digest(b"test.html?a=1secret").iter().map(|byte| format!("{byte:02x}")).collect();
        let check = |target: &str, expect: Option<&str>| {
            assert_eq!(old_link(target.as_bytes(), b"secret"), expect.map(str::as_bytes), "{target}");
        };
        check(&format!("/p/{hash}/test.html?a=1"), Some("test.html?a=1"));
        check(&format!("/p/{}/test.html?a=1", hash.to_uppercase()), Some("test.html?a=1"));
        check(&format!("/p/{hash}/test.html"), None);
        check(&format!("/p/{hash}x/test.html?a=1"), None);
        check(&format!("/p/{hash}/"), None);
        check(&format!("/{hash}"), None);
        check("/p/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz/x", None);
        check("", None);
    }
}
