//! `ngx.req`: the request's body, read, replaced and written anew.
//! <https://github.com/openresty/lua-nginx-module#ngxreqread_body>

use super::{
    args, define_native,
    req::{count, flag},
    request,
};
use crate::{
    host::LuaPhase,
    scheduler::{Ending, Operation, Values},
};
use moonrest_http::{
    Request,
    body::{self, BodyFile, BodyState},
};
use moonrest_luajit::{Call, LuaError, LuaResult, Native, Nil, Return, Stack, Table};
use std::{
    cell::RefCell,
    ffi::OsStr,
    io,
    io::Write,
    os::unix::ffi::{OsStrExt, OsStringExt},
    rc::Rc,
};

pub(super) fn install(stack: &Stack<'_>, req: Table<'_>) -> LuaResult<()> {
    define_native(
        stack,
        req,
        &[
            ("read_body", Native::new(read_body)),
            ("discard_body", Native::new(discard_body)),
            ("get_body_data", Native::new(get_body_data)),
            ("get_body_file", Native::new(get_body_file)),
            ("get_post_args", Native::new(get_post_args)),
            ("set_body_data", Native::new(set_body_data)),
            ("set_body_file", Native::new(set_body_file)),
            ("init_body", Native::new(init_body)),
            ("append_body", Native::new(append_body)),
            ("finish_body", Native::new(finish_body)),
        ],
    )
}

/// `ngx.req.read_body()`
fn read_body(call: &mut Call<'_>) -> LuaResult<Return> {
    count(call, 0, 0, "0 arguments")?;
    super::only_in(call, LuaPhase::makes_response)?;
    let r = request(call, |r, _| Ok(r.clone()))?;
    if r.is_subrequest() || r.body.borrow().state != BodyState::Unread {
        return call.ret(());
    }
    // Files are the request's own, and gone with it.
    r.body.borrow_mut().keep_name = true;
    if body::read_at_once(&r) {
        return call.ret(());
    }
    let reading = body::read(&r);
    let wait = async move {
        let Err(error) = reading.await else { return Values::default() };
        let (level, message) = error.describe();
        if !message.is_empty() {
            r.log_at(level, format_args!("{message}"));
        }
        Values::end(Ending::Status(error.status()))
    };
    call.suspend(Operation::Wait(Box::pin(wait)), ())
}

/// `ngx.req.discard_body()`
fn discard_body(call: &mut Call<'_>) -> LuaResult<Return> {
    count(call, 0, 0, "0 arguments")?;
    let discarded = request(call, |r, _| Ok(r.ignore_body()))?;
    if discarded.is_err() {
        return Err(LuaError::new("failed to discard request body"));
    }
    call.ret(())
}

/// `ngx.req.get_body_data(max_bytes?)`
fn get_body_data(call: &mut Call<'_>) -> LuaResult<Return> {
    count(call, 0, 1, "0 or 1 arguments")?;
    let max = if call.args_len() == 1 { call.arg::<f64>(1)? as usize } else { 0 };
    let data = request(call, |r, _| Ok(r.body.borrow().bytes()))?;
    match data {
        Some(data) if !data.is_empty() => {
            let len = if max > 0 { max.min(data.len()) } else { data.len() };
            call.ret(data.get(..len).unwrap_or_default())
        }
        _ => call.ret(Nil),
    }
}

/// `ngx.req.get_body_file()`
fn get_body_file(call: &mut Call<'_>) -> LuaResult<Return> {
    count(call, 0, 0, "0 arguments")?;
    let path = request(call, |r, _| Ok(r.body.borrow().file.as_ref().map(|file| file.path.clone())))?;
    match path {
        Some(path) => call.ret(path),
        None => call.ret(Nil),
    }
}

/// `ngx.req.get_post_args(max?) -> args, err`
fn get_post_args(call: &mut Call<'_>) -> LuaResult<Return> {
    count(call, 0, 1, "0 or 1 arguments")?;
    let max = if call.args_len() == 1 { call.arg::<f64>(1)?.max(0.0) as usize } else { 100 };
    let (state, data) = request(call, |r, _| {
        let body = r.body.borrow();
        Ok((body.state, body.bytes()))
    })?;
    match state {
        BodyState::Discarded => {
            let table = call.table(0, 0)?;
            return call.ret(table);
        }
        BodyState::Unread => {
            return Err(LuaError::new(
                "no request body found; maybe you should turn on lua_need_request_body?",
            ));
        }
        BodyState::Reading | BodyState::Complete | BodyState::Streamed => {}
    }
    let Some(data) = data else { return call.ret((Nil, "request body in temp file not supported")) };
    let table = call.table(0, 4)?;
    if args::parse(call, &data, max, table)? { call.ret((table, "truncated")) } else { call.ret(table) }
}

/// Refuses to replace a body that was thrown away, or is still to come.
fn replaceable(r: &Request) -> LuaResult<()> {
    match r.body.borrow().state {
        BodyState::Discarded if r.has_body() => {
            Err(LuaError::new("request body already discarded asynchronously"))
        }
        BodyState::Unread | BodyState::Discarded => Err(LuaError::new("request body not read yet")),
        // What a request socket reads may be kept as a body.
        BodyState::Reading | BodyState::Complete | BodyState::Streamed => Ok(()),
    }
}

