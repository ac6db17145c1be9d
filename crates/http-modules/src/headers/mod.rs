//! `expires`, `add_header`, `add_trailer`: fields that the configuration adds to responses.
//! <https://nginx.org/en/docs/http/ngx_http_headers_module.html>

mod expires;

use expires::Expires;
use moonrest_http::{prelude::*, response::checked};
use moonrest_proto::date;

/// Adds fields to responses.
pub struct Headers;

const HSL_IF: Contexts = Contexts::HSL.or(Contexts::IF);
const INHERIT: &[&str] = &["off", "on", "merge"];

impl HttpModule for Headers {
    const NAME: &'static str = "ngx_http_headers_filter_module";
    const DIRECTIVES: &'static [Directive<Self>] = &[
        Directive::loc("expires", Arity::between(1, 2), expires::set).within(HSL_IF),
        Directive::loc("add_header", Arity::between(2, 3), add_header).within(HSL_IF),
        Directive::loc("add_trailer", Arity::between(2, 3), add_trailer).within(HSL_IF),
        Directive::new(
            "add_header_inherit",
            HSL_IF,
            Arity::exactly(1),
            Set::Enum(INHERIT, |loc: &mut Loc| &mut loc.headers_inherit),
        ),
        Directive::new(
            "add_trailer_inherit",
            HSL_IF,
            Arity::exactly(1),
            Set::Enum(INHERIT, |loc: &mut Loc| &mut loc.trailers_inherit),
        ),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach(_main: &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        let expires = loc.expires.as_ref().is_some_and(|expires| !expires.is_off());
        if expires || loc.headers.is_some() || loc.trailers.is_some() {
            to.header_filter(HeaderOrder::Headers, Filter { loc: loc.clone() });
        }
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    expires: Option<Expires>,
    headers: Option<Vec<Added>>,
    trailers: Option<Vec<Added>>,
    headers_inherit: Option<usize>,
    trailers_inherit: Option<usize>,
}

impl Inherit for Loc {
    fn inherit(&mut self, outer: &Self) {
        if self.expires.is_none() {
            self.expires.clone_from(&outer.expires);
        }
        inherit_list(&mut self.headers, &outer.headers, &mut self.headers_inherit, outer.headers_inherit);
        inherit_list(&mut self.trailers, &outer.trailers, &mut self.trailers_inherit, outer.trailers_inherit);
    }
}

fn inherit_list(
    own: &mut Option<Vec<Added>>,
    outer: &Option<Vec<Added>>,
    mode: &mut Option<usize>,
    outer_mode: Option<usize>,
) {
    *mode = mode.or(outer_mode);
    let (Some(outer), mode) = (outer, mode.and_then(|mode| INHERIT.get(mode)).unwrap_or(&"on")) else {
        return;
    };
    match (own, *mode) {
        (_, "off") => {}
        (Some(own), "merge") => own.extend_from_slice(outer),
        (Some(_), _) => {}
        (own, _) => *own = Some(outer.clone()),
    }
}

/// One `add_header` or `add_trailer` line.
#[derive(Clone, Debug)]
struct Added {
    name: Bytes,
    value: Template,
    /// The value, when it has no variables.
    fixed: Option<Bytes>,
    kind: Kind,
    always: bool,
}

/// Fields that are more to the server than text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Plain,
    /// Takes the place of the response's own, also with an empty value.
    LastModified,
    Etag,
}

fn add_header(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    let name = args.bytes(0)?;
    let kind = if name.eq_ignore_ascii_case(b"last-modified") {
        Kind::LastModified
    } else if name.eq_ignore_ascii_case(b"etag") {
        Kind::Etag
    } else {
        Kind::Plain
    };
    loc.headers.get_or_insert_default().push(added(args, kind)?);
    Ok(())
}

fn add_trailer(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    loc.trailers.get_or_insert_default().push(added(args, Kind::Plain)?);
    Ok(())
}

fn added(args: &Args<'_>, kind: Kind) -> ConfResult<Added> {
    let value = args.template(1)?;
    let always = match args.len() {
        2 => false,
        _ if args.bytes(2)? == b"always" => true,
        _ => return Err(args.invalid_parameter(2)),
    };
    let fixed = value.as_static().map(|text| checked(text.to_vec()));
    Ok(Added { name: checked(args.bytes(0)?.to_vec()), value, fixed, kind, always })
}

