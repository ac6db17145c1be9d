//! `charset`: names the charset of responses and recodes them.
//! <https://nginx.org/en/docs/http/ngx_http_charset_module.html>

mod map;
mod recode;

use self::{
    map::{Charsets, Lookup},
    recode::{Cut, Table},
};
use moonrest_http::{
    compile::Compiler,
    module::Set,
    prelude::*,
    types::{MediaTypes, set_types},
};
use std::borrow::Cow;

/// The module.
pub struct Charset;

type D = Directive<Charset>;

const HSL_IF: Contexts = Contexts::HSL.or(Contexts::IF);

impl HttpModule for Charset {
    const NAME: &'static str = "ngx_http_charset_module";
    const DIRECTIVES: &'static [D] = &[
        D::new("charset", HSL_IF, Arity::exactly(1), Set::Both(charset)),
        D::new("source_charset", HSL_IF, Arity::exactly(1), Set::Both(source_charset)),
        D::flag("override_charset", |loc| &mut loc.override_charset).within(HSL_IF),
        D::loc("charset_types", Arity::at_least(1), |loc, args| {
            set_types(&mut loc.types, args, &["text/html"])
        }),
        D::new("charset_map", Contexts::HTTP, Arity::Block { min: 2, max: 2 }, Set::Main(map::set)),
    ];
    type Main = Main;
    type Loc = Loc;

    fn finish(main: &mut Main, _cx: &Compiler<'_>) -> ConfResult {
        main.shared = Arc::new(std::mem::take(&mut main.charsets));
        Ok(())
    }

    fn attach(main: &Main, loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        // A subrequest follows its main request's charset, whatever its own location says.
        if !main.used {
            return Ok(());
        }
        if let (Some(Choice::Known(to)), Some(Choice::Known(from))) = (&loc.charset, &loc.source_charset)
            && to != from
            && main.shared.table(*from, *to).is_none()
        {
            return Err(Fault::message(format!(
                "no \"charset_map\" between the charsets \"{}\" and \"{}\"",
                String::from_utf8_lossy(main.shared.name(*from)),
                String::from_utf8_lossy(main.shared.name(*to))
            )));
        }
        let types = loc.types.clone().unwrap_or_else(|| Arc::new(MediaTypes::of(&TYPES)));
        to.header_filter(
            HeaderOrder::Charset,
            Filter { charsets: main.shared.clone(), loc: loc.clone(), types },
        );
        Ok(())
    }
}

/// The default of `charset_types`.
const TYPES: [&str; 6] = [
    "text/html",
    "text/xml",
    "text/plain",
    "text/vnd.wap.wml",
    "application/javascript",
    "application/rss+xml",
];

/// Settings of the whole `http` block.
#[derive(Default)]
pub struct Main {
    /// A charset is named somewhere.
    used: bool,
    /// While directives are read.
    charsets: Charsets,
    /// Afterwards.
    shared: Arc<Charsets>,
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    charset: Option<Choice>,
    source_charset: Option<Choice>,
    override_charset: Option<bool>,
    types: Option<Arc<MediaTypes>>,
}

inherit!(Loc { charset, source_charset, override_charset, types });

/// The value of `charset` or `source_charset`.
#[derive(Clone)]
enum Choice {
    Off,
    Known(usize),
    Variable(VarId),
}

fn choice(main: &mut Main, args: &Args<'_>) -> ConfResult<Choice> {
    main.used = true;
    let text = args.bytes(0)?;
    if text.first() == Some(&b'$') {
        let name = args.variable_name(0)?;
        return Ok(Choice::Variable(args.vars.reference(name, Some(args.span()))));
    }
    Ok(Choice::Known(main.charsets.add(text)))
}

fn charset(main: &mut Main, loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    let choice = if args.bytes(0)? == b"off" { Choice::Off } else { choice(main, args)? };
    set_once(&mut loc.charset, choice)
}

fn source_charset(main: &mut Main, loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    set_once(&mut loc.source_charset, choice(main, args)?)
}

struct Filter {
    charsets: Arc<Charsets>,
    loc: Arc<Loc>,
    types: Arc<MediaTypes>,
}

