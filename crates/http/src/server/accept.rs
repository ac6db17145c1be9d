//! Accepting connections, and the PROXY protocol in front of the first request.

use super::{h1::H1, serve::Serve};
use crate::{
    exchange::Connection,
    worker::{Worker, bump},
};
use moonrest_core::Level;
use moonrest_net::{addr::Addr, io::Io, listen::Listener, tls::Stream};
use std::{
    cell::{Cell, OnceCell},
    io,
    rc::Rc,
    sync::atomic::Ordering::Relaxed,
};

/// Accepts until the worker drains. `listener` is the socket's number in the generation.
pub async fn run(worker: Rc<Worker>, socket: Listener, listener: usize) {
    let inherited = prepare(&worker, &socket, listener);
    if let Err(error) = socket.resume() {
        refused(&worker, &socket, &error).await;
    }
    loop {
        if worker.is_quitting() {
            return;
        }
        if worker.connections.get() >= worker.max_connections {
            // Meanwhile new connections wait in the socket.
            if worker.make_room() {
                rest(&socket, 1).await;
            } else {
                worker.note_crowd();
                rest(&socket, 100).await;
            }
            continue;
        }
        let accepted = tokio::select! {
            biased;
            () = worker.stopping() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((io, remote)) => start(&worker, io, remote, listener, inherited),
            Err(error) => refused(&worker, &socket, &error).await,
        }
    }
}

/// Sets options on the listening socket that its connections inherit, which saves a call for each of them. `false` when
/// they differ between the servers at this socket.
fn prepare(worker: &Worker, socket: &Listener, listener: usize) -> bool {
    let Some(listening) = worker.http.listeners.get(listener) else { return false };
    let mut wanted = listening.addr_confs().map(|conf| {
        let server = worker.http.server(conf.default_server);
        worker.http.location(server.location).core.tcp_nodelay
    });
    let Some(first) = wanted.next() else { return false };
    wanted.all(|other| other == first) && moonrest_sys::socket::set_nodelay(socket, first).is_ok()
}

/// Accepts nothing for so many milliseconds.
async fn rest(socket: &Listener, ms: u64) {
    // Connections that wait would wake the event loop again and again. An error here is one of memory.
    let paused = socket.pause();
    moonrest_net::sleep::sleep(ms).await;
    let _ = paused.and_then(|()| socket.resume());
}

async fn refused(worker: &Worker, socket: &Listener, error: &io::Error) {
    let text = moonrest_core::env::os_error(error);
    // Out of descriptors: nothing gets better by trying at once.
    let exhausted = matches!(error.raw_os_error(), Some(libc_code::EMFILE | libc_code::ENFILE));
    let level = if exhausted { Level::Crit } else { Level::Error };
    worker.log.write(level, None, format_args!("accept4() failed ({text})"));
    if exhausted {
        rest(socket, 500).await;
    }
}

mod libc_code {
    pub(super) const ENFILE: i32 = 23;
    pub(super) const EMFILE: i32 = 24;
}

fn start(worker: &Rc<Worker>, io: Io, remote: Addr, listener: usize, inherited: bool) {
    let Some(listening) = worker.http.listeners.get(listener) else { return };
    let local = if listening.by_local_address() { io.local_addr().ok() } else { None };
    let addr_conf = listening.addr_conf(local.as_ref().and_then(Addr::ip)).clone();
    let conn = Rc::new(Connection {
        number: worker.process.connections.fetch_add(1, Relaxed) + 1,
        remote,
        local: local.map(Box::new).map_or_else(OnceCell::new, OnceCell::from),
        listener: u32::try_from(listener).unwrap_or(u32::MAX),
        started: moonrest_sys::time::monotonic_ms(),
        requests: Cell::new(0),
        proxy_protocol: OnceCell::new(),
        server: Cell::new(addr_conf.default_server),
        tls: OnceCell::new(),
        handshake: OnceCell::new(),
        socket: Cell::new(Some(io.raw_fd())),
    });
    let server = worker.http.server(addr_conf.default_server);
    if !inherited && worker.http.location(server.location).core.tcp_nodelay && matches!(io, Io::Tcp(_)) {
        let _ = io.with_fd(|fd| moonrest_sys::socket::set_nodelay(fd, true));
    }
    bump(&worker.counters.accepted, 1);
    bump(&worker.counters.handled, 1);
    bump(&worker.counters.active, 1);
    worker.connections.set(worker.connections.get() + 1);
    let (proxied, secured) = (addr_conf.proxy_protocol, addr_conf.ssl);
    let io = if secured { Io::Tls(Box::new(Stream::plain(io))) } else { io };
    let h1 = H1::new(io, worker.clone(), conn, addr_conf);
    let end = End(worker.clone());
    moonrest_rt::spawn(Serve::new(h1, proxied, secured, end));
}

/// Counts a connection out, however it ends.
pub(super) struct End(Rc<Worker>);

impl Drop for End {
    fn drop(&mut self) {
        bump(&self.0.counters.active, -1);
        self.0.connections.set(self.0.connections.get() - 1);
        if self.0.is_quitting() && self.0.connections.get() == 0 {
            self.0.drained.notify_waiters();
        }
    }
}
