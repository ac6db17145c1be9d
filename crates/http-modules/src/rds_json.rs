//! `rds_json`: answers of databases as JSON.
//! <https://github.com/openresty/rds-json-nginx-module>

use crate::rds_text::{Conversion, convert};
use moonrest_http::{compile::BlockId, module::Set, prelude::*};
use moonrest_proto::rds::{Column, Decoder, Event, Head, MEDIA_TYPE, Rough};

/// The module.
pub struct RdsJson;
type D = Directive<RdsJson>;

/// Where most directives stand.
const PLACES: Contexts = Contexts::HSL.or(Contexts::IF);

impl HttpModule for RdsJson {
    const NAME: &'static str = "ngx_http_rds_json_filter_module";
    const DIRECTIVES: &'static [D] = &[
        D::flag("rds_json", |loc| &mut loc.enabled).within(PLACES),
        D::loc("rds_json_root", Arity::exactly(1), |loc, args| key(&mut loc.root, args)).within(PLACES),
        D::loc("rds_json_success_property", Arity::exactly(1), |loc, args| key(&mut loc.success, args))
            .within(PLACES),
        D::loc("rds_json_user_property", Arity::exactly(2), add_property).within(PLACES),
        D::loc("rds_json_errcode_key", Arity::exactly(1), |loc, args| key(&mut loc.errcode_key, args))
            .within(PLACES),
        D::loc("rds_json_errstr_key", Arity::exactly(1), |loc, args| key(&mut loc.errstr_key, args))
            .within(PLACES),
        D::new(
            "rds_json_format",
            PLACES,
            Arity::exactly(1),
            Set::Enum(&["normal", "compact"], |loc: &mut Loc| &mut loc.format),
        ),
        D::new(
            "rds_json_content_type",
            PLACES,
            Arity::exactly(1),
            Set::Text(|loc: &mut Loc| &mut loc.content_type),
        ),
        D::size("rds_json_buffer_size", |loc| &mut loc.buffer_size).within(PLACES),
        D::loc("rds_json_ret", Arity::at_least(2), set_ret).within(Contexts::LOCATION.or(Contexts::IF)),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach((): &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if let Some(ret) = loc.ret.as_ref().filter(|ret| to.belongs(ret.block)) {
            to.content(Answer { style: loc.style(), code: ret.code.clone(), message: ret.message.clone() });
        }
        if loc.enabled == Some(true) {
            to.header_filter(HeaderOrder::RdsJson, Filter { style: loc.style() });
        }
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    enabled: Option<bool>,
    root: Option<Arc<str>>,
    success: Option<Arc<str>>,
    properties: Option<Vec<(Arc<str>, Template)>>,
    errcode_key: Option<Arc<str>>,
    errstr_key: Option<Arc<str>>,
    format: Option<usize>,
    content_type: Option<Box<[u8]>>,
    buffer_size: Option<u64>,
    ret: Option<Arc<Ret>>,
}
inherit!(Loc {
    enabled,
    root,
    success,
    properties,
    errcode_key,
    errstr_key,
    format,
    content_type,
    buffer_size,
    ret,
});

/// `rds_json_ret`. Locations inside do not inherit it.
struct Ret {
    block: BlockId,
    code: Arc<str>,
    message: Template,
}

/// A key as JSON writes it.
fn key(slot: &mut Option<Arc<str>>, args: &Args<'_>) -> ConfResult {
    if slot.is_some() {
        return Err(Fault::DUPLICATE);
    }
    if args.bytes(0)?.is_empty() {
        return Err(Fault::directive("takes an empty value"));
    }
    *slot = Some(quoted(args.str(0)?));
    Ok(())
}

fn quoted(text: &str) -> Arc<str> {
    let mut out = Vec::new();
    append_string(text.as_bytes(), &mut out);
    String::from_utf8_lossy(&out).into()
}

/// `rds_json_user_property KEY VALUE`.
fn add_property(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    if args.bytes(0)?.is_empty() {
        return Err(Fault::directive("takes an empty key"));
    }
    if args.bytes(1)?.is_empty() {
        return Err(Fault::directive("takes an empty value"));
    }
    let property = (quoted(args.str(0)?), args.template(1)?);
    loc.properties.get_or_insert_default().push(property);
    Ok(())
}

/// `rds_json_ret CODE MESSAGE`.
fn set_ret(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    let code = args.str(0)?;
    if code.is_empty() {
        return Err(Fault::message("rds_json: rds_json_ret: the errcode argument is empty"));
    }
    if !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fault::message(format!("rds_json: rds_json_ret: invalid errcode argument: \"{code}\"")));
    }
    loc.ret = Some(Arc::new(Ret { block: args.block, code: code.into(), message: args.template(1)? }));
    Ok(())
}

