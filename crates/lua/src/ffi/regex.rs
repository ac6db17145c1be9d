//! `ngx.re`: regular expressions of PCRE2, compiled and matched for Lua.
//! <https://github.com/openresty/lua-nginx-module#ngxrematch>

use super::{ERROR, OK, WideStr, fail_into};
use crate::{host::Host, regex::Template};
use moonrest_core::Level;
use moonrest_luajit::{ffi_entry, raw};
use pcre2_sys::{
    PCRE2_CONFIG_VERSION, PCRE2_ERROR_NOMEMORY, PCRE2_INFO_ALLOPTIONS, PCRE2_INFO_CAPTURECOUNT,
    PCRE2_INFO_NAMECOUNT, PCRE2_INFO_NAMEENTRYSIZE, PCRE2_INFO_NAMETABLE, PCRE2_JIT_COMPLETE,
    PCRE2_NO_UTF_CHECK, PCRE2_UTF, pcre2_code_8, pcre2_code_free_8, pcre2_compile_8, pcre2_config_8,
    pcre2_dfa_match_8, pcre2_get_error_message_8, pcre2_get_ovector_pointer_8, pcre2_jit_compile_8,
    pcre2_jit_match_8, pcre2_jit_stack_8, pcre2_jit_stack_assign_8, pcre2_jit_stack_create_8,
    pcre2_jit_stack_free_8, pcre2_match_8, pcre2_match_context_8, pcre2_match_context_create_8,
    pcre2_match_context_free_8, pcre2_match_data_8, pcre2_match_data_create_8, pcre2_match_data_free_8,
    pcre2_pattern_info_8, pcre2_set_match_limit_8,
};
use std::{
    cell::{Cell, RefCell},
    ffi::{CString, c_char, c_int, c_void},
    ptr,
};

const DFA: c_int = 1 << 1;
const JIT: c_int = 1 << 2;
const NO_UTF8_CHECK: c_int = 1 << 4;

/// Numbers that a DFA match may use.
const WORKSPACE: usize = 100;
/// The least that a JIT stack has.
const MIN_STACK: usize = 32 * 1024;

/// `ngx_http_lua_regex_t`: what Lua sees of an expression.
#[repr(C)]
pub(crate) struct Regex {
    pool: *mut c_void,
    name_table: *const u8,
    name_count: c_int,
    name_entry_size: c_int,
    captures_len: c_int,
    captures: *mut c_int,
    code: *mut pcre2_code_8,
    study: *mut c_void,
    replace: *mut ComplexValue,
    pattern: *const u8,
}

/// `ngx_http_lua_complex_value_t`: what Lua sees of a replacement. `lengths` is null if it is nothing but text.
#[repr(C)]
pub(crate) struct ComplexValue {
    value: WideStr,
    lengths: *mut Template,
    values: *mut Template,
}

/// An expression, which starts with what Lua sees of it.
#[repr(C)]
struct Compiled {
    shown: Regex,
    /// How many groups `shown.captures` has room for.
    groups: usize,
    /// Compiled to machine code, and any bytes may be its subject.
    direct: bool,
}

impl Drop for Compiled {
    fn drop(&mut self) {
        self.forget_replacement();
        // SAFETY: made by `pcre2_compile` and from a box of that length, owned by us.
        unsafe {
            pcre2_code_free_8(self.shown.code);
            drop(Box::from_raw(ptr::slice_from_raw_parts_mut(self.shown.captures, self.groups * 2)));
        }
    }
}

impl Compiled {
    fn forget_replacement(&mut self) {
        let known = std::mem::replace(&mut self.shown.replace, ptr::null_mut());
        if known.is_null() {
            return;
        }
        // SAFETY: all three were boxes, made by `compile_replace_template` and owned by us.
        unsafe {
            let known = Box::from_raw(known);
            drop(Box::from_raw(ptr::slice_from_raw_parts_mut(known.value.data, known.value.len)));
            if !known.lengths.is_null() {
                drop(Box::from_raw(known.lengths));
            }
        }
    }
}

