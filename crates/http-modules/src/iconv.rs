//! `set_iconv`, `iconv_filter`: values and responses in another character encoding.
//! <https://github.com/calio/iconv-nginx-module>

use crate::ndk;
use moonrest_http::{module::Set, prelude::*};
use moonrest_proto::http1::Version;
use moonrest_sys::iconv::{Converter, Stop};

/// The module.
pub struct Iconv;
type D = Directive<Iconv>;

impl HttpModule for Iconv {
    const NAME: &'static str = "ngx_http_iconv_module";
    const DIRECTIVES: &'static [D] = &[
        D::new("set_iconv", Contexts::LOCATION, Arity::exactly(4), Set::Accepted(set_iconv)),
        D::new(
            "iconv_buffer_size",
            Contexts::LOCATION,
            Arity::exactly(1),
            Set::Loc(|loc: &mut Loc, args| {
                let size = args.size(0)?;
                if size <= 1 {
                    return Err(Fault::message("iconv_buffer_size must not less than 2 bytes"));
                }
                set_once(&mut loc.buffer_size, size)
            }),
        ),
        D::new("iconv_filter", Contexts::LOCATION, Arity::exactly(2), Set::Loc(iconv_filter)),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach((): &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if let Some(encodings) = &loc.filter {
            let room = usize::try_from(loc.buffer_size.unwrap_or(4096)).unwrap_or(usize::MAX);
            to.header_filter(HeaderOrder::Iconv, Filter { encodings: encodings.clone(), room });
        }
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    buffer_size: Option<u64>,
    filter: Option<Arc<Encodings>>,
}
inherit!(Loc { buffer_size, filter });

/// From one encoding to another, as the C library calls them.
struct Encodings {
    from: Box<[u8]>,
    to: Box<[u8]>,
}

/// The value of `key=` in argument `n`, whatever the key's case.
fn named<'a>(args: &Args<'a>, n: usize, key: &str) -> ConfResult<&'a [u8]> {
    let text = args.bytes(n)?;
    match text.split_at_checked(key.len()) {
        Some((start, rest)) if start.eq_ignore_ascii_case(key.as_bytes()) => Ok(rest),
        _ => Err(args.invalid_parameter(n)),
    }
}

/// `iconv_filter from=ENCODING to=ENCODING`.
fn iconv_filter(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    let (from, to) = (named(args, 0, "from=")?, named(args, 1, "to=")?);
    if Converter::new(from, to).is_err() {
        let (from, to) = (String::from_utf8_lossy(from), String::from_utf8_lossy(to));
        return Err(Fault::message(format!("conversion from \"{from}\" to \"{to}\" is not supported")));
    }
    loc.filter = Some(Arc::new(Encodings { from: from.into(), to: to.into() }));
    Ok(())
}

/// `set_iconv $variable VALUE from=ENCODING to=ENCODING`.
fn set_iconv(args: &Args<'_>) -> ConfResult {
    let template =
        |n, key| Template::parse(named(args, n, key)?, |name| args.vars.reference(name, Some(args.span())));
    let values = vec![args.template(1)?, template(2, "from=")?, template(3, "to=")?];
    let convert: ndk::Function = Box::new(|r, values, out| {
        let [value, from, to] = values else { return false };
        let Ok(mut converter) = Converter::new(from, to) else { return value.is_empty() };
        convert(r, &mut converter, value, out);
        true
    });
    ndk::assign(args, args.variable_name(0)?, values, convert)
}

/// Converts; a byte that belongs to no character becomes `?`. Gives what is left: a character that has only begun.
fn convert<'a>(r: &Request, converter: &mut Converter, mut text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    loop {
        let (used, stop) = converter.convert(text, out);
        text = text.get(used..).unwrap_or_default();
        match stop {
            Stop::End | Stop::Incomplete => return text,
            Stop::Illegal => {
                moonrest_http::notice!(r, "iconv sees invalid character sequence (EILSEQ)");
                let Some((_, rest)) = text.split_first() else { return text };
                text = rest;
                out.push(b'?');
            }
        }
    }
}

struct Filter {
    encodings: Arc<Encodings>,
    room: usize,
}

impl HeaderFilter for Filter {
    fn filter(&self, r: &RequestRef) -> Result<FilterStep<Needed>, RequestError> {
        if r.version.get() < Version::Http10 {
            moonrest_http::warn!(r, "iconv does not support HTTP < 1.0 yet");
            return Ok(FilterStep::Now(None));
        }
        let Ok(converter) = Converter::new(&self.encodings.from, &self.encodings.to) else {
            return Err(RequestError::internal("convert error from ngx_http_do_iconv"));
        };
        r.out_mut().clear_content_length();
        r.out_mut().clear_accept_ranges();
        let body = Body { converter, rest: Vec::new(), room: self.room };
        Ok(FilterStep::Now(Some((BodyOrder::Iconv, Box::new(body)))))
    }
}

struct Body {
    converter: Converter,
    /// A character that has only begun.
    rest: Vec<u8>,
    /// Bytes that go on together.
    room: usize,
}

impl BodyFilter for Body {
    fn filter(
        &mut self,
        r: &RequestRef,
        piece: Piece,
        out: &mut Pieces,
    ) -> Result<FilterStep<()>, RequestError> {
        if let Piece::Data(data) = piece {
            let mut text = std::mem::take(&mut self.rest);
            text.extend_from_slice(&data);
            let mut converted = Vec::with_capacity(text.len() + 16);
            self.rest = convert(r, &mut self.converter, &text, &mut converted).to_vec();
            let mut converted = Bytes::from(converted);
            while !converted.is_empty() {
                out.push(Piece::Data(converted.split_to(self.room.min(converted.len()))));
            }
        } else {
            out.push(piece);
        }
        Ok(FilterStep::Now(()))
    }
}
