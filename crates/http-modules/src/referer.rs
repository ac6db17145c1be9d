//! `referer`: whether the page that a request comes from is one of those that may link here.
//! <https://nginx.org/en/docs/http/ngx_http_referer_module.html>

use moonrest_core::hostnames::{Conflict, Hostnames};
use moonrest_http::{compile::BlockId, compile::Compiler, listen::ServerName, prelude::*};
use smallvec::SmallVec;
use std::sync::OnceLock;

/// The module.
pub struct Referer;
type D = Directive<Referer>;

const CONTEXTS: Contexts = Contexts::SERVER.or(Contexts::LOCATION);

impl HttpModule for Referer {
    const NAME: &'static str = "ngx_http_referer_module";
    const DIRECTIVES: &'static [D] = &[
        D::new("valid_referers", CONTEXTS, Arity::at_least(1), Set::Both(add)),
        // Sizes of nginx's hash tables: checked; tables here grow as they must.
        D::new(
            "referer_hash_max_size",
            CONTEXTS,
            Arity::exactly(1),
            Set::Uint(|loc: &mut Loc| &mut loc.max_size),
        ),
        D::new(
            "referer_hash_bucket_size",
            CONTEXTS,
            Arity::exactly(1),
            Set::Uint(|loc: &mut Loc| &mut loc.bucket_size),
        ),
    ];
    const VARIABLES: &'static [VarDef<Request>] =
        &[VarDef { changeable: true, ..VarDef::get("invalid_referer", invalid_referer) }];
    type Main = Main;
    type Loc = Loc;

    fn finish(main: &mut Main, cx: &Compiler<'_>) -> ConfResult {
        main.wanted.sort_unstable();
        main.wanted.dedup();
        main.servers = main.wanted.iter().map(|server| (*server, cx.server_names(*server))).collect();
        Ok(())
    }

    fn attach(main: &Main, loc: &Arc<Loc>, _to: &mut LocationBuilder<'_>) -> ConfResult {
        if loc.is_empty() || loc.complete.get().is_some() {
            return Ok(());
        }
        let mut complete = Complete { names: loc.names.clone().unwrap_or_default(), regexes: Vec::new() };
        if let Some(server) = loc.server {
            let names = main.servers.iter().filter(|(id, _)| *id == server).flat_map(|(_, names)| names);
            for name in names {
                complete.add(name)?;
            }
        }
        if (loc.none == Some(true) || loc.blocked == Some(true)) && complete.names.is_empty() {
            return Err(Fault::message(
                "the \"none\" or \"blocked\" referers are specified in the \"valid_referers\" directive \
                 without any valid referer",
            ));
        }
        // Blocks that share settings share what was made of them.
        let _ = loc.complete.set(complete);
        Ok(())
    }
}

/// The names of servers that some block counts among the valid referers.
#[derive(Default)]
pub struct Main {
    wanted: Vec<BlockId>,
    servers: Vec<(BlockId, Vec<ServerName>)>,
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    /// By host name, how the path must begin; empty is any way.
    names: Option<Hostnames<Box<[u8]>>>,
    /// The server whose names are valid.
    server: Option<BlockId>,
    none: Option<bool>,
    blocked: Option<bool>,
    regexes: Option<Vec<Regex>>,
    max_size: Option<u64>,
    bucket_size: Option<u64>,
    complete: OnceLock<Complete>,
}

/// The names given, with those of the server.
#[derive(Clone)]
struct Complete {
    names: Hostnames<Box<[u8]>>,
    /// Names of the server that are expressions: they look at the host name alone.
    regexes: Vec<Regex>,
}

impl Inherit for Loc {
    fn inherit(&mut self, outer: &Self) {
        if self.names.is_none() {
            self.names.clone_from(&outer.names);
            self.server = outer.server;
            self.none = outer.none;
            self.blocked = outer.blocked;
        }
        // nginx: expressions are inherited even where there are names.
        self.regexes = self.regexes.take().or_else(|| outer.regexes.clone());
        self.max_size = self.max_size.or(outer.max_size);
        self.bucket_size = self.bucket_size.or(outer.bucket_size);
    }
}

impl Loc {
    fn is_empty(&self) -> bool {
        self.names.is_none() && self.regexes.is_none()
    }
}

impl Complete {
    fn add(&mut self, name: &ServerName) -> ConfResult {
        let name: Vec<u8> = match name {
            ServerName::Exact(name) | ServerName::Dotted(name) | ServerName::Impossible(name) => {
                name.to_vec()
            }
            ServerName::Head(rest) => [b"*", &**rest].concat(),
            ServerName::Tail(rest) => [&**rest, b"*"].concat(),
            ServerName::Regex(regex) => {
                self.regexes.push(regex.regex().clone());
                return Ok(());
            }
        };
        add_name(&mut self.names, &name, &[])
    }
}

