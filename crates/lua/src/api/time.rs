//! `ngx.sleep` and the clock.
//! <https://github.com/openresty/lua-nginx-module#ngxsleep>

use super::define;
use crate::scheduler::{self, Operation, Values};
use moonrest_luajit::{Call, LuaError, LuaResult, Return, Stack, Table};
use moonrest_proto::date;
use moonrest_sys::time;

pub(super) fn install(stack: &mut Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    define(
        stack,
        ngx,
        &[
            ("sleep", sleep),
            ("time", |call| call.ret(time::wall().secs as f64)),
            ("now", now),
            ("update_time", |call| call.ret(())),
            ("http_time", http_time),
            ("parse_http_time", parse_http_time),
        ],
    )
}

/// `ngx.sleep(seconds)`; with 0 everything else that is ready runs first.
fn sleep(call: &mut Call<'_>) -> LuaResult<Return> {
    if call.args_len() != 1 {
        let given = call.args_len();
        return Err(LuaError::new(format!("attempt to pass {given} arguments, but accepted 1")));
    }
    let seconds: f64 = call.arg(1)?;
    let ms = seconds * 1000.0;
    if ms.is_nan() || ms < 0.0 {
        return Err(LuaError::new(format!("invalid sleep duration \"{}\"", ms as i64)));
    }
    let ms = ms.min(1e12) as u64;
    if ms == 0 {
        return call.suspend(Operation::Wait(Box::pin(scheduler::give_way())), ());
    }
    let wait = async move {
        moonrest_net::sleep::sleep(ms).await;
        Values::default()
    };
    call.suspend(Operation::Wait(Box::pin(wait)), ())
}

fn now(call: &mut Call<'_>) -> LuaResult<Return> {
    let now = time::wall();
    call.ret(now.secs as f64 + f64::from(now.millis()) / 1000.0)
}

fn http_time(call: &mut Call<'_>) -> LuaResult<Return> {
    let seconds: f64 = call.arg(1)?;
    call.ret(&date::http(seconds as i64))
}

fn parse_http_time(call: &mut Call<'_>) -> LuaResult<Return> {
    let text: &[u8] = call.arg(1)?;
    match date::parse_http(text) {
        Some(seconds) => call.ret(seconds as f64),
        None => call.ret(moonrest_luajit::Nil),
    }
}
