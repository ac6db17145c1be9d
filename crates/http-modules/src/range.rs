//! Parts of a response: `Range`, `If-Range`, `max_ranges`.
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#max_ranges>

use moonrest_http::prelude::*;
use moonrest_proto::{
    date,
    http1::{Known, Version},
    range::{self, Outcome},
};
use std::{
    cell::RefCell,
    io::Write,
    ops::Range as Bounds,
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Answers with the ranges that the client asks for.
pub struct Ranges;

impl HttpModule for Ranges {
    const NAME: &'static str = "ngx_http_range_header_filter_module";
    type Main = ();
    type Loc = ();

    fn attach(_main: &(), _loc: &Arc<()>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if to.core.max_ranges != Some(0) {
            to.header_filter(HeaderOrder::Range, Filter);
        }
        Ok(())
    }
}

/// Ranges of the client's request, which the subrequests that a sliced answer is made of share.
#[derive(Default)]
struct Asked {
    ranges: RefCell<Rc<[Bounds<u64>]>>,
}

struct Filter;

impl HeaderFilter for Filter {
    fn filter(&self, r: &RequestRef) -> Result<FilterStep<Needed>, RequestError> {
        let length = {
            let out = r.out();
            if !out.allow_ranges
                || out.status != 200
                || r.version.get() < Version::Http10
                || (r.is_subrequest() && !r.subrequest_ranges.get())
            {
                return Ok(FilterStep::Now(None));
            }
            let Some(length) = out.content_length else { return Ok(FilterStep::Now(None)) };
            length
        };
        let ranges = match asked(r, length) {
            (Outcome::Partial, Some(ranges)) => ranges,
            (Outcome::Partial | Outcome::Whole, _) => {
                r.out_mut().add(Bytes::from_static(b"Accept-Ranges"), Bytes::from_static(b"bytes"));
                return Ok(FilterStep::Now(None));
            }
            (Outcome::NotSatisfiable, _) => return Err(not_satisfiable(r, length)),
        };
        let offset = {
            let mut out = r.out_mut();
            out.status = 206;
            out.status_line = None;
            out.content_offset
        };
        let body: Box<dyn BodyFilter> = match &*ranges {
            [range] => {
                single_head(r, range, length);
                Box::new(Single { range: range.clone(), offset })
            }
            _ => {
                let parts = multipart_head(r, &ranges, length);
                Box::new(Multipart { ranges, parts, offset, done: false })
            }
        };
        Ok(FilterStep::Now(Some((BodyOrder::Range, body))))
    }
}

/// What the request asks for, as far as its conditions allow.
fn asked(r: &Request, length: u64) -> (Outcome, Option<Rc<[Bounds<u64>]>>) {
    if !r.has_known(Known::Range) || !if_range_holds(r) {
        return (Outcome::Whole, None);
    }
    if r.is_subrequest()
        && let Some(known) = r.main().find_ctx::<Asked>()
    {
        return (Outcome::Partial, Some(known.ranges.borrow().clone()));
    }
    let max = match (r.single_range.get(), r.loc().core.max_ranges) {
        (true, _) => Some(1),
        (false, max) => max.map(|max| u32::try_from(max).unwrap_or(u32::MAX)),
    };
    let mut ranges = Vec::new();
    let outcome =
        r.with_known(Known::Range, |value| range::parse(value.unwrap_or_default(), length, max, &mut ranges));
    let ranges: Rc<[Bounds<u64>]> = ranges.into();
    if outcome == Outcome::Partial {
        *r.ctx::<Asked>().ranges.borrow_mut() = ranges.clone();
    }
    (outcome, Some(ranges))
}

/// Whether what the client has parts of is still the same.
fn if_range_holds(r: &Request) -> bool {
    r.with_known(Known::IfRange, |value| {
        let Some(value) = value else { return true };
        let out = r.out();
        if value.len() >= 2 && value.ends_with(b"\"") {
            return out.etag.as_deref() == Some(value);
        }
        out.last_modified.is_some() && date::parse_http(value) == out.last_modified
    })
}

fn not_satisfiable(r: &Request, length: u64) -> RequestError {
    let mut out = r.out_mut();
    out.status = 416;
    out.set(Bytes::from_static(b"Content-Range"), format!("bytes */{length}"));
    out.clear_content_length();
    RequestError::Internal { status: 416, level: Level::Info, message: "".into() }
}

fn single_head(r: &Request, range: &Bounds<u64>, length: u64) {
    if r.is_subrequest() {
        return;
    }
    let mut out = r.out_mut();
    out.set(
        Bytes::from_static(b"Content-Range"),
        format!("bytes {}-{}/{length}", range.start, range.end.saturating_sub(1)),
    );
    out.content_length = Some(range.end - range.start);
    out.content_offset = range.start;
}

/// What stands before, between and behind the parts.
struct Parts {
    /// Before each part; the first line break belongs to the part before.
    heads: Vec<Bytes>,
    end: Bytes,
}

/// Boundaries must not repeat within one process.
static BOUNDARY: AtomicU64 = AtomicU64::new(1);

fn multipart_head(r: &Request, ranges: &[Bounds<u64>], length: u64) -> Parts {
    let mut out = r.out_mut();
    let boundary = BOUNDARY.fetch_add(1, Relaxed);
    let mut common = format!("\r\n--{boundary:020}\r\n").into_bytes();
    if !out.content_type.is_empty() {
        common.extend_from_slice(b"Content-Type: ");
        common.extend_from_slice(&out.content_type);
        let charset = out.charset.as_ref().filter(|charset| !charset.is_empty());
        if let Some(charset) = charset
            && out.content_type_len == out.content_type.len()
        {
            common.extend_from_slice(b"; charset=");
            common.extend_from_slice(charset);
        }
        common.extend_from_slice(b"\r\n");
    }
    common.extend_from_slice(b"Content-Range: bytes ");
    let heads: Vec<Bytes> = ranges
        .iter()
        .map(|range| {
            let mut head = common.clone();
            let _ = write!(head, "{}-{}/{length}\r\n\r\n", range.start, range.end.saturating_sub(1));
            head.into()
        })
        .collect();
    let end = Bytes::from(format!("\r\n--{boundary:020}--\r\n"));
    let body: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    let around = heads.iter().map(Bytes::len).sum::<usize>() + end.len();
    out.content_length = Some(body.saturating_add(around as u64));
    out.content_type = format!("multipart/byteranges; boundary={boundary:020}").into();
    out.content_type_len = out.content_type.len();
    out.charset = None;
    out.remove(b"Content-Range");
    Parts { heads, end }
}

/// Lets one range through.
struct Single {
    range: Bounds<u64>,
    /// Where in the whole content the next piece begins.
    offset: u64,
}

impl BodyFilter for Single {
    fn filter(
        &mut self,
        _r: &RequestRef,
        piece: Piece,
        out: &mut Pieces,
    ) -> Result<FilterStep<()>, RequestError> {
        let start = self.offset;
        self.offset += piece.len();
        match piece {
            piece @ (Piece::Data(_) | Piece::File(_)) => out.extend(cut(&piece, start, &self.range)),
            other => out.push(other),
        }
        Ok(FilterStep::Now(()))
    }

    fn needs_memory(&self) -> bool {
        false
    }
}

/// The part of a piece, which begins at `start` of the content, that lies within `range`.
fn cut(piece: &Piece, start: u64, range: &Bounds<u64>) -> Option<Piece> {
    let len = piece.len();
    let from = range.start.saturating_sub(start);
    let to = range.end.saturating_sub(start).min(len);
    if from >= to {
        return None;
    }
    match piece {
        Piece::Data(data) => {
            let (from, to) = (usize::try_from(from).ok()?, usize::try_from(to).ok()?);
            (to <= data.len()).then(|| Piece::Data(data.slice(from..to)))
        }
        Piece::File(file) => Some(Piece::File(FileRange {
            file: file.file.clone(),
            start: file.start + from,
            end: file.start + to,
        })),
        _ => None,
    }
}

/// Sends several ranges of a content that comes in one piece.
struct Multipart {
    ranges: Rc<[Bounds<u64>]>,
    parts: Parts,
    offset: u64,
    done: bool,
}

impl BodyFilter for Multipart {
    fn filter(
        &mut self,
        r: &RequestRef,
        piece: Piece,
        out: &mut Pieces,
    ) -> Result<FilterStep<()>, RequestError> {
        if !matches!(piece, Piece::Data(_) | Piece::File(_)) {
            out.push(piece);
            return Ok(FilterStep::Now(()));
        }
        if self.done || piece.is_empty() {
            return Ok(FilterStep::Now(()));
        }
        let end = self.offset.saturating_add(piece.len());
        if self.ranges.iter().any(|range| range.start < self.offset || range.end > end) {
            // nginx: several ranges only of what lies in one buffer.
            moonrest_http::alert!(r, "range in overlapped buffers");
            return Err(RequestError::Cut("".into()));
        }
        for (range, head) in self.ranges.iter().zip(&self.parts.heads) {
            out.push(Piece::Data(head.clone()));
            out.extend(cut(&piece, self.offset, range));
        }
        out.push(Piece::Data(self.parts.end.clone()));
        self.done = true;
        Ok(FilterStep::Now(()))
    }

    fn needs_memory(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(data: &'static str, start: u64, range: Bounds<u64>, expect: &str) {
        let piece = Piece::Data(Bytes::from_static(data.as_bytes()));
        let got = match cut(&piece, start, &range) {
            Some(Piece::Data(data)) => String::from_utf8_lossy(&data).into_owned(),
            _ => String::new(),
        };
        assert_eq!(got, expect, "{data} at {start}, {range:?}");
    }

    #[test]
    fn pieces_are_cut_to_a_range() {
        check("0123456789", 0, 2..5, "234");
        check("0123456789", 0, 0..10, "0123456789");
        check("0123456789", 10, 12..15, "234");
        check("0123456789", 10, 0..15, "01234");
        check("0123456789", 10, 15..100, "56789");
        check("0123456789", 10, 0..10, "");
        check("0123456789", 10, 20..30, "");
        check("", 10, 0..30, "");
    }
}
