//! Body pieces on their way through the filters of one response.

use crate::{
    filter::{AllNeeded, BodyFilter, BodyOrder, FileRange, FilterStep, Piece, Pieces},
    output::LOW_WATER,
    phase::{LocalBoxFuture, RequestError},
    request::{Request, RequestRef},
};
use bytes::{Bytes, BytesMut};
use smallvec::{SmallVec, smallvec};
use std::io;

/// The body filters of one response.
#[derive(Default)]
pub(crate) struct Chain {
    /// Up to the place where subrequests' output joins.
    stages: SmallVec<[Stage; 2]>,
    /// Behind that place; a subrequest has none of its own.
    tail: Vec<Box<dyn BodyFilter>>,
}

struct Stage {
    order: BodyOrder,
    /// `None` is the engine's own stage that reads files ([`BodyOrder::Copy`]).
    filter: Option<Box<dyn BodyFilter>>,
}

/// Parts in which a file is read on the thread pool.
const THREAD_STEP: u64 = 256 * 1024;
/// Files up to this size are read for filters at once, without giving other requests their turn.
const READ_AT_ONCE: u64 = 128 * 1024;

impl Chain {
    /// The chain of these filters; `None` when there is nothing to pass. `memory` means that bytes are needed behind it.
    pub(crate) fn new(mut needed: AllNeeded, memory: bool) -> Option<Self> {
        if needed.is_empty() && !memory {
            return None;
        }
        needed.sort_by_key(|(order, _)| *order);
        let memory =
            memory || needed.iter().any(|(order, filter)| *order > BodyOrder::Copy && filter.needs_memory());
        let mut chain = Self::default();
        for (order, filter) in needed {
            if order > BodyOrder::Postpone {
                chain.tail.push(filter);
            } else {
                chain.stages.push(Stage { order, filter: Some(filter) });
            }
        }
        if memory {
            let at = chain.stages.partition_point(|stage| stage.order < BodyOrder::Copy);
            chain.stages.insert(at, Stage { order: BodyOrder::Copy, filter: None });
        }
        Some(chain)
    }

    fn filter(&mut self, stage: usize) -> Option<&mut Box<dyn BodyFilter>> {
        self.stages.get_mut(stage)?.filter.as_mut()
    }

    /// Whether the filter of that stage has more to give for the piece it was given last.
    fn is_pending(&mut self, stage: usize) -> bool {
        self.filter(stage).is_some_and(|filter| filter.pending())
    }
}

impl Request {
    /// Whether the filters behind the place where this subrequest's output joins need bytes.
    pub(crate) fn joins_memory(&self) -> bool {
        let main = self.main();
        let chain = main.chain.borrow();
        chain.as_ref().is_some_and(|chain| chain.tail.iter().any(|filter| filter.needs_memory()))
    }

