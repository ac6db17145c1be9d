//! The cache of upstreams' answers under faults: files cut off or exchanged, directories that are gone, upstreams and
//! clients that leave, servers that are killed.

use moonrest_testkit::{
    Server,
    logs::Level,
    upstream::{Act, Upstream},
};
use rustix::process::Signal;
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A configuration with one cached location; `extra` goes there, `path` to `proxy_cache_path`.
fn conf(upstream: &Upstream, path: &str, extra: &str) -> String {
    format!(
        "master_process off;
        http {{
            proxy_cache_path {path} keys_zone=one:1m levels=1:2;
            server {{
                listen {{{{addr}}}};
                location / {{
                    proxy_pass http://{};
                    proxy_http_version 1.0;
                    proxy_cache one;
                    proxy_cache_key $uri;
                    proxy_cache_valid 200 10m;
                    add_header X-Cache $upstream_cache_status;
                    {extra}
                }}
            }}
        }}",
        upstream.addr()
    )
}

fn answer(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// All files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn expect(server: &Server, path: &str, cache: &str, body: &str) {
    server.get(path).expect_status(200).expect_header("X-Cache", cache).expect_body(body);
}

/// What happens to the bytes of a file.
type Damage = fn(&[u8]) -> Vec<u8>;

#[test]
fn a_damaged_file_is_a_miss() {
    let body = "x".repeat(100_000);
    let upstream = Upstream::answering(answer(&body));
    let server = Server::start(&conf(&upstream, "{{root}}/cache", ""));
    let damages: [Damage; 6] = [
        |_| Vec::new(),
        |whole| whole[..50].to_vec(),
        |whole| whole[..whole.len() - 1].to_vec(),
        |whole| [whole, b"!"].concat(),
        |whole| [b"garbage".to_vec(), whole[7..].to_vec()].concat(),
        |whole| vec![0; whole.len()],
    ];
    expect(&server, "/", "MISS", &body);
    for damage in damages {
        expect(&server, "/", "HIT", &body);
        let files = files(&server.root().join("cache"));
        let [file] = &*files else { panic!("{files:?}") };
        fs::write(file, damage(&fs::read(file).unwrap())).unwrap();
        expect(&server, "/", "MISS", &body);
    }
    expect(&server, "/", "HIT", &body);
}

#[test]
fn another_keys_file_is_never_answered() {
    let upstream = Upstream::start(vec![
        vec![Act::ReadRequest, Act::send(answer("secret"))],
        vec![Act::ReadRequest, Act::send(answer("public"))],
        vec![Act::ReadRequest, Act::send(answer("again"))],
    ]);
    let server = Server::start(&conf(&upstream, "{{root}}/cache", ""));
    expect(&server, "/secret", "MISS", "secret");
    let secret = files(&server.root().join("cache")).pop().unwrap();
    expect(&server, "/public", "MISS", "public");
    let public = files(&server.root().join("cache")).into_iter().find(|file| *file != secret).unwrap();
    fs::copy(&secret, &public).unwrap();
    expect(&server, "/public", "MISS", "again");
    expect(&server, "/secret", "HIT", "secret");
}

#[test]
fn what_was_removed_is_fetched_again() {
    let upstream = Upstream::answering(answer("body"));
    let server = Server::start(&conf(&upstream, "{{root}}/cache", ""));
    expect(&server, "/", "MISS", "body");
    let cache = server.root().join("cache");
    fs::remove_dir_all(&cache).unwrap();
    expect(&server, "/", "MISS", "body");
    expect(&server, "/", "HIT", "body");
}

#[test]
fn an_unusable_directory_costs_the_cache_alone() {
    let body = "x".repeat(200_000);
    let upstream = Upstream::answering(answer(&body));
    for extra in ["", "proxy_cache_lock on;"] {
        let server = Server::start(&conf(&upstream, "{{root}}/cache use_temp_path=off", extra));
        let cache = server.root().join("cache");
        fs::remove_dir_all(&cache).unwrap();
        fs::write(&cache, "not a directory").unwrap();
        expect(&server, "/", "MISS", &body);
        expect(&server, "/", "MISS", &body);
        server.wait_for_log(Level::Crit, "failed (20: Not a directory)");
        fs::remove_file(&cache).unwrap();
        fs::create_dir(&cache).unwrap();
        expect(&server, "/", "MISS", &body);
        expect(&server, "/", "HIT", &body);
    }
}

