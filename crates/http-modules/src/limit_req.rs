//! `limit_req`: leaky-bucket limits on the request rate, per key.
//! <https://nginx.org/en/docs/http/ngx_http_limit_req_module.html>

use crate::limit::{LEVELS, Zone, Zones, level, zone_missing, zone_parameter};
use moonrest_core::conf::value::parse_uint;
use moonrest_http::prelude::*;
use moonrest_sys::time::monotonic_ms;
use smallvec::SmallVec;
use std::{cell::Cell, ops::Range};

/// The module.
pub struct LimitReq;
type D = Directive<LimitReq>;

impl HttpModule for LimitReq {
    const NAME: &'static str = "ngx_http_limit_req_module";
    const DIRECTIVES: &'static [D] = &[
        D::main("limit_req_zone", Arity::exactly(3), add_zone),
        D::loc("limit_req", Arity::between(1, 3), add_limit),
        D::new(
            "limit_req_log_level",
            Contexts::HSL,
            Arity::exactly(1),
            Set::Enum(LEVELS, |loc: &mut Loc| &mut loc.level),
        ),
        D::status("limit_req_status", |loc| &mut loc.status),
        D::flag("limit_req_dry_run", |loc| &mut loc.dry_run),
    ];
    const VARIABLES: &'static [VarDef<Request>] = &[VarDef::get("limit_req_status", |r, out| {
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
            .map(|limit| {
                Ok(BoundLimit { zone: zones.find(&limit.zone, to)?, burst: limit.burst, delay: limit.delay })
            })
            .collect::<ConfResult<_>>()?;
        let rejected = level(loc.level);
        to.on(
            Phase::Preaccess,
            Limiter {
                limits,
                rejected,
                delayed: milder(rejected),
                status: loc.status.unwrap_or(503),
                dry_run: loc.dry_run.unwrap_or(false),
            },
        );
        Ok(())
    }
}

/// A request that is only delayed is less of an event.
fn milder(level: Level) -> Level {
    match level {
        Level::Error => Level::Warn,
        Level::Warn => Level::Notice,
        _ => Level::Info,
    }
}

/// What one block says. Limits of outer blocks are in force only where there are none.
#[derive(Clone, Default)]
pub struct Loc {
    limits: Option<Vec<Limit>>,
    level: Option<usize>,
    status: Option<u16>,
    dry_run: Option<bool>,
}
inherit!(Loc { limits, level, status, dry_run });

#[derive(Clone)]
struct Limit {
    zone: Box<str>,
    /// Requests in thousandths.
    burst: u64,
    delay: u64,
}

struct BoundLimit {
    zone: Arc<Zone<LimitReq>>,
    burst: u64,
    delay: u64,
}

fn add_zone(zones: &mut Zones<LimitReq>, args: &Args<'_>) -> ConfResult {
    let mut zone = None;
    let mut rate = 1000;
    for n in 1..args.len() {
        if let Some(found) = zone_parameter(args, n)? {
            zone = Some(found);
        } else if let Some(text) = args.bytes(n)?.strip_prefix(b"rate=") {
            rate = parse_rate(text)
                .ok_or_else(|| Fault::message(format!("invalid rate \"{}\"", args.lossy(n))))?;
        } else {
            return Err(args.invalid_parameter(n));
        }
    }
    let (name, size) = zone.filter(|(name, _)| !name.is_empty()).ok_or_else(|| zone_missing(args))?;
    zones.declare(args, &name, size, rate)
}

/// `5r/s` or `5r/m`, in thousandths of a request per second.
fn parse_rate(text: &[u8]) -> Option<u64> {
    let (number, scale) = if let Some(number) = text.strip_suffix(b"r/s") {
        (number, 1)
    } else if let Some(number) = text.strip_suffix(b"r/m") {
        (number, 60)
    } else {
        (text, 1)
    };
    let rate = parse_uint(number).filter(|rate| *rate > 0)?;
    Some(rate.checked_mul(1000)? / scale)
}

fn add_limit(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    let mut limit = Limit { zone: Box::default(), burst: 0, delay: 0 };
    for n in 0..args.len() {
        let number = |text: &[u8], what: &str| {
            parse_uint(text)
                .filter(|number| *number > 0)
                .map(|number| number.saturating_mul(1000))
                .ok_or_else(|| Fault::message(format!("invalid {what} value \"{}\"", args.lossy(n))))
        };
        let text = args.bytes(n)?;
        if let Some(name) = text.strip_prefix(b"zone=") {
            limit.zone = String::from_utf8_lossy(name).into();
        } else if let Some(text) = text.strip_prefix(b"burst=") {
            limit.burst = number(text, "burst")?;
        } else if let Some(text) = text.strip_prefix(b"delay=") {
            limit.delay = number(text, "delay")?;
        } else if text == b"nodelay" {
            limit.delay = u64::MAX;
        } else {
            return Err(args.invalid_parameter(n));
        }
    }
    if limit.zone.is_empty() {
        return Err(zone_missing(args));
    }
    let limits = loc.limits.get_or_insert_default();
    if limits.iter().any(|known| known.zone == limit.zone) {
        return Err(Fault::DUPLICATE);
    }
    limits.push(limit);
    Ok(())
}

