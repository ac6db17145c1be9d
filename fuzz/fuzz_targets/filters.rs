//! Bodies through the filters that read them: SSI, replacement, recoding, decompression, ranges. No panic, no endless
//! loop, output in proportion to the input, one well-formed head.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use moonrest_fuzz::Site;
use moonrest_http::{compile::Registry, core::HttpCore, module::Module, prelude::*};
use moonrest_http_modules::{addition, charset, gunzip, gzip, headers, range, rewrite, ssi, sub_filter};
use moonrest_proto::http1::{Parse, ResponseHead};
use std::cell::RefCell;

const CONF: &str = "http { client_header_timeout 2s; keepalive_timeout 2s; lingering_timeout 1s; subrequest_output_buffer_size 64k; charset_map koi8-r utf-8 { C0 D18E; C1 D0B0; C2 D0B1; 80 E282AC; }
    server { listen 127.0.0.1:1; default_type text/html;
        location / { return 200 'included $arg_a'; }
        location = /0 { data; ssi on; ssi_value_length 64; }
        location = /1 { data; sub_filter abc ''; sub_filter aab xyz; sub_filter '<a' '$args'; sub_filter_once off; }
        location = /2 { data; charset utf-8; source_charset koi8-r; override_charset on; }
        location = /3 { data; charset koi8-r; source_charset utf-8; override_charset on; }
        location = /4 { data; gunzip on; }
        location = /5 { data; gunzip on; ssi on; sub_filter a bb; gzip on; gzip_min_length 0; }
    } }";

static MODULES: Registry = &[
    &Module::<HttpCore>::NEW,
    &Module::<Data>::NEW,
    &Module::<rewrite::Rewrite>::NEW,
    &Module::<headers::Headers>::NEW,
    &Module::<gunzip::Gunzip>::NEW,
    &Module::<addition::Addition>::NEW,
    &Module::<sub_filter::Sub>::NEW,
    &Module::<charset::Charset>::NEW,
    &Module::<ssi::Ssi>::NEW,
    &Module::<range::Ranges>::NEW,
    &Module::<gzip::Gzip>::NEW,
];

/// `data`: answers with what is in [`BODY`].
struct Data;

#[derive(Clone, Default)]
struct DataLoc {
    on: Option<bool>,
}

inherit!(DataLoc { on });

impl HttpModule for Data {
    const NAME: &'static str = "data";
    const DIRECTIVES: &'static [Directive<Self>] =
        &[Directive::loc("data", Arity::exactly(0), |loc: &mut DataLoc, _| {
            loc.on = Some(true);
            Ok(())
        })];
    type Main = ();
    type Loc = DataLoc;

    fn attach((): &(), loc: &Arc<DataLoc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if loc.on == Some(true) {
            to.content(Answer);
        }
        Ok(())
    }
}

struct Answer;

thread_local! {
    static BODY: RefCell<Vec<Bytes>> = RefCell::default();
    static SITE: Site = Site::start(CONF, MODULES);
}

impl PhaseHandler for Answer {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        {
            let mut out = r.out_mut();
            out.status = 200;
            out.set_content_type(&b"text/html"[..]);
            if r.uri().ends_with(b"4") || r.uri().ends_with(b"5") {
                out.content_encoding = Some(Bytes::from_static(b"gzip"));
            }
        }
        // A page that includes itself is no news.
        let pieces = if r.is_subrequest() { Vec::new() } else { BODY.with_borrow(Clone::clone) };
        r.respond_pieces(pieces.into_iter().map(Piece::Data).collect::<Vec<_>>())
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&[kind, step], body)) = data.split_first_chunk::<2>() else { return };
    BODY.set(body.chunks(usize::from(step).max(1)).map(Bytes::copy_from_slice).collect());
    let args: String = body.iter().take(8).map(|byte| format!("%{byte:02x}")).collect();
    let coding = if kind >= 128 { "Accept-Encoding: gzip\r\n" } else { "" };
    let request =
        format!("GET /{}?{args} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{coding}\r\n", kind % 6);
    let answer = SITE.with(|site| site.talk(request.as_bytes(), || {}));
    // What cannot be decompressed ends the connection, maybe before its head has left.
    if answer.is_empty() {
        return;
    }
    let mut head = ResponseHead::new();
    assert!(
        matches!(head.parse(&answer), Ok(Parse::Complete { .. })),
        "{:?}",
        String::from_utf8_lossy(&answer)
    );
});
