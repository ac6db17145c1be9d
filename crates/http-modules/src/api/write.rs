//! Changes: settings of servers, servers that are added and removed, and counts that begin anew. They last until the
//! configuration is read again.

use super::{
    Refusal, Reply, Shared,
    upstreams::{find, find_peer, server},
    zones,
};
use moonrest_conf::value;
use moonrest_core::upstream::{Down, Method as Balancing, Peer, Peers, Server, Target, Url};
use moonrest_http::prelude::*;
use moonrest_proto::http1::Method;
use serde_json::{Map, Value};

/// Does what the request's method says to what its path names.
pub(super) fn change(r: &Request, shared: &Shared, path: &[String]) -> Reply<(u16, Option<Value>)> {
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    match (r.method.get(), &*parts) {
        (Method::Delete, ["http", "upstreams", name]) => {
            find(r, name)?.peers.reset_counts();
            Ok((204, None))
        }
        (Method::Post, ["http", "upstreams", name, "servers"]) => {
            let peers = find(r, name)?.peers;
            Ok((201, Some(add(&peers, &object(r)?)?)))
        }
        (Method::Patch, ["http", "upstreams", name, "servers", id]) => {
            let peers = find(r, name)?.peers;
            let peer = find_peer(&peers, id)?;
            Ok((200, Some(modify(&peers, &peer, &object(r)?)?)))
        }
        (Method::Delete, ["http", "upstreams", name, "servers", id]) => {
            let peers = find(r, name)?.peers;
            let peer = find_peer(&peers, id)?;
            remove(&peers, &peer)?;
            Ok((200, Some(peers.set().all().map(|peer| server(peer)).collect())))
        }
        (Method::Delete, ["http", kind @ ("server_zones" | "location_zones"), name]) => {
            let (zones, of_server) = shared.zones(kind);
            zones::find(zones, of_server, name)?.reset();
            Ok((204, None))
        }
        (_, ["nginx" | "connections"] | ["http", "requests"] | ["http", "upstreams", ..]) => {
            Err(super::disabled())
        }
        _ => Err(Refusal::no_path()),
    }
}

/// The request's body: an object.
fn object(r: &Request) -> Reply<Map<String, Value>> {
    let body = r.body.borrow();
    let Some(text) = body.bytes() else {
        return Err(Refusal::new(413, "request body is too large", "BodyReadError"));
    };
    match serde_json::from_slice(&text) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(Refusal::new(415, "JSON error", "JsonError")),
    }
}

/// What a body says of a server.
struct Wanted {
    server: Server,
    /// It was said whether it is to be used.
    mode: Option<Down>,
    /// Its address, and whether it stands by: only new servers are told that.
    address: Option<String>,
    backup: Option<bool>,
}

/// Reads settings into those that are there.
fn read(from: &Server, object: &Map<String, Value>) -> Reply<Wanted> {
    let mut wanted = Wanted { server: from.clone(), mode: None, address: None, backup: None };
    let settings = &mut wanted.server;
    for (name, value) in object {
        let format = |text: String| Refusal::new(400, text, "UpstreamConfFormatError");
        if value.is_object() || value.is_array() {
            return Err(format("nested object or list".to_owned()));
        }
        let invalid = || format(format!("invalid \"{name}\" value"));
        let number = |code| {
            let bad = || Refusal::new(400, format!("invalid \"{name}\""), code);
            value.as_u64().and_then(|number| u32::try_from(number).ok()).ok_or_else(bad)
        };
        let text = || value.as_str().ok_or_else(invalid);
        let flag = || value.as_bool().ok_or_else(invalid);
        // Times stand as in the configuration, or as plain seconds.
        let words = value.as_u64().map_or_else(|| value.as_str().map(str::to_owned), |n| Some(n.to_string()));
        let time = |parse: fn(&[u8]) -> Option<u64>, code| {
            let parsed = words.as_deref().and_then(|text| parse(text.as_bytes()));
            let parsed = parsed.and_then(|time| i64::try_from(time).ok());
            parsed.ok_or_else(|| Refusal::new(400, format!("invalid \"{name}\""), code))
        };
        match name.as_str() {
            "weight" => {
                settings.weight = number("UpstreamBadWeight")?;
                if settings.weight == 0 {
                    return Err(Refusal::new(400, "invalid \"weight\"", "UpstreamBadWeight"));
                }
            }
            "max_conns" => settings.max_conns = number("UpstreamBadMaxConns")?,
            "max_fails" => settings.max_fails = number("UpstreamBadMaxFails")?,
            "fail_timeout" => {
                settings.fail_timeout = time(value::parse_sec, "UpstreamBadFailTimeout")?;
            }
            "slow_start" => settings.slow_start = time(value::parse_msec, "UpstreamBadSlowStart")?,
            "route" => {
                let route = text()?;
                if route.len() > 32 {
                    return Err(Refusal::new(400, "route is too long", "UpstreamBadRoute"));
                }
                settings.route =
                    Some(route).filter(|route| !route.is_empty()).map(|route| route.as_bytes().into());
            }
            "down" => wanted.mode = Some(if flag()? { Down::Yes } else { Down::No }),
            "drain" => wanted.mode = Some(if flag()? { Down::Draining } else { Down::No }),
            "server" => wanted.address = Some(text()?.to_owned()),
            "backup" => wanted.backup = Some(flag()?),
            _ => return Err(format(format!("unknown parameter \"{name}\""))),
        }
    }
    Ok(wanted)
}

