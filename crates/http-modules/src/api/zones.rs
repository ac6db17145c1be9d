//! `status_zone`: requests counted by the server they were for, or by the location they ended in.

use super::{Asked, Loc, Main, Refusal, Reply};
use moonrest_http::prelude::*;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

/// What is counted under one name, by all workers. It outlives reloads.
#[derive(Default)]
pub(super) struct Zone {
    processing: AtomicI64,
    requests: AtomicU64,
    responses: [AtomicU64; 5],
    codes: Mutex<BTreeMap<u16, u64>>,
    /// Requests that ended without an answer.
    discarded: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

/// The zones of one kind, in order, with their names.
pub(super) type Zones = Vec<(String, Arc<Zone>)>;

/// Sets `status_zone NAME | off`.
pub(super) fn set(main: &mut Main, loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    let name = args.str(0)?;
    let of_server = args.context == Contexts::SERVER;
    let slot = if of_server { &mut loc.server_zone } else { &mut loc.location_zone };
    if name == "off" && !of_server {
        return set_once(slot, None);
    }
    if name.is_empty() {
        return Err(Fault::message("invalid zone name \"\""));
    }
    let (zones, kind) = match of_server {
        true => (&mut main.server_zones, "server"),
        false => (&mut main.location_zones, "location"),
    };
    // Not a name that anybody can write: zones of other modules have the same list.
    let zone = args.env.zones.declare(&format!("{kind} status: {name}"), 0, Zone::default)?;
    if !zones.iter().any(|(known, _)| known == name) {
        zones.push((name.to_owned(), zone.clone()));
    }
    set_once(slot, Some(zone))
}

/// Has a location's requests counted.
pub(super) fn attach(loc: &Loc, to: &mut LocationBuilder<'_>) {
    let server = loc.server_zone.clone().flatten();
    if let Some(zone) = &server
        && to.kind == LocationKind::Server
    {
        to.on(Phase::PostRead, Enter(zone.clone()));
    }
    let zones: Vec<_> = server.into_iter().chain(loc.location_zone.clone().flatten()).collect();
    if !zones.is_empty() {
        to.log(Count(zones));
    }
}

/// Counts a request as long as it lives.
struct Enter(Arc<Zone>);

impl PhaseHandler for Enter {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        if !r.is_subrequest() {
            self.0.processing.fetch_add(1, Relaxed);
            let zone = self.0.clone();
            r.at_end(move |_| {
                zone.processing.fetch_sub(1, Relaxed);
            });
        }
        Step::next()
    }
}

struct Count(Vec<Arc<Zone>>);

impl LogHandler for Count {
    fn log(&self, r: &RequestRef) -> Option<moonrest_http::phase::LocalBoxFuture<()>> {
        if r.is_subrequest() {
            return None;
        }
        for zone in &self.0 {
            zone.count(r);
        }
        None
    }
}

impl Zone {
    fn count(&self, r: &Request) {
        self.requests.fetch_add(1, Relaxed);
        self.received.fetch_add(r.request_length.get(), Relaxed);
        let sent = r.exchange.bytes_sent();
        self.sent.fetch_add(sent, Relaxed);
        let status = r.out().status;
        let kind = usize::from(status / 100).checked_sub(1).and_then(|kind| self.responses.get(kind));
        match kind.filter(|_| sent > 0) {
            Some(responses) => {
                responses.fetch_add(1, Relaxed);
                *self.codes.lock().entry(status).or_default() += 1;
            }
            None => {
                self.discarded.fetch_add(1, Relaxed);
            }
        }
    }

    fn show(&self, of_server: bool) -> Value {
        let number = |counter: &AtomicU64| counter.load(Relaxed);
        let [one, two, three, four, five] =
            [0, 1, 2, 3, 4].map(|n: usize| self.responses.get(n).map_or(0, number));
        let codes: Map<_, _> =
            self.codes.lock().iter().map(|(code, count)| (code.to_string(), Value::from(*count))).collect();
        let mut shown = Map::new();
        if of_server {
            shown.insert("processing".to_owned(), self.processing.load(Relaxed).into());
        }
        shown.insert("requests".to_owned(), number(&self.requests).into());
        let responses = json!({
            "1xx": one, "2xx": two, "3xx": three, "4xx": four, "5xx": five,
            "codes": codes,
            "total": one + two + three + four + five,
        });
        shown.insert("responses".to_owned(), responses);
        shown.insert("discarded".to_owned(), number(&self.discarded).into());
        shown.insert("received".to_owned(), number(&self.received).into());
        shown.insert("sent".to_owned(), number(&self.sent).into());
        shown.into()
    }

    /// Counts begin anew.
    pub(super) fn reset(&self) {
        let numbers = [&self.requests, &self.discarded, &self.received, &self.sent];
        self.responses.iter().chain(numbers).for_each(|number| number.store(0, Relaxed));
        self.codes.lock().clear();
    }
}

/// Answers `/http/server_zones/…` and `/http/location_zones/…`.
pub(super) fn get(asked: &Asked<'_>, kind: &str, path: &[&str]) -> Reply {
    let (zones, of_server) = asked.handler.shared.zones(kind);
    match path {
        [] => {
            let all = zones.iter().map(|(name, zone)| (name.clone(), asked.only(zone.show(of_server))));
            Ok(all.collect::<Map<_, _>>().into())
        }
        [name] => Ok(asked.only(find(zones, of_server, name)?.show(of_server))),
        _ => Err(Refusal::no_path()),
    }
}

/// The zone of that name.
pub(super) fn find<'z>(zones: &'z Zones, of_server: bool, name: &str) -> Reply<&'z Zone> {
    let found = zones.iter().find(|(known, _)| known == name).map(|(_, zone)| &**zone);
    found.ok_or_else(|| match of_server {
        true => Refusal::new(404, "server zone not found", "ServerZoneNotFound"),
        false => Refusal::new(404, "location zone not found", "LocationZoneNotFound"),
    })
}
