//! The way of a response: header filters, then body pieces through the filters this response needs, to the exchange.
//!
//! ```text
//! handler → [stages up to ssi] → postpone → [gzip …] → exchange
//!                                   ↑ a subrequest's pieces join its main request's tail here
//! ```

use crate::{
    exchange::Output,
    filter::{BodyFilter, BodyOrder, FileRange, FilterStep, Needed, Piece, Pieces},
    phase::{Flow, LocalBoxFuture, RequestError, Step},
    request::{Request, RequestRef},
    subrequest,
};
use bytes::{Bytes, BytesMut};
use std::{future::poll_fn, io};

/// The body filters of one response.
#[derive(Default)]
pub(crate) struct Chain {
    /// Up to the place where subrequests' output joins.
    stages: Vec<Stage>,
    /// Behind that place; a subrequest has none of its own.
    tail: Vec<Stage>,
}

struct Stage {
    order: BodyOrder,
    filter: Option<Box<dyn BodyFilter>>,
}

/// Producers wait when more than this is queued.
const LOW_WATER: usize = 64 * 1024;
/// Parts in which a file is read on the thread pool.
const THREAD_STEP: u64 = 256 * 1024;
/// Files up to this size are read for filters at once, without giving other requests their turn.
const READ_AT_ONCE: u64 = 128 * 1024;

impl Request {
    /// Sends the response head: header filters edit it, then the exchange serialises it.
    /// Nothing is sent twice; a second call does nothing.
    ///
    /// # Errors
    /// What a filter or the exchange gives.
    pub fn send_header(self: &RequestRef) -> Result<FilterStep<()>, RequestError> {
        if self.header_sent.get() {
            return Ok(FilterStep::Now(()));
        }
        self.prepare_header();
        self.filter_header(0, Vec::new())
    }

    fn prepare_header(&self) {
        let mut out = self.out.borrow_mut();
        if self.error_status.get() != 0 {
            out.status = self.error_status.get();
            out.status_line = None;
        }
        if out.status == 0 {
            out.status = 200;
        }
        let bodiless = matches!(out.status, 204 | 304) || (100..200).contains(&out.status);
        if self.method.get() == moonrest_proto::http1::Method::Head || bodiless {
            self.header_only.set(true);
        }
    }

    fn filter_header(
        self: &RequestRef,
        from: usize,
        mut needed: Vec<(BodyOrder, Box<dyn BodyFilter>)>,
    ) -> Result<FilterStep<()>, RequestError> {
        let location = self.loc();
        for (index, filter) in location.header_filters.iter().enumerate().skip(from) {
            match filter.filter(self)? {
                FilterStep::Now(stage) => needed.extend(stage),
                FilterStep::Wait(wait) => {
                    return Ok(FilterStep::Wait(self.clone().resume_header(index + 1, needed, wait)));
                }
            }
        }
        self.start_body(needed)?;
        Ok(FilterStep::Now(()))
    }

    fn resume_header(
        self: RequestRef,
        from: usize,
        mut needed: Vec<(BodyOrder, Box<dyn BodyFilter>)>,
        wait: LocalBoxFuture<Result<Needed, RequestError>>,
    ) -> LocalBoxFuture<Result<(), RequestError>> {
        Box::pin(async move {
            needed.extend(wait.await?);
            match self.filter_header(from, needed)? {
                FilterStep::Now(()) => Ok(()),
                FilterStep::Wait(wait) => wait.await,
            }
        })
    }

    /// What the status leaves of the head, whatever handlers and filters said.
    fn settle_header(&self) {
        let mut out = self.out.borrow_mut();
        if matches!(out.status, 204 | 304) {
            self.header_only.set(true);
        }
        if out.status == 204 && !self.is_subrequest() {
            out.set_content_type(Bytes::new());
            out.clear_content_length();
        }
        if !matches!(out.status, 200 | 206 | 304) {
            out.clear_last_modified();
        }
    }

