//! The directives of `ngx_http_lua_module`.
//! <https://github.com/openresty/lua-nginx-module#directives>

use crate::{
    code::{Code, Source},
    filter::LuaHeaderFilter,
    handler::{LuaHandler, LuaLog},
    host::LuaPhase,
    shdict, vm,
};
use moonrest_core::zone::dict::Dict;
use moonrest_http::prelude::*;

/// Lua in every phase.
pub struct HttpLua;

/// What belongs to the whole `http` block.
#[derive(Default)]
pub struct Main {
    pub(crate) package_path: Option<Box<[u8]>>,
    pub(crate) package_cpath: Option<Box<[u8]>>,
    /// `lua_shared_dict`
    pub(crate) dicts: Vec<Arc<Dict>>,
    init: Option<Arc<Code>>,
    init_worker: Option<Arc<Code>>,
    /// Something in the configuration needs a VM.
    used: bool,
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    server_rewrite: Option<Arc<Code>>,
    rewrite: Option<Arc<Code>>,
    access: Option<Arc<Code>>,
    precontent: Option<Arc<Code>>,
    /// Not inherited: it answers in its own location alone.
    content: OwnContent,
    header_filter: Option<Arc<Code>>,
    log: Option<Arc<Code>>,
}

#[derive(Clone, Default)]
struct OwnContent(Option<Arc<Code>>);

inherit!(Loc { server_rewrite, rewrite, access, precontent, header_filter, log });

type D = Directive<HttpLua>;

const HS: Contexts = Contexts::HTTP.or(Contexts::SERVER);
const HSLI: Contexts = Contexts::HSL.or(Contexts::IF);
const LI: Contexts = Contexts::LOCATION.or(Contexts::IF);
const LUA: Arity = Arity::Lua { min: 0, max: 0 };
const ONE: Arity = Arity::exactly(1);

const fn both(name: &'static str, contexts: Contexts, arity: Arity, set: Setter) -> D {
    D::new(name, contexts, arity, Set::Both(set))
}

