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
    /// Its first byte tells what it is: `/` a path of this server, `@` a named location, anything else a URL.
    pub target: Template,
}

/// Sets `error_page CODE … [=[CODE]] TARGET`.
pub(super) fn set(loc: &mut super::CoreLoc, args: &Args<'_>) -> ConfResult {
    let words = args.words();
    let Some((target, mut codes)) = words.split_last() else { return Err(args.wrong_count()) };
    let mut overwrite = None;
    if let Some((last, rest)) = codes.split_last()
        && let Some(code) = last.text.strip_prefix(b"=")
    {
        if rest.is_empty() {
            return Err(invalid(&last.lossy()));
        }
        overwrite = Some(match code {
            b"" => 0,
            code => parse_code(code).ok_or_else(|| invalid(&last.lossy()))?,
        });
        codes = rest;
    }
    let target = Template::compile(target, args.vars)?;
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

/// Sets `no_error_pages`, which OpenResty adds: the pages of outer blocks are not in force here.
pub(super) fn set_none(loc: &mut super::CoreLoc, _: &Args<'_>) -> ConfResult {
    if loc.error_pages.is_some() {
        return Err(Fault::directive("conflicts with \"error_page\""));
    }
    loc.error_pages = Some(Vec::new());
    Ok(())
}

/// nginx's own statuses are answered as 400 unless the configuration says otherwise.
fn implied(status: u16) -> Option<u16> {
    matches!(status, 494..=497).then_some(400)
}

fn parse_code(text: &[u8]) -> Option<u16> {
    moonrest_core::conf::value::parse_uint(text).and_then(|n| u16::try_from(n).ok())
}

fn invalid(text: &str) -> Fault {
    Fault::message(format!("invalid value \"{text}\""))
}
