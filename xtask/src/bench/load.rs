//! One turn of a load generator, and the CPU time the server spent on it.
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use moonrest_testkit::Server;

use super::cases::{Ask, Request};
use super::crowd;
use super::floor::Floor;
use crate::run;

/// What the load generator does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) time: Duration,
    pub(crate) connections: u32,
}

/// What a turn found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// CPU time of the server per request, in microseconds.
    pub(crate) micros: f64,
    /// What of that was spent outside of the kernel.
    pub(crate) own: f64,
    pub(crate) per_second: f64,
    /// The time within which half of the requests, and 99 of 100, were answered, in milliseconds.
    pub(crate) latency: Option<(f64, f64)>,
    pub(crate) errors: u64,
}

/// What a load generator reports.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Report {
    requests: f64,
    latency: Option<(f64, f64)>,
    errors: u64,
}

impl Report {
    fn turn(self, spent: Spent, begun: Instant, load: Load) -> Turn {
        let micros = spent.time.as_secs_f64() * 1e6 / self.requests;
        let ticks = (spent.user + spent.system).max(1);
        Turn {
            micros,
            own: micros * spent.user as f64 / ticks as f64,
            per_second: self.requests / begun.elapsed().min(load.time).as_secs_f64(),
            latency: self.latency,
            errors: self.errors,
        }
    }
}

/// The processors the server does not have, for `taskset`.
pub(crate) fn others() -> String {
    let last = std::thread::available_parallelism().map_or(1, usize::from).saturating_sub(1);
    if last > 1 { format!("1-{last}") } else { last.to_string() }
}

/// One turn of the load that the row asks for.
pub(crate) fn measure(server: &Server, ask: Ask, load: Load) -> Result<Turn, String> {
    let before = Spent::by(server.pid())?;
    let begun = Instant::now();
    let report = match ask {
        Ask::Http(request) | Ask::Floor(request) => wrk(server, "http", request, load)?,
        Ask::Https(request) => wrk(server, "https", request, load)?,
        Ask::Handshakes { resumed } => handshakes(server.addr(), resumed, load)?,
        Ask::Http2 { connections, streams } => h2load(server, connections, streams, load)?,
        Ask::WebSocket { connections } => websocket(server.addr(), connections, load)?,
        Ask::Scaling(_) | Ask::Idle { .. } | Ask::Start | Ask::Reload => {
            return Err("this row has no load".to_owned());
        }
    };
    if report.requests < 1.0 {
        return Err(format!("no request was answered\n{}", server.error_log()));
    }
    Ok(report.turn(Spent::by(server.pid())?.since(before), begun, load))
}

/// One turn of requests to the bare loop.
pub(crate) fn measure_floor(floor: &Floor, request: Request, load: Load) -> Result<Turn, String> {
    let before = Spent::by(floor.pid())?;
    let begun = Instant::now();
    let text = run::output(&mut wrk_command(floor.addr, "http", request, load))?;
    let report = wrk_report(&text).ok_or_else(|| unreadable("wrk", &text))?;
    Ok(report.turn(Spent::by(floor.pid())?.since(before), begun, load))
}

/// CPU time per request, in microseconds, of servers that are asked at the same time.
pub(crate) fn measure_together(servers: &[&Server], request: Request, load: Load) -> Result<f64, String> {
    let addrs: Vec<SocketAddr> = servers.iter().map(|server| server.addr()).collect();
    let spent = || servers.iter().map(|server| Spent::by(server.pid())).collect::<Result<Vec<_>, _>>();
    let before = spent()?;
    let requests = crowd::ask(&addrs, request, load.connections, load.time)?;
    let spent: Duration = spent()?.iter().zip(before).map(|(after, before)| after.since(before).time).sum();
    Ok(spent.as_secs_f64() * 1e6 / requests.max(1.0))
}

fn unreadable(program: &str, text: &str) -> String {
    format!("what {program} reports cannot be read:\n{text}")
}

fn pinned(program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &others(), program]);
    command
}

fn wrk(server: &Server, scheme: &str, request: Request, load: Load) -> Result<Report, String> {
    let mut command = wrk_command(server.addr(), scheme, request, load);
    if request.body > 0 {
        let script = server.root().join("post.lua");
        let text = format!("wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", {})\n", request.body);
        fs::write(&script, text).map_err(|error| error.to_string())?;
        command.arg("-s").arg(script);
    }
    let text = run::output(&mut command)?;
    let mut report = wrk_report(&text).ok_or_else(|| unreadable("wrk", &text))?;
    if request.status != 200 {
        report.errors = report.errors.saturating_sub(report.requests as u64);
    }
    Ok(report)
}

