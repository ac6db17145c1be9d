//! `add_before_body`, `add_after_body`: the output of subrequests around a response's body.
//! <https://nginx.org/en/docs/http/ngx_http_addition_module.html>

use crate::compression::html_only;
use moonrest_http::{
    module::Set,
    prelude::*,
    subrequest::{self, Subrequest},
    types::{MediaTypes, set_types},
};

/// The module.
pub struct Addition;

type D = Directive<Addition>;

impl HttpModule for Addition {
    const NAME: &'static str = "ngx_http_addition_module";
    const DIRECTIVES: &'static [D] = &[
        D::new(
            "add_before_body",
            Contexts::HSL,
            Arity::exactly(1),
            Set::Text(|loc: &mut Loc| &mut loc.before),
        ),
        D::new("add_after_body", Contexts::HSL, Arity::exactly(1), Set::Text(|loc: &mut Loc| &mut loc.after)),
        D::loc("addition_types", Arity::at_least(1), |loc, args| {
            set_types(&mut loc.types, args, &["text/html"])
        }),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach((): &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        let wanted = |uri: &Option<Box<[u8]>>| uri.as_ref().is_some_and(|uri| !uri.is_empty());
        if wanted(&loc.before) || wanted(&loc.after) {
            let types = loc.types.clone().unwrap_or_else(html_only);
            to.header_filter(HeaderOrder::Addition, Filter { loc: loc.clone(), types });
        }
        Ok(())
    }
}

/// What one block says. An empty URI takes an outer one away.
#[derive(Clone, Default)]
pub struct Loc {
    before: Option<Box<[u8]>>,
    after: Option<Box<[u8]>>,
    types: Option<Arc<MediaTypes>>,
}

inherit!(Loc { before, after, types });

struct Filter {
    loc: Arc<Loc>,
    types: Arc<MediaTypes>,
}

impl HeaderFilter for Filter {
    fn filter(&self, r: &RequestRef) -> Result<FilterStep<Needed>, RequestError> {
        let mut out = r.out_mut();
        if out.status != 200 || r.is_subrequest() || !self.types.contains(out.media_type()) {
            return Ok(FilterStep::Now(None));
        }
        out.clear_content_length();
        out.clear_accept_ranges();
        out.weaken_etag();
        let body = Around { before: self.loc.before.clone(), after: self.loc.after.clone() };
        Ok(FilterStep::Now(Some((BodyOrder::Addition, Box::new(body)))))
    }
}

/// What is still to be added.
struct Around {
    before: Option<Box<[u8]>>,
    after: Option<Box<[u8]>>,
}

impl BodyFilter for Around {
    fn filter(
        &mut self,
        r: &RequestRef,
        piece: Piece,
        out: &mut Pieces,
    ) -> Result<FilterStep<()>, RequestError> {
        add(r, self.before.take(), out)?;
        if matches!(piece, Piece::Last) {
            add(r, self.after.take(), out)?;
        }
        out.push(piece);
        Ok(FilterStep::Now(()))
    }

    fn needs_memory(&self) -> bool {
        false
    }
}

fn add(r: &RequestRef, uri: Option<Box<[u8]>>, out: &mut Pieces) -> Result<(), RequestError> {
    if let Some(uri) = uri.filter(|uri| !uri.is_empty()) {
        let request = subrequest::inline(r, &uri)?;
        out.push(Piece::Subrequest(Subrequest { request, done: None }));
    }
    Ok(())
}
