//! `health_check`: servers of an upstream are asked from time to time how they are, and left alone while they are not
//! well.
//! <https://nginx.org/en/docs/http/ngx_http_upstream_hc_module.html>

mod grpc;
mod matching;
mod prober;

use matching::Match;
use moonrest_conf::{Span, value};
use moonrest_core::{ConfigError, upstream};
use moonrest_http::{
    compile::BlockId,
    location::{LocId, ServerId},
    prelude::*,
    upstream::Finished,
};
use parking_lot::Mutex;
use prober::Lease;

/// The module.
pub struct HealthCheck;
type D = Directive<HealthCheck>;

/// Checks and tests of a configuration.
#[derive(Default)]
pub struct Main {
    matches: Vec<(Box<[u8]>, Arc<Match>)>,
    checks: Mutex<Vec<Arc<Check>>>,
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    settings: Option<Arc<Settings>>,
}
inherit!(Loc { settings });

/// The parameters of a `health_check`.
#[derive(Debug)]
struct Settings {
    block: BlockId,
    span: Span,
    /// Milliseconds.
    interval: u64,
    jitter: u64,
    fails: u64,
    passes: u64,
    uri: Box<[u8]>,
    mandatory: bool,
    persistent: bool,
    /// The name of a `match` block.
    test: Option<Box<[u8]>>,
    port: Option<u16>,
    grpc: Option<grpc::Settings>,
    keepalive_time: Option<u64>,
}

/// One check of an upstream.
struct Check {
    settings: Arc<Settings>,
    /// The upstream's name.
    name: String,
    peers: Arc<upstream::Peers>,
    number: upstream::Check,
    location: LocId,
    server: ServerId,
    test: Option<Arc<Match>>,
    /// The worker that does it.
    lease: Lease,
}

impl HttpModule for HealthCheck {
    const NAME: &'static str = "ngx_http_upstream_hc_module";
    const DIRECTIVES: &'static [D] = &[
        D::loc("health_check", Arity::at_least(0), |loc, args| {
            set_once(&mut loc.settings, parse(args)?.into())
        })
        .within(Contexts::LOCATION),
        D::main("match", Arity::Block { min: 1, max: 1 }, |main, args| {
            let name = args.bytes(0)?;
            if main.matches.iter().any(|(known, _)| **known == *name) {
                return Err(Fault::message(format!("duplicate match \"{}\"", args.lossy(0))));
            }
            main.matches.push((name.into(), Arc::new(Match::parse(args)?)));
            Ok(())
        }),
    ];
    type Main = Main;
    type Loc = Loc;

    fn attach(main: &Main, loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        let Some(settings) = loc.settings.as_ref().filter(|settings| settings.block == to.block) else {
            return Ok(());
        };
        let check = bind(main, settings, to)
            .map_err(|message| ConfigError::emerg(message).with_span(settings.span))?;
        main.checks.lock().push(Arc::new(check));
        Ok(())
    }

    fn start_worker(main: &Arc<Main>, worker: &std::rc::Rc<Worker>) -> Result<(), String> {
        for check in main.checks.lock().iter() {
            prober::start(check, worker);
        }
        Ok(())
    }
}

/// Finds what a check is about.
fn bind(main: &Main, settings: &Arc<Settings>, to: &LocationBuilder<'_>) -> Result<Check, String> {
    let Some((group, speaks)) = to.asked_group() else {
        return Err("health check requires an upstream that is named without variables".to_owned());
    };
    let group = to.compiler.env.shared::<Finished>().get(group).ok_or("no upstream module")?;
    if !group.shared {
        return Err(format!("health check requires upstream \"{}\" to be in shared memory", group.name));
    }
    if settings.grpc.is_some() && speaks != Speaks::Grpc {
        return Err("health check of type \"grpc\" requires \"grpc_pass\"".to_owned());
    }
    let test = match &settings.test {
        None => None,
        Some(name) => {
            let found = main.matches.iter().find(|(known, _)| known == name);
            let unknown = || format!("unknown match \"{}\"", String::from_utf8_lossy(name));
            Some(found.ok_or_else(unknown)?.1.clone())
        }
    };
    let trusted = |peer: &upstream::Peer| settings.persistent && group.was_healthy(peer);
    let number = group
        .peers
        .add_check(settings.mandatory, trusted)
        .ok_or_else(|| format!("too many health checks of upstream \"{}\"", group.name))?;
    let (location, server) = to.place();
    Ok(Check {
        settings: settings.clone(),
        name: group.name,
        peers: group.peers,
        number,
        location,
        server,
        test,
        lease: Lease::default(),
    })
}

