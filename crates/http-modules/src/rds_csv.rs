//! `rds_csv`: answers of databases as tables of text. RFC 4180.
//! <https://github.com/openresty/rds-csv-nginx-module>

use crate::{
    rds_json::is_stream,
    rds_text::{Conversion, convert},
};
use moonrest_http::{module::Set, prelude::*};
use moonrest_proto::rds::{Column, Decoder, Event, Head, Rough};

/// The module.
pub struct RdsCsv;
type D = Directive<RdsCsv>;

const PLACES: Contexts = Contexts::HSL.or(Contexts::IF);

impl HttpModule for RdsCsv {
    const NAME: &'static str = "ngx_http_rds_csv_filter_module";
    const DIRECTIVES: &'static [D] = &[
        D::flag("rds_csv", |loc| &mut loc.enabled).within(PLACES),
        D::flag("rds_csv_field_name_header", |loc| &mut loc.names).within(PLACES),
        D::loc("rds_csv_row_terminator", Arity::exactly(1), |loc, args| {
            if loc.terminator.is_some() {
                return Err(Fault::DUPLICATE);
            }
            loc.terminator = Some(match args.bytes(0)? {
                b"" => return Err(Fault::directive("takes empty string value")),
                b"\n" => "\n",
                b"\r\n" => "\r\n",
                _ => return Err(Fault::directive("takes a value other than \"\\n\" and \"\\r\\n\"")),
            });
            Ok(())
        })
        .within(PLACES),
        D::loc("rds_csv_field_separator", Arity::exactly(1), |loc, args| {
            if loc.separator.is_some() {
                return Err(Fault::DUPLICATE);
            }
            loc.separator = Some(match args.bytes(0)? {
                [separator @ (b',' | b';' | b'\t')] => *separator,
                [_] => return Err(Fault::directive("takes a value other than \",\", \";\", and \"\\t\"")),
                _ => return Err(Fault::directive("takes a string value not of length 1")),
            });
            Ok(())
        })
        .within(PLACES),
        D::new(
            "rds_csv_content_type",
            PLACES,
            Arity::exactly(1),
            Set::Text(|loc: &mut Loc| &mut loc.content_type),
        ),
        D::size("rds_csv_buffer_size", |loc| &mut loc.buffer_size).within(PLACES),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach((): &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if loc.enabled != Some(true) {
            return Ok(());
        }
        let names = loc.names.unwrap_or(true);
        let content_type = match loc.content_type.as_deref() {
            None | Some(b"text/csv") => {
                let header = if names { "presence" } else { "absence" };
                Bytes::from(format!("text/csv; header={header}"))
            }
            Some(given) => Bytes::copy_from_slice(given),
        };
        let room = usize::try_from(loc.buffer_size.unwrap_or(4096)).unwrap_or(usize::MAX);
        let style = Style {
            names,
            terminator: loc.terminator.unwrap_or("\r\n"),
            separator: loc.separator.unwrap_or(b','),
            content_type,
            room,
        };
        to.header_filter(HeaderOrder::RdsCsv, Filter { style });
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    enabled: Option<bool>,
    names: Option<bool>,
    terminator: Option<&'static str>,
    separator: Option<u8>,
    content_type: Option<Box<[u8]>>,
    buffer_size: Option<u64>,
}
inherit!(Loc { enabled, names, terminator, separator, content_type, buffer_size });

/// What the table looks like.
#[derive(Clone)]
struct Style {
    /// The first row has the columns' names.
    names: bool,
    terminator: &'static str,
    separator: u8,
    content_type: Bytes,
    room: usize,
}

impl Style {
    fn end_row(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.terminator.as_bytes());
    }

    /// Appends a text, in quotes where it needs them.
    fn append_text(&self, text: &[u8], out: &mut Vec<u8>) {
        if text.iter().any(|byte| matches!(byte, b'"' | b'\r' | b'\n') || *byte == self.separator) {
            out.push(b'"');
            append_escaped(text, out);
            out.push(b'"');
        } else {
            out.extend_from_slice(text);
        }
    }

