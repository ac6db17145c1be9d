//! Whom the next attempt asks: a peer of the upstream's, or one that its balancer names.

use super::{
    balancer::{Asked, LastFailure, Verdict},
    conf::mask,
    pool::Lane,
    run::{Failure, Run, Timeouts},
    source::{Source, buffered, length},
    state::Name,
    tls::Secure,
};
use crate::phase::RequestError;
use moonrest_core::{
    Level,
    upstream::{Attempted, Peer},
};
use moonrest_net::addr::Addr;
use std::{future::poll_fn, rc::Rc, sync::Arc, task::Poll};

/// Whom an attempt asks.
pub(super) enum Chosen {
    /// One of the upstream's peers.
    Peer(Arc<Peer>),
    /// A peer that its balancer named.
    Own(Own),
}

pub(super) struct Own {
    pub addr: Addr,
    /// How the connection is kept, and under which name.
    pub keepalive: Option<(u64, u64)>,
    pub lane: Lane,
}

impl Chosen {
    pub(super) fn addr(&self) -> &Addr {
        match self {
            Self::Peer(peer) => &peer.addr,
            Self::Own(own) => &own.addr,
        }
    }
}

impl Run {
    /// The peer of this attempt: the balancer's, or one of the upstream's.
    pub(super) async fn choose(&mut self) -> Result<Chosen, Failure> {
        if self.choosing.is_some()
            && let Some(own) = self.ask_balancer().await?
        {
            return Ok(Chosen::Own(own));
        }
        self.choose_peer().map(Chosen::Peer)
    }

    /// One of the upstream's peers.
    pub(super) fn choose_peer(&mut self) -> Result<Arc<Peer>, Failure> {
        let local = self.local.clone();
        let definition = self.group.and_then(|id| local.definition(id));
        let sticky = definition.and_then(|definition| definition.sticky.as_ref());
        let bound = match (sticky, &self.session) {
            (Some(sticky), Some(session)) => sticky.bound(session),
            _ => None,
        };
        let Some(selection) = &mut self.selection else { return Err(Failure::Next(mask::NO_LIVE)) };
        let Some(peer) = selection.next(bound.as_deref()) else {
            let name = Name::Text(selection.name().into());
            self.states.with(|attempt| attempt.name = Some(name));
            self.log(Level::Error, format_args!("no live upstreams"));
            return Err(Failure::Next(mask::NO_LIVE));
        };
        if self.choosing.is_some() && peer.server.is_placeholder() {
            self.log(Level::Error, format_args!("lua balancer: no peer set"));
            return Err(Failure::Fatal(RequestError::internal("")));
        }
        self.states.with(|attempt| attempt.name = Some(Name::Peer(peer.clone())));
        if let Some(sticky) = sticky {
            sticky.chosen(&self.r, &peer.sid);
        }
        Ok(peer)
    }

