//! `upstream`: groups of servers, how one of them is chosen, and connections kept to them.
//! <https://nginx.org/en/docs/http/ngx_http_upstream_module.html>

mod sticky;

use moonrest_conf::value;
use moonrest_core::upstream::{LeastTime, Method, Server};
use moonrest_http::{
    prelude::*,
    upstream::{self, HashKey, Main, StateZone},
};

/// The module.
pub struct Upstream;
type D = Directive<Upstream>;

const fn row(name: &'static str, arity: Arity, set: fn(&mut Main, &Args<'_>) -> ConfResult) -> D {
    D::main(name, arity, set).within(Contexts::UPSTREAM)
}

impl HttpModule for Upstream {
    const NAME: &'static str = "ngx_http_upstream_module";
    const DIRECTIVES: &'static [D] = &[
        D::new("upstream", Contexts::HTTP, Arity::Block { min: 1, max: 1 }, Set::Block(upstream::block)),
        row("server", Arity::at_least(1), |main, args| {
            let definition = main.current()?;
            let server = Server::parse(args, definition.supports)?;
            definition.servers.push(server);
            Ok(())
        }),
        row("zone", Arity::between(1, 2), zone),
        row("hash", Arity::between(1, 2), hash),
        row("ip_hash", Arity::exactly(0), |main, args| {
            main.current()?.balance(Method::IpHash, Some(HashKey::Client), false, args);
            Ok(())
        }),
        row("least_conn", Arity::exactly(0), |main, args| {
            main.current()?.balance(Method::LeastConn, None, true, args);
            Ok(())
        }),
        row("least_time", Arity::between(1, 2), least_time),
        row("random", Arity::between(0, 2), random),
        row("keepalive", Arity::between(1, 2), keepalive),
        row("keepalive_requests", Arity::exactly(1), |main, args| {
            set_once(&mut main.current()?.keepalive.requests, args.uint(0)?)
        }),
        row("keepalive_time", Arity::exactly(1), |main, args| {
            set_once(&mut main.current()?.keepalive.time, args.msec(0)?)
        }),
        row("keepalive_timeout", Arity::exactly(1), |main, args| {
            set_once(&mut main.current()?.keepalive.timeout, args.msec(0)?)
        }),
        row("sticky", Arity::at_least(2), sticky::set),
        row("resolver", Arity::at_least(1), |main, args| {
            let slot = &mut main.current()?.own_resolver.0;
            if slot.is_some() {
                return Err(Fault::DUPLICATE);
            }
            *slot = Some(Arc::new(moonrest_core::resolver::parse(args)?));
            Ok(())
        }),
        row("resolver_timeout", Arity::exactly(1), |main, args| {
            set_once(&mut main.current()?.own_resolver.1, args.msec(0)?)
        }),
    ];
    const VARIABLES: &'static [VarDef<Request>] = upstream::variables::TABLE;
    type Main = Main;
    type Loc = ();

    fn finish(main: &mut Main, cx: &moonrest_http::compile::Compiler<'_>) -> ConfResult {
        main.finish(cx)
    }

    fn start_worker(main: &Arc<Main>, worker: &std::rc::Rc<Worker>) -> Result<(), String> {
        upstream::start_resolving(main, worker);
        moonrest_http::cache::start(&main.caches, worker)
    }
}

/// `zone NAME [SIZE]`.
fn zone(main: &mut Main, args: &Args<'_>) -> ConfResult {
    let name = args.str(0)?;
    if name.is_empty() {
        return Err(Fault::message("invalid zone name \"\""));
    }
    if args.len() > 1 {
        let Some(size) = value::parse_size(args.bytes(1)?) else {
            return Err(Fault::message(format!("invalid zone size \"{}\"", args.lossy(1))));
        };
        if size < 8 * 4096 {
            return Err(Fault::message(format!("zone \"{name}\" is too small")));
        }
        args.env.zones.declare(name, size, StateZone::default)?;
    }
    main.current()?.zone = Some(name.to_owned());
    Ok(())
}

/// `hash KEY [consistent]`.
fn hash(main: &mut Main, args: &Args<'_>) -> ConfResult {
    let method = match args.len() {
        1 => Method::Hash,
        _ if args.bytes(1)? == b"consistent" => Method::ConsistentHash,
        _ => return Err(args.invalid_parameter(1)),
    };
    let key = HashKey::Template(args.template(0)?);
    main.current()?.balance(method, Some(key), false, args);
    Ok(())
}

/// `least_time header | last_byte [inflight]`.
fn least_time(main: &mut Main, args: &Args<'_>) -> ConfResult {
    let inflight = args.len() > 1;
    if inflight && args.bytes(1)? != b"inflight" {
        return Err(args.invalid_parameter(1));
    }
    let header = args.choice(0, &["header", "last_byte"])? == 0;
    main.current()?.balance(Method::LeastTime(LeastTime { header, inflight }), None, true, args);
    Ok(())
}

/// `random [two [least_conn]]`.
fn random(main: &mut Main, args: &Args<'_>) -> ConfResult {
    for (n, word) in ["two", "least_conn"].into_iter().enumerate().take(args.len()) {
        if args.bytes(n)? != word.as_bytes() {
            return Err(args.invalid_parameter(n));
        }
    }
    let method = if args.is_empty() { Method::Random } else { Method::RandomTwo };
    main.current()?.balance(method, None, false, args);
    Ok(())
}

/// `keepalive CONNECTIONS [local]`.
fn keepalive(main: &mut Main, args: &Args<'_>) -> ConfResult {
    let keepalive = &mut main.current()?.keepalive;
    if keepalive.connections.is_some() {
        return Err(Fault::DUPLICATE);
    }
    let Some(connections) = value::parse_uint(args.bytes(0)?) else {
        return Err(Fault::message(format!(
            "invalid value \"{}\" in \"keepalive\" directive",
            args.lossy(0)
        )));
    };
    if args.len() > 1 {
        if args.bytes(1)? != b"local" {
            return Err(args.invalid_parameter(1));
        }
        keepalive.local = true;
    }
    keepalive.connections = Some(connections);
    Ok(())
}
