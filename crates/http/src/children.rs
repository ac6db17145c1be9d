//! Subrequests whose output belongs into their parent's body: several run side by side, their output leaves in order.

use crate::{
    filter::{Piece, Pieces},
    phase::{LocalBoxFuture, RequestError},
    request::{Request, RequestRef},
    subrequest::{self, Inline, Subrequest},
};
use std::{
    cell::Cell,
    collections::VecDeque,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
};

/// How many subrequests of one client's request run side by side. Others wait for their turn, except that the one whose
/// output is due always runs.
const SIDE_BY_SIDE: usize = 32;

/// Subrequests of a client's request that are running. Kept in its context.
#[derive(Default)]
struct Running(Cell<usize>);

/// Counts one of [`Running`] for as long as it lives.
struct Turn(Rc<Running>);

impl Turn {
    fn take(running: &Rc<Running>) -> Self {
        running.0.set(running.0.get() + 1);
        Self(running.clone())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() - 1);
    }
}

/// What stands in line.
enum Entry {
    Piece(Piece),
    Child(Box<Child>),
}

struct Child {
    /// Taken when it has finished.
    subrequest: Option<Subrequest>,
    request: RequestRef,
    state: State,
}

enum State {
    /// Not begun yet.
    Waiting,
    Runs {
        future: LocalBoxFuture<Result<(), RequestError>>,
        _turn: Turn,
    },
    Finished,
}

impl Child {
    fn new(subrequest: Subrequest) -> Box<Self> {
        let request = subrequest.request.clone();
        Box::new(Self { subrequest: Some(subrequest), request, state: State::Waiting })
    }

    /// Runs it as far as it goes. What an upstream breaks off leaves a gap, as in nginx; any other failure behind the
    /// head ends the client's request, so that it can be seen.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RequestError>> {
        let State::Runs { future, .. } = &mut self.state else { return Poll::Ready(Ok(())) };
        let Poll::Ready(result) = future.as_mut().poll(cx) else { return Poll::Pending };
        self.state = State::Finished;
        if let Some(done) = self.subrequest.take().and_then(|subrequest| subrequest.done) {
            done(&self.request);
        }
        match result {
            Ok(()) | Err(RequestError::Upstream { .. }) => Poll::Ready(Ok(())),
            Err(error @ RequestError::Gone { .. }) => Poll::Ready(Err(error)),
            // It has said why itself.
            Err(_) => Poll::Ready(Err(RequestError::Cut("".into()))),
        }
    }
}

/// Runs `first`, and in their order everything in `rest`: pieces of the parent's own body and further subrequests,
/// which begin at once and whose output is held back until it is due.
pub(crate) async fn run(r: RequestRef, first: Subrequest, rest: Pieces) -> Result<(), RequestError> {
    let mut line: VecDeque<Entry> = VecDeque::with_capacity(rest.len() + 1);
    line.push_back(Entry::Child(Child::new(first)));
    line.extend(rest.into_iter().map(|piece| match piece {
        Piece::Subrequest(subrequest) => Entry::Child(Child::new(subrequest)),
        piece => Entry::Piece(piece),
    }));
    let running = r.main().ctx::<Running>();
    poll_fn(|cx| poll_line(&r, &mut line, &running, cx)).await
}

fn poll_line(
    r: &RequestRef,
    line: &mut VecDeque<Entry>,
    running: &Rc<Running>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), RequestError>> {
    loop {
        match advance(r, line, running) {
            Ok(true) => return Poll::Ready(Ok(())),
            Ok(false) => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
        let mut finished = false;
        for entry in line.iter_mut() {
            let Entry::Child(child) = entry else { continue };
            match &child.state {
                State::Finished => continue,
                State::Waiting if running.0.get() >= SIDE_BY_SIDE => break,
                State::Waiting => start(child, running),
                State::Runs { .. } => {}
            }
            match child.poll(cx) {
                Poll::Ready(Ok(())) => finished = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        if !finished {
            return Poll::Pending;
        }
    }
}

fn start(child: &mut Child, running: &Rc<Running>) {
    child.state = State::Runs { future: subrequest::run(child.request.clone()), _turn: Turn::take(running) };
}

/// Passes on what is due; `true` when nothing is left. The first child in line runs, and writes without being held.
fn advance(r: &RequestRef, line: &mut VecDeque<Entry>, running: &Rc<Running>) -> Result<bool, RequestError> {
    loop {
        match line.front_mut() {
            None => return Ok(true),
            Some(Entry::Piece(_)) => {}
            Some(Entry::Child(child)) => {
                if let Some(inline) = child.request.exchange.as_any().downcast_ref::<Inline>() {
                    inline.open()?;
                }
                match child.state {
                    State::Finished => {}
                    State::Waiting => {
                        start(child, running);
                        return Ok(false);
                    }
                    State::Runs { .. } => return Ok(false),
                }
            }
        }
        if let Some(Entry::Piece(piece)) = line.pop_front() {
            r.join(piece)?;
        }
    }
}

impl Request {
    /// Takes a piece that is in its final order: on through the filters behind the place where subrequests join.
    pub(crate) fn join(self: &RequestRef, piece: Piece) -> Result<(), RequestError> {
        if self.is_subrequest() { self.to_exchange(piece) } else { self.through_tail(piece) }
    }
}
