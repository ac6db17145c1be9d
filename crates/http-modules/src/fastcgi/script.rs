//! `$fastcgi_script_name` and `$fastcgi_path_info`.

use super::FastCgiLoc;
use moonrest_http::prelude::*;
use std::sync::atomic::AtomicUsize;

/// `fastcgi_split_path_info`: the first group is the script, the second the rest.
#[derive(Debug)]
pub(super) struct Split(Regex);

impl Split {
    pub(super) fn compile(args: &Args<'_>) -> ConfResult<Self> {
        let regex = Regex::new(args.bytes(0)?, false)?;
        if regex.group_count() != 3 {
            return Err(Fault::message(format!("pattern \"{}\" must have 2 captures", args.lossy(0))));
        }
        Ok(Self(regex))
    }

    /// Script and path info; none when the path does not match.
    fn of<'u>(&self, uri: &'u [u8]) -> Option<(&'u [u8], &'u [u8])> {
        let mut groups = Vec::new();
        if !self.0.captures(uri, &mut groups) {
            return None;
        }
        let group =
            |n: usize| groups.get(n).and_then(|&(start, end)| uri.get(start..end)).unwrap_or_default();
        Some((group(1), group(2)))
    }
}

fn settings(r: &Request) -> Option<&FastCgiLoc> {
    static PLACE: AtomicUsize = AtomicUsize::new(0);
    r.loc().conf_at(&PLACE)
}

pub(super) fn name(r: &Request, out: &mut Vec<u8>) -> bool {
    let Some(loc) = settings(r) else { return false };
    let uri = r.uri();
    let script = match loc.split.as_ref().and_then(|split| split.of(&uri)) {
        Some((script, _)) => script,
        None => &uri,
    };
    out.extend_from_slice(script);
    if script.ends_with(b"/") {
        out.extend_from_slice(loc.index());
    }
    true
}

pub(super) fn path_info(r: &Request, out: &mut Vec<u8>) -> bool {
    let uri = r.uri();
    let split = settings(r).and_then(|loc| loc.split.as_ref());
    let Some((_, info)) = split.and_then(|split| split.of(&uri)) else { return false };
    out.extend_from_slice(info);
    true
}
