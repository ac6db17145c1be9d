//! `proxy_cookie_domain`, `proxy_cookie_path`, `proxy_cookie_flags`: cookies of the upstream's become ours.

use super::{
    ProxyLoc, Settings,
    rewrite::{Pattern, Rewrite, regex},
};
use moonrest_http::prelude::*;

/// `proxy_cookie_flags COOKIE FLAG …`.
#[derive(Clone)]
pub(super) struct CookieFlags {
    cookie: Which,
    flags: Vec<Template>,
}

#[derive(Clone)]
enum Which {
    Name(Template),
    Regex(Arc<CapturingRegex>),
}

/// Adds a rule to a list that `off` empties.
fn add<T>(slot: &mut Option<Vec<T>>, args: &Args<'_>, rule: impl FnOnce() -> ConfResult<T>) -> ConfResult {
    if slot.as_ref().is_some_and(Vec::is_empty) {
        return Err(Fault::DUPLICATE);
    }
    if args.len() == 1 {
        return match args.bytes(0)? {
            b"off" if slot.is_some() => Err(Fault::DUPLICATE),
            b"off" => {
                *slot = Some(Vec::new());
                Ok(())
            }
            _ => Err(args.invalid_parameter(0)),
        };
    }
    slot.get_or_insert_default().push(rule()?);
    Ok(())
}

pub(super) fn set_domain(loc: &mut ProxyLoc, args: &Args<'_>) -> ConfResult {
    add(&mut loc.cookie_domains, args, || {
        let text = args.bytes(0)?;
        if let Some(pattern) = text.strip_prefix(b"~") {
            return Ok(Rewrite { pattern: regex(args, pattern, true)?, replacement: args.template(1)? });
        }
        let compile = |n: usize| {
            let text = args.bytes(n)?;
            let text = text.strip_prefix(b".").unwrap_or(text);
            Template::parse(text, |name| args.vars.reference(name, Some(args.span())))
        };
        Ok(Rewrite { pattern: Pattern::Domain(compile(0)?), replacement: compile(1)? })
    })
}

pub(super) fn set_path(loc: &mut ProxyLoc, args: &Args<'_>) -> ConfResult {
    add(&mut loc.cookie_paths, args, || Rewrite::parse(args))
}

pub(super) fn set_flags(loc: &mut ProxyLoc, args: &Args<'_>) -> ConfResult {
    add(&mut loc.cookie_flags, args, || {
        let cookie = match args.bytes(0)?.strip_prefix(b"~") {
            Some(pattern) => Which::Regex(Arc::new(CapturingRegex::compile(args, pattern, true)?)),
            None => Which::Name(args.template(0)?),
        };
        let flags = (1..args.len()).map(|n| args.template(n)).collect::<ConfResult<_>>()?;
        Ok(CookieFlags { cookie, flags })
    })
}

/// One attribute of a cookie; the first is the cookie itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Attribute {
    name: Vec<u8>,
    value: Option<Vec<u8>>,
}

impl Attribute {
    fn new(name: &[u8], value: Option<&[u8]>) -> Self {
        Self { name: name.to_vec(), value: value.map(<[u8]>::to_vec) }
    }

    fn is(&self, name: &[u8]) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// What the rules make of a cookie; none when they leave it alone.
pub(super) fn rewrite(
    settings: &Settings,
    r: &Request,
    text: &[u8],
) -> Result<Option<Vec<u8>>, RequestError> {
    let Settings { cookie_domains: domains, cookie_paths: paths, cookie_flags: flags, .. } = settings;
    if domains.is_empty() && paths.is_empty() && flags.is_empty() {
        return Ok(None);
    }
    let mut attributes = parse(text);
    if attributes.first().is_none_or(|cookie| cookie.value.is_none()) {
        return Ok(None);
    }
    let mut edited = false;
    for attribute in attributes.iter_mut().skip(1) {
        for (name, rules) in [(&b"domain"[..], domains), (b"path", paths)] {
            if attribute.is(name)
                && let Some(value) = &attribute.value
                && let Some(new) = Rewrite::first(rules, r, value)?
            {
                attribute.value = Some(new);
                edited = true;
            }
        }
    }
    edited |= edit_flags(flags, r, &mut attributes)?;
    Ok(edited.then(|| join(&attributes)))
}

fn parse(text: &[u8]) -> Vec<Attribute> {
    text.split(|byte| *byte == b';')
        .map(|part| {
            let (name, value) = match memchr::memchr(b'=', part) {
                Some(at) => (part.get(..at).unwrap_or_default(), part.get(at + 1..)),
                None => (part, None),
            };
            Attribute::new(trim(name), value.map(trim))
        })
        .collect()
}

fn trim(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| *byte != b' ').unwrap_or(text.len());
    let end = text.iter().rposition(|byte| *byte != b' ').map_or(start, |at| at + 1);
    text.get(start..end).unwrap_or_default()
}