/// Evaluates replacements: the last match that it was told of.
pub(crate) struct ScriptEngine {
    subject: *const u8,
    captures: *const c_int,
    groups: usize,
}

/// What all matches of a worker share.
struct Engine {
    context: *mut pcre2_match_context_8,
    data: *mut pcre2_match_data_8,
    /// Groups that `data` has room for.
    room: usize,
    stack: *mut pcre2_jit_stack_8,
}

thread_local! {
    static ENGINE: RefCell<Engine> = RefCell::new(Engine::new());
    static CACHE_ENTRIES: Cell<u32> = const { Cell::new(1024) };
    static MATCH_LIMIT: Cell<u32> = const { Cell::new(0) };
}

/// Applies `lua_regex_cache_max_entries` and `lua_regex_match_limit` (0: PCRE2's own) to this worker.
pub(crate) fn configure(cache_entries: u32, match_limit: u32) {
    CACHE_ENTRIES.set(cache_entries);
    MATCH_LIMIT.set(match_limit);
    ENGINE.set(Engine::new());
}

impl Engine {
    fn new() -> Self {
        // SAFETY: makes a context with the default allocator; null when out of memory, which all users of it allow.
        let context = unsafe { pcre2_match_context_create_8(ptr::null_mut()) };
        let limit = MATCH_LIMIT.get();
        if limit > 0 && !context.is_null() {
            // SAFETY: the context is live.
            unsafe { pcre2_set_match_limit_8(context, limit) };
        }
        Self { context, data: ptr::null_mut(), room: 0, stack: ptr::null_mut() }
    }

    /// Memory for a match with so many groups; null when there is none.
    fn data(&mut self, groups: usize) -> *mut pcre2_match_data_8 {
        if self.data.is_null() || self.room < groups {
            // SAFETY: ours, null is allowed; nothing uses it between calls.
            unsafe {
                pcre2_match_data_free_8(self.data);
                self.data =
                    pcre2_match_data_create_8(u32::try_from(groups).unwrap_or(u32::MAX), ptr::null_mut());
            }
            self.room = groups;
        }
        self.data
    }

    fn set_stack(&mut self, size: usize) -> bool {
        // SAFETY: the old stack is ours, null is allowed, and no match runs; the new one lives as long as the context
        // that knows it.
        unsafe {
            pcre2_jit_stack_free_8(self.stack);
            self.stack = pcre2_jit_stack_create_8(MIN_STACK, size.max(MIN_STACK), ptr::null_mut());
            if !self.context.is_null() {
                pcre2_jit_stack_assign_8(self.context, None, self.stack.cast());
            }
        }
        !self.stack.is_null()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // SAFETY: all ours; null is allowed.
        unsafe {
            pcre2_match_data_free_8(self.data);
            pcre2_match_context_free_8(self.context);
            pcre2_jit_stack_free_8(self.stack);
        }
    }
}

/// The text that PCRE2 has for one of its codes.
fn describe(code: c_int) -> String {
    let mut text = [0_u8; 256];
    // SAFETY: the buffer may be written for its length.
    let len = unsafe { pcre2_get_error_message_8(code, text.as_mut_ptr(), text.len()) };
    let len = usize::try_from(len).unwrap_or(0).min(text.len());
    String::from_utf8_lossy(&text[..len]).into_owned()
}

