//! Panics while Lua code is on the stack: reported without a backtrace.
//!
//! LuaJIT registers unwind information for compiled code that serves its own errors only; a walk over such a frame
//! ends in `abort()` inside the unwinder. A panic itself is caught before it gets there, but the backtrace that
//! `RUST_BACKTRACE=1` asks for is not. So the first VM puts a panic hook in front of the one it finds.
use std::io::Write;
use std::panic::{PanicHookInfo, set_hook, take_hook};
use std::sync::Once;

static INSTALLED: Once = Once::new();

/// Whether this thread runs Lua code, so that nothing may walk its stack (`Backtrace::capture` and the like). A panic
/// hook that is set after the first VM was made asks this before it takes a backtrace.
pub fn is_running_lua() -> bool {
    crate::interrupt::is_running()
}

/// Puts our hook in front of the present one, once per process.
pub(crate) fn install() {
    INSTALLED.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |info| if is_running_lua() { report(info) } else { previous(info) }));
    });
}

fn report(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "thread '{name}', which runs Lua code, {info}");
}
