//! `ngx.run_worker_thread`: Lua functions that run in threads of their own, each with a VM of its own.
//! <https://github.com/openresty/lua-nginx-module#ngxrun_worker_thread>
//!
//! A VM belongs to the thread that made it, so a thread and its VM are kept together for the next call. Arguments and
//! results are copied.

use crate::{
    host::{Host, LuaPhase},
    settings::Main,
    vm::{WorkerVm, lossy},
};
use moonrest_http::worker::{Task, Worker};
use moonrest_luajit::{Light, LuaError, LuaResult, Nil, Ref, Stack, THREAD_STACK_SIZE, Value, With};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, mpsc},
    thread,
};
use tokio::sync::oneshot;

/// Tables inside tables deeper than this are taken for ones that contain themselves.
const MAX_DEPTH: usize = 100;

/// A value that can go from one VM to another.
pub(crate) enum Plain {
    Nil,
    Boolean(bool),
    Number(f64),
    Light(usize),
    Text(Vec<u8>),
    Table(Vec<(Self, Self)>),
}

impl Plain {
    /// Copies a value.
    ///
    /// # Errors
    /// What cannot be copied, in upstream's words.
    pub(crate) fn copy(stack: &mut Stack<'_>, value: Value<'_>) -> Result<Self, &'static str> {
        Self::copy_at(stack, value, 1)
    }

    fn copy_at(stack: &mut Stack<'_>, value: Value<'_>, depth: usize) -> Result<Self, &'static str> {
        Ok(match value {
            Value::Nil => Self::Nil,
            Value::Boolean(flag) => Self::Boolean(flag),
            Value::Number(number) => Self::Number(number),
            Value::Light(address) => Self::Light(address),
            Value::String(text) => Self::Text(text.to_vec()),
            Value::Table(table) if depth < MAX_DEPTH => {
                let (mut fields, mut problem) = (Vec::new(), None);
                let walked = table.for_each(stack, |stack, key, value| {
                    let pair = Self::copy_at(stack, key, depth + 1)
                        .and_then(|key| Ok((key, Self::copy_at(stack, value, depth + 1)?)));
                    match pair {
                        Ok(pair) => fields.push(pair),
                        Err(why) => {
                            problem = Some(why);
                            return Err(LuaError::exactly(why));
                        }
                    }
                    Ok(())
                });
                match (walked, problem) {
                    (_, Some(problem)) => return Err(problem),
                    (Err(_), None) => return Err("unsupported Lua type"),
                    (Ok(()), None) => Self::Table(fields),
                }
            }
            Value::Table(_) => {
                return Err("suspicious circular references, table depth exceed max depth: 100");
            }
            Value::Function(_) => return Err("unsupported Lua type: LUA_TFUNCTION"),
            Value::Userdata(_) => return Err("unsupported Lua type: LUA_TUSERDATA"),
            Value::Thread(_) => return Err("unsupported Lua type: LUA_TTHREAD"),
            Value::Cdata(_) => return Err("unsupported Lua type"),
        })
    }

    /// Pushes a copy.
    pub(crate) fn push(&self, stack: &Stack<'_>) -> LuaResult<()> {
        match self {
            Self::Nil => stack.push(Nil),
            Self::Boolean(flag) => stack.push(*flag),
            Self::Number(number) => stack.push(*number),
            Self::Light(address) => stack.push(Light(*address)),
            Self::Text(text) => stack.push(text),
            Self::Table(fields) => {
                // Made where temporaries can be taken off again.
                let table = stack.lua().with(|main| Self::table(main, fields))?;
                stack.push(table)
            }
        }
    }

    fn table(stack: &mut Stack<'_>, fields: &[(Self, Self)]) -> LuaResult<Ref> {
        stack.scope(|stack| {
            let array = fields.iter().filter(|(key, _)| matches!(key, Self::Number(_))).count();
            let table = stack.table(array, fields.len() - array)?;
            for (key, value) in fields {
                stack.scope(|stack| {
                    let (key, value) = (key.value(stack)?, value.value(stack)?);
                    table.raw_set(stack, key, value)
                })?;
            }
            stack.keep(table)
        })
    }

    fn value<'s>(&self, stack: &Stack<'s>) -> LuaResult<Value<'s>> {
        self.push(stack)?;
        Ok(stack.value(stack.len()))
    }
}

/// What a thread is to do.
struct Job {
    module: Vec<u8>,
    function: Vec<u8>,
    args: Vec<Plain>,
    reply: oneshot::Sender<Answer>,
}

/// The results, or what went wrong.
pub(crate) type Answer = Result<Vec<Plain>, Vec<u8>>;

