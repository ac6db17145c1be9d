//! The core module's directives.

use super::{
    CoreLoc, HttpCore, blocks, error_page,
    settings::{Aio, DisableSymlinks, OpenFileCache, Root, ServerTokens},
};
use crate::{
    args::Args,
    compile::BlockKind,
    gzip, listen,
    module::{Directive, Set},
    types,
};
use moonrest_core::{Arity, ConfResult, Contexts, Fault, Template, set_once};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

type D = Directive<HttpCore>;

const HS: Contexts = Contexts::HTTP.or(Contexts::SERVER);
const HSL_IF: Contexts = Contexts::HSL.or(Contexts::IF);

pub(super) const TABLE: &[D] = &[
    D::new("server", Contexts::HTTP, Arity::Block { min: 0, max: 0 }, Set::Block(blocks::server)),
    D::new(
        "location",
        Contexts::SERVER.or(Contexts::LOCATION),
        Arity::Block { min: 1, max: 2 },
        Set::Block(blocks::location),
    ),
    D::new(
        "limit_except",
        Contexts::LOCATION,
        Arity::Block { min: 1, max: u8::MAX },
        Set::Block(blocks::limit_except),
    ),
    D::new("listen", Contexts::SERVER, Arity::at_least(1), Set::Both(listen::set_listen)),
    D::new("server_name", Contexts::SERVER, Arity::at_least(1), Set::Both(listen::set_server_name)),
    D::loc("root", Arity::exactly(1), root).within(HSL_IF),
    D::loc("alias", Arity::exactly(1), root).within(Contexts::LOCATION),
    D::new("types", Contexts::HSL, Arity::Block { min: 0, max: 0 }, Set::Loc(types::set)),
    D::new(
        "default_type",
        Contexts::HSL,
        Arity::exactly(1),
        Set::Text(|c: &mut CoreLoc| &mut c.default_type),
    ),
    D::loc("error_page", Arity::at_least(2), error_page::set).within(HSL_IF),
    D::loc("no_error_pages", Arity::exactly(0), error_page::set_none).within(HSL_IF),
    D::loc("error_log", Arity::at_least(1), error_log),
    D::loc("keepalive_timeout", Arity::between(1, 2), keepalive_timeout),
    D::msec("keepalive_min_timeout", |c| &mut c.keepalive_min_timeout),
    D::new(
        "keepalive_requests",
        Contexts::HSL,
        Arity::exactly(1),
        Set::Uint(|c: &mut CoreLoc| &mut c.keepalive_requests),
    ),
    D::msec("keepalive_time", |c| &mut c.keepalive_time),
    D::loc("keepalive_disable", Arity::between(1, 2), keepalive_disable),
    D::new(
        "client_max_body_size",
        Contexts::HSL,
        Arity::exactly(1),
        Set::Offset(|c: &mut CoreLoc| &mut c.client_max_body_size),
    ),
    D::size("client_body_buffer_size", |c| &mut c.client_body_buffer_size),
    D::msec("client_body_timeout", |c| &mut c.client_body_timeout),
    D::size("client_body_min_rate", |c| &mut c.client_body_min_rate),
    D::new(
        "client_body_in_file_only",
        Contexts::HSL,
        Arity::exactly(1),
        Set::Enum(&["off", "on", "clean"], |c: &mut CoreLoc| &mut c.client_body_in_file_only),
    ),
    D::flag("client_body_in_single_buffer", |c| &mut c.client_body_in_single_buffer),
    D::loc("client_body_temp_path", Arity::between(1, 4), client_body_temp_path),
    D::loc("client_body_early_read", Arity::at_least(1), client_body_early_read).within(HS),
    D::msec("client_header_timeout", |c| &mut c.client_header_timeout).within(HS),
    D::size("client_header_buffer_size", |c| &mut c.client_header_buffer_size).within(HS),
    D::loc("large_client_header_buffers", Arity::exactly(2), large_client_header_buffers).within(HS),
    D::new("max_headers", HS, Arity::exactly(1), Set::Uint(|c: &mut CoreLoc| &mut c.max_headers)),
    D::flag("ignore_invalid_headers", |c| &mut c.ignore_invalid_headers).within(HS),
    D::flag("underscores_in_headers", |c| &mut c.underscores_in_headers).within(HS),
    D::flag("merge_slashes", |c| &mut c.merge_slashes).within(HS),
    D::msec("send_timeout", |c| &mut c.send_timeout),
    D::flag("gzip_vary", |c| &mut c.gzip_vary),
    D::new(
        "gzip_http_version",
        Contexts::HSL,
        Arity::exactly(1),
        Set::Enum(&["1.0", "1.1"], |c: &mut CoreLoc| &mut c.gzip_http_version),
    ),
    D::loc("gzip_proxied", Arity::at_least(1), |c, args| gzip::set_proxied(&mut c.gzip_proxied, args)),
    D::loc("gzip_disable", Arity::at_least(1), |c, args| gzip::set_disabled(&mut c.gzip_disable, args)),
    D::size("send_lowat", |c| &mut c.send_lowat),
    D::size("postpone_output", |c| &mut c.postpone_output),
    D::new("limit_rate", HSL_IF, Arity::exactly(1), Set::Loc(limit_rate)),
    D::new("limit_rate_after", HSL_IF, Arity::exactly(1), Set::Loc(limit_rate_after)),
    D::new(
        "lingering_close",
        Contexts::HSL,
        Arity::exactly(1),
        Set::Enum(&["off", "on", "always"], |c: &mut CoreLoc| &mut c.lingering_close),
    ),
    D::msec("lingering_time", |c| &mut c.lingering_time),
    D::msec("lingering_timeout", |c| &mut c.lingering_timeout),
    D::flag("reset_timedout_connection", |c| &mut c.reset_timedout_connection),
    D::flag("absolute_redirect", |c| &mut c.absolute_redirect),
    D::flag("server_name_in_redirect", |c| &mut c.server_name_in_redirect),
    D::flag("port_in_redirect", |c| &mut c.port_in_redirect),
    D::loc("server_tokens", Arity::exactly(1), server_tokens),
    D::flag("chunked_transfer_encoding", |c| &mut c.chunked_transfer_encoding),
    D::flag("etag", |c| &mut c.etag),
    D::new(
        "if_modified_since",
        Contexts::HSL,
        Arity::exactly(1),
        Set::Enum(&["off", "exact", "before"], |c: &mut CoreLoc| &mut c.if_modified_since),
    ),
    D::new("max_ranges", Contexts::HSL, Arity::exactly(1), Set::Uint(|c: &mut CoreLoc| &mut c.max_ranges)),
    D::new("internal", Contexts::LOCATION, Arity::exactly(0), Set::Loc(internal)),
    D::new(
        "satisfy",
        Contexts::HSL,
        Arity::exactly(1),
        Set::Enum(&["all", "any"], |c: &mut CoreLoc| &mut c.satisfy),
    ),
    D::msec("auth_delay", |c| &mut c.auth_delay),
    D::flag("log_not_found", |c| &mut c.log_not_found),
    D::flag("log_subrequest", |c| &mut c.log_subrequest),
    D::flag("recursive_error_pages", |c| &mut c.recursive_error_pages),
    D::flag("msie_padding", |c| &mut c.msie_padding),
    D::flag("msie_refresh", |c| &mut c.msie_refresh),
    D::flag("sendfile", |c| &mut c.sendfile).within(HSL_IF),
    D::size("sendfile_max_chunk", |c| &mut c.sendfile_max_chunk),
    D::size("subrequest_output_buffer_size", |c| &mut c.subrequest_output_buffer_size),
    D::loc("aio", Arity::exactly(1), aio),
    D::flag("aio_write", |c| &mut c.aio_write),
    D::loc("directio", Arity::exactly(1), directio),
    D::new(
        "directio_alignment",
        Contexts::HSL,
        Arity::exactly(1),
        Set::Offset(|c: &mut CoreLoc| &mut c.directio_alignment),
    ),
    D::size("read_ahead", |c| &mut c.read_ahead),
    D::flag("tcp_nopush", |c| &mut c.tcp_nopush),
    D::flag("tcp_nodelay", |c| &mut c.tcp_nodelay),
    D::loc("output_buffers", Arity::exactly(2), output_buffers),
    D::loc("open_file_cache", Arity::between(1, 2), open_file_cache),
    D::new(
        "open_file_cache_valid",
        Contexts::HSL,
        Arity::exactly(1),
        Set::Sec(|c: &mut CoreLoc| &mut c.open_file_cache_valid),
    ),
    D::new(
        "open_file_cache_min_uses",
        Contexts::HSL,
        Arity::exactly(1),
        Set::Uint(|c: &mut CoreLoc| &mut c.open_file_cache_min_uses),
    ),
    D::flag("open_file_cache_errors", |c| &mut c.open_file_cache_errors),
    D::flag("open_file_cache_events", |c| &mut c.open_file_cache_events),
    D::loc("disable_symlinks", Arity::between(1, 2), disable_symlinks),
    D::new("post_action", HSL_IF, Arity::exactly(1), Set::Loc(post_action)),
    D::loc("early_hints", Arity::at_least(1), early_hints),
    D::loc("resolver", Arity::at_least(1), resolver),
    D::msec("resolver_timeout", |c| &mut c.resolver_timeout),
    D::new("connection_pool_size", HS, Arity::exactly(1), Set::Accepted(accepted_pool_size)),
    D::new("request_pool_size", HS, Arity::exactly(1), Set::Accepted(accepted_pool_size)),
    D::new("server_names_hash_max_size", Contexts::HTTP, Arity::exactly(1), Set::Accepted(accepted_uint)),
    D::new("server_names_hash_bucket_size", Contexts::HTTP, Arity::exactly(1), Set::Accepted(accepted_uint)),
    D::new("types_hash_max_size", Contexts::HSL, Arity::exactly(1), Set::Accepted(accepted_uint)),
    D::new("types_hash_bucket_size", Contexts::HSL, Arity::exactly(1), Set::Accepted(accepted_uint)),
    D::new("variables_hash_max_size", Contexts::HTTP, Arity::exactly(1), Set::Accepted(accepted_uint)),
    D::new("variables_hash_bucket_size", Contexts::HTTP, Arity::exactly(1), Set::Accepted(accepted_uint)),
];