/// Reads the parameters.
fn parse(args: &Args<'_>) -> ConfResult<Settings> {
    let mut settings = Settings {
        block: args.block,
        span: args.span(),
        interval: 5000,
        jitter: 0,
        fails: 1,
        passes: 1,
        uri: Box::from(&b"/"[..]),
        mandatory: false,
        persistent: false,
        test: None,
        port: None,
        grpc: None,
        keepalive_time: None,
    };
    let mut has_uri = false;
    for n in 0..args.len() {
        let word = args.bytes(n)?;
        let invalid = || args.invalid_parameter(n);
        let (key, rest) = match memchr::memchr(b'=', word) {
            Some(at) => word.split_at(at + 1),
            None => (word, &[][..]),
        };
        let time = || value::parse_msec(rest).ok_or_else(invalid);
        let count = || value::parse_uint(rest).filter(|count| *count > 0).ok_or_else(invalid);
        if settings.grpc.is_some() && !matches!(key, b"grpc_service=" | b"grpc_status=") {
            return Err(Fault::message(format!(
                "parameter \"{}\" must be specified before \"type=grpc\"",
                args.lossy(n)
            )));
        }
        match key {
            b"interval=" => settings.interval = time()?.max(1),
            b"jitter=" => settings.jitter = time()?,
            b"fails=" => settings.fails = count()?,
            b"passes=" => settings.passes = count()?,
            b"uri=" => {
                settings.uri = Some(rest).filter(|uri| is_target(uri)).ok_or_else(invalid)?.into();
                has_uri = true;
            }
            b"mandatory" => settings.mandatory = true,
            b"persistent" if settings.mandatory => settings.persistent = true,
            b"match=" if !rest.is_empty() => settings.test = Some(rest.into()),
            b"port=" => {
                let port = value::parse_uint(rest).and_then(|port| u16::try_from(port).ok());
                settings.port = Some(port.filter(|port| *port != 0).ok_or_else(invalid)?);
            }
            b"keepalive_time=" => settings.keepalive_time = Some(time()?),
            b"type=" if rest == b"grpc" => settings.grpc = Some(grpc::Settings::default()),
            b"grpc_service=" | b"grpc_status=" => {
                let Some(grpc) = &mut settings.grpc else {
                    return Err(Fault::message(format!(
                        "parameter \"{}\" requires \"type=grpc\" before it",
                        args.lossy(n)
                    )));
                };
                grpc.set(key == b"grpc_status=", rest).ok_or_else(invalid)?;
            }
            _ => return Err(invalid()),
        }
    }
    if settings.grpc.is_some() && (has_uri || settings.test.is_some()) {
        let which = if has_uri { "uri" } else { "match" };
        return Err(Fault::message(format!("parameter \"{which}\" is incompatible with \"type=grpc\"")));
    }
    Ok(settings)
}

/// Whether it can stand in a request line.
fn is_target(uri: &[u8]) -> bool {
    uri.starts_with(b"/") && uri.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#')
}

impl Check {
    /// What log lines call it at one of its peers.
    fn label(&self, peer: &upstream::Peer) -> String {
        let name = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let test = self.settings.test.as_deref().map_or_else(String::new, name);
        let port = self.settings.port.map_or_else(String::new, |port| format!(", port {port}"));
        format!("health check \"{test}\" of peer {} in upstream \"{}\"{port}", name(&peer.name), self.name)
    }
}