    /// An answer without columns.
    fn append_head(&self, head: &Head, out: &mut Vec<u8>) {
        let separator = char::from(self.separator);
        if self.names {
            let names = ["errcode", "errstr", "insert_id", "affected_rows"];
            out.extend_from_slice(names.join(&separator.to_string()).as_bytes());
            self.end_row(out);
        }
        out.extend_from_slice(format!("{}{separator}", head.code).as_bytes());
        self.append_text(&head.message, out);
        let counts = format!("{separator}{}{separator}{}", head.insert_id, head.affected_rows);
        out.extend_from_slice(counts.as_bytes());
        self.end_row(out);
    }
}

fn append_escaped(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
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
            quoted: false,
            text: Vec::new(),
        };
        Ok(FilterStep::Now(Some((BodyOrder::RdsCsv, Box::new(body)))))
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
    /// The present value comes in pieces, between quotes.
    quoted: bool,
    /// What was made and not put out.
    text: Vec<u8>,
}

impl Body {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Head(head) if head.columns == 0 => self.style.append_head(&head, &mut self.text),
            Event::Head(head) => self.count = head.columns,
            Event::Column(column) => {
                self.columns.push(column);
                if self.columns.len() == usize::from(self.count) && self.style.names {
                    self.append_names();
                }
            }
            Event::Row => self.at = 0,
            Event::Value(len) => {
                if self.at > 0 {
                    self.text.push(self.style.separator);
                }
                self.quoted = false;
                if len.unwrap_or(0) == 0 {
                    self.value_over();
                }
            }
            Event::Data { bytes, last } => self.data(bytes, last),
            Event::End => {}
        }
    }

    fn append_names(&mut self) {
        for (n, column) in self.columns.iter().enumerate() {
            if n > 0 {
                self.text.push(self.style.separator);
            }
            self.style.append_text(&column.name, &mut self.text);
        }
        self.style.end_row(&mut self.text);
    }

    fn data(&mut self, bytes: &[u8], last: bool) {
        let is_text = self.columns.get(self.at).is_some_and(|column| column.rough() == Rough::Text);
        match (is_text, last, self.quoted) {
            (false, ..) => self.text.extend_from_slice(bytes),
            (true, true, false) => self.style.append_text(bytes, &mut self.text),
            (true, last, quoted) => {
                // What is still to come may need quotes.
                if !quoted {
                    self.text.push(b'"');
                }
                self.quoted = true;
                append_escaped(bytes, &mut self.text);
                if last {
                    self.text.push(b'"');
                }
            }
        }
        if last {
            self.value_over();
        }
    }

    fn value_over(&mut self) {
        self.at += 1;
        if self.at == self.columns.len() {
            self.style.end_row(&mut self.text);
        }
    }
}

impl Conversion for Body {
    const NAME: &'static str = "rds_csv";

    fn decoder(&mut self) -> &mut Decoder {
        &mut self.decoder
    }

    fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    fn room(&self) -> usize {
        self.style.room
    }

    fn event(&mut self, _: &Request, event: Event<'_>) -> Result<(), String> {
        self.take(event);
        Ok(())
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
    fn texts_are_quoted_where_they_must_be() {
        let style =
            Style { names: true, terminator: "\n", separator: b';', content_type: Bytes::new(), room: 1 };
        for (text, expect) in
            [("a", "a"), ("a,b", "a,b"), ("a;b", "\"a;b\""), ("a\"b", "\"a\"\"b\""), ("\n", "\"\n\"")]
        {
            let mut out = Vec::new();
            style.append_text(text.as_bytes(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expect);
        }
        let mut out = Vec::new();
        style.append_head(&Head { code: 3, message: b"no".to_vec(), ..Head::default() }, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), "errcode;errstr;insert_id;affected_rows\n3;no;0;0\n");
    }
}
