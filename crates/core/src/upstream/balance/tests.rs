//! Each method's choices, failures, sessions and slow starts.

use super::*;
use crate::upstream::{Down, Server, Target};

/// Peers named by letters: `a` weight 1, `A` twice that, `!` behind it down, `+` standing by.
fn peers(spec: &str, method: Method) -> Arc<Peers> {
    let list = spec.split_whitespace().enumerate().map(|(n, text)| {
        let mut server = Server::implicit(&text.as_bytes()[..1], Target::Addrs(Vec::new()), None);
        server.weight = if text.starts_with(char::is_uppercase) { 2 } else { 1 };
        server.down = if text.contains('!') { Down::Yes } else { Down::No };
        server.backup = text.contains('+');
        server.max_conns = u32::from(text.contains('1'));
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 8000 + n as u16)).into();
        Arc::new(Peer::named(addr, text.as_bytes()[..1].into(), Arc::new(server)))
    });
    Arc::new(Peers::new(Box::from(&b"u"[..]), method, list.collect()))
}

fn pick(peers: &Arc<Peers>, key: &[u8]) -> String {
    let mut selection = Selection::new(peers.clone(), key);
    let peer = selection.next(None);
    peer.map_or_else(|| "-".to_owned(), |peer| String::from_utf8_lossy(&peer.name).into_owned())
}

fn sequence(spec: &str, method: Method, count: usize) -> String {
    let peers = peers(spec, method);
    (0..count).map(|_| pick(&peers, b"")).collect()
}

#[test]
fn round_robin_is_smooth() {
    assert_eq!(sequence("a b c", Method::RoundRobin, 6), "abcabc");
    assert_eq!(sequence("A b", Method::RoundRobin, 6), "AbAAbA");
    assert_eq!(sequence("a b! c", Method::RoundRobin, 4), "acac");
    assert_eq!(sequence("a! b+", Method::RoundRobin, 2), "bb");
    assert_eq!(sequence("a!", Method::RoundRobin, 1), "-");
}

#[test]
fn a_failed_peer_is_left_alone() {
    let peers = peers("a b", Method::RoundRobin);
    let mut selection = Selection::new(peers.clone(), b"");
    assert_eq!(&*selection.next(None).unwrap().name, b"a");
    assert!(selection.release(Outcome::Failed));
    assert_eq!(selection.tries, 1);
    assert_eq!(&*selection.next(None).unwrap().name, b"b");
    assert!(!selection.release(Outcome::Done { header: None, response: 1 }));
    assert_eq!((pick(&peers, b""), pick(&peers, b"")), ("b".to_owned(), "b".to_owned()));
}

#[test]
fn a_single_peer_is_asked_whatever_happened() {
    let peers = peers("a", Method::RoundRobin);
    let mut selection = Selection::new(peers.clone(), b"");
    selection.next(None).unwrap();
    assert!(!selection.release(Outcome::Failed));
    assert_eq!(selection.tries, 0);
    assert_eq!(pick(&peers, b""), "a");
}

#[test]
fn least_conn_prefers_the_idle() {
    let peers = peers("a b c", Method::LeastConn);
    let mut held = Vec::new();
    let mut order = String::new();
    for _ in 0..6 {
        let mut selection = Selection::new(peers.clone(), b"");
        order.push_str(&String::from_utf8_lossy(&selection.next(None).unwrap().name));
        held.push(selection);
    }
    let mut first: Vec<char> = order.chars().take(3).collect();
    first.sort_unstable();
    assert_eq!(first, ['a', 'b', 'c'], "{order}");
    drop(held.remove(1));
    assert_eq!(pick(&peers, b""), order[1..2]);
}

#[test]
fn a_peer_that_is_full_is_passed_over_and_freed_when_dropped() {
    let peers = peers("a1 b1", Method::RoundRobin);
    let mut one = Selection::new(peers.clone(), b"");
    let mut two = Selection::new(peers.clone(), b"");
    assert!(one.next(None).is_some() && two.next(None).is_some());
    assert_eq!(pick(&peers, b""), "-");
    drop(two);
    assert_eq!(pick(&peers, b""), "b");
}

#[test]
fn a_key_leads_to_the_same_peer() {
    for method in [Method::Hash, Method::ConsistentHash] {
        let peers = peers("a b c", method);
        let chosen = pick(&peers, b"/x");
        assert!((0..10).all(|_| pick(&peers, b"/x") == chosen));
        let mut all: Vec<_> = (0..60).map(|n| pick(&peers, format!("/{n}").as_bytes())).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all, ["a", "b", "c"]);
    }
}

