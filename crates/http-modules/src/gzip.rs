//! `gzip`: compresses responses. Who gets them compressed is decided in [`moonrest_http::gzip`].
//! <https://nginx.org/en/docs/http/ngx_http_gzip_module.html>

use crate::compression::{Compressor, Counts, Encoder, Rules, Then, bounded, check_buffers, html_only};
use flate2::{Compress, Compression, FlushCompress, Status};
use moonrest_http::{
    prelude::*,
    types::{MediaTypes, set_types},
};
use std::cell::{Cell, RefCell};

/// The module.
pub struct Gzip;

type D = Directive<Gzip>;

impl HttpModule for Gzip {
    const NAME: &'static str = "ngx_http_gzip_module";
    const DIRECTIVES: &'static [D] = &[
        D::flag("gzip", |loc| &mut loc.enable).also(Contexts::IF),
        D::loc("gzip_buffers", Arity::exactly(2), |loc, args| check_buffers(&mut loc.buffers, args)),
        D::loc("gzip_types", Arity::at_least(1), |loc, args| set_types(&mut loc.types, args, &["text/html"])),
        D::loc("gzip_comp_level", Arity::exactly(1), |loc, args| {
            set_once(&mut loc.level, bounded(args, 1, 9)?)
        }),
        D::loc("gzip_window", Arity::exactly(1), window),
        D::loc("gzip_hash", Arity::exactly(1), hash),
        D::size("postpone_gzipping", |loc| &mut loc.postpone),
        D::flag("gzip_no_buffer", |loc| &mut loc.no_buffer),
        D::size("gzip_min_length", |loc| &mut loc.min_length),
    ];
    const VARIABLES: &'static [VarDef<Request>] = &[VarDef::get("gzip_ratio", |r, out| {
        r.find_ctx::<Ratio>().is_some_and(|ratio| ratio.0.get().append(out))
    })];
    type Main = ();
    type Loc = Loc;

    fn attach((): &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if loc.enable != Some(true) {
            return Ok(());
        }
        let rules = Rules {
            coding: b"gzip",
            min_length: loc.min_length.unwrap_or(20),
            types: loc.types.clone().unwrap_or_else(html_only),
        };
        let window_bits = loc.window_bits.unwrap_or(15);
        let level = u8::try_from(loc.level.unwrap_or(1)).unwrap_or(1);
        let postpone = usize::try_from(loc.postpone.unwrap_or(0)).unwrap_or(0);
        let settings = Settings { level, window_bits };
        to.header_filter(HeaderOrder::Gzip, Filter { rules, settings, postpone });
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    enable: Option<bool>,
    buffers: Option<(u64, u64)>,
    types: Option<Arc<MediaTypes>>,
    level: Option<u64>,
    window_bits: Option<u8>,
    hash: Option<()>,
    postpone: Option<u64>,
    no_buffer: Option<bool>,
    min_length: Option<u64>,
}

inherit!(Loc { enable, buffers, types, level, window_bits, hash, postpone, no_buffer, min_length });

fn window(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    let size = args.size(0)?;
    let bits = (9..=15u8)
        .find(|bits| size == 1 << bits)
        .ok_or(Fault::directive("must be 512, 1k, 2k, 4k, 8k, 16k, or 32k"))?;
    set_once(&mut loc.window_bits, bits)
}

/// Checked as nginx checks it; the compressor chooses the size of its table itself.
fn hash(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    let size = args.size(0)?;
    if !(9..=17).any(|bits| size == 1 << bits) {
        return Err(Fault::directive("must be 512, 1k, 2k, 4k, 8k, 16k, 32k, 64k, or 128k"));
    }
    set_once(&mut loc.hash, ())
}

struct Filter {
    rules: Rules,
    settings: Settings,
    postpone: usize,
}