fn wrk_command(addr: SocketAddr, scheme: &str, request: Request, load: Load) -> Command {
    let connections = request.connections.unwrap_or(load.connections);
    let mut command = pinned("wrk");
    command.arg(format!("{scheme}://{addr}{}", request.path));
    command.args(["-t", "1", "--latency", "--timeout", "10s"]);
    command.args(["-c", &connections.to_string(), "-d", &format!("{}s", load.time.as_secs())]);
    if let Some((name, value)) = request.header {
        command.args(["-H", &format!("{name}: {value}")]);
    }
    command
}

/// Reads what `wrk --latency` writes.
fn wrk_report(text: &str) -> Option<Report> {
    let line = text.lines().find(|line| line.contains(" requests in "))?;
    let requests = line.split_whitespace().next()?.parse().ok()?;
    let percentile = |percent: &str| {
        let line = text.lines().map(str::trim).find(|line| line.starts_with(percent))?;
        millis(line.split_whitespace().nth(1)?)
    };
    // `Socket errors: connect 0, read 3, write 0, timeout 1` and `Non-2xx or 3xx responses: 5`
    let numbers = |mark: &str| -> u64 {
        let Some(line) = text.lines().find(|line| line.contains(mark)) else { return 0 };
        line.rsplit(mark)
            .next()
            .unwrap_or("")
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|n| n.parse::<u64>().ok())
            .sum()
    };
    let errors = numbers("Socket errors:") + numbers("Non-2xx or 3xx responses:");
    Some(Report { requests, latency: percentile("50%").zip(percentile("99%")), errors })
}

/// `635.91us`, `1.04ms` or `2.00s` in milliseconds.
fn millis(text: &str) -> Option<f64> {
    let (number, factor) = match text {
        text if text.ends_with("us") => (text.strip_suffix("us")?, 0.001),
        text if text.ends_with("ms") => (text.strip_suffix("ms")?, 1.0),
        text => (text.strip_suffix('s')?, 1000.0),
    };
    Some(number.parse::<f64>().ok()? * factor)
}

fn h2load(server: &Server, connections: u32, streams: u32, load: Load) -> Result<Report, String> {
    let log = server.root().join("h2load.log");
    let _ = fs::remove_file(&log);
    let mut command = pinned("h2load");
    command.args(["-c", &connections.to_string(), "-m", &streams.to_string(), "-t", "1"]);
    command.args(["-D", &load.time.as_secs().to_string()]).arg(format!("--log-file={}", log.display()));
    let text = run::output(command.arg(format!("https://{}/", server.addr())))?;
    let line = text.lines().find(|line| line.starts_with("requests: "));
    let count = |word: &str| -> Option<u64> {
        let before = line?.split(", ").find(|part| part.ends_with(word))?;
        before.trim_start_matches("requests: ").split_whitespace().next()?.parse().ok()
    };
    let requests = count("succeeded").ok_or_else(|| unreadable("h2load", &text))?;
    // Start in microseconds since the epoch, status, microseconds.
    let times = fs::read_to_string(&log).unwrap_or_default();
    let times = times.lines().filter_map(|line| line.split('\t').nth(2)?.parse::<f64>().ok());
    Ok(Report {
        requests: requests as f64,
        latency: latency(times.map(|micros| micros / 1000.0).collect()),
        errors: count("failed").unwrap_or(0),
    })
}

/// `openssl s_time`: one connection after the other, a request on each.
fn handshakes(addr: SocketAddr, resumed: bool, load: Load) -> Result<Report, String> {
    let mut command = pinned("openssl");
    command.args(["s_time", "-connect", &addr.to_string(), "-www", "/", "-tls1_3"]);
    command.args([if resumed { "-reuse" } else { "-new" }, "-time", &load.time.as_secs().to_string()]);
    let text = run::output(&mut command)?;
    let read = || {
        let line =
            text.lines().find(|line| line.contains(" connections in ") && line.contains(" real seconds"))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let requests = read().ok_or_else(|| unreadable("openssl", &text))?;
    Ok(Report { requests, ..Report::default() })
}

/// A text message of 100 bytes, masked with zeros.
fn message() -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | 100, 0, 0, 0, 0];
    frame.extend([b'x'; 100]);
    frame
}

