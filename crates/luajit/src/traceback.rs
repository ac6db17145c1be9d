//! Where Lua code is: positions, call stacks, and the messages for bad arguments.
use std::ffi::{CStr, c_char, c_int};
use std::fmt::Write;
use std::mem::MaybeUninit;

use crate::ffi::{self, lua_Debug, lua_State};
use crate::table::Origin;

/// Frames shown per coroutine, as upstream does; `\n\t...` stands for the rest.
const DEPTH: c_int = 22;
/// Coroutines shown, as upstream does.
const COROUTINES: usize = 5;

/// # Safety
/// A live state in Rust's turn. The strings inside are good until the state changes.
unsafe fn frame(l: *mut lua_State, level: c_int, what: &CStr) -> Option<lua_Debug> {
    let mut debug = MaybeUninit::<lua_Debug>::zeroed();
    // SAFETY: both fill the struct, in which zeroes are valid; neither of the letters used pushes anything.
    unsafe {
        if ffi::lua_getstack(l, level, debug.as_mut_ptr()) == 0 {
            return None;
        }
        ffi::lua_getinfo(l, what.as_ptr(), debug.as_mut_ptr());
        Some(debug.assume_init())
    }
}

/// # Safety
/// Null, or a C string that is not changed meanwhile.
unsafe fn text<'a>(string: *const c_char) -> &'a [u8] {
    if string.is_null() {
        return b"";
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(string) }.to_bytes()
}

/// The call stack from `level` on: `\n\tframe` per frame.
///
/// # Safety
/// A live state in Rust's turn.
pub(crate) unsafe fn frames(l: *mut lua_State, level: c_int) -> String {
    let mut out = String::new();
    for depth in 0.. {
        // SAFETY: the caller's promise; the strings are used before the next call.
        unsafe {
            let Some(debug) = frame(l, level.saturating_add(depth), c"Snl") else { break };
            if depth == DEPTH {
                out.push_str("\n\t...");
                break;
            }
            let source = String::from_utf8_lossy(text(debug.short_src.as_ptr()));
            let _ = write!(out, "\n\t{source}:");
            if debug.currentline > 0 {
                let _ = write!(out, "{}:", debug.currentline);
            }
            let _ = match (text(debug.namewhat), text(debug.what)) {
                ([], b"main") => write!(out, " in main chunk"),
                ([], b"C" | b"tail") => write!(out, " ?"),
                ([], _) => write!(out, " in function <{source}:{}>", debug.linedefined),
                (_, _) => write!(out, " in function '{}'", String::from_utf8_lossy(text(debug.name))),
            };
        }
    }
    out
}

/// Where the function at `index` was defined.
///
/// # Safety
/// A live state in Rust's turn, with a function at `index` and a spare slot.
pub(crate) unsafe fn origin(l: *mut lua_State, index: c_int) -> Origin {
    let mut debug = MaybeUninit::<lua_Debug>::zeroed();
    // SAFETY: the function is put on top, from where it is taken; it fills the struct, in which zeroes are valid.
    unsafe {
        ffi::lua_pushvalue(l, index);
        ffi::lua_getinfo(l, c">S".as_ptr(), debug.as_mut_ptr());
        let debug = debug.assume_init();
        Origin {
            source: String::from_utf8_lossy(text(debug.source)).into_owned(),
            line: debug.linedefined,
            is_c: text(debug.what) == b"C",
        }
    }
}

/// Where a function stood when it called another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The chunk as tracebacks show it.
    pub source: String,
    /// The present line; of a C function -1.
    pub line: i32,
    /// What the function was called by, if it is a Lua function and that is known.
    pub function: Option<String>,
}

/// The place of the function at `level`.
///
/// # Safety
/// A live state in Rust's turn.
pub(crate) unsafe fn place(l: *mut lua_State, level: c_int) -> Option<Place> {
    // SAFETY: the caller's promise; the strings are copied at once.
    unsafe {
        let debug = frame(l, level, c"Snl")?;
        let named = !text(debug.namewhat).is_empty() && text(debug.what).starts_with(b"L");
        Some(Place {
            source: String::from_utf8_lossy(text(debug.short_src.as_ptr())).into_owned(),
            line: if debug.currentline > 0 { debug.currentline } else { debug.linedefined },
            function: named.then(|| String::from_utf8_lossy(text(debug.name)).into_owned()),
        })
    }
}

/// `chunk:line: ` of the function at `level`; empty for a C function.
///
/// # Safety
/// A live state in Rust's turn.
pub(crate) unsafe fn position(l: *mut lua_State, level: c_int) -> Vec<u8> {
    // SAFETY: the caller's promise.
    unsafe {
        match frame(l, level, c"Sl") {
            Some(debug) if debug.currentline > 0 => {
                let mut out = text(debug.short_src.as_ptr()).to_vec();
                out.extend_from_slice(format!(":{}: ", debug.currentline).as_bytes());
                out
            }
            _ => Vec::new(),
        }
    }
}

/// The message for a bad argument of the running C function, as LuaJIT words it.
///
/// # Safety
/// A live state in Rust's turn.
pub(crate) unsafe fn bad_argument(l: *mut lua_State, n: u32, problem: &[u8]) -> Vec<u8> {
    // SAFETY: the caller's promise.
    let (name, is_method) = unsafe {
        match frame(l, 0, c"n") {
            Some(debug) if !debug.name.is_null() => {
                (text(debug.name).to_vec(), text(debug.namewhat) == b"method")
            }
            _ => (b"?".to_vec(), false),
        }
    };
    let (name, problem) = (String::from_utf8_lossy(&name), String::from_utf8_lossy(problem));
    match n {
        1 if is_method => format!("calling '{name}' on bad self ({problem})"),
        _ => format!("bad argument #{} to '{name}' ({problem})", n - u32::from(is_method && n > 1)),
    }
    .into_bytes()
}

/// Upstream's layout of the call stacks of a coroutine and those that resumed it, innermost first:
/// `stack traceback:\ncoroutine 0:\n\tframe…\ncoroutine 1:…`.
pub fn format_coroutines<S: AsRef<str>>(stacks: impl IntoIterator<Item = S>) -> String {
    let mut out = String::from("stack traceback:");
    for (number, stack) in stacks.into_iter().take(COROUTINES).enumerate() {
        let _ = write!(out, "\ncoroutine {number}:{}", stack.as_ref());
    }
    out
}
