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
