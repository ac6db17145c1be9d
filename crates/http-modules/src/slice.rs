//! `slice`: an answer fetched in parts of one size, each of which a cache keeps on its own.
//! <https://nginx.org/en/docs/http/ngx_http_slice_module.html>
//!
//! ```text
//! request ─► $slice_range asks for the first slice ─► its head becomes the whole answer's
//!                  ▲                                          │ body
//!                  └── a subrequest for the next slice ◄──────┘
//! ```

use moonrest_http::{
    prelude::*,
    subrequest::{self, Subrequest},
};
use moonrest_proto::http1::Known;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

/// The module.
pub struct Slice;
type D = Directive<Slice>;

impl HttpModule for Slice {
    const NAME: &'static str = "ngx_http_slice_module";
    const DIRECTIVES: &'static [D] = &[D::size("slice", |loc: &mut Loc| &mut loc.size)];
    const VARIABLES: &'static [VarDef<Request>] = &[VarDef::get("slice_range", range)];
    type Main = ();
    type Loc = Loc;

    fn attach((): &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if let Some(size @ 1..) = loc.size {
            to.header_filter(HeaderOrder::Slice, Filter { size });
        }
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    size: Option<u64>,
}
inherit!(Loc { size });

/// How far the slices of a client's request have come. In its context, from when the first one is asked for.
#[derive(Default)]
struct State {
    begun: Cell<bool>,
    /// The answer is no slice: it is passed on as it is.
    off: Cell<bool>,
    /// Where the present slice begins, or the next one.
    start: Cell<u64>,
    end: Cell<u64>,
    /// The present slice has answered; all of it has come.
    answered: Cell<bool>,
    complete: Cell<bool>,
    etag: RefCell<Option<Bytes>>,
    /// The value of `Range` for the present slice.
    range: RefCell<Vec<u8>>,
}

impl State {
    fn ask(&self, start: u64, size: u64) {
        let end = start.saturating_add(size - 1);
        *self.range.borrow_mut() = format!("bytes={start}-{end}").into_bytes();
    }
}

/// Marks a subrequest for a slice. In its context.
#[derive(Default)]
struct Part;

/// The state that a request shares with its slices.
fn state(r: &Request) -> Option<Rc<State>> {
    let shares = !r.is_subrequest() || r.find_ctx::<Part>().is_some();
    if !shares {
        return None;
    }
    r.main().find_ctx::<State>().filter(|state| state.begun.get() && !state.off.get())
}

/// `$slice_range`: asking for it begins slicing.
fn range(r: &Request, out: &mut Vec<u8>) -> bool {
    if let Some(state) = state(r) {
        out.extend_from_slice(&state.range.borrow());
        return true;
    }
    if r.is_subrequest() || r.out().status != 0 {
        return false;
    }
    let Some(size) = r.loc().conf::<Loc>().and_then(|loc| loc.size).filter(|size| *size > 0) else {
        return false;
    };
    let state = r.ctx::<State>();
    let first = if r.has_known(Known::IfRange) { 0 } else { r.with_known(Known::Range, first_byte) };
    state.begun.set(true);
    state.start.set(first / size * size);
    state.ask(state.start.get(), size);
    out.extend_from_slice(&state.range.borrow());
    true
}

/// The first byte that a client wants, as far as one range says so.
fn first_byte(range: Option<&[u8]>) -> u64 {
    let Some((unit, rest)) = range.and_then(|range| range.split_at_checked(6)) else { return 0 };
    if !unit.eq_ignore_ascii_case(b"bytes=") || rest.contains(&b',') {
        return 0;
    }
    let rest = rest.trim_ascii_start();
    number(&mut &*rest).filter(|first| *first <= i64::MAX.cast_unsigned()).unwrap_or(0)
}

/// Takes a number off the beginning.
fn number(text: &mut &[u8]) -> Option<u64> {
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(len)?;
    *text = rest;
    moonrest_core::conf::value::parse_uint(digits)
}

/// What `Content-Range` says: first byte, the byte behind the last, and the length of the whole.
#[derive(Debug, PartialEq, Eq)]
struct ContentRange {
    start: u64,
    end: u64,
    length: Option<u64>,
}

impl ContentRange {
    fn parse(text: &[u8]) -> Option<Self> {
        let mut text = text.strip_prefix(b"bytes ")?;
        let spaces = |text: &mut &[u8]| {
            while let Some(rest) = text.strip_prefix(b" ") {
                *text = rest;
            }
        };
        let sign = |text: &mut &[u8], sign: &[u8]| {
            spaces(text);
            *text = text.strip_prefix(sign)?;
            spaces(text);
            Some(())
        };
        spaces(&mut text);
        let start = number(&mut text)?;
        sign(&mut text, b"-")?;
        let end = number(&mut text)?.checked_add(1)?;
        sign(&mut text, b"/")?;
        let length = match text.strip_prefix(b"*") {
            Some(rest) => {
                text = rest;
                None
            }
            None => Some(number(&mut text)?),
        };
        spaces(&mut text);
        text.is_empty().then_some(Self { start, end, length })
    }
}

struct Filter {
    size: u64,
}

fn cut<T>(message: impl Into<String>) -> Result<T, RequestError> {
    Err(RequestError::Cut(message.into().into()))
}

impl HeaderFilter for Filter {
    fn filter(&self, r: &RequestRef) -> Result<FilterStep<Needed>, RequestError> {
        let Some(state) = state(r) else { return Ok(FilterStep::Now(None)) };
        let mut out = r.out_mut();
        if out.status != 206 {
            if !r.is_subrequest() {
                state.off.set(true);
                return Ok(FilterStep::Now(None));
            }
            return cut(format!("unexpected status code {} in slice response", out.status));
        }
        if state.etag.borrow().is_some() && *state.etag.borrow() != out.etag {
            return cut("etag mismatch in slice response");
        }
        state.etag.borrow_mut().clone_from(&out.etag);
        let Some(range) = out.get(b"Content-Range").and_then(ContentRange::parse) else {
            return cut("invalid range in slice response");
        };
        let Some(length) = range.length else { return cut("no complete length in slice response") };
        let end = range.start.saturating_add(self.size).min(length);
        if range.start != state.start.get() || range.end != end {
            return cut(format!(
                "unexpected range in slice response: {}-{}, expected: {}-{end}",
                range.start,
                range.end,
                state.start.get()
            ));
        }
        state.start.set(end);
        state.answered.set(true);
        out.status = 200;
        out.status_line = None;
        out.content_length = Some(length);
        out.content_offset = range.start;
        out.remove(b"Content-Range");
        out.remove(b"Accept-Ranges");
        out.allow_ranges = true;
        r.subrequest_ranges.set(true);
        r.single_range.set(true);
        if r.is_subrequest() {
            return Ok(FilterStep::Now(None));
        }
        state.end.set(length);
        state.complete.set(true);
        let body = Slices { state, size: self.size, stage: Stage::Head };
        Ok(FilterStep::Now(Some((BodyOrder::Slice, Box::new(body)))))
    }
}

/// Puts the other slices behind the first one.
struct Slices {
    state: Rc<State>,
    size: u64,
    stage: Stage,
}

#[derive(PartialEq, Eq)]
enum Stage {
    /// Nothing of the body has come.
    Head,
    First,
    /// The first slice is complete.
    Others,
    Done,
}

impl Slices {
    /// The other filters have seen the head: if only a part is to be answered, only its slices are.
    fn begin(&mut self, r: &Request) {
        self.stage = Stage::First;
        let out = r.out();
        if out.status != 206 {
            return;
        }
        let (state, first) = (&self.state, out.content_offset);
        if state.start.get().saturating_add(self.size) <= first {
            state.start.set(first / self.size * self.size);
        }
        state.end.set(first.saturating_add(out.content_length.unwrap_or(0)));
    }
}

impl BodyFilter for Slices {
    fn filter(
        &mut self,
        r: &RequestRef,
        piece: Piece,
        out: &mut Pieces,
    ) -> Result<FilterStep<()>, RequestError> {
        if self.stage == Stage::Head {
            self.begin(r);
        }
        match piece {
            Piece::Last if self.state.start.get() >= self.state.end.get() => {
                self.stage = Stage::Done;
                out.push(Piece::Last);
            }
            Piece::Last => self.stage = Stage::Others,
            piece => out.push(piece),
        }
        Ok(FilterStep::Now(()))
    }