fn resolver(loc: &mut CoreLoc, args: &Args<'_>) -> ConfResult {
    if loc.resolver.is_some() {
        return Err(Fault::DUPLICATE);
    }
    loc.resolver = Some(Arc::new(moonrest_core::resolver::parse(args)?));
    Ok(())
}

/// The size of a memory pool of nginx's, which there is none of here.
fn accepted_pool_size(args: &Args<'_>) -> ConfResult {
    match args.size(0)? {
        0..112 => Err(Fault::message("the pool size must be no less than 112")),
        size if size % 16 != 0 => Err(Fault::message("the pool size must be a multiple of 16")),
        _ => Ok(()),
    }
}

fn accepted_uint(args: &Args<'_>) -> ConfResult {
    args.uint(0).map(drop)
}

/// `root` and `alias`.
fn root(loc: &mut CoreLoc, args: &Args<'_>) -> ConfResult {
    let alias = args.name() == "alias";
    if let Some(known) = &loc.root {
        if known.alias == alias {
            return Err(Fault::DUPLICATE);
        }
        let other = if known.alias { "alias" } else { "root" };
        return Err(Fault::directive(format!("is duplicate, \"{other}\" directive was specified earlier")));
    }
    let replaces = if alias { alias_replaces(args)? } else { Some(0) };
    let word = args.word(0)?;
    let shown = word.lossy();
    for name in ["document_root", "realpath_root"] {
        if shown.contains(&format!("${name}")) || shown.contains(&format!("${{{name}}}")) {
            return Err(Fault::message(format!(
                "the ${name} variable cannot be used in the \"{}\" directive",
                args.name()
            )));
        }
    }
    let relative = word.text.starts_with(b"$");
    let mut text = if relative {
        word.text.to_vec()
    } else {
        args.env.full_path(&word.text)?.as_os_str().as_encoded_bytes().to_vec()
    };
    if !alias && word.text.ends_with(b"/") {
        text.pop();
    }
    let path = Template::parse(&text, |name| args.vars.reference(name, Some(word.span)))?;
    loc.root = Some(Root { path, alias, replaces, relative });
    Ok(())
}

