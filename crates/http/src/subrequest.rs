//! Subrequests: requests that a request makes of its own server. They run the same engine with another output.

use crate::{
    engine::MAX_DEPTH,
    exchange::{BodyRead, Exchange, Output},
    filter::Piece,
    phase::{LocalBoxFuture, RequestError},
    request::{NewRequest, Request, RequestRef},
};
use bytes::Bytes;
use moonrest_proto::http1::Method;
use std::{
    any::Any,
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// What runs when a subrequest has finished.
pub type Done = Box<dyn FnOnce(&RequestRef)>;

/// A child request whose output belongs at one place of its parent's body.
pub struct Subrequest {
    pub request: RequestRef,
    /// Runs when the child has finished.
    pub done: Option<Done>,
}

impl fmt::Debug for Subrequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subrequest")
    }
}

/// Runs a subrequest to its end; its output goes where its exchange puts it.
///
/// Keep the future for as long as the answer is wanted: dropping it cancels the subrequest.
pub fn run(request: RequestRef) -> LocalBoxFuture<Result<(), RequestError>> {
    Box::pin(async move { crate::engine::run_subrequest(&request).await })
}

/// A child for `uri` (which may carry arguments behind `?`) whose output goes into the body of `parent`, wherever its
/// [`Piece::Subrequest`] stands.
///
/// # Errors
/// nginx's `subrequests cycle while processing "x"`.
pub fn inline(parent: &RequestRef, uri: &[u8]) -> Result<RequestRef, RequestError> {
    let made = parent.main().ctx::<Made>();
    made.0.set(made.0.get() + 1);
    if made.0.get() > MAX_INLINE {
        return Err(RequestError::internal(format!(
            "request reference counter overflow while processing \"{}\"",
            String::from_utf8_lossy(uri)
        )));
    }
    child(parent, uri, Rc::new(Inline::new(parent.clone())))
}

/// Subrequests that one client's request may make for its body: pages that include themselves end here (nginx has the
/// same limit, for those that exist at the same time).
const MAX_INLINE: u32 = 64_535;

/// How many it has made. Kept in its context.
#[derive(Default)]
struct Made(Cell<u32>);

/// A text that stands in the place of this subrequest's output, if there is none or it fails. It passes the filters of
/// the subrequest's location. Only for those made with [`inline`].
pub fn set_stub(child: &Request, text: Bytes) {
    if let Some(inline) = child.exchange.as_any().downcast_ref::<Inline>() {
        *inline.stub.borrow_mut() = Some(text);
    }
}

/// Whether a stub would take the place of what comes: there is one, and nothing was put out yet.
pub(crate) fn has_stub(r: &Request) -> bool {
    r.is_subrequest()
        && r.body_sent.get() == 0
        && r.exchange.as_any().downcast_ref::<Inline>().is_some_and(|inline| inline.stub.borrow().is_some())
}

/// The stub, if it is needed.
pub(crate) fn take_stub(r: &Request) -> Option<Bytes> {
    if !has_stub(r) {
        return None;
    }
    r.exchange.as_any().downcast_ref::<Inline>()?.stub.take()
}

/// A child whose head is what matters (`auth_request`): its body is dropped.
///
/// # Errors
/// As [`inline`].
pub fn background(parent: &RequestRef, uri: &[u8]) -> Result<RequestRef, RequestError> {
    let child = child(parent, uri, Rc::new(Discard { parent: parent.exchange.clone() }))?;
    child.background.set(true);
    Ok(child)
}

/// A child that goes its own way, whatever becomes of the client (mirrors). See [`start`].
///
/// # Errors
/// As [`inline`].
pub fn detached(parent: &RequestRef, uri: &[u8]) -> Result<RequestRef, RequestError> {
    let child = child(parent, uri, Rc::new(Detached { parent: parent.exchange.clone() }))?;
    child.background.set(true);
    Ok(child)
}

