//! `*_pass ADDRESS`: where requests go.

use moonrest_core::upstream::Url;
use moonrest_http::{
    compile::BlockId,
    prelude::*,
    upstream::{Destination, GroupId, Main},
};

/// One `*_pass`.
pub(crate) struct Pass {
    /// Where it stands: locations inside do not inherit it.
    pub block: BlockId,
    to: To,
    schemes: &'static [Scheme],
}

/// What may stand before an address, and whether connections are encrypted then. The first is what is meant without.
pub(crate) type Scheme = (&'static [u8], bool);

enum To {
    Fixed(GroupId, bool),
    Template(Template),
}

/// Sets it.
pub(crate) fn set(slot: &mut Option<Arc<Pass>>, args: &Args<'_>, schemes: &'static [Scheme]) -> ConfResult {
    if slot.is_some() {
        return Err(Fault::DUPLICATE);
    }
    let to = args.template(0)?;
    set_template(slot, args, to, schemes)
}

/// Sets it to an address that is not an argument.
pub(crate) fn set_template(
    slot: &mut Option<Arc<Pass>>,
    args: &Args<'_>,
    template: Template,
    schemes: &'static [Scheme],
) -> ConfResult {
    if slot.is_some() {
        return Err(Fault::DUPLICATE);
    }
    let to = match template.as_static() {
        None => To::Template(template),
        Some(text) => {
            let (text, secure) = strip_scheme(text, schemes);
            let url = Url::parse(text, 0, false).map_err(|error| {
                Fault::message(format!("{error} in upstream \"{}\"", String::from_utf8_lossy(text)))
            })?;
            let group = args.compiler.with_main(|main: &mut Main| main.reference(&url, args.span()));
            To::Fixed(group.unwrap_or_else(|| Err(Fault::message("no upstream module")))?, secure)
        }
    };
    *slot = Some(Arc::new(Pass { block: args.block, to, schemes }));
    Ok(())
}

impl Pass {
    /// The upstream, where it is always the same.
    pub(crate) fn group(&self) -> Option<GroupId> {
        match self.to {
            To::Fixed(group, _) => Some(group),
            To::Template(_) => None,
        }
    }

    /// Whether connections may have to be encrypted.
    pub(crate) fn may_be_secure(&self) -> bool {
        match self.to {
            To::Fixed(_, secure) => secure,
            To::Template(_) => self.schemes.iter().any(|(_, secure)| *secure),
        }
    }

    /// Where this request goes, and whether encrypted.
    pub(crate) fn destination(&self, r: &Request) -> Result<(Destination, bool), RequestError> {
        let template = match &self.to {
            To::Fixed(group, secure) => return Ok((Destination::Group(*group), *secure)),
            To::Template(template) => template,
        };
        let text = template.eval(r);
        let (text, secure) = strip_scheme(&text, self.schemes);
        let url = Url::parse(text, 0, false).map_err(|error| {
            RequestError::internal(format!("{error} in upstream \"{}\"", String::from_utf8_lossy(text)))
        })?;
        let destination = Destination::Dynamic {
            host: url.host.to_vec(),
            port: url.port,
            no_port: url.no_port,
            addr: url.addr.clone(),
        };
        Ok((destination, secure))
    }
}

fn strip_scheme<'t>(text: &'t [u8], schemes: &[Scheme]) -> (&'t [u8], bool) {
    let found = schemes.iter().find_map(|(scheme, secure)| {
        let (start, rest) = text.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some((rest, *secure))
    });
    found.unwrap_or((text, false))
}