/// How much of a path the alias of this block replaces.
fn alias_replaces(args: &Args<'_>) -> ConfResult<Option<usize>> {
    args.compiler.with_block(args.block, |block| match &block.kind {
        BlockKind::Exact(name) | BlockKind::Prefix(name) | BlockKind::PrefixFinal(name) => {
            Ok(Some(name.len()))
        }
        BlockKind::Named(_) => {
            Err(Fault::message("the \"alias\" directive cannot be used inside the named location"))
        }
        _ => Ok(None),
    })
}

fn error_log(loc: &mut CoreLoc, args: &Args<'_>) -> ConfResult {
    let target = moonrest_core::error_log::parse(args)?;
    loc.error_log.get_or_insert_default().push(target);
    Ok(())
}

fn keepalive_timeout(loc: &mut CoreLoc, args: &Args<'_>) -> ConfResult {
    set_once(&mut loc.keepalive_timeout, args.msec(0)?)?;
    if args.len() > 1 {
        loc.keepalive_header = Some(args.sec(1)?);
    }
    Ok(())
}

fn keepalive_disable(loc: &mut CoreLoc, args: &Args<'_>) -> ConfResult {
    let mut bits = 0;
    for n in 0..args.len() {
        let bit = [4, 1, 2][args.choice(n, &["none", "msie6", "safari"])?];
        if bits & bit != 0 {
            args.env.warn(format!("duplicate value \"{}\"", args.lossy(n)), Some(args.span()));
        }
        bits |= bit;
    }
    set_once(&mut loc.keepalive_disable, bits)
}