#[test]
fn every_method_reaches_every_peer_in_the_end() {
    let inflight = LeastTime { header: true, inflight: true };
    for method in [
        Method::RoundRobin,
        Method::LeastConn,
        Method::IpHash,
        Method::Hash,
        Method::ConsistentHash,
        Method::Random,
        Method::RandomTwo,
        Method::LeastTime(inflight),
    ] {
        let peers = peers("a b C d+", method);
        let mut selection = Selection::new(peers.clone(), b"key");
        let mut names = Vec::new();
        while let Some(peer) = selection.next(None) {
            names.push(String::from_utf8_lossy(&peer.name).into_owned());
            selection.release(Outcome::Next);
        }
        names.sort_unstable();
        assert_eq!(names, ["C", "a", "b", "d"], "{method:?}");
        assert!(peers.set().all().all(|peer| peer.connections() == 0));
    }
}

#[test]
fn a_peer_that_starts_slowly_gets_more_and_more() {
    for method in [Method::RoundRobin, Method::LeastConn] {
        let slow = |server: &Arc<Server>| Arc::new(Server { slow_start: 3_600_000, ..Server::clone(server) });
        let peers = peers("a b", method);
        peers.edit(|list| {
            for peer in list {
                *peer = Arc::new(peer.with_server(slow(&peer.server)));
            }
        });
        let set = peers.set();
        let share = |at: i64| {
            for (n, peer) in set.all().enumerate() {
                peer.state.current_weight.set(0);
                let since = if n == 0 { 0 } else { (millis() - at).max(1) };
                peer.state.slow_since.set(since);
            }
            // All at once, so that the number of connections counts.
            let mut held = Vec::new();
            let names = (0..400).map(|_| {
                let mut selection = Selection::new(peers.clone(), b"");
                let peer = selection.next(None).unwrap();
                held.push(selection);
                usize::from(&*peer.name == b"b")
            });
            names.sum::<usize>()
        };
        let near =
            |got: usize, expect: usize| assert!(got.abs_diff(expect) <= 8, "{method:?} {got} {expect}");
        near(share(0), 0);
        near(share(3_600_000 / 4), 80);
        near(share(3_600_000 / 2), 133);
        near(share(3_600_000), 200);
        assert_eq!(set.primary.unit, crate::upstream::peer::WHOLE);
    }
}

#[test]
fn what_was_unavailable_starts_slowly() {
    let peers = peers("a b", Method::RoundRobin);
    peers.edit(|list| {
        for peer in list {
            let server = Server { slow_start: 10_000, fail_timeout: 0, ..Server::clone(&peer.server) };
            *peer = Arc::new(peer.with_server(Arc::new(server)));
        }
    });
    let mut selection = Selection::new(peers.clone(), b"");
    let peer = selection.next(None).unwrap();
    let place = selection.current;
    assert!(selection.release(Outcome::Failed));
    assert_eq!(peer.state.slow_since.get(), 0);
    // Its time is over: it was tried again.
    peer.state.accessed.add(-2);
    selection.current = place;
    assert!(!selection.release(Outcome::Done { header: None, response: 1 }));
    assert!(peer.state.slow_since.get() != 0 && peer.share(millis()) < crate::upstream::peer::WHOLE);
}

#[test]
fn a_view_follows_its_peers() {
    let peers = peers("a b", Method::RoundRobin);
    let view = View::new(peers.clone());
    let name = |selection: &mut Selection| selection.next(None).map(|peer| peer.name[0]);
    let mut before = view.select(b"");
    assert_eq!(name(&mut before), Some(b'a'));
    peers.edit(|list| list.retain(|peer| *peer.name == *b"b"));
    // What has begun goes on among those that it began with.
    assert!(!before.release(Outcome::Next));
    assert_eq!(name(&mut before), Some(b'b'));
    assert_eq!((name(&mut view.select(b"")), name(&mut view.select(b""))), (Some(b'b'), Some(b'b')));
    peers.edit(Vec::clear);
    assert_eq!(name(&mut view.select(b"")), None);
}

#[test]
fn peers_of_one_thread_are_chosen_as_any() {
    let own = Arc::new(peers("A b", Method::RoundRobin).detached());
    let view = View::new(own.clone());
    let picked: Vec<u8> =
        (0..6).filter_map(|_| view.select(b"").next(None).map(|peer| peer.name[0])).collect();
    assert_eq!(picked, b"AbAAbA");
    assert!(own.set().all().all(|peer| peer.state.conns.get() == 0));
}

#[test]
fn a_bound_request_finds_its_peer() {
    let peers = peers("a b", Method::RoundRobin);
    let set = peers.set();
    let with_sids = set.all().map(|peer| {
        let peer = Peer::named(peer.addr.clone(), peer.name.clone(), peer.server.clone());
        Arc::new(peer.with_sid(|name| name.into()))
    });
    let with_sids = with_sids.collect();
    peers.edit(|list| *list = with_sids);
    for _ in 0..3 {
        let mut selection = Selection::new(peers.clone(), b"");
        assert_eq!(&*selection.next(Some(b"b")).unwrap().name, b"b");
    }
    let mut selection = Selection::new(peers, b"");
    assert!(selection.next(Some(b"x")).is_some());
}
