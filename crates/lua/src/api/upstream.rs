//! `ngx.upstream`: the upstreams of the configuration, their servers, and how these do.
//! <https://github.com/openresty/lua-upstream-nginx-module>

use crate::host::Host;
use moonrest_core::upstream::{Condition, Down, Peer};
use moonrest_http::upstream::{Known, States, of_worker};
use moonrest_luajit::{Call, LuaError, LuaResult, Nil, Return, Stack, Table, Value};
use moonrest_sys::time::{monotonic_ms, wall};
use std::sync::Arc;

/// Makes the module.
pub(super) fn open(call: &mut Call<'_>) -> LuaResult<Return> {
    let module = call.table(0, 7)?;
    super::define(
        call,
        module,
        &[
            ("get_upstreams", get_upstreams),
            ("get_servers", get_servers),
            ("get_primary_peers", get_primary_peers),
            ("get_backup_peers", get_backup_peers),
            ("set_peer_down", set_peer_down),
            ("has_health_checks", has_health_checks),
            ("current_upstream_name", current_upstream_name),
        ],
    )?;
    call.ret(module)
}

const NOT_FOUND: &str = "upstream not found";

/// All upstreams, as this worker sees them; none before it runs.
fn all(call: &Call<'_>) -> Vec<Known> {
    let worker = call.host(|host: &Host| host.worker().cloned()).flatten();
    worker.map(|worker| of_worker(&worker)).unwrap_or_default()
}

/// The peers of the upstream that argument 1 names.
fn find(call: &Call<'_>) -> LuaResult<Option<Known>> {
    let name: &[u8] = call.arg(1)?;
    let mut known = all(call);
    let exact = known.iter().position(|known| *known.peers.name == *name);
    let found = exact.or_else(|| known.iter().position(|known| known.name.as_bytes() == name));
    Ok(found.map(|at| known.swap_remove(at)))
}

fn takes(call: &Call<'_>, count: usize, text: &str) -> LuaResult<()> {
    if call.args_len() == count { Ok(()) } else { Err(LuaError::new(format!("{text} expected"))) }
}

/// `get_upstreams() -> names`
fn get_upstreams(call: &mut Call<'_>) -> LuaResult<Return> {
    takes(call, 0, "no argument")?;
    let names = call.table(0, 0)?;
    for known in all(call) {
        names.append(call, known.name)?;
    }
    call.ret(names)
}

/// `get_servers(upstream) -> servers`
fn get_servers(call: &mut Call<'_>) -> LuaResult<Return> {
    takes(call, 1, "exactly one argument")?;
    let Some(Known { peers, explicit, .. }) = find(call)? else { return call.ret((Nil, NOT_FOUND)) };
    let set = peers.set();
    // A line stands where the first of its addresses stands; those that stand by come behind the others.
    let mut lines: Vec<Vec<&Arc<Peer>>> = Vec::new();
    for peer in set.all() {
        let same = |line: &&mut Vec<&Arc<Peer>>| {
            line.first().is_some_and(|first| {
                first.server.span == peer.server.span && first.server.name == peer.server.name
            })
        };
        match lines.iter_mut().find(same) {
            Some(line) => line.push(peer),
            None => lines.push(vec![peer]),
        }
    }
    lines.sort_by_key(|line| line.first().and_then(|first| first.server.span).map(|span| span.line));
    let servers = call.table(lines.len(), 0)?;
    for line in lines {
        let Some(first) = line.first() else { continue };
        let server = call.table(0, 7)?;
        if explicit {
            server.set(call, "name", &*first.server.name)?;
        }
        match &*line {
            [only] => server.set(call, "addr", &*only.name)?,
            several => {
                let addrs = call.table(several.len(), 0)?;
                for peer in several {
                    addrs.append(call, &*peer.name)?;
                }
                server.set(call, "addr", addrs)?;
            }
        }
        // nginx: where there is no line, nothing is set.
        let says = |number: f64| if explicit { number } else { 0.0 };
        server.set(call, "weight", says(first.server.weight.into()))?;
        server.set(call, "max_fails", says(first.server.max_fails.into()))?;
        server.set(call, "fail_timeout", says(first.server.fail_timeout as f64))?;
        if first.server.backup {
            server.set(call, "backup", true)?;
        }
        if first.server.down == Down::Yes {
            server.set(call, "down", true)?;
        }
        servers.append(call, server)?;
    }
    call.ret(servers)
}

/// `get_primary_peers(upstream) -> peers`
fn get_primary_peers(call: &mut Call<'_>) -> LuaResult<Return> {
    peers(call, false)
}

/// `get_backup_peers(upstream) -> peers`
fn get_backup_peers(call: &mut Call<'_>) -> LuaResult<Return> {
    peers(call, true)
}

