//! `ngx.thread`: light threads, coroutines that the scheduler runs side by side.
//! <https://github.com/openresty/lua-nginx-module#ngxthreadspawn>

use super::{define_native, subtable};
use crate::{
    host::Host,
    scheduler::{Doing, Operation, Parent, Spawned, Thread as LightThread, Threads},
};
use moonrest_luajit::{Call, Function, LuaError, LuaResult, Native, Nil, Return, Stack, Table, Thread};

pub(super) fn install(stack: &mut Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    let thread = subtable(stack, ngx, "thread")?;
    define_native(
        stack,
        thread,
        &[("spawn", Native::new(spawn)), ("wait", Native::new(wait)), ("kill", Native::new(kill))],
    )
}

/// `ngx.thread.spawn(f, ...)`: runs `f(...)` until it waits, then goes on here.
fn spawn(call: &mut Call<'_>) -> LuaResult<Return> {
    if call.arg::<Function<'_>>(1).is_err() {
        return Err(LuaError::argument(1, "Lua function expected"));
    }
    let Some((thread, own)) = call.host(|host: &Host| host.running.get()) else { return Err(no_handler()) };
    let coroutine = call.new_coroutine()?;
    coroutine.push_from(call, 1, call.args_len())?;
    let value = call.keep(&coroutine)?;
    let Some(caller) = call.current_thread()? else { return Err(no_handler()) };
    let id = caller.id(call);
    let user = if id == own { None } else { Some(call.coroutine(caller)?) };
    let parent = Parent { coroutine: id, user, thread };
    call.suspend(Operation::Spawn(Box::new(Spawned { coroutine, value, parent })), ())
}

fn no_handler() -> LuaError {
    LuaError::new("no request found")
}

/// What a thread given to `wait` or `kill` is.
enum Found {
    /// Not a light thread of this handler.
    Other,
    /// It is gone.
    Over,
    NotParent,
    Zombie,
    Alive {
        subrequests: bool,
    },
}

fn find(call: &Call<'_>, thread: Thread<'_>, caller: usize) -> LuaResult<Found> {
    let id = thread.id(call);
    let found = threads(call, |threads| {
        let thread = threads.light(id)?;
        if thread.parent.as_ref().is_some_and(|parent| parent.coroutine != caller) {
            return Some(Found::NotParent);
        }
        Some(match &thread.doing {
            Doing::Zombie | Doing::Over => Found::Zombie,
            Doing::Waits { subrequests, .. } => Found::Alive { subrequests: *subrequests },
            Doing::Polls(_) | Doing::GivesWay(_) => Found::Alive { subrequests: false },
            Doing::Runs | Doing::Joins(_) => Found::Alive { subrequests: false },
        })
    });
    Ok(match found.flatten() {
        Some(found) => found,
        None if call.coroutine(thread)?.is_over() => Found::Over,
        None => Found::Other,
    })
}

fn threads<R>(call: &Call<'_>, work: impl FnOnce(&mut Threads) -> R) -> Option<R> {
    call.host(|host: &Host| host.threads.borrow_mut().as_mut().map(|threads| work(threads))).flatten()
}

fn remove(call: &Call<'_>, id: usize) -> Option<LightThread> {
    threads(call, |threads| threads.remove(id)).flatten()
}

/// The number of the coroutine that calls.
fn caller(call: &Call<'_>) -> LuaResult<usize> {
    call.current_thread()?.map(|thread| thread.id(call)).ok_or_else(no_handler)
}

fn thread_argument<'c>(call: &Call<'c>, n: u32) -> LuaResult<Thread<'c>> {
    call.arg(n).map_err(|_| LuaError::argument(n, "lua thread expected"))
}

/// `ngx.thread.wait(thread, ...) -> ok, results...`: the first that ends.
fn wait(call: &mut Call<'_>) -> LuaResult<Return> {
    let count = u32::try_from(call.args_len()).unwrap_or(u32::MAX);
    if count == 0 {
        return Err(LuaError::new("at least one coroutine should be specified"));
    }
    let me = caller(call)?;
    let mut children = Vec::new();
    for n in 1..=count {
        let thread = thread_argument(call, n)?;
        match find(call, thread, me)? {
            Found::Other => {
                return Err(LuaError::new("attempt to wait on a coroutine that is not a user thread"));
            }
            Found::NotParent => {
                return Err(LuaError::new("only the parent coroutine can wait on the thread"));
            }
            Found::Zombie => {
                let child = remove(call, thread.id(call)).and_then(|thread| thread.coroutine);
                let first = call.len() + 1;
                if let Some(child) = child {
                    call.push_results(&child)?;
                    child.end()?;
                }
                return Ok(call.ret_from(first));
            }
            Found::Over => {}
            Found::Alive { .. } => children.push(thread.id(call)),
        }
    }
    if children.is_empty() {
        return call.ret((Nil, "already waited or killed"));
    }
    call.suspend(Operation::Join(children), ())
}

/// `ngx.thread.kill(thread) -> ok, err`: what it waits for is given up.
fn kill(call: &mut Call<'_>) -> LuaResult<Return> {
    let thread = thread_argument(call, 1)?;
    let refusal = match find(call, thread, caller(call)?)? {
        Found::Other => "not user thread",
        Found::NotParent => "killer not parent",
        Found::Over => "already waited or killed",
        Found::Alive { subrequests: true } => "pending subrequests",
        found => {
            let killed = remove(call, thread.id(call));
            if let Some(coroutine) = killed.as_ref().and_then(|thread| thread.coroutine.as_ref()) {
                coroutine.end()?;
            }
            if matches!(found, Found::Alive { .. }) {
                return call.ret(1);
            }
            "already terminated"
        }
    };
    call.ret((Nil, refusal))
}
