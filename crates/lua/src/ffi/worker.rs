//! `ngx.worker`, `ngx.process`.
//! <https://github.com/openresty/lua-nginx-module#ngxworkerpid>

use super::{DECLINED, ERROR, OK};
use crate::{
    host::{Host, LuaPhase},
    timers,
};
use moonrest_http::worker::{Process, Worker};
use moonrest_luajit::{ffi_entry, raw};
use moonrest_sys::process;
use std::{
    cell::{Cell, RefCell},
    ffi::{c_char, c_int, c_uint},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// What is known of the worker that runs on this thread.
struct Facts {
    id: usize,
    siblings: usize,
    single: bool,
    wants_agent: Rc<Cell<bool>>,
    quitting: Arc<AtomicBool>,
    process: Arc<Process>,
}

impl Facts {
    /// The thread's number. Where there is but one worker, it is its process's: `$pid` is the same then.
    fn pid(&self) -> i32 {
        if self.siblings == 1 && !self.is_agent() { process::pid() } else { process::tid() }
    }

    /// It has no sockets and is there for what its program does by itself.
    fn is_agent(&self) -> bool {
        self.id >= self.siblings
    }
}

thread_local! {
    static FACTS: RefCell<Option<Facts>> = const { RefCell::new(None) };
}

/// This thread runs a worker.
pub(crate) fn start(worker: &Worker) {
    if worker.id < worker.siblings.get() {
        worker.process.threads.lock().push(process::tid());
    }
    FACTS.set(Some(Facts {
        id: worker.id,
        siblings: worker.siblings.get(),
        single: worker.single.get(),
        wants_agent: worker.wants_agent.clone(),
        quitting: worker.quitting.clone(),
        process: worker.process.clone(),
    }));
}

/// It does so no more.
pub(crate) fn stop() {
    if let Some(facts) = FACTS.take() {
        facts.process.threads.lock().retain(|thread| *thread != process::tid());
    }
}

fn fact<R>(none: R, read: impl FnOnce(&Facts) -> R) -> R {
    FACTS.with_borrow(|facts| match facts {
        Some(facts) => read(facts),
        None => none,
    })
}

fn number(n: usize) -> c_int {
    c_int::try_from(n).unwrap_or(c_int::MAX)
}

ffi_entry! {
    /// Its number among its like, from 0.
    fn ngx_http_lua_ffi_worker_id() -> c_int, on_panic = -1 {
        let init = raw::any_host(|host: &Host| host.phase == LuaPhase::Init) == Some(true);
        fact(-1, |facts| match facts.single {
            false if init || facts.is_agent() => -1,
            _ => number(facts.id),
        })
    }

    /// What tells it apart from others of this machine.
    fn ngx_http_lua_ffi_worker_pid() -> c_int, on_panic = -1 {
        fact(process::pid(), Facts::pid)
    }

    /// Those of all workers, in at most `size` places; `size` takes their number.
    fn ngx_http_lua_ffi_worker_pids(places: *mut c_int, size: *mut usize) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes a place that holds the number of places.
        let room = if size.is_null() { 0 } else { unsafe { size.read_unaligned() } };
        let pids = fact(vec![process::pid()], |facts| match facts.siblings {
            1 => vec![process::pid()],
            _ => facts.process.threads.lock().clone(),
        });
        for (n, pid) in pids.iter().take(room).enumerate() {
            // SAFETY: Lua passes that many places.
            unsafe { raw::store(places.wrapping_add(n), *pid) };
        }
        // SAFETY: as above.
        unsafe { raw::store(size, pids.len().min(room)) };
        OK
    }

    /// How many workers there are.
    fn ngx_http_lua_ffi_worker_count() -> c_int, on_panic = -1 {
        fact(1, |facts| number(facts.siblings))
    }

    /// Whether it drains.
    fn ngx_http_lua_ffi_worker_exiting() -> c_int, on_panic = 0 {
        fact(0, |facts| c_int::from(facts.quitting.load(Relaxed)))
    }

    /// The master's process; our own where there is none.
    fn ngx_http_lua_ffi_master_pid() -> c_int, on_panic = -1 {
        fact(ERROR, |facts| if facts.single { process::pid() } else { process::parent_pid() })
    }

    /// nginx's number of the kind of process: single, master (`init_by_lua*` thinks it runs there), agent, worker.
    fn ngx_http_lua_ffi_get_process_type() -> c_int, on_panic = -1 {
        let init = raw::any_host(|host: &Host| host.phase == LuaPhase::Init) == Some(true);
        fact(0, |facts| match (facts.single, init) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) if facts.is_agent() => 99,
            (false, false) => 3,
        })
    }

    /// Has a worker without sockets started beside the others; it has no more rights than they.
    fn ngx_http_lua_ffi_enable_privileged_agent(_err: *mut *const c_char, _connections: c_uint) -> c_int,
        on_panic = -1
    {
        fact((), |facts| facts.wants_agent.set(true));
        OK
    }

    /// Has this worker end when its work is done. Unless it runs a script, another takes its place.
    fn ngx_http_lua_ffi_process_signal_graceful_exit() -> c_int, on_panic = -1 {
        match timers::present() {
            Some(timers) => {
                timers.worker().leave();
                OK
            }
            None => DECLINED,
        }
    }
}
