//! `more_set_headers` and its kin: response and request fields set, replaced and removed, whatever made them.
//! <https://github.com/openresty/headers-more-nginx-module>

use moonrest_http::{module::Set, prelude::*, response::checked};
use moonrest_proto::http1::Version;

/// The module.
pub struct HeadersMore;

type D = Directive<HeadersMore>;

const WHERE: Contexts = Contexts::HSL.or(Contexts::IF);

impl HttpModule for HeadersMore {
    const NAME: &'static str = "ngx_http_headers_more_filter_module";
    const DIRECTIVES: &'static [D] = &[
        D::new(
            "more_set_headers",
            WHERE,
            Arity::at_least(1),
            Set::Loc(|loc: &mut Loc, args| {
                loc.output.get_or_insert_default().push(parse(args, Side::Response, false)?);
                Ok(())
            }),
        ),
        D::new(
            "more_clear_headers",
            WHERE,
            Arity::at_least(1),
            Set::Loc(|loc: &mut Loc, args| {
                loc.output.get_or_insert_default().push(parse(args, Side::Response, true)?);
                Ok(())
            }),
        ),
        D::new(
            "more_set_input_headers",
            WHERE,
            Arity::at_least(1),
            Set::Loc(|loc: &mut Loc, args| {
                loc.input.get_or_insert_default().push(parse(args, Side::Request, false)?);
                Ok(())
            }),
        ),
        D::new(
            "more_clear_input_headers",
            WHERE,
            Arity::at_least(1),
            Set::Loc(|loc: &mut Loc, args| {
                loc.input.get_or_insert_default().push(parse(args, Side::Request, true)?);
                Ok(())
            }),
        ),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach(_main: &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if let Some(edits) = &loc.output {
            to.header_filter(HeaderOrder::HeadersMore, Output(edits.clone().into()));
        }
        if let Some(edits) = &loc.input {
            to.on(Phase::Rewrite, Input(edits.clone().into()));
        }
        Ok(())
    }
}

/// What one block says; what outer blocks say comes first.
#[derive(Clone, Default)]
pub struct Loc {
    output: Option<Vec<Edit>>,
    input: Option<Vec<Edit>>,
}

impl Inherit for Loc {
    fn inherit(&mut self, outer: &Self) {
        join(&mut self.output, &outer.output);
        join(&mut self.input, &outer.input);
    }
}

fn join(own: &mut Option<Vec<Edit>>, outer: &Option<Vec<Edit>>) {
    if let Some(outer) = outer {
        let mut all = outer.clone();
        all.extend(own.take().unwrap_or_default());
        *own = Some(all);
    }
}

/// One directive: fields, and when they are edited.
#[derive(Clone, Debug)]
struct Edit {
    fields: Vec<Field>,
    /// Media types; none for all.
    types: Vec<Box<[u8]>>,
    /// Statuses; none for all.
    statuses: Vec<u16>,
    /// `-a`: beside what is there.
    append: bool,
    /// `-r`: only what is there.
    replace: bool,
}

#[derive(Clone, Debug)]
struct Field {
    name: Box<[u8]>,
    /// None, or empty when evaluated: the field is removed.
    value: Option<Template>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Response,
    Request,
}

fn parse(args: &Args<'_>, side: Side, clear: bool) -> ConfResult<Edit> {
    let mut edit =
        Edit { fields: Vec::new(), types: Vec::new(), statuses: Vec::new(), append: false, replace: false };
    let name = args.name();
    let mut n = 0;
    while n < args.len() {
        let word = args.bytes(n)?;
        n += 1;
        let option = match word {
            b"-t" => b't',
            b"-s" if side == Side::Response => b's',
            b"-a" if side == Side::Response && !clear => {
                edit.append = true;
                continue;
            }
            b"-r" if side == Side::Request && !clear => {
                edit.replace = true;
                continue;
            }
            [b'-', ..] => {
                return Err(Fault::message(format!(
                    "{name}: invalid option name: \"{}\"",
                    args.lossy(n - 1)
                )));
            }
            _ => {
                edit.fields.push(field(args, n - 1, clear)?);
                continue;
            }
        };
        let missing = || Fault::message(format!("{name}: option -{} takes an argument.", char::from(option)));
        let list = args.words().get(n).ok_or_else(missing)?;
        n += 1;
        // Parameters of a type are types that no response has: what stands before them counts.
        let is_between = |byte: &u8| match byte {
            b',' | b' ' | b'\t' => true,
            byte => option == b't' && *byte == b';',
        };
        for item in list.text.split(is_between).filter(|item| !item.is_empty()) {
            if option == b't' {
                edit.types.push(item.to_ascii_lowercase().into());
                continue;
            }
            let status = std::str::from_utf8(item).ok().and_then(|text| text.parse().ok());
            edit.statuses.push(status.ok_or_else(|| {
                Fault::message(format!(
                    "{name}: invalid digit found in status code: \"{}\"",
                    String::from_utf8_lossy(item)
                ))
            })?);
        }
    }
    if edit.append && edit.fields.iter().any(|field| is_single(&field.name)) {
        return Err(Fault::message(format!(
            "{name}: can not append builtin headers \"{}\"",
            edit.fields
                .iter()
                .find(|field| is_single(&field.name))
                .map_or_else(String::new, |field| { String::from_utf8_lossy(&field.name).into_owned() })
        )));
    }
    Ok(edit)
}

