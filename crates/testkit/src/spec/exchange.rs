//! One connection of a block: packets out, bytes in, the response taken apart.
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use super::block::Block;
use super::request::{Packet, Packets};
use crate::response::{Context, Malformed, Response, find};

/// What came back on a connection.
#[derive(Debug)]
pub(super) struct Exchange {
    /// All bytes received.
    pub received: Vec<u8>,
    /// The server neither closed nor sent anything in time.
    pub timed_out: bool,
}

/// How a block wants its connections to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub timeout: Duration,
    pub shutdown: Option<Shutdown>,
}

/// Sends the packets on a new connection and reads until the server closes.
pub(super) fn exchange(addr: SocketAddr, packets: &Packets, manner: Manner) -> io::Result<Exchange> {
    let stream = TcpStream::connect_timeout(&addr, manner.timeout)?;
    stream.set_nodelay(true)?;
    let pauses: Duration = packets.iter().map(|packet| packet.delay).sum();
    stream.set_read_timeout(Some(manner.timeout + pauses))?;
    // Reading and writing at once: a server may answer, or stop reading, before it has the whole request.
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| send(&stream, packets, manner));
        let exchange = receive(&stream);
        if exchange.timed_out {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = writer.join();
        Ok(exchange)
    })
}

fn send(mut stream: &TcpStream, packets: &[Packet], manner: Manner) {
    for packet in packets {
        std::thread::sleep(packet.delay);
        if stream.write_all(&packet.bytes).is_err() {
            return;
        }
    }
    if let Some(how) = manner.shutdown {
        let _ = stream.shutdown(how);
    }
}

fn receive(mut stream: &TcpStream) -> Exchange {
    let mut exchange = Exchange { received: Vec::new(), timed_out: false };
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return exchange,
            Ok(len) => exchange.received.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                exchange.timed_out = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                return exchange;
            }
        }
    }
}

/// Takes the next response out of what was received, as Test::Nginx sees it.
pub(super) fn parse(received: &[u8], head_request: bool) -> Result<Response, String> {
    match Response::parse(received, Context { head_request, at_end: true }) {
        Ok(mut response) => {
            // Only 304 and 101 are taken to be without a body: so interim responses and stray bytes can be looked at.
            if matches!(response.status, Some(100 | 102..=199 | 204)) {
                response.body = std::mem::take(&mut response.rest);
            }
            Ok(response)
        }
        Err(Malformed::Incomplete) if find(received, b"\r\n\r\n").is_none() => {
            Ok(Response { body: received.to_vec(), ..Response::default() })
        }
        Err(error) => Err(format!("{error} in {:?}", String::from_utf8_lossy(received))),
    }
}

/// Sends the request with curl, over HTTP/2 if the block says so, and returns what it prints: head and body as if they were HTTP/1.
pub(super) fn by_curl(
    block: &Block,
    addr: SocketAddr,
    packets: &Packets,
    options: Option<&str>,
    timeout: Duration,
) -> Result<Vec<u8>, String> {
    let request: Vec<u8> = packets.iter().flat_map(|packet| packet.bytes.clone()).collect();
    let head_len = find(&request, b"\r\n\r\n").ok_or("the request has no complete head")?;
    let head = String::from_utf8_lossy(&request[..head_len]).into_owned();
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, url) = (words.next().unwrap_or("GET"), words.next().unwrap_or("/"));
    let mut command = Command::new("curl");
    command.args([
        "-i",
        "-sS",
        "--path-as-is",
        "-H",
        "User-Agent:",
        "-H",
        "Accept:",
        if block.has("http2") { "--http2-prior-knowledge" } else { "--http1.1" },
    ]);
    command.arg("--max-time").arg(timeout.as_secs_f64().to_string());
    match method {
        "HEAD" => command.arg("-I"),
        _ => command.args(["-X", method]),
    };
    for line in lines.filter(|line| !line.to_ascii_lowercase().starts_with("connection:")) {
        command.arg("-H").arg(line);
    }
    let body = &request[head_len + 4..];
    let data = tempfile::NamedTempFile::new().and_then(|mut file| file.write_all(body).map(|()| file));
    let data = data.map_err(|error| format!("the body for curl: {error}"))?;
    if !body.is_empty() {
        command.args(["-H", "Content-Type:", "--data-binary"]).arg(format!("@{}", data.path().display()));
    }
    if let Some(options) = options {
        command.args(options.split_whitespace());
    }
    let protocol = block.text("curl_protocol").unwrap_or_else(|| "http".into());
    command.arg(format!("{}://{addr}{url}", protocol.trim()));
    let output = command.output().map_err(|error| format!("curl: {error}"))?;
    if output.stdout.is_empty() {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let expected = block.text("curl_error").is_some_and(|expected| error.contains(expected.trim()));
        return if expected { Ok(Vec::new()) } else { Err(format!("curl: {error}")) };
    }
    Ok(output.stdout)
}
