//! From the `http` block to an immutable [`Http`]: blocks are numbered, directives set, settings merged inwards,
//! handlers attached.

use crate::{
    args::Args,
    core::{self, Core, CoreLoc, CoreMain, ServerSettings},
    listen::{Listener, Speaks},
    location::{LocId, Location, LocationBuilder, LocationKind, Matcher, Server, ServerId},
    module::{AnyConf, DirectiveInfo, ErasedModule, SharedConf, SharedConfs},
    regex::CapturingRegex,
    request::Request,
    script::ScriptOp,
};
use hashbrown::{HashMap, HashSet};
use moonrest_core::{
    Arity, ConfResult, ConfigError, Contexts, Env, Fault, Log, Span, VarTable, Variables,
    conf::{Body, Directive, did_you_mean},
};
use std::{cell::RefCell, sync::Arc};

/// A block's number while compiling. Outer blocks have smaller numbers than the blocks inside them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct BlockId(pub u32);

/// The modules, in order of execution; the core module is first.
pub type Registry = &'static [&'static dyn ErasedModule];

/// A compiled `http` block: what workers serve.
pub struct Http {
    pub servers: Vec<Server>,
    pub locations: Vec<Location>,
    pub vars: VarTable<Request>,
    pub listeners: Vec<Listener>,
    /// Main settings of every module, in the registry's order.
    pub mains: Vec<SharedConf>,
    pub registry: Registry,
    /// The `conf` prefix and `-p` prefix, for what is resolved at run time.
    pub prefix: std::path::PathBuf,
    pub conf_prefix: std::path::PathBuf,
    /// `$hostname`.
    pub hostname: Box<str>,
}

impl Http {
    /// A location by its number.
    pub fn location(&self, id: LocId) -> &Location {
        &self.locations[id.0 as usize]
    }

    /// A server by its number.
    pub fn server(&self, id: ServerId) -> &Server {
        &self.servers[id.0 as usize]
    }

    /// The main settings of the module whose `Main` is `T`.
    pub fn main<T: 'static>(&self) -> Option<&T> {
        self.mains.iter().find_map(|main| main.downcast_ref::<T>())
    }
}

/// What kind of block stands where.
pub(crate) struct Block {
    pub kind: BlockKind,
    pub parent: Option<BlockId>,
    pub span: Span,
    /// The enclosing `server`.
    pub server: Option<BlockId>,
    /// Settings written in it, by the numbers of their modules: most blocks have few.
    confs: Vec<(usize, AnyConf)>,
    script: Vec<Box<dyn ScriptOp>>,
    /// Locations directly inside.
    pub children: Vec<BlockId>,
    /// The names of those that match exactly, and of those that match the beginning: each may be there once.
    pub exact: HashSet<Box<[u8]>>,
    pub prefixes: HashSet<Box<[u8]>>,
    pub limit_except: Option<(u32, BlockId)>,
}

impl Block {
    /// Takes what is set of a module here.
    fn take_conf(&mut self, module: usize) -> Option<AnyConf> {
        let at = self.confs.iter().position(|(known, _)| *known == module)?;
        Some(self.confs.swap_remove(at).1)
    }
}

/// A block's kind and, for locations, what it matches.
pub(crate) enum BlockKind {
    Http,
    Server,
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    PrefixFinal(Box<[u8]>),
    Regex(Box<[u8]>, CapturingRegex),
    Named(Box<[u8]>),
    Unnamed,
}

/// The compilation of one `http` block.
pub struct Compiler<'a> {
    pub env: &'a Env<'a>,
    pub vars: Variables<Request>,
    registry: Registry,
    rows: HashMap<&'static str, Vec<(usize, usize, DirectiveInfo)>>,
    /// Directives that others read, which may not stand here.
    foreign: RefCell<HashMap<&'static str, Contexts>>,
    mains: RefCell<Vec<Option<AnyConf>>>,
    pub(crate) blocks: RefCell<Vec<Block>>,
    /// Servers whose clients may send CONNECT.
    connects: RefCell<HashSet<BlockId>>,
    /// Where the settings are that a module has asked about.
    pub(crate) known: RefCell<HashSet<usize>>,
    /// Directories for temporary files that modules need.
    pub(crate) temp_dirs: RefCell<Vec<Vec<u8>>>,
    /// The `error_log` of the main level.
    pub main_log: Arc<Log>,
}

