//! `api`: the state of the server as JSON, and servers of upstreams changed while it runs.
//! <https://nginx.org/en/docs/http/ngx_http_api_module.html>

mod general;
mod upstreams;
mod write;
mod zones;

use moonrest_conf::value;
use moonrest_http::{body, compile::BlockId, prelude::*};
use moonrest_proto::http1::Method;
use serde_json::{Map, Value, json};
use std::sync::OnceLock;
use zones::{Zone, Zones};

/// The module.
pub struct Api;
type D = Directive<Api>;

/// The newest version of the interface; requests name one, from 1 on.
const VERSION: u64 = 9;

/// What is known of this generation.
#[derive(Default)]
pub struct Main {
    /// Its number in this process, and when it began in wall milliseconds.
    begun: Arc<OnceLock<(u64, i64)>>,
    server_zones: Zones,
    location_zones: Zones,
}

/// The same for those who answer.
struct Shared {
    begun: Arc<OnceLock<(u64, i64)>>,
    server_zones: Zones,
    location_zones: Zones,
}

impl Shared {
    /// The zones of a kind, and whether it is that of servers.
    fn zones(&self, kind: &str) -> (&Zones, bool) {
        match kind {
            "server_zones" => (&self.server_zones, true),
            _ => (&self.location_zones, false),
        }
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    settings: Option<Settings>,
    /// `status_zone` of the server, and of the location (`off` is none).
    server_zone: Option<Option<Arc<Zone>>>,
    location_zone: Option<Option<Arc<Zone>>>,
}
inherit!(Loc { settings, server_zone, location_zone });

#[derive(Clone)]
struct Settings {
    block: BlockId,
    /// The location's name, which stands before the version.
    prefix: Arc<[u8]>,
    write: bool,
    request_id: VarId,
}

impl HttpModule for Api {
    const NAME: &'static str = "ngx_http_api_module";
    const DIRECTIVES: &'static [D] = &[
        D::loc("api", Arity::between(0, 1), |loc, args| {
            let write = match args.words() {
                [] => false,
                [word] => {
                    let flag = word.text.strip_prefix(b"write=").and_then(value::parse_flag);
                    flag.ok_or_else(|| args.invalid_parameter(0))?
                }
                _ => return Err(args.wrong_count()),
            };
            let request_id = args.vars.reference("request_id", Some(args.span()));
            let (prefix, _) = args.compiler.location_name(args.block);
            set_once(
                &mut loc.settings,
                Settings { block: args.block, prefix: prefix.into(), write, request_id },
            )
        })
        .within(Contexts::LOCATION),
        D::new(
            "status_zone",
            Contexts::SERVER.or(Contexts::LOCATION).or(Contexts::IF),
            Arity::exactly(1),
            Set::Both(zones::set),
        ),
    ];
    type Main = Main;
    type Loc = Loc;

    fn attach(main: &Main, loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        zones::attach(loc, to);
        if let Some(settings) = loc.settings.as_ref().filter(|settings| to.belongs(settings.block)) {
            let shared = Shared {
                begun: main.begun.clone(),
                server_zones: main.server_zones.clone(),
                location_zones: main.location_zones.clone(),
            };
            to.content(Handler { settings: settings.clone(), shared: Arc::new(shared) });
        }
        Ok(())
    }

    fn start_worker(main: &Arc<Main>, _worker: &std::rc::Rc<Worker>) -> Result<(), String> {
        main.begun.get_or_init(general::begin);
        Ok(())
    }
}

struct Handler {
    settings: Settings,
    shared: Arc<Shared>,
}

/// An answer that is none: status, text, and nginx's name for it.
struct Refusal {
    status: u16,
    text: String,
    code: &'static str,
}

type Reply<T = Value> = Result<T, Refusal>;

impl Refusal {
    fn new(status: u16, text: impl Into<String>, code: &'static str) -> Self {
        Self { status, text: text.into(), code }
    }

    fn no_path() -> Self {
        Self::new(404, "path not found", "PathNotFound")
    }
}

/// What a request asks for.
struct Asked<'a> {
    r: &'a Request,
    /// What of an object is wanted; nothing for all of it.
    fields: Option<Vec<String>>,
    handler: &'a Handler,
}

impl PhaseHandler for Handler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        let path = self.path(r);
        let reads = matches!(r.method.get(), Method::Get | Method::Head);
        if reads || !self.settings.write {
            r.ignore_body()?;
            let reply = if reads { self.get(r, &path) } else { Err(disabled()) };
            return self.reply(r, reply.map(|value| (200, Some(value))));
        }
        let (settings, shared, r) = (self.settings.clone(), self.shared.clone(), r.clone());
        Step::wait(async move {
            body::read(&r).await?;
            let reply = match behind_version(&path) {
                Ok(path) => write::change(&r, &shared, path),
                Err(refusal) => Err(refusal),
            };
            match answer(&settings, &r, reply)? {
                Step::Now(flow) => Ok(flow),
                Step::Wait(waits) => waits.await,
            }
        })
    }
}

