//! `ngx.run_worker_thread`.
//! <https://github.com/openresty/lua-nginx-module#ngxrun_worker_thread>

use super::{define, no_request};
use crate::{
    host::{Host, LuaPhase},
    scheduler::{Item, Operation, Values},
    worker_threads::{self, Answer, Plain},
};
use moonrest_luajit::{Call, LuaResult, Return, Stack, Table};

pub(super) fn install(stack: &mut Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    define(stack, ngx, &[("run_worker_thread", run_worker_thread)])
}

/// `ngx.run_worker_thread(pool, module, function, ...) -> ok, results or error`.
fn run_worker_thread(call: &mut Call<'_>) -> LuaResult<Return> {
    let vm = call.host(|host: &Host| host.vm().filter(|_| host.phase != LuaPhase::Init)).flatten();
    let (Some(vm), Some(threads)) = (vm, worker_threads::present()) else { return Err(no_request(call)) };
    if call.args_len() < 3 {
        return call.ret((false, "expecting at least 3 arguments"));
    }
    let mut names = Vec::with_capacity(3);
    for (n, problem) in [
        (1, "threadpool should be a string"),
        (2, "module name should be a string"),
        (3, "function name should be a string"),
    ] {
        let Ok(name) = call.arg::<&[u8]>(n) else { return call.ret((false, problem)) };
        if n == 1 && !threads.has_pool(&String::from_utf8_lossy(name)) {
            return call.ret((false, [b"thread pool ", name, b" not found"].concat()));
        }
        names.push(name.to_vec());
    }
    let (function, module) = (names.pop().unwrap_or_default(), names.pop().unwrap_or_default());
    let mut args = Vec::new();
    for n in 4..=call.args_len() {
        let value = call.value(n);
        match Plain::copy(call, value) {
            Ok(copy) => args.push(copy),
            Err(problem) => return call.ret((false, format!("{problem} in the argument"))),
        }
    }
    let Some(answer) = threads.run(&vm, module, function, args) else {
        return call.ret((false, "no available Lua vm"));
    };
    let wait = async move {
        match answer.await {
            Ok(answer) => values(answer),
            Err(_) => values(Err(b"the thread has ended".to_vec())),
        }
    };
    call.suspend(Operation::Wait(Box::pin(wait)), ())
}

fn values(answer: Answer) -> Values {
    match answer {
        Ok(results) => Values::made(move |stack| {
            stack.push(true)?;
            results.iter().try_for_each(|result| result.push(stack))
        }),
        Err(problem) => Values(vec![Item::Bool(false), Item::Text(problem)]),
    }
}