/// The outermost block.
pub const HTTP: BlockId = BlockId(0);

impl<'a> Compiler<'a> {
    /// A compiler that knows the modules' tables.
    pub fn new(env: &'a Env<'a>, registry: Registry, main_log: Arc<Log>) -> Self {
        let vars = Variables::default();
        let mut rows: HashMap<&'static str, Vec<(usize, usize, DirectiveInfo)>> = HashMap::new();
        for (number, module) in registry.iter().enumerate() {
            vars.declare(module.variables());
            for (row, info) in module.directives().into_iter().enumerate() {
                rows.entry(info.name).or_default().push((number, row, info));
            }
        }
        let mains = registry.iter().map(|module| Some(module.new_main())).collect();
        Self {
            env,
            vars,
            registry,
            rows,
            foreign: RefCell::default(),
            mains: RefCell::new(mains),
            blocks: RefCell::default(),
            connects: RefCell::default(),
            known: RefCell::default(),
            temp_dirs: RefCell::default(),
            main_log,
        }
    }

    /// Makes known what stands outside of `http`, so that it is called misplaced and not unknown.
    pub fn know(&self, outside: &[DirectiveInfo]) {
        self.foreign.borrow_mut().extend(outside.iter().map(|info| (info.name, info.contexts)));
    }

    /// Compiles the `http` directive. Errors are reported to the environment; `None` when there was one.
    pub fn compile(self, http: &Directive) -> Option<Http> {
        self.new_block(BlockKind::Http, None, http.span);
        if let Body::Block(directives) = &http.body {
            self.directives(HTTP, Contexts::HTTP, directives);
        }
        if self.failed() {
            return None;
        }
        self.finish_modules();
        let merged = self.merge();
        if self.failed() {
            return None;
        }
        self.build(merged)
    }

    fn failed(&self) -> bool {
        self.env.errors.borrow().iter().any(|error| error.level <= moonrest_core::conf::Level::Emerg)
    }

    pub(crate) fn new_block(&self, kind: BlockKind, parent: Option<BlockId>, span: Span) -> BlockId {
        let mut blocks = self.blocks.borrow_mut();
        let id = BlockId(u32::try_from(blocks.len()).unwrap_or(u32::MAX));
        let server = match kind {
            BlockKind::Server => Some(id),
            _ => parent.and_then(|parent| blocks[parent.0 as usize].server),
        };
        blocks.push(Block {
            kind,
            parent,
            span,
            server,
            confs: Vec::new(),
            script: Vec::new(),
            children: Vec::new(),
            exact: HashSet::new(),
            prefixes: HashSet::new(),
            limit_except: None,
        });
        id
    }

    /// Calls `f` with a block.
    pub(crate) fn with_block<R>(&self, id: BlockId, f: impl FnOnce(&mut Block) -> R) -> R {
        f(&mut self.blocks.borrow_mut()[id.0 as usize])
    }

    /// Sets `directives` in `block`.
    pub fn directives(&self, block: BlockId, context: Contexts, directives: &[Directive]) {
        for directive in directives {
            if let Err(mut error) = self.directive(block, context, directive) {
                if error.order == 0 {
                    error.order = directive.order;
                }
                self.env.errors.borrow_mut().push(error);
            }
        }
    }

