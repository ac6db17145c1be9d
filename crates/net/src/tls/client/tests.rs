//! Both sides over a real socket, in one thread.

use super::*;
use crate::tls::{
    Info, Stream,
    certificate::{self, Certificates, Stapled},
    server,
    ticket::Ticketer,
};
use crate::{connect::connect, listen::Listener};
use moonrest_proto::tls::{Parse, parse};
use moonrest_rt::{block_on, spawn_joined};
use std::{future::poll_fn, rc::Rc};

/// In 2027.
const NOW: i64 = 1_800_000_000;

struct Site {
    config: Arc<rustls::ServerConfig>,
    store: Store,
}

fn site(tls13: bool) -> Site {
    let mut params = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let chain = certificate::chain(certificate.pem().as_bytes()).unwrap();
    let signing = certificate::private_key(key.serialize_pem().as_bytes(), &[]).unwrap();
    let mut store = Store { depth: 1, ..Store::default() };
    store.add_pem(certificate.pem().as_bytes()).unwrap();
    let mut ciphers = ciphers::tls13_default();
    ciphers.extend(ciphers::tls12("DEFAULT").list);
    let settings = server::Settings {
        tls12: !tls13,
        tls13,
        ciphers,
        groups: ciphers::groups("auto").list,
        prefer_server_ciphers: false,
        certificates: Certificates(vec![Stapled::new(Arc::new(certificate::join(chain, signing).unwrap()))]),
        client_authorities: Some(Vec::new()),
        tickets: Some(Arc::new(Ticketer::new(Vec::new(), Vec::new(), 300))),
        sessions: None,
        record_size: 4096,
        early_data: false,
        protocols: vec![b"http/1.1".to_vec()],
    };
    Site { config: Arc::new(settings.build().unwrap()), store }
}

/// Answers one connection with what it sends, until that ends.
async fn echo(config: Arc<rustls::ServerConfig>, io: Io) -> Rc<Info> {
    let mut received = Vec::new();
    let hello = loop {
        received.reserve(4096);
        poll_fn(|cx| io.poll_read(&mut received, cx)).await.unwrap();
        if let Parse::Complete(hello) = parse(&received) {
            break hello;
        }
    };
    let info = Rc::new(Info::new(&hello));
    let side = rustls::server::UnbufferedServerConnection::new(config).unwrap();
    let stream = Stream::new(io, Session::new(side, received));
    let mut buffer = Vec::new();
    poll_fn(|cx| stream.poll_handshake(&mut buffer, cx)).await.unwrap();
    stream.with_side(|side| info.update(side));
    loop {
        let mut at = 0;
        while at < buffer.len() {
            match stream.try_write(&[IoSlice::new(&buffer[at..])], false) {
                Ok(n) => at += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll_fn(|cx| stream.io().poll_writable(cx)).await.unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
        buffer.clear();
        poll_fn(|cx| stream.poll_flush(cx)).await.unwrap();
        if poll_fn(|cx| stream.poll_read(&mut buffer, cx)).await.unwrap() == 0 {
            stream.close();
            return info;
        }
    }
}

/// Sends `data` and reads as much; both sides go on at the same time.
async fn exchange(io: &Io, data: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut sent = 0;
    poll_fn(|cx| {
        loop {
            let mut idle = true;
            if sent < data.len() {
                let head = data.len().min(sent + 100);
                let pieces = [IoSlice::new(&data[sent..head]), IoSlice::new(&data[head..])];
                match io.try_write(&pieces, false) {
                    Ok(n) => (sent, idle) = (sent + n, false),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        idle &= io.poll_writable(cx).is_pending();
                    }
                    Err(error) => panic!("{error}"),
                }
            } else if io.has_pending() {
                let _ = io.poll_flush(cx);
            }
            if io.poll_read(&mut answer, cx).is_ready() {
                idle = false;
            }
            if answer.len() == data.len() {
                return Poll::Ready(());
            }
            if idle {
                return Poll::Pending;
            }
        }
    })
    .await;
    answer
}

fn run(tls13: bool, connections: usize, check: impl Fn(usize, &Client, &Store, Option<&Info>)) {
    block_on(async {
        let site = site(tls13);
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let addr = socket.local_addr().unwrap().into();
        let listener = Listener::new(socket.into(), false, false).unwrap();
        listener.resume().unwrap();
        let connector = Connector::new(Settings {
            sessions: Some(session_store(16)),
            protocols: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            ..Settings::default()
        })
        .unwrap();
        for n in 0..connections {
            let (io, accepted) = tokio::join!(connect(&addr, None, 5_000), listener.accept());
            let server = spawn_joined(echo(site.config.clone(), accepted.unwrap().0));
            let client = connector.start(io.unwrap(), Some("a.example"), "peer").unwrap();
            poll_fn(|cx| client.poll_handshake(cx)).await.unwrap();
            check(n, &client, &site.store, None);
            let io = Io::from(client);
            for len in [1, 5_000, 300_000] {
                let data: Vec<u8> = (0..len).map(|n: u32| n as u8 ^ (n >> 8) as u8).collect();
                assert!(exchange(&io, &data).await == data, "{len} bytes");
            }
            io.close();
            let mut rest = Vec::new();
            assert_eq!(poll_fn(|cx| io.poll_read(&mut rest, cx)).await.unwrap(), 0);
            let info = server.await.unwrap();
            check(n, io.client().unwrap(), &site.store, Some(&info));
        }
    });
}

#[test]
fn both_sides_agree_and_go_on_with_earlier_sessions() {
    for tls13 in [true, false] {
        run(tls13, 3, |n, client, store, info| {
            assert_eq!(client.verify(store, NOW), Ok(()));
            assert!(client.verify(&Store { depth: 1, ..Store::default() }, NOW).is_err());
            assert!(client.is_for("a.example") && !client.is_for("b.example"));
            assert_eq!(client.is_resumed(), n > 0, "connection {n}");
            assert_eq!(client.protocol().as_deref(), Some(&b"http/1.1"[..]));
            assert_eq!(client.version(), Some(if tls13 { "TLSv1.3" } else { "TLSv1.2" }));
            if let Some(info) = info {
                assert_eq!(info.reused.get(), n > 0);
                assert_eq!(info.server_name.as_deref(), Some(&b"a.example"[..]));
                assert_eq!(names::version(info.version.get()), client.version());
            }
        });
    }
}

#[test]
fn a_message_that_is_refused_in_part_ends_the_session() {
    let side = rustls::server::UnbufferedServerConnection::new(site(true).config).unwrap();
    let mut session = Session::new(side, Vec::new());
    // A record with the beginning of a message of 16 MB.
    let mut data = vec![22, 3, 1, 2, 0, 1, 0xff, 0xff, 0xff];
    data.resize(5 + 512, 0);
    assert!(session.run(&mut data, &mut Vec::new(), None).is_err());
    assert!(session.failed.is_some() && !session.has_pending());
}
