//! `ngx.req.get_headers`, `ngx.req.get_uri_args`: tables of what the client sent, made without the FFI. lua-resty-core on
//! `package.path` puts its own in their place.
//! <https://github.com/openresty/lua-nginx-module#ngxreqget_headers>

use super::request;
use crate::escape;
use moonrest_luajit::{Call, LuaError, LuaResult, Native, Nil, Ref, Return, Stack, Table, Text, Value};
use moonrest_proto::http1::Known;

/// Upstream's default number of fields and of arguments.
const DEFAULT_MAX: usize = 100;

pub(super) fn install(stack: &Stack<'_>, req: Table<'_>) -> LuaResult<()> {
    let meta = stack.table(0, 1)?;
    let index = stack.native(Native::new(any_case))?;
    meta.raw_set(stack, "__index", index)?;
    let mut names = Vec::with_capacity(Known::COUNT);
    names.push(stack.keep_text(b"")?);
    for known in Known::ALL {
        names.push(stack.keep_text(known.name().as_bytes())?);
    }
    let fields = Fields { meta: stack.keep(meta)?, names };
    req.set(
        stack,
        "get_headers",
        stack.function_with(fields, |call, fields: &Fields| get_headers(call, fields))?,
    )?;
    req.set(stack, "get_uri_args", stack.function(get_uri_args)?)
}

/// What `get_headers` needs in Lua.
struct Fields {
    /// The metatable of what it gives.
    meta: Ref,
    /// The names in lower case, by `Known as usize`.
    names: Vec<Text>,
}

/// A name that was not found as it stands: `headers.User_Agent` finds "user-agent".
fn any_case(call: &mut Call<'_>) -> LuaResult<Return> {
    let (headers, name): (Table<'_>, &[u8]) = (call.arg(1)?, call.arg(2)?);
    let has_underscore = name.contains(&b'_');
    if !has_underscore && !name.iter().any(u8::is_ascii_uppercase) {
        return call.ret(Nil);
    }
    let mut lowered = smallvec::SmallVec::<[u8; 48]>::from_slice(name);
    lowered.make_ascii_lowercase();
    let mut value = headers.raw_get(call, &lowered[..])?;
    if has_underscore && matches!(value, Value::Nil) {
        lowered.iter_mut().filter(|byte| **byte == b'_').for_each(|byte| *byte = b'-');
        value = headers.raw_get(call, &lowered[..])?;
    }
    call.ret(value)
}

/// How many are wanted; 0 means all.
fn limit(call: &Call<'_>) -> LuaResult<usize> {
    match call.value(1) {
        Value::Nil => Ok(DEFAULT_MAX),
        Value::Number(max) if max < 0.0 => Ok(DEFAULT_MAX),
        Value::Number(max) => Ok(max as usize),
        _ => call.arg::<f64>(1).map(|max| max as usize),
    }
}

/// Which names have been met, as far as a few bits tell.
#[derive(Default)]
struct Met(u64);

impl Met {
    /// Whether the name cannot have been met before.
    fn is_fresh(&mut self, name: &[u8]) -> bool {
        let first = name.first().map_or(0, |byte| byte.to_ascii_lowercase());
        let bit = 1 << ((name.len() * 5 + usize::from(first)) % 64);
        let fresh = self.0 & bit == 0;
        self.0 |= bit;
        fresh
    }
}

/// `ngx.req.get_headers(max?, raw?) -> headers, err`
fn get_headers(call: &mut Call<'_>, fields: &Fields) -> LuaResult<Return> {
    let max = limit(call)?;
    let raw = call.value(2).is_true();
    let (headers, cut) = request(call, |r, _| {
        let (head, block) = (r.head.borrow(), r.block.borrow());
        let count = head.fields.iter().count();
        let cut = max > 0 && count > max;
        let count = if cut { max } else { count };
        let headers = call.table(0, count)?;
        let mut met = Met::default();
        for field in head.fields.iter().take(count) {
            let (name, value) = (field.name.of(&block), field.value.of(&block));
            if raw {
                headers.raw_collect(call, name, value, met.is_fresh(name))?;
            } else if let Some(name) = fields.names.get(field.known as usize)
                && field.known != Known::Other
                && !head.fields.is_repeated(field.known)
            {
                headers.raw_set(call, name, value)?;
            } else {
                let fresh = met.is_fresh(name);
                let mut lowered = smallvec::SmallVec::<[u8; 48]>::from_slice(name);
                lowered.make_ascii_lowercase();
                headers.raw_collect(call, &lowered, value, fresh)?;
            }
        }
        Ok((headers, cut))
    })?;
    if !raw && let Value::Table(meta) = call.put(&fields.meta)? {
        headers.set_metatable(call, Some(meta))?;
    }
    if cut { call.ret((headers, "truncated")) } else { call.ret(headers) }
}

/// `ngx.req.get_uri_args(max?, table?) -> args, err`
fn get_uri_args(call: &mut Call<'_>) -> LuaResult<Return> {
    let max = limit(call)?;
    let given = match call.value(2) {
        Value::Nil => None,
        Value::Table(table) => Some(table),
        other => return Err(LuaError::argument(2, format!("table expected, got {}", other.type_name()))),
    };
    if let Some(given) = given {
        given.clear(call)?;
    }
    let (args, cut) = request(call, |r, _| {
        let query = r.args.borrow();
        let count = if query.is_empty() { 0 } else { memchr::memchr_iter(b'&', &query).count() + 1 };
        let cut = max > 0 && count > max;
        let args = match given {
            Some(given) => given,
            None => call.table(0, if cut { max } else { count })?,
        };
        if count == 0 {
            return Ok((args, cut));
        }
        let mut copy = smallvec::SmallVec::<[u8; 256]>::from_slice(&query);
        let mut met = Met::default();
        let mut made = 0;
        for pair in copy.split_mut(|byte| *byte == b'&') {
            if cut && made == max {
                break;
            }
            made += usize::from(put(call, args, pair, &mut met)?);
        }
        Ok((args, cut))
    })?;
    if cut { call.ret((args, "truncated")) } else { call.ret((args, Nil)) }
}

/// Adds a pair `name=value`, decoded; false for an empty name, which is none.
fn put(call: &Call<'_>, args: Table<'_>, pair: &mut [u8], met: &mut Met) -> LuaResult<bool> {
    let at = memchr::memchr(b'=', pair);
    let (name, value) = match at {
        Some(at) => {
            let (name, value) = pair.split_at_mut(at);
            (name, value.get_mut(1..))
        }
        None => (pair, None),
    };
    let len = escape::unescape_in_place(name);
    let name = name.get(..len).unwrap_or_default();
    if name.is_empty() {
        return Ok(false);
    }
    let fresh = met.is_fresh(name);
    match value {
        Some(value) => {
            let len = escape::unescape_in_place(value);
            args.raw_collect(call, name, value.get(..len).unwrap_or_default(), fresh)?;
        }
        None => args.raw_collect(call, name, true, fresh)?,
    }
    Ok(true)
}