/// Starts a subrequest beside its main request. That one ends, and is logged, no sooner than the subrequest.
pub fn start(child: RequestRef) {
    let main = child.main.clone();
    let task = moonrest_rt::spawn_joined(async move {
        // What it answers, or why it cannot, is in its own log lines.
        let _ = run(child).await;
    });
    if let Some(main) = main {
        main.companions.borrow_mut().push(task);
    }
}

/// A child that is its parent again, in the same location: it enters at the content handler. Its output goes into its
/// main request's body as that of [`inline`] does.
///
/// # Errors
/// As [`inline`].
pub fn inline_again(parent: &RequestRef) -> Result<RequestRef, RequestError> {
    let child = inline(parent, &parent.uri())?;
    make_again(parent, &child);
    Ok(child)
}

/// The same for one that goes its own way, whatever becomes of the client.
pub(crate) fn detached_again(parent: &RequestRef) -> Result<RequestRef, RequestError> {
    let child = detached(parent, &parent.uri())?;
    make_again(parent, &child);
    child.header_only.set(true);
    Ok(child)
}

fn make_again(parent: &Request, child: &Request) {
    child.uri.borrow_mut().clone_from(&parent.uri.borrow());
    child.args.borrow_mut().clone_from(&parent.args.borrow());
    child.method.set(parent.method.get());
    child.location.set(parent.location.get());
    child.valid_location.set(parent.valid_location.get());
    child.valid_unparsed_uri.set(parent.valid_unparsed_uri.get());
    child.complex_uri.set(parent.complex_uri.get());
    child.add_uri_to_alias.set(parent.add_uri_to_alias.get());
    child.again.set(true);
    let (from, mut to) = (parent.captures.borrow(), child.captures.borrow_mut());
    to.text.clone_from(&from.text);
    to.groups.clone_from(&from.groups);
}

/// Runs a subrequest that outlives the request it was made for. A connection that would close then stays open for as
/// long, so that whoever waits for its end finds the subrequest's work done.
pub(crate) fn start_alone(child: RequestRef) {
    let main = child.main.clone();
    let task = crate::worker::Task::new(&child.worker);
    let (finished, wait) = tokio::sync::oneshot::channel::<()>();
    moonrest_rt::spawn(async move {
        // What it answers, or why it cannot, is in its own log lines.
        let _ = run(child).await;
        drop((task, finished));
    });
    if let Some(main) = main
        && !main.keepalive.get()
    {
        let wait = async move {
            // It is never sent anything; that the other side is gone is enough.
            let _ = wait.await;
        };
        main.companions.borrow_mut().push(moonrest_rt::spawn_joined(wait));
    }
}

/// A child whose body is kept in memory, and where to find it.
///
/// # Errors
/// As [`inline`].
pub fn captured(parent: &RequestRef, uri: &[u8]) -> Result<(RequestRef, Rc<Captured>), RequestError> {
    captured_up_to(parent, uri, |_| u64::MAX)
}

/// The same for a body of at most `subrequest_output_buffer_size` bytes, as the child's location has it; a longer one
/// ends the subrequest.
///
/// # Errors
/// As [`inline`].
pub fn captured_small(parent: &RequestRef, uri: &[u8]) -> Result<(RequestRef, Rc<Captured>), RequestError> {
    captured_up_to(parent, uri, |child| child.loc().core.subrequest_output_buffer_size)
}

fn captured_up_to(
    parent: &RequestRef,
    uri: &[u8],
    limit: fn(&Request) -> u64,
) -> Result<(RequestRef, Rc<Captured>), RequestError> {
    let body = RefCell::default();
    let captured = Rc::new(Captured { parent: parent.exchange.clone(), body, limit });
    let child = child(parent, uri, captured.clone())?;
    Ok((child, captured))
}