/// `ngx.req.set_body_data(data)`
fn set_body_data(call: &mut Call<'_>) -> LuaResult<Return> {
    count(call, 1, 1, "1 arguments")?;
    let data = call.arg::<&[u8]>(1)?.to_vec();
    request(call, |r, _| {
        replaceable(r)?;
        r.set_body(data.into());
        Ok(())
    })?;
    call.ret(())
}

/// `ngx.req.set_body_file(path, auto_clean?)`
fn set_body_file(call: &mut Call<'_>) -> LuaResult<Return> {
    count(call, 1, 2, "1 or 2 arguments")?;
    let path = call.arg::<&[u8]>(1)?.to_vec();
    let clean = flag(call, 2)?;
    request(call, |r, _| {
        replaceable(r)?;
        let opened = std::fs::File::open(OsStr::from_bytes(&path));
        let (file, len) = match opened.and_then(|file| file.metadata().map(|data| (file, data.len()))) {
            Ok(opened) => opened,
            Err(error) => {
                let shown = String::from_utf8_lossy(&path);
                let reason = moonrest_core::env::os_error(&error);
                moonrest_http::error!(r, "open() \"{shown}\" failed ({reason})");
                return Err(LuaError::new(format!("open() \"{shown}\" failed")));
            }
        };
        r.set_body_file(Rc::new(BodyFile::new(file, path, len, clean)));
        Ok(())
    })?;
    call.ret(())
}

/// A body that is being written: in memory up to a size, in a file beyond it. Kept in the request's context.
#[derive(Default)]
struct Draft(RefCell<Option<Writing>>);

struct Writing {
    /// Bytes that stay in memory.
    room: usize,
    memory: Vec<u8>,
    len: u64,
    file: Option<(std::fs::File, Vec<u8>)>,
}

/// `ngx.req.init_body(buffer_size?)`
fn init_body(call: &mut Call<'_>) -> LuaResult<Return> {
    count(call, 0, 1, "0 or 1 argument")?;
    let size = if call.args_len() == 1 { Some(call.arg::<f64>(1)?) } else { None };
    if let Some(size) = size.filter(|size| *size < 0.0) {
        return Err(LuaError::new(format!("bad size argument: {size}")));
    }
    request(call, |r, _| {
        replaceable(r)?;
        let room = match size {
            Some(size) => size as usize,
            None => usize::try_from(r.loc().core.client_body_buffer_size).unwrap_or(usize::MAX),
        };
        let writing = Writing { room, memory: Vec::new(), len: 0, file: None };
        *r.ctx::<Draft>().0.borrow_mut() = Some(writing);
        Ok(())
    })?;
    call.ret(())
}

/// `ngx.req.append_body(data)`
fn append_body(call: &mut Call<'_>) -> LuaResult<Return> {
    count(call, 1, 1, "1 arguments")?;
    let data: &[u8] = call.arg(1)?;
    request(call, |r, _| {
        let draft = r.ctx::<Draft>();
        let mut draft = draft.0.borrow_mut();
        let Some(writing) = draft.as_mut() else { return Err(NOT_INITIALIZED.into()) };
        writing.append(r, data).map_err(|error| failed(r, &error))
    })?;
    call.ret(())
}

/// `ngx.req.finish_body()`
fn finish_body(call: &mut Call<'_>) -> LuaResult<Return> {
    count(call, 0, 0, "0 argument")?;
    request(call, |r, _| {
        let Some(writing) = r.ctx::<Draft>().0.take() else { return Err(NOT_INITIALIZED.into()) };
        writing.finish(r).map_err(|error| failed(r, &error))
    })?;
    call.ret(())
}

const NOT_INITIALIZED: &str = "request_body not initialized";

fn failed(r: &Request, error: &io::Error) -> LuaError {
    let error = moonrest_core::env::os_error(error);
    moonrest_http::error!(r, "writing a request body to a temporary file failed ({error})");
    LuaError::new("fail to write file")
}

impl Writing {
    fn append(&mut self, r: &Request, data: &[u8]) -> io::Result<()> {
        self.len += data.len() as u64;
        if self.file.is_none() && self.memory.len() + data.len() <= self.room {
            self.memory.extend_from_slice(data);
            return Ok(());
        }
        self.spill(r)?;
        match &mut self.file {
            Some((file, _)) => file.write_all(data),
            None => Ok(()),
        }
    }

    /// Moves what is in memory to a file.
    fn spill(&mut self, r: &Request) -> io::Result<()> {
        if self.file.is_none() {
            let temp = r.loc().core.client_body_temp_path.create(true, 0).map_err(|(_, error)| error)?;
            let path = OsStr::from_bytes(&temp.path).to_os_string();
            moonrest_http::warn!(
                r,
                "a client request body is buffered to a temporary file {}",
                path.to_string_lossy()
            );
            self.file = Some((temp.fd.into(), path.into_vec()));
        }
        let memory = std::mem::take(&mut self.memory);
        match &mut self.file {
            Some((file, _)) => file.write_all(&memory),
            None => Ok(()),
        }
    }

    fn finish(self, r: &Request) -> io::Result<()> {
        match self.file {
            Some((file, path)) => r.set_body_file(Rc::new(BodyFile::new(file, path, self.len, true))),
            None => r.set_body(self.memory.into()),
        }
        Ok(())
    }
}