    fn start_body(&self, mut needed: Vec<(BodyOrder, Box<dyn BodyFilter>)>) -> Result<(), RequestError> {
        self.header_sent.set(true);
        self.settle_header();
        if self.header_only.get() {
            needed.clear();
        }
        if !needed.is_empty() {
            needed.sort_by_key(|(order, _)| *order);
            let mut chain = Chain::default();
            let memory =
                needed.iter().any(|(order, filter)| *order > BodyOrder::Copy && filter.needs_memory());
            for (order, filter) in needed {
                let stage = Stage { order, filter: Some(filter) };
                if order > BodyOrder::Postpone { chain.tail.push(stage) } else { chain.stages.push(stage) }
            }
            if memory {
                let at = chain.stages.partition_point(|stage| stage.order < BodyOrder::Copy);
                chain.stages.insert(at, Stage { order: BodyOrder::Copy, filter: None });
            }
            *self.chain.borrow_mut() = Some(chain);
        }
        let out = self.out.borrow();
        let empty = out.content_length == Some(0) && !out.expect_trailers && out.trailers.is_empty();
        drop(out);
        let end = self.header_only.get() || (empty && self.chain.borrow().is_none());
        self.exchange.send_head(self, self.header_only.get())?;
        if end && self.header_only.get() {
            self.done.set(true);
        }
        Ok(())
    }

    /// Passes one piece through the body filters to the exchange. The head must have been sent.
    /// Pieces of a response without body (HEAD, 304) are dropped.
    ///
    /// # Errors
    /// What a filter or the exchange gives.
    pub fn output(self: &RequestRef, piece: Piece) -> Result<FilterStep<()>, RequestError> {
        if self.done.get() {
            return Ok(FilterStep::Now(()));
        }
        if self.header_only.get() {
            return Ok(FilterStep::Now(()));
        }
        if self.chain.borrow().is_none() && !matches!(piece, Piece::Subrequest(_)) {
            match piece {
                Piece::File(range) if needs_thread(&range) => {
                    return Ok(FilterStep::Wait(self.clone().read_on_threads(range)));
                }
                piece => self.to_exchange(piece)?,
            }
            return Ok(FilterStep::Now(()));
        }
        let Some(chain) = self.chain.borrow_mut().take() else {
            return self.drive(Chain::default(), 0, vec![piece]);
        };
        self.drive(chain, 0, vec![piece])
    }

    /// [`Request::output`], then waits until the client has taken enough of what is queued.
    ///
    /// # Errors
    /// What a filter or the exchange gives.
    pub async fn send(self: &RequestRef, piece: Piece) -> Result<(), RequestError> {
        if let FilterStep::Wait(wait) = self.output(piece)? {
            wait.await?;
        }
        self.drained(LOW_WATER).await
    }

    /// Waits until at most `low_water` bytes are queued.
    ///
    /// # Errors
    /// When the client is gone or takes nothing for `send_timeout`.
    pub async fn drained(self: &RequestRef, low_water: usize) -> Result<(), RequestError> {
        poll_fn(|cx| self.exchange.poll_drained(self, low_water, cx)).await
    }

    /// Sends the head, waiting if a filter does.
    ///
    /// # Errors
    /// As [`Request::send_header`].
    pub async fn send_head(self: &RequestRef) -> Result<(), RequestError> {
        match self.send_header()? {
            FilterStep::Now(()) => Ok(()),
            FilterStep::Wait(wait) => wait.await,
        }
    }

    /// A complete response with a body from memory: head, body, end. The length is set.
    ///
    /// # Errors
    /// What a filter or the exchange gives.
    pub fn respond(
        self: &RequestRef,
        status: u16,
        content_type: impl Into<Bytes>,
        body: Bytes,
    ) -> Result<Step, RequestError> {
        {
            let mut out = self.out.borrow_mut();
            out.status = status;
            out.set_content_type(content_type);
            out.content_length = Some(body.len() as u64);
        }
        self.respond_pieces(vec![Piece::Data(body)])
    }

