//! Upstreams whose state is in a zone: their peers, and how these are configured.

use super::{Asked, Refusal, Reply, general::moment};
use moonrest_core::upstream::{Down, Peer, Peers, Target};
use moonrest_http::prelude::*;
use moonrest_http::upstream::{Known, of_worker};
use serde_json::{Map, Value, json};

/// Answers `/http/upstreams/…`.
pub(super) fn get(asked: &Asked<'_>, path: &[&str]) -> Reply {
    match path {
        [] => {
            let shared = of_worker(&asked.r.worker).into_iter().filter(|known| known.zone.is_some());
            let all = shared.map(|known| {
                let shown = asked.only(show(&known));
                (known.name, shown)
            });
            Ok(all.collect::<Map<_, _>>().into())
        }
        [name] => Ok(asked.only(show(&find(asked.r, name)?))),
        [name, "peers"] => Ok(peers(&find(asked.r, name)?.peers)),
        [name, "servers"] => {
            let known = find(asked.r, name)?;
            Ok(known.peers.set().all().map(|peer| server(peer)).collect())
        }
        [name, "servers", id] => {
            let known = find(asked.r, name)?;
            Ok(server(&*find_peer(&known.peers, id)?))
        }
        _ => Err(Refusal::no_path()),
    }
}

/// The upstream of that name; it must have a zone.
pub(super) fn find(r: &Request, name: &str) -> Reply<Known> {
    let known = of_worker(&r.worker).into_iter().find(|known| known.name == name);
    match known {
        None => Err(Refusal::new(404, "upstream not found", "UpstreamNotFound")),
        Some(known) if known.zone.is_none() => Err(Refusal::new(400, "upstream is static", "UpstreamStatic")),
        Some(known) => Ok(known),
    }
}

/// The peer of that number.
pub(super) fn find_peer(peers: &Peers, id: &str) -> Reply<Arc<Peer>> {
    let number: i64 = id
        .parse()
        .ok()
        .filter(|number| *number >= 0)
        .ok_or_else(|| Refusal::new(400, "invalid server ID", "UpstreamBadServerId"))?;
    let found = peers.set().all().find(|peer| peer.id() == number).cloned();
    found.ok_or_else(|| {
        let text = format!("server with ID \"{number}\" does not exist");
        Refusal::new(404, text, "UpstreamServerNotFound")
    })
}

fn show(known: &Known) -> Value {
    json!({ "peers": peers(&known.peers), "zone": known.zone })
}

fn peers(peers: &Peers) -> Value {
    peers.set().all().map(|known| peer(known)).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The state of one peer.
fn peer(peer: &Peer) -> Value {
    let (counted, checked) = (peer.counted(), peer.checked());
    let [one, two, three, four, five] = counted.responses;
    let codes: Map<_, _> =
        counted.codes.iter().map(|(code, count)| (code.to_string(), Value::from(*count))).collect();
    let mut checks = json!({
        "checks": checked.checks,
        "fails": checked.fails,
        "unhealthy": checked.unhealthy,
    });
    let mut shown = json!({
        "id": peer.id(),
        "server": text(&peer.name),
        "name": text(&peer.server.name),
        "backup": peer.server.backup,
        "weight": peer.weight,
        "state": peer.condition().name(),
        "active": peer.connections(),
    });
    let set = |value: &mut Value, name: &str, field: Value| {
        if let Value::Object(object) = value {
            object.insert(name.to_owned(), field);
        }
    };
    if let Target::Resolve { service: Some(service), .. } = &peer.server.target {
        set(&mut shown, "service", text(service).into());
    }
    if peer.server.max_conns != 0 {
        set(&mut shown, "max_conns", peer.server.max_conns.into());
    }
    set(&mut shown, "requests", counted.requests.into());
    for (name, time) in [("header_time", counted.header_time), ("response_time", counted.response_time)] {
        if let Some(time) = time {
            set(&mut shown, name, time.into());
        }
    }
    let responses = json!({
        "1xx": one, "2xx": two, "3xx": three, "4xx": four, "5xx": five,
        "codes": codes,
        "total": one + two + three + four + five,
    });
    set(&mut shown, "responses", responses);
    set(&mut shown, "sent", counted.sent.into());
    set(&mut shown, "received", counted.received.into());
    set(&mut shown, "fails", counted.fails.into());
    set(&mut shown, "unavail", counted.unavailable.into());
    if let Some(passed) = checked.last_passed {
        set(&mut checks, "last_passed", passed.into());
    }
    set(&mut shown, "health_checks", checks);
    set(&mut shown, "downtime", counted.downtime.into());
    for (name, at) in [("downstart", counted.downstart), ("selected", counted.selected)] {
        if let Some(at) = at {
            set(&mut shown, name, moment(at).into());
        }
    }
    shown
}

/// How one peer is configured.
pub(super) fn server(peer: &Peer) -> Value {
    let server = &peer.server;
    let mut shown = json!({
        "id": peer.id(),
        "server": text(&peer.name),
        "weight": peer.weight,
        "max_conns": server.max_conns,
        "max_fails": server.max_fails,
        "fail_timeout": format!("{}s", server.fail_timeout),
        "slow_start": duration(server.slow_start),
        "route": server.route.as_deref().map_or_else(String::new, text),
        "backup": server.backup,
        "down": peer.down() == Down::Yes,
    });
    if let Value::Object(object) = &mut shown {
        if peer.down() == Down::Draining {
            object.insert("drain".to_owned(), true.into());
        }
        if let Target::Resolve { host, service, .. } = &server.target {
            object.insert("host".to_owned(), text(host).into());
            if let Some(service) = service {
                object.insert("service".to_owned(), text(service).into());
            }
        }
    }
    shown
}

/// A time in milliseconds as a configuration has it.
fn duration(ms: i64) -> String {
    if ms % 1000 == 0 { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
}
