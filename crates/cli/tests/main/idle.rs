//! What an idle connection costs.

use crate::{builder, configuration};
use socket2::{Domain, Socket, Type};
use std::{fs, net::SocketAddr, time::Duration};

/// Anonymous memory of the process and its children, in bytes.
pub(crate) fn anonymous(pid: i32) -> usize {
    let mut all = vec![pid];
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    all.iter().map(|pid| anonymous_of(*pid)).sum()
}

fn anonymous_of(pid: i32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().strip_suffix("kB"))
        .and_then(|kb| kb.trim().parse().ok())
        .map_or(0, |kb: usize| kb * 1024)
}

fn connect(addr: SocketAddr, from: u8) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    // Ports of one source address are not enough for everybody.
    socket.bind(&SocketAddr::from(([127, 0, 0, from], 0)).into()).expect("a local address");
    socket.connect(&addr.into()).expect("the server accepts");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    socket
}

/// One request on each connection, answered, then silence.
fn occupy(sockets: &[Socket]) {
    for socket in sockets {
        socket.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("the request leaves");
    }
    for socket in sockets {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 1024];
        let n = socket.recv(&mut buffer).expect("the answer comes");
        assert!(n > 100);
    }
}

#[test]
fn ten_thousand_idle_connections() {
    let count = usize::try_from(
        rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1024),
    )
    .unwrap_or(1024)
    .saturating_sub(200)
    .min(10_000);
    let conf = configuration("keepalive_timeout 600s; location / { return 200 ok; }");
    let conf = format!("events {{ worker_connections 20000; }} {conf}");
    let server = builder().start(&conf);
    // The first ones pay for what is allocated once.
    let warm: Vec<_> = (0..200).map(|_| connect(server.addr(), 2)).collect();
    occupy(&warm);
    let before = anonymous(server.pid());
    let sockets: Vec<_> =
        (0..count).map(|n| connect(server.addr(), 3 + u8::try_from(n / 5000).unwrap_or(0))).collect();
    occupy(&sockets);
    std::thread::sleep(Duration::from_millis(300));
    let after = anonymous(server.pid());
    let each = after.saturating_sub(before) / count;
    eprintln!("{count} idle connections: {each} bytes each");
    // A buffer that an idle connection keeps would be many times that.
    assert!(each < 2048, "{each} bytes for an idle connection");
    occupy(&sockets);
    drop(sockets);
    server.get("/").expect_status(200);
}
