//! What programs change of a request after it was read, and its head as it came.

use crate::{
    body::{BodyFile, BodyState},
    request::Request,
};
use bytes::Bytes;
use moonrest_proto::http1::{Body, Framing, Method};
use std::rc::Rc;

impl Request {
    /// Gives it another method.
    pub fn set_method(&self, method: Method) {
        self.head.borrow_mut().set_method(&mut self.block.borrow_mut(), method);
        self.method.set(method);
    }

    /// Gives it this body, in memory, and the length that belongs to it.
    pub fn set_body(&self, data: Bytes) {
        let len = data.len() as u64;
        {
            let mut body = self.body.borrow_mut();
            body.clear();
            body.state = BodyState::Complete;
            body.received = len;
            body.memory_len = len;
            if !data.is_empty() {
                body.memory.push(data);
            }
        }
        self.set_content_length(len);
    }

    /// Gives it the content of a file as its body.
    pub fn set_body_file(&self, file: Rc<BodyFile>) {
        let len = file.len.get();
        {
            let mut body = self.body.borrow_mut();
            body.clear();
            body.state = BodyState::Complete;
            body.received = len;
            body.file = Some(file);
        }
        self.set_content_length(len);
    }

    /// Says how long its body is, in the field too.
    pub fn set_content_length(&self, len: u64) {
        self.set_header(b"Content-Length", len.to_string().as_bytes());
        self.framing.set(Framing { body: Body::Length(len), ..self.framing.get() });
    }

    /// The head of the client's request as it was sent, with its empty line; with or without the request line.
    pub fn raw_head(&self, request_line: bool) -> Vec<u8> {
        let main = self.main();
        let (head, block) = (main.head.borrow(), main.block.borrow());
        let start = if head.line.is_empty() { return Vec::new() } else { head.line.start as usize };
        let rest = block.get(start..).unwrap_or_default();
        let Some(line) = memchr::memchr(b'\n', rest) else { return Vec::new() };
        let mut end = line + 1;
        // What was edited stands behind the empty line.
        while let Some(len) = rest.get(end..).and_then(|rest| memchr::memchr(b'\n', rest)) {
            let empty = matches!(rest.get(end..end + len), Some(b"" | b"\r"));
            end += len + 1;
            if empty {
                break;
            }
        }
        let from = if request_line { 0 } else { line + 1 };
        rest.get(from..end).unwrap_or_default().to_vec()
    }
}