fn client_body_early_read(loc: &mut CoreLoc, args: &Args<'_>) -> ConfResult {
    let conditions = (0..args.len()).map(|n| args.template(n)).collect::<ConfResult<Vec<_>>>()?;
    set_once(&mut loc.client_body_early_read, conditions)
}

fn client_body_temp_path(loc: &mut CoreLoc, args: &Args<'_>) -> ConfResult {
    set_once(&mut loc.client_body_temp_path, args.temp_dir()?)
}

/// The number and size of buffers.
fn buffers(args: &Args<'_>) -> ConfResult<(u64, u64)> {
    match (args.uint(0), args.size(1)) {
        (Ok(count @ 1..), Ok(size @ 1..)) => Ok((count, size)),
        _ => Err(Fault::directive("invalid value")),
    }
}

fn large_client_header_buffers(loc: &mut CoreLoc, args: &Args<'_>) -> ConfResult {
    set_once(&mut loc.large_client_header_buffers, buffers(args)?)
}

/// `limit_rate` and `limit_rate_after` accept variables, checked when they are constant.
fn rate(args: &Args<'_>) -> ConfResult<Template> {
    let template = args.template(0)?;
    if template.as_static().is_some() {
        args.size(0)?;
    }
    Ok(template)
}

fn limit_rate(loc: &mut CoreLoc, args: &Args<'_>) -> ConfResult {
    set_once(&mut loc.limit_rate, rate(args)?)
}

fn limit_rate_after(loc: &mut CoreLoc, args: &Args<'_>) -> ConfResult {
    set_once(&mut loc.limit_rate_after, rate(args)?)
}

fn server_tokens(loc: &mut CoreLoc, args: &Args<'_>) -> ConfResult {
    let tokens = match args.bytes(0)? {
        b"on" => ServerTokens::On,
        b"off" => ServerTokens::Off,
        b"build" => ServerTokens::Build,
        _ => ServerTokens::Text(args.template(0)?),
    };
    set_once(&mut loc.server_tokens, tokens)
}

fn internal(loc: &mut CoreLoc, _args: &Args<'_>) -> ConfResult {
    set_once(&mut loc.internal, true)
}

