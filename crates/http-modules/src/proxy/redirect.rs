//! `proxy_redirect`: redirects of the upstream's lead to us.

use super::{
    ProxyLoc,
    pass::Pass,
    rewrite::{Pattern, Rewrite},
};
use moonrest_http::prelude::*;

/// The rules of one block.
#[derive(Clone)]
pub(super) enum Redirects {
    Off,
    Rules(Vec<Rule>),
}

#[derive(Clone)]
pub(super) enum Rule {
    Default,
    Rewrite(Rewrite),
}

/// `proxy_redirect default | off | REDIRECT REPLACEMENT`.
pub(super) fn set(loc: &mut ProxyLoc, args: &Args<'_>) -> ConfResult {
    if matches!(loc.redirects, Some(Redirects::Off)) {
        return Err(Fault::DUPLICATE);
    }
    let rule = if args.len() > 1 {
        Rule::Rewrite(Rewrite::parse(args)?)
    } else {
        match args.bytes(0)? {
            b"off" if loc.redirects.is_some() => return Err(Fault::DUPLICATE),
            b"off" => {
                loc.redirects = Some(Redirects::Off);
                return Ok(());
            }
            b"default" => {
                match &loc.pass {
                    Some(pass) if pass.url.is_some() => {}
                    Some(_) => {
                        return Err(Fault::message(
                            "\"proxy_redirect default\" cannot be used with \"proxy_pass\" directive with variables",
                        ));
                    }
                    None => {
                        return Err(Fault::message(
                            "\"proxy_redirect default\" should be placed after the \"proxy_pass\" directive",
                        ));
                    }
                }
                Rule::Default
            }
            _ => return Err(args.invalid_parameter(0)),
        }
    };
    match &mut loc.redirects {
        Some(Redirects::Rules(rules)) => rules.push(rule),
        slot => *slot = Some(Redirects::Rules(vec![rule])),
    }
    Ok(())
}

impl Redirects {
    /// The rules for a `proxy_pass`; none when redirects are left alone.
    pub(super) fn in_force(set: Option<&Self>, pass: &Pass) -> Option<Vec<Rewrite>> {
        let rules = match set {
            Some(Self::Off) => return None,
            Some(Self::Rules(rules)) => rules.as_slice(),
            None => &[Rule::Default],
        };
        let rules: Vec<Rewrite> = rules
            .iter()
            .filter_map(|rule| match rule {
                Rule::Default => by_default(pass),
                Rule::Rewrite(rewrite) => Some(rewrite.clone()),
            })
            .collect();
        (set.is_some() || !rules.is_empty()).then_some(rules)
    }
}

/// The URL of `proxy_pass` becomes the location it stands in.
fn by_default(pass: &Pass) -> Option<Rewrite> {
    let url = pass.url.as_deref()?;
    let (pattern, replacement) =
        if pass.has_uri() { (url.to_vec(), &*pass.location) } else { ([url, b"/"].concat(), &b"/"[..]) };
    Some(Rewrite {
        pattern: Pattern::Prefix(Template::literal(&pattern)),
        replacement: Template::literal(replacement),
    })
}
