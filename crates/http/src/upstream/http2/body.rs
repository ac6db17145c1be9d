//! Reading an answer's body out of its frames.

use crate::{
    phase::RequestError,
    upstream::{
        body::{Broken, Decoded},
        run::Run,
    },
};
use bytes::Bytes;
use moonrest_core::Level;
use moonrest_proto::http2::Event;
use std::task::Context;

impl Run {
    /// Goes on with the request while its answer waits for the client.
    pub(in crate::upstream) fn keep_sending_beside(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Result<(), RequestError> {
        if self.http2.is_some() { self.keep_sending(cx) } else { Ok(()) }
    }

    /// Decodes what was read. At the end of the stream the connection goes back to the pool.
    pub(in crate::upstream) fn decode_http2(&mut self) -> Result<Decoded, Broken> {
        loop {
            let Some(session) = self.conn.as_ref().and_then(|conn| conn.http2.as_ref()) else {
                return Ok(Decoded::End);
            };
            let received = session.client.borrow_mut().receive(&self.rest);
            let (used, event) = received.map_err(|message| Broken::Log(Level::Error, message))?;
            let behind = self.rest.slice(used.min(self.rest.len())..);
            let before = std::mem::replace(&mut self.rest, behind);
            match event {
                Event::Control => {}
                Event::More => return Ok(Decoded::Need),
                Event::Data(range) => {
                    let end = range.end.min(before.len());
                    let data = before.slice(range.start.min(end)..end);
                    if let Some(recorder) = &mut self.recorder {
                        recorder.data(&self.r, &data);
                    }
                    return Ok(Decoded::Data(data));
                }
                Event::Head(_) => {
                    return Err(Broken::Log(Level::Error, "upstream sent invalid header".to_owned()));
                }
                Event::End => {
                    let trailers = session.client.borrow_mut().take_trailers();
                    let trailers =
                        trailers.into_iter().map(|(name, value)| (Bytes::from(name), Bytes::from(value)));
                    self.states.answer.borrow_mut().trailers = trailers.collect();
                    let exact = self.rest.is_empty();
                    self.finished();
                    self.release(exact);
                    return Ok(Decoded::End);
                }
            }
        }
    }
}
