//! What a module is: tables of directives and variables, settings per block, handlers attached to locations.

use crate::{args::Args, location::LocationBuilder, phase::LocalBoxFuture, request::Request, worker::Worker};
use moonrest_core::{Arity, ConfResult, Contexts, Inherit, Template, set_once, var::VarDef};
use std::{any::Any, path::PathBuf, rc::Rc, sync::Arc};

/// One nginx module. Its name is nginx's without `ngx_http_` and `_module`.
pub trait HttpModule: Sized + Send + Sync + 'static {
    /// As in the inventory: `ngx_http_limit_req_module`.
    const NAME: &'static str;
    const DIRECTIVES: &'static [Directive<Self>] = &[];
    const VARIABLES: &'static [VarDef<Request>] = &[];
    /// Functions of one value.
    const VALUE_FUNCTIONS: &'static [ValueFunction] = &[];
    /// Settings of the whole `http` block.
    type Main: Default + Send + Sync;
    /// Settings of one block, inherited inwards.
    type Loc: Default + Clone + Inherit + Send + Sync;

    /// Called once after all directives are read and before anything is attached.
    ///
    /// # Errors
    /// A fault of the configuration as a whole.
    fn finish(_main: &mut Self::Main, _cx: &crate::compile::Compiler<'_>) -> ConfResult {
        Ok(())
    }

    /// Turns the merged settings of one block into handlers and filters. Called for the server's implicit location
    /// too, of which only post-read and server-rewrite handlers, and what answers early errors, are used.
    ///
    /// # Errors
    /// A fault of this block's settings.
    fn attach(_main: &Self::Main, _loc: &Arc<Self::Loc>, _to: &mut LocationBuilder<'_>) -> ConfResult {
        Ok(())
    }

    /// Called in each worker's thread before it accepts.
    ///
    /// # Errors
    /// Why the worker cannot serve; a generation that is starting is given up.
    fn start_worker(_main: &Arc<Self::Main>, _worker: &Rc<Worker>) -> Result<(), String> {
        Ok(())
    }

    /// Called in each worker's thread when it has drained (flush buffers). `None` when there is nothing to wait for.
    fn stop_worker(_main: &Arc<Self::Main>, _worker: &Rc<Worker>) -> Option<LocalBoxFuture<()>> {
        None
    }
}

/// A function of one value, which scripts may call: in Lua `ndk.set_var.NAME(value)`.
#[derive(Clone, Copy)]
pub struct ValueFunction {
    /// As the directive of that name: `set_escape_uri`.
    pub name: &'static str,
    /// Appends the result; `false` when there is none for this value. There is no request in a timer.
    pub call: fn(Option<&Request>, &[u8], &mut Vec<u8>) -> bool,
}

/// A row of a module's directive table.
pub struct Directive<M: HttpModule> {
    pub name: &'static str,
    pub contexts: Contexts,
    pub arity: Arity,
    pub set: Set<M>,
}

