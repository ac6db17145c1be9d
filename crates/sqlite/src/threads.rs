//! The threads that do the work: few, started when they are needed, shared by all workers of the process.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

/// What is to be done.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// A disk serves few at a time, and a lock one.
const MAX_THREADS: usize = 4;

static QUEUE: Mutex<Queue> = Mutex::new(Queue { jobs: VecDeque::new(), threads: 0, idle: 0 });
static MORE: Condvar = Condvar::new();

struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

fn queue() -> MutexGuard<'static, Queue> {
    // Jobs run without the lock; what is in the queue is whole at all times.
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has a job done, in the order in which they come. Without threads, which the system may refuse, it is done here.
pub(crate) fn run(job: Job) {
    let mut queue = queue();
    if queue.idle <= queue.jobs.len() && queue.threads < MAX_THREADS {
        let started = thread::Builder::new().name("sqlite".to_owned()).spawn(work);
        if started.is_ok() {
            queue.threads += 1;
        } else if queue.threads == 0 {
            drop(queue);
            return job();
        }
    }
    queue.jobs.push_back(job);
    drop(queue);
    MORE.notify_one();
}

fn work() {
    let mut queue = queue();
    loop {
        if let Some(job) = queue.jobs.pop_front() {
            drop(queue);
            // Its answer is lost, which whoever waits for it sees.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            queue = self::queue();
            continue;
        }
        queue.idle += 1;
        queue = MORE.wait(queue).unwrap_or_else(PoisonError::into_inner);
        queue.idle -= 1;
    }
}
