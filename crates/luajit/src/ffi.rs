//! LuaJIT's C interface: the functions and constants of `lua.h`, `lauxlib.h` and `luajit.h` that this crate calls.
//!
//! What may raise a Lua error says so: such a function is called only where an error can leave, that is inside a
//! protected call, or while the heap grants every allocation and out of memory was the only reason (see `heap`).
#![allow(non_camel_case_types)]

use std::ffi::{c_char, c_int, c_void};
use std::marker::{PhantomData, PhantomPinned};

/// A Lua thread of execution; only ever behind a pointer.
#[repr(C)]
pub struct lua_State {
    _data: [u8; 0],
    _marker: PhantomData<(*mut u8, PhantomPinned)>,
}

pub(crate) type CFunction = unsafe extern "C-unwind" fn(*mut lua_State) -> c_int;
pub(crate) type Alloc = unsafe extern "C" fn(*mut c_void, *mut c_void, usize, usize) -> *mut c_void;
pub(crate) type Writer =
    unsafe extern "C-unwind" fn(*mut lua_State, *const c_void, usize, *mut c_void) -> c_int;
pub(crate) type Hook = unsafe extern "C-unwind" fn(*mut lua_State, *mut lua_Debug);

pub(crate) const REGISTRY: c_int = -10000;
pub(crate) const GLOBALS: c_int = -10002;
pub(crate) const MULTRET: c_int = -1;

pub(crate) const OK: c_int = 0;
pub(crate) const YIELD: c_int = 1;
pub(crate) const ERRSYNTAX: c_int = 3;
pub(crate) const ERRMEM: c_int = 4;

pub(crate) const TNONE: c_int = -1;
pub(crate) const TNIL: c_int = 0;
pub(crate) const TBOOLEAN: c_int = 1;
pub(crate) const TLIGHTUSERDATA: c_int = 2;
pub(crate) const TNUMBER: c_int = 3;
pub(crate) const TSTRING: c_int = 4;
pub(crate) const TTABLE: c_int = 5;
pub(crate) const TFUNCTION: c_int = 6;
pub(crate) const TUSERDATA: c_int = 7;
pub(crate) const TTHREAD: c_int = 8;
pub(crate) const TCDATA: c_int = 10;

pub(crate) const GCCOLLECT: c_int = 2;
pub(crate) const GCRESTART: c_int = 1;
pub(crate) const GCSTEP: c_int = 5;
pub(crate) const GCSETPAUSE: c_int = 6;
pub(crate) const GCSETSTEPMUL: c_int = 7;

pub(crate) const MASKCOUNT: c_int = 1 << 3;

#[repr(C)]
pub(crate) struct lua_Debug {
    pub(crate) event: c_int,
    pub(crate) name: *const c_char,
    pub(crate) namewhat: *const c_char,
    pub(crate) what: *const c_char,
    pub(crate) source: *const c_char,
    pub(crate) currentline: c_int,
    pub(crate) nups: c_int,
    pub(crate) linedefined: c_int,
    pub(crate) lastlinedefined: c_int,
    pub(crate) short_src: [c_char; 60],
    i_ci: c_int,
}

// Never raising, given valid indices and room on the stack.
unsafe extern "C-unwind" {
    pub(crate) fn lua_newstate(allocate: Alloc, ud: *mut c_void) -> *mut lua_State;
    pub(crate) fn lua_close(l: *mut lua_State);
    pub(crate) fn lua_insert(l: *mut lua_State, index: c_int);
    pub(crate) fn lua_remove(l: *mut lua_State, index: c_int);
    pub(crate) fn lua_replace(l: *mut lua_State, index: c_int);
    pub(crate) fn lua_checkstack(l: *mut lua_State, size: c_int) -> c_int;
    pub(crate) fn lua_xmove(from: *mut lua_State, to: *mut lua_State, n: c_int);
    pub(crate) fn lua_tocfunction(l: *mut lua_State, index: c_int) -> Option<CFunction>;
    pub(crate) fn lua_tothread(l: *mut lua_State, index: c_int) -> *mut lua_State;
    pub(crate) fn lua_topointer(l: *mut lua_State, index: c_int) -> *const c_void;
    pub(crate) fn lua_pushthread(l: *mut lua_State) -> c_int;
    pub(crate) fn lua_rawget(l: *mut lua_State, index: c_int);
    pub(crate) fn lua_getmetatable(l: *mut lua_State, index: c_int) -> c_int;
    pub(crate) fn lua_setmetatable(l: *mut lua_State, index: c_int) -> c_int;
    pub(crate) fn lua_getfenv(l: *mut lua_State, index: c_int);
    pub(crate) fn lua_setfenv(l: *mut lua_State, index: c_int) -> c_int;
    pub(crate) fn lua_isyieldable(l: *mut lua_State) -> c_int;
    pub(crate) fn lua_gc(l: *mut lua_State, what: c_int, data: c_int) -> c_int;
    pub(crate) fn lua_sethook(l: *mut lua_State, hook: Option<Hook>, mask: c_int, count: c_int) -> c_int;
    pub(crate) fn lua_getstack(l: *mut lua_State, level: c_int, ar: *mut lua_Debug) -> c_int;
    pub(crate) fn lua_getinfo(l: *mut lua_State, what: *const c_char, ar: *mut lua_Debug) -> c_int;
    // These run Lua code, but catch its errors.
    pub(crate) fn lua_pcall(l: *mut lua_State, nargs: c_int, nresults: c_int, handler: c_int) -> c_int;
    pub(crate) fn lua_resume(l: *mut lua_State, nargs: c_int) -> c_int;
    pub(crate) fn lua_dump(l: *mut lua_State, writer: Writer, data: *mut c_void) -> c_int;
    pub(crate) fn luaL_loadbufferx(
        l: *mut lua_State,
        data: *const c_char,
        size: usize,
        name: *const c_char,
        mode: *const c_char,
    ) -> c_int;
    pub(crate) fn luaJIT_setmode(l: *mut lua_State, index: c_int, mode: c_int) -> c_int;
}