/// How a directive's arguments reach the settings.
pub enum Set<M: HttpModule> {
    Main(fn(&mut M::Main, &Args<'_>) -> ConfResult),
    Loc(fn(&mut M::Loc, &Args<'_>) -> ConfResult),
    Both(fn(&mut M::Main, &mut M::Loc, &Args<'_>) -> ConfResult),
    /// Compiles a block through [`Args::compiler`]; must not hold settings while inner directives are set.
    Block(fn(&Args<'_>) -> ConfResult),
    Flag(fn(&mut M::Loc) -> &mut Option<bool>),
    /// Bytes; `k`, `m`.
    Size(fn(&mut M::Loc) -> &mut Option<u64>),
    /// Bytes; `k`, `m`, `g`.
    Offset(fn(&mut M::Loc) -> &mut Option<u64>),
    Msec(fn(&mut M::Loc) -> &mut Option<u64>),
    Sec(fn(&mut M::Loc) -> &mut Option<u64>),
    Uint(fn(&mut M::Loc) -> &mut Option<u64>),
    /// A status between 400 and 599.
    Status(fn(&mut M::Loc) -> &mut Option<u16>),
    Template(fn(&mut M::Loc) -> &mut Option<Template>),
    Path(fn(&mut M::Loc) -> &mut Option<PathBuf>),
    Text(fn(&mut M::Loc) -> &mut Option<Box<[u8]>>),
    /// One of these words; its position is stored.
    Enum(&'static [&'static str], fn(&mut M::Loc) -> &mut Option<usize>),
    /// Accepted for compatibility, with its arguments checked by this function, and of no effect here.
    Accepted(fn(&Args<'_>) -> ConfResult),
}

impl<M: HttpModule> Directive<M> {
    /// A row with everything given.
    pub const fn new(name: &'static str, contexts: Contexts, arity: Arity, set: Set<M>) -> Self {
        Self { name, contexts, arity, set }
    }
    /// In `http`, setting the module's main settings.
    pub const fn main(
        name: &'static str,
        arity: Arity,
        set: fn(&mut M::Main, &Args<'_>) -> ConfResult,
    ) -> Self {
        Self::new(name, Contexts::HTTP, arity, Set::Main(set))
    }
    /// In `http`, `server` and `location`.
    pub const fn loc(
        name: &'static str,
        arity: Arity,
        set: fn(&mut M::Loc, &Args<'_>) -> ConfResult,
    ) -> Self {
        Self::new(name, Contexts::HSL, arity, Set::Loc(set))
    }
    /// `on | off` in `http`, `server` and `location`.
    pub const fn flag(name: &'static str, field: fn(&mut M::Loc) -> &mut Option<bool>) -> Self {
        Self::new(name, Contexts::HSL, Arity::exactly(1), Set::Flag(field))
    }
    /// A size in `http`, `server` and `location`.
    pub const fn size(name: &'static str, field: fn(&mut M::Loc) -> &mut Option<u64>) -> Self {
        Self::new(name, Contexts::HSL, Arity::exactly(1), Set::Size(field))
    }
    /// A time in milliseconds in `http`, `server` and `location`.
    pub const fn msec(name: &'static str, field: fn(&mut M::Loc) -> &mut Option<u64>) -> Self {
        Self::new(name, Contexts::HSL, Arity::exactly(1), Set::Msec(field))
    }
    /// A status between 400 and 599 in `http`, `server` and `location`.
    pub const fn status(name: &'static str, field: fn(&mut M::Loc) -> &mut Option<u16>) -> Self {
        Self::new(name, Contexts::HSL, Arity::exactly(1), Set::Status(field))
    }
    /// The same row for other contexts.
    #[must_use]
    pub const fn within(mut self, contexts: Contexts) -> Self {
        self.contexts = contexts;
        self
    }
    /// The same row for one more context.
    #[must_use]
    pub const fn also(mut self, contexts: Contexts) -> Self {
        self.contexts = self.contexts.or(contexts);
        self
    }
}

/// Settings of one block whose type only their module knows.
pub type AnyConf = Box<dyn Any + Send + Sync>;
/// Merged settings of one block.
pub type SharedConf = Arc<dyn Any + Send + Sync>;

/// The merged settings of all modules in one block, in the registry's order; shared with the blocks inside that have
/// none of their own.
pub type SharedConfs = Arc<[SharedConf]>;

/// What every directive table shows of a row.
#[derive(Clone, Copy, Debug)]
pub struct DirectiveInfo {
    pub name: &'static str,
    pub contexts: Contexts,
    pub arity: Arity,
}

/// A module without its types, as the registry lists it. Implemented for every [`HttpModule`].
pub trait ErasedModule: Send + Sync {
    fn name(&self) -> &'static str;
    fn directives(&self) -> Vec<DirectiveInfo>;
    fn variables(&self) -> &'static [VarDef<Request>];
    fn value_functions(&self) -> &'static [ValueFunction];
    fn new_main(&self) -> AnyConf;
    /// The setter of row `index`, if it compiles a block and so runs without settings at hand.
    fn block_setter(&self, index: usize) -> Option<fn(&Args<'_>) -> ConfResult>;
    /// Runs the setter of row `index`; the block's settings are made if it needs them.
    fn set(&self, index: usize, main: &mut AnyConf, loc: &mut Option<AnyConf>, args: &Args<'_>)
    -> ConfResult;
    /// Completes a block's settings from the enclosing block's.
    fn merge(&self, inner: AnyConf, outer: &SharedConf) -> SharedConf;
    /// The settings of the outermost block.
    fn outermost(&self, conf: Option<AnyConf>) -> SharedConf;
    fn finish(&self, main: &mut AnyConf, cx: &crate::compile::Compiler<'_>) -> ConfResult;
    fn share_main(&self, main: AnyConf) -> SharedConf;
    fn attach(&self, main: &SharedConf, loc: &SharedConf, to: &mut LocationBuilder<'_>) -> ConfResult;
    /// # Errors
    /// As [`HttpModule::start_worker`].
    fn start_worker(&self, main: &SharedConf, worker: &Rc<Worker>) -> Result<(), String>;
    fn stop_worker(&self, main: &SharedConf, worker: &Rc<Worker>) -> Option<LocalBoxFuture<()>>;
}

/// Stands for module `M` in the registry: `&Module::<LimitReq>::NEW`.
pub struct Module<M>(std::marker::PhantomData<fn() -> M>);

impl<M> Module<M> {
    pub const NEW: Self = Self(std::marker::PhantomData);
}

/// Settings always come back as the type their own module made; this cannot fail.
const WRONG_TYPE: &str = "settings of another module";

impl<M: HttpModule> ErasedModule for Module<M> {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn directives(&self) -> Vec<DirectiveInfo> {
        let info = |d: &Directive<M>| DirectiveInfo { name: d.name, contexts: d.contexts, arity: d.arity };
        M::DIRECTIVES.iter().map(info).collect()
    }

    fn variables(&self) -> &'static [VarDef<Request>] {
        M::VARIABLES
    }

    fn value_functions(&self) -> &'static [ValueFunction] {
        M::VALUE_FUNCTIONS
    }

    fn new_main(&self) -> AnyConf {
        Box::new(M::Main::default())
    }

    fn block_setter(&self, index: usize) -> Option<fn(&Args<'_>) -> ConfResult> {
        match M::DIRECTIVES[index].set {
            Set::Block(set) => Some(set),
            _ => None,
        }
    }

    fn set(
        &self,
        index: usize,
        main: &mut AnyConf,
        loc: &mut Option<AnyConf>,
        args: &Args<'_>,
    ) -> ConfResult {
        let main = main.downcast_mut::<M::Main>().expect(WRONG_TYPE);
        match &M::DIRECTIVES[index].set {
            Set::Main(set) => return set(main, args),
            Set::Block(set) | Set::Accepted(set) => return set(args),
            _ => {}
        }
        let loc = loc.get_or_insert_with(|| Box::new(M::Loc::default()));
        let loc = loc.downcast_mut::<M::Loc>().expect(WRONG_TYPE);
        match &M::DIRECTIVES[index].set {
            Set::Main(set) => set(main, args),
            Set::Loc(set) => set(loc, args),
            Set::Both(set) => set(main, loc, args),
            Set::Flag(field) => set_once(field(loc), args.flag(0)?),
            Set::Size(field) => set_once(field(loc), args.size(0)?),
            Set::Offset(field) => set_once(field(loc), args.offset(0)?),
            Set::Msec(field) => set_once(field(loc), args.msec(0)?),
            Set::Sec(field) => set_once(field(loc), args.sec(0)?),
            Set::Uint(field) => set_once(field(loc), args.uint(0)?),
            Set::Status(field) => set_once(field(loc), args.status(0)?),
            Set::Template(field) => set_once(field(loc), args.template(0)?),
            Set::Path(field) => set_once(field(loc), args.path(0)?),
            Set::Text(field) => set_once(field(loc), args.bytes(0)?.into()),
            Set::Enum(words, field) => set_once(field(loc), args.choice(0, words)?),
            Set::Block(set) | Set::Accepted(set) => set(args),
        }
    }

    fn merge(&self, inner: AnyConf, outer: &SharedConf) -> SharedConf {
        let mut inner = *inner.downcast::<M::Loc>().expect(WRONG_TYPE);
        inner.inherit(outer.downcast_ref::<M::Loc>().expect(WRONG_TYPE));
        Arc::new(inner)
    }

    fn outermost(&self, conf: Option<AnyConf>) -> SharedConf {
        match conf {
            Some(conf) => Arc::<M::Loc>::from(conf.downcast::<M::Loc>().expect(WRONG_TYPE)),
            None => Arc::new(M::Loc::default()),
        }
    }

    fn finish(&self, main: &mut AnyConf, cx: &crate::compile::Compiler<'_>) -> ConfResult {
        M::finish(main.downcast_mut::<M::Main>().expect(WRONG_TYPE), cx)
    }

    fn share_main(&self, main: AnyConf) -> SharedConf {
        Arc::<M::Main>::from(main.downcast::<M::Main>().expect(WRONG_TYPE))
    }

    fn attach(&self, main: &SharedConf, loc: &SharedConf, to: &mut LocationBuilder<'_>) -> ConfResult {
        let main = main.downcast_ref::<M::Main>().expect(WRONG_TYPE);
        let loc = loc.clone().downcast::<M::Loc>().expect(WRONG_TYPE);
        M::attach(main, &loc, to)
    }

    fn start_worker(&self, main: &SharedConf, worker: &Rc<Worker>) -> Result<(), String> {
        M::start_worker(&main.clone().downcast::<M::Main>().expect(WRONG_TYPE), worker)
    }

    fn stop_worker(&self, main: &SharedConf, worker: &Rc<Worker>) -> Option<LocalBoxFuture<()>> {
        M::stop_worker(&main.clone().downcast::<M::Main>().expect(WRONG_TYPE), worker)
    }
}
