//! The way of most requests: head complete in the buffer, answered by handlers that do not wait, written in one call.
//! All of it is plain code; the first thing that must wait hands the rest to a future.

use super::{
    h1::{After, BATCH, BodyReader, Doing, H1, Handling, Rest, Work, begin},
    intake::take_head,
};
use crate::{engine, exchange::Exchange as _};
use moonrest_proto::http1::Parse;
use std::rc::Rc;

/// Reads what has come and handles the requests in it. What has to wait is returned as the error.
pub(super) fn batch(h1: &Rc<H1>) -> Result<After, Rest> {
    if h1.unread() == 0 {
        return Err(Rest::Head(None));
    }
    h1.pipelined.set(false);
    loop {
        h1.begin();
        let mut memory = h1.worker.take_memory();
        let limits = h1.default_settings().head_limits;
        let work: &Work = h1;
        let parsed = {
            let buffer = work.buffer.borrow();
            memory.head.get_mut().parse(buffer.get(work.at.get()..).unwrap_or_default(), &limits)
        };
        let Ok(Parse::Complete { len }) = parsed else {
            // Parsed again from its beginning, where waiting and errors are dealt with.
            memory.head.get_mut().reset();
            return Err(Rest::Head(Some(memory)));
        };
        let (r, status) = take_head(h1, memory, len);
        begin(h1);
        if let Some(status) = status {
            return Err(Rest::Request(r, Handling::BadHead(status)));
        }
        if let Some(later) = engine::handle_now(&r) {
            return Err(Rest::Request(r, Handling::Later(later)));
        }
        let body_read = matches!(*work.body.borrow(), BodyReader::Done);
        if !r.keepalive.get() || !body_read || h1.worker.is_quitting() || h1.broken.get() || h1.is_paced() {
            return Err(Rest::Request(r, Handling::Finished));
        }
        h1.count_as(Doing::Nothing);
        let keepalive = r.loc().core.keepalive_timeout;
        drop(r);
        let more = h1.unread() > 0;
        work.pipelined.set(more);
        if more && work.queue.borrow().len() <= BATCH {
            continue;
        }
        if !h1.flush_now() {
            return Err(if more { Rest::Head(None) } else { Rest::Flush(keepalive) });
        }
        if !more {
            return Ok(After::Idle(keepalive));
        }
    }
}