impl HeaderFilter for Filter {
    fn filter(&self, r: &RequestRef) -> Result<FilterStep<Needed>, RequestError> {
        let taken = self.rules.take(r);
        Ok(FilterStep::Now(taken.then(|| -> (BodyOrder, Box<dyn BodyFilter>) {
            (BodyOrder::Gzip, Box::new(Compressor::<Deflater>::new(self.settings, self.postpone)))
        })))
    }
}

/// For `$gzip_ratio`.
#[derive(Default)]
struct Ratio(Cell<Counts>);

#[derive(Clone, Copy, PartialEq, Eq)]
struct Settings {
    /// From 1 to 9.
    level: u8,
    window_bits: u8,
}

/// A response of up to as many bytes as nginx's `gzip_buffers` hold is compressed when it is complete: then there is a
/// library that needs two thirds of the time.
const WHOLE: usize = 128 * 1024;
/// It does not compress less than this, the other one does.
const WORTH_IT: usize = 64;
/// The levels for which that library is the faster one.
const WHOLE_LEVELS: u8 = 6;

thread_local! {
    /// One per level: it is needed for no longer than a call takes.
    static AT_ONCE: RefCell<[Option<libdeflater::Compressor>; WHOLE_LEVELS as usize + 1]> =
        const { RefCell::new([const { None }; WHOLE_LEVELS as usize + 1]) };
}

/// Compressors kept by a worker: each owns a quarter of a megabyte that takes time to set up.
const KEPT: usize = 8;
/// Output is asked for in steps of this size.
const STEP: usize = 16 * 1024;

thread_local! {
    static IDLE: RefCell<Vec<(Settings, Compress)>> = const { RefCell::new(Vec::new()) };
}

/// A compressor, given back for the next response when it is dropped.
struct Deflater {
    settings: Settings,
    /// `None` only while it is dropped.
    compress: Option<Compress>,
}

impl Drop for Deflater {
    fn drop(&mut self) {
        let Some(mut compress) = self.compress.take() else { return };
        // At the end of the thread there is nothing to give it to.
        let _ = IDLE.try_with(|idle| {
            let mut idle = idle.borrow_mut();
            if idle.len() < KEPT {
                compress.reset();
                idle.push((self.settings, compress));
            }
        });
    }
}

impl Encoder for Deflater {
    type Settings = Settings;

    fn start(settings: &Settings) -> Result<Self, RequestError> {
        let known = IDLE.with_borrow_mut(|idle| {
            let at = idle.iter().rposition(|(kept, _)| kept == settings)?;
            Some(idle.swap_remove(at).1)
        });
        // Level 1 of this library is a quarter larger than nginx's, at hardly less cost than its level 2.
        let level = Compression::new(u32::from(settings.level.max(2)));
        let make = || Compress::new_gzip(level, settings.window_bits);
        Ok(Self { settings: *settings, compress: Some(known.unwrap_or_else(make)) })
    }

    fn encode(&mut self, data: &[u8], then: Then, out: &mut Vec<u8>) -> Result<(), RequestError> {
        let Some(compress) = &mut self.compress else { return Ok(()) };
        let flush = match then {
            Then::Go => FlushCompress::None,
            Then::Flush => FlushCompress::Sync,
            Then::Finish => FlushCompress::Finish,
        };
        let mut rest = data;
        loop {
            if out.capacity() == out.len() {
                out.reserve(STEP);
            }
            let before = compress.total_in();
            let status = compress
                .compress_vec(rest, out, flush)
                .map_err(|error| RequestError::internal(format!("deflate() failed: {error}")))?;
            let taken = usize::try_from(compress.total_in() - before).unwrap_or(usize::MAX);
            rest = rest.get(taken..).unwrap_or_default();
            // Room that is left means that nothing is held back but what the mode allows.
            let done = rest.is_empty() && out.len() < out.capacity();
            if status == Status::StreamEnd || (done && then != Then::Finish) {
                return Ok(());
            }
            if status == Status::BufError && done {
                return Err(RequestError::internal("deflate() failed: no progress"));
            }
        }
    }

