//! `ngx.pipe`.
//! <https://github.com/openresty/lua-resty-core/blob/master/lib/ngx/pipe.md>

use super::{AGAIN, BAD_CONTEXT, DECLINED, NO_REQ_CTX, OK, Token, fail_into};
use crate::{
    host::{Host, LuaPhase},
    pipe::{self, Amount, Output, Program, Read, Step},
    scheduler::Operation,
};
use moonrest_http::phase::LocalBoxFuture;
use moonrest_luajit::{ffi_entry, raw};
use moonrest_sys::child::Start;
use std::{
    ffi::{CStr, c_char, c_int},
    io,
    rc::Rc,
};

/// `ngx_http_lua_ffi_pipe_proc_t`.
#[repr(C)]
pub(crate) struct Proc {
    pid: c_int,
    write_timeout: usize,
    stdout_read_timeout: usize,
    stderr_read_timeout: usize,
    wait_timeout: usize,
    program: *const Program,
}

/// Where an error's text goes, and its length.
#[derive(Clone, Copy)]
struct ErrorText {
    buffer: *mut u8,
    size: *mut usize,
}

impl ErrorText {
    fn fail(self, message: &str) -> c_int {
        fail_into(self.buffer, self.size, message.as_bytes())
    }
}

/// What Lua's handle says.
struct Handle {
    program: Option<Rc<Program>>,
    write_timeout: u64,
    read_timeouts: [u64; 2],
    wait_timeout: u64,
}

fn handle(proc: *const Proc) -> Handle {
    if proc.is_null() || !proc.is_aligned() {
        return Handle { program: None, write_timeout: 0, read_timeouts: [0; 2], wait_timeout: 0 };
    }
    // SAFETY: Lua passes a live `ngx_http_lua_ffi_pipe_proc_t`, which its metatable keeps from anybody else.
    let proc = unsafe { &*proc };
    let program = (!proc.program.is_null()).then(|| {
        // SAFETY: `pipe_spawn` made the pointer of an `Rc`, and Lua keeps it until it calls `pipe_proc_destroy`, once.
        unsafe {
            Rc::increment_strong_count(proc.program);
            Rc::from_raw(proc.program)
        }
    });
    Handle {
        program,
        write_timeout: proc.write_timeout as u64,
        read_timeouts: [proc.stdout_read_timeout as u64, proc.stderr_read_timeout as u64],
        wait_timeout: proc.wait_timeout as u64,
    }
}

impl Handle {
    /// The program while it can be talked to.
    fn open(&self) -> Option<&Rc<Program>> {
        self.program.as_ref().filter(|program| !program.is_closed())
    }
}

/// Lets the caller wait with `coroutine._yield`.
fn wait(r: Token, wait: LocalBoxFuture<crate::scheduler::Values>) -> c_int {
    raw::host(r, |host: &Host| {
        let before = host.pending.replace(Some(Operation::Wait(wait)));
        drop(before);
        AGAIN
    })
    .unwrap_or(NO_REQ_CTX)
}

/// Where code may wait: everywhere but before the workers serve.
fn check(r: Token, errors: ErrorText) -> Result<(), c_int> {
    match raw::host(r, |host: &Host| host.phase) {
        None => Err(NO_REQ_CTX),
        Some(LuaPhase::Init) => {
            errors.fail("API disabled in the context of init_by_lua*");
            Err(BAD_CONTEXT)
        }
        Some(_) => Ok(()),
    }
}

/// The strings of an array that a null pointer ends.
///
/// # Safety
/// `array` is null or such an array of strings that a zero byte ends.
unsafe fn strings(array: *const *const c_char) -> Option<Vec<Vec<u8>>> {
    if array.is_null() || !array.is_aligned() {
        return None;
    }
    let mut strings = Vec::new();
    let mut at = array;
    loop {
        // SAFETY: the caller's promise; the null pointer was not reached yet.
        let string = unsafe { *at };
        if string.is_null() {
            return Some(strings);
        }
        // SAFETY: as above.
        strings.push(unsafe { CStr::from_ptr(string) }.to_bytes().to_vec());
        // SAFETY: the null pointer follows.
        at = unsafe { at.add(1) };
    }
}

fn stdout(program: &Program) -> &Output {
    &program.stdout
}

/// Standard error; standard output where they are one.
fn stderr(program: &Program) -> &Output {
    program.stderr.as_ref().unwrap_or(&program.stdout)
}

