//! `ngx.location.capture`, `ngx.location.capture_multi`: subrequests whose answers Lua gets.
//! <https://github.com/openresty/lua-nginx-module#ngxlocationcapture>

use super::{args, define_native, request, subtable};
use crate::{
    host::Host,
    scheduler::{self, Item, Operation, Values},
    vm::WorkerVm,
};
use moonrest_http::{
    Request, RequestError, RequestRef,
    phase::LocalBoxFuture,
    subrequest::{self, Answer, Variables, Wanted},
};
use moonrest_luajit::{Call, LuaError, LuaResult, Native, Return, Stack, Table, Text, Value};
use moonrest_proto::{date, http1::Method, uri::split_internal};
use smallvec::SmallVec;
use std::{
    rc::Rc,
    task::{Context, Poll, Waker},
};

pub(super) fn install(stack: &mut Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    let location = subtable(stack, ngx, "location")?;
    define_native(
        stack,
        location,
        &[("capture", Native::new(capture)), ("capture_multi", Native::new(capture_multi))],
    )
}

/// `ngx.location.capture(uri, options?)`
fn capture(call: &mut Call<'_>) -> LuaResult<Return> {
    if !matches!(call.args_len(), 1 | 2) {
        return Err(LuaError::new("expecting one or two arguments"));
    }
    let r = parent(call)?;
    let (uri, options) = (call.value(1), call.value(2));
    let options = if call.args_len() == 2 { Some(options) } else { None };
    let child = child(call, &r, 0, uri, options)?;
    run(call, vec![child])
}

/// `ngx.location.capture_multi({{uri, options?}, …})`
fn capture_multi(call: &mut Call<'_>) -> LuaResult<Return> {
    let given = call.args_len();
    if given != 1 {
        return Err(LuaError::new(format!("only one argument is expected, but got {given}")));
    }
    let queries: Table<'_> = call.arg(1)?;
    let count = queries.raw_len(call);
    if count == 0 {
        return Err(LuaError::new("at least one subrequest should be specified"));
    }
    let r = parent(call)?;
    let mut children = Vec::with_capacity(count);
    for index in 0..count {
        let query = match queries.raw_index(call, index + 1)? {
            Value::Table(query) => query,
            Value::Nil => return Err(LuaError::new("only array-like tables are allowed")),
            other => {
                return Err(LuaError::new(format!(
                    "the query argument {index} is not a table, but a {}",
                    other.type_name()
                )));
            }
        };
        let given = query.raw_len(call);
        if !matches!(given, 1 | 2) {
            return Err(LuaError::new(format!("query argument {index} expecting one or two arguments")));
        }
        let uri = query.raw_index(call, 1)?;
        let options = if given == 2 { Some(query.raw_index(call, 2)?) } else { None };
        children.push(child(call, &r, index, uri, options)?);
    }
    run(call, children)
}

fn parent(call: &Call<'_>) -> LuaResult<RequestRef> {
    super::only_in(call, |phase| phase.has_request() && !phase.exits_with_code())?;
    request(call, |r, _| Ok(r.clone()))
}

type Child = (RequestRef, Rc<Answer>);

/// What `options` say.
#[derive(Default)]
struct Options<'c> {
    args: Vec<u8>,
    vars: Vec<(Vec<u8>, Vec<u8>)>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    variables: Variables,
    forward_body: bool,
    method: Option<u32>,
    ctx: Option<Table<'c>>,
    body: Option<Vec<u8>>,
}

/// Makes one subrequest.
fn child<'c>(
    call: &mut Call<'c>,
    r: &RequestRef,
    index: usize,
    uri: Value<'c>,
    options: Option<Value<'c>>,
) -> LuaResult<Child> {
    let options = match options {
        None => Options::default(),
        Some(Value::Table(options)) => read_options(call, options)?,
        Some(other) => {
            return Err(LuaError::new(format!(
                "expecting table as the 2nd argument for subrequest {index}, but got {}",
                other.type_name()
            )));
        }
    };
    let uri = match uri {
        Value::String(uri) => uri.to_vec(),
        Value::Number(number) => super::output::number_text(number).into_bytes(),
        other => return Err(LuaError::argument(1, format!("string expected, got {}", other.type_name()))),
    };
    let Ok((path, query)) = split_internal(&uri) else {
        let uri = String::from_utf8_lossy(&uri);
        return Err(LuaError::new(format!("unsafe uri in argument #1: {uri}")));
    };
    let args = match (query.is_empty(), options.args.is_empty()) {
        (true, _) => options.args,
        (false, true) => query.to_vec(),
        (false, false) => [query, b"&", &options.args].concat(),
    };
    let Some(method) = method(options.method) else {
        let method = options.method.unwrap_or_default();
        moonrest_http::error!(r, "unsupported HTTP method: {method}");
        return Err(LuaError::new("failed to adjust the subrequest: -1"));
    };
    let wanted = Wanted {
        path: &path,
        args: &args,
        method,
        body: options.body.map(Into::into),
        forward_body: options.forward_body,
        variables: options.variables,
        headers: &options.headers,
    };
    let (child, answer) = subrequest::capture(r, wanted).map_err(|error| {
        let (level, message) = error.describe();
        r.log_at(level, format_args!("{message}"));
        LuaError::new("failed to issue subrequest: -1")
    })?;
    for (name, value) in &options.vars {
        assign(r, &child, name, value)?;
    }
    if let Some(ctx) = options.ctx {
        let vm = call.host(crate::host::Host::vm).flatten();
        crate::ffi::ctx::give(call, vm, &child, ctx)?;
    }
    Ok((child, answer))
}