fn disabled() -> Refusal {
    Refusal::new(405, "method disabled", "MethodDisabled")
}

impl Handler {
    /// The parts of the path behind the location's name.
    fn path(&self, r: &Request) -> Vec<String> {
        let uri = r.uri();
        let rest = uri.strip_prefix(&*self.settings.prefix).unwrap_or(&uri);
        let parts = rest.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
    }

    fn get(&self, r: &Request, path: &[String]) -> Reply {
        if path.is_empty() {
            return Ok((1..=VERSION).collect());
        }
        let fields = argument(&r.args.borrow(), b"fields")
            .map(|text| text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect());
        let path = behind_version(path)?;
        let asked = Asked { r, fields, handler: self };
        let parts: Vec<&str> = path.iter().map(String::as_str).collect();
        match &*parts {
            [] => Ok(json!(["nginx", "connections", "http"])),
            ["nginx"] => Ok(asked.only(general::nginx(&asked))),
            ["connections"] => Ok(asked.only(general::connections(r))),
            ["http"] => Ok(json!(["requests", "server_zones", "location_zones", "upstreams"])),
            ["http", kind @ ("server_zones" | "location_zones"), ..] => {
                zones::get(&asked, kind, parts.get(2..).unwrap_or_default())
            }
            ["http", "requests"] => Ok(asked.only(general::requests(r))),
            ["http", "upstreams", ..] => upstreams::get(&asked, parts.get(2..).unwrap_or_default()),
            _ => Err(Refusal::no_path()),
        }
    }

    fn reply(&self, r: &RequestRef, reply: Reply<(u16, Option<Value>)>) -> Result<Step, RequestError> {
        answer(&self.settings, r, reply)
    }
}

/// What stands behind the version, which must be one of those that there are.
fn behind_version(path: &[String]) -> Reply<&[String]> {
    let unknown = || Refusal::new(404, "unknown version", "UnknownVersion");
    let (version, rest) = path.split_first().ok_or_else(unknown)?;
    let version = value::parse_uint(version.as_bytes()).filter(|version| (1..=VERSION).contains(version));
    version.map(|_| rest).ok_or_else(unknown)
}

fn answer(
    settings: &Settings,
    r: &RequestRef,
    reply: Reply<(u16, Option<Value>)>,
) -> Result<Step, RequestError> {
    let (status, value) = reply.unwrap_or_else(|Refusal { status, text, code }| {
        let id = r.vars().get(&**r, settings.request_id).unwrap_or_default();
        let error = json!({
            "error": { "status": status, "text": text, "code": code },
            "request_id": String::from_utf8_lossy(&id),
            "href": "https://nginx.org/en/docs/http/ngx_http_api_module.html",
        });
        (status, Some(error))
    });
    // What is true now is not true for long.
    r.out_mut().add(Bytes::from_static(b"Cache-Control"), Bytes::from_static(b"no-cache"));
    let body = value.map(|value| value.to_string()).unwrap_or_default();
    r.respond(status, Bytes::from_static(b"application/json"), body.into())
}

/// The value of an argument of the request line.
fn argument(args: &[u8], name: &[u8]) -> Option<String> {
    args.split(|byte| *byte == b'&').find_map(|pair| {
        let value = pair.strip_prefix(name)?.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).into_owned())
    })
}

impl Asked<'_> {
    /// The fields of an object that are wanted.
    fn only(&self, value: Value) -> Value {
        match (&self.fields, value) {
            (Some(fields), Value::Object(object)) => {
                let wanted = |name: &String| fields.contains(name);
                object.into_iter().filter(|(name, _)| wanted(name)).collect::<Map<_, _>>().into()
            }
            (_, value) => value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_comes_first() {
        let check = |path: &[&str], expect: Option<usize>| {
            let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
            assert_eq!(behind_version(&path).ok().map(<[String]>::len), expect, "{path:?}");
        };
        check(&["9", "nginx"], Some(1));
        check(&["1"], Some(0));
        for wrong in [&["0"][..], &["10"], &["x"], &["-1"], &[]] {
            check(wrong, None);
        }
    }

    #[test]
    fn arguments_are_found() {
        let check = |args: &str, expect: Option<&str>| {
            assert_eq!(argument(args.as_bytes(), b"fields").as_deref(), expect, "{args}");
        };
        check("fields=a,b", Some("a,b"));
        check("x=1&fields=", Some(""));
        check("xfields=1&fieldsx=2", None);
    }
}
