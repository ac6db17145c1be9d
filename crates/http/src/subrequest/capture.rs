//! Subrequests whose whole answer is handed to a program (`ngx.location.capture`): head, body and status stay in memory.

use super::child_of;
use crate::{
    exchange::{BodyRead, Exchange, Output},
    phase::RequestError,
    request::{Request, RequestRef},
};
use bytes::Bytes;
use moonrest_core::Subject;
use moonrest_proto::http1::{Body, Framing, Method};
use std::{
    any::Any,
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll},
};

/// Which variables a captured subrequest has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Variables {
    /// Its own, none set yet.
    #[default]
    Own,
    /// Its own, which begin as its parent's.
    Copied,
    /// Its parent's.
    Shared,
}

/// What a captured subrequest is to be.
pub struct Wanted<'a> {
    /// Decoded, without arguments.
    pub path: &'a [u8],
    pub args: &'a [u8],
    pub method: Method,
    /// A body of its own, in place of its parent's.
    pub body: Option<Bytes>,
    /// It has its parent's body whatever its method is; otherwise only POST and PUT have it.
    pub forward_body: bool,
    pub variables: Variables,
    /// Fields that replace the parent's.
    pub headers: &'a [(Vec<u8>, Vec<u8>)],
}

/// The answer of a captured subrequest, as far as it has come.
pub struct Answer {
    parent: Rc<dyn Exchange>,
    pub body: RefCell<Vec<u8>>,
    /// The status that took the place of an answer.
    status: Cell<u16>,
}

impl Answer {
    /// The status: that of the head, or what took its place.
    pub fn status(&self, r: &Request) -> u16 {
        match self.status.get() {
            0 => r.out().status,
            status => status,
        }
    }

    /// Whether the body lacks its end.
    pub fn is_truncated(&self, r: &Request) -> bool {
        !r.done.get() || r.header_only.get()
    }
}

impl Exchange for Answer {
    child_exchange!(Self, |it| &it.parent);

    fn push(&self, _: &Request, output: Output) -> Result<(), RequestError> {
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

/// Makes a captured subrequest; [`super::run`] runs it.
///
/// # Errors
/// `lua subrequests cycle while processing "x"`.
pub fn capture(parent: &RequestRef, wanted: Wanted<'_>) -> Result<(RequestRef, Rc<Answer>), RequestError> {
    let answer =
        Rc::new(Answer { parent: parent.exchange.clone(), body: RefCell::default(), status: Cell::new(0) });
    let child = child_of(parent, wanted.path, wanted.args, answer.clone()).ok_or_else(|| {
        let path = String::from_utf8_lossy(wanted.path);
        RequestError::internal(format!("lua subrequests cycle while processing \"{path}\""))
    })?;
    child.set_method(wanted.method);
    give_body(parent, &child, &wanted);
    for (name, value) in wanted.headers {
        child.set_header(name, value);
    }
    match wanted.variables {
        Variables::Shared => {}
        Variables::Own => child.own_variables.set(true),
        Variables::Copied => {
            child.own_variables.set(true);
            child.slots().borrow_mut().copy_from(&parent.slots().borrow());
        }
    }
    Ok((child, answer))
}

/// nginx's rules: a body of its own; none, if the method has none; or the parent's as far as that was read.
fn give_body(parent: &Request, child: &Request, wanted: &Wanted<'_>) {
    if let Some(body) = &wanted.body {
        child.set_body(body.clone());
        return;
    }
    let framing = parent.framing.get();
    let has_length = matches!(framing.body, Body::Length(1..));
    let forward = wanted.forward_body || matches!(wanted.method, Method::Put | Method::Post);
    if has_length && !forward {
        child.body.borrow_mut().clear();
        child.remove_header(b"Content-Length");
        child.framing.set(Framing { body: Body::None, ..framing });
    } else if framing.body == Body::Chunked && child.body.borrow().is_read() {
        let len = child.body.borrow().len();
        child.set_content_length(len);
    }
}

/// The answer that a request's output goes to, if it is captured.
fn of(r: &Request) -> Option<&Answer> {
    if r.is_subrequest() { r.exchange.as_any().downcast_ref() } else { None }
}

/// Whether a program captures this subrequest's answer. Filters behind Lua's do not see it.
pub(crate) fn is_captured(r: &Request) -> bool {
    of(r).is_some()
}

/// A status takes the place of the answer; pages for errors are for clients.
pub(crate) async fn settle(r: &RequestRef, status: u16) -> Result<(), RequestError> {
    let Some(answer) = of(r) else { return Ok(()) };
    // There is no connection of its own to close.
    let status = if status == 444 { 500 } else { status };
    let known = r.out().status;
    answer.status.set(if known == 0 { status } else { known });
    if r.header_sent.get() || (200..300).contains(&status) && !matches!(status, 201 | 204) {
        return Ok(());
    }
    r.error_status.set(status);
    r.header_only.set(true);
    {
        let mut out = r.out_mut();
        out.set_content_type(Bytes::new());
        out.content_length = Some(0);
        out.clear_accept_ranges();
        out.clear_last_modified();
    }
    r.send_head().await
}