    /// Runs pieces through the stages from `stage` on, then through the tail to the exchange, and puts the chain back.
    pub(crate) fn drive(
        self: &RequestRef,
        mut chain: Chain,
        stage: usize,
        pieces: Pieces,
    ) -> Result<FilterStep<()>, RequestError> {
        let mut pieces = pieces;
        for index in stage.min(chain.stages.len())..chain.stages.len() {
            let mut input = std::mem::take(&mut pieces).into_iter();
            while let Some(piece) = input.next() {
                let step = match (piece, chain.filter(index)) {
                    // A subrequest's output passes its own filters, not its parent's.
                    (piece @ Piece::Subrequest(_), Some(filter)) => {
                        filter.release(self, &mut pieces)?;
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
                match step {
                    FilterStep::Wait(wait) => {
                        let rest = (pieces, input.collect());
                        return Ok(FilterStep::Wait(self.clone().drive_later(chain, index, wait, rest)));
                    }
                    FilterStep::Now(()) if chain.is_pending(index) => {
                        let rest = (pieces, input.collect());
                        let rest = self.clone().drive_pending(chain, index, rest);
                        return Ok(FilterStep::Wait(Box::pin(rest)));
                    }
                    FilterStep::Now(()) => {}
                }
            }
        }
        self.drive_tail(chain, pieces)
    }

    /// The end of the stages: pieces go to the tail; subrequests are run where they stand.
    fn drive_tail(self: &RequestRef, chain: Chain, pieces: Pieces) -> Result<FilterStep<()>, RequestError> {
        *self.chain.borrow_mut() = Some(chain);
        let mut pieces = pieces.into_iter();
        while let Some(piece) = pieces.next() {
            match piece {
                Piece::Subrequest(first) => {
                    let wait = crate::children::run(self.clone(), first, pieces.collect());
                    return Ok(FilterStep::Wait(Box::pin(wait)));
                }
                Piece::File(range) if needs_thread(&range) => {
                    let (r, rest) = (self.clone(), pieces.collect());
                    return Ok(FilterStep::Wait(Box::pin(async move {
                        r.clone().read_on_threads(range).await?;
                        let chain = r.chain.borrow_mut().take().unwrap_or_default();
                        r.drive_on(chain, usize::MAX, rest).await
                    })));
                }
                piece => self.through_tail(piece)?,
            }
        }
        Ok(FilterStep::Now(()))
    }

    /// Passes a file on part by part; what is not in the page cache is read on the thread pool first.
    pub(crate) fn read_on_threads(
        self: RequestRef,
        range: FileRange,
    ) -> LocalBoxFuture<Result<(), RequestError>> {
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

    /// Passes a piece through the filters behind the place where subrequests join. Those never wait.
    pub(crate) fn through_tail(self: &RequestRef, piece: Piece) -> Result<(), RequestError> {
        let tail = self.chain.borrow_mut().as_mut().map(|chain| std::mem::take(&mut chain.tail));
        let mut tail = tail.unwrap_or_default();
        if tail.is_empty() {
            return self.to_exchange(piece);
        }
        let result = self.filter_tail(&mut tail, piece);
        if let Some(chain) = self.chain.borrow_mut().as_mut() {
            chain.tail = tail;
        }
        result?.into_iter().try_for_each(|piece| self.to_exchange(piece))
    }

    fn filter_tail(
        self: &RequestRef,
        tail: &mut [Box<dyn BodyFilter>],
        piece: Piece,
    ) -> Result<Pieces, RequestError> {
        let mut pieces: Pieces = smallvec![piece];
        for filter in tail {
            let mut out = Pieces::new();
            for piece in pieces {
                let piece = match piece {
                    Piece::File(range) if filter.needs_memory() => Piece::Data(read_range(&range)?),
                    other => other,
                };
                if let FilterStep::Wait(_) = filter.filter(self, piece, &mut out)? {
                    return Err(RequestError::internal("a compression filter must not wait"));
                }
            }
            pieces = out;
        }
        Ok(pieces)
    }

    fn drive_later(
        self: RequestRef,
        chain: Chain,
        stage: usize,
        wait: LocalBoxFuture<Result<(), RequestError>>,
        rest: (Pieces, Pieces),
    ) -> LocalBoxFuture<Result<(), RequestError>> {
        Box::pin(async move {
            wait.await?;
            self.drive_pending(chain, stage, rest).await
        })
    }

    /// Goes on behind `stage`, whose filter has taken a piece and put out what is in `done`: as long as it has more to
    /// give, that is passed on and the client given time to take it; then comes the rest of the filter's input.
    async fn drive_pending(
        self: RequestRef,
        mut chain: Chain,
        stage: usize,
        (mut done, rest): (Pieces, Pieces),
    ) -> Result<(), RequestError> {
        loop {
            let pending = chain.is_pending(stage);
            self.drive_on(chain, stage + 1, std::mem::take(&mut done)).await?;
            chain = self.chain.borrow_mut().take().unwrap_or_default();
            if !pending {
                break;
            }
            self.drained(LOW_WATER).await?;
            moonrest_rt::yield_now().await;
            if let Some(filter) = chain.filter(stage) {
                filter.more(&self, &mut done)?;
            }
        }
        self.drive_on(chain, stage, rest).await
    }

    /// Reads a large file piece by piece for the filters behind `stage`, as fast as the client takes the result.
    fn drive_file(
        self: RequestRef,
        mut chain: Chain,
        stage: usize,
        range: FileRange,
        (mut pieces, rest): (Pieces, Pieces),
    ) -> LocalBoxFuture<Result<(), RequestError>> {
        Box::pin(async move {
            let step = self.loc().core.output_buffers.1.max(4096);
            let mut at = range.start;
            while at < range.end {
                let end = range.end.min(at.saturating_add(step));
                let part = FileRange { file: range.file.clone(), start: at, end };
                pieces.push(Piece::Data(read_async(&part).await?));
                at = end;
                self.drive_on(chain, stage + 1, std::mem::take(&mut pieces)).await?;
                self.drained(LOW_WATER).await?;
                moonrest_rt::yield_now().await;
                chain = self.chain.borrow_mut().take().unwrap_or_default();
            }
            pieces.extend(rest);
            self.drive_on(chain, stage, pieces).await
        })
    }

    async fn drive_on(
        self: &RequestRef,
        chain: Chain,
        stage: usize,
        pieces: Pieces,
    ) -> Result<(), RequestError> {
        match self.drive(chain, stage, pieces)? {
            FilterStep::Now(()) => Ok(()),
            FilterStep::Wait(wait) => wait.await,
        }
    }
}

/// Whether the location wants disk reads on the thread pool, and this one may touch the disk. A long range is looked
/// at part by part: its middle may be elsewhere than its ends.
pub(crate) fn needs_thread(range: &FileRange) -> bool {
    range.file.threads
        && !range.is_empty()
        && (range.len() > THREAD_STEP || !range.file.is_cached(range.start, range.end))
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
    let read = moonrest_rt::spawn_blocking(move || {
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