    fn held(settings: &Settings) -> usize {
        // A window of less than 32k is a promise to the client about its memory; only a stream keeps it.
        if settings.level <= WHOLE_LEVELS && settings.window_bits == 15 { WHOLE } else { 0 }
    }

    fn whole(settings: &Settings, data: &[u8], out: &mut Vec<u8>) -> bool {
        if Self::held(settings) == 0 || data.len() < WORTH_IT {
            return false;
        }
        AT_ONCE.with_borrow_mut(|kept| {
            let Some(kept) = kept.get_mut(usize::from(settings.level)) else { return false };
            if kept.is_none() {
                let level = libdeflater::CompressionLvl::new(i32::from(settings.level));
                *kept = level.ok().map(libdeflater::Compressor::new);
            }
            let Some(compressor) = kept else { return false };
            let start = out.len();
            out.resize(start + compressor.gzip_compress_bound(data.len()), 0);
            let made = out.get_mut(start..).map(|room| compressor.gzip_compress(data, room));
            let Some(Ok(len)) = made else {
                out.truncate(start);
                return false;
            };
            out.truncate(start + len);
            // A little is kept for long by a slow client.
            out.shrink_to_fit();
            true
        })
    }

    fn record(r: &Request, counts: Counts) {
        r.ctx::<Ratio>().0.set(counts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn unpack(data: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        flate2::read::MultiGzDecoder::new(data).read_to_end(&mut text).unwrap();
        text
    }

    #[test]
    fn a_compressor_used_again_makes_a_complete_stream() {
        let settings = Settings { level: 6, window_bits: 15 };
        let text: Vec<u8> = (0..300_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for _ in 0..3 {
            let mut out = Vec::new();
            let mut deflater = Deflater::start(&settings).unwrap();
            for part in text.chunks(10_007) {
                deflater.encode(part, Then::Go, &mut out).unwrap();
            }
            deflater.encode(b"end", Then::Finish, &mut out).unwrap();
            assert_eq!(out.get(..4), Some(&b"\x1f\x8b\x08\x00"[..]));
            assert!(unpack(&out) == [&text[..], b"end"].concat());
        }
        assert_eq!(IDLE.with_borrow(Vec::len), 1);
    }

    #[test]
    fn a_complete_body_is_compressed_at_once_where_that_is_allowed() {
        let text = b"the request of a server ".repeat(1000);
        let mut sizes = Vec::new();
        for level in 1..=6 {
            let mut out = b"before".to_vec();
            assert!(Deflater::whole(&Settings { level, window_bits: 15 }, &text, &mut out));
            assert!(unpack(out.strip_prefix(b"before").unwrap()) == text);
            sizes.push(out.len());
        }
        assert!(sizes.iter().all(|&size| size < 400), "{sizes:?}");
        assert!(!Deflater::whole(&Settings { level: 1, window_bits: 15 }, b"short", &mut Vec::new()));
        for (level, window_bits) in [(7, 15), (1, 14)] {
            assert!(!Deflater::whole(&Settings { level, window_bits }, &text, &mut Vec::new()));
            assert_eq!(Deflater::held(&Settings { level, window_bits }), 0);
        }
    }

    #[test]
    fn a_flush_lets_everything_through_and_may_be_repeated() {
        let mut deflater = Deflater::start(&Settings { level: 2, window_bits: 9 }).unwrap();
        let mut out = Vec::new();
        deflater.encode(b"hello", Then::Flush, &mut out).unwrap();
        let mut inflate = flate2::Decompress::new_gzip(15);
        let mut text = Vec::with_capacity(100);
        inflate.decompress_vec(&out, &mut text, flate2::FlushDecompress::Sync).unwrap();
        assert_eq!(text, b"hello");
        deflater.encode(b"", Then::Flush, &mut out).unwrap();
        deflater.encode(b"", Then::Flush, &mut out).unwrap();
        deflater.encode(b"", Then::Finish, &mut out).unwrap();
        assert_eq!(unpack(&out), b"hello");
    }
}
