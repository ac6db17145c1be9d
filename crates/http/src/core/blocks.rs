//! `server`, `location` and `limit_except`: the blocks that make up the tree.

use super::CoreMain;
use crate::{
    args::Args,
    compile::{BlockKind, Compiler},
    regex::CapturingRegex,
};
use moonrest_core::{ConfResult, Contexts, Fault};
use moonrest_proto::http1::Method;

/// `server { … }`.
pub(super) fn server(args: &Args<'_>) -> ConfResult {
    let cx = args.compiler;
    let id = cx.new_block(BlockKind::Server, Some(args.block), args.directive.span);
    cx.with_main::<CoreMain, _>(|main| main.servers.push((id, args.directive.span)));
    cx.directives(id, Contexts::SERVER, args.block());
    Ok(())
}

/// `location [ = | ~ | ~* | ^~ ] uri { … }`, also written without a space after the modifier.
pub(super) fn location(args: &Args<'_>) -> ConfResult {
    let kind = parse_location(args)?;
    let cx = args.compiler;
    check_nesting(cx, args, &kind)?;
    cx.with_block(args.block, |block| match &kind {
        BlockKind::Exact(name) => block.exact.insert(name.clone()),
        BlockKind::Prefix(name) | BlockKind::PrefixFinal(name) => block.prefixes.insert(name.clone()),
        _ => false,
    });
    let id = cx.new_block(kind, Some(args.block), args.directive.span);
    cx.with_block(args.block, |block| block.children.push(id));
    cx.directives(id, Contexts::LOCATION, args.block());
    Ok(())
}

fn parse_location(args: &Args<'_>) -> ConfResult<BlockKind> {
    if args.len() == 2 {
        let name: Box<[u8]> = args.bytes(1)?.into();
        return match args.bytes(0)? {
            b"=" => Ok(BlockKind::Exact(name)),
            b"^~" => Ok(BlockKind::PrefixFinal(name)),
            b"~" => regex(args, &name, false),
            b"~*" => regex(args, &name, true),
            other => Err(Fault::message(format!(
                "invalid location modifier \"{}\"",
                String::from_utf8_lossy(other)
            ))),
        };
    }
    let text = args.bytes(0)?;
    Ok(match text {
        [b'=', name @ ..] => BlockKind::Exact(name.into()),
        [b'^', b'~', name @ ..] => BlockKind::PrefixFinal(name.into()),
        [b'~', b'*', name @ ..] => regex(args, name, true)?,
        [b'~', name @ ..] => regex(args, name, false)?,
        [b'@', ..] => BlockKind::Named(text.into()),
        _ => BlockKind::Prefix(text.into()),
    })
}

fn regex(args: &Args<'_>, pattern: &[u8], caseless: bool) -> ConfResult<BlockKind> {
    Ok(BlockKind::Regex(pattern.into(), CapturingRegex::compile(args, pattern, caseless)?))
}

fn check_nesting(cx: &Compiler<'_>, args: &Args<'_>, kind: &BlockKind) -> ConfResult {
    let blocks = cx.blocks.borrow();
    let Some(parent) = blocks.get(args.block.0 as usize) else { return Ok(()) };
    let shown = |kind: &BlockKind| String::from_utf8_lossy(name_of(kind)).into_owned();
    let name = shown(kind);
    if !matches!(parent.kind, BlockKind::Server) {
        let outer = shown(&parent.kind);
        match (&parent.kind, kind) {
            (BlockKind::Exact(_), _) => {
                return Err(Fault::message(format!(
                    "location \"{name}\" cannot be inside the exact location \"{outer}\""
                )));
            }
            (BlockKind::Named(_), _) => {
                return Err(Fault::message(format!(
                    "location \"{name}\" cannot be inside the named location \"{outer}\""
                )));
            }
            (_, BlockKind::Named(_)) => {
                return Err(Fault::message(format!(
                    "named location \"{name}\" can be on the server level only"
                )));
            }
            (
                // nginx: of an expression the text counts.
                BlockKind::Prefix(outer) | BlockKind::PrefixFinal(outer) | BlockKind::Regex(outer, _),
                BlockKind::Prefix(inner) | BlockKind::PrefixFinal(inner) | BlockKind::Exact(inner),
            ) if !inner.starts_with(outer) => {
                return Err(Fault::message(format!(
                    "location \"{name}\" is outside location \"{}\"",
                    String::from_utf8_lossy(outer)
                )));
            }
            _ => {}
        }
    }
    // nginx: the same named location twice passes; the first counts.
    let twin = match kind {
        BlockKind::Exact(own) => parent.exact.contains(own),
        BlockKind::Prefix(own) | BlockKind::PrefixFinal(own) => parent.prefixes.contains(own),
        _ => false,
    };
    if twin {
        return Err(Fault::message(format!("duplicate location \"{name}\"")));
    }
    Ok(())
}

fn name_of(kind: &BlockKind) -> &[u8] {
    match kind {
        BlockKind::Exact(name)
        | BlockKind::Prefix(name)
        | BlockKind::PrefixFinal(name)
        | BlockKind::Regex(name, _)
        | BlockKind::Named(name) => name,
        BlockKind::Http | BlockKind::Server | BlockKind::Unnamed => b"",
    }
}

/// `limit_except METHOD … { … }`: the block is in force for all other methods.
pub(super) fn limit_except(args: &Args<'_>) -> ConfResult {
    let mut methods = 0;
    for (n, word) in args.words().iter().enumerate() {
        // nginx: in any case of letters, and only the methods that it had first.
        match Method::from_name(&word.text.to_ascii_uppercase()) {
            Method::Other | Method::Trace | Method::Connect => {
                return Err(Fault::message(format!("invalid method \"{}\"", args.lossy(n))));
            }
            // nginx: allowing GET allows HEAD.
            Method::Get => methods |= Method::Get.bit() | Method::Head.bit(),
            method => methods |= method.bit(),
        }
    }
    let duplicate = args.compiler.with_block(args.block, |block| block.limit_except.is_some());
    if duplicate {
        return Err(Fault::DUPLICATE);
    }
    let id = args.sub_block(Contexts::LIMIT_EXCEPT);
    args.compiler.with_block(args.block, |block| block.limit_except = Some((methods, id)));
    Ok(())
}