#[test]
fn half_an_answer_is_not_kept() {
    let half = || {
        let mut half = answer("whole");
        half.truncate(half.len() - 2);
        vec![Act::ReadRequest, Act::Send(half), Act::HalfClose]
    };
    for extra in ["", "proxy_cache_lock on;", "proxy_cache_valid any 1m;"] {
        let upstream = Upstream::start(vec![half(), vec![Act::ReadRequest, Act::send(answer("whole"))]]);
        let server = Server::start(&conf(&upstream, "{{root}}/cache", extra));
        let mut client = server.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").read_to_end();
        assert!(files(&server.root().join("cache")).is_empty());
        expect(&server, "/", "MISS", "whole");
        expect(&server, "/", "HIT", "whole");
    }
}

#[test]
fn who_waits_asks_when_the_first_one_fails() {
    let wait = Duration::from_millis(200);
    let upstream = Upstream::start(vec![
        vec![
            Act::ReadRequest,
            Act::Wait(wait),
            Act::send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
            Act::Reset,
        ],
        vec![Act::ReadRequest, Act::send(answer("whole"))],
    ]);
    let server = Server::start(&conf(&upstream, "{{root}}/cache", "proxy_cache_lock on;"));
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut first = server.connect();
    first.send(request);
    upstream.wait_for_connections(1);
    let mut others: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for other in &mut others {
        other.send(request);
    }
    let start = Instant::now();
    for other in &mut others {
        other.response().expect_status(200).expect_body("whole");
    }
    assert!(start.elapsed() < Duration::from_secs(3), "they waited for {:?}", start.elapsed());
    upstream.wait_for_connections(2);
    assert_eq!(upstream.recorded().len(), 2);
    first.read_to_end();
}

#[test]
fn one_asks_for_all() {
    let upstream = Upstream::start(vec![vec![
        Act::ReadRequest,
        Act::Wait(Duration::from_millis(300)),
        Act::send(answer("one")),
    ]]);
    let server = Server::start(&conf(&upstream, "{{root}}/cache", "proxy_cache_lock on;"));
    let mut clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let start = Instant::now();
    for client in &mut clients {
        client.response().expect_status(200).expect_body("one");
    }
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(upstream.recorded().len(), 1);
}

#[test]
fn a_client_that_leaves_while_it_waits_leaves_nothing_behind() {
    let upstream = Upstream::start(vec![
        vec![Act::ReadRequest, Act::Wait(Duration::from_millis(300)), Act::send(answer("one"))],
        vec![Act::ReadRequest, Act::send(answer("two"))],
    ]);
    let server = Server::start(&conf(&upstream, "{{root}}/cache", "proxy_cache_lock on;"));
    let mut first = server.connect();
    first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    upstream.wait_for_connections(1);
    let mut second = server.connect();
    second.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").wait_until_read();
    second.reset();
    first.response().expect_body("one");
    expect(&server, "/", "HIT", "one");
}

#[test]
fn an_answer_is_kept_though_its_client_leaves() {
    let body = "x".repeat(500_000);
    let (head, rest) = {
        let all = answer(&body);
        (all[..1000].to_vec(), all[1000..].to_vec())
    };
    let upstream = Upstream::start(vec![vec![
        Act::ReadRequest,
        Act::Send(head),
        Act::Wait(Duration::from_millis(200)),
        Act::Send(rest),
    ]]);
    let server = Server::start(&conf(&upstream, "{{root}}/cache", ""));
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").wait_for_bytes(100);
    client.reset();
    wait_until("the answer was not kept", || !files(&server.root().join("cache")).is_empty());
    expect(&server, "/", "HIT", &body);
}

#[test]
fn a_slow_client_does_not_hold_the_upstream() {
    let body = "0123456789".repeat(400_000);
    let upstream = Upstream::answering(answer(&body));
    for buffers in ["proxy_max_temp_file_size 0;", ""] {
        let server = Server::start(&conf(&upstream, "{{root}}/cache", buffers));
        let mut slow = server.connect();
        slow.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        wait_until("the answer was not kept", || !files(&server.root().join("cache")).is_empty());
        expect(&server, "/", "HIT", &body);
        slow.response().expect_status(200).expect_body(&body);
    }
}

