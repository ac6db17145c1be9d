//! Reading an answer's body out of its frames.

use crate::{
    phase::RequestError,
    upstream::{
        body::{Broken, Decoded},
        http2::Exchange,
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
        let Some(mut exchange) = self.http2.take() else { return Ok(Decoded::End) };
        let read = match exchange.ready.is_empty() && !exchange.ended {
            true => self.read_frames(&mut exchange),
            false => Ok(()),
        };
        let next = exchange.ready.pop_front();
        let ended = exchange.ended;
        self.http2 = Some(exchange);
        read.map_err(|message| Broken::Log(Level::Error, message))?;
        match next {
            Some(data) => {
                if let Some(recorder) = &mut self.recorder {
                    recorder.data(&self.r, &data);
                }
                Ok(Decoded::Data(data))
            }
            None if !ended => Ok(Decoded::Need),
            None => {
                let exact = self.rest.is_empty();
                self.finished();
                self.release(exact);
                Ok(Decoded::End)
            }
        }
    }

    /// Takes all frames apart that have come. What is wrong with one spoils those before it: the client gets nothing of
    /// them either.
    fn read_frames(&mut self, exchange: &mut Exchange) -> Result<(), String> {
        let Some(session) = self.conn.as_ref().and_then(|conn| conn.http2.as_ref()) else { return Ok(()) };
        let mut client = session.client.borrow_mut();
        loop {
            let (used, event) = client.receive(&self.rest)?;
            let behind = self.rest.slice(used.min(self.rest.len())..);
            let before = std::mem::replace(&mut self.rest, behind);
            match event {
                Event::Control => {}
                Event::More => return Ok(()),
                Event::Data(range) => {
                    let end = range.end.min(before.len());
                    exchange.ready.push_back(before.slice(range.start.min(end)..end));
                }
                Event::Head(_) => return Err("upstream sent invalid header".to_owned()),
                Event::End => {
                    let trailers = client.take_trailers().into_iter();
                    let trailers = trailers.map(|(name, value)| (Bytes::from(name), Bytes::from(value)));
                    self.states.answer.borrow_mut().trailers = trailers.collect();
                    exchange.ended = true;
                    return Ok(());
                }
            }
        }
    }
}