fn compile(pattern: &[u8], flags: c_int, options: u32) -> Result<Box<Compiled>, Vec<u8>> {
    let (mut error, mut offset) = (0, 0);
    // SAFETY: the pattern is readable for its length; the two places are ours.
    let code = unsafe {
        pcre2_compile_8(
            pattern.as_ptr(),
            pattern.len(),
            options,
            &raw mut error,
            &raw mut offset,
            ptr::null_mut(),
        )
    };
    if code.is_null() {
        let mut message = format!("pcre2_compile() failed: {} in \"", describe(error)).into_bytes();
        message.extend_from_slice(pattern);
        if let Some(rest) = pattern.get(offset..).filter(|rest| !rest.is_empty()) {
            message.extend_from_slice(b"\" at \"");
            message.extend(rest.iter().take_while(|byte| **byte != 0));
        }
        message.push(b'"');
        return Err(message);
    }
    let mut direct = false;
    if flags & JIT != 0 {
        // SAFETY: the code is live. Where it cannot be compiled further, matches interpret it.
        let done = unsafe { pcre2_jit_compile_8(code, PCRE2_JIT_COMPLETE) };
        direct = done == 0 && info::<u32>(code, PCRE2_INFO_ALLOPTIONS) & PCRE2_UTF == 0;
        if done != 0 {
            let pattern = String::from_utf8_lossy(pattern);
            note(Level::Info, &format!("pcre2_jit_compile() failed: {done} in \"{pattern}\", ignored"));
        }
    }
    let groups = if flags & DFA != 0 { 0 } else { info::<u32>(code, PCRE2_INFO_CAPTURECOUNT) };
    let room = groups as usize + 1;
    let captures: Box<[c_int]> = vec![-1; room * 2].into();
    let names = info::<u32>(code, PCRE2_INFO_NAMECOUNT);
    let number = |n: u32| c_int::try_from(n).unwrap_or(0);
    let shown = Regex {
        pool: code.cast(),
        name_table: info::<*const u8>(code, PCRE2_INFO_NAMETABLE),
        name_count: number(names),
        name_entry_size: number(info::<u32>(code, PCRE2_INFO_NAMEENTRYSIZE)),
        captures_len: number(groups),
        captures: Box::into_raw(captures).cast(),
        code,
        study: ptr::null_mut(),
        replace: ptr::null_mut(),
        pattern: ptr::null(),
    };
    Ok(Box::new(Compiled { shown, groups: room, direct }))
}

/// What can be asked of an expression: types that any bytes of PCRE2's are a value of.
trait Info: Copy {
    const NOTHING: Self;
}
impl Info for u32 {
    const NOTHING: Self = 0;
}
impl Info for *const u8 {
    const NOTHING: Self = ptr::null();
}

fn info<T: Info>(code: *const pcre2_code_8, what: u32) -> T {
    let mut answer = T::NOTHING;
    // SAFETY: the code is live; each question above is asked with the type that PCRE2 answers it with.
    unsafe { pcre2_pattern_info_8(code, what, (&raw mut answer).cast()) };
    answer
}

fn note(level: Level, message: &str) {
    raw::any_host(|host: &Host| host.log_file().write(level, None, format_args!("{message}")));
}

/// Matches, and answers PCRE2's code.
fn run(engine: &mut Engine, compiled: &mut Compiled, flags: c_int, subject: &[u8], from: usize) -> c_int {
    let Compiled { shown, direct, .. } = compiled;
    let dfa = flags & DFA != 0;
    if dfa {
        shown.captures_len = 0;
    }
    let groups = usize::try_from(shown.captures_len).unwrap_or(0) + 1;
    let data = engine.data(groups);
    if data.is_null() {
        return PCRE2_ERROR_NOMEMORY;
    }
    let options = if flags & NO_UTF8_CHECK != 0 { PCRE2_NO_UTF_CHECK } else { 0 };
    let (text, len) = (subject.as_ptr(), subject.len());
    // SAFETY: code, data and context are live, the subject is readable for its length, and the workspace has the length
    // given. `direct` code is machine code, and has no opinion about UTF-8; that another subject which is not checked is
    // valid UTF-8 is what the option `U` promises.
    let code = unsafe {
        if dfa {
            let mut workspace = [0; WORKSPACE];
            let place = workspace.as_mut_ptr();
            pcre2_dfa_match_8(shown.code, text, len, from, options, data, engine.context, place, WORKSPACE)
        } else if *direct && options == 0 && from <= len {
            pcre2_jit_match_8(shown.code, text, len, from, 0, data, engine.context)
        } else {
            pcre2_match_8(shown.code, text, len, from, options, data, engine.context)
        }
    };
    if code >= 0 {
        // SAFETY: the vector has a pair for each group that `data` was made for, and `captures` one for each of the
        // expression's; `groups` is not more than either.
        unsafe {
            let pairs = std::slice::from_raw_parts(pcre2_get_ovector_pointer_8(data), groups * 2);
            let captures = std::slice::from_raw_parts_mut(shown.captures, groups * 2);
            for (capture, place) in captures.iter_mut().zip(pairs) {
                *capture = *place as c_int;
            }
        }
    }
    code
}