/// The method whose bit this is; GET where none is named.
fn method(bit: Option<u32>) -> Option<Method> {
    let Some(bit) = bit else { return Some(Method::Get) };
    Method::NAMED.into_iter().find(|method| method.bit() == bit && *method != Method::Connect)
}

fn read_options<'c>(call: &mut Call<'c>, table: Table<'c>) -> LuaResult<Options<'c>> {
    let mut options = Options::default();
    match table.get(call, "args")? {
        Value::Nil => {}
        Value::Table(args) => options.args = args::encode(call, args)?,
        Value::String(args) => options.args = args.to_vec(),
        Value::Number(number) => options.args = super::output::number_text(number).into_bytes(),
        _ => return Err(LuaError::new("Bad args option value")),
    }
    match table.get(call, "vars")? {
        Value::Nil => {}
        Value::Table(vars) => options.vars = pairs(call, vars)?,
        _ => return Err(LuaError::new("Bad vars option value")),
    }
    match table.get(call, "headers")? {
        Value::Nil => {}
        Value::Table(headers) => options.headers = pairs(call, headers)?,
        _ => return Err(LuaError::new("Bad headers option value")),
    }
    for (name, variables) in [("copy_all_vars", Variables::Copied), ("share_all_vars", Variables::Shared)] {
        match table.get(call, name)? {
            Value::Nil | Value::Boolean(false) => {}
            Value::Boolean(true) => options.variables = variables,
            _ => return Err(LuaError::new(format!("Bad {name} option value"))),
        }
    }
    options.forward_body = table.get(call, "always_forward_body")?.is_true();
    match table.get(call, "method")? {
        Value::Nil => {}
        Value::Number(bit) => options.method = Some(bit as u32),
        _ => return Err(LuaError::new("Bad http request method")),
    }
    match table.get(call, "ctx")? {
        Value::Nil => {}
        Value::Table(ctx) => options.ctx = Some(ctx),
        other => {
            return Err(LuaError::new(format!(
                "Bad ctx option value type {}, expected a Lua table",
                other.type_name()
            )));
        }
    }
    match table.get(call, "body")? {
        Value::Nil => {}
        Value::String(body) => options.body = Some(body.to_vec()),
        Value::Number(number) => options.body = Some(super::output::number_text(number).into_bytes()),
        _ => return Err(LuaError::new("Bad http request body")),
    }
    Ok(options)
}

/// A table of names and values.
fn pairs(call: &mut Call<'_>, table: Table<'_>) -> LuaResult<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut pairs = Vec::new();
    table.for_each(call, |_, key, value| {
        let Value::String(key) = key else {
            return Err(LuaError::new("attempt to use a non-string key in the \"vars\" option table"));
        };
        let value = match value {
            Value::String(value) => value.to_vec(),
            Value::Number(number) => super::output::number_text(number).into_bytes(),
            other => {
                let kind = other.type_name();
                return Err(LuaError::new(format!("attempt to use bad variable value type {kind}")));
            }
        };
        pairs.push((key.to_vec(), value));
        Ok(())
    })?;
    Ok(pairs)
}

/// Sets a variable of the subrequest before it runs.
fn assign(r: &Request, child: &Request, name: &[u8], value: &[u8]) -> LuaResult<()> {
    use moonrest_core::Subject;
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    let vars = child.vars();
    let id = vars.find(&name);
    match id.and_then(|id| vars.variable(id).map(|variable| (id, variable.changeable))) {
        Some((id, true)) => {
            vars.assign(child, id, Some(value));
            Ok(())
        }
        Some((_, false)) => {
            moonrest_http::error!(r, "variable \"{name}\" not changeable");
            Err(LuaError::new("failed to adjust the subrequest: 500"))
        }
        None => {
            moonrest_http::error!(
                r,
                "variable \"{name}\" cannot be assigned a value (maybe you forgot to define it first?) "
            );
            Err(LuaError::new("failed to adjust the subrequest: -1"))
        }
    }
}

type Runs = Vec<Option<LocalBoxFuture<Result<(), RequestError>>>>;

