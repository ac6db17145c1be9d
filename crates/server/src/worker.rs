//! A worker: one thread with its event loop, its share of the sockets, and one generation for life.

use crate::{
    listeners::Share,
    serving::Shared,
    watchdog::{Pulse, Watch},
};
use moonrest_core::{env::os_error, log::Level};
use moonrest_http::{
    server::accept,
    worker::{Process, Worker},
};
use moonrest_net::listen::Listener;
use moonrest_rt::{Options, Runtime};
use moonrest_sys::{cpu, listen::ListenAddr};
use std::{
    io,
    rc::Rc,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};
use tokio::sync::watch;

/// What the serving process tells a worker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Command {
    /// Wait until all workers are ready.
    Prepare,
    Serve,
    /// Accept no more, and end when the last connection has.
    Quit,
    /// End now.
    Stop,
}

/// What a worker tells the serving process.
#[derive(Debug)]
pub(crate) enum News {
    /// It could serve. `agent`: its program wants a worker without sockets beside it and its like.
    Ready { agent: bool },
    /// It cannot: the reason.
    Failed(String),
    /// It ends because its own program wants that.
    Leaves,
    /// Its thread is over.
    Ended { panicked: bool },
}

/// A message of a worker: generation, worker, news.
pub(crate) type Event = (u64, usize, News);

/// Where workers put their messages; wakes the serving process.
#[derive(Clone)]
pub(crate) struct Events {
    pub sender: mpsc::Sender<Event>,
    pub wake: Arc<io::PipeWriter>,
}

impl Events {
    fn send(&self, event: Event) {
        use std::io::Write as _;
        // The receiver lives as long as the process.
        let _ = self.sender.send(event);
        let _ = (&*self.wake).write(&[1]);
    }
}

/// A running worker, seen from the serving process.
pub(crate) struct Handle {
    pub command: watch::Sender<Command>,
    pub thread: thread::JoinHandle<()>,
    pub watch: Watch,
    /// It has said that it leaves.
    pub leaves: bool,
}

/// What a worker is made of.
pub(crate) struct Job {
    pub generation: u64,
    pub id: usize,
    pub shared: Arc<Shared>,
    pub process: Arc<Process>,
    pub shares: Vec<Share>,
    pub events: Events,
}

impl Job {
    fn tell(&self, news: News) {
        self.events.send((self.generation, self.id, news));
    }
}

/// Room for Lua code that recurses; only touched pages cost memory.
const STACK: usize = 16 << 20;

/// Starts a worker.
///
/// # Errors
/// Those of starting a thread.
pub(crate) fn start(job: Job) -> io::Result<Handle> {
    let (command, commands) = watch::channel(Command::Prepare);
    let pulse = Arc::<Pulse>::default();
    let watch = Watch::new(pulse.clone());
    let name = format!("worker {}", job.id);
    let thread = thread::Builder::new().name(name).stack_size(STACK).spawn(move || {
        let mut end = End { event: Some((job.generation, job.id)), events: job.events.clone() };
        let (generation, id, events) = (job.generation, job.id, job.events.clone());
        if let Err(text) = run(job, commands, &pulse) {
            events.send((generation, id, News::Failed(text)));
        }
        end.finished();
    })?;
    Ok(Handle { command, thread, watch, leaves: false })
}

/// Tells of the thread's end, also when it unwinds.
struct End {
    event: Option<(u64, usize)>,
    events: Events,
}

