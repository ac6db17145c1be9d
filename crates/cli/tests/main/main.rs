//! The whole server on the wire: bytes in, bytes out, and what becomes of the connection.
//!
//! The server under test is the one just built, or the one that `MOONREST_BINARY` names.
#![allow(clippy::unwrap_used)]

mod access_log;
mod bodies;
mod closing;
mod everywhere;
mod files;
mod framing;
mod heads;
mod idle;
mod leaving;
mod limits;
mod listeners;
mod pipelining;
mod process;
mod timeouts;
mod tls;
mod unread;
mod upstream;
mod versions;

use moonrest_testkit::{Response, Server, ServerBuilder, response::Context};
use std::path::PathBuf;

/// A server to be configured further, with the binary under test.
pub(crate) fn builder() -> ServerBuilder {
    let binary = std::env::var_os("MOONREST_BINARY").map(PathBuf::from);
    Server::builder().binary(binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_moonrest").into()))
}

/// One worker with one server of these directives, and an access log of `status request body_bytes`.
#[track_caller]
pub(crate) fn serve(directives: &str) -> Server {
    serve_files(directives, &[])
}

/// The same with files below the server's directory.
#[track_caller]
pub(crate) fn serve_files(directives: &str, files: &[(&str, &[u8])]) -> Server {
    let builder = files.iter().fold(builder(), |builder, (path, content)| builder.file(path, *content));
    builder.start(&configuration(directives))
}

/// The configuration that [`serve`] starts.
pub(crate) fn configuration(directives: &str) -> String {
    format!(
        "worker_processes 1;
         http {{
             log_format short '$status $request $body_bytes_sent';
             access_log logs/access.log short;
             server {{ listen {{{{addr}}}}; {directives} }}
         }}"
    )
}

/// Sends these bytes at once, then reads all answers until the server closes.
#[track_caller]
pub(crate) fn talk(server: &Server, bytes: impl AsRef<[u8]>) -> Vec<Response> {
    let mut client = server.connect();
    client.send(bytes);
    responses(&client.read_to_end())
}

/// The responses in a stream that has ended.
#[track_caller]
pub(crate) fn responses(stream: &[u8]) -> Vec<Response> {
    let mut rest = stream.to_vec();
    let mut all = Vec::new();
    while !rest.is_empty() {
        let context = Context { head_request: false, at_end: true };
        let mut response = Response::parse(&rest, context)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&rest)));
        rest = std::mem::take(&mut response.rest);
        all.push(response);
    }
    all
}

/// The statuses of some responses.
pub(crate) fn statuses(responses: &[Response]) -> Vec<u16> {
    responses.iter().filter_map(|response| response.status).collect()
}