    fn directive(&self, block: BlockId, context: Contexts, directive: &Directive) -> Result<(), ConfigError> {
        let name = directive.name.as_str().unwrap_or_default();
        let Some(rows) = self.rows.get(name) else {
            return Err(self.unknown(directive));
        };
        let Some((module, row, info)) = rows.iter().find(|(_, _, info)| info.contexts.overlaps(context))
        else {
            return Err(misplaced(directive, rows.iter().map(|(_, _, info)| info.contexts)));
        };
        check_form(directive, info)?;
        let args = Args {
            base: moonrest_core::Args { directive, env: self.env, vars: &self.vars },
            compiler: self,
            block,
            context,
        };
        self.apply(*module, *row, block, &args).map_err(|fault| fault.at(name, directive.span))
    }

    fn unknown(&self, directive: &Directive) -> ConfigError {
        let name = directive.name.lossy();
        if let Some(contexts) = self.foreign.borrow().get(&*name) {
            return misplaced(directive, [*contexts].into_iter());
        }
        let mut error = ConfigError::emerg(format!("unknown directive \"{name}\"")).with_span(directive.span);
        error.note =
            did_you_mean(&name, self.rows.keys().copied()).map(|near| format!("did you mean \"{near}\"?"));
        error
    }

    fn apply(&self, module: usize, row: usize, block: BlockId, args: &Args<'_>) -> ConfResult {
        let erased = self.registry[module];
        if let Some(set) = erased.block_setter(row) {
            return set(args);
        }
        // Taken out meanwhile, so that the setter may look at everything else.
        let main = self.mains.borrow_mut()[module].take();
        let mut loc = self.with_block(block, |block| block.take_conf(module));
        let mut main = main.unwrap_or_else(|| erased.new_main());
        let result = erased.set(row, &mut main, &mut loc, args);
        self.mains.borrow_mut()[module] = Some(main);
        if let Some(loc) = loc {
            self.with_block(block, |block| block.confs.push((module, loc)));
        }
        result
    }

    pub(crate) fn push_script(&self, block: BlockId, op: Box<dyn ScriptOp>) {
        self.with_block(block, |block| block.script.push(op));
    }

    /// A new unnamed block inside `parent`, with the directives of `directive`'s body.
    pub(crate) fn sub_block(&self, parent: BlockId, context: Contexts, directive: &Directive) -> BlockId {
        let id = self.new_block(BlockKind::Unnamed, Some(parent), directive.span);
        if let Body::Block(directives) = &directive.body {
            self.directives(id, context, directives);
        }
        id
    }