    /// Asks the upstream's own balancer; the peer that it names, if it does.
    async fn ask_balancer(&mut self) -> Result<Option<Own>, Failure> {
        let local = self.local.clone();
        let balancer = self.group.and_then(|id| local.definition(id)?.balancer.as_ref());
        let (Some(balancer), Some(choosing)) = (balancer, self.choosing.clone()) else { return Ok(None) };
        choosing.begin(self.selection.as_ref().map_or(0, |selection| selection.tries));
        let verdict = match balancer.choose(&self.r, &choosing) {
            Asked::Now(verdict) => verdict,
            Asked::Wait(mut waits) => {
                poll_fn(|cx| match waits.as_mut().poll(cx) {
                    Poll::Ready(verdict) => Poll::Ready(Ok(verdict)),
                    Poll::Pending => self.poll_gone(cx).map(|error| Err(Failure::Fatal(error))),
                })
                .await?
            }
        };
        match verdict {
            Verdict::Go => {}
            Verdict::Failed => return Err(Failure::Fatal(RequestError::internal(""))),
            Verdict::Finish(status) => return Err(Failure::Finish(status)),
            Verdict::Declined => {
                if let Some(selection) = &mut self.selection {
                    selection.tries = selection.tries.saturating_sub(1);
                }
                return Err(Failure::Next(mask::ERROR));
            }
            Verdict::Busy => {
                self.log(Level::Error, format_args!("no live upstreams"));
                return Err(Failure::Next(mask::NO_LIVE));
            }
        }
        let lasting = choosing.lasting.borrow().clone();
        let Timeouts { connect, send, read } = self.timeouts;
        self.timeouts = Timeouts {
            connect: lasting.connect_timeout.unwrap_or(connect),
            send: lasting.send_timeout.unwrap_or(send),
            read: lasting.read_timeout.unwrap_or(read),
        };
        self.bind = lasting.local.or(self.bind);
        if std::mem::take(&mut choosing.lasting.borrow_mut().recreate) {
            self.recreate().map_err(Failure::Fatal)?;
        }
        let choice = choosing.choice.take();
        self.relink(lasting.tls.unwrap_or(self.link.secure.is_some()), &choice.host)?;
        let Some(addr) = choice.peer else { return Ok(None) };
        if let Some(selection) = &mut self.selection {
            let more = isize::try_from(choice.more_tries).unwrap_or(0);
            selection.tries = selection.tries.saturating_add_signed(more);
        }
        let mut name = Vec::with_capacity(24);
        addr.append_with_port(&mut name);
        self.states.with(|attempt| attempt.name = Some(Name::Text(name.into())));
        let lane = Lane { host: choice.host.to_ascii_lowercase().into(), local: lasting.local };
        Ok(Some(Own { addr, keepalive: choice.keepalive, lane }))
    }

    /// Has the connection encrypted or not, as the balancer says, for the host that it names.
    fn relink(&mut self, secure: bool, host: &[u8]) -> Result<(), Failure> {
        let encrypted = self.link.secure.is_some();
        if secure == encrypted && (!secure || host.is_empty()) {
            return Ok(());
        }
        self.states.speaks(secure);
        if !secure {
            self.link.secure = None;
            return Ok(());
        }
        let Some(tls) = &self.conf.tls else {
            self.log(Level::Error, format_args!("no TLS configuration for the upstream"));
            return Err(Failure::Finish(500));
        };
        let name = self.group.and_then(|id| self.local.definition(id)).map_or(&[][..], |known| &known.name);
        let link = Secure::new(&self.r, tls, name);
        self.link.secure = Some(Rc::new(if host.is_empty() { link } else { link.ask_for(host) }));
        Ok(())
    }

    /// Makes the request anew of what the client's has become.
    fn recreate(&mut self) -> Result<(), RequestError> {
        if self.pass_body && !matches!(self.source, Source::Stream { .. }) {
            self.source = buffered(&self.r);
        }
        let length = length(&self.r, &self.source, self.pass_body);
        let mut request = std::mem::take(&mut *self.states.request.borrow_mut());
        request.clear();
        let shown = self.protocol.request(&self.r, length, &mut request)?;
        *self.states.request.borrow_mut() = request;
        *self.states.shown.borrow_mut() = shown;
        Ok(())
    }

    /// Counts the present attempt, if the upstream counts what its peers do. `response` is how long an answer took that
    /// was read to its end.
    pub(super) fn tally(&self, response: Option<u64>) {
        let Some(selection) = self.selection.as_ref().filter(|selection| selection.counts()) else { return };
        let attempted = self.states.with(|attempt| Attempted {
            status: attempt.status,
            sent: attempt.bytes_sent,
            received: attempt.bytes_received,
            header: attempt.header_time,
            response: response.filter(|_| attempt.header_time.is_some()),
        });
        if let Some(attempted) = attempted {
            selection.note_attempt(&attempted);
        }
    }

    /// Is done with a peer that the balancer named. `false` when the present one is not such.
    pub(super) fn release_own(&mut self, how: LastFailure) -> bool {
        if !matches!(self.target, Some(Chosen::Own(_))) {
            return false;
        }
        self.target = None;
        if let Some(choosing) = &self.choosing {
            choosing.ended(how);
        }
        if let Some(selection) = &mut self.selection {
            selection.tries = selection.tries.saturating_sub(1);
        }
        true
    }
}
