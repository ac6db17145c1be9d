//! What the filters that compress have in common: which responses they take, and the way of a body through an encoder.

pub(crate) mod precompressed;

use moonrest_http::{gzip, prelude::*, types::MediaTypes};
use smallvec::SmallVec;
use std::io::Write;

/// What all of them are told by the configuration.
pub(crate) struct Rules {
    /// The value of `Content-Encoding`, and what `Accept-Encoding` must list.
    pub(crate) coding: &'static [u8],
    /// Responses of known length below this are left alone.
    pub(crate) min_length: u64,
    pub(crate) types: Arc<MediaTypes>,
}

impl Rules {
    /// Whether the response may be compressed for this client; if so, its head is changed accordingly.
    pub(crate) fn take(&self, r: &Request) -> bool {
        {
            let out = r.out();
            if !matches!(out.status, 200 | 403 | 404)
                || out.content_encoding.as_ref().is_some_and(|coding| !coding.is_empty())
                || out.content_length.is_some_and(|length| length < self.min_length)
                || !self.types.contains(out.media_type())
            {
                return false;
            }
        }
        gzip::vary(r);
        let accepted = accepted(r, self.coding);
        if accepted {
            let mut out = r.out_mut();
            out.content_encoding = Some(Bytes::from_static(self.coding));
            out.clear_content_length();
            out.clear_accept_ranges();
            out.weaken_etag();
        }
        accepted
    }
}

/// Whether the client may get this coding.
fn accepted(r: &Request, coding: &[u8]) -> bool {
    if coding == b"gzip" { gzip::accepts(r) } else { gzip::accepts_coding(r, coding) }
}

/// The default of `*_types`.
pub(crate) fn html_only() -> Arc<MediaTypes> {
    Arc::new(MediaTypes::of(&["text/html"]))
}

/// Checks the arguments of `*_buffers`; the sizes have no effect, output is passed on as it is made.
pub(crate) fn check_buffers(slot: &mut Option<(u64, u64)>, args: &Args<'_>) -> ConfResult {
    if slot.is_some() {
        return Err(Fault::DUPLICATE);
    }
    let invalid = || Fault::directive("invalid value");
    let number = args.uint(0).map_err(|_| invalid())?;
    let size = args.size(1).map_err(|_| invalid())?;
    if number == 0 || size == 0 {
        return Err(invalid());
    }
    *slot = Some((number, size));
    Ok(())
}

/// A number that must lie between `low` and `high`.
pub(crate) fn bounded(args: &Args<'_>, low: u64, high: u64) -> ConfResult<u64> {
    match args.uint(0)? {
        number if (low..=high).contains(&number) => Ok(number),
        _ => Err(Fault::message(format!("value must be between {low} and {high}"))),
    }
}

/// What an encoder is to do behind the bytes it is given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing: more will come.
    Go,
    /// Put out everything, so that the other side can decode what there is.
    Flush,
    /// End the stream.
    Finish,
}

/// One coding's compressor. Output is appended.
pub(crate) trait Encoder: Sized {
    /// What it is made from.
    type Settings;

    /// A compressor for one response.
    ///
    /// # Errors
    /// A failure of the library.
    fn start(settings: &Self::Settings) -> Result<Self, RequestError>;

    /// Compresses `data`, then does what is asked.
    ///
    /// # Errors
    /// A failure of the library.
    fn encode(&mut self, data: &[u8], then: Then, out: &mut Vec<u8>) -> Result<(), RequestError>;

    /// Up to this many bytes are kept until the end of the response is seen, for [`Self::whole`].
    fn held(_: &Self::Settings) -> usize {
        0
    }

    /// Compresses a body that lies there complete, if there is a better way than a stream for it.
    fn whole(_: &Self::Settings, _data: &[u8], _out: &mut Vec<u8>) -> bool {
        false
    }

    /// Keeps what the response came to, for a variable.
    fn record(r: &Request, counts: Counts);
}

/// Bytes in and out of one response, for `$gzip_ratio` and its like.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    taken: u64,
    made: u64,
}

