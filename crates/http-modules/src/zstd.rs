//! `zstd`: compresses responses with Zstandard, under the directives of the well-known module for nginx.
//! <https://github.com/tokers/zstd-nginx-module>

use crate::compression::{Compressor, Counts, Encoder, Rules, Then, bounded, check_buffers, html_only};
use moonrest_http::{
    prelude::*,
    types::{MediaTypes, set_types},
};
use std::{
    cell::{Cell, RefCell},
    io,
};
use zstd::{
    dict::EncoderDictionary,
    stream::raw::{self, Operation},
    zstd_safe::{InBuffer, OutBuffer},
};

/// The module.
pub struct Zstd;

type D = Directive<Zstd>;

impl HttpModule for Zstd {
    const NAME: &'static str = "ngx_http_zstd_filter_module";
    const DIRECTIVES: &'static [D] = &[
        D::flag("zstd", |loc| &mut loc.enable).also(Contexts::IF),
        D::loc("zstd_buffers", Arity::exactly(2), |loc, args| check_buffers(&mut loc.buffers, args)),
        D::loc("zstd_types", Arity::at_least(1), |loc, args| set_types(&mut loc.types, args, &["text/html"])),
        D::loc("zstd_comp_level", Arity::exactly(1), |loc, args| {
            set_once(&mut loc.level, bounded(args, 1, 22)?)
        }),
        D::size("zstd_min_length", |loc| &mut loc.min_length),
        D::main("zstd_dict_file", Arity::exactly(1), |main, args| {
            set_once(&mut main.dictionary, args.env.read_file(args.word(0)?)?)
        }),
    ];
    const VARIABLES: &'static [VarDef<Request>] = &[VarDef::get("zstd_ratio", |r, out| {
        r.find_ctx::<Ratio>().is_some_and(|ratio| ratio.0.get().append(out))
    })];
    type Main = Main;
    type Loc = Loc;

    fn attach(main: &Main, loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if loc.enable != Some(true) {
            return Ok(());
        }
        let rules = Rules {
            coding: b"zstd",
            min_length: loc.min_length.unwrap_or(20),
            types: loc.types.clone().unwrap_or_else(html_only),
        };
        let level = i32::try_from(loc.level.unwrap_or(1)).unwrap_or(1);
        let dictionary =
            main.dictionary.as_ref().map(|bytes| Arc::new(EncoderDictionary::copy(bytes, level)));
        to.header_filter(HeaderOrder::Zstd, Filter { rules, settings: Settings { level, dictionary } });
        Ok(())
    }
}

/// Settings of the whole `http` block.
#[derive(Default)]
pub struct Main {
    dictionary: Option<Vec<u8>>,
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    enable: Option<bool>,
    buffers: Option<(u64, u64)>,
    types: Option<Arc<MediaTypes>>,
    level: Option<u64>,
    min_length: Option<u64>,
}

inherit!(Loc { enable, buffers, types, level, min_length });

struct Filter {
    rules: Rules,
    settings: Settings,
}

impl HeaderFilter for Filter {
    fn filter(&self, r: &RequestRef) -> Result<FilterStep<Needed>, RequestError> {
        if !self.rules.take(r) {
            return Ok(FilterStep::Now(None));
        }
        let filter = Compressor::<Stream>::new(self.settings.clone(), 0);
        Ok(FilterStep::Now(Some((BodyOrder::Zstd, Box::new(filter)))))
    }
}

/// For `$zstd_ratio`.
#[derive(Default)]
struct Ratio(Cell<Counts>);

#[derive(Clone)]
struct Settings {
    level: i32,
    dictionary: Option<Arc<EncoderDictionary<'static>>>,
}

/// Output is asked for in steps of this size.
const STEP: usize = 16 * 1024;

/// Compressors kept by a worker: each owns memory that takes time to set up.
const KEPT: usize = 8;

