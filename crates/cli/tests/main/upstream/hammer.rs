//! Many clients at once over few kept connections to a server that does everything wrong in turn: nobody ever gets
//! another's answer.

use moonrest_testkit::{
    Server,
    response::{Context, Response},
};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

const CLIENTS: u64 = 8;
const REQUESTS: u64 = 150;

/// Answers `GET /ID` with a body that names the id, in one of many wrong ways.
fn serve_one(mut stream: TcpStream, misdeeds: &AtomicU64) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut unread = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let end = loop {
            if let Some(at) = unread.windows(4).position(|part| part == b"\r\n\r\n") {
                break at + 4;
            }
            match stream.read(&mut buffer) {
                Ok(n) if n > 0 => unread.extend_from_slice(&buffer[..n]),
                _ => return,
            }
        };
        let head: Vec<u8> = unread.drain(..end).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let id = head.split(' ').nth(1).unwrap_or("/?").trim_start_matches('/').to_owned();
        let body = format!("body of {id};").repeat(1 + id.len() * 40);
        let length = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let chunked = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        );
        let forged = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nbody of evil;";
        let (answer, close) = match misdeeds.fetch_add(1, Relaxed) % 13 {
            0 => (format!("{length}{forged}"), false),
            1 => (format!("{chunked}{forged}"), false),
            2 => (length[..length.len() / 2].to_owned(), true),
            3 => (chunked[..chunked.len() - 3].to_owned(), true),
            4 => (length.replace("Content-Length: ", "Content-Length: 9"), true),
            5 => (length.replace("200 OK\r\n", "200 OK\r\nConnection: close\r\n"), false),
            6 => ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n".to_owned() + forged, false),
            7 => (String::new(), true),
            8 => (format!("HTTP/1.1 100 Continue\r\n\r\n{length}"), false),
            9 => (format!("HTTP/1.1 204 No Content\r\n\r\n{forged}"), false),
            10 => (chunked, false),
            _ => (length, false),
        };
        if stream.write_all(answer.as_bytes()).is_err() || close {
            return;
        }
    }
}

/// What a client saw. A wrong answer panics.
#[derive(Default)]
struct Seen {
    whole: u64,
    broken: u64,
}

fn client(server: &Server, number: u64) -> Seen {
    let mut seen = Seen::default();
    for n in 0..REQUESTS {
        let id = format!("{number}-{n}");
        let mut stream = TcpStream::connect(server.addr()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        if n % 7 == 3 {
            // Asks and leaves.
            let _ = stream.write_all(format!("GET /{id} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
            continue;
        }
        stream
            .write_all(format!("GET /{id} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(!text.contains("evil"), "{id} was given what nobody asked for: {text}");
        for part in text.split("body of ").skip(1) {
            let owner = part.split(';').next().unwrap_or_default();
            let cut = !part.contains(';');
            assert!(
                owner == id || (cut && id.starts_with(owner.trim())),
                "{id} was given the answer of {owner}"
            );
        }
        match Response::parse(&answer, Context { head_request: false, at_end: true }) {
            Ok(response) if response.status == Some(200) => seen.whole += 1,
            _ => seen.broken += 1,
        }
    }
    seen
}

#[test]
fn nobody_gets_the_answer_of_another() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let misdeeds = Arc::new(AtomicU64::new(0));
    let connections = Arc::new(AtomicU64::new(0));
    let accepted = connections.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            accepted.fetch_add(1, Relaxed);
            let misdeeds = misdeeds.clone();
            std::thread::spawn(move || serve_one(stream, &misdeeds));
        }
    });
    let mut server = crate::builder().start(&format!(
        "worker_processes 2;
         http {{
             upstream u {{ server {addr} max_fails=0; keepalive 4; }}
             server {{
                 listen {{{{addr}}}};
                 location / {{ proxy_pass http://u; proxy_next_upstream off; }}
             }}
         }}"
    ));
    server.allow_log("upstream");
    let seen: Vec<Seen> = std::thread::scope(|scope| {
        let server = &server;
        let clients: Vec<_> =
            (0..CLIENTS).map(|number| scope.spawn(move || client(server, number))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let (whole, broken) = seen.iter().fold((0, 0), |sum, seen| (sum.0 + seen.whole, sum.1 + seen.broken));
    assert!(whole > 0 && broken > 0, "{whole} whole, {broken} broken");
    assert!(connections.load(Relaxed) < CLIENTS * REQUESTS, "connections were kept nevertheless");
}