type Setter = fn(&mut Main, &mut Loc, &Args<'_>) -> ConfResult;

macro_rules! phase_rows {
    ($($field:ident $contexts:ident $text:literal $block:literal $file:literal),* $(,)?) => {
        &[
            both("lua_package_path", Contexts::HTTP, ONE, |m, _, a| set_once(&mut m.package_path, a.bytes(0)?.into())),
            both("lua_package_cpath", Contexts::HTTP, ONE, |m, _, a| set_once(&mut m.package_cpath, a.bytes(0)?.into())),
            D::main("lua_shared_dict", Arity::exactly(2), shdict::lua_shared_dict),
            both("init_by_lua", Contexts::HTTP, ONE, |m, _, a| m.once(a, |m| &mut m.init)),
            both("init_by_lua_block", Contexts::HTTP, LUA, |m, _, a| m.once(a, |m| &mut m.init)),
            both("init_by_lua_file", Contexts::HTTP, ONE, |m, _, a| m.once(a, |m| &mut m.init)),
            both("init_worker_by_lua", Contexts::HTTP, ONE, |m, _, a| m.once(a, |m| &mut m.init_worker)),
            both("init_worker_by_lua_block", Contexts::HTTP, LUA, |m, _, a| m.once(a, |m| &mut m.init_worker)),
            both("init_worker_by_lua_file", Contexts::HTTP, ONE, |m, _, a| m.once(a, |m| &mut m.init_worker)),
            $(
                both($text, $contexts, ONE, |m, l, a| m.handler(a, &mut l.$field)),
                both($block, $contexts, LUA, |m, l, a| m.handler(a, &mut l.$field)),
                both($file, $contexts, ONE, |m, l, a| m.handler(a, &mut l.$field)),
            )*
            both("content_by_lua", LI, ONE, |m, l, a| m.handler(a, &mut l.content.0)),
            both("content_by_lua_block", LI, LUA, |m, l, a| m.handler(a, &mut l.content.0)),
            both("content_by_lua_file", LI, ONE, |m, l, a| m.handler(a, &mut l.content.0)),
            both("server_rewrite_by_lua_block", HS, LUA, |m, l, a| m.handler(a, &mut l.server_rewrite)),
            both("server_rewrite_by_lua_file", HS, ONE, |m, l, a| m.handler(a, &mut l.server_rewrite)),
            both("precontent_by_lua_block", HSLI, LUA, |m, l, a| m.handler(a, &mut l.precontent)),
            both("precontent_by_lua_file", HSLI, ONE, |m, l, a| m.handler(a, &mut l.precontent)),
        ]
    };
}

impl HttpModule for HttpLua {
    const NAME: &'static str = "ngx_http_lua_module";
    const DIRECTIVES: &'static [D] = phase_rows![
        rewrite HSLI "rewrite_by_lua" "rewrite_by_lua_block" "rewrite_by_lua_file",
        access HSLI "access_by_lua" "access_by_lua_block" "access_by_lua_file",
        header_filter HSLI "header_filter_by_lua" "header_filter_by_lua_block" "header_filter_by_lua_file",
        log HSLI "log_by_lua" "log_by_lua_block" "log_by_lua_file",
    ];
    type Main = Main;
    type Loc = Loc;

    fn attach(_: &Main, loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        let mut on = |phase, code: &Option<Arc<Code>>, lua| {
            if let Some(code) = code {
                to.on(phase, LuaHandler::new(code.clone(), lua));
            }
        };
        on(Phase::ServerRewrite, &loc.server_rewrite, LuaPhase::ServerRewrite);
        on(Phase::Rewrite, &loc.rewrite, LuaPhase::Rewrite);
        on(Phase::Access, &loc.access, LuaPhase::Access);
        on(Phase::Precontent, &loc.precontent, LuaPhase::Precontent);
        if let Some(code) = &loc.content.0 {
            to.content(LuaHandler::new(code.clone(), LuaPhase::Content));
        }
        if let Some(code) = &loc.header_filter {
            to.header_filter(HeaderOrder::Lua, LuaHeaderFilter(code.clone()));
        }
        if let Some(code) = &loc.log {
            to.log(LuaLog(code.clone()));
        }
        Ok(())
    }

    fn start_worker(main: &Arc<Main>, worker: &Worker) {
        if main.used {
            vm::start(main, worker);
            for code in [(&main.init, LuaPhase::Init), (&main.init_worker, LuaPhase::InitWorker)] {
                if let (Some(code), phase) = code {
                    vm::run_outside_requests(code, phase, worker);
                }
            }
        }
    }

    fn stop_worker(_: &Arc<Main>, _: &Worker) {
        vm::stop();
    }
}

impl Main {
    fn once(&mut self, args: &Args<'_>, field: fn(&mut Self) -> &mut Option<Arc<Code>>) -> ConfResult {
        self.used = true;
        let code = code(args)?;
        set_once(field(self), code)
    }

    fn handler(&mut self, args: &Args<'_>, field: &mut Option<Arc<Code>>) -> ConfResult {
        self.used = true;
        set_once(field, code(args)?)
    }
}

/// The code a directive names: its block, its text or its file.
fn code(args: &Args<'_>) -> ConfResult<Arc<Code>> {
    let name = args.name();
    if name.ends_with("_file") {
        let word = args.word(0)?;
        let text = if word.text.starts_with(b"$") || word.text.starts_with(b"/") {
            word.text.to_vec()
        } else {
            args.env.full_path(&word.text)?.into_os_string().into_encoded_bytes()
        };
        let path = Template::parse(&text, |name| args.vars.reference(name, Some(word.span)))?;
        return Ok(Arc::new(Code::new(Source::File(path))));
    }
    let base = name.strip_suffix("_block").unwrap_or(name);
    let (text, span) = match args.lua() {
        Some(word) => (&word.text, word.span),
        None => (&args.word(0)?.text, args.span()),
    };
    let file = args.env.file_name(span);
    let name = format!("{base}({file}:{})", span.line);
    check(&name, text)?;
    Ok(Arc::new(Code::new(Source::Inline { name, text: text.clone() })))
}

/// Reports syntax errors when the configuration is read, with file and line.
fn check(name: &str, text: &[u8]) -> ConfResult {
    vm::check(name, text).map_err(|error| {
        Fault::message(format!(
            "failed to load inlined Lua code: {}",
            String::from_utf8_lossy(error.message())
        ))
    })
}
