//! `gunzip`: unpacks gzip responses for clients that do not accept them.
//! <https://nginx.org/en/docs/http/ngx_http_gunzip_module.html>

use crate::compression::check_buffers;
use flate2::{Decompress, FlushDecompress, Status};
use moonrest_http::{gzip, prelude::*};

/// The module.
pub struct Gunzip;

type D = Directive<Gunzip>;

impl HttpModule for Gunzip {
    const NAME: &'static str = "ngx_http_gunzip_module";
    const DIRECTIVES: &'static [D] = &[
        D::flag("gunzip", |loc| &mut loc.enable),
        D::loc("gunzip_buffers", Arity::exactly(2), |loc, args| check_buffers(&mut loc.buffers, args)),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach((): &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if loc.enable == Some(true) {
            to.header_filter(HeaderOrder::Gunzip, Filter);
        }
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    enable: Option<bool>,
    buffers: Option<(u64, u64)>,
}

inherit!(Loc { enable, buffers });

struct Filter;

impl HeaderFilter for Filter {
    fn filter(&self, r: &RequestRef) -> Result<FilterStep<Needed>, RequestError> {
        let packed =
            r.out().content_encoding.as_ref().is_some_and(|coding| coding.eq_ignore_ascii_case(b"gzip"));
        if !packed {
            return Ok(FilterStep::Now(None));
        }
        gzip::vary(r);
        if gzip::accepts(r) {
            return Ok(FilterStep::Now(None));
        }
        let mut out = r.out_mut();
        out.content_encoding = None;
        out.clear_content_length();
        out.clear_accept_ranges();
        out.weaken_etag();
        Ok(FilterStep::Now(Some((BodyOrder::Gunzip, Box::new(Unpacker::new())))))
    }
}

/// How much is put out before the client is given time to take it: a few bytes of input may stand for megabytes.
const AT_ONCE: usize = 64 * 1024;

/// Unpacks one response, which may consist of several members.
struct Unpacker {
    inflate: Decompress,
    /// What was given and not unpacked yet.
    input: Bytes,
    /// The last call filled its buffer, so there may be more without further input.
    full: bool,
    /// The present member is complete.
    ended: bool,
}

impl Unpacker {
    fn new() -> Self {
        Self { inflate: Decompress::new_gzip(15), input: Bytes::new(), full: false, ended: false }
    }

    /// Unpacks up to [`AT_ONCE`] bytes.
    fn unpack(&mut self, out: &mut Pieces) -> Result<(), RequestError> {
        let mut text = Vec::new();
        while text.len() < AT_ONCE && self.has_work() {
            if self.ended {
                // Only now is it known that another member follows.
                self.inflate.reset(true);
                self.ended = false;
            }
            if text.capacity() == text.len() {
                text.reserve(if text.is_empty() {
                    (self.input.len() * 4).clamp(1024, AT_ONCE)
                } else {
                    AT_ONCE
                });
            }
            let before = self.inflate.total_in();
            let status = self
                .inflate
                .decompress_vec(&self.input, &mut text, FlushDecompress::Sync)
                .map_err(|error| RequestError::internal(format!("inflate() failed: {error}")))?;
            let taken = usize::try_from(self.inflate.total_in() - before).unwrap_or(usize::MAX);
            let _ = self.input.split_to(taken.min(self.input.len()));
            self.full = text.len() == text.capacity();
            self.ended = status == Status::StreamEnd;
            if self.ended {
                self.full = false;
            } else if taken == 0 && !self.full && !self.input.is_empty() {
                return Err(RequestError::internal("inflate() failed: no progress"));
            }
        }
        if !text.is_empty() {
            out.push(Piece::Data(text.into()));
        }
        Ok(())
    }

    fn has_work(&self) -> bool {
        self.full || !self.input.is_empty()
    }
}

impl BodyFilter for Unpacker {
    fn filter(
        &mut self,
        _r: &RequestRef,
        piece: Piece,
        out: &mut Pieces,
    ) -> Result<FilterStep<()>, RequestError> {
        match piece {
            Piece::Data(data) => {
                self.input = data;
                self.unpack(out)?;
            }
            Piece::Last if !self.ended => {
                return Err(RequestError::internal("inflate() returned -5 on response end"));
            }
            piece => out.push(piece),
        }
        Ok(FilterStep::Now(()))
    }

    fn pending(&self) -> bool {
        self.has_work()
    }

    fn more(&mut self, _r: &RequestRef, out: &mut Pieces) -> Result<(), RequestError> {
        self.unpack(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn pack(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// Unpacks `packed`, given in parts of `step` bytes; the largest piece and the whole.
    fn unpack(packed: &[u8], step: usize) -> Result<(usize, Vec<u8>, bool), RequestError> {
        let mut unpacker = Unpacker::new();
        let mut pieces = Pieces::new();
        for part in packed.chunks(step) {
            unpacker.input = Bytes::copy_from_slice(part);
            unpacker.unpack(&mut pieces)?;
            while unpacker.has_work() {
                let before = pieces.len();
                unpacker.unpack(&mut pieces)?;
                assert!(pieces.len() > before || !unpacker.has_work(), "no progress");
            }
        }
        let mut text = Vec::new();
        let mut largest = 0;
        for piece in pieces {
            let Piece::Data(data) = piece else { continue };
            largest = largest.max(data.len());
            text.extend_from_slice(&data);
        }
        Ok((largest, text, unpacker.ended))
    }

    #[test]
    fn members_are_unpacked_at_any_cut() {
        let text: Vec<u8> = (0..6_000u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        let packed = [pack(&text), pack(b""), pack(b"end")].concat();
        for step in [1, 7, 4096, packed.len()] {
            let (_, unpacked, ended) = unpack(&packed, step).unwrap();
            assert!(unpacked == [&text[..], b"end"].concat(), "{step}");
            assert!(ended);
        }
        let (_, _, ended) = unpack(&packed[..packed.len() - 1], 100).unwrap();
        assert!(!ended);
    }

    #[test]
    fn a_bomb_comes_out_in_small_pieces() {
        let packed = pack(&vec![0; 4_000_000]);
        let (largest, unpacked, ended) = unpack(&packed, packed.len()).unwrap();
        assert!(ended && unpacked.len() == 4_000_000);
        assert!(largest <= 2 * AT_ONCE, "{largest}");
    }

    proptest::proptest! {
        #[test]
        fn damage_ends_in_an_error_or_in_less_text(at in 0usize..1300, byte: u8, step in 1usize..300) {
            let text: Vec<u8> = (0..300u32).flat_map(|n| (n * 7919).to_le_bytes()).collect();
            let mut packed = pack(&text);
            let at = at % packed.len();
            let same = packed[at] == byte;
            packed[at] = byte;
            let outcome = unpack(&packed, step);
            // Some bits of the head, and those that fill the last byte of data, mean nothing.
            let whole = matches!(&outcome, Ok((_, unpacked, true)) if *unpacked == text);
            proptest::prop_assert!(whole || !same && !matches!(outcome, Ok((_, _, true))));
        }
    }

    #[test]
    fn rubbish_is_refused() {
        assert!(unpack(b"this is no gzip data", 5).is_err());
        let mut broken = pack(b"some text that is long enough");
        let last = broken.len() - 6;
        broken[last] ^= 1;
        assert!(unpack(&broken, 1000).is_err());
    }
}