fn modify(peers: &Peers, peer: &Arc<Peer>, object: &Map<String, Value>) -> Reply {
    let Wanted { server: settings, mode, address, backup } = read(&peer.server, object)?;
    let immutable = |what: &str, code| {
        let text = format!("server \"{}\" {what} is immutable", peer.id());
        Err(Refusal::new(400, text, code))
    };
    if address.is_some_and(|address| address.as_bytes() != &*peer.name) {
        return immutable("address", "UpstreamServerImmutable");
    }
    if backup.is_some_and(|backup| backup != peer.server.backup) {
        return immutable("backup", "UpstreamConfFormatError");
    }
    if settings.weight != peer.server.weight && matches!(settings.target, Target::Resolve { .. }) {
        return immutable("weight", "UpstreamServerWeightImmutable");
    }
    allow_slow_start(peers, &settings)?;
    if let Some(mode) = mode {
        peers.set_mode(peer, mode);
    }
    peers.edit(|list| {
        let Some(place) = list.iter_mut().find(|known| known.is_same(peer)) else {
            // It has gone meanwhile: a name has other addresses now.
            let text = format!("server with ID \"{}\" does not exist", peer.id());
            return Err(Refusal::new(404, text, "UpstreamServerNotFound"));
        };
        // Somebody else may have changed other settings of it meanwhile.
        let settings = read(&place.server, object)?.server;
        *place = Arc::new(place.with_server(Arc::new(settings)));
        Ok(server(place))
    })
}

fn add(peers: &Peers, object: &Map<String, Value>) -> Reply {
    let blank = Server::implicit(b"", Target::Addrs(Vec::new()), None);
    let Wanted { server: mut settings, mode, address, backup } = read(&blank, object)?;
    let Some(address) = address else {
        return Err(Refusal::new(400, "missing \"server\" argument", "UpstreamConfFormatError"));
    };
    let url = Url::parse(address.as_bytes(), 80, false).map_err(|error| {
        Refusal::new(400, format!("{error} while parsing \"{address}\""), "UpstreamBadAddress")
    })?;
    let Some(addr) = url.addr.clone() else {
        let text = format!("no resolver defined to resolve \"{address}\"");
        return Err(Refusal::new(400, text, "UpstreamConfNoResolver"));
    };
    settings.backup = backup.unwrap_or(false);
    if settings.backup && !may_stand_by(peers.method) {
        let text = format!("upstream \"{}\" has no backup", String::from_utf8_lossy(&peers.name));
        return Err(Refusal::new(400, text, "UpstreamNoBackup"));
    }
    allow_slow_start(peers, &settings)?;
    settings.name = address.as_bytes().into();
    settings.target = Target::Addrs(vec![addr.clone()]);
    let peer = Arc::new(moonrest_http::upstream::new_peer(addr, Arc::new(settings)));
    if let Some(mode) = mode {
        peers.set_mode(&peer, mode);
    }
    peer.begin_slowly();
    let exists = peers.edit(|list| {
        let exists =
            list.iter().any(|known| known.addr == peer.addr && known.server.backup == peer.server.backup);
        if !exists {
            list.push(peer.clone());
        }
        exists
    });
    if exists {
        return Err(Refusal::new(409, "entry exists", "EntryExists"));
    }
    Ok(server(&peer))
}

fn remove(peers: &Peers, peer: &Arc<Peer>) -> Reply<()> {
    let immutable = |text: String| Err(Refusal::new(400, text, "UpstreamServerImmutable"));
    if matches!(peer.server.target, Target::Resolve { .. }) {
        return immutable(format!("server \"{}\" not removable", peer.id()));
    }
    peers.edit(|list| list.retain(|known| !known.is_same(peer)));
    Ok(())
}

fn allow_slow_start(peers: &Peers, server: &Server) -> Reply<()> {
    if server.slow_start != 0 && !may_stand_by(peers.method) {
        return Err(Refusal::new(400, "invalid \"slow_start\"", "UpstreamBadSlowStart"));
    }
    Ok(())
}

/// The methods that know servers standing by are those that know slow starts.
fn may_stand_by(method: Balancing) -> bool {
    matches!(method, Balancing::RoundRobin | Balancing::LeastConn | Balancing::LeastTime(_))
}
