//! A connection's life as a future that is small while nothing happens: it waits for bytes, runs what they ask for, and
//! boxes a further future only for what has to wait.

use super::{
    accept::End,
    h1::{After, Doing, Fill, H1, Rest, batch, linger},
    handshake::handshake,
    now,
};
use moonrest_core::Level;
use moonrest_rt::clock;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

/// How long a connection must have been idle before a draining worker closes it, in milliseconds: more than most round
/// trips. nginx closes at once
/// unless `keepalive_min_timeout` is set, and a request that is under way is lost.
const REST: u64 = 500;

/// Serves one connection to its end.
pub(super) struct Serve {
    h1: Rc<H1>,
    /// Milliseconds to wait for the next request.
    wait: u64,
    /// When that began, in monotonic milliseconds.
    since: u64,
    state: State,
    _end: End,
}

enum State {
    /// About to wait for a request.
    Fresh,
    /// Waiting, and counted as such.
    Idle,
    Active(Pin<Box<dyn Future<Output = Result<After, Rest>>>>),
}

impl Serve {
    /// A connection that was just accepted; `proxied` ones begin with a PROXY protocol header, `secured` ones (then)
    /// with a TLS handshake.
    pub(super) fn new(h1: Rc<H1>, proxied: bool, secured: bool, end: End) -> Self {
        let wait = h1.default_settings().client_header_timeout;
        let state = if proxied || secured {
            let h1 = h1.clone();
            State::Active(Box::pin(async move {
                if proxied && !h1.read_proxy_header().await {
                    return Ok(After::Close);
                }
                Ok(if secured { handshake(h1).await } else { After::Idle(wait) })
            }))
        } else {
            State::Fresh
        };
        Self { h1, wait, since: 0, state, _end: end }
    }

    /// Waits for the first bytes of a request. `false` when the connection should be closed instead.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let first = self.h1.conn.requests.get() == 0;
        let filled = match self.h1.poll_fill(cx) {
            Poll::Ready(filled) => Some(filled),
            Poll::Pending if !first && self.h1.worker.wants_no_idle() => None,
            Poll::Pending if !first && self.h1.worker.is_quitting() && self.has_rested() => None,
            Poll::Pending => {
                // Nobody idle owns a buffer.
                H1::release(&mut self.h1);
                return Poll::Pending;
            }
        };
        match filled {
            Some(Ok(n)) if n > 0 => return Poll::Ready(true),
            Some(Ok(_)) => self.h1.note_idle_close(None),
            Some(Err(Fill::Io(error))) => self.h1.note_idle_close(Some(&error)),
            Some(Err(Fill::TimedOut)) if first => {
                self.h1.note(format_args!("{} while waiting for request", super::TIMED_OUT));
            }
            Some(Err(Fill::TimedOut)) | None => {}
        }
        Poll::Ready(false)
    }

    /// Whether a connection of a draining worker has been idle long enough to be closed without losing a request that
    /// its client is just sending. Until then it stays open.
    fn has_rested(&self) -> bool {
        let rested = clock::monotonic_ms().saturating_sub(self.since);
        let rest = REST.max(self.h1.default_core().keepalive_min_timeout);
        if rested < rest {
            self.h1.timeout.set(rest - rested);
        }
        rested >= rest
    }

    /// What follows a batch. `true` when that is the end.
    fn then(&mut self, after: After) -> bool {
        match after {
            After::Idle(wait) => {
                self.wait = wait;
                self.state = State::Fresh;
            }
            After::Linger(time, timeout) => {
                let h1 = self.h1.clone();
                self.state = State::Active(Box::pin(async move {
                    linger(&h1, time, timeout).await;
                    Ok(After::Close)
                }));
            }
            After::Close => return true,
        }
        false
    }

    fn close(&self) {
        if !self.h1.broken.get() && !self.h1.timed_out.get() {
            self.h1.io.close();
        }
        if self.h1.reset.get() {
            // The connection is closed in any case.
            let _ = self.h1.io.with_fd(|fd| moonrest_sys::socket::reset_on_close(fd));
        }
    }
}

impl Future for Serve {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        // Nothing that other connections see stays borrowed or half changed: a request shares only counters and caches.
        catch_unwind(AssertUnwindSafe(|| this.advance(cx))).unwrap_or_else(|_| {
            this.h1.say(Level::Alert, format_args!("closing connection: its request panicked"));
            Poll::Ready(())
        })
    }
}

impl Serve {
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let this = self;
        loop {
            let after = match &mut this.state {
                State::Fresh if this.h1.unread() > 0 => this.begin(),
                State::Fresh => {
                    this.since = clock::monotonic_ms();
                    this.h1.timeout.set_from(this.since, this.wait);
                    this.h1.count_as(Doing::Waiting);
                    this.state = State::Idle;
                    continue;
                }
                State::Idle => {
                    let go_on = ready!(this.poll_idle(cx));
                    this.state = State::Fresh;
                    if go_on { this.begin() } else { Some(After::Close) }
                }
                State::Active(future) => match future.as_mut().poll(cx) {
                    Poll::Ready(done) => this.settle(done),
                    Poll::Pending => {
                        this.h1.flush_while_waiting(cx);
                        return Poll::Pending;
                    }
                },
            };
            if after.is_some_and(|after| this.then(after)) {
                this.close();
                return Poll::Ready(());
            }
        }
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // Its worker may end before it does, or a panic have ended it.
        self.h1.count_as(Doing::Nothing);
    }
}

impl Serve {
    /// Handles what has come. `None` when something of it has to wait.
    fn begin(&mut self) -> Option<After> {
        let done = now::batch(&self.h1);
        self.settle(done)
    }

    #[inline(always)]
    fn settle(&mut self, done: Result<After, Rest>) -> Option<After> {
        match done {
            Ok(after) => return Some(after),
            Err(rest) => {
                let h1 = self.h1.clone();
                self.state = State::Active(match rest.waiting(&h1) {
                    Ok(waiting) => Box::pin(waiting),
                    Err(rest) => Box::pin(async move { Ok(batch(h1, rest).await) }),
                });
            }
        }
        None
    }
}
