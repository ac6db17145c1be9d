//! Health of upstreams' servers, seen by several workers and over reloads.

use super::{instance::Instance, load::Load};
use moonrest_testkit::Port;
use rustix::process::Signal;
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// A server that can be told to be unwell, and counts what it is asked.
struct Backend {
    addr: SocketAddr,
    well: Arc<AtomicBool>,
    checks: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Backend {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let well = Arc::new(AtomicBool::new(true));
        let (checks, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let known = (well.clone(), checks.clone(), requests.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (well, checks, requests) = known.clone();
                thread::spawn(move || answer(stream, &well, &checks, &requests));
            }
        });
        Self { addr, well, checks, requests }
    }
}

/// Answers one request after another.
fn answer(mut stream: TcpStream, well: &AtomicBool, checks: &AtomicUsize, requests: &AtomicUsize) {
    let mut unread = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let Some(end) = unread.windows(4).position(|part| part == b"\r\n\r\n") else {
            match stream.read(&mut buffer) {
                Ok(n) if n > 0 => unread.extend_from_slice(&buffer[..n]),
                _ => return,
            }
            continue;
        };
        let head: Vec<u8> = unread.drain(..end + 4).collect();
        let is_check = head.starts_with(b"GET /health");
        (if is_check { checks } else { requests }).fetch_add(1, Relaxed);
        let status = if well.load(Relaxed) { "200 OK" } else { "503 Busy" };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\nwell!");
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// A configuration with an upstream of these servers.
fn conf(front: SocketAddr, servers: &[&Backend], check: &str) -> String {
    let servers: String = servers.iter().map(|server| format!("server {};", server.addr)).collect();
    format!(
        "worker_processes 3;
         error_log logs/error.log notice;
         events {{ }}
         http {{
             access_log off;
             upstream u {{ zone u 64k; {servers} }}
             server {{
                 listen {front};
                 location / {{ proxy_pass http://u; {check} }}
                 location /api {{ api; }}
             }}
         }}"
    )
}

fn start(servers: &[&Backend], check: &str) -> Instance {
    let server = Instance::new("", "");
    server.write(&conf(server.addr(), servers, check));
    let output = server.run(&[]);
    assert!(output.status.success(), "{output:?}\n{}", server.error_log());
    server
}

fn states(server: &Instance) -> Vec<String> {
    let text = server.get("/api/9/http/upstreams/u").text();
    let parts = text.split("\"state\":\"").skip(1);
    parts.map(|part| part.split('"').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn one_worker_checks_for_all() {
    let (one, two) = (Backend::start(), Backend::start());
    let server = start(&[&one, &two], "health_check uri=/health interval=200ms;");
    server.wait_until("checks", || one.checks.load(Relaxed) > 2);
    let (before, began) = (one.checks.load(Relaxed), Instant::now());
    server.wait_until("more checks", || one.checks.load(Relaxed) >= before + 5);
    // Three workers would be there in a third of the time.
    assert!(began.elapsed() > Duration::from_millis(700), "{:?}", began.elapsed());
    two.well.store(false, Relaxed);
    server.wait_until("the unhealthy", || states(&server) == ["up", "unhealthy"]);
    // Whichever worker answers, it knows.
    let asked = two.requests.load(Relaxed);
    for _ in 0..60 {
        server.get("/").expect_status(200);
    }
    assert_eq!(two.requests.load(Relaxed), asked);
}

#[test]
fn mandatory_checks_begin_anew_with_a_reload_unless_they_persist() {
    let (one, two) = (Backend::start(), Backend::start());
    two.well.store(false, Relaxed);
    let check = "health_check uri=/health interval=100ms mandatory persistent;";
    let server = start(&[&one, &two], check);
    server.wait_until("the states", || states(&server) == ["up", "unhealthy"]);
    // From now on no check is done in time.
    let slow = "health_check uri=/health interval=100ms jitter=1d mandatory persistent;";
    server.write(&conf(server.addr(), &[&one, &two], slow));
    server.signal(Signal::HUP);
    server.wait_until("those after a reload", || states(&server) == ["up", "checking"]);
    server.get("/").expect_status(200);
    let forgetful = "health_check uri=/health interval=100ms jitter=1d mandatory;";
    server.write(&conf(server.addr(), &[&one, &two], forgetful));
    server.signal(Signal::HUP);
    server.wait_until("those after another", || states(&server) == ["checking", "checking"]);
    server.get("/").expect_status(502);
    let plain = "health_check uri=/health interval=100ms jitter=1d;";
    server.write(&conf(server.addr(), &[&one, &two], plain));
    server.signal(Signal::HUP);
    server.wait_until("those without", || states(&server) == ["up", "up"]);
}

#[test]
fn nothing_is_lost_when_servers_come_and_go() {
    let backends = [Backend::start(), Backend::start(), Backend::start()];
    let servers: Vec<&Backend> = backends.iter().collect();
    let check = "health_check uri=/health interval=20ms mandatory persistent; proxy_next_upstream error timeout http_503;";
    let server = start(&servers, check);
    server.wait_until("health", || states(&server) == ["up", "up", "up"]);
    let load = Load::start(server.addr());
    for n in 0..6 {
        backends[n % 3].well.store(false, Relaxed);
        let sick = move |states: &[String]| states[n % 3] == "unhealthy";
        server.wait_until("the unhealthy", || sick(&states(&server)));
        load.wait_for(30);
        if n % 2 == 1 {
            server.signal(Signal::HUP);
        }
        backends[n % 3].well.store(true, Relaxed);
        server.wait_until("the healthy", || states(&server).iter().all(|state| state == "up"));
    }
    assert_eq!(load.finish(), Vec::<String>::new());
}

/// Many connections that never rest.
#[test]
fn kept_connections_lose_nothing_over_reloads() {
    let backend = Backend::start();
    let server = start(&[&backend], "proxy_http_version 1.1; proxy_set_header Connection \"\";");
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..24)
        .map(|_| {
            let (addr, stop, answered) = (server.addr(), stop.clone(), answered.clone());
            thread::spawn(move || keep_asking(addr, &stop, &answered))
        })
        .collect();
    for _ in 0..5 {
        let goal = answered.load(Relaxed) + 500;
        server.wait_until("answers", || answered.load(Relaxed) >= goal);
        let before = server.error_log().matches("reconfiguring").count();
        server.signal(Signal::HUP);
        server.wait_until("the reload", || server.error_log().matches("reconfiguring").count() > before);
    }
    let goal = answered.load(Relaxed) + 500;
    server.wait_until("answers", || answered.load(Relaxed) >= goal);
    stop.store(true, Relaxed);
    let failures: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    assert_eq!(failures, Vec::<String>::new());
}

/// Asks over one connection until the answer says that it is the last, then over a new one.
fn keep_asking(addr: SocketAddr, stop: &AtomicBool, answered: &AtomicUsize) -> Vec<String> {
    let mut failures = Vec::new();
    while !stop.load(Relaxed) {
        let asked = (|| -> std::io::Result<Option<String>> {
            let mut stream = TcpStream::connect(addr)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            let (mut unread, mut buffer) = (Vec::new(), [0; 4096]);
            while !stop.load(Relaxed) {
                stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
                while !unread.ends_with(b"well!") {
                    match stream.read(&mut buffer)? {
                        0 => return Ok(Some("closed without an answer".to_owned())),
                        n => unread.extend_from_slice(&buffer[..n]),
                    }
                }
                let text = String::from_utf8_lossy(&std::mem::take(&mut unread)).into_owned();
                if !text.starts_with("HTTP/1.1 200") {
                    return Ok(Some(text));
                }
                answered.fetch_add(1, Relaxed);
                if text.contains("Connection: close") {
                    return Ok(None);
                }
            }
            Ok(None)
        })();
        match asked {
            Ok(None) => {}
            Ok(Some(failure)) => failures.push(failure),
            Err(error) => failures.push(error.to_string()),
        }
    }
    failures
}

#[test]
fn names_are_checked_as_their_addresses_come_and_go() {
    // 127.0.0.1 and 127.0.0.2 both lead to listeners of one port.
    let port = Port::reserve().unwrap().number();
    let answering = |ip: [u8; 4]| {
        let listener = TcpListener::bind(SocketAddr::from((ip, port))).unwrap();
        let checks = Arc::new(AtomicUsize::new(0));
        let known = checks.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let known = known.clone();
                thread::spawn(move || answer(stream, &AtomicBool::new(true), &known, &AtomicUsize::new(0)));
            }
        });
        checks
    };
    let (one, two) = (answering([127, 0, 0, 1]), answering([127, 0, 0, 2]));
    let dns = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let resolver = dns.local_addr().unwrap();
    let last = Arc::new(AtomicUsize::new(1));
    let byte = last.clone();
    thread::spawn(move || serve_names(&dns, &byte));
    let server = Instance::new("", "");
    let front = server.addr();
    server.write(&format!(
        "worker_processes 2;
         error_log logs/error.log notice;
         events {{ }}
         http {{
             access_log off;
             resolver {resolver} ipv6=off valid=1s;
             upstream u {{ zone u 64k; server back.example:{port} resolve; }}
             server {{
                 listen {front};
                 location / {{ proxy_pass http://u; health_check uri=/health interval=50ms mandatory; }}
                 location /api {{ api; }}
             }}
         }}"
    ));
    let output = server.run(&[]);
    assert!(output.status.success(), "{output:?}\n{}", server.error_log());
    server.wait_until("the first address", || states(&server) == ["up"] && one.load(Relaxed) > 1);
    last.store(2, Relaxed);
    server.wait_until("the second", || two.load(Relaxed) > 1 && states(&server) == ["up"]);
    let before = one.load(Relaxed);
    server.wait_until("checks of the second", || two.load(Relaxed) > 20);
    assert!(one.load(Relaxed) <= before + 1, "who has gone is not asked any more");
    server.get("/").expect_status(200).expect_body("well!");
}

/// Answers every question with 127.0.0.N.
fn serve_names(socket: &std::net::UdpSocket, last: &AtomicUsize) {
    let mut buffer = [0; 512];
    while let Ok((n, from)) = socket.recv_from(&mut buffer) {
        let Some(end) = buffer[..n].iter().skip(12).position(|byte| *byte == 0).map(|at| 12 + at + 5) else {
            continue;
        };
        let mut answer = buffer[..2].to_vec();
        answer.extend_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        answer.extend_from_slice(&buffer[12..end.min(n)]);
        answer.extend_from_slice(&[
            0xc0,
            12,
            0,
            1,
            0,
            1,
            0,
            0,
            0,
            1,
            0,
            4,
            127,
            0,
            0,
            last.load(Relaxed) as u8,
        ]);
        let _ = socket.send_to(&answer, from);
    }
}
