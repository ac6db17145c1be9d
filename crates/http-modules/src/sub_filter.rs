//! `sub_filter`: replaces texts in responses.
//! <https://nginx.org/en/docs/http/ngx_http_sub_module.html>

mod replacer;

use self::replacer::{Patterns, Replacer};
use crate::compression::html_only;
use moonrest_http::{
    prelude::*,
    types::{MediaTypes, set_types},
};

/// The module.
pub struct Sub;

type D = Directive<Sub>;

impl HttpModule for Sub {
    const NAME: &'static str = "ngx_http_sub_module";
    const DIRECTIVES: &'static [D] = &[
        D::loc("sub_filter", Arity::exactly(2), sub_filter),
        D::loc("sub_filter_types", Arity::at_least(1), |loc, args| {
            set_types(&mut loc.types, args, &["text/html"])
        }),
        D::flag("sub_filter_once", |loc| &mut loc.once),
        D::flag("sub_filter_last_modified", |loc| &mut loc.last_modified),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach((): &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        let Some(pairs) = &loc.pairs else { return Ok(()) };
        let constant: Option<Vec<Vec<u8>>> =
            pairs.iter().map(|pair| Some(pair.pattern.as_static()?.to_vec())).collect();
        let constant = match constant {
            Some(texts) => Some(
                Patterns::new(texts.into_iter().enumerate().collect())
                    .map_err(|error| Fault::message(format!("sub_filter: {error}")))?,
            ),
            None => None,
        };
        to.header_filter(
            HeaderOrder::Sub,
            Filter {
                pairs: pairs.clone().into(),
                constant: constant.map(Arc::new),
                types: loc.types.clone().unwrap_or_else(html_only),
                once: loc.once.unwrap_or(true),
                last_modified: loc.last_modified.unwrap_or(false),
            },
        );
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    pairs: Option<Vec<Pair>>,
    types: Option<Arc<MediaTypes>>,
    once: Option<bool>,
    last_modified: Option<bool>,
}

inherit!(Loc { pairs, types, once, last_modified });

/// A text to look for, whatever its case, and what stands in its place.
#[derive(Clone)]
struct Pair {
    pattern: Template,
    replacement: Template,
}

fn sub_filter(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    if args.bytes(0)?.is_empty() {
        return Err(Fault::message("empty search pattern"));
    }
    let pairs = loc.pairs.get_or_insert_with(Vec::new);
    if pairs.len() == 255 {
        return Err(Fault::message("number of search patterns exceeds 255"));
    }
    pairs.push(Pair { pattern: args.template(0)?, replacement: args.template(1)? });
    Ok(())
}

struct Filter {
    pairs: Arc<[Pair]>,
    /// The patterns, when none has a variable.
    constant: Option<Arc<Patterns>>,
    types: Arc<MediaTypes>,
    once: bool,
    last_modified: bool,
}

impl Filter {
    /// The patterns for this request; `None` when all of them are empty.
    fn patterns(&self, r: &Request) -> Result<Option<Arc<Patterns>>, RequestError> {
        if let Some(constant) = &self.constant {
            return Ok(Some(constant.clone()));
        }
        let texts: Vec<_> = self
            .pairs
            .iter()
            .enumerate()
            .map(|(n, pair)| (n, pair.pattern.eval(r).into_owned()))
            .filter(|(_, text)| !text.is_empty())
            .collect();
        if texts.is_empty() {
            return Ok(None);
        }
        Patterns::new(texts)
            .map(|patterns| Some(Arc::new(patterns)))
            .map_err(|error| RequestError::internal(format!("sub_filter: {error}")))
    }
}

impl HeaderFilter for Filter {
    fn filter(&self, r: &RequestRef) -> Result<FilterStep<Needed>, RequestError> {
        {
            let out = r.out();
            if out.content_length == Some(0) || !self.types.contains(out.media_type()) {
                return Ok(FilterStep::Now(None));
            }
        }
        let Some(patterns) = self.patterns(r)? else { return Ok(FilterStep::Now(None)) };
        if !r.is_subrequest() {
            let mut out = r.out_mut();
            out.clear_content_length();
            if self.last_modified {
                out.weaken_etag();
            } else {
                out.clear_last_modified();
                out.clear_etag();
            }
        }
        let body = Body {
            replacer: Replacer::new(patterns, self.once),
            values: vec![None; self.pairs.len()],
            pairs: self.pairs.clone(),
        };
        Ok(FilterStep::Now(Some((BodyOrder::Sub, Box::new(body)))))
    }
}

/// One response's body.
struct Body {
    replacer: Replacer,
    pairs: Arc<[Pair]>,
    /// Replacements, evaluated when first needed.
    values: Vec<Option<Bytes>>,
}

/// How much is put out before the client is given time to take it: replacements may be much longer than what they
/// replace.
const AT_ONCE: usize = 64 * 1024;
/// Text of at least this length is passed on as it is; what is shorter is put together.
const ALONE: usize = 2048;

impl Body {
    /// Puts out text and replacements up to about `limit` bytes.
    fn put(&mut self, r: &Request, limit: usize, out: &mut Pieces) {
        let mut made = 0;
        let mut together = Vec::new();
        while made < limit {
            let data = match self.replacer.next() {
                Some(replacer::Part::Text(data)) => data,
                Some(replacer::Part::Match(n)) => self.value(r, n),
                None => break,
            };
            made += data.len();
            if data.len() < ALONE {
                together.extend_from_slice(&data);
            } else {
                flush(&mut together, out);
                out.push(Piece::Data(data));
            }
        }
        flush(&mut together, out);
    }

    fn value(&mut self, r: &Request, n: usize) -> Bytes {
        let (Some(slot), Some(pair)) = (self.values.get_mut(n), self.pairs.get(n)) else {
            return Bytes::new();
        };
        slot.get_or_insert_with(|| pair.replacement.eval(r).into_owned().into()).clone()
    }
}

fn flush(together: &mut Vec<u8>, out: &mut Pieces) {
    if !together.is_empty() {
        out.push(Piece::Data(std::mem::take(together).into()));
    }
}

impl BodyFilter for Body {
    fn filter(
        &mut self,
        r: &RequestRef,
        piece: Piece,
        out: &mut Pieces,
    ) -> Result<FilterStep<()>, RequestError> {
        match piece {
            Piece::Data(data) => {
                self.replacer.take(data);
                self.put(r, AT_ONCE, out);
            }
            Piece::Last => {
                self.release(r, out)?;
                out.push(Piece::Last);
            }
            piece => out.push(piece),
        }
        Ok(FilterStep::Now(()))
    }

    fn pending(&self) -> bool {
        self.replacer.has_more()
    }

    fn more(&mut self, r: &RequestRef, out: &mut Pieces) -> Result<(), RequestError> {
        self.put(r, AT_ONCE, out);
        Ok(())
    }

    fn release(&mut self, r: &RequestRef, out: &mut Pieces) -> Result<(), RequestError> {
        // No longer than the longest pattern is held.
        self.replacer.finish();
        self.put(r, usize::MAX, out);
        Ok(())
    }
}
