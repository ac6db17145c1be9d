//! The server as a whole: what it is, its connections and requests.

use super::Asked;
use moonrest_http::{Request, variables::nginx_version, worker::Counters};
use moonrest_proto::date;
use moonrest_sys::time::wall;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Generations that have begun in this process.
static GENERATIONS: AtomicU64 = AtomicU64::new(0);

/// A generation begins: its number, and when.
pub(super) fn begin() -> (u64, i64) {
    (GENERATIONS.fetch_add(1, Relaxed) + 1, wall_ms())
}

fn wall_ms() -> i64 {
    let now = wall();
    now.secs.saturating_mul(1000).saturating_add(i64::from(now.millis()))
}

/// A moment in wall milliseconds as ISO 8601 has it.
pub(super) fn moment(ms: i64) -> String {
    let text = date::iso8601(ms.div_euclid(1000), 0);
    let text = String::from_utf8_lossy(text.get(..19).unwrap_or_default()).into_owned();
    format!("{text}.{:03}Z", ms.rem_euclid(1000))
}

pub(super) fn nginx(asked: &Asked<'_>) -> Value {
    let (generation, began) = asked.handler.shared.begun.get().copied().unwrap_or_default();
    let mut address = Vec::new();
    asked.r.with_local(|addr| addr.append_text(&mut address));
    json!({
        "version": nginx_version(),
        "build": concat!("moonrest-", env!("CARGO_PKG_VERSION")),
        "address": String::from_utf8_lossy(&address),
        "generation": generation,
        "load_timestamp": moment(began),
        "timestamp": moment(wall_ms()),
        "pid": std::process::id(),
        "ppid": std::os::unix::process::parent_id(),
    })
}

pub(super) fn connections(r: &Request) -> Value {
    let total = |counter: fn(&Counters) -> &AtomicU64| r.worker.total(counter);
    let (accepted, handled) = (total(|counters| &counters.accepted), total(|counters| &counters.handled));
    let (active, idle) = (total(|counters| &counters.active), total(|counters| &counters.waiting));
    json!({
        "accepted": accepted,
        "dropped": accepted.saturating_sub(handled),
        "active": active.saturating_sub(idle),
        "idle": idle,
    })
}

pub(super) fn requests(r: &Request) -> Value {
    let total = |counter: fn(&Counters) -> &AtomicU64| r.worker.total(counter);
    json!({
        "total": total(|counters| &counters.requests),
        "current": total(|counters| &counters.reading) + total(|counters| &counters.writing),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_milliseconds() {
        assert_eq!(moment(784_111_777_045), "1994-11-06T08:49:37.045Z");
        assert_eq!(moment(0), "1970-01-01T00:00:00.000Z");
    }
}