/// A worker's threads.
pub(crate) struct Threads {
    main: Arc<Main>,
    worker: Rc<Worker>,
    idle: RefCell<Vec<mpsc::Sender<Job>>>,
    count: Cell<u64>,
}

thread_local! {
    static PRESENT: RefCell<Option<Rc<Threads>>> = const { RefCell::new(None) };
}

/// The threads of this worker.
pub(crate) fn present() -> Option<Rc<Threads>> {
    PRESENT.with_borrow(Clone::clone)
}

/// Lets this worker have threads.
pub(crate) fn start(main: &Arc<Main>, worker: &Rc<Worker>) {
    let (main, worker) = (main.clone(), worker.clone());
    let threads = Threads { main, worker, idle: RefCell::default(), count: Cell::new(0) };
    PRESENT.set(Some(Rc::new(threads)));
}

/// Threads that wait for work end.
pub(crate) fn stop() {
    PRESENT.set(None);
}

impl Threads {
    /// Whether the configuration has a thread pool of this name.
    pub(crate) fn has_pool(&self, name: &str) -> bool {
        self.main.thread_pools.as_ref().is_some_and(|pools| pools.has(name))
    }

    /// Has `module.function(args)` run in a thread. `None` when there is no VM for it.
    pub(crate) fn run(
        self: &Rc<Self>,
        vm: &WorkerVm,
        module: Vec<u8>,
        function: Vec<u8>,
        args: Vec<Plain>,
    ) -> Option<oneshot::Receiver<Answer>> {
        let known = self.idle.borrow_mut().pop();
        let thread = known.or_else(|| self.spawn(vm))?;
        let (reply, answer) = oneshot::channel();
        let (forward, forwarded) = oneshot::channel();
        thread.send(Job { module, function, args, reply }).ok()?;
        let threads = self.clone();
        let task = Task::new(&self.worker);
        // The thread is free again when it has answered, whether or not somebody still waits for that.
        moonrest_rt::spawn(async move {
            if let Ok(answer) = answer.await {
                threads.idle.borrow_mut().push(thread);
                let _ = forward.send(answer);
            } else {
                threads.count.set(threads.count.get().saturating_sub(1));
            }
            drop(task);
        });
        Some(forwarded)
    }

    fn spawn(&self, vm: &WorkerVm) -> Option<mpsc::Sender<Job>> {
        if self.count.get() >= self.main.worker_thread_vm_pool_size() {
            return None;
        }
        let paths = (vm.vm.package_path().ok()?, vm.vm.package_cpath().ok()?);
        let (main, prefix) = (self.main.clone(), self.worker.http.prefix.clone());
        let log = self.worker.log.clone();
        let (sender, jobs) = mpsc::channel::<Job>();
        let started =
            thread::Builder::new().name("lua".into()).stack_size(THREAD_STACK_SIZE).spawn(move || {
                let made = WorkerVm::new(main, prefix, &log).and_then(|vm| {
                    vm.vm.set_package_path(&paths.0)?;
                    vm.vm.set_package_cpath(&paths.1)?;
                    Ok(vm)
                });
                for job in jobs {
                    let answer = match &made {
                        Ok(vm) => perform(vm, &job, &Host::without_request(LuaPhase::Init, log.clone())),
                        Err(error) => Err(lossy(error).into_bytes()),
                    };
                    // Nobody listens when the worker has ended.
                    let _ = job.reply.send(answer);
                    if let Ok(vm) = &made {
                        let _ = vm.vm.collect();
                    }
                }
            });
        started.ok()?;
        self.count.set(self.count.get() + 1);
        Some(sender)
    }
}

fn perform(vm: &WorkerVm, job: &Job, host: &Host) -> Answer {
    let answer = vm.vm.lend(host, 0, || {
        vm.vm.with(|stack| {
            let Value::Function(require) = stack.globals()?.get(stack, "require")? else {
                return Err(LuaError::exactly("require is no function"));
            };
            let module = stack.call(require, job.module.as_slice())?.value(stack, 0);
            let Value::Table(module) = module else { return Err(LuaError::exactly("invalid lua module")) };
            let Value::Function(function) = module.get(stack, job.function.as_slice())? else {
                return Err(LuaError::exactly("invalid function"));
            };
            let args = With(|stack: &Stack<'_>| job.args.iter().try_for_each(|arg| arg.push(stack)));
            let results = stack.call(function, args)?;
            let mut copies = Vec::with_capacity(results.len());
            for n in 0..results.len() {
                let value = results.value(stack, n);
                copies.push(stack.scope(|stack| Plain::copy(stack, value)));
            }
            Ok(copies)
        })
    });
    let copies: Result<Vec<_>, &str> =
        answer.map_err(|error| error.message().to_vec())?.into_iter().collect();
    copies.map_err(|problem| format!("{problem} in the return value").into_bytes())
}
