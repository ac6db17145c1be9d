//! One turn of the load generator, and the CPU time the server spent on it.
use std::fs;
use std::process::Command;
use std::time::Duration;

use moonrest_testkit::Server;

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
    pub(crate) per_second: f64,
}

/// Runs wrk on the processors the server does not have.
pub(crate) fn measure(server: &Server, path: &str, load: Load) -> Result<Turn, String> {
    let last = std::thread::available_parallelism().map_or(1, usize::from).saturating_sub(1);
    let before = cpu_time(server.pid())?;
    let report = run::output(
        Command::new("taskset")
            .args(["-c", &if last > 1 { format!("1-{last}") } else { last.to_string() }])
            .args([
                "wrk",
                "-t",
                "1",
                "-c",
                &load.connections.to_string(),
                "-d",
                &format!("{}s", load.time.as_secs()),
            ])
            .arg(format!("http://{}{path}", server.addr())),
    )?;
    let spent = cpu_time(server.pid())?.saturating_sub(before);
    if report.contains("Non-2xx") || report.contains("Socket errors") {
        return Err(format!("the load generator saw errors:\n{report}"));
    }
    let requests = requests(&report).ok_or_else(|| format!("what wrk reports cannot be read:\n{report}"))?;
    let micros = spent.as_secs_f64() * 1e6 / requests;
    Ok(Turn { micros, per_second: requests / load.time.as_secs_f64() })
}

/// The number in `123456 requests in 3.00s, 20.00MB read`.
fn requests(report: &str) -> Option<f64> {
    let line = report.lines().find(|line| line.contains(" requests in "))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The CPU time of all threads of a process. The scheduler's own account is exact to the nanosecond; where the kernel
/// keeps none, the ticks of `stat` have to do.
fn cpu_time(pid: i32) -> Result<Duration, String> {
    let tasks = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&tasks).map_err(|error| format!("{tasks}: {error}"))?;
    let mut sum = Duration::ZERO;
    for entry in entries.flatten() {
        let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let exact = read("schedstat").split_whitespace().next().and_then(|nanos| nanos.parse().ok());
        sum += match exact {
            Some(nanos) => Duration::from_nanos(nanos),
            None => ticks(&read("stat")).map_or(Duration::ZERO, |ticks| Duration::from_millis(ticks * 10)),
        };
    }
    Ok(sum)
}

/// User and system time of a `stat` line, in ticks of 10 ms.
fn ticks(stat: &str) -> Option<u64> {
    // The name in parentheses may hold anything; the fields behind it are counted from 3.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_and_ticks_are_read() {
        let report =
            "Running 3s test\n  2 threads\n  123456 requests in 3.00s, 20.00MB read\nRequests/sec: 41152\n";
        assert_eq!(requests(report), Some(123_456.0));
        assert_eq!(ticks("12 (a b) c) S 1 2 3 4 5 6 7 8 9 10 70 30 0 0 20"), Some(100));
    }
}
