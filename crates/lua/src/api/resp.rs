//! `ngx.resp.get_headers`.
//! <https://github.com/openresty/lua-nginx-module#ngxrespget_headers>

use super::{request, subtable};
use crate::response_fields;
use moonrest_luajit::{Call, LuaResult, Ref, Return, Stack, Table, Value};

/// Upstream's default number of fields.
const DEFAULT_MAX: usize = 100;

/// `headers.Content_Type` finds "content-type".
const ANY_CASE: &[u8] = b"local t, key = ...
local name = string.gsub(string.lower(key), '_', '-')
if name ~= key then return t[name] end";

pub(super) fn install(stack: &Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    let resp = subtable(stack, ngx, "resp")?;
    let index = stack.load(ANY_CASE, "=headers metatable", moonrest_luajit::Form::Text)?;
    let meta = stack.table(0, 1)?;
    meta.raw_set(stack, "__index", index)?;
    let meta = stack.keep(meta)?;
    let get = stack.function_with(meta, |call, meta: &Ref| get_headers(call, meta))?;
    resp.set(stack, "get_headers", get)
}

/// `ngx.resp.get_headers(max?, raw?) -> headers, err`
fn get_headers(call: &mut Call<'_>, meta: &Ref) -> LuaResult<Return> {
    let (max, raw): (Option<f64>, Option<bool>) = call.args()?;
    let (max, raw) = (max.map_or(DEFAULT_MAX, |max| max as usize), raw == Some(true));
    let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    request(call, |r, _| {
        response_fields::for_each(r, |name, value| {
            let name = if raw { name.to_vec() } else { name.to_ascii_lowercase() };
            fields.push((name, value.to_vec()));
        });
        Ok(())
    })?;
    let cut = max > 0 && fields.len() > max;
    if cut {
        fields.truncate(max);
    }
    let headers = call.table(0, fields.len())?;
    for (name, value) in &fields {
        headers.raw_collect(call, name, value.as_slice(), false)?;
    }
    if !raw && let Value::Table(meta) = call.put(meta)? {
        headers.set_metatable(call, Some(meta))?;
    }
    if cut { call.ret((headers, "truncated")) } else { call.ret(headers) }
}
