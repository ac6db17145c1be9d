//! Asking name servers: UDP from a fresh port each time, TCP where the answer does not fit, one server after another.

use super::{
    ResolveError, Settings,
    message::{Found, Kind, Question, Verdict},
};
use crate::{
    addr::Addr,
    connect::{ConnectError, Datagrams, connect},
    report::{self, Severity},
    sleep::sleep,
    timer,
};
use hickory_proto::rr::RecordType;
use std::{future::poll_fn, io, net::SocketAddr};

/// How long one server has to answer.
const PATIENCE_MS: u64 = 5_000;
/// The largest datagram taken; without EDNS servers send 512 bytes.
const DATAGRAM: usize = 4096;

/// What was found, and for how many seconds it is valid.
type Reply = Result<(Found, u32), ResolveError>;

/// Asks until a server answers; `None` when nobody waits for it any more (`wanted`).
pub(super) async fn ask(
    settings: &Settings,
    first: usize,
    kind: Kind,
    name: &str,
    wanted: impl Fn() -> bool,
) -> Option<Reply> {
    let ask = |kind| ask_for(settings, first, kind, name, &wanted);
    match kind {
        Kind::Service => Some(existing(ask(RecordType::SRV).await?)),
        Kind::Name => Some(existing(ask(RecordType::PTR).await?)),
        Kind::Address => {
            let asks = |kind, on: bool| async move { if on { Some(ask(kind).await) } else { None } };
            let (v4, v6) =
                tokio::join!(asks(RecordType::A, settings.ipv4), asks(RecordType::AAAA, settings.ipv6));
            match (v4, v6) {
                (Some(v4), Some(v6)) => Some(both(v4?, v6?)),
                (Some(one), None) | (None, Some(one)) => Some(existing(one?)),
                (None, None) => Some(Err(ResolveError::HostNotFound)),
            }
        }
    }
}

/// A name that has nothing is not found.
fn existing(reply: Reply) -> Reply {
    match reply {
        Ok((Found::Nothing, _)) => Err(ResolveError::HostNotFound),
        reply => reply,
    }
}

/// Addresses of both families. nginx: one error fails both, one that has nothing does not.
fn both(v4: Reply, v6: Reply) -> Reply {
    match (v4?, v6?) {
        ((Found::Addresses(a), ttl), (Found::Addresses(b), other)) => {
            Ok((Found::Addresses(a.iter().chain(b.iter()).copied().collect()), ttl.min(other)))
        }
        (found @ (Found::Addresses(_), _), _) | (_, found @ (Found::Addresses(_), _)) => Ok(found),
        (found @ (Found::Alias(_), _), _) | (_, found @ (Found::Alias(_), _)) => Ok(found),
        _ => Err(ResolveError::HostNotFound),
    }
}

async fn ask_for(
    settings: &Settings,
    first: usize,
    kind: RecordType,
    name: &str,
    wanted: &impl Fn() -> bool,
) -> Option<Reply> {
    let Some(question) = Question::new(name, kind) else { return Some(Err(ResolveError::HostNotFound)) };
    let servers = &settings.servers;
    let mut unreachable = 0;
    for n in 0.. {
        let server = *servers.get((first + n) % servers.len().max(1))?;
        match timer::within(PATIENCE_MS, exchange(&question, server)).await {
            Some(Ok(reply)) => return Some(reply),
            Some(Err((call, error))) => {
                let code = error.raw_os_error().unwrap_or(0);
                report::write(
                    severity(&error),
                    format_args!(
                        "{call} failed ({code}: {}) while resolving, resolver: {server}",
                        describe(&error)
                    ),
                );
                unreachable += 1;
                // Another server may be there at once; when none is, all get time.
                if unreachable % servers.len().max(1) == 0 {
                    sleep(PATIENCE_MS).await;
                }
            }
            None => {}
        }
        if !wanted() {
            return None;
        }
    }
    None
}

/// nginx: failures that the network explains are errors, all others alerts.
fn severity(error: &io::Error) -> Severity {
    match error.kind() {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::TimedOut
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::InvalidData => Severity::Error,
        _ => Severity::Alert,
    }
}

/// The system's words without Rust's addition.
fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

type Failure = (&'static str, io::Error);

/// Asks one server until it has answered.
async fn exchange(question: &Question, server: SocketAddr) -> Result<Reply, Failure> {
    // Connected, so that the kernel chooses a port at random and drops what others send.
    let socket = Datagrams::connect(&Addr::Inet(server), None).map_err(|error| ("connect()", error))?;
    socket.send(&question.bytes).map_err(|error| ("send()", error))?;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let len = socket.recv(&mut buffer).await.map_err(|error| ("recv()", error))?;
        match question.judge(buffer.get(..len).unwrap_or_default()) {
            Verdict::Answer(reply) => return Ok(reply),
            Verdict::Truncated => return over_tcp(question, server).await,
            Verdict::Ignore(line) => {
                report::error(format_args!("{line} while resolving, resolver: {server}"))
            }
        }
    }
}

async fn over_tcp(question: &Question, server: SocketAddr) -> Result<Reply, Failure> {
    let io = connect(&Addr::Inet(server), None, PATIENCE_MS).await.map_err(|error| match error {
        ConnectError::TimedOut => ("connect()", io::ErrorKind::TimedOut.into()),
        ConnectError::Io(error) => ("connect()", error),
    })?;
    let len = u16::try_from(question.bytes.len()).unwrap_or(0).to_be_bytes();
    io.write_all(&[&len[..], &question.bytes].concat()).await.map_err(|error| ("send()", error))?;
    let mut received = Vec::new();
    loop {
        while let Some((message, rest)) = first_message(&received) {
            match question.judge(message) {
                Verdict::Answer(reply) => return Ok(reply),
                Verdict::Truncated => {
                    return Err(("recv()", io::Error::from(io::ErrorKind::InvalidData)));
                }
                Verdict::Ignore(line) => {
                    report::error(format_args!("{line} while resolving, resolver: {server}"))
                }
            }
            received = rest.to_vec();
        }
        // It grows with what comes, not with what is announced.
        received.reserve(DATAGRAM);
        match poll_fn(|cx| io.poll_read(&mut received, cx)).await {
            Ok(0) => return Err(("recv()", io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
            Err(error) => return Err(("recv()", error)),
        }
    }
}

/// The first message of what was received, once it is complete, and what is behind it.
fn first_message(received: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = received.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))
}
