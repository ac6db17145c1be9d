//! `sticky`: sessions that stay with one server.

use moonrest_conf::value;
use moonrest_core::upstream::Sessions;
use moonrest_http::{
    prelude::*,
    upstream::{Cookie, Expires, Learn, Main, Sticky, StickyKind},
};

/// `sticky cookie | route | learn …`.
pub(super) fn set(main: &mut Main, args: &Args<'_>) -> ConfResult {
    let definition = main.current()?;
    if definition.sticky.is_some() {
        return Err(Fault::DUPLICATE);
    }
    definition.sticky = Some(match args.bytes(0)? {
        b"cookie" => cookie(args)?,
        b"route" => {
            let lookup = (1..args.len()).map(|n| variable(args, n)).collect::<ConfResult<_>>()?;
            Sticky { lookup, kind: StickyKind::Route }
        }
        b"learn" => learn(args)?,
        _ => return Err(unknown(args, 0)),
    });
    Ok(())
}

fn unknown(args: &Args<'_>, n: usize) -> Fault {
    Fault::message(format!("unknown parameter \"{}\"", args.lossy(n)))
}

fn variable(args: &Args<'_>, n: usize) -> ConfResult<VarId> {
    Ok(args.vars.reference(args.variable_name(n)?, Some(args.span())))
}

fn cookie(args: &Args<'_>) -> ConfResult<Sticky> {
    let name = args.bytes(1)?;
    if name.is_empty() {
        return Err(Fault::directive("empty cookie name"));
    }
    let mut cookie = Cookie {
        name: name.into(),
        expires: None,
        domain: None,
        path: None,
        samesite: None,
        httponly: false,
        secure: false,
    };
    for n in 2..args.len() {
        let text = args.bytes(n)?;
        let (key, rest) = match memchr::memchr(b'=', text) {
            Some(at) => text.split_at(at + 1),
            None => (text, &[][..]),
        };
        let template = || Template::parse(rest, |name| args.vars.reference(name, Some(args.span())));
        let duplicate = |name: &str| Fault::directive(format!("parameter \"{name}\" is duplicate"));
        match key {
            b"domain=" if cookie.domain.is_some() => return Err(duplicate("domain")),
            b"domain=" if rest.is_empty() => return Err(Fault::directive("no value for \"domain\"")),
            b"domain=" => cookie.domain = Some(template()?),
            b"path=" if cookie.path.is_some() => return Err(duplicate("path")),
            b"path=" if rest.is_empty() => return Err(Fault::directive("no value for \"path\"")),
            b"path=" => cookie.path = Some(rest.into()),
            b"expires=" if cookie.expires.is_some() => return Err(duplicate("expires")),
            b"expires=" if rest == b"max" => cookie.expires = Some(Expires::Max),
            b"expires=" => {
                let seconds = value::parse_sec(rest);
                let invalid = || Fault::directive("invalid \"expires\" parameter value");
                cookie.expires = Some(Expires::In(seconds.ok_or_else(invalid)?));
            }
            b"httponly" if cookie.httponly => return Err(duplicate("httponly")),
            b"httponly" => cookie.httponly = true,
            b"secure" if cookie.secure => return Err(duplicate("secure")),
            b"secure" => cookie.secure = true,
            b"samesite=" if cookie.samesite.is_some() => return Err(duplicate("samesite")),
            b"samesite=" => {
                let template = template()?;
                let words = [&b"strict"[..], b"lax", b"none"];
                let fixed = template.as_static();
                if fixed.is_some_and(|text| !words.iter().any(|word| text.eq_ignore_ascii_case(word))) {
                    return Err(Fault::directive("invalid \"samesite\" parameter value"));
                }
                cookie.samesite = Some(template);
            }
            _ => return Err(unknown(args, n)),
        }
    }
    let variable = format!("cookie_{}", String::from_utf8_lossy(name));
    let lookup = vec![args.vars.reference(&variable, Some(args.span()))];
    Ok(Sticky { lookup, kind: StickyKind::Cookie(Box::new(cookie)) })
}

fn learn(args: &Args<'_>) -> ConfResult<Sticky> {
    let (mut lookup, mut create) = (Vec::new(), Vec::new());
    let (mut zone, mut timeout, mut after_header) = (None, None, false);
    for n in 1..args.len() {
        let text = args.bytes(n)?;
        let (key, rest) = match memchr::memchr(b'=', text) {
            Some(at) => text.split_at(at + 1),
            None => (text, &[][..]),
        };
        let variable =
            |parameter: &str| match std::str::from_utf8(rest).ok().and_then(|rest| rest.strip_prefix('$')) {
                Some(name) => Ok(args.vars.reference(name, Some(args.span()))),
                None => Err(Fault::directive(format!("missing variable in the \"{parameter}\" parameter"))),
            };
        match key {
            b"zone=" if zone.is_some() => return Err(Fault::directive("duplicate zone")),
            b"zone=" => zone = Some(parse_zone(rest)?),
            b"timeout=" if timeout.is_some() => return Err(Fault::directive("duplicate timeout")),
            b"timeout=" => {
                let time = value::parse_msec(rest).filter(|time| *time > 0);
                timeout = Some(time.ok_or(Fault::directive("invalid timeout"))?);
            }
            b"create=" => create.push(variable("create")?),
            b"lookup=" => lookup.push(variable("lookup")?),
            b"header" => after_header = true,
            _ => return Err(unknown(args, n)),
        }
    }
    for (name, missing) in
        [("lookup", lookup.is_empty()), ("create", create.is_empty()), ("zone", zone.is_none())]
    {
        if missing {
            return Err(Fault::directive(format!("\"{name}\" parameter is not specified")));
        }
    }
    let Some((name, size)) = zone else { return Err(args.wrong_count()) };
    let sessions = args.env.zones.declare(&name, size, || Sessions::with_bytes(size))?;
    let learn = Learn { create, sessions, timeout: timeout.unwrap_or(600_000), after_header };
    Ok(Sticky { lookup, kind: StickyKind::Learn(learn) })
}

fn parse_zone(text: &[u8]) -> ConfResult<(String, u64)> {
    let text = String::from_utf8_lossy(text);
    let Some((name, size)) = text.split_once(':') else {
        return Err(Fault::directive("zone size is not specified"));
    };
    if name.is_empty() {
        return Err(Fault::directive("zone name is not specified"));
    }
    let size = value::parse_size(size.as_bytes()).ok_or(Fault::directive("invalid zone size"))?;
    if size < 8 * 4096 {
        return Err(Fault::directive("zone is too small"));
    }
    Ok((name.to_owned(), size))
}
