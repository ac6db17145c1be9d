//! `ngx.sleep`.
//! <https://github.com/openresty/lua-nginx-module#ngxsleep>

use super::define_native;
use crate::scheduler::{self, Operation, Values};
use moonrest_luajit::{Call, LuaError, LuaResult, Native, Return, Stack, Table};

pub(super) fn install(stack: &mut Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    define_native(stack, ngx, &[("sleep", Native::new(sleep))])
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
        return scheduler::suspend(call, Operation::GiveWay);
    }
    let wait = async move {
        moonrest_net::sleep::sleep(ms).await;
        Values::default()
    };
    scheduler::suspend(call, Operation::Wait(Box::pin(wait)))
}
