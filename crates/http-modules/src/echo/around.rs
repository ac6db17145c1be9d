//! `echo_before_body` and `echo_after_body`: text around what another handler answers.

use super::command::Text;
use moonrest_http::prelude::*;

/// Adds the texts of one location.
pub(super) struct Filter(Arc<Texts>);

struct Texts {
    before: Vec<Text>,
    after: Vec<Text>,
}

impl Filter {
    pub(super) fn new(before: Vec<Text>, after: Vec<Text>) -> Self {
        Self(Arc::new(Texts { before, after }))
    }
}

impl HeaderFilter for Filter {
    fn filter(&self, r: &RequestRef) -> Result<FilterStep<Needed>, RequestError> {
        let mut out = r.out_mut();
        out.clear_content_length();
        out.clear_accept_ranges();
        let body = Around { texts: self.0.clone(), begun: false };
        Ok(FilterStep::Now(Some((BodyOrder::Echo, Box::new(body)))))
    }
}

struct Around {
    texts: Arc<Texts>,
    begun: bool,
}

impl BodyFilter for Around {
    fn filter(
        &mut self,
        r: &RequestRef,
        piece: Piece,
        out: &mut Pieces,
    ) -> Result<FilterStep<()>, RequestError> {
        if !std::mem::replace(&mut self.begun, true) {
            put(r, &self.texts.before, out);
        }
        if matches!(piece, Piece::Last) {
            put(r, &self.texts.after, out);
        }
        out.push(piece);
        Ok(FilterStep::Now(()))
    }

    fn release(&mut self, r: &RequestRef, out: &mut Pieces) -> Result<(), RequestError> {
        if !std::mem::replace(&mut self.begun, true) {
            put(r, &self.texts.before, out);
        }
        Ok(())
    }

    fn needs_memory(&self) -> bool {
        false
    }
}

fn put(r: &Request, texts: &[Text], out: &mut Pieces) {
    let mut text = Vec::new();
    texts.iter().for_each(|line| line.append(r, &mut text));
    if !text.is_empty() {
        out.push(Piece::Data(text.into()));
    }
}