fn peers(call: &mut Call<'_>, backup: bool) -> LuaResult<Return> {
    takes(call, 1, "exactly one argument")?;
    let Some(Known { peers, .. }) = find(call)? else { return call.ret((Nil, NOT_FOUND)) };
    let set = peers.set();
    let tier = if backup { set.backup.as_ref() } else { Some(&set.primary) };
    let list = call.table(tier.map_or(0, |tier| tier.peers.len()), 0)?;
    for (id, peer) in tier.iter().flat_map(|tier| &tier.peers).enumerate() {
        let shown = show(call, peer, id, peers.has_checks())?;
        list.append(call, shown)?;
    }
    call.ret(list)
}

fn show<'s>(stack: &Stack<'s>, peer: &Peer, id: usize, checks: bool) -> LuaResult<Table<'s>> {
    let numbers = peer.numbers();
    let shown = stack.table(0, 14)?;
    shown.set(stack, "name", &*peer.name)?;
    let moment = |monotonic: i64| {
        let now = i64::try_from(monotonic_ms() / 1000).unwrap_or(i64::MAX);
        wall().secs.saturating_sub(now.saturating_sub(monotonic))
    };
    let fields = [
        ("id", i64::try_from(id).unwrap_or(i64::MAX)),
        ("weight", peer.weight),
        ("current_weight", numbers.current_weight),
        ("effective_weight", numbers.effective_weight),
        ("conns", numbers.conns),
        ("fails", numbers.fails),
        ("max_fails", i64::from(peer.server.max_fails)),
        ("fail_timeout", peer.server.fail_timeout),
    ];
    for (name, value) in fields {
        shown.set(stack, name, value as f64)?;
    }
    for (name, value) in [("accessed", numbers.accessed), ("checked", numbers.checked)] {
        if value != 0 {
            shown.set(stack, name, moment(value) as f64)?;
        }
    }
    let condition = peer.condition();
    if matches!(condition, Condition::Down | Condition::Unhealthy | Condition::Checking) {
        shown.set(stack, "down", true)?;
    }
    // What nginx does not have: what checks say.
    if checks {
        shown.set(stack, "state", condition.name())?;
        let checked = peer.checked();
        let numbers = stack.table(0, 4)?;
        numbers.set(stack, "checks", checked.checks as f64)?;
        numbers.set(stack, "fails", checked.fails as f64)?;
        numbers.set(stack, "unhealthy", checked.unhealthy as f64)?;
        if let Some(passed) = checked.last_passed {
            numbers.set(stack, "last_passed", passed)?;
        }
        shown.set(stack, "health_checks", numbers)?;
    }
    Ok(shown)
}

/// `set_peer_down(upstream, is_backup, id, down) -> ok, err`
fn set_peer_down(call: &mut Call<'_>) -> LuaResult<Return> {
    takes(call, 4, "exactly 4 arguments")?;
    let Some(Known { peers, .. }) = find(call)? else { return call.ret((Nil, NOT_FOUND)) };
    let truth = |value: Value<'_>| !matches!(value, Value::Nil | Value::Boolean(false));
    let (backup, down) = (truth(call.value(2)), truth(call.value(4)));
    let id: f64 = call.arg(3)?;
    let set = peers.set();
    let tier = if backup { set.backup.as_ref() } else { Some(&set.primary) };
    let Some(tier) = tier else { return call.ret((Nil, "no backup peers")) };
    // A number that is no index is none of theirs.
    let peer = (id >= 0.0).then(|| tier.peers.get(id as usize)).flatten();
    let Some(peer) = peer else { return call.ret((Nil, "bad peer id")) };
    peers.set_down(peer, down);
    call.ret(true)
}

/// `has_health_checks(upstream) -> boolean, err`: whether there is a `health_check` of it. nginx does not have this.
fn has_health_checks(call: &mut Call<'_>) -> LuaResult<Return> {
    takes(call, 1, "exactly one argument")?;
    match find(call)? {
        Some(Known { peers, .. }) => call.ret(peers.has_checks()),
        None => call.ret((Nil, NOT_FOUND)),
    }
}

/// `current_upstream_name() -> name`; nil where nothing is proxied.
fn current_upstream_name(call: &mut Call<'_>) -> LuaResult<Return> {
    let found = call.host(|host: &Host| {
        let r = host.request.as_ref()?;
        Some(r.find_ctx::<States>().and_then(|states| states.upstream_name(r)))
    });
    match found.flatten() {
        None => Err(LuaError::new("no request object found")),
        Some(Some(name)) => call.ret(name),
        Some(None) => call.ret(Nil),
    }
}