/// Messages on all connections, then all their echoes, over and over.
fn websocket(addr: SocketAddr, connections: u32, load: Load) -> Result<Report, String> {
    let failed = |error: std::io::Error| format!("WebSocket: {error}");
    let mut sockets = Vec::new();
    for _ in 0..connections {
        let mut socket = TcpStream::connect(addr).map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        socket.set_read_timeout(Some(Duration::from_secs(10))).map_err(failed)?;
        socket
            .write_all(
                b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            )
            .map_err(failed)?;
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            socket.read_exact(&mut byte).map_err(failed)?;
            head.push(byte[0]);
        }
        if !head.starts_with(b"HTTP/1.1 101") {
            return Err(format!("WebSocket: {}", String::from_utf8_lossy(&head)));
        }
        sockets.push(socket);
    }
    let frame = message();
    let mut echo = [0; 102];
    let mut times = Vec::new();
    let end = Instant::now() + load.time;
    while Instant::now() < end {
        let sent = Instant::now();
        for socket in &mut sockets {
            socket.write_all(&frame).map_err(failed)?;
        }
        for socket in &mut sockets {
            socket.read_exact(&mut echo).map_err(failed)?;
            times.push(sent.elapsed().as_secs_f64() * 1000.0);
        }
    }
    Ok(Report { requests: times.len() as f64, latency: latency(times), errors: 0 })
}

/// The middle one and the one that 99 of 100 do not exceed.
fn latency(mut times: Vec<f64>) -> Option<(f64, f64)> {
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len().checked_sub(1)?)).copied();
    at(50).zip(at(99))
}

/// The CPU time of all threads of a process and of its children.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    /// The scheduler's own account, exact to the nanosecond; where the kernel keeps none, the ticks have to do.
    time: Duration,
    /// Ticks outside of the kernel.
    user: u64,
    /// Ticks within it.
    system: u64,
}

impl Spent {
    fn by(pid: i32) -> Result<Self, String> {
        let tasks = format!("/proc/{pid}/task");
        let entries = fs::read_dir(&tasks).map_err(|error| format!("{tasks}: {error}"))?;
        let mut sum = Self::default();
        for entry in entries.flatten() {
            let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            let (user, system) = ticks(&read("stat")).unwrap_or_default();
            let exact = read("schedstat").split_whitespace().next().and_then(|nanos| nanos.parse().ok());
            let time = exact.map_or(Duration::from_millis((user + system) * 10), Duration::from_nanos);
            sum = sum.and(Self { time, user, system });
            for child in read("children").split_whitespace().filter_map(|child| child.parse().ok()) {
                sum = sum.and(Self::by(child).unwrap_or_default());
            }
        }
        Ok(sum)
    }

    fn and(self, more: Self) -> Self {
        Self { time: self.time + more.time, user: self.user + more.user, system: self.system + more.system }
    }

    fn since(self, before: Self) -> Self {
        Self {
            time: self.time.saturating_sub(before.time),
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
        }
    }
}

/// The memory that belongs to a process and its children alone, in bytes.
pub(crate) fn memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let own = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    own + children.split_whitespace().filter_map(|child| child.parse().ok()).map(memory).sum::<u64>()
}

/// User and system time of a `stat` line, in ticks of 10 ms.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    // The name in parentheses may hold anything; the fields behind it are counted from 3.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.get(11)?.parse().ok()?, fields.get(12)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRK: &str = "Running 3s test
  1 threads and 32 connections
  Latency Distribution
     50%  635.91us
     75%  712.34us
     90%    1.04ms
     99%    2.87ms
  123456 requests in 3.00s, 20.00MB read
  Socket errors: connect 0, read 3, write 0, timeout 1
  Non-2xx or 3xx responses: 5
Requests/sec: 41152
";

    #[test]
    fn reports_and_ticks_are_read() {
        let report = wrk_report(WRK).unwrap();
        assert_eq!(report.requests, 123_456.0);
        assert_eq!(report.errors, 9);
        let (half, most) = report.latency.unwrap();
        assert!((half - 0.63591).abs() < 1e-9 && (most - 2.87).abs() < 1e-9);
        assert_eq!(wrk_report("nothing"), None);
        assert_eq!(ticks("12 (a b) c) S 1 2 3 4 5 6 7 8 9 10 70 30 0 0 20"), Some((70, 30)));
        assert_eq!(millis("2.00s"), Some(2000.0));
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        assert_eq!(latency(vec![]), None);
        assert_eq!(latency((1..=100).rev().map(f64::from).collect()), Some((51.0, 100.0)));
    }
}