// Raising "not enough memory" and nothing else.
unsafe extern "C-unwind" {
    pub(crate) fn lua_pushlstring(l: *mut lua_State, data: *const c_char, size: usize);
    pub(crate) fn lua_pushcclosure(l: *mut lua_State, function: CFunction, upvalues: c_int);
    pub(crate) fn lua_createtable(l: *mut lua_State, array: c_int, records: c_int);
    pub(crate) fn lua_newuserdata(l: *mut lua_State, size: usize) -> *mut c_void;
    pub(crate) fn lua_newthread(l: *mut lua_State) -> *mut lua_State;
    pub(crate) fn lua_rawseti(l: *mut lua_State, index: c_int, n: c_int);
    pub(crate) fn luaL_ref(l: *mut lua_State, table: c_int) -> c_int;
    pub(crate) fn luaL_unref(l: *mut lua_State, table: c_int, reference: c_int);
    /// Also raises for a key that is nil or NaN.
    pub(crate) fn lua_rawset(l: *mut lua_State, index: c_int);
    /// Also raises for addresses in more than 255 blocks of 4 GiB.
    pub(crate) fn lua_pushlightuserdata(l: *mut lua_State, pointer: *mut c_void);
}

// Raising anything: only below a protected call.
unsafe extern "C-unwind" {
    pub(crate) fn lua_error(l: *mut lua_State) -> c_int;
    pub(crate) fn lua_yield(l: *mut lua_State, nresults: c_int) -> c_int;
    pub(crate) fn lua_gettable(l: *mut lua_State, index: c_int);
    pub(crate) fn lua_settable(l: *mut lua_State, index: c_int);
    pub(crate) fn lua_next(l: *mut lua_State, index: c_int) -> c_int;
    pub(crate) fn luaL_openlibs(l: *mut lua_State);
    pub(crate) fn luaL_callmeta(l: *mut lua_State, index: c_int, name: *const c_char) -> c_int;
}

pub(crate) use crate::direct::{
    allocator_data, append_list, free_slots, full_userdata, globals, is_plain_table, lua_gettop,
    lua_isnumber, lua_objlen, lua_pushboolean, lua_pushnil, lua_pushnumber, lua_pushvalue, lua_rawgeti,
    lua_settop, lua_status, lua_toboolean, lua_tolstring, lua_tonumber, lua_touserdata, lua_type,
    push_userdata, raw_element, string_at, upvalue_userdata,
};

/// The library's own, where `direct` does not know the answer. Never raising but as said.
pub(crate) mod slow {
    use super::{c_char, c_int, c_void, lua_State};

    unsafe extern "C-unwind" {
        #[cfg(test)]
        pub(crate) fn lua_gettop(l: *mut lua_State) -> c_int;
        pub(crate) fn lua_settop(l: *mut lua_State, index: c_int);
        pub(crate) fn lua_pushvalue(l: *mut lua_State, index: c_int);
        pub(crate) fn lua_type(l: *mut lua_State, index: c_int) -> c_int;
        pub(crate) fn lua_tonumber(l: *mut lua_State, index: c_int) -> f64;
        pub(crate) fn lua_isnumber(l: *mut lua_State, index: c_int) -> c_int;
        #[cfg(test)]
        pub(crate) fn lua_toboolean(l: *mut lua_State, index: c_int) -> c_int;
        pub(crate) fn lua_objlen(l: *mut lua_State, index: c_int) -> usize;
        pub(crate) fn lua_touserdata(l: *mut lua_State, index: c_int) -> *mut c_void;
        pub(crate) fn lua_pushnil(l: *mut lua_State);
        pub(crate) fn lua_pushnumber(l: *mut lua_State, n: f64);
        pub(crate) fn lua_pushboolean(l: *mut lua_State, b: c_int);
        pub(crate) fn lua_rawgeti(l: *mut lua_State, index: c_int, n: c_int);
        /// Converts a number in place.
        pub(crate) fn lua_tolstring(l: *mut lua_State, index: c_int, size: *mut usize) -> *const c_char;
    }
}

/// Takes `n` values from the top.
pub(crate) unsafe fn pop(l: *mut lua_State, n: c_int) {
    // SAFETY: as the caller promises for `lua_settop`.
    unsafe { lua_settop(l, -n - 1) }
}
