//! A panic costs the connection it happens on, and nothing else.

use crate::engine::compile;
use moonrest_core::{Level, Log};
use moonrest_http::{server::accept, worker::Worker};
use moonrest_net::listen::Listener;
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

fn ask(client: &mut TcpStream, path: &str) -> String {
    write!(client, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    // The answers end with a full stop.
    while !answer.ends_with(b".\r\n0\r\n\r\n") {
        match client.read(&mut buffer).unwrap_or(0) {
            0 => break,
            n => answer.extend_from_slice(&buffer[..n]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn clients(addr: SocketAddr) {
    let connect = || {
        let client = TcpStream::connect(addr).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
        client
    };
    let mut neighbour = connect();
    assert!(ask(&mut neighbour, "/ok").starts_with("HTTP/1.1 200"));
    for _ in 0..20 {
        // Nothing was written before the panic; the connection is closed at once.
        assert_eq!(ask(&mut connect(), "/early"), "");
        let cut = ask(&mut connect(), "/late");
        assert!(!cut.ends_with("0\r\n\r\n"), "{cut}");
        assert!(ask(&mut neighbour, "/ok").starts_with("HTTP/1.1 200"));
    }
}

#[test]
fn a_panic_costs_one_connection() {
    let name = concat!(env!("CARGO_TARGET_TMPDIR"), "/panics.log");
    let http = compile(&format!(
        "error_log {name} alert;
         location /ok {{ script done.; }}
         location /early {{ script panic; }}
         location /late {{ script 'repeat 99999 text' flush panic; }}
         location /page {{ ssi on; script '<!--# include virtual=\"/late\" -->.'; }}"
    ));
    let worker = moonrest_rt::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let worker = Worker::new(0, http, Arc::new(Log::stderr(Level::Emerg)), Arc::default(), 100);
        let socket = Listener::new(listener.into(), false, true).unwrap();
        moonrest_rt::spawn(accept::run(worker.clone(), socket, 0));
        moonrest_rt::spawn_blocking(move || clients(addr)).await.unwrap();
        // The last connections end.
        for _ in 0..100 {
            if worker.connections.get() == 0 {
                break;
            }
            moonrest_net::sleep::sleep(20).await;
        }
        worker
    });
    let counters = &worker.counters;
    assert_eq!(worker.connections.get(), 0);
    for (name, counter) in [
        ("active", &counters.active),
        ("reading", &counters.reading),
        ("writing", &counters.writing),
        ("waiting", &counters.waiting),
    ] {
        assert_eq!(counter.load(Relaxed), 0, "{name}");
    }
    let log = fs::read_to_string(name).unwrap();
    let lines =
        log.lines().filter(|line| line.contains("closing connection: its request panicked, client: "));
    assert_eq!(lines.count(), 40, "{log}");
}