    /// Sends the head as it stands, one piece, and the end; boxes nothing unless a filter waits.
    ///
    /// # Errors
    /// What a filter or the exchange gives.
    pub fn respond_piece(self: &RequestRef, piece: Piece) -> Result<Step, RequestError> {
        if let FilterStep::Wait(wait) = self.send_header()? {
            let r = self.clone();
            return Step::wait(async move {
                wait.await?;
                r.send_all(vec![piece]).await?;
                Ok(Flow::Responded)
            });
        }
        if let FilterStep::Wait(wait) = self.output(piece)? {
            let r = self.clone();
            return Step::wait(async move {
                wait.await?;
                r.send(Piece::Last).await?;
                Ok(Flow::Responded)
            });
        }
        match self.output(Piece::Last)? {
            FilterStep::Now(()) => Step::responded(),
            FilterStep::Wait(wait) => Step::wait(async move {
                wait.await?;
                Ok(Flow::Responded)
            }),
        }
    }

    /// Sends the head as it stands, these pieces, and the end.
    ///
    /// # Errors
    /// What a filter or the exchange gives.
    pub fn respond_pieces(self: &RequestRef, pieces: Pieces) -> Result<Step, RequestError> {
        match self.send_header()? {
            FilterStep::Now(()) => {}
            FilterStep::Wait(wait) => {
                let r = self.clone();
                return Step::wait(async move {
                    wait.await?;
                    r.send_all(pieces).await?;
                    Ok(Flow::Responded)
                });
            }
        }
        let mut pieces = pieces.into_iter().chain([Piece::Last]);
        while let Some(piece) = pieces.next() {
            if let FilterStep::Wait(wait) = self.output(piece)? {
                let (r, rest) = (self.clone(), pieces.collect::<Vec<_>>());
                return Step::wait(async move {
                    wait.await?;
                    for piece in rest {
                        r.send(piece).await?;
                    }
                    Ok(Flow::Responded)
                });
            }
        }
        Step::responded()
    }

    async fn send_all(self: &RequestRef, pieces: Pieces) -> Result<(), RequestError> {
        for piece in pieces.into_iter().chain([Piece::Last]) {
            self.send(piece).await?;
        }
        Ok(())
    }

    /// Runs pieces through the stages from `stage` on, then through the tail to the exchange, and puts the chain back.
    fn drive(
        self: &RequestRef,
        mut chain: Chain,
        stage: usize,
        pieces: Pieces,
    ) -> Result<FilterStep<()>, RequestError> {
        let mut pieces = pieces;
        for index in stage.min(chain.stages.len())..chain.stages.len() {
            let mut input = std::mem::take(&mut pieces).into_iter();
            while let Some(piece) = input.next() {
                let step = match (piece, &mut chain.stages[index].filter) {
                    // A subrequest's output passes its own filters, not its parent's.
                    (piece @ Piece::Subrequest(_), _) => {
                        pieces.push(piece);
                        continue;
                    }
                    (Piece::File(range), None) if range.len() <= READ_AT_ONCE && !range.file.threads => {
                        pieces.push(Piece::Data(read_range(&range)?));
                        continue;
                    }
                    (Piece::File(range), None) => {
                        let rest = (pieces, input.collect());
                        return Ok(FilterStep::Wait(self.clone().drive_file(chain, index, range, rest)));
                    }
                    (piece, None) => {
                        pieces.push(piece);
                        continue;
                    }
                    (piece, Some(filter)) => filter.filter(self, piece, &mut pieces)?,
                };
                if let FilterStep::Wait(wait) = step {
                    let rest = (pieces, input.collect());
                    return Ok(FilterStep::Wait(self.clone().drive_later(chain, index, wait, rest)));
                }
            }
        }
        self.drive_tail(chain, pieces)
    }

    /// The end of the stages: pieces go to the tail; a subrequest is run where it stands.
    fn drive_tail(self: &RequestRef, chain: Chain, pieces: Pieces) -> Result<FilterStep<()>, RequestError> {
        *self.chain.borrow_mut() = Some(chain);
        let mut pieces = pieces.into_iter();
        while let Some(piece) = pieces.next() {
            match piece {
                Piece::Subrequest(sub) => {
                    let (r, rest) = (self.clone(), pieces.collect::<Vec<_>>());
                    return Ok(FilterStep::Wait(Box::pin(async move {
                        r.run_child(sub).await?;
                        let Some(chain) = r.chain.borrow_mut().take() else { return Ok(()) };
                        let stages = chain.stages.len();
                        match r.drive(chain, stages, rest)? {
                            FilterStep::Now(()) => Ok(()),
                            FilterStep::Wait(wait) => wait.await,
                        }
                    })));
                }
                Piece::File(range) if needs_thread(&range) => {
                    let (r, rest) = (self.clone(), pieces.collect::<Vec<_>>());
                    return Ok(FilterStep::Wait(Box::pin(async move {
                        r.clone().read_on_threads(range).await?;
                        r.drive_on(&mut None, usize::MAX, rest).await
                    })));
                }
                piece => self.through_tail(piece)?,
            }
        }
        Ok(FilterStep::Now(()))
    }