/// A child with an exchange of the caller's making. It has its parent's headers, a GET method, and no body of its own.
///
/// # Errors
/// As [`inline`].
pub fn child(
    parent: &RequestRef,
    uri: &[u8],
    exchange: Rc<dyn Exchange>,
) -> Result<RequestRef, RequestError> {
    let (path, args) = match memchr::memchr(b'?', uri) {
        Some(at) => (uri.get(..at).unwrap_or_default(), uri.get(at + 1..).unwrap_or_default()),
        None => (uri, &[][..]),
    };
    child_of(parent, path, args, exchange).ok_or_else(|| {
        let uri = String::from_utf8_lossy(uri);
        RequestError::internal(format!("subrequests cycle while processing \"{uri}\""))
    })
}

/// The same for a path and its arguments; `None` when subrequests are nested too deeply.
fn child_of(parent: &RequestRef, path: &[u8], args: &[u8], exchange: Rc<dyn Exchange>) -> Option<RequestRef> {
    let depth = parent.subrequest_depth.get() + 1;
    if depth > MAX_DEPTH {
        return None;
    }
    let server = parent.server.get();
    let child = Request::start(NewRequest {
        worker: parent.worker.clone(),
        conn: parent.conn.clone(),
        exchange,
        server,
        location: parent.srv().location,
        parent: Some(parent.clone()),
    });
    child.uri.borrow_mut().extend_from_slice(path);
    child.args.borrow_mut().extend_from_slice(args);
    child.block.borrow_mut().extend_from_slice(&parent.block.borrow());
    child.head.borrow_mut().clone_from(&parent.head.borrow());
    child.host.borrow_mut().extend_from_slice(&parent.host.borrow());
    child.framing.set(parent.framing.get());
    child.method.set(Method::Get);
    child.version.set(parent.version.get());
    child.started_ms.set(parent.started_ms.get());
    child.valid_unparsed_uri.set(false);
    child.complex_uri.set(true);
    child.valid_location.set(parent.valid_location.get());
    child.internal.set(true);
    child.subrequest_depth.set(depth);
    // The body, if read, is its parent's; it is not read again for the child.
    *child.body.borrow_mut() = parent.body.borrow().share();
    Some(child)
}

/// Output that joins its parent's: held back until the place in the parent's body is reached.
pub(crate) struct Inline {
    parent: RequestRef,
    /// It is this child's turn.
    open: Cell<bool>,
    held: RefCell<Vec<Piece>>,
    held_len: Cell<u64>,
    /// The child, waiting for its turn.
    waker: RefCell<Option<Waker>>,
    /// What is put out if the child puts out nothing.
    stub: RefCell<Option<Bytes>>,
}

impl Inline {
    fn new(parent: RequestRef) -> Self {
        Self {
            parent,
            open: Cell::new(false),
            held: RefCell::default(),
            held_len: Cell::new(0),
            waker: RefCell::default(),
            stub: RefCell::default(),
        }
    }

