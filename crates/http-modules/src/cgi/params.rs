//! Parameters of a request: those of the configuration, and the client's header fields as `HTTP_*`.

use moonrest_http::{prelude::*, upstream::States};
use moonrest_proto::http1::Known;

/// One `*_param`.
#[derive(Clone, Debug)]
pub(crate) struct Param {
    name: Box<[u8]>,
    value: Template,
    /// Left out when the value is empty.
    if_not_empty: bool,
}

/// `*_param NAME VALUE [if_not_empty]`.
pub(crate) fn add(list: &mut Option<Vec<Param>>, args: &Args<'_>) -> ConfResult {
    let if_not_empty = match args.len() {
        2 => false,
        _ if args.bytes(2)? == b"if_not_empty" => true,
        _ => return Err(args.invalid_parameter(2)),
    };
    let param = Param { name: args.bytes(0)?.into(), value: args.template(1)?, if_not_empty };
    list.get_or_insert_default().push(param);
    Ok(())
}

/// The parameters of one location.
#[derive(Default)]
pub(crate) struct Params {
    list: Vec<Param>,
    /// Header fields, in lower case, whose places parameters take.
    replaced: Vec<Box<[u8]>>,
}

impl Params {
    pub(crate) fn new(list: Option<&Vec<Param>>) -> Self {
        let list = list.cloned().unwrap_or_default();
        let fields = list.iter().filter_map(|param| param.name.strip_prefix(b"HTTP_"));
        let replaced = fields.map(|name| field_name(name).into()).collect();
        Self { list, replaced }
    }

    /// Gives every parameter to `put`: the configuration's in their order, then the client's fields.
    pub(crate) fn each(&self, r: &Request, fields: bool, mut put: impl FnMut(&[u8], &[u8])) {
        for param in &self.list {
            let value = param.value.eval(r);
            if !param.if_not_empty || !value.is_empty() {
                put(&param.name, &value);
            }
        }
        let has_host = self.list.iter().any(|param| &*param.name == b"HTTP_HOST");
        if !has_host {
            put(b"HTTP_HOST", &host(r));
        }
        let states = r.find_ctx::<States>().filter(|states| states.is_cacheable());
        if let Some(states) = &states {
            self.validators(states, &mut put);
        }
        if fields {
            self.fields(r, states.is_some(), put);
        }
    }

    /// The conditions under which a stale answer in the cache is confirmed.
    fn validators(&self, states: &States, put: &mut impl FnMut(&[u8], &[u8])) {
        let mut value = Vec::new();
        let names = [&b"HTTP_IF_MODIFIED_SINCE"[..], b"HTTP_IF_NONE_MATCH"];
        for (n, name) in names.into_iter().enumerate() {
            value.clear();
            let known = match n {
                0 => states.append_cached_modified(&mut value),
                _ => states.append_cached_etag(&mut value),
            };
            if known && !self.list.iter().any(|param| *param.name == *name) {
                put(name, &value);
            }
        }
    }

    /// The client's fields. What is asked for the cache is asked for whole, and not under the client's conditions.
    fn fields(&self, r: &Request, cache: bool, mut put: impl FnMut(&[u8], &[u8])) {
        let head = r.head.borrow();
        let block = r.block.borrow();
        let mut seen: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for field in &head.fields {
            if field.known == Known::Host || (cache && is_condition(field.known)) {
                continue;
            }
            let name = field_name(field.name.of(&block));
            if self.replaced.iter().any(|replaced| **replaced == *name) {
                continue;
            }
            let value = field.value.of(&block);
            // Fields of one name become one parameter.
            match seen.iter_mut().find(|(known, _)| *known == name) {
                Some((_, together)) => {
                    together.extend_from_slice(if name == b"cookie" { b"; " } else { b", " });
                    together.extend_from_slice(value);
                }
                None => seen.push((name, value.to_vec())),
            }
        }
        for (name, value) in seen {
            put(&[b"HTTP_", &*parameter_name(&name)].concat(), &value);
        }
    }
}

/// Whether a field makes the answer depend on what the client has.
fn is_condition(known: Known) -> bool {
    matches!(
        known,
        Known::IfModifiedSince
            | Known::IfUnmodifiedSince
            | Known::IfNoneMatch
            | Known::IfMatch
            | Known::Range
            | Known::IfRange
    )
}

/// A field's name in lower case; dashes and underscores are the same to programs behind.
fn field_name(name: &[u8]) -> Vec<u8> {
    name.iter().map(|byte| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }).collect()
}

fn parameter_name(name: &[u8]) -> Vec<u8> {
    name.iter().map(|byte| if *byte == b'-' { b'_' } else { byte.to_ascii_uppercase() }).collect()
}

/// The host that was asked for, with the port if one was named.
fn host(r: &Request) -> Vec<u8> {
    let mut host = r.host.borrow().clone();
    if host.is_empty() {
        host.extend_from_slice(&r.srv().name);
    }
    if r.port.get() != 0 {
        host.push(b':');
        host.extend_from_slice(r.port.get().to_string().as_bytes());
    }
    host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_fields_and_parameters() {
        assert_eq!(field_name(b"X_Some-Field"), b"x-some-field");
        assert_eq!(parameter_name(b"x-some-field"), b"X_SOME_FIELD");
    }
}
