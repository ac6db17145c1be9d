//! Parameters of a request: those of the configuration, and the client's header fields as `HTTP_*`.

use moonrest_http::{prelude::*, upstream::States};
use moonrest_proto::http1::{Field, Known};

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
    /// Parameters of header fields that those of the configuration take the place of, without `HTTP_`.
    replaced: Vec<Box<[u8]>>,
    has_host: bool,
}

impl Params {
    pub(crate) fn new(list: Option<&Vec<Param>>) -> Self {
        let list = list.cloned().unwrap_or_default();
        let fields = list.iter().filter_map(|param| param.name.strip_prefix(b"HTTP_"));
        let replaced = fields.map(|name| name.iter().map(|byte| parameter_byte(*byte)).collect()).collect();
        let has_host = list.iter().any(|param| *param.name == *b"HTTP_HOST");
        Self { list, replaced, has_host }
    }

    /// Gives every parameter to `put`: the configuration's in their order, then the client's fields.
    pub(crate) fn each(&self, r: &Request, fields: bool, mut put: impl FnMut(&[u8], &[u8])) {
        let mut made = Vec::with_capacity(USUAL);
        for param in &self.list {
            let value = param.value.as_static().unwrap_or_else(|| {
                made.clear();
                param.value.append(r, &mut made);
                &made
            });
            if !param.if_not_empty || !value.is_empty() {
                put(&param.name, value);
            }
        }
        if !self.has_host {
            made.clear();
            append_host(r, &mut made);
            put(b"HTTP_HOST", &made);
        }
        let states = r.find_ctx::<States>().filter(|states| states.is_cacheable());
        if let Some(states) = &states {
            self.validators(states, &mut put);
        }
        if fields {
            self.fields(r, states.is_some(), made, put);
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
    fn fields(&self, r: &Request, cache: bool, mut made: Vec<u8>, mut put: impl FnMut(&[u8], &[u8])) {
        const PREFIX: &[u8] = b"HTTP_";
        let head = r.head.borrow();
        let block = r.block.borrow();
        let counts = |field: &Field| field.known != Known::Host && !(cache && is_condition(field.known));
        let mut together = Vec::new();
        for (index, field) in head.fields.iter().enumerate().filter(|(_, field)| counts(field)) {
            let name = field.name.of(&block);
            made.clear();
            made.extend_from_slice(PREFIX);
            made.extend(name.iter().map(|byte| parameter_byte(*byte)));
            let parameter = made.get(PREFIX.len()..).unwrap_or_default();
            let (before, behind) = head.fields.split_at_checked(index).unwrap_or_default();
            let same = |other: &&Field| counts(other) && is_same(name, other.name.of(&block));
            if self.replaced.iter().any(|replaced| **replaced == *parameter)
                || before.iter().any(|f| same(&f))
            {
                continue;
            }
            let value = field.value.of(&block);
            // Fields of one name become one parameter.
            let mut others = behind.iter().skip(1).filter(same).peekable();
            if others.peek().is_none() {
                put(&made, value);
                continue;
            }
            together.clear();
            together.extend_from_slice(value);
            let separator: &[u8] = if parameter == b"COOKIE" { b"; " } else { b", " };
            for other in others {
                together.extend_from_slice(separator);
                together.extend_from_slice(other.value.of(&block));
            }
            put(&made, &together);
        }
    }
}

/// Bytes that most values do not exceed.
const USUAL: usize = 256;

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

/// A byte of a field's name, as parameters have it.
fn parameter_byte(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte.to_ascii_uppercase() }
}

/// Whether fields become the same parameter.
fn is_same(name: &[u8], other: &[u8]) -> bool {
    name.len() == other.len()
        && name.iter().zip(other).all(|(one, other)| parameter_byte(*one) == parameter_byte(*other))
}

/// Appends the host that was asked for, with the port if one was named.
fn append_host(r: &Request, out: &mut Vec<u8>) {
    let host = r.host.borrow();
    out.extend_from_slice(if host.is_empty() { &r.srv().name } else { &host });
    if r.port.get() != 0 {
        out.push(b':');
        moonrest_http::decimal::append(out, u64::from(r.port.get()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_fields_and_parameters() {
        let name: Vec<u8> = b"X_Some-Field".iter().map(|byte| parameter_byte(*byte)).collect();
        assert_eq!(name, b"X_SOME_FIELD");
        assert!(is_same(b"x-some-field", b"X_Some_Field") && !is_same(b"x-some-field", b"x-other-fiel"));
    }
}