    /// Calls `f` with the main settings of the module whose `Main` is `T`, if it is not being set right now.
    pub fn with_main<T: 'static, R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        let mut mains = self.mains.borrow_mut();
        mains.iter_mut().flatten().find_map(|main| main.downcast_mut::<T>()).map(f)
    }

    /// The `server` block around a block.
    pub fn server_of(&self, block: BlockId) -> Option<BlockId> {
        self.blocks.borrow().get(block.0 as usize)?.server
    }

    /// Lets clients send CONNECT to the server around a block.
    pub fn allow_connect(&self, block: BlockId) {
        self.connects.borrow_mut().extend(self.server_of(block));
    }

    pub(crate) fn allows_connect(&self, server: BlockId) -> bool {
        self.connects.borrow().contains(&server)
    }

    /// The name of a location, and whether it is a plain prefix or exact name, part of which a handler may replace.
    pub fn location_name(&self, block: BlockId) -> (Box<[u8]>, bool) {
        self.with_block(block, |block| match &block.kind {
            BlockKind::Exact(name) | BlockKind::Prefix(name) | BlockKind::PrefixFinal(name) => {
                (name.clone(), true)
            }
            _ => (Box::default(), false),
        })
    }

    /// The names of a `server` block; complete once all directives are read.
    pub fn server_names(&self, server: BlockId) -> Vec<crate::listen::ServerName> {
        let of_server = |main: &mut CoreMain| {
            main.names.iter().filter(|(id, _)| *id == server).map(|(_, name)| name.clone()).collect()
        };
        self.with_main(of_server).unwrap_or_default()
    }

    /// `resolver` and `resolver_timeout` of the `http` block itself.
    pub fn http_resolver(&self) -> (Option<Arc<moonrest_net::resolver::Settings>>, Option<u64>) {
        self.with_block(HTTP, |block| {
            let conf = block.confs.iter().find(|(module, _)| *module == core::MODULE);
            let conf = conf.and_then(|(_, conf)| conf.downcast_ref::<CoreLoc>());
            conf.map_or((None, None), |conf| (conf.resolver.clone(), conf.resolver_timeout))
        })
    }

    fn finish_modules(&self) {
        for (number, module) in self.registry.iter().enumerate() {
            let Some(mut main) = self.mains.borrow_mut()[number].take() else { continue };
            if let Err(fault) = module.finish(&mut main, self) {
                self.env.errors.borrow_mut().push(fault.nowhere());
            }
            self.mains.borrow_mut()[number] = Some(main);
        }
    }

    /// Completes the settings of every block from outside in.
    fn merge(&self) -> Vec<SharedConfs> {
        let mut blocks = self.blocks.borrow_mut();
        let mut merged: Vec<SharedConfs> = Vec::with_capacity(blocks.len());
        for block in blocks.iter_mut() {
            let confs = match block.parent.and_then(|parent| merged.get(parent.0 as usize)) {
                // A block without settings of its own has those around it.
                Some(outer) if block.confs.is_empty() => outer.clone(),
                Some(outer) => {
                    let mut confs = outer.to_vec();
                    for (number, conf) in block.confs.drain(..) {
                        confs[number] = self.registry[number].merge(conf, &outer[number]);
                    }
                    confs.into()
                }
                None => {
                    let modules = self.registry.iter().enumerate();
                    modules.map(|(number, module)| module.outermost(block.take_conf(number))).collect()
                }
            };
            merged.push(confs);
        }
        merged
    }

    fn build(self, merged: Vec<SharedConfs>) -> Option<Http> {
        let mains: Vec<SharedConf> = {
            let mut mains = self.mains.borrow_mut();
            self.registry
                .iter()
                .zip(mains.iter_mut())
                .map(|(module, main)| module.share_main(main.take().unwrap_or_else(|| module.new_main())))
                .collect()
        };
        // Every block but `http` becomes a location; numbers follow the blocks'.
        let location_of = |block: BlockId| LocId(block.0.saturating_sub(1));
        let count = self.blocks.borrow().len();
        let mut locations: Vec<Location> = Vec::with_capacity(count);
        // Core settings that equal the enclosing block's are shared with it.
        let mut cores: Vec<Option<Arc<Core>>> = vec![None; count];
        for index in (1..count).rev() {
            let id = BlockId(u32::try_from(index).unwrap_or(u32::MAX));
            match self.build_location(id, &merged, &mains, &locations, &mut cores, &location_of) {
                Ok(location) => locations.push(location),
                Err(error) => {
                    self.env.errors.borrow_mut().push(error);
                    return None;
                }
            }
        }
        locations.reverse();
        self.make_dirs(&locations);
        let servers = self.servers(&merged, &location_of);
        let speaks_tls = |block: BlockId| match &locations[location_of(block).0 as usize].tls {
            Some(tls) if tls.configs.is_some() => Speaks::Yes,
            Some(tls) if tls.reject => Speaks::Rejects,
            _ => Speaks::No,
        };
        let listeners = match mains.iter().find_map(|main| main.downcast_ref::<CoreMain>()) {
            Some(main) => match crate::listen::group(main, &servers.1, &speaks_tls, self.env) {
                Ok(listeners) => listeners,
                Err(error) => {
                    self.env.errors.borrow_mut().push(error);
                    return None;
                }
            },
            None => Vec::new(),
        };
        if self.failed() {
            return None;
        }
        let Self { env, vars, registry, .. } = self;
        let vars = match vars.finish() {
            Ok(vars) => vars,
            Err(unknown) => {
                let mut errors = env.errors.borrow_mut();
                for (message, span) in unknown {
                    let error = ConfigError::emerg(message);
                    errors.push(match span {
                        Some(span) => error.with_span(span),
                        None => error,
                    });
                }
                return None;
            }
        };
        Some(Http {
            servers: servers.0,
            locations,
            vars,
            listeners,
            mains,
            registry,
            prefix: env.prefix.clone(),
            conf_prefix: env.conf_prefix.clone(),
            hostname: moonrest_sys::host::name().into(),
        })
    }

    /// Builds one block. Blocks are built from the last to the first, so that inner ones exist before outer ones;
    /// `built` holds them in reverse.
    fn build_location(
        &self,
        id: BlockId,
        merged: &[SharedConfs],
        mains: &[SharedConf],
        built: &[Location],
        cores: &mut [Option<Arc<Core>>],
        location_of: &dyn Fn(BlockId) -> LocId,
    ) -> Result<Location, ConfigError> {
        let index = id.0 as usize;
        let count = merged.len();
        let (mut script, children, limit_except, span, parent) = self.with_block(id, |block| {
            (
                std::mem::take(&mut block.script),
                block.children.clone(),
                block.limit_except,
                block.span,
                block.parent,
            )
        });
        for op in &mut script {
            op.resolve(location_of);
        }
        let core = self.core_of(index, parent, merged, cores);
        let built_at = |child: BlockId| &built[count - 1 - child.0 as usize];
        let matcher = self.matcher(&children, &built_at, location_of);
        let blocks = self.blocks.borrow();
        let (kind, name): (_, &[u8]) = match &blocks[index].kind {
            BlockKind::Http | BlockKind::Server => (LocationKind::Server, b""),
            BlockKind::Exact(name) => (LocationKind::Exact, name),
            BlockKind::Prefix(name) => (LocationKind::Prefix, name),
            BlockKind::PrefixFinal(name) => (LocationKind::PrefixFinal, name),
            BlockKind::Regex(name, _) => (LocationKind::Regex, name),
            BlockKind::Named(name) => (LocationKind::Named, name),
            BlockKind::Unnamed => (LocationKind::Unnamed, b""),
        };
        let mut builder = LocationBuilder::new(self, id, kind, name, core);
        for (number, module) in self.registry.iter().enumerate() {
            module
                .attach(&mains[number], &merged[index][number], &mut builder)
                .map_err(|fault| fault.at(module.name(), span))?;
        }
        let limit_except = limit_except.map(|(methods, block)| (methods, location_of(block)));
        Ok(builder.finish(script, matcher, limit_except, merged[index].clone()))
    }

    /// Makes the directories that bodies are written to.
    fn make_dirs(&self, locations: &[Location]) {
        let mut made: Vec<&[u8]> = Vec::new();
        let others = self.temp_dirs.borrow();
        let bodies = locations.iter().map(|location| &*location.core.client_body_temp_path.path);
        for path in bodies.chain(others.iter().map(|path| &**path)) {
            if made.contains(&path) {
                continue;
            }
            made.push(path);
            let result = moonrest_sys::path::from_bytes(path)
                .map_err(|_| Fault::message("a path contains a zero byte"))
                .and_then(|path| self.env.make_dir(path));
            if let Err(fault) = result {
                self.env.errors.borrow_mut().push(fault.nowhere());
            }
        }
    }

    fn core_of(
        &self,
        index: usize,
        parent: Option<BlockId>,
        merged: &[SharedConfs],
        cores: &mut [Option<Arc<Core>>],
    ) -> Arc<Core> {
        if let Some(core) = &cores[index] {
            return core.clone();
        }
        let conf = &merged[index][core::MODULE];
        if let Some(parent) = parent {
            let outer = parent.0 as usize;
            if Arc::ptr_eq(conf, &merged[outer][core::MODULE]) {
                let grand = self.blocks.borrow()[outer].parent;
                let shared = self.core_of(outer, grand, merged, cores);
                cores[index] = Some(shared.clone());
                return shared;
            }
        }
        let made = Arc::new(match conf.downcast_ref::<CoreLoc>() {
            Some(conf) => Core::resolve(conf, self),
            None => Core::resolve(&CoreLoc::default(), self),
        });
        cores[index] = Some(made.clone());
        made
    }

    fn matcher<'b>(
        &self,
        children: &[BlockId],
        built_at: &dyn Fn(BlockId) -> &'b Location,
        location_of: &dyn Fn(BlockId) -> LocId,
    ) -> Matcher {
        let blocks = self.blocks.borrow();
        let mut names = Vec::new();
        let mut regexes = Vec::new();
        for &child in children {
            let id = location_of(child);
            match &blocks[child.0 as usize].kind {
                BlockKind::Exact(name) => names.push((name.clone(), true, built_at(child).auto_redirect, id)),
                BlockKind::Prefix(name) | BlockKind::PrefixFinal(name) => {
                    names.push((name.clone(), false, built_at(child).auto_redirect, id));
                }
                BlockKind::Regex(_, regex) => regexes.push((regex.clone(), id)),
                _ => {}
            }
        }
        Matcher::new(names, regexes)
    }

    fn servers(
        &self,
        merged: &[SharedConfs],
        location_of: &dyn Fn(BlockId) -> LocId,
    ) -> (Vec<Server>, HashMap<BlockId, ServerId>) {
        let blocks = self.blocks.borrow();
        let mut servers = Vec::new();
        let mut numbers = HashMap::new();
        for (index, block) in blocks.iter().enumerate() {
            if !matches!(block.kind, BlockKind::Server) {
                continue;
            }
            let id = BlockId(u32::try_from(index).unwrap_or(u32::MAX));
            numbers.insert(id, ServerId(u32::try_from(servers.len()).unwrap_or(u32::MAX)));
            let mut named = crate::location::NamedLocations::default();
            for &child in &block.children {
                if let BlockKind::Named(name) = &blocks[child.0 as usize].kind {
                    named.entry(name.clone()).or_insert_with(|| location_of(child));
                }
            }
            let settings = merged[index][core::MODULE]
                .downcast_ref::<CoreLoc>()
                .map(|conf| ServerSettings::resolve(conf, id, self))
                .unwrap_or_default();
            servers.push(Server {
                name: settings.name.clone(),
                location: location_of(id),
                named,
                settings: Arc::new(settings),
            });
        }
        (servers, numbers)
    }
}

