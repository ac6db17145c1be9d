//! `echo_before_body`, `echo_after_body`: texts around whatever a location answers.

use super::{Loc, Text};
use moonrest_http::prelude::*;

pub(super) struct Filter(pub Arc<Loc>);

impl HeaderFilter for Filter {
    fn filter(&self, r: &RequestRef) -> Result<FilterStep<Needed>, RequestError> {
        let mut out = r.out_mut();
        out.clear_content_length();
        out.clear_accept_ranges();
        let body = Around { loc: self.0.clone(), begun: false };
        Ok(FilterStep::Now(Some((BodyOrder::Echo, Box::new(body)))))
    }
}

struct Around {
    loc: Arc<Loc>,
    begun: bool,
}

impl BodyFilter for Around {
    fn filter(
        &mut self,
        r: &RequestRef,
        piece: Piece,
        out: &mut Pieces,
    ) -> Result<FilterStep<()>, RequestError> {
        if !self.begun {
            self.begun = true;
            add(r, self.loc.before.as_deref(), out);
        }
        if matches!(piece, Piece::Last) {
            add(r, self.loc.after.as_deref(), out);
        }
        out.push(piece);
        Ok(FilterStep::Now(()))
    }

    fn needs_memory(&self) -> bool {
        false
    }
}

fn add(r: &Request, texts: Option<&[Text]>, out: &mut Pieces) {
    for text in texts.unwrap_or_default() {
        out.push(Piece::Data(text.eval(r).into()));
    }
}