    fn pending(&self) -> bool {
        self.stage == Stage::Others
    }

    fn more(&mut self, r: &RequestRef, out: &mut Pieces) -> Result<(), RequestError> {
        let state = &self.state;
        if !state.answered.get() || !state.complete.get() {
            return cut("missing slice response");
        }
        if state.start.get() >= state.end.get() {
            self.stage = Stage::Done;
            out.push(Piece::Last);
            return Ok(());
        }
        state.ask(state.start.get(), self.size);
        state.answered.set(false);
        state.complete.set(false);
        let request = subrequest::inline_again(r)?;
        request.ctx::<Part>();
        let known = state.clone();
        let done: subrequest::Done = Box::new(move |child| known.complete.set(child.done.get()));
        out.push(Piece::Subrequest(Subrequest { request, done: Some(done) }));
        Ok(())
    }

    fn needs_memory(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_of_a_range() {
        let check = |text: &str, expect| assert_eq!(first_byte(Some(text.as_bytes())), expect, "{text}");
        check("bytes=10-20", 10);
        check("Bytes=  7-", 7);
        for none in ["bytes=-10", "bytes=1-2,3-4", "lines=1-2", "bytes=99999999999999999999-", "x", ""] {
            check(none, 0);
        }
        assert_eq!(first_byte(None), 0);
    }

    #[test]
    fn ranges_of_answers() {
        let check = |text: &str, expect: Option<(u64, u64, Option<u64>)>| {
            let got = ContentRange::parse(text.as_bytes());
            let expect = expect.map(|(start, end, length)| ContentRange { start, end, length });
            assert_eq!(got, expect, "{text}");
        };
        check("bytes 0-1/100", Some((0, 2, Some(100))));
        check("bytes  0 - 1 / * ", Some((0, 2, None)));
        for bad in
            ["bytes", "bytes 0-1", "bytes x-1/2", "bytes 0-1/2x", "0-1/2", "bytes 0-18446744073709551615/1"]
        {
            check(bad, None);
        }
    }
}
