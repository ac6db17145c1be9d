//! The operating system made safe: sockets, descriptors, files, processes, users, signals, clocks.
//!
//! Linux only. The crate knows nothing of configuration, requests or logs; what nginx would log is returned as a
//! value whose `Display` is nginx's wording. Paths are byte strings; one that holds a NUL is refused with
//! `InvalidInput`. Every descriptor made here is close-on-exec.
#![allow(unsafe_code)]

pub mod alloc;
pub mod child;
pub mod cpu;
pub mod environment;
pub mod epoll;
pub mod errno;
pub mod exec;
pub mod fdpass;
pub mod file;
pub mod host;
pub mod iconv;
pub mod inherit;
pub mod limits;
pub mod listen;
pub mod log_write;
pub mod memory;
pub mod path;
pub mod pidfile;
pub mod poll;
pub mod process;
pub mod random;
pub mod rename;
pub mod signals;
pub mod socket;
pub mod symlinks;
pub mod temp;
pub mod time;
pub mod title;
pub mod tree;
pub mod udp;
pub mod user;
pub mod waker;

#[cfg(test)]
mod scratch;
