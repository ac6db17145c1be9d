//! `*_query [METHOD ...] SQL`: what is asked, by the request's method.

use moonrest_http::prelude::*;
use moonrest_proto::http1::Method;

/// The queries of one block.
#[derive(Clone, Default)]
pub(crate) struct Queries {
    /// Bits of methods, and what they ask.
    by_method: Vec<(u32, Template)>,
    default: Option<Template>,
}

/// A method by its name, in any case, if databases are asked for it.
pub(crate) fn method(name: &[u8]) -> Option<Method> {
    match Method::from_name(&name.to_ascii_uppercase()) {
        Method::Other | Method::Connect | Method::Trace => None,
        method => Some(method),
    }
}

impl Queries {
    /// Reads one line.
    ///
    /// # Errors
    /// Those of the reference.
    pub(crate) fn add(slot: &mut Option<Self>, args: &Args<'_>, module: &str) -> ConfResult {
        let last = args.len() - 1;
        if args.bytes(last)?.is_empty() {
            return Err(Fault::message(format!("{module}: empty value in \"{}\" directive", args.name())));
        }
        let queries = slot.get_or_insert_default();
        if last == 0 {
            return set_once(&mut queries.default, args.template(0)?);
        }
        let mut methods = 0;
        for n in 0..last {
            let method = method(args.bytes(n)?).ok_or_else(|| {
                Fault::message(format!(
                    "{module}: invalid method \"{}\" in \"{}\" directive",
                    args.lossy(n),
                    args.name()
                ))
            })?;
            if queries.methods() & method.bit() != 0 {
                return Err(Fault::message(format!(
                    "{module}: \"{}\" directive for method \"{}\" is duplicate",
                    args.name(),
                    args.lossy(n)
                )));
            }
            methods |= method.bit();
        }
        queries.by_method.push((methods, args.template(last)?));
        Ok(())
    }

    /// Whether there is none at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_method.is_empty() && self.default.is_none()
    }

    fn methods(&self) -> u32 {
        self.by_method.iter().fold(0, |all, (methods, _)| all | methods)
    }

    /// The query for a method.
    pub(crate) fn find(&self, method: Method) -> Option<&Template> {
        let found = self.by_method.iter().find(|(methods, _)| methods & method.bit() != 0);
        found.map(|(_, query)| query).or(self.default.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_their_own_queries() {
        let queries = Queries {
            by_method: vec![(Method::Get.bit() | Method::Head.bit(), Template::literal(b"read"))],
            default: Some(Template::literal(b"other")),
        };
        let find = |method| queries.find(method).and_then(Template::as_static);
        assert_eq!(find(Method::Head), Some(&b"read"[..]));
        assert_eq!(find(Method::Post), Some(&b"other"[..]));
        assert_eq!(Queries::default().find(Method::Get).and_then(Template::as_static), None);
        assert_eq!(method(b"patch"), Some(Method::Patch));
        assert_eq!(method(b"brew"), None);
    }
}