/// Of the client's request: limits are asked once, whatever locations it comes to. The value of `$limit_req_status`.
#[derive(Default)]
struct Status(Cell<&'static str>);

struct Limiter {
    limits: Box<[BoundLimit]>,
    rejected: Level,
    delayed: Level,
    status: u16,
    dry_run: bool,
}

impl PhaseHandler for Limiter {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        if r.main().find_ctx::<Status>().is_some() {
            return Step::next();
        }
        let outcome = self.charge(r, &mut Vec::with_capacity(64));
        let said = |status| r.main().lasting_ctx::<Status>().0.set(status);
        match outcome {
            Outcome::Unlimited => Step::next(),
            Outcome::Passed => {
                said("PASSED");
                Step::next()
            }
            Outcome::Rejected if self.dry_run => {
                said("REJECTED_DRY_RUN");
                Step::next()
            }
            Outcome::Rejected => {
                said("REJECTED");
                Step::finish(self.status)
            }
            Outcome::Delayed(_) if self.dry_run => {
                said("DELAYED_DRY_RUN");
                Step::next()
            }
            Outcome::Delayed(ms) => {
                said("DELAYED");
                Step::wait(r.sleep(ms))
            }
        }
    }
}

enum Outcome {
    /// All keys are empty.
    Unlimited,
    Passed,
    /// For so many milliseconds.
    Delayed(u64),
    Rejected,
}

/// A request counted in one zone.
struct Charge<'a> {
    limit: &'a BoundLimit,
    /// Where the key stands in the buffer.
    key: Range<usize>,
    before: Option<Bucket>,
    after: Bucket,
}

/// Keys are no longer than this in nginx.
const MAX_KEY: usize = 65_535;

impl Limiter {
    /// Counts the request in every zone, or in none if one of them rejects it.
    fn charge(&self, r: &Request, keys: &mut Vec<u8>) -> Outcome {
        let now = monotonic_ms();
        let mut charges: SmallVec<[Charge<'_>; 2]> = SmallVec::new();
        for limit in &self.limits {
            let start = keys.len();
            limit.zone.key.append(r, keys);
            let range = start..keys.len();
            let key = keys.get(range.clone()).unwrap_or_default();
            if key.is_empty() {
                continue;
            }
            if key.len() > MAX_KEY {
                let (name, key) = (limit.zone.key_text(), String::from_utf8_lossy(key));
                moonrest_http::error!(
                    r,
                    "the value of the \"{name}\" key is more than 65535 bytes: \"{key}\""
                );
                continue;
            }
            match limit.charge(key, now) {
                Ok((before, after)) => charges.push(Charge { limit, key: range, before, after }),
                Err(refusal) => {
                    self.report_refusal(r, limit, &refusal);
                    for charge in &charges {
                        charge.refund(keys.get(charge.key.clone()).unwrap_or_default());
                    }
                    return Outcome::Rejected;
                }
            }
        }
        let Some(last) = charges.last() else { return Outcome::Unlimited };
        // nginx: of equal delays, that of the last zone is named, then that of the one before it.
        let mut longest = last;
        for charge in charges.iter().rev() {
            if charge.delay() > longest.delay() {
                longest = charge;
            }
        }
        match longest.delay() {
            0 => Outcome::Passed,
            ms => {
                let (excess, name) = (Thousandths(longest.after.excess), &longest.limit.zone.name);
                let dry_run = if self.dry_run { ", dry run" } else { "" };
                if r.log().enabled(self.delayed) {
                    let line =
                        format_args!("delaying request{dry_run}, excess: {excess}, by zone \"{name}\"");
                    r.log_at(self.delayed, line);
                }
                Outcome::Delayed(ms)
            }
        }
    }

    fn report_refusal(&self, r: &Request, limit: &BoundLimit, refusal: &Refusal) {
        let name = &limit.zone.name;
        match refusal {
            Refusal::Excess(excess) if r.log().enabled(self.rejected) => {
                let (excess, dry_run) = (Thousandths(*excess), if self.dry_run { ", dry run" } else { "" });
                let line = format_args!("limiting requests{dry_run}, excess: {excess} by zone \"{name}\"");
                r.log_at(self.rejected, line);
            }
            Refusal::Excess(_) => {}
            Refusal::NoRoom => {
                moonrest_http::alert!(r, "could not allocate node in limit_req zone \"{name}\"");
            }
        }
    }
}

impl Charge<'_> {
    /// Milliseconds until the bucket has room again.
    fn delay(&self) -> u64 {
        let over = self.after.excess.saturating_sub(self.limit.delay);
        over.saturating_mul(1000) / self.limit.zone.rate.max(1)
    }

