//! `ssi`: server-side includes.
//! <https://nginx.org/en/docs/http/ngx_http_ssi_module.html>

mod page;
mod parser;
mod state;

use self::page::Page;
use crate::compression::html_only;
use moonrest_http::{
    prelude::*,
    types::{MediaTypes, set_types},
};
use moonrest_sys::time;
use std::{cell::RefCell, io::Write};

/// The module.
pub struct Ssi;

type D = Directive<Ssi>;

impl HttpModule for Ssi {
    const NAME: &'static str = "ngx_http_ssi_module";
    const DIRECTIVES: &'static [D] = &[
        D::flag("ssi", |loc| &mut loc.enable).also(Contexts::IF),
        D::flag("ssi_silent_errors", |loc| &mut loc.silent_errors),
        // Of no effect here: buffers are not recycled, and included files are sent as they are.
        D::flag("ssi_ignore_recycled_buffers", |loc| &mut loc.ignore_recycled_buffers),
        D::size("ssi_min_file_chunk", |loc| &mut loc.min_file_chunk),
        D::size("ssi_value_length", |loc| &mut loc.value_length),
        D::loc("ssi_types", Arity::at_least(1), |loc, args| set_types(&mut loc.types, args, &["text/html"])),
        D::flag("ssi_last_modified", |loc| &mut loc.last_modified),
    ];
    const VARIABLES: &'static [VarDef<Request>] = &[
        VarDef::get("date_local", |r, out| date(r, false, out)),
        VarDef::get("date_gmt", |r, out| date(r, true, out)),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach((): &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if loc.enable != Some(true) {
            return Ok(());
        }
        let settings = Settings {
            silent_errors: loc.silent_errors.unwrap_or(false),
            value_length: usize::try_from(loc.value_length.unwrap_or(255)).unwrap_or(255),
        };
        to.header_filter(
            HeaderOrder::Ssi,
            Filter {
                settings: Arc::new(settings),
                types: loc.types.clone().unwrap_or_else(html_only),
                last_modified: loc.last_modified.unwrap_or(false),
            },
        );
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    enable: Option<bool>,
    silent_errors: Option<bool>,
    ignore_recycled_buffers: Option<bool>,
    min_file_chunk: Option<u64>,
    value_length: Option<u64>,
    types: Option<Arc<MediaTypes>>,
    last_modified: Option<bool>,
}

inherit!(Loc {
    enable,
    silent_errors,
    ignore_recycled_buffers,
    min_file_chunk,
    value_length,
    types,
    last_modified,
});

/// What a page must know.
struct Settings {
    silent_errors: bool,
    value_length: usize,
}

struct Filter {
    settings: Arc<Settings>,
    types: Arc<MediaTypes>,
    last_modified: bool,
}

impl HeaderFilter for Filter {
    fn filter(&self, r: &RequestRef) -> Result<FilterStep<Needed>, RequestError> {
        {
            let out = r.out();
            if out.content_length == Some(0) || !self.types.contains(out.media_type()) {
                return Ok(FilterStep::Now(None));
            }
        }
        if !r.is_subrequest() {
            let mut out = r.out_mut();
            out.clear_content_length();
            out.clear_accept_ranges();
            if self.last_modified {
                out.weaken_etag();
            } else {
                out.clear_last_modified();
                out.clear_etag();
            }
        }
        let page = Page::new(self.settings.clone(), r);
        Ok(FilterStep::Now(Some((BodyOrder::Ssi, Box::new(page)))))
    }
}

/// The format that `config timefmt` set for a page.
#[derive(Default)]
struct DateFormat(RefCell<Option<Vec<u8>>>);

fn date(r: &Request, utc: bool, out: &mut Vec<u8>) -> bool {
    let format = r.find_ctx::<DateFormat>().and_then(|format| format.0.borrow().clone());
    let format = format.as_deref().unwrap_or(b"%A, %d-%b-%Y %H:%M:%S %Z");
    let now = r.worker.now();
    if format == b"%s" {
        return write!(out, "{now}").is_ok();
    }
    let Some(text) = time::format(format, now, utc) else { return false };
    out.extend_from_slice(&text);
    true
}
