//! What `rds_json` and `rds_csv` have in common: a stream of rows comes in, text goes out.

use moonrest_http::prelude::*;
use moonrest_proto::rds::{Decoder, Event};

/// A body of rows on its way to being text.
pub(crate) trait Conversion {
    /// How the error log calls the module.
    const NAME: &'static str;

    /// What takes the stream apart.
    fn decoder(&mut self) -> &mut Decoder;

    /// What was made and not put out.
    fn text(&mut self) -> &mut Vec<u8>;

    /// How much text is collected before it is put out.
    fn room(&self) -> usize;

    /// Makes text of the next part of the stream.
    ///
    /// # Errors
    /// What to log when the answer has to be cut off.
    fn event(&mut self, r: &Request, event: Event<'_>) -> Result<(), String>;
}

/// Takes in a piece of the stream.
pub(crate) fn convert<C: Conversion>(
    to: &mut C,
    r: &Request,
    piece: Piece,
    out: &mut Pieces,
) -> Result<FilterStep<()>, RequestError> {
    match piece {
        Piece::Data(data) => {
            let mut input = &*data;
            let broken = |message: &str| RequestError::Cut(format!("{}: {message}", C::NAME).into());
            while let Some(event) = to.decoder().next(&mut input).map_err(broken)? {
                to.event(r, event).map_err(|message| RequestError::Cut(message.into()))?;
            }
            if to.text().len() >= to.room() || to.decoder().is_over() {
                put_out(to, out);
            }
        }
        piece => {
            if matches!(piece, Piece::Last) && !to.decoder().is_over() {
                return Err(RequestError::Cut(format!("{}: the stream has no end", C::NAME).into()));
            }
            put_out(to, out);
            out.push(piece);
        }
    }
    Ok(FilterStep::Now(()))
}

fn put_out(from: &mut impl Conversion, out: &mut Pieces) {
    let text = from.text();
    if !text.is_empty() {
        out.push(Piece::Data(std::mem::take(text).into()));
    }
}