    /// Takes the request back, as if it had not been counted.
    fn refund(&self, key: &[u8]) {
        let mut slot = self.limit.zone.records().lock(key);
        let Some(mut record) = slot.peek() else { return };
        let present = Bucket::read(record.value());
        match (present == self.after, self.before) {
            (true, Some(before)) => before.write(record.value_mut()),
            (true, None) => {
                slot.remove();
            }
            // Somebody else was counted meanwhile.
            (false, _) => {
                Bucket { excess: present.excess.saturating_sub(1000), ..present }.write(record.value_mut());
            }
        }
    }
}

/// Why a request was not counted.
enum Refusal {
    /// More than the burst.
    Excess(u64),
    /// The key does not fit into the zone.
    NoRoom,
}

impl BoundLimit {
    /// Counts a request; gives the bucket before and after.
    fn charge(&self, key: &[u8], now: u64) -> Result<(Option<Bucket>, Bucket), Refusal> {
        let mut slot = self.zone.records().lock(key);
        if let Some(mut record) = slot.get() {
            let before = Bucket::read(record.value());
            let after = before.after_request(self.zone.rate, now);
            if after.excess > self.burst {
                return Err(Refusal::Excess(after.excess));
            }
            after.write(record.value_mut());
            return Ok((Some(before), after));
        }
        let after = Bucket { excess: 0, last: now };
        let mut put = slot.put(Bucket::LEN, usize::MAX).map_err(|_| Refusal::NoRoom)?;
        after.write(put.record.value_mut());
        Ok((None, after))
    }
}

/// Requests are counted in thousandths, as nginx counts them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Bucket {
    excess: u64,
    /// Monotonic milliseconds.
    last: u64,
}

impl Bucket {
    const LEN: usize = 16;

    /// What leaked since the last request, and one request more.
    fn after_request(self, rate: u64, now: u64) -> Self {
        // Other workers may have counted a little later than this one looked at the clock.
        let ms = now.saturating_sub(self.last);
        let leaked = rate.saturating_mul(ms) / 1000;
        Self { excess: self.excess.saturating_add(1000).saturating_sub(leaked), last: now.max(self.last) }
    }

    fn read(value: &[u8]) -> Self {
        let word = |at: usize| {
            value.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_ne_bytes(*bytes))
        };
        Self { excess: word(0), last: word(8) }
    }

    fn write(self, value: &mut [u8]) {
        if let Some((excess, last)) = value.split_at_mut_checked(8) {
            excess.copy_from_slice(&self.excess.to_ne_bytes());
            last.copy_from_slice(&self.last.to_ne_bytes());
        }
    }
}

/// `1.000`
struct Thousandths(u64);

impl std::fmt::Display for Thousandths {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_leaks_at_the_rate() {
        let full = Bucket { excess: 1000, last: 10_000 };
        // Half a second at 2 r/s: one in, one out.
        assert_eq!(full.after_request(2_000, 10_500), Bucket { excess: 1000, last: 10_500 });
        assert_eq!(full.after_request(2_000, 10_000), Bucket { excess: 2000, last: 10_000 });
        assert_eq!(full.after_request(2_000, 9_000), Bucket { excess: 2000, last: 10_000 });
        assert_eq!(full.after_request(2_000, 90_000).excess, 0);
        assert_eq!(full.after_request(u64::MAX, u64::MAX).excess, 0);
        let mut value = [0; Bucket::LEN];
        full.write(&mut value);
        assert_eq!(Bucket::read(&value), full);
    }

    #[test]
    fn rates_are_read_in_thousandths() {
        let check = |text: &str, expect| assert_eq!(parse_rate(text.as_bytes()), expect, "{text}");
        check("1r/s", Some(1000));
        check("1r/m", Some(16));
        check("100r/m", Some(1666));
        check("5", Some(5000));
        check("0r/s", None);
        check("-1r/s", None);
        check("r/s", None);
        check("99999999999999999999r/s", None);
        check("9223372036854775807r/s", None);
    }
}