    /// Passes a file on part by part; what is not in the page cache is read on the thread pool first.
    fn read_on_threads(self: RequestRef, range: FileRange) -> LocalBoxFuture<Result<(), RequestError>> {
        Box::pin(async move {
            let mut at = range.start;
            while at < range.end {
                let end = range.end.min(at.saturating_add(THREAD_STEP));
                let part = FileRange { file: range.file.clone(), start: at, end };
                let piece = match part.file.is_cached(at, end) {
                    true => Piece::File(part),
                    false => Piece::Data(read_async(&part).await?),
                };
                self.through_tail(piece)?;
                self.drained(LOW_WATER).await?;
                at = end;
            }
            Ok(())
        })
    }

    async fn run_child(self: &RequestRef, sub: subrequest::Subrequest) -> Result<(), RequestError> {
        let child = sub.request;
        let result = subrequest::run(child.clone()).await;
        if let Some(done) = sub.done {
            done(&child);
        }
        // A failed child leaves a gap; only a broken connection ends its parent.
        match result {
            Err(error @ RequestError::Client { .. }) => Err(error),
            _ => Ok(()),
        }
    }

    /// Passes a piece through the filters behind the place where subrequests join. Those never wait.
    pub(crate) fn through_tail(self: &RequestRef, piece: Piece) -> Result<(), RequestError> {
        let tail = self.chain.borrow_mut().as_mut().map(|chain| std::mem::take(&mut chain.tail));
        let Some(mut tail) = tail.filter(|tail| !tail.is_empty()) else { return self.to_exchange(piece) };
        let mut pieces = vec![piece];
        let mut result = Ok(());
        'stages: for stage in &mut tail {
            let Some(filter) = &mut stage.filter else { continue };
            let mut out = Vec::new();
            for piece in pieces {
                let piece = match piece {
                    Piece::File(range) if filter.needs_memory() => Piece::Data(read_range(&range)?),
                    other => other,
                };
                match filter.filter(self, piece, &mut out) {
                    Ok(FilterStep::Now(())) => {}
                    Ok(FilterStep::Wait(_)) => {
                        result = Err(RequestError::internal("a compression filter must not wait"));
                    }
                    Err(error) => result = Err(error),
                }
                if result.is_err() {
                    pieces = Vec::new();
                    break 'stages;
                }
            }
            pieces = out;
        }
        if let Some(chain) = self.chain.borrow_mut().as_mut() {
            chain.tail = tail;
        }
        result?;
        pieces.into_iter().try_for_each(|piece| self.to_exchange(piece))
    }

    fn drive_later(
        self: RequestRef,
        chain: Chain,
        stage: usize,
        wait: LocalBoxFuture<Result<(), RequestError>>,
        (mut done, rest): (Pieces, Pieces),
    ) -> LocalBoxFuture<Result<(), RequestError>> {
        Box::pin(async move {
            wait.await?;
            let mut chain = chain;
            for piece in rest {
                let step = match &mut chain.stages[stage].filter {
                    Some(filter) if !matches!(piece, Piece::Subrequest(_)) => {
                        filter.filter(&self, piece, &mut done)?
                    }
                    _ => {
                        done.push(piece);
                        continue;
                    }
                };
                if let FilterStep::Wait(wait) = step {
                    wait.await?;
                }
            }
            match self.drive(chain, stage + 1, done)? {
                FilterStep::Now(()) => Ok(()),
                FilterStep::Wait(wait) => wait.await,
            }
        })
    }

    /// Reads a large file piece by piece for the filters behind `stage`, as fast as the client takes the result.
    fn drive_file(
        self: RequestRef,
        chain: Chain,
        stage: usize,
        range: FileRange,
        (before, rest): (Pieces, Pieces),
    ) -> LocalBoxFuture<Result<(), RequestError>> {
        Box::pin(async move {
            let step = self.loc().core.output_buffers.1.max(4096);
            let mut chain = Some(chain);
            let mut pieces = before;
            let mut at = range.start;
            while at < range.end {
                let end = range.end.min(at.saturating_add(step));
                let part = FileRange { file: range.file.clone(), start: at, end };
                pieces.push(Piece::Data(read_async(&part).await?));
                at = end;
                self.drive_on(&mut chain, stage + 1, std::mem::take(&mut pieces)).await?;
                self.drained(LOW_WATER).await?;
            }
            pieces.extend(rest);
            self.drive_on(&mut chain, stage, pieces).await
        })
    }

    async fn drive_on(
        self: &RequestRef,
        chain: &mut Option<Chain>,
        stage: usize,
        pieces: Pieces,
    ) -> Result<(), RequestError> {
        let present = chain.take().or_else(|| self.chain.borrow_mut().take()).unwrap_or_default();
        match self.drive(present, stage, pieces)? {
            FilterStep::Now(()) => Ok(()),
            FilterStep::Wait(wait) => wait.await,
        }
    }

    fn to_exchange(&self, piece: Piece) -> Result<(), RequestError> {
        match piece {
            Piece::Data(data) if data.is_empty() => Ok(()),
            Piece::Data(data) => {
                self.body_sent.set(self.body_sent.get() + data.len() as u64);
                self.exchange.push(self, Output::Data(data))
            }
            Piece::File(range) if range.is_empty() => Ok(()),
            Piece::File(range) => {
                self.body_sent.set(self.body_sent.get() + range.len());
                self.exchange.push(self, Output::File(range))
            }
            Piece::Flush => {
                self.exchange.flush(self);
                Ok(())
            }
            Piece::Last => {
                self.done.set(true);
                self.exchange.finish(self)
            }
            Piece::Subrequest(_) => Err(RequestError::internal("a subrequest outside a body")),
        }
    }
}