#[test]
fn a_killed_server_leaves_nothing_that_is_answered() {
    let dir = std::env::temp_dir().join(format!("moonrest-killed-{}", std::process::id()));
    let path = format!("{} use_temp_path=off", dir.display());
    let body = "x".repeat(300_000);
    let (head, rest) = {
        let all = answer(&body);
        (all[..200_000].to_vec(), all[200_000..].to_vec())
    };
    let cut = Upstream::start(vec![vec![Act::ReadRequest, Act::Send(head), Act::Hold]]);
    let mut server = Server::start(&conf(&cut, &path, ""));
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("nothing was written", || {
        files(&dir).first().and_then(|file| file.metadata().ok()).is_some_and(|file| file.len() > 60_000)
    });
    server.stop(Signal::KILL);
    assert_eq!(files(&dir).len(), 1);
    drop(rest);
    let upstream = Upstream::answering(answer("all"));
    let mut server = Server::start(&conf(&upstream, &path, ""));
    expect(&server, "/", "MISS", "all");
    expect(&server, "/", "HIT", "all");
    // What is complete is found by the next server.
    server.stop(Signal::KILL);
    let server = Server::start(&conf(&cut, &path, ""));
    expect(&server, "/", "HIT", "all");
    server.wait_for_log(Level::Notice, "http file cache: ");
    drop(server);
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_reload_keeps_the_cache() {
    let upstream = Upstream::answering(answer("body"));
    let server = Server::start(&conf(&upstream, "{{root}}/cache", "proxy_cache_min_uses 2;"));
    expect(&server, "/", "MISS", "body");
    server.signal(Signal::HUP);
    server.wait_for_log(Level::Notice, "gracefully shutting down");
    // The use before the reload counts.
    expect(&server, "/", "MISS", "body");
    expect(&server, "/", "HIT", "body");
}

#[test]
fn what_is_too_much_or_too_old_is_removed() {
    let upstream = Upstream::answering(answer("body"));
    let location = |zone: &str| {
        format!(
            "location /{zone}/ {{ proxy_pass http://{}; proxy_cache {zone}; proxy_cache_valid any 1m;
                add_header X-Cache $upstream_cache_status; }}",
            upstream.addr()
        )
    };
    let server = Server::start(&format!(
        "master_process off;
        http {{
            proxy_cache_path {{{{root}}}}/much keys_zone=much:1m max_size=8k manager_sleep=10ms;
            proxy_cache_path {{{{root}}}}/old keys_zone=old:1m inactive=1s;
            server {{ listen {{{{addr}}}}; {} {} }}
        }}",
        location("much"),
        location("old")
    ));
    for zone in ["much", "old"] {
        for n in 0..20 {
            expect(&server, &format!("/{zone}/{n}"), "MISS", "body");
        }
    }
    let count = |zone: &str| files(&server.root().join(zone)).len();
    wait_until("nothing was removed", || count("much") < 2 && count("old") == 0);
    expect(&server, "/much/19", "HIT", "body");
    for path in ["/much/0", "/old/0"] {
        expect(&server, path, "MISS", "body");
    }
}

#[test]
fn a_renewal_behind_delays_nobody() {
    let stale = "HTTP/1.1 200 OK\r\nX-Accel-Expires: @1\r\nContent-Length: 3\r\n\r\nold";
    let upstream = Upstream::start(vec![
        vec![Act::ReadRequest, Act::send(stale)],
        vec![Act::ReadRequest, Act::Wait(Duration::from_millis(500)), Act::send(answer("new"))],
    ]);
    let extra = "proxy_cache_use_stale updating; proxy_cache_background_update on;";
    let server = Server::start(&conf(&upstream, "{{root}}/cache", extra));
    expect(&server, "/", "MISS", "old");
    let mut client = server.connect();
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let start = Instant::now();
    for status in ["STALE", "UPDATING", "UPDATING"] {
        client.send(request).response().expect_header("X-Cache", status).expect_body("old");
    }
    assert!(start.elapsed() < Duration::from_millis(400), "{:?}", start.elapsed());
    wait_until("it was not renewed", || {
        let response = client.send(request).response();
        response.header("X-Cache").as_deref() == Some("HIT") && response.text() == "new"
    });
    assert_eq!(upstream.recorded().len(), 2);
}

#[test]
fn a_stale_answer_while_nobody_can_be_asked() {
    let stale = "HTTP/1.1 200 OK\r\nX-Accel-Expires: @1\r\nContent-Length: 3\r\n\r\nold";
    let upstream =
        Upstream::start(vec![vec![Act::ReadRequest, Act::send(stale)], vec![Act::ReadRequest, Act::Reset]]);
    let server = Server::start(&conf(&upstream, "{{root}}/cache", "proxy_cache_use_stale error timeout;"));
    expect(&server, "/", "MISS", "old");
    expect(&server, "/", "STALE", "old");
    expect(&server, "/", "STALE", "old");
}