impl Counts {
    /// Appends nginx's ratio, `2.13`; there is none before the end of the response.
    pub(crate) fn append(self, out: &mut Vec<u8>) -> bool {
        let (taken, made) = (u128::from(self.taken), u128::from(self.made));
        if made == 0 {
            return false;
        }
        // Rounded to hundredths, half up as nginx does it: by the third digit alone.
        let hundredths = taken * 100 / made + u128::from((taken * 1000 / made) % 10 > 4);
        write!(out, "{}.{:02}", hundredths / 100, hundredths % 100).is_ok()
    }
}

/// Output below this is kept until more has come.
const WORTH_SENDING: usize = 4096;

/// A body filter around an encoder, which is made when there is something to compress.
pub(crate) struct Compressor<E: Encoder> {
    settings: E::Settings,
    encoder: Option<E>,
    /// Input kept until there is as much as `hold`, or the end.
    waiting: SmallVec<[Bytes; 1]>,
    waiting_len: usize,
    hold: usize,
    out: Vec<u8>,
    counts: Counts,
}

impl<E: Encoder> Compressor<E> {
    pub(crate) fn new(settings: E::Settings, postpone: usize) -> Self {
        let hold = postpone.max(E::held(&settings));
        Self {
            settings,
            encoder: None,
            waiting: SmallVec::new(),
            waiting_len: 0,
            hold,
            out: Vec::new(),
            counts: Counts::default(),
        }
    }

    fn encode(&mut self, data: &[u8], then: Then) -> Result<(), RequestError> {
        self.counts.taken += data.len() as u64;
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => none.insert(E::start(&self.settings)?),
        };
        self.waiting_len = 0;
        for waiting in std::mem::take(&mut self.waiting) {
            encoder.encode(&waiting, Then::Go, &mut self.out)?;
        }
        encoder.encode(data, then, &mut self.out)
    }

    /// Ends the response; one that is short enough has not begun yet.
    fn finish(&mut self) -> Result<(), RequestError> {
        let whole = match &*self.waiting {
            _ if self.encoder.is_some() => false,
            [] => E::whole(&self.settings, &[], &mut self.out),
            [data] => E::whole(&self.settings, data, &mut self.out),
            several => E::whole(&self.settings, &several.concat(), &mut self.out),
        };
        if whole { Ok(()) } else { self.encode(&[], Then::Finish) }
    }

    fn pass_on(&mut self, out: &mut Pieces) {
        if !self.out.is_empty() {
            self.counts.made += self.out.len() as u64;
            out.push(Piece::Data(std::mem::take(&mut self.out).into()));
        }
    }
}

impl<E: Encoder> BodyFilter for Compressor<E> {
    fn filter(
        &mut self,
        r: &RequestRef,
        piece: Piece,
        out: &mut Pieces,
    ) -> Result<FilterStep<()>, RequestError> {
        match piece {
            Piece::Data(data) if self.encoder.is_none() && self.waiting_len + data.len() < self.hold => {
                self.counts.taken += data.len() as u64;
                self.waiting_len += data.len();
                self.waiting.push(data);
            }
            Piece::Data(data) => {
                self.encode(&data, Then::Go)?;
                if self.out.len() >= WORTH_SENDING {
                    self.pass_on(out);
                }
            }
            Piece::Flush => {
                // Nothing came yet: a head of the coding alone helps nobody.
                if self.counts.taken > 0 {
                    self.encode(&[], Then::Flush)?;
                    self.pass_on(out);
                }
                out.push(Piece::Flush);
            }
            Piece::Last => {
                self.finish()?;
                self.pass_on(out);
                self.encoder = None;
                E::record(r, self.counts);
                out.push(Piece::Last);
            }
            Piece::File(_) | Piece::Subrequest(_) => {
                return Err(RequestError::internal("a compression filter was given no bytes"));
            }
        }
        Ok(FilterStep::Now(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_rounded_by_their_third_digit() {
        let check = |taken, made, expect: &str| {
            let mut out = Vec::new();
            Counts { taken, made }.append(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), expect);
        };
        check(2125, 1000, "2.13");
        check(2124, 1000, "2.12");
        check(1999, 1000, "2.00");
        check(10, 30, "0.33");
        check(5, 0, "");
    }
}