thread_local! {
    static IDLE: RefCell<Vec<(i32, raw::Encoder<'static>)>> = const { RefCell::new(Vec::new()) };
}

/// A compressor, given back for the next response when it is dropped, unless it has a dictionary.
struct Stream {
    level: Option<i32>,
    /// `None` only while it is dropped.
    encoder: Option<raw::Encoder<'static>>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        let (Some(level), Some(mut encoder)) = (self.level, self.encoder.take()) else { return };
        // At the end of the thread there is nothing to give it to.
        let _ = IDLE.try_with(|idle| {
            let mut idle = idle.borrow_mut();
            if idle.len() < KEPT && encoder.reinit().is_ok() {
                idle.push((level, encoder));
            }
        });
    }
}

impl Encoder for Stream {
    type Settings = Settings;

    fn start(settings: &Settings) -> Result<Self, RequestError> {
        if let Some(dictionary) = &settings.dictionary {
            let encoder =
                raw::Encoder::with_prepared_dictionary(dictionary).map_err(|error| failed(&error))?;
            return Ok(Self { level: None, encoder: Some(encoder) });
        }
        let known = IDLE.with_borrow_mut(|idle| {
            let at = idle.iter().rposition(|(level, _)| *level == settings.level)?;
            Some(idle.swap_remove(at).1)
        });
        let encoder = match known {
            Some(known) => known,
            None => raw::Encoder::new(settings.level).map_err(|error| failed(&error))?,
        };
        Ok(Self { level: Some(settings.level), encoder: Some(encoder) })
    }

    fn encode(&mut self, data: &[u8], then: Then, out: &mut Vec<u8>) -> Result<(), RequestError> {
        let mut input = InBuffer::around(data);
        while input.pos() < data.len() {
            self.step(out, |encoder, output| encoder.run(&mut input, output))?;
        }
        match then {
            Then::Go => {}
            Then::Flush => while self.step(out, |encoder, output| encoder.flush(output))? > 0 {},
            Then::Finish => while self.step(out, |encoder, output| encoder.finish(output, true))? > 0 {},
        }
        Ok(())
    }

    fn record(r: &Request, counts: Counts) {
        r.ctx::<Ratio>().0.set(counts);
    }
}

impl Stream {
    /// One call of the library, its output appended.
    fn step(
        &mut self,
        out: &mut Vec<u8>,
        call: impl FnOnce(&mut raw::Encoder<'static>, &mut OutBuffer<'_, [u8]>) -> io::Result<usize>,
    ) -> Result<usize, RequestError> {
        let Some(encoder) = &mut self.encoder else { return Ok(0) };
        let start = out.len();
        out.resize(start + STEP, 0);
        let mut output = OutBuffer::around(out.get_mut(start..).unwrap_or_default());
        let result = call(encoder, &mut output);
        let made = output.pos();
        out.truncate(start + made);
        result.map_err(|error| failed(&error))
    }
}

fn failed(error: &io::Error) -> RequestError {
    RequestError::internal(format!("zstd failed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_complete_with_and_without_a_dictionary() {
        let text: Vec<u8> = (0..50_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let plain = Settings { level: 1, dictionary: None };
        let dictionary = b"0123456789abcdefghijklmnopqrstuvwxyz".repeat(10);
        let with = Arc::new(EncoderDictionary::copy(&dictionary, 3));
        let with = Settings { level: 3, dictionary: Some(with) };
        for settings in [plain.clone(), plain, with] {
            // One that was given up in the middle is used again as well.
            Stream::start(&settings).unwrap().encode(b"half", Then::Go, &mut Vec::new()).unwrap();
            let mut stream = Stream::start(&settings).unwrap();
            let mut out = Vec::new();
            for (n, part) in text.chunks(9_001).enumerate() {
                let before = out.len();
                let then = if n == 1 { Then::Flush } else { Then::Go };
                stream.encode(part, then, &mut out).unwrap();
                assert!(n != 1 || out.len() > before);
            }
            stream.encode(b"end", Then::Finish, &mut out).unwrap();
            let known: &[u8] = if settings.dictionary.is_some() { &dictionary } else { b"" };
            let mut decoder = zstd::stream::read::Decoder::with_dictionary(&out[..], known).unwrap();
            let mut unpacked = Vec::new();
            io::Read::read_to_end(&mut decoder, &mut unpacked).unwrap();
            assert!(unpacked == [&text[..], b"end"].concat());
        }
    }
}
