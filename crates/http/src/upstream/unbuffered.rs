//! Answers that are passed on as they come (`buffering off`).

use super::{
    body::{Broken, Decoded},
    run::Run,
};
use crate::{
    filter::{FilterStep, Piece},
    phase::RequestError,
};
use std::{future::poll_fn, task::Poll};

impl Run {
    /// Passes the body on; the upstream is read again when the client has taken what came.
    pub(super) async fn pass(&mut self) -> Result<(), RequestError> {
        let r = self.r.clone();
        self.put(Piece::Flush).await?;
        loop {
            match self.decode() {
                Ok(Decoded::Data(data)) => self.put(Piece::Data(data)).await?,
                Ok(Decoded::End) => return Ok(()),
                Ok(Decoded::Need) => {
                    self.put(Piece::Flush).await?;
                    self.act("sending to client");
                    self.pause();
                    poll_fn(|cx| {
                        self.keep_sending_beside(cx)?;
                        r.exchange.poll_drained(&r, 0, cx)
                    })
                    .await?;
                    self.act("reading upstream");
                    let room = self.conf.buffer_size;
                    let read = poll_fn(|cx| match self.poll_more(room, cx) {
                        Poll::Ready(read) => Poll::Ready(Ok(read)),
                        Poll::Pending => self.poll_gone(cx).map(Err),
                    })
                    .await?;
                    match read {
                        Ok(false) => {}
                        Ok(true) => return Ok(()),
                        Err(broken) => return Err(self.broke_off(broken)),
                    }
                }
                Err(broken) => return Err(self.broke_off(broken)),
            }
        }
    }

    async fn put(&self, piece: Piece) -> Result<(), RequestError> {
        match self.r.output(piece)? {
            FilterStep::Now(()) => Ok(()),
            FilterStep::Wait(wait) => wait.await,
        }
    }

    fn broke_off(&mut self, broken: Broken) -> RequestError {
        self.give_up(broken);
        RequestError::Upstream { status: 502, message: "".into() }
    }
}
