//! `limit_conn`: how many requests of one key may be under way at once.
//! <https://nginx.org/en/docs/http/ngx_http_limit_conn_module.html>

use crate::limit::{LEVELS, Zone, Zones, level, zone_missing, zone_parameter};
use moonrest_core::conf::value::parse_uint;
use moonrest_http::prelude::*;
use std::cell::Cell;

/// The module.
pub struct LimitConn;
type D = Directive<LimitConn>;

impl HttpModule for LimitConn {
    const NAME: &'static str = "ngx_http_limit_conn_module";
    const DIRECTIVES: &'static [D] = &[
        D::main("limit_conn_zone", Arity::exactly(2), add_zone),
        D::loc("limit_conn", Arity::exactly(2), add_limit),
        D::new(
            "limit_conn_log_level",
            Contexts::HSL,
            Arity::exactly(1),
            Set::Enum(LEVELS, |loc: &mut Loc| &mut loc.level),
        ),
        D::status("limit_conn_status", |loc| &mut loc.status),
        D::flag("limit_conn_dry_run", |loc| &mut loc.dry_run),
    ];
    const VARIABLES: &'static [VarDef<Request>] = &[VarDef::get("limit_conn_status", |r, out| {
        let Some(status) = r.main().find_ctx::<Status>() else { return false };
        out.extend_from_slice(status.0.get().as_bytes());
        true
    })];
    type Main = Zones<Self>;
    type Loc = Loc;

    fn attach(zones: &Zones<Self>, loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        let Some(limits) = &loc.limits else { return Ok(()) };
        let limits = limits
            .iter()
            .map(|(zone, connections)| Ok((zones.find(zone, to)?, *connections)))
            .collect::<ConfResult<_>>()?;
        let (status, dry_run) = (loc.status.unwrap_or(503), loc.dry_run.unwrap_or(false));
        to.on(Phase::Preaccess, Limiter { limits, level: level(loc.level), status, dry_run });
        Ok(())
    }
}

/// What one block says. Limits of outer blocks are in force only where there are none.
#[derive(Clone, Default)]
pub struct Loc {
    /// Names of zones, and how many connections each allows.
    limits: Option<Vec<(Box<str>, u32)>>,
    level: Option<usize>,
    status: Option<u16>,
    dry_run: Option<bool>,
}
inherit!(Loc { limits, level, status, dry_run });

fn add_zone(zones: &mut Zones<LimitConn>, args: &Args<'_>) -> ConfResult {
    let (name, size) = zone_parameter(args, 1)?.ok_or_else(|| args.invalid_parameter(1))?;
    if name.is_empty() {
        return Err(zone_missing(args));
    }
    zones.declare(args, &name, size, 0)
}

fn add_limit(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    let zone = args.str(0)?;
    let limits = loc.limits.get_or_insert_default();
    if limits.iter().any(|(known, _)| **known == *zone) {
        return Err(Fault::DUPLICATE);
    }
    let connections = match parse_uint(args.bytes(1)?) {
        None | Some(0) => {
            return Err(Fault::message(format!("invalid number of connections \"{}\"", args.lossy(1))));
        }
        Some(number) => {
            u16::try_from(number).map_err(|_| Fault::message("connection limit must be less 65536"))?
        }
    };
    limits.push((zone.into(), connections.into()));
    Ok(())
}

/// Of the client's request: limits are asked once, whatever locations it comes to. The value of `$limit_conn_status`.
#[derive(Default)]
struct Status(Cell<&'static str>);

struct Limiter {
    limits: Box<[(Arc<Zone<LimitConn>>, u32)]>,
    level: Level,
    status: u16,
    dry_run: bool,
}

/// Keys are no longer than this in nginx.
const MAX_KEY: usize = 255;

impl PhaseHandler for Limiter {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        let main = r.main();
        if main.find_ctx::<Status>().is_some() {
            return Step::next();
        }
        let mut held = Held(Vec::new());
        for (zone, limit) in &self.limits {
            let key = zone.key.eval(&**r);
            if key.is_empty() {
                continue;
            }
            if key.len() > MAX_KEY {
                let (name, key) = (zone.key_text(), String::from_utf8_lossy(&key));
                moonrest_http::error!(r, "the value of the \"{name}\" key is more than 255 bytes: \"{key}\"");
                continue;
            }
            main.lasting_ctx::<Status>().0.set("PASSED");
            let place = Place { zone: zone.clone(), key: key.as_ref().into() };
            match place.take(*limit) {
                Taken::Yes => held.0.push(place),
                taken => {
                    if matches!(taken, Taken::Limit) && r.log().enabled(self.level) {
                        let dry_run = if self.dry_run { ", dry run," } else { "" };
                        let line = format_args!("limiting connections{dry_run} by zone \"{}\"", zone.name);
                        r.log_at(self.level, line);
                    }
                    return self.refuse(main);
                }
            }
        }
        if !held.0.is_empty() {
            main.at_end(move |_| drop(held));
        }
        Step::next()
    }
}

impl Limiter {
    fn refuse(&self, main: &Request) -> Result<Step, RequestError> {
        let status = main.lasting_ctx::<Status>();
        if self.dry_run {
            status.0.set("REJECTED_DRY_RUN");
            return Step::next();
        }
        status.0.set("REJECTED");
        Step::finish(self.status)
    }
}

/// What a request occupies; given back when it ends, or when one of its limits refuses it.
struct Held(Vec<Place>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.iter().for_each(Place::give_back);
    }
}

struct Place {
    zone: Arc<Zone<LimitConn>>,
    key: Box<[u8]>,
}

enum Taken {
    Yes,
    /// There are as many as may be.
    Limit,
    /// The zone is full.
    NoRoom,
}

impl Place {
    fn take(&self, limit: u32) -> Taken {
        let mut slot = self.zone.records().lock(&self.key);
        if let Some(mut record) = slot.get() {
            let count = read(record.value());
            if count >= limit {
                return Taken::Limit;
            }
            write(count + 1, record.value_mut());
            return Taken::Yes;
        }
        // A record that counts somebody never gives way.
        match slot.put(size_of::<u32>(), 0) {
            Ok(mut put) => {
                write(1, put.record.value_mut());
                Taken::Yes
            }
            Err(_) => Taken::NoRoom,
        }
    }

    fn give_back(&self) {
        let mut slot = self.zone.records().lock(&self.key);
        let Some(mut record) = slot.peek() else { return };
        match read(record.value()).saturating_sub(1) {
            0 => {
                slot.remove();
            }
            count => write(count, record.value_mut()),
        }
    }
}

fn read(value: &[u8]) -> u32 {
    value.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

fn write(count: u32, value: &mut [u8]) {
    if let Some(bytes) = value.first_chunk_mut() {
        *bytes = count.to_ne_bytes();
    }
}