/// Runs subrequests side by side and answers with a table for each, in their order.
fn run(call: &Call<'_>, children: Vec<Child>) -> LuaResult<Return> {
    let mut runs: Runs = children.iter().map(|(child, _)| Some(subrequest::run(child.clone()))).collect();
    // Without the code cache each request has a VM of its own.
    let vm = call.host(|host: &Host| host.vm.get().cloned()).flatten();
    if may_run_at_once(call)
        && let Some(vm) = &vm
        && poll(&mut runs, &mut Context::from_waker(Waker::noop())).is_ready()
    {
        return answer(call, &vm.capture_names, &children);
    }
    // Those that are under way are asked again at once, by the handler's task.
    let wait = async move {
        std::future::poll_fn(|cx| poll(&mut runs, cx)).await;
        vm.as_deref().map_or_else(Values::default, |vm| results(vm, &children))
    };
    scheduler::suspend(call, Operation::Subrequests(Box::pin(wait)))
}

/// Asks those subrequests that have not ended. What went wrong with them shows in status and `truncated`.
fn poll(runs: &mut Runs, cx: &mut Context<'_>) -> Poll<()> {
    let mut waits = false;
    for slot in runs {
        let Some(run) = slot else { continue };
        match run.as_mut().poll(cx) {
            Poll::Ready(_) => *slot = None,
            Poll::Pending => waits = true,
        }
    }
    if waits { Poll::Pending } else { Poll::Ready(()) }
}

/// Whether subrequests may run right here, so that the caller need not wait for those that end at once: nothing else of
/// the handler would run meanwhile, and they are not within each other, which would take more and more of the C stack.
fn may_run_at_once(call: &Call<'_>) -> bool {
    call.can_suspend()
        && call.host(|host: &Host| {
            let alone = host.threads.borrow().as_ref().is_none_or(|threads| threads.is_one());
            alone && host.request().is_some_and(|r| !r.is_subrequest())
        }) == Some(true)
}

/// Answers without having waited.
fn answer(call: &Call<'_>, names: &Names, children: &[Child]) -> LuaResult<Return> {
    let tables = children
        .iter()
        .map(|(child, answer)| result(call, names, child, answer))
        .collect::<LuaResult<SmallVec<[_; 1]>>>()?;
    let first = call.len() + 1;
    tables.into_iter().try_for_each(|table| call.push(table))?;
    Ok(call.ret_from(first))
}

/// The fields of answers, as strings that need not be looked up anew.
pub(crate) struct Names {
    status: Text,
    truncated: Text,
    body: Text,
    header: Text,
    content_type: Text,
    content_length: Text,
}

impl Names {
    pub(crate) fn new(stack: &Stack<'_>) -> LuaResult<Self> {
        let keep = |name: &str| stack.keep_text(name.as_bytes());
        Ok(Self {
            status: keep("status")?,
            truncated: keep("truncated")?,
            body: keep("body")?,
            header: keep("header")?,
            content_type: keep("Content-Type")?,
            content_length: keep("Content-Length")?,
        })
    }
}

fn results(vm: &WorkerVm, children: &[Child]) -> Values {
    let results = vm.vm.with(|stack| {
        let mut results = Vec::with_capacity(children.len());
        for (child, answer) in children {
            let kept = stack.scope(|stack| {
                let table = result(stack, &vm.capture_names, child, answer)?;
                stack.keep(table)
            })?;
            results.push(Item::Kept(kept));
        }
        Ok(results)
    });
    results.map_or_else(|error: LuaError| Values::error(&error.to_string()), Values)
}

/// What Lua gets of one answer.
fn result<'s>(stack: &Stack<'s>, names: &Names, child: &Request, answer: &Answer) -> LuaResult<Table<'s>> {
    let table = stack.table(0, 4)?;
    table.raw_set(stack, &names.status, i32::from(answer.status(child)))?;
    table.raw_set(stack, &names.truncated, answer.is_truncated(child))?;
    table.raw_set(stack, &names.body, answer.body.take())?;
    let header = header(stack, names, child)?;
    table.raw_set(stack, &names.header, header)?;
    Ok(table)
}

fn header<'s>(stack: &Stack<'s>, names: &Names, child: &Request) -> LuaResult<Table<'s>> {
    let out = child.out();
    let header = stack.table(0, out.fields.len() + 4)?;
    for field in &out.fields {
        args::put(stack, header, &field.name, Some(&field.value))?;
    }
    if !out.content_type.is_empty() {
        header.raw_set(stack, &names.content_type, &*out.content_type)?;
    }
    if let Some(length) = out.content_length {
        header.raw_set(stack, &names.content_length, length)?;
    }
    for (name, value) in [
        ("Location", &out.location),
        ("ETag", &out.etag),
        ("Content-Encoding", &out.content_encoding),
        ("Server", &out.server),
        ("Date", &out.date),
    ] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            header.raw_set(stack, name, &**value)?;
        }
    }
    if let Some(seconds) = out.last_modified.filter(|_| matches!(out.status, 200 | 204 | 206 | 304)) {
        header.raw_set(stack, "Last-Modified", &date::http(seconds)[..])?;
    }
    Ok(header)
}