fn add(main: &mut Main, loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    let names = loc.names.get_or_insert_default();
    for (n, word) in args.words().iter().enumerate() {
        match &*word.text {
            b"" => return Err(Fault::message(format!("invalid referer \"{}\"", args.lossy(n)))),
            b"none" => loc.none = Some(true),
            b"blocked" => loc.blocked = Some(true),
            b"server_names" => {
                loc.server = args.compiler.server_of(args.block);
                main.wanted.extend(loc.server);
            }
            b"~" => return Err(Fault::message(format!("empty regex in \"{}\"", args.lossy(n)))),
            [b'~', pattern @ ..] => {
                loc.regexes.get_or_insert_default().push(Regex::new(pattern, true)?);
            }
            text => {
                let slash = memchr::memchr(b'/', text).unwrap_or(text.len());
                add_name(
                    names,
                    text.get(..slash).unwrap_or_default(),
                    text.get(slash..).unwrap_or_default(),
                )?;
            }
        }
    }
    Ok(())
}

fn add_name(names: &mut Hostnames<Box<[u8]>>, name: &[u8], path: &[u8]) -> ConfResult {
    names.add(name, path.into()).map_err(|conflict| {
        let name = String::from_utf8_lossy(name);
        Fault::message(match conflict {
            Conflict::Invalid => format!("invalid hostname or wildcard \"{name}\""),
            Conflict::Known => format!("conflicting parameter \"{name}\""),
        })
    })
}

/// `$invalid_referer`: empty for a valid one, else `1`.
fn invalid_referer(r: &Request, out: &mut Vec<u8>) -> bool {
    let valid = match r.loc().conf::<Loc>() {
        Some(loc) if !loc.is_empty() => r.with_header(b"referer", |referer| loc.is_valid(referer)),
        _ => true,
    };
    if !valid {
        out.push(b'1');
    }
    true
}

/// nginx gives up on longer host names.
const MAX_HOST: usize = 256;

impl Loc {
    fn is_valid(&self, referer: Option<&[u8]>) -> bool {
        let Some(complete) = self.complete.get() else { return true };
        if complete.names.is_empty() && complete.regexes.is_empty() && self.regexes.is_none() {
            return true;
        }
        let Some(referer) = referer else { return self.none == Some(true) };
        let Some(target) = without_scheme(referer) else { return self.blocked == Some(true) };
        let host_len = target.iter().position(|byte| matches!(byte, b'/' | b':')).unwrap_or(target.len());
        if host_len > MAX_HOST {
            return false;
        }
        let (host, rest) = target.split_at(host_len);
        let host: SmallVec<[u8; MAX_HOST]> = host.iter().map(u8::to_ascii_lowercase).collect();
        if let Some(path) = complete.names.find(&host) {
            let slash = memchr::memchr(b'/', rest).unwrap_or(rest.len());
            return rest.get(slash..).is_some_and(|rest| rest.starts_with(path));
        }
        complete.regexes.iter().any(|regex| regex.is_match(&host))
            || self.regexes.iter().flatten().any(|regex| regex.is_match(target))
    }
}

/// What follows `http://` or `https://`. nginx: in a referer that is long enough for a name behind it.
fn without_scheme(referer: &[u8]) -> Option<&[u8]> {
    if referer.len() < "http://i.ru".len() {
        return None;
    }
    [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| {
        let (start, rest) = referer.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid(names: &[&str], regexes: &[&str], none: bool, blocked: bool, referer: Option<&str>) -> bool {
        let mut complete = Complete { names: Hostnames::default(), regexes: Vec::new() };
        for name in names {
            let slash = name.find('/').unwrap_or(name.len());
            add_name(&mut complete.names, &name.as_bytes()[..slash], &name.as_bytes()[slash..]).unwrap();
        }
        let regexes: Vec<_> = regexes.iter().map(|text| Regex::new(text.as_bytes(), true).unwrap()).collect();
        let loc = Loc {
            none: Some(none),
            blocked: Some(blocked),
            regexes: (!regexes.is_empty()).then_some(regexes),
            complete: OnceLock::from(complete),
            ..Loc::default()
        };
        loc.is_valid(referer.map(str::as_bytes))
    }

    #[test]
    fn names_paths_and_expressions() {
        let names = ["www.example.org", "*.example.com", "path.example.org/uri/"];
        let check = |referer: &str, expect| {
            assert_eq!(valid(&names, &[r"\.google\."], false, false, Some(referer)), expect, "{referer}");
        };
        check("http://www.example.org", true);
        check("http://WWW.example.org:80/x", true);
        check("HTTPS://www.example.org/", true);
        check("ftp://www.example.org/", false);
        check("http://a.b.example.com/", true);
        check("http://example.com/", false);
        check("http://path.example.org/uri/x", true);
        check("http://path.example.org:80/uri/x", true);
        check("http://path.example.org/", false);
        check("http://path.example.org", false);
        check("http://www.google.com/search", true);
        check("http://elsewhere.net/x.google.y", true);
        check("http://x", false);
        check(&format!("http://{}/", "a".repeat(300)), false);
        assert!(!valid(&names, &[], false, false, None));
        assert!(valid(&names, &[], true, false, None));
        assert!(valid(&names, &[], false, true, Some("removed")));
        assert!(valid(&[], &[], false, false, Some("http://anything.at/all")));
    }
}
