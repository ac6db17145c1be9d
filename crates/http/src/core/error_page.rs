//! `error_page`: which answer replaces an error's.
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#error_page>

use crate::args::Args;
use moonrest_core::{ConfResult, Fault, Template};

/// One status of an `error_page` directive.
#[derive(Clone, Debug)]
pub struct ErrorPage {
    /// The status it replaces.
    pub status: u16,
    /// `=code`: the status of the answer; `Some(0)` for `=` alone: whatever the target answers.
    pub overwrite: Option<u16>,
    pub target: ErrorTarget,
}

/// Where the answer comes from.
#[derive(Clone, Debug)]
pub enum ErrorTarget {
    /// A path of this server (internal redirect) or a URL (302 or the given redirect status); told apart by the
    /// first byte after evaluation.
    Uri {
        uri: Template,
        args: Option<Template>,
    },
    Named(Box<[u8]>),
}

/// Sets `error_page CODE … [=[CODE]] TARGET`.
pub(super) fn set(loc: &mut super::CoreLoc, args: &Args<'_>) -> ConfResult {
    let words = args.words();
    let Some((target, mut codes)) = words.split_last() else { return Err(args.wrong_count()) };
    let mut overwrite = None;
    if let Some((last, rest)) = codes.split_last() {
        if let Some(code) = last.text.strip_prefix(b"=") {
            overwrite = Some(match code {
                b"" => 0,
                code => parse_code(code).ok_or_else(|| invalid(&last.lossy()))?,
            });
            codes = rest;
        }
    }
    if codes.is_empty() {
        return Err(args.wrong_count());
    }
    let target = if target.text.starts_with(b"@") {
        ErrorTarget::Named(target.text.clone())
    } else {
        uri_target(target, args)?
    };
    let pages = loc.error_pages.get_or_insert_default();
    for code in codes {
        let status = parse_code(&code.text).ok_or_else(|| invalid(&code.lossy()))?;
        if status == 499 {
            return Err(Fault::message(format!("invalid value \"{}\"", code.lossy())));
        }
        if !(300..=599).contains(&status) {
            return Err(Fault::message(format!("value \"{}\" must be between 300 and 599", code.lossy())));
        }
        let overwrite = overwrite.or_else(|| implied(status));
        pages.push(ErrorPage { status, overwrite, target: target.clone() });
    }
    Ok(())
}

/// nginx's own statuses are answered as 400 unless the configuration says otherwise.
fn implied(status: u16) -> Option<u16> {
    matches!(status, 494..=497).then_some(400)
}

fn uri_target(word: &moonrest_core::Word, args: &Args<'_>) -> ConfResult<ErrorTarget> {
    // The arguments are split off before variables are filled in, so that a value's `?` stays part of the path.
    if word.text.starts_with(b"/") {
        if let Some(at) = memchr::memchr(b'?', &word.text) {
            let (uri, rest) = word.text.split_at(at);
            let compile =
                |text: &[u8]| Template::parse(text, |name| args.vars.reference(name, Some(word.span)));
            return Ok(ErrorTarget::Uri {
                uri: compile(uri)?,
                args: Some(compile(rest.get(1..).unwrap_or_default())?),
            });
        }
    }
    Ok(ErrorTarget::Uri { uri: Template::compile(word, args.vars)?, args: None })
}

fn parse_code(text: &[u8]) -> Option<u16> {
    moonrest_core::conf::value::parse_uint(text).and_then(|n| u16::try_from(n).ok())
}

fn invalid(text: &str) -> Fault {
    Fault::message(format!("invalid value \"{text}\""))
}