impl Added {
    fn eval(&self, r: &Request) -> Bytes {
        match &self.fixed {
            Some(value) => value.clone(),
            None => checked(self.value.eval(r).into_owned()),
        }
    }
}

/// Statuses whose responses get fields that are not for `always`.
fn is_safe(status: u16) -> bool {
    matches!(status, 200 | 201 | 204 | 206 | 301 | 302 | 303 | 304 | 307 | 308)
}

struct Filter {
    loc: Arc<Loc>,
}

impl HeaderFilter for Filter {
    fn filter(&self, r: &RequestRef) -> Result<FilterStep<Needed>, RequestError> {
        if r.is_subrequest() {
            return Ok(FilterStep::Now(None));
        }
        let safe = is_safe(r.out().status);
        if let (Some(expires), true) = (&self.loc.expires, safe) {
            expires.apply(r);
        }
        for added in self.loc.headers.iter().flatten().filter(|added| safe || added.always) {
            let value = added.eval(r);
            add(r, added, value);
        }
        let trailers = self.loc.trailers.iter().flatten().any(|added| safe || added.always);
        if !trailers {
            return Ok(FilterStep::Now(None));
        }
        r.out_mut().expect_trailers = true;
        Ok(FilterStep::Now(Some((BodyOrder::Trailers, Box::new(Trailers { loc: self.loc.clone() })))))
    }
}

fn add(r: &Request, added: &Added, value: Bytes) {
    let mut out = r.out_mut();
    match added.kind {
        Kind::Plain if value.is_empty() => {}
        Kind::Plain => out.add(added.name.clone(), value),
        Kind::Etag => out.etag = (!value.is_empty()).then_some(value),
        Kind::LastModified => {
            out.remove(b"Last-Modified");
            out.last_modified = date::parse_http(&value);
            // Another form of date, or no date at all, is sent as it is written.
            if !value.is_empty() && out.last_modified.is_none_or(|time| date::http(time) != *value) {
                out.last_modified = None;
                out.add(added.name.clone(), value);
            }
        }
    }
}

/// Adds trailers when the body is complete: their variables may tell of it.
struct Trailers {
    loc: Arc<Loc>,
}

impl BodyFilter for Trailers {
    fn filter(
        &mut self,
        r: &RequestRef,
        piece: Piece,
        out: &mut Pieces,
    ) -> Result<FilterStep<()>, RequestError> {
        if matches!(piece, Piece::Last) {
            let safe = is_safe(r.out().status);
            for added in self.loc.trailers.iter().flatten().filter(|added| safe || added.always) {
                let value = added.eval(r);
                if !value.is_empty() {
                    let field = moonrest_http::response::FieldOut { name: added.name.clone(), value };
                    r.out_mut().trailers.push(field);
                }
            }
        }
        out.push(piece);
        Ok(FilterStep::Now(()))
    }

    fn needs_memory(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&'static str]) -> Option<Vec<Added>> {
        let added = |name: &&'static str| Added {
            name: Bytes::from_static(name.as_bytes()),
            value: Template::default(),
            fixed: None,
            kind: Kind::Plain,
            always: false,
        };
        (!names.is_empty()).then(|| names.iter().map(added).collect())
    }

    fn check(own: &[&'static str], mode: Option<usize>, outer: &[&'static str], expect: &str) {
        let outer = Loc { headers: list(outer), ..Loc::default() };
        let mut inner = Loc { headers: list(own), headers_inherit: mode, ..Loc::default() };
        inner.inherit(&outer);
        let names: Vec<_> =
            inner.headers.iter().flatten().map(|added| String::from_utf8_lossy(&added.name)).collect();
        assert_eq!(names.join(" "), expect);
    }

    #[test]
    fn lists_are_inherited_replaced_or_merged() {
        check(&[], None, &["a"], "a");
        check(&["b"], None, &["a"], "b");
        check(&["b"], Some(1), &["a"], "b");
        check(&[], Some(0), &["a"], "");
        check(&["b"], Some(2), &["a"], "b a");
        check(&[], Some(2), &["a"], "a");
    }

    #[test]
    fn the_way_of_inheriting_is_inherited() {
        let outer = Loc { headers: list(&["a"]), headers_inherit: Some(2), ..Loc::default() };
        let mut inner = Loc { headers: list(&["b"]), ..Loc::default() };
        inner.inherit(&outer);
        assert_eq!(inner.headers.map(|list| list.len()), Some(2));
    }
}
