//! `ngx.sleep`.
//! <https://github.com/openresty/lua-nginx-module#ngxsleep>

use super::define;
use crate::scheduler::{Operation, Values};
use moonrest_luajit::{Call, LuaError, LuaResult, Return, Stack, Table};

pub(super) fn install(stack: &mut Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    define(stack, ngx, &[("sleep", sleep)])
}

fn sleep(call: &mut Call<'_>) -> LuaResult<Return> {
    let seconds: f64 = call.arg(1)?;
    if seconds.is_nan() || seconds < 0.0 {
        return Err(LuaError::new(format!("invalid sleep duration \"{seconds}\"")));
    }
    let ms = (seconds * 1000.0).min(1e12) as u64;
    let wait = async move {
        moonrest_net::sleep::sleep(ms).await;
        Values::default()
    };
    call.suspend(Operation::Wait(Box::pin(wait)), ())
}
