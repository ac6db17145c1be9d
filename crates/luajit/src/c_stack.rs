//! How much C stack is left.
//!
//! LuaJIT bounds its own stack (65,500 slots) but not the C stack. Plain Lua recursion uses none of it; what does are
//! library functions that call back: `table.sort`, `string.gsub` (8 KiB a level), `tostring` through `__tostring`,
//! `require`, nested coroutines, and Rust functions that call Lua. Those that can use much of it are guarded (see
//! `guards`): they raise "C stack overflow" when less than `RESERVE` is left. The others need less than `RESERVE`
//! before the limit of Lua's own stack stops them.
use std::cell::Cell;
use std::mem::MaybeUninit;

/// A stack size for threads that run Lua, which leaves recursion room enough. Only touched pages cost memory.
pub const THREAD_STACK_SIZE: usize = 16 * 1024 * 1024;

/// What an unguarded recursion may need at most: 65,500 slots at 8 slots and 400 bytes of C stack a level.
const RESERVE: usize = 3584 * 1024;

thread_local! {
    static LOWEST: Cell<usize> = const { Cell::new(0) };
}

/// About the current top of the C stack.
#[inline]
pub(crate) fn here() -> usize {
    let marker = 0u8;
    (&raw const marker).addr()
}

/// The address below which no new call into Lua begins on this thread. A thread smaller than twice the reserve keeps
/// half of its stack: less is guarded, but it still runs.
pub(crate) fn floor() -> usize {
    let lowest = LOWEST.get();
    let lowest = if lowest == 0 { lowest_address() } else { lowest };
    LOWEST.set(lowest);
    lowest + RESERVE.min(here().saturating_sub(lowest) / 2)
}

/// The end of this thread's stack; for the main thread, as far as its limit lets it grow.
fn lowest_address() -> usize {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut base = std::ptr::null_mut();
    let mut size = 0;
    // SAFETY: the attributes are initialised by the first call when it succeeds, and destroyed after use.
    let found = unsafe {
        libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) == 0 && {
            let found = libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut base, &raw mut size) == 0;
            libc::pthread_attr_destroy(attributes.as_mut_ptr());
            found
        }
    };
    if found { base.addr() } else { here().saturating_sub(1024 * 1024) }
}