ffi_entry! {
    /// Matches from `from`; the groups are in the expression then. Answers PCRE2's code.
    fn ngx_http_lua_ffi_exec_regex(
        regex: *mut Regex, flags: c_int, subject: *const u8, size: usize, from: c_int
    ) -> c_int, on_panic = -1 {
        // SAFETY: Lua passes an expression that it has not destroyed, and a string.
        let (compiled, subject) = unsafe { (regex.cast::<Compiled>().as_mut(), raw::bytes(subject, size)) };
        let Some(compiled) = compiled else { return ERROR };
        ENGINE.with_borrow_mut(|engine| run(engine, compiled, flags, subject, from as usize))
    }

    /// Gives an expression its replacement.
    fn ngx_http_lua_ffi_compile_replace_template(regex: *mut Regex, text: *const u8, size: usize) -> c_int,
        on_panic = -1
    {
        // SAFETY: made by `compile_regex`; Lua passes a string.
        let (compiled, text) = unsafe { (regex.cast::<Compiled>().as_mut(), raw::bytes(text, size)) };
        let Some(compiled) = compiled else { return ERROR };
        let template = match Template::parse(text) {
            Ok(template) => template.map(Box::new),
            Err(malformed) => {
                note(Level::Error, &malformed.describe(text));
                return ERROR;
            }
        };
        let text: Box<[u8]> = text.into();
        let (len, script) = (text.len(), template.map_or(ptr::null_mut(), Box::into_raw));
        compiled.forget_replacement();
        compiled.shown.replace = Box::into_raw(Box::new(ComplexValue {
            value: WideStr { len, data: Box::into_raw(text).cast() },
            lengths: script,
            values: script,
        }));
        OK
    }

    /// How long the replacement becomes.
    fn ngx_http_lua_ffi_script_eval_len(engine: *mut ScriptEngine, value: *const ComplexValue) -> usize,
        on_panic = 0
    {
        let mut len = 0_usize;
        // SAFETY: Lua passes what it told the engine of the last match, and the expression's replacement.
        unsafe { evaluate(engine, value, |piece| len = len.saturating_add(piece.len())) };
        len
    }

    /// Writes the replacement into a buffer that is large enough, and answers its length.
    fn ngx_http_lua_ffi_script_eval_data(
        engine: *mut ScriptEngine, value: *const ComplexValue, place: *mut u8
    ) -> usize, on_panic = 0 {
        let mut at = place;
        // SAFETY: as above; the buffer has room for as many bytes as `script_eval_len` answered.
        unsafe {
            evaluate(engine, value, |piece| {
                raw::fill(at, piece.len(), piece);
                at = at.add(piece.len());
            });
        }
        at as usize - place as usize
    }

    /// `lua_regex_cache_max_entries`.
    fn ngx_http_lua_ffi_max_regex_cache_size() -> u32, on_panic = 0 {
        CACHE_ENTRIES.get()
    }

    /// How large the stack of compiled matches may become.
    fn ngx_http_lua_ffi_set_jit_stack_size(size: c_int, errors: *mut u8, room: *mut usize) -> c_int, on_panic = -1 {
        if ENGINE.with_borrow_mut(|engine| engine.set_stack(usize::try_from(size).unwrap_or(0))) {
            return OK;
        }
        fail_into(errors, room, b"pcre jit stack allocation failed")
    }
}

