//! The way of a response: header filters, then body pieces through the filters this response needs, to the exchange.
//!
//! ```text
//! handler → [stages up to ssi] → postpone → [gzip …] → exchange
//!                                   ↑ a subrequest's pieces join its main request's tail here
//! ```

use crate::{
    exchange::Output,
    filter::{AllNeeded, FilterStep, Needed, Piece, Pieces},
    phase::{Flow, LocalBoxFuture, RequestError, Step},
    pipeline::{Chain, needs_thread},
    request::{Request, RequestRef},
    subrequest,
};
use bytes::Bytes;
use smallvec::smallvec;
use std::future::poll_fn;

/// Producers wait when more than this is queued.
pub(crate) const LOW_WATER: usize = 64 * 1024;

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
        if !self.prepare_header() {
            // The stub's head takes the place of one that promises no body.
            return Ok(FilterStep::Now(()));
        }
        if self.loc().rare_filters && !self.is_rare() {
            self.start_body(AllNeeded::new())?;
            return Ok(FilterStep::Now(()));
        }
        self.filter_header(0, AllNeeded::new())
    }

    /// `false` when there is to be no head yet.
    #[inline(always)]
    fn prepare_header(&self) -> bool {
        let mut out = self.out.borrow_mut();
        if matches!(out.status, 204 | 304) && subrequest::has_stub(self) {
            return false;
        }
        if self.error_status.get() != 0 {
            out.status = self.error_status.get();
            out.status_line = None;
        }
        if out.status == 0 {
            out.status = 200;
        }
        let bodiless = matches!(out.status, 204 | 304);
        if self.method.get() == moonrest_proto::http1::Method::Head || bodiless {
            self.header_only.set(true);
        }
        true
    }

    fn filter_header(
        self: &RequestRef,
        from: usize,
        mut needed: AllNeeded,
    ) -> Result<FilterStep<()>, RequestError> {
        let location = self.loc();
        let captured = self.is_subrequest() && subrequest::is_captured(self);
        let count = if captured { location.captured_filters } else { location.header_filters.len() };
        let mut index = from;
        for filter in location.header_filters.get(from..count).unwrap_or_default() {
            index += 1;
            match filter.filter(self)? {
                FilterStep::Now(None) => {}
                FilterStep::Now(Some(stage)) => needed.push(stage),
                FilterStep::Wait(wait) => {
                    return Ok(FilterStep::Wait(self.clone().resume_header(index, needed, wait)));
                }
            }
        }
        self.start_body(needed)?;
        Ok(FilterStep::Now(()))
    }

    /// Whether the request has conditions, or parts of the response may be asked for.
    fn is_rare(&self) -> bool {
        self.out.borrow().allow_ranges || self.head.borrow().fields.has_conditions()
    }

    fn resume_header(
        self: RequestRef,
        from: usize,
        mut needed: AllNeeded,
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
        if !matches!(out.status, 200 | 206 | 304) && out.last_modified_text.is_none() {
            out.clear_last_modified();
        }
    }

    #[inline]
    fn start_body(&self, mut needed: AllNeeded) -> Result<(), RequestError> {
        self.header_sent.set(true);
        self.settle_header();
        if self.header_only.get() {
            needed.clear();
        }
        // Most responses have no filters, and no chain from the start.
        if !needed.is_empty() || self.is_subrequest() || self.chain.borrow().is_some() {
            *self.chain.borrow_mut() = Chain::new(needed, self.is_subrequest() && self.joins_memory());
        }
        self.exchange.send_head(self, self.header_only.get())?;
        if self.header_only.get() {
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
        if self.done.get() || self.header_only.get() {
            return Ok(FilterStep::Now(()));
        }
        if matches!(piece, Piece::Last) && subrequest::has_stub(self) {
            // The end comes behind the stub.
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
        let chain = self.chain.borrow_mut().take().unwrap_or_default();
        self.drive(chain, 0, smallvec![piece])
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

    /// Sends pieces one behind the other; subrequests among them begin at once and run side by side.
    ///
    /// # Errors
    /// What a filter or the exchange gives.
    pub async fn send_pieces(self: &RequestRef, pieces: Pieces) -> Result<(), RequestError> {
        if self.done.get() || self.header_only.get() {
            return Ok(());
        }
        let chain = self.chain.borrow_mut().take().unwrap_or_default();
        if let FilterStep::Wait(wait) = self.drive(chain, 0, pieces)? {
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
        self.respond_pieces(smallvec![Piece::Data(body)])
    }

    /// Sends the head as it stands, these pieces, and the end.
    ///
    /// # Errors
    /// What a filter or the exchange gives.
    pub fn respond_pieces(self: &RequestRef, pieces: impl Into<Pieces>) -> Result<Step, RequestError> {
        let pieces = pieces.into();
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
                let (r, rest) = (self.clone(), pieces.collect::<Pieces>());
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

    /// Sends the head as it stands, one piece, and the end; boxes nothing unless a filter waits.
    ///
    /// # Errors
    /// What a filter or the exchange gives.
    pub fn respond_piece(self: &RequestRef, piece: Piece) -> Result<Step, RequestError> {
        if let FilterStep::Wait(wait) = self.send_header()? {
            let r = self.clone();
            return Step::wait(async move {
                wait.await?;
                r.send_all(smallvec![piece]).await?;
                Ok(Flow::Responded)
            });
        }
        if self.done.get() || self.header_only.get() {
            return Step::responded();
        }
        // Most responses: nothing stands between them and the client.
        let direct = !self.is_subrequest()
            && self.chain.borrow().is_none()
            && match &piece {
                Piece::Data(_) => true,
                Piece::File(range) => !needs_thread(range),
                _ => false,
            };
        if direct {
            self.to_exchange(piece)?;
            self.to_exchange(Piece::Last)?;
            return Step::responded();
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

    /// [`Request::respond_piece`] of a text that is used for many answers.
    ///
    /// # Errors
    /// What a filter or the exchange gives.
    pub fn respond_text(self: &RequestRef, text: &Bytes) -> Result<Step, RequestError> {
        if text.is_empty() || self.header_sent.get() || self.is_subrequest() {
            return self.respond_piece(Piece::Data(text.clone()));
        }
        if let FilterStep::Wait(wait) = self.send_header()? {
            let (r, piece) = (self.clone(), Piece::Data(text.clone()));
            return Step::wait(async move {
                wait.await?;
                r.send_all(smallvec![piece]).await?;
                Ok(Flow::Responded)
            });
        }
        if self.chain.borrow().is_some() {
            return self.respond_piece(Piece::Data(text.clone()));
        }
        if !self.header_only.get() {
            self.body_sent.set(self.body_sent.get() + text.len() as u64);
            self.done.set(true);
            self.exchange.push_whole(self, text)?;
        }
        Step::responded()
    }

    async fn send_all(self: &RequestRef, pieces: Pieces) -> Result<(), RequestError> {
        for piece in pieces.into_iter().chain([Piece::Last]) {
            self.send(piece).await?;
        }
        Ok(())
    }

    /// Queues a piece on the way out.
    #[inline]
    pub(crate) fn to_exchange(&self, piece: Piece) -> Result<(), RequestError> {
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
