//! `xss_get`: JSON answers become calls of a function that the client names (JSONP).
//! <https://github.com/openresty/xss-nginx-module>

use moonrest_http::{
    module::Set,
    prelude::*,
    types::{MediaTypes, set_types},
};
use moonrest_proto::{
    escape::{Unescape, unescape},
    http1::Method,
    query,
};

/// The module.
pub struct Xss;
type D = Directive<Xss>;

const PLACES: Contexts = Contexts::HSL.or(Contexts::IF);

impl HttpModule for Xss {
    const NAME: &'static str = "ngx_http_xss_filter_module";
    const DIRECTIVES: &'static [D] = &[
        D::flag("xss_get", |loc| &mut loc.get).within(PLACES),
        D::new(
            "xss_callback_arg",
            PLACES,
            Arity::exactly(1),
            Set::Text(|loc: &mut Loc| &mut loc.callback_arg),
        ),
        D::new(
            "xss_input_types",
            PLACES,
            Arity::at_least(1),
            Set::Loc(|loc: &mut Loc, args| set_types(&mut loc.input_types, args, &[INPUT_TYPE])),
        ),
        D::flag("xss_check_status", |loc| &mut loc.check_status).within(PLACES),
        D::flag("xss_override_status", |loc| &mut loc.override_status).within(PLACES),
        // nginx: of several types the first one counts.
        D::new(
            "xss_output_type",
            PLACES,
            Arity::at_least(1),
            Set::Text(|loc: &mut Loc| &mut loc.output_type),
        ),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach((): &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if loc.get != Some(true) {
            return Ok(());
        }
        let types = || Arc::new(MediaTypes::of(&[INPUT_TYPE]));
        to.header_filter(
            HeaderOrder::Xss,
            Filter {
                callback_arg: loc.callback_arg.clone().unwrap_or_default(),
                input_types: loc.input_types.clone().unwrap_or_else(types),
                output_type: loc
                    .output_type
                    .as_deref()
                    .map_or(Bytes::from_static(OUTPUT_TYPE), Bytes::copy_from_slice),
                check_status: loc.check_status.unwrap_or(true),
                override_status: loc.override_status.unwrap_or(true),
            },
        );
        Ok(())
    }
}

const INPUT_TYPE: &str = "application/json";
const OUTPUT_TYPE: &[u8] = b"application/x-javascript";

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    get: Option<bool>,
    callback_arg: Option<Box<[u8]>>,
    input_types: Option<Arc<MediaTypes>>,
    output_type: Option<Box<[u8]>>,
    check_status: Option<bool>,
    override_status: Option<bool>,
}
inherit!(Loc { get, callback_arg, input_types, output_type, check_status, override_status });

struct Filter {
    callback_arg: Box<[u8]>,
    input_types: Arc<MediaTypes>,
    output_type: Bytes,
    check_status: bool,
    override_status: bool,
}

impl HeaderFilter for Filter {
    fn filter(&self, r: &RequestRef) -> Result<FilterStep<Needed>, RequestError> {
        const UNTOUCHED: Result<FilterStep<Needed>, RequestError> = Ok(FilterStep::Now(None));
        let status = r.out().status;
        if r.is_subrequest()
            || r.method.get() != Method::Get
            || self.check_status && !matches!(status, 200 | 201)
        {
            return UNTOUCHED;
        }
        if self.callback_arg.is_empty() {
            moonrest_http::error!(r, "xss: xss_get is enabled but no xss_callback_arg specified");
            return UNTOUCHED;
        }
        if !self.input_types.contains(r.out().media_type()) {
            return UNTOUCHED;
        }
        let mut callback = Vec::new();
        match query::find(&r.args.borrow(), &self.callback_arg) {
            Some(value) => unescape(Unescape::All, value, &mut callback),
            None => return UNTOUCHED,
        };
        if !is_callable(&callback) {
            let callback = String::from_utf8_lossy(&callback);
            moonrest_http::error!(r, "xss: bad callback argument: \"{callback}\"");
            return UNTOUCHED;
        }
        let mut out = r.out_mut();
        out.set_content_type(self.output_type.clone());
        out.clear_content_length();
        out.clear_accept_ranges();
        if self.override_status && status >= 300 {
            out.status = 200;
            out.status_line = None;
        }
        callback.push(b'(');
        Ok(FilterStep::Now(Some((BodyOrder::Xss, Box::new(Call { opening: Some(callback.into()) })))))
    }
}

/// `NAME(.NAME)*`, perhaps with an index behind it: `a.b[1]`.
fn is_callable(text: &[u8]) -> bool {
    let (path, index) = match text.strip_suffix(b"]") {
        None => (text, None),
        Some(rest) => match memchr::memchr(b'[', rest) {
            None => return false,
            Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..)),
        },
    };
    let is_name = |name: &[u8]| match name {
        [first, rest @ ..] => {
            let letter = |byte: &u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'$');
            letter(first) && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        }
        [] => false,
    };
    let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    let is_index = |index: &[u8]| match memchr::memchr(b'.', index) {
        Some(at) => {
            let (whole, rest) = index.split_at(at);
            digits(whole) && rest.len() > 1 && digits(rest.get(1..).unwrap_or_default())
        }
        None => !index.is_empty() && digits(index),
    };
    path.split(|byte| *byte == b'.').all(is_name) && index.is_none_or(is_index)
}

/// Puts the call around the body.
struct Call {
    opening: Option<Bytes>,
}

impl BodyFilter for Call {
    fn filter(
        &mut self,
        _: &RequestRef,
        piece: Piece,
        out: &mut Pieces,
    ) -> Result<FilterStep<()>, RequestError> {
        out.extend(self.opening.take().map(Piece::Data));
        if matches!(piece, Piece::Last) {
            out.push(Piece::Data(Bytes::from_static(b");")));
        }
        out.push(piece);
        Ok(FilterStep::Now(()))
    }

    fn release(&mut self, _: &RequestRef, out: &mut Pieces) -> Result<(), RequestError> {
        out.extend(self.opening.take().map(Piece::Data));
        Ok(())
    }

    fn needs_memory(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_can_be_called() {
        for good in ["foo", "_a1", "$", "a.b.c", "a[0]", "a.b[1.5]", "a[.5]"] {
            assert!(is_callable(good.as_bytes()), "{good}");
        }
        for bad in
            ["", "1a", "a()", "a.", ".a", "a b", "a[", "a[]", "a[x]", "a[1.]", "a[0][1]", "a;b", "a]", "a$"]
        {
            assert!(!is_callable(bad.as_bytes()), "{bad}");
        }
    }
}