fn join(attributes: &[Attribute]) -> Vec<u8> {
    let mut out = Vec::new();
    for (n, attribute) in attributes.iter().enumerate() {
        if n > 0 {
            out.extend_from_slice(b"; ");
        }
        out.extend_from_slice(&attribute.name);
        if let Some(value) = &attribute.value {
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
    out
}

/// What flags ask for; the last of a kind counts as nginx tests them.
#[derive(Default)]
struct Wanted {
    secure: Option<bool>,
    httponly: Option<bool>,
    same_site: Option<Option<&'static str>>,
}

impl Wanted {
    fn add(&mut self, flag: &[u8]) {
        let is = |word: &str| flag.eq_ignore_ascii_case(word.as_bytes());
        if is("secure") {
            self.secure = Some(true);
        } else if is("nosecure") && self.secure.is_none() {
            self.secure = Some(false);
        } else if is("httponly") {
            self.httponly = Some(true);
        } else if is("nohttponly") && self.httponly.is_none() {
            self.httponly = Some(false);
        } else if is("samesite=strict") {
            self.same_site = Some(Some("Strict"));
        } else if is("samesite=lax") && self.same_site != Some(Some("Strict")) {
            self.same_site = Some(Some("Lax"));
        } else if is("samesite=none") && self.same_site.flatten().is_none() {
            self.same_site = Some(Some("None"));
        } else if is("nosamesite") && self.same_site.is_none() {
            self.same_site = Some(None);
        }
    }
}

fn edit_flags(
    rules: &[CookieFlags],
    r: &Request,
    attributes: &mut Vec<Attribute>,
) -> Result<bool, RequestError> {
    let Some(name) = attributes.first().map(|cookie| cookie.name.clone()) else { return Ok(false) };
    for rule in rules {
        let fits = match &rule.cookie {
            Which::Name(template) => template.eval(r).eq_ignore_ascii_case(&name),
            Which::Regex(regex) => regex.matches(r, &name)?,
        };
        if !fits {
            continue;
        }
        let mut wanted = Wanted::default();
        rule.flags.iter().for_each(|flag| wanted.add(&flag.eval(r)));
        return Ok(apply_flags(&wanted, attributes));
    }
    Ok(false)
}

fn apply_flags(wanted: &Wanted, attributes: &mut Vec<Attribute>) -> bool {
    if wanted.secure.is_none() && wanted.httponly.is_none() && wanted.same_site.is_none() {
        return false;
    }
    for (name, shown, flag) in
        [(&b"secure"[..], &b"Secure"[..], wanted.secure), (b"httponly", b"HttpOnly", wanted.httponly)]
    {
        let present = attributes.iter().skip(1).any(|attribute| attribute.is(name));
        match flag {
            Some(false) => retain_attributes(attributes, |attribute| !attribute.is(name)),
            Some(true) if !present => attributes.push(Attribute::new(shown, None)),
            _ => {}
        }
    }
    match wanted.same_site {
        None => {}
        Some(None) => retain_attributes(attributes, |attribute| !attribute.is(b"samesite")),
        Some(Some(value)) => {
            match attributes.iter_mut().skip(1).find(|attribute| attribute.is(b"samesite")) {
                Some(known)
                    if known
                        .value
                        .as_ref()
                        .is_some_and(|known| known.eq_ignore_ascii_case(value.as_bytes())) => {}
                Some(known) => *known = Attribute::new(b"SameSite", Some(value.as_bytes())),
                None => attributes.push(Attribute::new(b"SameSite", Some(value.as_bytes()))),
            }
        }
    }
    true
}

/// Removes attributes; the cookie itself stays.
fn retain_attributes(attributes: &mut Vec<Attribute>, keep: impl Fn(&Attribute) -> bool) {
    let mut first = true;
    attributes.retain(|attribute| std::mem::take(&mut first) || keep(attribute));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cookie: &str, flags: &[&str], expect: &str) {
        let mut wanted = Wanted::default();
        flags.iter().for_each(|flag| wanted.add(flag.as_bytes()));
        let mut attributes = parse(cookie.as_bytes());
        apply_flags(&wanted, &mut attributes);
        assert_eq!(String::from_utf8_lossy(&join(&attributes)), expect, "{cookie} {flags:?}");
    }

    #[test]
    fn flags_are_added_kept_and_removed() {
        check("a=b", &["secure", "httponly", "samesite=lax"], "a=b; Secure; HttpOnly; SameSite=Lax");
        check("a=b; SECURE", &["secure"], "a=b; SECURE");
        check("a=b; secure; path=/", &["nosecure"], "a=b; path=/");
        check("a=b; samesite=none", &["samesite=strict"], "a=b; SameSite=Strict");
        check("a=b; samesite=STRICT", &["samesite=strict"], "a=b; samesite=STRICT");
        check("secure=b", &["nosecure"], "secure=b");
        check("a = b ;path = /x", &["httponly"], "a=b; path=/x; HttpOnly");
    }
}