/// What the JSON looks like.
#[derive(Clone)]
struct Style {
    /// The rows are a member of this name, beside others.
    root: Option<Arc<str>>,
    success: Option<Arc<str>>,
    properties: Arc<[(Arc<str>, Template)]>,
    errcode_key: Arc<str>,
    errstr_key: Arc<str>,
    compact: bool,
    content_type: Bytes,
    room: usize,
}

impl Loc {
    fn style(&self) -> Style {
        let properties: Arc<[_]> = self.properties.clone().unwrap_or_default().into();
        let has_members = self.success.is_some() || !properties.is_empty();
        let content_type = self.content_type.as_deref().unwrap_or(b"application/json");
        Style {
            root: self.root.clone().or_else(|| has_members.then(|| "\"data\"".into())),
            success: self.success.clone(),
            properties,
            errcode_key: self.errcode_key.clone().unwrap_or_else(|| "\"errcode\"".into()),
            errstr_key: self.errstr_key.clone().unwrap_or_else(|| "\"errstr\"".into()),
            compact: self.format == Some(1),
            content_type: Bytes::copy_from_slice(content_type),
            room: usize::try_from(self.buffer_size.unwrap_or(4096)).unwrap_or(usize::MAX).max(1),
        }
    }
}

impl Style {
    /// Appends the members that the configuration adds, each with a comma behind or before it.
    fn append_members(&self, r: &Request, success: bool, before: bool, out: &mut Vec<u8>) {
        let mut member = |key: &str, value: &mut dyn FnMut(&mut Vec<u8>)| {
            if before {
                out.push(b',');
            }
            out.extend_from_slice(key.as_bytes());
            out.push(b':');
            value(out);
            if !before {
                out.push(b',');
            }
        };
        if let Some(key) = &self.success {
            let value = if success { &b"true"[..] } else { b"false" };
            member(key, &mut |out| out.extend_from_slice(value));
        }
        for (key, value) in &*self.properties {
            let value = value.eval(r);
            member(key, &mut |out| append_string(&value, out));
        }
    }

    /// An answer without columns.
    fn append_head(&self, r: &Request, head: &Head, out: &mut Vec<u8>) {
        out.push(b'{');
        self.append_members(r, head.code == 0, false, out);
        self.append_error(head.code.to_string().as_bytes(), &head.message, out);
        if head.insert_id != 0 {
            out.extend_from_slice(format!(",\"insert_id\":{}", head.insert_id).as_bytes());
        }
        if head.affected_rows != 0 {
            out.extend_from_slice(format!(",\"affected_rows\":{}", head.affected_rows).as_bytes());
        }
        out.push(b'}');
    }

    fn append_error(&self, code: &[u8], message: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(self.errcode_key.as_bytes());
        out.push(b':');
        out.extend_from_slice(code);
        if !message.is_empty() {
            out.push(b',');
            out.extend_from_slice(self.errstr_key.as_bytes());
            out.push(b':');
            append_string(message, out);
        }
    }
}

/// A string of JSON.
fn append_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    append_escaped(text, out);
    out.push(b'"');
}