fn misplaced(directive: &Directive, contexts: impl Iterator<Item = Contexts>) -> ConfigError {
    let contexts = contexts.flat_map(Contexts::names).collect::<Vec<_>>();
    ConfigError::emerg(format!("\"{}\" directive is not allowed here", directive.name.lossy()))
        .at(directive)
        .with_note(format!("it may stand in: {}", contexts.join(", ")))
}

/// Checks the number of words and whether a block follows, with nginx's texts.
///
/// # Errors
/// See above.
pub fn check_form(directive: &Directive, info: &DirectiveInfo) -> Result<(), ConfigError> {
    let name = info.name;
    let wants_block = matches!(info.arity, Arity::Block { .. } | Arity::Lua { .. });
    let has_block = !matches!(directive.body, Body::None);
    if wants_block && !has_block {
        return Err(ConfigError::emerg(format!("directive \"{name}\" has no opening \"{{\"")).at(directive));
    }
    if !wants_block && has_block {
        return Err(
            ConfigError::emerg(format!("directive \"{name}\" is not terminated by \";\"")).at(directive)
        );
    }
    let (min, max) = info.arity.bounds();
    if directive.args.len() < min || directive.args.len() > max {
        let message = format!("invalid number of arguments in \"{name}\" directive");
        return Err(ConfigError::emerg(message).at(directive));
    }
    Ok(())
}
