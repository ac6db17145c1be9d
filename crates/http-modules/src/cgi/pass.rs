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
    scheme: &'static [u8],
}

enum To {
    Fixed(GroupId),
    Template(Template),
}

/// Sets it. `scheme` may stand before the address, and is what log lines show.
pub(crate) fn set(slot: &mut Option<Arc<Pass>>, args: &Args<'_>, scheme: &'static [u8]) -> ConfResult {
    if slot.is_some() {
        return Err(Fault::DUPLICATE);
    }
    let template = args.template(0)?;
    let to = match template.as_static() {
        None => To::Template(template),
        Some(text) => {
            let text = text.strip_prefix(scheme).unwrap_or(text);
            let url = Url::parse(text, 0, false).map_err(|error| {
                Fault::message(format!("{error} in upstream \"{}\"", String::from_utf8_lossy(text)))
            })?;
            let group = args.compiler.with_main(|main: &mut Main| main.reference(&url, args.span()));
            To::Fixed(group.unwrap_or_else(|| Err(Fault::message("no upstream module")))?)
        }
    };
    *slot = Some(Arc::new(Pass { block: args.block, to, scheme }));
    Ok(())
}

impl Pass {
    /// Where this request goes.
    pub(crate) fn destination(&self, r: &Request) -> Result<Destination, RequestError> {
        let template = match &self.to {
            To::Fixed(group) => return Ok(Destination::Group(*group)),
            To::Template(template) => template,
        };
        let text = template.eval(r);
        let text = text.strip_prefix(self.scheme).unwrap_or(&text);
        let url = Url::parse(text, 0, false).map_err(|error| {
            RequestError::internal(format!("{error} in upstream \"{}\"", String::from_utf8_lossy(text)))
        })?;
        Ok(Destination::Dynamic {
            host: url.host.to_vec(),
            port: url.port,
            no_port: url.no_port,
            addr: url.addr.clone(),
        })
    }
}