    /// Lets out what was held, and from now on everything.
    pub(crate) fn open(&self) -> Result<(), RequestError> {
        if self.open.replace(true) {
            return Ok(());
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        self.held.take().into_iter().try_for_each(|piece| self.parent.join(piece))
    }

    fn put(&self, piece: Piece) -> Result<(), RequestError> {
        if self.open.get() {
            return self.parent.join(piece);
        }
        self.held_len.set(self.held_len.get() + piece.len());
        self.held.borrow_mut().push(piece);
        Ok(())
    }
}

/// Output kept in memory.
pub struct Captured {
    parent: Rc<dyn Exchange>,
    pub body: RefCell<Vec<u8>>,
    /// How long the body may become.
    limit: fn(&Request) -> u64,
}

/// Output dropped.
struct Discard {
    parent: Rc<dyn Exchange>,
}

/// Output dropped, and no look at the client's connection, which the main request watches.
struct Detached {
    parent: Rc<dyn Exchange>,
}

macro_rules! child_exchange {
    ($type:ty, $parent:expr) => {
        child_exchange!($type, $parent, |it, cx| it.poll_closed(cx));
    };
    ($type:ty, $parent:expr, |$it:ident, $cx:ident| $closed:expr) => {
        fn send_head(&self, _: &Request, _: bool) -> Result<(), RequestError> {
            Ok(())
        }
        fn send_interim(&self, _: &Request, _: u16, _: &[(Bytes, Bytes)]) -> Result<(), RequestError> {
            Ok(())
        }
        fn finish(&self, _: &Request) -> Result<(), RequestError> {
            Ok(())
        }
        fn abort(&self, _: &Request) {}
        fn expect_continue(&self, _: &Request) -> Result<(), RequestError> {
            Ok(())
        }
        fn poll_body(&self, _: &Request, _: &mut Context<'_>) -> Poll<Result<BodyRead, RequestError>> {
            Poll::Ready(Ok(BodyRead::End))
        }
        fn poll_closed(&self, $cx: &mut Context<'_>) -> Poll<()> {
            let of: fn(&$type) -> &Rc<dyn Exchange> = $parent;
            let $it = of(self);
            $closed
        }
        fn local_addr(&self) -> moonrest_net::addr::Addr {
            let of: fn(&$type) -> &Rc<dyn Exchange> = $parent;
            of(self).local_addr()
        }
        fn bytes_sent(&self) -> u64 {
            0
        }
        fn as_any(&self) -> &dyn Any {
            self
        }
    };
}

mod capture;
pub use capture::{Answer, Variables, Wanted, capture};
pub(crate) use capture::{is_captured, settle};

impl Exchange for Inline {
    child_exchange!(Self, |it| &it.parent.exchange);

    fn push(&self, _: &Request, output: Output) -> Result<(), RequestError> {
        self.put(match output {
            Output::Data(data) => Piece::Data(data),
            Output::File(range) => Piece::File(range),
        })
    }

    fn flush(&self, _: &Request) {
        // A failure shows when more is written.
        let _ = self.put(Piece::Flush);
    }

    fn poll_drained(
        &self,
        _: &Request,
        low_water: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), RequestError>> {
        if self.open.get() {
            return self.parent.exchange.poll_drained(&self.parent, low_water, cx);
        }
        if self.held_len.get() <= low_water as u64 {
            return Poll::Ready(Ok(()));
        }
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Exchange for Captured {
    child_exchange!(Self, |it| &it.parent);

    fn push(&self, r: &Request, output: Output) -> Result<(), RequestError> {
        let added = match &output {
            Output::Data(data) => data.len() as u64,
            Output::File(range) => range.len(),
        };
        let len = (self.body.borrow().len() as u64).saturating_add(added);
        if len > (self.limit)(r) {
            return Err(RequestError::internal(format!("too big subrequest response: {len}")));
        }
        match output {
            Output::Data(data) => self.body.borrow_mut().extend_from_slice(&data),
            Output::File(range) => {
                self.body.borrow_mut().extend_from_slice(&crate::pipeline::read_range(&range)?)
            }
        }
        Ok(())
    }

    fn flush(&self, _: &Request) {}

    fn poll_drained(&self, _: &Request, _: usize, _: &mut Context<'_>) -> Poll<Result<(), RequestError>> {
        Poll::Ready(Ok(()))
    }
}

impl Exchange for Discard {
    child_exchange!(Self, |it| &it.parent);

    fn push(&self, _: &Request, _: Output) -> Result<(), RequestError> {
        Ok(())
    }

    fn flush(&self, _: &Request) {}

    fn poll_drained(&self, _: &Request, _: usize, _: &mut Context<'_>) -> Poll<Result<(), RequestError>> {
        Poll::Ready(Ok(()))
    }
}

impl Exchange for Detached {
    child_exchange!(Self, |it| &it.parent, |_parent, _cx| Poll::Pending);

    fn push(&self, _: &Request, _: Output) -> Result<(), RequestError> {
        Ok(())
    }

    fn flush(&self, _: &Request) {}

    fn poll_drained(&self, _: &Request, _: usize, _: &mut Context<'_>) -> Poll<Result<(), RequestError>> {
        Poll::Ready(Ok(()))
    }
}
