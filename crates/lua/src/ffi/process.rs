//! `ngx_argv`: how the program was called, which libraries read to call it again.

use std::{
    ffi::{CString, c_char},
    os::unix::ffi::OsStringExt,
    sync::{
        Once,
        atomic::{AtomicPtr, Ordering::Release},
    },
};

/// nginx's `char **ngx_argv`: the arguments, ended by a null pointer. Set before a VM runs code.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, unreachable_pub, reason = "the symbol is nginx's")]
pub static ngx_argv: AtomicPtr<*mut c_char> = AtomicPtr::new(std::ptr::null_mut());

/// Fills in what programs may read.
pub(crate) fn publish() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        let mut args: Vec<*mut c_char> = std::env::args_os()
            .filter_map(|arg| CString::new(arg.into_vec()).ok())
            .map(CString::into_raw)
            .collect();
        args.push(std::ptr::null_mut());
        // It lives as long as the process, and so do the arguments.
        ngx_argv.store(args.leak().as_mut_ptr(), Release);
    });
}