impl End {
    fn finished(&mut self) {
        if let Some((generation, id)) = self.event.take() {
            self.events.send((generation, id, News::Ended { panicked: false }));
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some((generation, id)) = self.event.take() {
            self.events.send((generation, id, News::Ended { panicked: true }));
        }
    }
}

fn run(mut job: Job, commands: watch::Receiver<Command>, pulse: &Arc<Pulse>) -> Result<(), String> {
    let shared = job.shared.clone();
    let settings = &shared.settings;
    if let Some(cpus) = settings.cpus_of(job.id)
        && let Err(error) = cpu::bind_thread(cpus)
    {
        let text = os_error(&error);
        shared.log.write(Level::Alert, None, format_args!("sched_setaffinity() failed ({text})"));
    }
    let mut options = Options {
        events: settings.epoll_events(),
        blocking_threads: settings.blocking_threads(),
        ..Options::default()
    };
    pulse.attach(&mut options);
    let runtime =
        Runtime::new(&options).map_err(|error| format!("epoll_create() failed ({})", os_error(&error)))?;
    runtime.block_on(async {
        moonrest_rt::spawn(pulse.clone().answer());
        let Some(http) = &shared.http else {
            job.tell(News::Ready { agent: false });
            idle(commands).await;
            return Ok(());
        };
        let (log, process) = (shared.log.clone(), job.process.clone());
        let worker = Worker::new(job.id, http.clone(), log, process, settings.worker_connections());
        worker.siblings.set(settings.workers());
        worker.single.set(!settings.master_process());
        let shares = std::mem::take(&mut job.shares);
        serve(&worker, &shared, shares, commands, |news| job.tell(news)).await
    })
    // The runtime is dropped here and with it what is left of connections.
}

/// Without `http` there is nothing to do but to be there.
async fn idle(mut commands: watch::Receiver<Command>) {
    let _ = commands.wait_for(|command| *command >= Command::Quit).await;
}

/// How long a worker that has nothing else to do waits for what a module does at its end, in milliseconds.
const LAST_PATIENCE: u64 = 10_000;

async fn serve(
    worker: &Rc<Worker>,
    shared: &Shared,
    shares: Vec<Share>,
    mut commands: watch::Receiver<Command>,
    tell: impl Fn(News),
) -> Result<(), String> {
    let http = &worker.http;
    let settings = &shared.settings;
    let sockets = shares.iter().map(|(listener, fd)| {
        let unix = matches!(http.listeners[*listener].spec.addr, ListenAddr::Unix(_));
        fd.try_clone()
            .and_then(|fd| Listener::new(fd, unix, settings.multi_accept()))
            .map(|socket| (*listener, socket))
    });
    let sockets = sockets
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("a listening socket cannot be watched ({})", os_error(&error)))?;
    // A socket is closed when nobody accepts from it any more.
    drop(shares);
    for (module, main) in http.registry.iter().zip(&http.mains) {
        module.start_worker(main, worker)?;
    }
    tell(News::Ready { agent: worker.wants_agent.get() && !worker.single.get() });
    // An error means that the serving process has gone.
    let order = commands.wait_for(|command| *command > Command::Prepare).await.map(|command| *command);
    if matches!(order, Ok(Command::Serve)) {
        for (listener, socket) in sockets {
            moonrest_rt::spawn(accept::run(worker.clone(), socket, listener));
        }
    } else {
        drop(sockets);
    }
    let order = tokio::select! {
        order = commands.wait_for(|command| *command >= Command::Quit) => order.map(|command| *command),
        () = worker.left() => {
            tell(News::Leaves);
            Ok(Command::Quit)
        }
    };
    if matches!(order, Ok(Command::Quit)) {
        drain(worker, shared.settings.shutdown_timeout(), &mut commands).await;
    }
    worker.quit();
    for (module, main) in http.registry.iter().zip(&http.mains) {
        if let Some(wait) = module.stop_worker(main, worker) {
            tokio::select! {
                () = wait => {}
                () = moonrest_net::sleep::sleep(LAST_PATIENCE) => {}
            }
        }
    }
    Ok(())
}

/// Waits for the last connection and task, the end of patience, or the order to stop.
async fn drain(worker: &Worker, patience: Option<Duration>, commands: &mut watch::Receiver<Command>) {
    worker.quit();
    let last = async {
        while !worker.is_idle() {
            let drained = worker.drained.notified();
            drained.await;
        }
    };
    let stop = commands.wait_for(|command| *command == Command::Stop);
    let timeout = async {
        match patience {
            Some(patience) => {
                moonrest_net::sleep::sleep(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX)).await;
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = last => {}
        _ = stop => {}
        () = timeout => {}
    }
}