fn append_escaped(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        let short = match byte {
            b'\r' => b'r',
            b'\n' => b'n',
            b'\t' => b't',
            0x0c => b'f',
            0x08 => b'b',
            b'\\' | b'"' => byte,
            0..0x20 => {
                out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
                continue;
            }
            _ => {
                out.push(byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
}

/// Answers with a code and a message of the configuration's.
struct Answer {
    style: Style,
    code: Arc<str>,
    message: Template,
}

impl PhaseHandler for Answer {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        r.ignore_body()?;
        let mut out = vec![b'{'];
        self.style.append_error(self.code.as_bytes(), &self.message.eval(&**r), &mut out);
        let success = self.code.bytes().all(|digit| digit == b'0');
        self.style.append_members(r, success, true, &mut out);
        out.push(b'}');
        {
            let mut head = r.out_mut();
            head.status = 200;
            head.set_content_type(self.style.content_type.clone());
            // nginx: the length is left open.
            head.clear_content_length();
        }
        r.respond_pieces(vec![Piece::Data(out.into())])
    }
}

/// Whether an answer is a database's.
pub(crate) fn is_stream(r: &Request) -> bool {
    let out = r.out();
    matches!(out.status, 200..=203 | 206..300) && &*out.content_type == MEDIA_TYPE.as_bytes()
}

struct Filter {
    style: Style,
}

impl HeaderFilter for Filter {
    fn filter(&self, r: &RequestRef) -> Result<FilterStep<Needed>, RequestError> {
        if !is_stream(r) {
            return Ok(FilterStep::Now(None));
        }
        let mut out = r.out_mut();
        out.set_content_type(self.style.content_type.clone());
        out.clear_content_length();
        let body = Body {
            style: self.style.clone(),
            decoder: Decoder::default(),
            columns: Vec::new(),
            count: 0,
            at: 0,
            rows: 0,
            text: Vec::new(),
        };
        Ok(FilterStep::Now(Some((BodyOrder::RdsJson, Box::new(body)))))
    }
}

struct Body {
    style: Style,
    decoder: Decoder,
    columns: Vec<Column>,
    /// Columns that were announced.
    count: u16,
    /// The column of the present value.
    at: usize,
    rows: u64,
    /// What was made and not put out.
    text: Vec<u8>,
}

impl Body {
    fn take(&mut self, r: &Request, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::Head(head) if head.columns == 0 => self.style.append_head(r, &head, &mut self.text),
            Event::Head(head) => self.count = head.columns,
            Event::Column(column) => {
                self.columns.push(column);
                if self.columns.len() == usize::from(self.count) {
                    self.begin(r);
                }
            }
            Event::Row => {
                self.at = 0;
                self.rows += 1;
            }
            Event::Value(len) => self.value(len),
            Event::Data { bytes, last } => self.data(bytes, last)?,
            Event::End => {
                self.text.extend_from_slice(if self.style.root.is_some() { b"]}" } else { b"]" });
            }
        }
        Ok(())
    }

    /// What stands before the rows.
    fn begin(&mut self, r: &Request) {
        if let Some(root) = &self.style.root {
            self.text.push(b'{');
            self.style.append_members(r, true, false, &mut self.text);
            self.text.extend_from_slice(root.as_bytes());
            self.text.push(b':');
        }
        self.text.push(b'[');
        if self.style.compact {
            for (n, column) in self.columns.iter().enumerate() {
                self.text.push(if n == 0 { b'[' } else { b',' });
                append_string(&column.name, &mut self.text);
            }
            self.text.push(b']');
        }
    }

    fn value(&mut self, len: Option<u32>) {
        let Some(column) = self.columns.get(self.at) else { return };
        let text = &mut self.text;
        match (self.at, self.style.compact) {
            (0, true) => text.extend_from_slice(b",["),
            (0, false) if self.rows == 1 => text.push(b'{'),
            (0, false) => text.extend_from_slice(b",{"),
            _ => text.push(b','),
        }
        if !self.style.compact {
            append_string(&column.name, text);
            text.push(b':');
        }
        match len {
            None => text.extend_from_slice(b"null"),
            Some(0) => text.extend_from_slice(b"\"\""),
            Some(_) if column.rough() == Rough::Text => return text.push(b'"'),
            Some(_) => return,
        }
        self.value_over();
    }

    fn data(&mut self, bytes: &[u8], last: bool) -> Result<(), String> {
        let Some(column) = self.columns.get(self.at) else { return Ok(()) };
        let shown = || String::from_utf8_lossy(bytes);
        match column.rough() {
            Rough::Text => {
                append_escaped(bytes, &mut self.text);
                if last {
                    self.text.push(b'"');
                }
            }
            Rough::Float => self.text.extend_from_slice(bytes),
            Rough::Int => {
                let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
                if !digits.iter().all(u8::is_ascii_digit) {
                    return Err(format!("rds_json: invalid integral field value: \"{}\"", shown()));
                }
                self.text.extend_from_slice(bytes);
            }
            Rough::Bool => match bytes {
                b"0" | b"f" | b"F" if last => self.text.extend_from_slice(b"false"),
                b"1" | b"t" | b"T" if last => self.text.extend_from_slice(b"true"),
                _ => return Err(format!("rds_json: invalid boolean field value leading by \"{}\"", shown())),
            },
        }
        if last {
            self.value_over();
        }
        Ok(())
    }

    fn value_over(&mut self) {
        self.at += 1;
        if self.at == self.columns.len() {
            self.text.push(if self.style.compact { b']' } else { b'}' });
        }
    }
}

impl Conversion for Body {
    const NAME: &'static str = "rds_json";

    fn decoder(&mut self) -> &mut Decoder {
        &mut self.decoder
    }

    fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    fn room(&self) -> usize {
        self.style.room
    }

    fn event(&mut self, r: &Request, event: Event<'_>) -> Result<(), String> {
        self.take(r, event)
    }
}

impl BodyFilter for Body {
    fn filter(
        &mut self,
        r: &RequestRef,
        piece: Piece,
        out: &mut Pieces,
    ) -> Result<FilterStep<()>, RequestError> {
        convert(self, r, piece, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        let mut out = Vec::new();
        append_string(b"a\"\\\r\n\t\x08\x0c\x01\x7f\xc3\xa9", &mut out);
        assert_eq!(out, b"\"a\\\"\\\\\\r\\n\\t\\b\\f\\u0001\x7f\xc3\xa9\"");
        assert_eq!(&*quoted("a\"b"), "\"a\\\"b\"");
    }
}
