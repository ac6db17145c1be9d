//! Panics are bugs: they are logged and counted, and cost the connection or the thread they happen in.

use moonrest_core::{Log, log::Level};
use std::{
    panic::{self, PanicHookInfo},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

static LOG: Mutex<Option<Arc<Log>>> = Mutex::new(None);
/// How many there were in this process.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Logs panics here from now on.
pub(crate) fn log_to(log: Arc<Log>) {
    *LOG.lock().unwrap_or_else(PoisonError::into_inner) = Some(log);
}

/// Takes the place of the standard hook, which writes to standard error.
pub(crate) fn install() {
    panic::set_hook(Box::new(report));
}

fn report(info: &PanicHookInfo<'_>) {
    let number = COUNT.fetch_add(1, Relaxed) + 1;
    let text = info
        .payload()
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| info.payload().downcast_ref::<String>().cloned())
        .unwrap_or_default();
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let log = log.unwrap_or_else(|| Arc::new(Log::stderr(Level::Alert)));
    log.write(Level::Alert, None, format_args!("panic number {number} at {place}: {text}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use moonrest_core::log::{MemoryLog, Sink, Target};
    use moonrest_rt::{block_on, spawn_joined};

    #[test]
    fn a_panic_costs_its_own_task_and_is_logged() {
        let memory = Arc::new(MemoryLog::new(10_000));
        log_to(Arc::new(Log::new(vec![Target { level: Level::Alert, sink: Sink::Memory(memory.clone()) }])));
        let before = panic::take_hook();
        install();
        let (broken, whole) = block_on(async {
            let broken = spawn_joined(async { panic!("one of {}", 3) });
            let whole = spawn_joined(async { 7 });
            let broken: Result<(), _> = broken.await;
            (broken.is_err(), whole.await.unwrap())
        });
        panic::set_hook(before);
        assert!(broken && whole == 7);
        let lines = String::from_utf8(memory.contents()).unwrap();
        assert!(
            lines.contains("[alert] ") && lines.contains("panics.rs:") && lines.contains(": one of 3"),
            "{lines}"
        );
    }
}