impl Filter {
    /// What the response is to be in; `None` leaves it alone.
    fn destination(&self, r: &Request) -> Option<Lookup> {
        if r.is_subrequest() {
            let name = r.main().out().charset.clone().filter(|name| !name.is_empty())?;
            return Some(self.charsets.lookup(name));
        }
        let out = r.out();
        if out.content_type.is_empty() {
            return None;
        }
        if let Some(name) = out.override_charset.clone().filter(|name| !name.is_empty()) {
            let found = self.charsets.lookup(name);
            if found.index.is_none() {
                let name = String::from_utf8_lossy(&found.name).into_owned();
                moonrest_http::error!(r, "unknown charset \"{name}\" to override");
                return None;
            }
            return Some(found);
        }
        let choice = self.loc.charset.as_ref().filter(|choice| !matches!(choice, Choice::Off))?;
        if own_charset(&out).is_some() {
            if self.loc.override_charset != Some(true) {
                return None;
            }
        } else if !self.types.contains(out.media_type()) {
            return None;
        }
        drop(out);
        self.evaluate(r, choice)
    }

    /// What the response is in; `None` when nothing tells.
    fn source(&self, r: &Request) -> Option<Lookup> {
        let own = own_charset(&r.out());
        match own {
            Some(name) => Some(self.charsets.lookup(name)),
            None => self.evaluate(r, self.loc.source_charset.as_ref()?),
        }
    }

    fn evaluate(&self, r: &Request, choice: &Choice) -> Option<Lookup> {
        match choice {
            Choice::Off => None,
            Choice::Known(index) => Some(self.charsets.known(*index)),
            Choice::Variable(id) => Some(self.charsets.lookup(r.vars().get(r, *id)?.into())),
        }
    }
}

/// The charset that the response itself names.
fn own_charset(out: &moonrest_http::response::HeadersOut) -> Option<Bytes> {
    if let Some(charset) = out.charset.clone().filter(|charset| !charset.is_empty()) {
        return Some(charset);
    }
    let parameters = out.content_type.get(out.content_type_len..)?;
    parameters.split(|b| *b == b';').find_map(|parameter| {
        let parameter = parameter.trim_ascii();
        let (name, value) = parameter.split_at_checked(8)?;
        let value = value.trim_ascii();
        let value =
            value.strip_prefix(b"\"").map_or(value, |value| value.strip_suffix(b"\"").unwrap_or(value));
        (name.eq_ignore_ascii_case(b"charset=") && !value.is_empty()).then(|| Bytes::copy_from_slice(value))
    })
}

/// Names the charset in the head. A redirect gets none: old browsers took it for that of the page that follows.
fn name_charset(r: &Request, name: Bytes) {
    if r.is_subrequest() {
        return;
    }
    let mut out = r.out_mut();
    out.charset = if matches!(out.status, 301 | 302) { None } else { Some(name) };
}

fn drop_parameters(r: &Request) {
    let mut out = r.out_mut();
    let len = out.content_type_len;
    out.content_type.truncate(len);
}

impl HeaderFilter for Filter {
    fn filter(&self, r: &RequestRef) -> Result<FilterStep<Needed>, RequestError> {
        const NONE: Result<FilterStep<Needed>, RequestError> = Ok(FilterStep::Now(None));
        let Some(to) = self.destination(r) else { return NONE };
        let Some(from) = self.source(r) else {
            name_charset(r, to.name);
            return NONE;
        };
        let table = match (from.index, to.index) {
            (Some(from), Some(to)) if from != to => {
                if r.out().content_encoding.as_ref().is_some_and(|coding| !coding.is_empty()) {
                    return NONE;
                }
                self.charsets.table(from, to)
            }
            (Some(_), Some(_)) => {
                drop_parameters(r);
                name_charset(r, to.name);
                return NONE;
            }
            (None, None) if to.name.eq_ignore_ascii_case(&from.name) => {
                name_charset(r, to.name);
                return NONE;
            }
            _ => None,
        };
        let Some(table) = table else {
            moonrest_http::error!(
                r,
                "no \"charset_map\" between the charsets \"{}\" and \"{}\"",
                String::from_utf8_lossy(&from.name),
                String::from_utf8_lossy(&to.name)
            );
            return NONE;
        };
        drop_parameters(r);
        name_charset(r, to.name);
        if table.changes_length() && !r.is_subrequest() {
            r.out_mut().clear_content_length();
        }
        let body = Recoder { table, cut: Cut::default() };
        Ok(FilterStep::Now(Some((BodyOrder::Charset, Box::new(body)))))
    }
}

/// Recodes one response.
struct Recoder {
    table: Arc<Table>,
    cut: Cut,
}

impl BodyFilter for Recoder {
    fn filter(
        &mut self,
        _r: &RequestRef,
        piece: Piece,
        out: &mut Pieces,
    ) -> Result<FilterStep<()>, RequestError> {
        out.push(match piece {
            Piece::Data(data) => match recode::recode(&self.table, &mut self.cut, &data) {
                Cow::Borrowed(_) => Piece::Data(data),
                Cow::Owned(changed) => Piece::Data(changed.into()),
            },
            piece => piece,
        });
        Ok(FilterStep::Now(()))
    }
}
