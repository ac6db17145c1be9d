//! Notices a worker whose event loop does not turn: an endless loop, a call that blocks.
//!
//! The loop counts when it goes to sleep and when it wakes, which costs it two stores. A count that says "awake" and
//! has not changed for a while is a suspicion only, because a busy loop may not sleep for long: the worker is asked, and
//! one that does not answer is stuck.

use moonrest_core::{Log, log::Level};
use moonrest_rt::Options;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// A loop that stands still for so long is reported.
const STUCK: Duration = Duration::from_secs(2);
/// After this time without a turn the worker is asked.
const SUSPICIOUS: Duration = Duration::from_millis(900);

/// What a worker shows of its event loop.
#[derive(Default)]
pub(crate) struct Pulse {
    /// Odd while the loop is awake.
    turns: Arc<AtomicU64>,
    asked: Notify,
    answered: AtomicBool,
    thread: AtomicI32,
}

impl Pulse {
    /// Has the event loop of this thread, that is about to be made, count its turns.
    pub(crate) fn attach(&self, options: &mut Options) {
        self.thread.store(moonrest_sys::process::tid(), Relaxed);
        options.turns = Some(self.turns.clone());
    }

    /// Answers for ever; to be spawned in the worker.
    pub(crate) async fn answer(self: Arc<Self>) {
        loop {
            self.asked.notified().await;
            self.answered.store(true, Relaxed);
        }
    }
}

/// The watch over one worker.
pub(crate) struct Watch {
    pulse: Arc<Pulse>,
    seen: u64,
    since: Instant,
    asked: bool,
    reported: bool,
}

impl Watch {
    pub(crate) fn new(pulse: Arc<Pulse>) -> Self {
        Self { pulse, seen: 0, since: Instant::now(), asked: false, reported: false }
    }

    /// Looks at the worker; to be called about once a second.
    pub(crate) fn look(&mut self, worker: usize, log: &Log, now: Instant) {
        let turns = self.pulse.turns.load(Relaxed);
        let asleep = turns.is_multiple_of(2);
        let answered = self.asked && self.pulse.answered.load(Relaxed);
        let still = now.duration_since(self.since);
        let thread = self.pulse.thread.load(Relaxed);
        if asleep || turns != self.seen || answered {
            if self.reported {
                let text = format_args!("worker {worker} (thread {thread}) responds again after {still:.1?}");
                log.write(Level::Notice, None, text);
            }
            (self.seen, self.since, self.asked, self.reported) = (turns, now, false, false);
            return;
        }
        if !self.asked && still >= SUSPICIOUS {
            self.pulse.answered.store(false, Relaxed);
            self.pulse.asked.notify_one();
            self.asked = true;
        } else if self.asked && !self.reported && still >= STUCK {
            self.reported = true;
            log.write(
                Level::Alert,
                None,
                format_args!(
                    "worker {worker} (thread {thread}) has not responded for {still:.1?}: a handler blocks it"
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moonrest_core::log::{MemoryLog, Sink, Target};
    use moonrest_net::sleep::sleep;
    use moonrest_rt::Runtime;

    fn log() -> (Log, Arc<MemoryLog>) {
        let memory = Arc::new(MemoryLog::new(10_000));
        let target = Target { level: Level::Notice, sink: Sink::Memory(memory.clone()) };
        (Log::new(vec![target]), memory)
    }

    fn watched(work: impl Future<Output = ()> + Send + 'static) -> String {
        let pulse = Arc::<Pulse>::default();
        let (log, memory) = log();
        let worker = std::thread::spawn({
            let pulse = pulse.clone();
            move || {
                let mut options = Options::default();
                pulse.attach(&mut options);
                Runtime::new(&options).unwrap().block_on(async {
                    moonrest_rt::spawn(pulse.answer());
                    sleep(10).await;
                    work.await;
                });
            }
        });
        let mut watch = Watch::new(pulse);
        for _ in 0..40 {
            std::thread::sleep(Duration::from_millis(100));
            watch.look(0, &log, Instant::now());
        }
        worker.join().unwrap();
        String::from_utf8(memory.contents()).unwrap()
    }

    #[test]
    fn a_loop_that_blocks_is_reported_once_and_its_return_too() {
        let lines = watched(async {
            std::thread::sleep(Duration::from_millis(2800));
            sleep(500).await;
        });
        assert_eq!(lines.matches("has not responded").count(), 1, "{lines}");
        assert_eq!(lines.matches("responds again").count(), 1, "{lines}");
    }

    #[test]
    fn a_busy_loop_and_a_sleeping_one_are_fine() {
        assert_eq!(watched(async { sleep(3_000).await }), "");
        let busy = async {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(3200) {
                std::thread::sleep(Duration::from_millis(1));
                moonrest_rt::yield_now().await;
            }
        };
        assert_eq!(watched(busy), "");
    }
}