/// Compiles a pattern; null with a text when it is none.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ngx_http_lua_ffi_compile_regex(
    pattern: *const u8,
    size: usize,
    flags: c_int,
    options: c_int,
    errors: *mut u8,
    room: usize,
) -> *mut Regex {
    raw::guard(ptr::null_mut(), || {
        // SAFETY: Lua passes a string.
        match compile(unsafe { raw::bytes(pattern, size) }, flags, options.cast_unsigned()) {
            Ok(mut compiled) => {
                compiled.shown.pattern = pattern;
                Box::into_raw(compiled).cast()
            }
            Err(mut message) => {
                message.truncate(room.saturating_sub(1));
                message.push(0);
                // SAFETY: Lua passes a buffer of that size.
                unsafe { raw::fill(errors, room, &message) };
                ptr::null_mut()
            }
        }
    })
}

/// Frees an expression.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ngx_http_lua_ffi_destroy_regex(regex: *mut Regex) {
    raw::guard((), || {
        if !regex.is_null() {
            // SAFETY: made by `compile_regex`, and Lua passes it once.
            drop(unsafe { Box::from_raw(regex.cast::<Compiled>()) });
        }
    })
}

/// What evaluates replacements.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ngx_http_lua_ffi_create_script_engine() -> *mut ScriptEngine {
    raw::guard(ptr::null_mut(), || {
        Box::into_raw(Box::new(ScriptEngine { subject: ptr::null(), captures: ptr::null(), groups: 0 }))
    })
}

/// Tells it of a match.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ngx_http_lua_ffi_init_script_engine(
    engine: *mut ScriptEngine,
    subject: *const u8,
    regex: *mut Regex,
    count: c_int,
) {
    raw::guard((), || {
        // SAFETY: made by `create_script_engine` and `compile_regex`.
        let (engine, compiled) = unsafe { (engine.as_mut(), regex.cast::<Compiled>().as_ref()) };
        if let (Some(engine), Some(compiled)) = (engine, compiled) {
            let groups = usize::try_from(count).unwrap_or(0).min(compiled.groups);
            *engine = ScriptEngine { subject, captures: compiled.shown.captures, groups };
        }
    })
}

/// Frees it.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ngx_http_lua_ffi_destroy_script_engine(engine: *mut ScriptEngine) {
    raw::guard((), || {
        if !engine.is_null() {
            // SAFETY: made by `create_script_engine`, and Lua passes it once.
            drop(unsafe { Box::from_raw(engine) });
        }
    })
}

/// PCRE2's version.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ngx_http_lua_ffi_pcre_version() -> *const c_char {
    raw::guard(ptr::null(), || {
        thread_local! {
            static VERSION: CString = version();
        }
        VERSION.with(|version| version.as_ptr())
    })
}

fn version() -> CString {
    let mut text = [0_u8; 64];
    // SAFETY: PCRE2 writes fewer than 64 bytes.
    unsafe { pcre2_config_8(PCRE2_CONFIG_VERSION, text.as_mut_ptr().cast()) };
    CString::new(text.split(|byte| *byte == 0).next().unwrap_or_default()).unwrap_or_default()
}