/// Fields that a response has at most once.
fn is_single(name: &[u8]) -> bool {
    const SINGLE: [&[u8]; 12] = [
        b"server",
        b"date",
        b"content-encoding",
        b"location",
        b"refresh",
        b"last-modified",
        b"content-range",
        b"accept-ranges",
        b"www-authenticate",
        b"expires",
        b"e-tag",
        b"content-length",
    ];
    SINGLE.iter().any(|single| single.eq_ignore_ascii_case(name))
        || name.eq_ignore_ascii_case(b"etag")
        || name.eq_ignore_ascii_case(b"content-type")
}

fn field(args: &Args<'_>, n: usize, clear: bool) -> ConfResult<Field> {
    let word = args.word(n)?;
    let text = &word.text;
    let (name, value) = match memchr::memchr(b':', text) {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default()),
        None => (&**text, &[][..]),
    };
    let name = name.trim_ascii();
    if name.is_empty() {
        return Err(args.invalid_parameter(n));
    }
    let value = value.trim_ascii();
    let value = if clear || value.is_empty() {
        None
    } else {
        Some(Template::parse(value, |name| args.vars.reference(name, Some(word.span)))?)
    };
    Ok(Field { name: name.into(), value })
}

impl Edit {
    fn applies_to(&self, status: u16, media_type: &[u8]) -> bool {
        let of_type = |wanted: &[u8]| wanted.eq_ignore_ascii_case(media_type);
        (self.statuses.is_empty() || self.statuses.contains(&status))
            && (self.types.is_empty() || self.types.iter().any(|wanted| of_type(wanted)))
    }
}

struct Output(Arc<[Edit]>);

impl HeaderFilter for Output {
    fn filter(&self, r: &RequestRef) -> Result<FilterStep<Needed>, RequestError> {
        for edit in &*self.0 {
            let applies = {
                let out = r.out();
                edit.applies_to(out.status, out.media_type())
            };
            if !applies {
                continue;
            }
            for field in &edit.fields {
                let value = field.value.as_ref().map(|value| checked(value.eval(&**r).into_owned()));
                let value = value.filter(|value| !value.is_empty());
                let mut out = r.out_mut();
                match value {
                    Some(value) if edit.append => out.add(field.name.to_vec(), value),
                    Some(value) => out.put(&field.name, value),
                    None => out.clear_field(&field.name),
                }
            }
        }
        Ok(FilterStep::Now(None))
    }
}

struct Input(Arc<[Edit]>);

impl PhaseHandler for Input {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        if r.version.get() < Version::Http10 || r.head.borrow().line.len == 0 {
            // There are no fields to edit, or the head could not be read.
            return Step::next();
        }
        for edit in &*self.0 {
            let of_type = edit.types.is_empty()
                || r.with_header(b"content-type", |value| {
                    let value = value.unwrap_or_default();
                    let end = memchr::memchr(b';', value).unwrap_or(value.len());
                    edit.applies_to(0, value.get(..end).unwrap_or_default().trim_ascii())
                });
            if !of_type {
                continue;
            }
            for field in &edit.fields {
                if edit.replace && !r.with_header(&field.name, |value| value.is_some()) {
                    continue;
                }
                let value = field.value.as_ref().map(|value| checked(value.eval(&**r).into_owned()));
                match value.filter(|value| !value.is_empty()) {
                    Some(value) => set_input(r, &field.name, &value),
                    None => clear_input(r, &field.name),
                }
            }
        }
        Step::next()
    }
}

/// Sets a request field; `$host` follows `Host`.
fn set_input(r: &Request, name: &[u8], value: &[u8]) {
    r.set_header(name, value);
    if name.eq_ignore_ascii_case(b"host") {
        let end = match value.first() {
            Some(b'[') => memchr::memchr(b']', value).map(|at| at + 1),
            _ => memchr::memchr(b':', value),
        };
        let host = value.get(..end.unwrap_or(value.len())).unwrap_or_default();
        *r.host.borrow_mut() = host.to_ascii_lowercase();
    }
}

/// Removes a request field, or all whose names begin as a name with `*` at its end does.
fn clear_input(r: &Request, name: &[u8]) {
    let Some(prefix) = name.strip_suffix(b"*") else { return r.remove_header(name) };
    let mut names = Vec::new();
    r.for_each_header(|name, _| {
        if name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)) {
            names.push(name.to_vec());
        }
    });
    names.iter().for_each(|name| r.remove_header(name));
}
