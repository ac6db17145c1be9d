//! Rows that are no plain load: what a second worker costs, memory of idle connections, time to start and to take in a
//! new configuration.
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use moonrest_testkit::{Server, process, tls};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use super::cases::Request;
use super::load::{self, Load};

/// The longest time anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Raises the limit of open files of this process and its children as far as the system allows.
pub(crate) fn raise_limits() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// What a request costs `together`, a server of two workers, as a multiple of what it costs `apart`, two servers of one
/// worker that are asked at the same time. Each load takes the same processors, so that what differs is what the workers
/// of a server share.
pub(crate) fn scaling(
    together: &Server,
    apart: &[Server; 2],
    request: Request,
    load: Load,
) -> Result<f64, String> {
    let alone = load::measure_together(&[&apart[0], &apart[1]], request, load)?;
    Ok(load::measure_together(&[together], request, load)? / alone)
}

/// The bytes of memory per connection that made one request and is now idle.
pub(crate) fn idle(server: &Server, connections: u32, over_tls: bool) -> Result<f64, String> {
    let failed = |error: std::io::Error| format!("an idle connection: {error}");
    let plain = |addr: SocketAddr| -> Result<TcpStream, String> {
        let mut socket = TcpStream::connect(addr).map_err(failed)?;
        socket.set_read_timeout(Some(Duration::from_secs(10))).map_err(failed)?;
        socket.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").map_err(failed)?;
        let mut answer = [0; 1024];
        let len = socket.read(&mut answer).map_err(failed)?;
        if answer.get(..len).is_some_and(|answer| answer.starts_with(b"HTTP/1.1 200")) {
            Ok(socket)
        } else {
            Err(format!("an idle connection: {}", String::from_utf8_lossy(&answer[..len])))
        }
    };
    let hello = tls::Hello::to("localhost");
    let mut open = (Vec::new(), Vec::new());
    let mut connect = || -> Result<(), String> {
        if over_tls {
            let mut client = hello.connect(server.addr());
            client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let response = client.response();
            if response.status != Some(200) {
                return Err(format!("an idle connection: {:?}", response.status));
            }
            open.0.push(client);
        } else {
            open.1.push(plain(server.addr())?);
        }
        Ok(())
    };
    // What the first ones cost besides themselves is not theirs.
    for _ in 0..100 {
        connect()?;
    }
    let settle = || std::thread::sleep(Duration::from_millis(500));
    settle();
    let before = load::memory(server.pid());
    for _ in 0..connections {
        connect()?;
    }
    settle();
    Ok(load::memory(server.pid()).saturating_sub(before) as f64 / f64::from(connections))
}

/// Milliseconds from the start to the first answer.
pub(crate) fn start(start: impl FnOnce() -> Server) -> Result<f64, String> {
    let begun = Instant::now();
    let server = start();
    wait_for(server.addr(), "generation", "1")?;
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}

/// Milliseconds from the signal until new connections get the new configuration.
pub(crate) fn reload(server: &Server, conf: &str) -> Result<f64, String> {
    wait_for(server.addr(), "generation", "1")?;
    let path = server.root().join("conf/nginx.conf");
    let old = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
    // The ports are already in the text; only the answer changes.
    let new = old.replace("location = /generation { return 200 \"1\"; }", conf);
    std::fs::write(&path, new).map_err(|error| error.to_string())?;
    let begun = Instant::now();
    server.signal(Signal::HUP);
    wait_for(server.addr(), "generation", "2")?;
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}

fn wait_for(addr: SocketAddr, path: &str, body: &str) -> Result<(), String> {
    let ask = || {
        let mut socket = TcpStream::connect(addr).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let request = format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        answer.ends_with(&format!("\r\n\r\n{body}")).then_some(())
    };
    process::poll(PATIENCE, ask).ok_or_else(|| format!("/{path} does not answer \"{body}\""))
}
