//! `expires`: the fields `Expires` and `Cache-Control`.
//! <https://nginx.org/en/docs/http/ngx_http_headers_module.html#expires>

use super::Loc;
use moonrest_core::conf::value::parse_sec;
use moonrest_http::prelude::*;
use moonrest_proto::date;
use moonrest_sys::time;

const DAY: i64 = 24 * 60 * 60;

/// What an `expires` line says.
#[derive(Clone, Debug)]
pub(super) enum Expires {
    Fixed(When),
    /// With a variable; `modified` says from which moment it counts.
    Variable {
        value: Template,
        modified: bool,
    },
}

/// When a response expires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum When {
    Off,
    Epoch,
    Max,
    /// Seconds from now.
    Access(i64),
    /// Seconds from the last modification.
    Modified(i64),
    /// At this second of the day, local time.
    Daily(i64),
}

pub(super) fn set(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    if loc.expires.is_some() {
        return Err(Fault::DUPLICATE);
    }
    let modified = args.len() == 2;
    if modified && args.bytes(0)? != b"modified" {
        return Err(Fault::directive("invalid value"));
    }
    let value = args.template(args.len() - 1)?;
    loc.expires = Some(match value.as_static() {
        Some(text) => Expires::Fixed(parse(text, modified).map_err(Fault::directive)?),
        None => Expires::Variable { value, modified },
    });
    Ok(())
}

fn parse(text: &[u8], modified: bool) -> Result<When, &'static str> {
    if !modified {
        match text {
            b"epoch" => return Ok(When::Epoch),
            b"max" => return Ok(When::Max),
            b"off" => return Ok(When::Off),
            _ => {}
        }
    }
    let seconds =
        |text| parse_sec(text).and_then(|seconds| i64::try_from(seconds).ok()).ok_or("invalid value");
    let from_moment = |seconds| if modified { When::Modified(seconds) } else { When::Access(seconds) };
    match text {
        [b'@', _rest @ ..] if modified => Err("daily time cannot be used with \"modified\" parameter"),
        [b'@', rest @ ..] => match seconds(rest)? {
            second if second > DAY => Err("daily time value must be less than 24 hours"),
            second => Ok(When::Daily(second)),
        },
        [b'-', rest @ ..] => Ok(from_moment(-seconds(rest)?)),
        [b'+', rest @ ..] => Ok(from_moment(seconds(rest)?)),
        _ => Ok(from_moment(seconds(text)?)),
    }
}

impl Expires {
    /// Whether it never adds anything.
    pub(super) fn is_off(&self) -> bool {
        matches!(self, Self::Fixed(When::Off))
    }

    /// Sets the two fields.
    pub(super) fn apply(&self, r: &Request) {
        let when = match self {
            Self::Fixed(when) => *when,
            // nginx: a value that means nothing adds nothing.
            Self::Variable { value, modified } => parse(&value.eval(r), *modified).unwrap_or(When::Off),
        };
        let mut out = r.out_mut();
        let Some((expires, cache)) = fields(when, r.worker.now(), out.last_modified) else { return };
        out.set(Bytes::from_static(b"Expires"), expires);
        out.set(Bytes::from_static(b"Cache-Control"), cache);
    }
}

/// The values of `Expires` and `Cache-Control`.
fn fields(when: When, now: i64, last_modified: Option<i64>) -> Option<(Bytes, Bytes)> {
    let no_cache = Bytes::from_static(b"no-cache");
    let (expires, max_age) = match when {
        When::Off => return None,
        When::Epoch => return Some((Bytes::from_static(b"Thu, 01 Jan 1970 00:00:01 GMT"), no_cache)),
        // 10 years
        When::Max => {
            let date = Bytes::from_static(b"Thu, 31 Dec 2037 23:55:55 GMT");
            return Some((date, Bytes::from_static(b"max-age=315360000")));
        }
        // nginx: zero is now, also with `modified`.
        When::Access(0) | When::Modified(0) => (now, 0),
        When::Daily(second) => {
            let next = next_time(second, now);
            (next, next - now)
        }
        When::Modified(seconds) if last_modified.is_some() => {
            let expires = last_modified.unwrap_or(now).saturating_add(seconds);
            // nginx: a time before the modification is never fresh.
            (expires, if seconds < 0 { -1 } else { expires.saturating_sub(now) })
        }
        When::Access(seconds) | When::Modified(seconds) => (now.saturating_add(seconds), seconds),
    };
    let cache = if max_age < 0 { no_cache } else { format!("max-age={max_age}").into() };
    Some((Bytes::copy_from_slice(&date::http(expires)), cache))
}

/// The next moment at which the local clock shows this second of the day.
fn next_time(second: i64, now: i64) -> i64 {
    let local = time::local(now);
    let of_day = i64::from(local.hour) * 3600 + i64::from(local.minute) * 60 + i64::from(local.second);
    let mut next = now - of_day + second;
    if next <= now {
        next += DAY;
    }
    // The clocks may be changed until then.
    next - i64::from(time::local_offset(next) - local.offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, modified: bool, expect: Result<When, &str>) {
        assert_eq!(parse(text.as_bytes(), modified), expect, "{text}");
    }

    #[test]
    fn all_forms_are_read() {
        check("epoch", false, Ok(When::Epoch));
        check("max", false, Ok(When::Max));
        check("off", false, Ok(When::Off));
        check("epoch", true, Err("invalid value"));
        check("30d", false, Ok(When::Access(30 * DAY)));
        check("+1h", false, Ok(When::Access(3600)));
        check("-1", false, Ok(When::Access(-1)));
        check("1m", true, Ok(When::Modified(60)));
        check("@15h30m", false, Ok(When::Daily(55_800)));
        check("@25h", false, Err("daily time value must be less than 24 hours"));
        check("@1h", true, Err("daily time cannot be used with \"modified\" parameter"));
        check("soon", false, Err("invalid value"));
        check("", false, Err("invalid value"));
    }

    fn check_fields(when: When, modified: Option<i64>, expect: &str) {
        let (expires, cache) = fields(when, 1_000_000_000, modified).unwrap();
        let got = format!("{} {}", String::from_utf8_lossy(&expires), String::from_utf8_lossy(&cache));
        assert_eq!(got, expect);
    }

    #[test]
    fn the_fields_agree_with_each_other() {
        check_fields(When::Access(0), None, "Sun, 09 Sep 2001 01:46:40 GMT max-age=0");
        check_fields(When::Access(60), None, "Sun, 09 Sep 2001 01:47:40 GMT max-age=60");
        check_fields(When::Access(-60), None, "Sun, 09 Sep 2001 01:45:40 GMT no-cache");
        check_fields(
            When::Modified(60),
            Some(1_000_000_000 - 10),
            "Sun, 09 Sep 2001 01:47:30 GMT max-age=50",
        );
        check_fields(When::Modified(60), Some(0), "Thu, 01 Jan 1970 00:01:00 GMT no-cache");
        check_fields(When::Modified(60), None, "Sun, 09 Sep 2001 01:47:40 GMT max-age=60");
    }

    #[test]
    fn a_daily_time_is_within_the_next_day() {
        for now in [0, 1_000_000_000, 1_700_000_123] {
            for second in [0, 1, 43_200, DAY] {
                let next = next_time(second, now);
                assert!(next > now && next <= now + DAY + 3600, "{second} after {now}");
                let local = time::local(next);
                let shown =
                    i64::from(local.hour) * 3600 + i64::from(local.minute) * 60 + i64::from(local.second);
                assert_eq!(shown, second % DAY);
            }
        }
    }
}