/// # Safety
/// The engine is null or live, and was told of the match that its expression made last, with the subject, which is still
/// where it was; the value is null or of a live expression.
unsafe fn evaluate(engine: *const ScriptEngine, value: *const ComplexValue, see: impl FnMut(&[u8])) {
    // SAFETY: the caller's promise.
    let (engine, template) =
        unsafe { (engine.as_ref(), value.as_ref().and_then(|value| value.lengths.as_ref())) };
    let (Some(engine), Some(template)) = (engine, template) else { return };
    let group = |n: usize| {
        if n >= engine.groups {
            return &[][..];
        }
        // SAFETY: the expression has that many groups; their places lie in the subject.
        unsafe {
            let (from, to) = (*engine.captures.add(n * 2), *engine.captures.add(n * 2 + 1));
            match (usize::try_from(from), usize::try_from(to)) {
                (Ok(from), Ok(to)) if from < to => raw::bytes(engine.subject.add(from), to - from),
                _ => &[],
            }
        }
    };
    template.eval(group, see);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The groups of a match, as Lua reads them; or PCRE2's code.
    fn exec(pattern: &[u8], flags: c_int, options: u32, subject: &[u8]) -> Result<Vec<c_int>, c_int> {
        let mut errors = [0; 64];
        let regex = ngx_http_lua_ffi_compile_regex(
            pattern.as_ptr(),
            pattern.len(),
            flags,
            options.cast_signed(),
            errors.as_mut_ptr(),
            errors.len(),
        );
        assert!(!regex.is_null());
        let code = ngx_http_lua_ffi_exec_regex(regex, flags, subject.as_ptr(), subject.len(), 0);
        // SAFETY: the expression is live, and has as many places as it says.
        let places = unsafe {
            let regex = &*regex;
            std::slice::from_raw_parts(regex.captures, regex.captures_len as usize * 2 + 2).to_vec()
        };
        ngx_http_lua_ffi_destroy_regex(regex);
        if code < 0 { Err(code) } else { Ok(places) }
    }

    #[test]
    fn groups_are_places_in_the_subject() {
        for flags in [0, JIT] {
            assert_eq!(exec(b"b(x)?(c)", flags, 0, b"abc"), Ok(vec![1, 3, -1, -1, 2, 3]));
            // Fewer groups than the match before had.
            assert_eq!(exec(b"c", flags, 0, b"abc"), Ok(vec![2, 3]));
            assert_eq!(exec(b"d", flags, 0, b"abc"), Err(-1));
            assert_eq!(exec(b".", flags, pcre2_sys::PCRE2_UTF, b"\xff"), Err(-23));
        }
        assert_eq!(exec(b"(a|ab)(c|bcd)?", DFA, 0, b"abcd"), Ok(vec![0, 4]));
    }

    #[test]
    fn an_error_fits_into_its_buffer() {
        let pattern = b"(".repeat(100);
        let mut errors = [1; 40];
        let regex = ngx_http_lua_ffi_compile_regex(
            pattern.as_ptr(),
            pattern.len(),
            0,
            0,
            errors.as_mut_ptr(),
            errors.len() - 1,
        );
        assert!(regex.is_null());
        assert!(errors.starts_with(b"pcre2_compile() failed: missing"));
        assert_eq!(errors[38..], [0, 1], "the byte behind is not ours");
    }

    #[test]
    fn a_replacement_is_evaluated_and_can_be_given_again() {
        let subject = b"hello";
        let mut errors = [0; 64];
        let regex =
            ngx_http_lua_ffi_compile_regex(b"(l)(x)?".as_ptr(), 7, 0, 0, errors.as_mut_ptr(), errors.len());
        let engine = ngx_http_lua_ffi_create_script_engine();
        for (template, expect) in [(&b"<$1$2$0$9>"[..], &b"<ll>"[..]), (b"$$", b"$"), (b"$0", b"l")] {
            assert_eq!(
                ngx_http_lua_ffi_compile_replace_template(regex, template.as_ptr(), template.len()),
                OK
            );
            let count = ngx_http_lua_ffi_exec_regex(regex, 0, subject.as_ptr(), subject.len(), 0);
            ngx_http_lua_ffi_init_script_engine(engine, subject.as_ptr(), regex, count);
            // SAFETY: the expression is live.
            let replace = unsafe { (*regex).replace };
            let mut out = vec![0; ngx_http_lua_ffi_script_eval_len(engine, replace)];
            assert_eq!(ngx_http_lua_ffi_script_eval_data(engine, replace, out.as_mut_ptr()), out.len());
            assert_eq!(out, expect);
        }
        assert_eq!(ngx_http_lua_ffi_compile_replace_template(regex, b"$x".as_ptr(), 2), ERROR);
        ngx_http_lua_ffi_destroy_script_engine(engine);
        ngx_http_lua_ffi_destroy_regex(regex);
    }
}