/// Hands out what was read: into Lua's buffer if it fits, otherwise its length, and the bytes at the next call.
fn give(output: &Output, read: Read, buf: *mut *mut u8, size: *mut usize, errors: ErrorText) -> c_int {
    let status = match &read.error {
        None => OK,
        Some(error) => {
            errors.fail(error);
            DECLINED
        }
    };
    // SAFETY: Lua passes places for a buffer and its size.
    unsafe {
        let (buffer, room) = if buf.is_null() || size.is_null() {
            (std::ptr::null_mut(), 0)
        } else {
            (buf.read_unaligned(), size.read_unaligned())
        };
        raw::store(size, read.data.len());
        if read.data.len() <= room && !buffer.is_null() {
            raw::fill(buffer, room, &read.data);
        } else {
            raw::store(buf, std::ptr::null_mut());
            output.keep(read);
        }
    }
    status
}

ffi_entry! {
    /// Starts a program.
    fn ngx_http_lua_ffi_pipe_spawn(
        r: Token, proc: *mut Proc, file: *const c_char, argv: *const *const c_char, merge_stderr: c_int,
        buffer_size: usize, environ: *const *const c_char, errbuf: *mut u8, errlen: *mut usize
    ) -> c_int, on_panic = -1 {
        let errors = ErrorText { buffer: errbuf, size: errlen };
        if proc.is_null() || !proc.is_aligned() || file.is_null() {
            return errors.fail("bad arguments");
        }
        // SAFETY: Lua passes strings and arrays of strings, and keeps them for the length of the call.
        let (file, argv, environment) =
            unsafe { (CStr::from_ptr(file).to_bytes(), strings(argv), strings(environ)) };
        let argv = argv.unwrap_or_default();
        let wanted =
            Start { file, argv: &argv, environment: environment.as_deref(), merge_stderr: merge_stderr != 0 };
        let shown = String::from_utf8_lossy(file);
        let note = |error: &io::Error| {
            let call = if environment.is_some() { "execvpe" } else { "execvp" };
            let error = moonrest_core::env::os_error(error);
            raw::host(r, |host: &Host| {
                host.log(
                    moonrest_core::Level::Error,
                    format_args!("lua pipe child {call}() failed while executing {shown} ({error})"),
                );
            });
        };
        match Program::start(&wanted, buffer_size, note) {
            Err(error) => errors.fail(&error),
            Ok(program) => {
                let weak = Rc::downgrade(&program);
                raw::host(r, |host: &Host| {
                    if let Some(r) = &host.request {
                        r.at_end(move |_| {
                            if let Some(program) = weak.upgrade() {
                                program.forget();
                            }
                        });
                    }
                });
                // SAFETY: checked above; Lua's handle is new, so no other program is in it.
                unsafe {
                    (*proc).pid = program.pid();
                    (*proc).program = Rc::into_raw(program);
                }
                OK
            }
        }
    }

    /// Reads, or has the caller wait.
    fn ngx_http_lua_ffi_pipe_proc_read(
        r: Token, proc: *const Proc, from_stderr: c_int, kind: c_int, length: usize, buf: *mut *mut u8,
        size: *mut usize, errbuf: *mut u8, errlen: *mut usize
    ) -> c_int, on_panic = -1 {
        let errors = ErrorText { buffer: errbuf, size: errlen };
        if let Err(code) = check(r, errors) {
            return code;
        }
        let handle = handle(proc);
        let Some(program) = handle.open() else { return errors.fail("closed") };
        if from_stderr != 0 && program.stderr.is_none() {
            return errors.fail("merged to stdout");
        }
        let amount = match kind {
            0 => Amount::All,
            1 => Amount::Exactly(length),
            2 => Amount::Line,
            _ => Amount::Any(length),
        };
        let (of, timeout): (fn(&Program) -> &Output, u64) =
            if from_stderr != 0 { (stderr, handle.read_timeouts[1]) } else { (stdout, handle.read_timeouts[0]) };
        match pipe::read(program, of, amount, timeout) {
            Err(error) => errors.fail(&error),
            Ok(Step::Now(read)) => give(of(program), read, buf, size, errors),
            Ok(Step::Wait(later)) => wait(r, Box::pin(later)),
        }
    }

    /// The result of a read that had to wait, or did not fit.
    fn ngx_http_lua_ffi_pipe_get_read_result(
        _r: Token, proc: *const Proc, from_stderr: c_int, buf: *mut *mut u8, size: *mut usize, errbuf: *mut u8,
        errlen: *mut usize
    ) -> c_int, on_panic = -1 {
        let errors = ErrorText { buffer: errbuf, size: errlen };
        let Some(program) = handle(proc).program else { return errors.fail("closed") };
        let output = if from_stderr != 0 { stderr(&program) } else { stdout(&program) };
        give(output, output.result(), buf, size, errors)
    }

    /// Writes, or has the caller wait.
    fn ngx_http_lua_ffi_pipe_proc_write(
        r: Token, proc: *const Proc, data: *const u8, len: usize, errbuf: *mut u8, errlen: *mut usize
    ) -> isize, on_panic = -1 {
        let errors = ErrorText { buffer: errbuf, size: errlen };
        if let Err(code) = check(r, errors) {
            return code as isize;
        }
        let handle = handle(proc);
        let Some(program) = handle.open() else { return errors.fail("closed") as isize };
        // SAFETY: Lua passes a string.
        let data = unsafe { raw::bytes(data, len) };
        match pipe::write(program, data, handle.write_timeout) {
            Err(error) => errors.fail(&error) as isize,
            Ok(Step::Now(written)) => isize::try_from(written).unwrap_or(isize::MAX),
            Ok(Step::Wait(later)) => wait(r, Box::pin(later)) as isize,
        }
    }

    /// The result of a write that had to wait.
    fn ngx_http_lua_ffi_pipe_get_write_result(
        _r: Token, proc: *const Proc, errbuf: *mut u8, errlen: *mut usize
    ) -> isize, on_panic = -1 {
        let errors = ErrorText { buffer: errbuf, size: errlen };
        match handle(proc).program.map(|program| program.stdin.result()) {
            Some(Ok(written)) => isize::try_from(written).unwrap_or(isize::MAX),
            Some(Err(error)) => errors.fail(&error) as isize,
            None => errors.fail("closed") as isize,
        }
    }

    /// The program reads the end of its input.
    fn ngx_http_lua_ffi_pipe_proc_shutdown_stdin(proc: *const Proc, errbuf: *mut u8, errlen: *mut usize) -> c_int,
        on_panic = -1
    {
        shut(proc, ErrorText { buffer: errbuf, size: errlen }, |program| {
            program.stdin.close();
            Ok(())
        })
    }

    /// Nobody reads the program's output any more.
    fn ngx_http_lua_ffi_pipe_proc_shutdown_stdout(proc: *const Proc, errbuf: *mut u8, errlen: *mut usize) -> c_int,
        on_panic = -1
    {
        shut(proc, ErrorText { buffer: errbuf, size: errlen }, |program| {
            program.stdout.close();
            Ok(())
        })
    }

    /// The same for its errors.
    fn ngx_http_lua_ffi_pipe_proc_shutdown_stderr(proc: *const Proc, errbuf: *mut u8, errlen: *mut usize) -> c_int,
        on_panic = -1
    {
        shut(proc, ErrorText { buffer: errbuf, size: errlen }, |program| match &program.stderr {
            Some(stderr) => {
                stderr.close();
                Ok(())
            }
            None => Err("merged to stdout"),
        })
    }

    /// How the program ended, or has the caller wait for that.
    fn ngx_http_lua_ffi_pipe_proc_wait(
        r: Token, proc: *const Proc, reason: *mut *const c_char, status: *mut c_int, errbuf: *mut u8,
        errlen: *mut usize
    ) -> c_int, on_panic = -1 {
        let errors = ErrorText { buffer: errbuf, size: errlen };
        if let Err(code) = check(r, errors) {
            return code;
        }
        let handle = handle(proc);
        let Some(program) = handle.open() else { return errors.fail("exited") };
        let later = match program.wait(handle.wait_timeout) {
            Ok(later) => later,
            Err(error) => return errors.fail(&error),
        };
        let Some(ended) = program.take_end() else { return wait(r, Box::pin(later)) };
        drop(later);
        let (text, code) = pipe::reason(ended);
        // SAFETY: Lua passes places for both.
        unsafe {
            raw::store(reason, text.as_ptr());
            raw::store(status, code);
        }
        if code == 0 { OK } else { DECLINED }
    }

    /// Sends the program a signal.
    fn ngx_http_lua_ffi_pipe_proc_kill(proc: *const Proc, signal: c_int, errbuf: *mut u8, errlen: *mut usize) -> c_int,
        on_panic = -1
    {
        let errors = ErrorText { buffer: errbuf, size: errlen };
        match handle(proc).program.map(|program| program.kill(signal)) {
            Some(Ok(())) => OK,
            Some(Err(error)) => errors.fail(&error),
            None => errors.fail("exited"),
        }
    }

    /// Lua forgets the program.
    fn ngx_http_lua_ffi_pipe_proc_destroy(proc: *mut Proc) -> c_int, on_panic = 0 {
        if proc.is_null() || !proc.is_aligned() {
            return OK;
        }
        // SAFETY: Lua's live handle; `pipe_spawn` made the pointer, and nothing is left of it here.
        let program = unsafe { std::mem::replace(&mut (*proc).program, std::ptr::null()) };
        if !program.is_null() {
            // SAFETY: as above.
            unsafe { Rc::from_raw(program) }.forget();
        }
        OK
    }
}

fn shut(
    proc: *const Proc,
    errors: ErrorText,
    close: impl FnOnce(&Program) -> Result<(), &'static str>,
) -> c_int {
    let handle = handle(proc);
    let Some(program) = handle.open() else { return errors.fail("closed") };
    match close(program) {
        Ok(()) => OK,
        Err(error) => errors.fail(error),
    }
}
