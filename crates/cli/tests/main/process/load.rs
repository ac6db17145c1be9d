//! Clients that never stop asking, and count what they did not get.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// A few threads, each making one connection after another.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// Starts to ask.
    pub(crate) fn start(addr: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let threads = (0..4).map(|_| {
            let (stop, answered) = (stop.clone(), answered.clone());
            thread::spawn(move || {
                let mut failures = Vec::new();
                while !stop.load(Relaxed) {
                    match ask(addr) {
                        Ok(()) => drop(answered.fetch_add(1, Relaxed)),
                        Err(error) => failures.push(error),
                    }
                }
                failures
            })
        });
        let threads = threads.collect();
        Self { stop, answered, threads }
    }

    /// How many requests have been answered.
    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Relaxed)
    }

    /// Waits until so many more have been answered.
    pub(crate) fn wait_for(&self, more: usize) {
        let goal = self.answered() + more;
        for _ in 0..4000 {
            if self.answered() >= goal {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("nothing is answered any more");
    }

    /// Stops, and says what failed.
    pub(crate) fn finish(self) -> Vec<String> {
        self.stop.store(true, Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

/// A new connection, one request, the whole answer.
fn ask(addr: SocketAddr) -> Result<(), String> {
    let mut stream = TcpStream::connect(addr).map_err(|error| format!("connect: {error}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(|error| error.to_string())?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .map_err(|error| format!("write: {error}"))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|error| format!("read: {error}"))?;
    if answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(b"!") {
        Ok(())
    } else {
        Err(format!("answer: {:?}", String::from_utf8_lossy(&answer)))
    }
}
