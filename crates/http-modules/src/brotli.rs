//! `brotli`: compresses responses with brotli, under the directives of the module that Google wrote for nginx.
//! <https://github.com/google/ngx_brotli>

use crate::compression::{Compressor, Counts, Encoder, Rules, Then, bounded, check_buffers, html_only};
use brotli::{CompressorWriter, enc::BrotliEncoderParams};
use moonrest_http::{
    prelude::*,
    types::{MediaTypes, set_types},
};
use std::{cell::Cell, io::Write};

/// The module.
pub struct Brotli;

type D = Directive<Brotli>;

impl HttpModule for Brotli {
    const NAME: &'static str = "ngx_http_brotli_filter_module";
    const DIRECTIVES: &'static [D] = &[
        D::flag("brotli", |loc| &mut loc.enable).also(Contexts::IF),
        D::loc("brotli_buffers", Arity::exactly(2), |loc, args| check_buffers(&mut loc.buffers, args)),
        D::loc("brotli_types", Arity::at_least(1), |loc, args| {
            set_types(&mut loc.types, args, &["text/html"])
        }),
        D::loc("brotli_comp_level", Arity::exactly(1), |loc, args| {
            set_once(&mut loc.level, bounded(args, 0, 11)?)
        }),
        D::loc("brotli_window", Arity::exactly(1), window),
        D::size("brotli_min_length", |loc| &mut loc.min_length),
    ];
    const VARIABLES: &'static [VarDef<Request>] = &[VarDef::get("brotli_ratio", |r, out| {
        r.find_ctx::<Ratio>().is_some_and(|ratio| ratio.0.get().append(out))
    })];
    type Main = ();
    type Loc = Loc;

    fn attach((): &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if loc.enable != Some(true) {
            return Ok(());
        }
        let rules = Rules {
            coding: b"br",
            min_length: loc.min_length.unwrap_or(20),
            types: loc.types.clone().unwrap_or_else(html_only),
        };
        let quality = i32::try_from(loc.level.unwrap_or(6)).unwrap_or(6);
        let settings = Settings { quality, window_bits: loc.window_bits.unwrap_or(19) };
        to.header_filter(HeaderOrder::Brotli, Filter { rules, settings });
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
    window_bits: Option<i32>,
    min_length: Option<u64>,
}

inherit!(Loc { enable, buffers, types, level, window_bits, min_length });

fn window(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    let size = args.size(0)?;
    let bits = (10..=24).find(|bits| size == 1 << bits).ok_or(Fault::directive(
        "must be 1k, 2k, 4k, 8k, 16k, 32k, 64k, 128k, 256k, 512k, 1m, 2m, 4m, 8m or 16m",
    ))?;
    set_once(&mut loc.window_bits, bits)
}

struct Filter {
    rules: Rules,
    settings: Settings,
}

impl HeaderFilter for Filter {
    fn filter(&self, r: &RequestRef) -> Result<FilterStep<Needed>, RequestError> {
        // A short body needs no large window.
        let size_hint = r.out().content_length.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        if !self.rules.take(r) {
            return Ok(FilterStep::Now(None));
        }
        let settings = (self.settings, size_hint);
        Ok(FilterStep::Now(Some((BodyOrder::Brotli, Box::new(Compressor::<Writer>::new(settings, 0))))))
    }
}

/// For `$brotli_ratio`.
#[derive(Default)]
struct Ratio(Cell<Counts>);

#[derive(Clone, Copy)]
struct Settings {
    quality: i32,
    window_bits: i32,
}

/// Output of the library goes through a buffer of this size.
const BUFFER: usize = 4096;

/// `None` when the stream has ended.
struct Writer(Option<CompressorWriter<Vec<u8>>>);

impl Encoder for Writer {
    /// And how long the body will be, 0 if unknown.
    type Settings = (Settings, usize);

    fn start(&(settings, size_hint): &Self::Settings) -> Result<Self, RequestError> {
        let mut window_bits = settings.window_bits;
        while size_hint > 0 && window_bits > 10 && size_hint < (1 << (window_bits - 1)) {
            window_bits -= 1;
        }
        let params = BrotliEncoderParams {
            quality: settings.quality,
            lgwin: window_bits,
            size_hint,
            ..BrotliEncoderParams::default()
        };
        Ok(Self(Some(CompressorWriter::with_params(Vec::new(), BUFFER, &params))))
    }

    fn encode(&mut self, data: &[u8], then: Then, out: &mut Vec<u8>) -> Result<(), RequestError> {
        let Some(writer) = &mut self.0 else { return Ok(()) };
        let failed = |error| RequestError::internal(format!("brotli failed: {error}"));
        writer.write_all(data).map_err(failed)?;
        if then == Then::Flush {
            writer.flush().map_err(failed)?;
        }
        out.append(writer.get_mut());
        if then == Then::Finish {
            out.extend(self.0.take().map(CompressorWriter::into_inner).unwrap_or_default());
        }
        Ok(())
    }

    fn record(r: &Request, counts: Counts) {
        r.ctx::<Ratio>().0.set(counts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(mut data: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        brotli::BrotliDecompress(&mut data, &mut text).unwrap();
        text
    }

    #[test]
    fn streams_are_complete_and_flushes_let_everything_through() {
        let text: Vec<u8> = (0..10_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for quality in [0, 1, 6] {
            let settings = (Settings { quality, window_bits: 19 }, text.len());
            let mut writer = Writer::start(&settings).unwrap();
            let mut out = Vec::new();
            for (n, part) in text.chunks(3_001).enumerate() {
                let before = out.len();
                let then = if n == 1 { Then::Flush } else { Then::Go };
                writer.encode(part, then, &mut out).unwrap();
                assert!(n != 1 || out.len() > before);
            }
            writer.encode(b"end", Then::Finish, &mut out).unwrap();
            assert!(unpack(&out) == [&text[..], b"end"].concat(), "{quality}");
        }
    }
}
