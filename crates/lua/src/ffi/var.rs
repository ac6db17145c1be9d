//! `ngx.var`.
//! <https://github.com/openresty/lua-nginx-module#ngxvarvariable>

use super::{
    BAD_CONTEXT, DECLINED, ERROR, NO_REQ_CTX, OK, Token, buffer, fail, fail_into, lend, with_request,
};
use moonrest_core::{Subject, var::Getter};
use moonrest_http::Request;
use moonrest_luajit::{ffi_entry, raw};
use std::ffi::{c_char, c_int};

const DISABLED: &[u8] = b"API disabled in the current context";

ffi_entry! {
    /// A variable by name, or a capture by number (`name` is NULL then). `lowered` has room for the name.
    fn ngx_http_lua_ffi_var_get(
        r: Token, name: *const u8, size: usize, lowered: *mut u8, capture: c_int,
        value: *mut *const u8, value_size: *mut usize, err: *mut *const c_char,
    ) -> c_int, on_panic = -1 {
        let answer = |r: &Request, value_of: &dyn Fn(&Request, &mut Vec<u8>) -> bool| {
            let mut found = false;
            lend(|out| found = value_of(r, out), |bytes| {
                // SAFETY: Lua passes places for a pointer and a length. The bytes stay until the next call.
                unsafe {
                    raw::store(value, bytes.as_ptr());
                    raw::store(value_size, bytes.len());
                }
            });
            if found { OK } else { DECLINED }
        };
        let code = if name.is_null() {
            let Some(n) = usize::try_from(capture).ok().filter(|n| *n > 0) else { return DECLINED };
            with_request(r, |r, _| answer(r, &|r, out| r.capture(n, out)))
        } else {
            // SAFETY: Lua passes a string, and a buffer of its length.
            let Some(name) = (unsafe { lower(name, size, lowered) }) else { return DECLINED };
            with_request(r, |r, _| answer(r, &|r, out| r.vars().append_by_name(r, name, out)))
        };
        match code {
            NO_REQ_CTX => fail(err, c"no request object found"),
            BAD_CONTEXT => fail(err, c"API disabled in the current context"),
            code => code,
        }
    }

    /// Assigns a variable; NULL takes its value away.
    fn ngx_http_lua_ffi_var_set(
        r: Token, name: *const u8, size: usize, lowered: *mut u8, value: *const u8, value_size: usize,
        err: *mut u8, err_size: *mut usize,
    ) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes strings, and a buffer of the name's length.
        let (name, value) = unsafe {
            (lower(name, size, lowered), (!value.is_null()).then(|| raw::bytes(value, value_size)))
        };
        let mut problem = Vec::new();
        let code = with_request(r, |r, _| match assign(r, name.unwrap_or_default(), value) {
            Ok(()) => OK,
            Err(message) => {
                problem = message.into_bytes();
                ERROR
            }
        });
        match code {
            OK => OK,
            NO_REQ_CTX => fail_into(err, err_size, b"no request object found"),
            BAD_CONTEXT => fail_into(err, err_size, DISABLED),
            _ => fail_into(err, err_size, &problem),
        }
    }
}

/// The name in lower case, written into Lua's buffer.
///
/// # Safety
/// `name` may be read and `lowered` be written for `size` bytes, by nobody else while the answer is used.
unsafe fn lower<'a>(name: *const u8, size: usize, lowered: *mut u8) -> Option<&'a str> {
    // SAFETY: the caller's promise.
    let place = unsafe {
        raw::fill(lowered, size, raw::bytes(name, size));
        buffer(lowered, size)
    };
    place.make_ascii_lowercase();
    std::str::from_utf8(place).ok()
}

fn assign(r: &Request, name: &str, value: Option<&[u8]>) -> Result<(), String> {
    let vars = r.vars();
    let known = vars.find(name).and_then(|id| Some((id, vars.variable(id)?)));
    // Members of a family (`$arg_…`) are no variables of their own unless they were assigned in the configuration.
    let assignable =
        known.filter(|(_, variable)| variable.changeable || !matches!(variable.get, Getter::Prefix(..)));
    let Some((id, variable)) = assignable else {
        return Err(format!(
            "variable \"{name}\" not found for writing; maybe it is a built-in variable that is not changeable or you \
             forgot to use \"set ${name} '';\" in the config file to define it first"
        ));
    };
    if !variable.changeable {
        return Err(format!("variable \"{name}\" not changeable"));
    }
    let computed = matches!(variable.get, Getter::Fn(_) | Getter::Prefix(..)) && !variable.cacheable;
    if computed && variable.set.is_none() {
        return Err(format!("variable \"{name}\" cannot be assigned a value"));
    }
    vars.assign(r, id, value);
    Ok(())
}