fn aio(loc: &mut CoreLoc, args: &Args<'_>) -> ConfResult {
    let aio = match args.str(0)? {
        "off" => Aio::Off,
        "on" => Aio::On,
        "threads" => Aio::Threads("default".into()),
        other => match other.strip_prefix("threads=") {
            Some(pool) if !pool.is_empty() => {
                moonrest_core::thread_pool::uses(args.env, pool, args.span());
                Aio::Threads(pool.into())
            }
            _ => return Err(Fault::directive("invalid value")),
        },
    };
    set_once(&mut loc.aio, aio)
}

fn directio(loc: &mut CoreLoc, args: &Args<'_>) -> ConfResult {
    let size = if args.bytes(0)? == b"off" { u64::MAX } else { args.offset(0)? };
    set_once(&mut loc.directio, size)
}

fn output_buffers(loc: &mut CoreLoc, args: &Args<'_>) -> ConfResult {
    set_once(&mut loc.output_buffers, buffers(args)?)
}

/// Numbers of open file caches, never used twice by one process.
static NEXT_CACHE: AtomicU64 = AtomicU64::new(0);

fn open_file_cache(loc: &mut CoreLoc, args: &Args<'_>) -> ConfResult {
    let (mut max, mut inactive, mut off) = (None, 60, false);
    for n in 0..args.len() {
        let word = args.bytes(n)?;
        if let Some(value) = word.strip_prefix(b"max=") {
            max = moonrest_core::conf::value::parse_uint(value).filter(|max| *max > 0);
            if max.is_none() {
                return Err(invalid_cache(args, n));
            }
        } else if let Some(value) = word.strip_prefix(b"inactive=") {
            inactive = moonrest_core::conf::value::parse_sec(value).ok_or_else(|| invalid_cache(args, n))?;
        } else if word == b"off" {
            off = true;
        } else {
            return Err(invalid_cache(args, n));
        }
    }
    let cache = match (off, max) {
        (true, _) => OpenFileCache::Off,
        (false, Some(max)) => {
            OpenFileCache::On { id: NEXT_CACHE.fetch_add(1, Ordering::Relaxed), max, inactive }
        }
        (false, None) => {
            return Err(Fault::message("\"open_file_cache\" must have the \"max\" parameter"));
        }
    };
    set_once(&mut loc.open_file_cache, cache)
}

fn invalid_cache(args: &Args<'_>, n: usize) -> Fault {
    Fault::message(format!("invalid \"open_file_cache\" parameter \"{}\"", args.lossy(n)))
}

fn disable_symlinks(loc: &mut CoreLoc, args: &Args<'_>) -> ConfResult {
    let (mut mode, mut from) = (None, None);
    for n in 0..args.len() {
        match args.bytes(n)? {
            b"off" => mode = Some(0),
            b"on" => mode = Some(1),
            b"if_not_owner" => mode = Some(2),
            word => match word.strip_prefix(b"from=") {
                Some(part) => {
                    let span = args.word(n)?.span;
                    from = Some(Template::parse(part, |name| args.vars.reference(name, Some(span)))?);
                }
                None => return Err(args.invalid_parameter(n)),
            },
        }
    }
    let value = match (mode, from) {
        (Some(0), None) => DisableSymlinks::Off,
        (Some(0), Some(_)) => {
            return Err(Fault::message("\"from=\" cannot be used with \"off\" parameter"));
        }
        (Some(1), from) => DisableSymlinks::On { from },
        (Some(_), from) => DisableSymlinks::IfNotOwner { from },
        (None, _) => {
            return Err(Fault::message(
                "\"disable_symlinks\" must have \"off\", \"on\" or \"if_not_owner\" parameter",
            ));
        }
    };
    set_once(&mut loc.disable_symlinks, value)
}

fn post_action(loc: &mut CoreLoc, args: &Args<'_>) -> ConfResult {
    set_once(&mut loc.post_action, args.template(0)?)
}

fn early_hints(loc: &mut CoreLoc, args: &Args<'_>) -> ConfResult {
    let hints = (0..args.len()).map(|n| args.template(n)).collect::<ConfResult<Vec<_>>>()?;
    set_once(&mut loc.early_hints, hints)
}