/// Whether the location wants disk reads on the thread pool, and this one would touch the disk.
fn needs_thread(range: &FileRange) -> bool {
    range.file.threads && !range.is_empty() && !range.file.is_cached(range.start, range.end)
}

/// Reads a range into memory at once.
pub(crate) fn read_range(range: &FileRange) -> Result<Bytes, RequestError> {
    let len = usize::try_from(range.len()).unwrap_or(usize::MAX);
    let mut buffer = BytesMut::zeroed(len);
    let n = range.file.read_at(&mut buffer, range.start).map_err(|error| read_error(range, &error))?;
    if n < len {
        return Err(truncated(range));
    }
    Ok(buffer.freeze())
}

/// Reads a range, on the thread pool when the file asks for that.
async fn read_async(range: &FileRange) -> Result<Bytes, RequestError> {
    if !range.file.threads {
        return read_range(range);
    }
    let (file, direct, start) = (range.file.file.clone(), range.file.direct, range.start);
    let len = usize::try_from(range.len()).unwrap_or(usize::MAX);
    let read = tokio::task::spawn_blocking(move || {
        let mut buffer = BytesMut::zeroed(len);
        crate::open_file::read_at(&file, direct, &mut buffer, start).map(|n| (n, buffer))
    });
    let (n, buffer) = read
        .await
        .map_err(|_| RequestError::internal("a thread of the pool was lost"))?
        .map_err(|error| read_error(range, &error))?;
    if n < len { Err(truncated(range)) } else { Ok(buffer.freeze()) }
}

fn read_error(range: &FileRange, error: &io::Error) -> RequestError {
    RequestError::Internal {
        status: 500,
        level: moonrest_core::Level::Crit,
        message: format!(
            "pread() \"{}\" failed ({})",
            String::from_utf8_lossy(&range.file.name),
            moonrest_core::env::os_error(error)
        )
        .into(),
    }
}

fn truncated(range: &FileRange) -> RequestError {
    RequestError::Cut(format!("file \"{}\" was truncated", String::from_utf8_lossy(&range.file.name)).into())
}
