//! Attempts: a peer, a connection to it, the request and the answer's head, until one of them is good enough.

use super::{
    choose::{Chosen, Own},
    conf::mask,
    connect::{self, Conn, Options},
    hop::From,
    pool::{Lane, Wanted},
    run::{Failure, Run},
    state::{Attempt, CacheStatus},
    verdict::Verdict,
};
use crate::phase::{Flow, RequestError};
use moonrest_net::addr::Addr;
use moonrest_rt::clock::monotonic_ms;
use std::{future::poll_fn, sync::Arc, task::Poll};

impl Run {
    /// What [`super::hop::Hop`] leaves to be waited for, and all that follows from there.
    pub(super) async fn go_on(&mut self, from: From) -> Result<Flow, RequestError> {
        let mut tried = match from {
            From::Unknown(unknown) => {
                if let Err(status) = self.look_up(unknown).await {
                    return Ok(self.fail(status));
                }
                self.attempt().await
            }
            From::Choice => self.choose_and_ask().await,
            From::Peer(chosen) => self.ask(chosen).await,
            From::Failed(failure) => Err(failure),
            From::Judged(verdict) => Ok(Some(verdict)),
            From::Tunnel => return self.tunnel().await,
            From::Sending(sending, buffering) => return self.answer_behind(sending.await, buffering).await,
            From::Body => return self.pass_answer().await,
            From::Ended(result) => return self.end_answer(result).await,
            From::Last(last) => return last.await.map(|()| Flow::Responded),
        };
        loop {
            let failure = match tried {
                Ok(None) => return self.answer().await,
                Ok(Some(Verdict::Finish(status))) => {
                    self.keep_status(status);
                    return Ok(Flow::Finish(status));
                }
                Ok(Some(Verdict::Next(reason))) => Failure::Next(reason),
                Ok(Some(Verdict::Stale(status))) => {
                    self.release(self.is_exact());
                    return Box::pin(self.answer_stale(status)).await;
                }
                Err(failure) => failure,
            };
            match failure {
                Failure::Fatal(error) => return Err(error),
                Failure::Finish(status) => return Ok(Flow::Finish(status)),
                Failure::Next(reason) => {
                    if let Some(status) = self.next(reason) {
                        if self.may_be_stale(reason) {
                            return Box::pin(self.answer_stale(CacheStatus::Stale)).await;
                        }
                        return Ok(self.fail(status));
                    }
                }
            }
            tried = self.attempt().await;
        }
    }

    /// Whether the answer has no body, and nothing came behind its head.
    pub(super) fn is_exact(&self) -> bool {
        self.framing.empty && self.rest.is_empty()
    }

    async fn attempt(&mut self) -> Result<Option<Verdict>, Failure> {
        self.begin_attempt();
        self.choose_and_ask().await
    }

    /// Makes ready for another attempt.
    pub(super) fn begin_attempt(&mut self) {
        self.act("connecting to upstream");
        self.sent = false;
        self.note_response_time();
        self.started = monotonic_ms();
        if self.first_started == 0 {
            self.first_started = self.started;
        }
        self.states.attempts.borrow_mut().push(Attempt::default());
        self.states.talking.set(true);
        self.target = None;
        self.held = true;
    }

    async fn choose_and_ask(&mut self) -> Result<Option<Verdict>, Failure> {
        let chosen = self.choose().await?;
        self.ask(chosen).await
    }

    /// Connects, sends the request, reads the answer's head and judges it.
    async fn ask(&mut self, chosen: Chosen) -> Result<Option<Verdict>, Failure> {
        if let Some(chosen) = self.reuse(chosen) {
            // What few requests do is kept out of the future that all of them are.
            let addr = chosen.addr().clone();
            // Also when it cannot be reached it was this attempt's.
            self.target = Some(chosen);
            let conn = Box::pin(self.connect(&addr)).await?;
            self.takes(conn);
        }
        self.talk().await?;
        Ok(self.judge())
    }

    /// Sends the request over the present connection and reads the answer's head.
    pub(super) async fn talk(&mut self) -> Result<(), Failure> {
        if self.link.http2 {
            self.framing = Box::pin(self.talk_http2()).await?;
        } else {
            self.begin_talk()?;
            poll_fn(|cx| self.poll_head(cx)).await?;
        }
        self.note_head();
        Ok(())
    }

    /// Takes a connection that is kept from an earlier request; gives the peer back when there is none.
    pub(super) fn reuse(&mut self, chosen: Chosen) -> Option<Chosen> {
        let Some(conn) = self.pooled(&chosen) else { return Some(chosen) };
        self.target = Some(chosen);
        self.takes(conn);
        None
    }

    fn takes(&mut self, mut conn: Box<Conn>) {
        conn.requests += 1;
        let took = if conn.reused { 0 } else { self.elapsed() };
        self.conn = Some(conn);
        self.states.with(|attempt| attempt.connect_time = Some(took));
    }

    /// The answer's head has come.
    pub(super) fn note_head(&mut self) {
        let took = self.elapsed();
        let status = self.states.answer.borrow().head.status;
        self.states.with(|attempt| {
            attempt.header_time = Some(took);
            attempt.status = status;
        });
    }

    /// A connection to that peer that is kept from an earlier request.
    fn pooled(&self, chosen: &Chosen) -> Option<Box<Conn>> {
        let id = self.group?;
        let lane = match chosen {
            Chosen::Own(Own { addr, keepalive: Some(_), lane }) => {
                let wanted = Wanted { addr, link: &self.link, tag: None, lane };
                return self.local.group(id)?.kept.take(&wanted);
            }
            Chosen::Own(own) => &own.lane,
            Chosen::Peer(_) => &Lane::default(),
        };
        let keepalive = &self.local.definition(id)?.keepalive;
        keepalive.connections.filter(|max| *max > 0)?;
        let tag = keepalive.local.then(|| self.tag());
        let wanted = Wanted { addr: chosen.addr(), link: &self.link, tag, lane };
        self.local.group(id)?.pool.take(&wanted)
    }

    pub(super) fn tag(&self) -> usize {
        Arc::as_ptr(&self.conf) as usize
    }

    pub(super) async fn connect(&self, addr: &Addr) -> Result<Box<Conn>, Failure> {
        let options = Options::new(&self.conf);
        let timeout = moonrest_net::timer::Timeout::new();
        timeout.set(self.timeouts.connect);
        let mut connecting = std::pin::pin!(connect::connect(&options, addr, self.bind));
        let connected = poll_fn(|cx| {
            if let Poll::Ready(connected) = connecting.as_mut().poll(cx) {
                return Poll::Ready(Ok(connected));
            }
            if timeout.poll(cx).is_ready() {
                return Poll::Ready(Err(Failure::Next(mask::TIMEOUT)));
            }
            self.poll_gone(cx).map(|error| Err(Failure::Fatal(error)))
        })
        .await?;
        let io = connected.map_err(|error| {
            self.log(error.level, format_args!("{}", error.message));
            if error.ours { Failure::Fatal(RequestError::internal("")) } else { Failure::Next(mask::ERROR) }
        })?;
        let io = match &self.link.secure {
            None => io,
            Some(secure) => self.secure(io, secure, addr).await?,
        };
        Ok(Conn::new(io, self.link.clone()))
    }

    /// Milliseconds since the present attempt began.
    pub(super) fn elapsed(&self) -> u64 {
        monotonic_ms().saturating_sub(self.started)
    }

    pub(super) fn note_response_time(&self) {
        self.states.with(|attempt| {
            if attempt.name.is_some() && attempt.response_time.is_none() {
                attempt.response_time = Some(self.elapsed());
            }
        });
    }
}
