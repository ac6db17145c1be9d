//! Dates in headers, cookies and logs. RFC 9110, 5.6.7; reading the three formats as leniently as nginx.
//!
//! Seconds count from 1970-01-01 UTC. Nothing here reads a clock or a time zone: local times take their offset.

const WEEKDAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
const DAY: i64 = 86_400;
/// The last second that has a year of four digits.
const LAST: i64 = 253_402_300_799;

/// A point in time as calendars and clocks show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
    /// Days since a Thursday, 0 to 6.
    thursdays: u8,
}

impl Civil {
    /// UTC of `seconds`; times before 1970 are shown as its beginning (as in nginx), those after 9999 as its end.
    #[must_use]
    pub fn from_unix(seconds: i64) -> Self {
        let seconds = seconds.clamp(0, LAST);
        // Below 2³², where dividing is cheaper.
        let (days, rest) = ((seconds / DAY) as u32, (seconds % DAY) as u32);
        // Years begin in March here, so that a leap day is a year's last; 719,468 days before 1970 is 0000-03-01.
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + u32::from(month <= 2);
        Self {
            year: year as u16,
            month: month as u8,
            day: day as u8,
            hour: (rest / 3600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
            thursdays: (days % 7) as u8,
        }
    }

    /// Local time at `offset` seconds east of UTC.
    #[must_use]
    pub fn local(seconds: i64, offset: i32) -> Self {
        Self::from_unix(seconds.saturating_add(i64::from(offset)))
    }

    fn weekday(&self) -> &'static [u8; 3] {
        WEEKDAYS.get(usize::from(self.thursdays)).copied().unwrap_or(b"Thu")
    }

    fn month_name(&self) -> &'static [u8; 3] {
        MONTHS.get(usize::from(self.month).wrapping_sub(1)).copied().unwrap_or(b"Jan")
    }

    /// Day of the week, Sunday being 0.
    #[must_use]
    pub fn weekday_number(&self) -> u8 {
        (self.thursdays + 4) % 7
    }
}

/// Two digits of a number below 100.
fn two(value: u8) -> [u8; 2] {
    let tens = value / 10;
    [b'0' + tens, b'0' + (value - 10 * tens)]
}

fn four(value: u16) -> [u8; 4] {
    let [a, b] = two((value / 100 % 100) as u8);
    let [c, d] = two((value % 100) as u8);
    [a, b, c, d]
}

/// Fills an array from pieces.
struct Writer<'a>(&'a mut [u8]);

impl Writer<'_> {
    fn put(&mut self, piece: &[u8]) -> &mut Self {
        if let Some((place, rest)) = std::mem::take(&mut self.0).split_at_mut_checked(piece.len()) {
            place.copy_from_slice(piece);
            self.0 = rest;
        }
        self
    }

    fn time(&mut self, civil: &Civil) -> &mut Self {
        self.put(&two(civil.hour)).put(b":").put(&two(civil.minute)).put(b":").put(&two(civil.second))
    }

    fn zone(&mut self, offset: i32, separator: &[u8]) -> &mut Self {
        let minutes = (offset / 60).unsigned_abs();
        self.put(if offset < 0 { b"-" } else { b"+" })
            .put(&two((minutes / 60 % 100) as u8))
            .put(separator)
            .put(&two((minutes % 60) as u8))
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, for `Date` and other fields.
#[must_use]
pub fn http(seconds: i64) -> [u8; 29] {
    let civil = Civil::from_unix(seconds);
    let ([w, e, k], [d, a]) = (*civil.weekday(), two(civil.day));
    let ([m, o, n], [y, r, s, t]) = (*civil.month_name(), four(civil.year));
    let ([h, i], [j, l], [p, q]) = (two(civil.hour), two(civil.minute), two(civil.second));
    // In one piece, because this is part of every answer made of a file.
    [
        w, e, k, b',', b' ', d, a, b' ', m, o, n, b' ', y, r, s, t, b' ', h, i, b':', j, l, b':', p, q, b' ',
        b'G', b'M', b'T',
    ]
}

/// Appends `Sun, 06-Nov-94 08:49:37 GMT`, for the `expires` of a cookie; from 2038 on the year has four digits.
pub fn cookie(seconds: i64, out: &mut Vec<u8>) {
    let civil = Civil::from_unix(seconds);
    let mut head = *b"Thu, 01-Jan-";
    Writer(&mut head).put(civil.weekday()).put(b", ").put(&two(civil.day)).put(b"-").put(civil.month_name());
    out.extend_from_slice(&head);
    if civil.year > 2037 {
        out.extend_from_slice(&four(civil.year));
    } else {
        out.extend_from_slice(&two((civil.year % 100) as u8));
    }
    let mut tail = *b" 00:00:00 GMT";
    Writer(&mut tail).put(b" ").time(&civil);
    out.extend_from_slice(&tail);
}

/// `22/Nov/2026:13:49:40 +0000`, `$time_local`; `offset` is the zone's, in seconds east of UTC.
#[must_use]
pub fn log_local(seconds: i64, offset: i32) -> [u8; 26] {
    let civil = Civil::local(seconds, offset);
    let mut out = *b"01/Jan/1970:00:00:00 +0000";
    Writer(&mut out)
        .put(&two(civil.day))
        .put(b"/")
        .put(civil.month_name())
        .put(b"/")
        .put(&four(civil.year))
        .put(b":")
        .time(&civil)
        .put(b" ")
        .zone(offset, b"");
    out
}

/// `2026-11-22T13:49:40+00:00`, `$time_iso8601`.
#[must_use]
pub fn iso8601(seconds: i64, offset: i32) -> [u8; 25] {
    let civil = Civil::local(seconds, offset);
    let mut out = *b"1970-01-01T00:00:00+00:00";
    Writer(&mut out)
        .put(&four(civil.year))
        .put(b"-")
        .put(&two(civil.month))
        .put(b"-")
        .put(&two(civil.day))
        .put(b"T")
        .time(&civil)
        .zone(offset, b":");
    out
}

/// `2026/11/22 13:49:40`, as in the error log.
#[must_use]
pub fn error_log(seconds: i64, offset: i32) -> [u8; 19] {
    let civil = Civil::local(seconds, offset);
    let mut out = *b"1970/01/01 00:00:00";
    Writer(&mut out)
        .put(&four(civil.year))
        .put(b"/")
        .put(&two(civil.month))
        .put(b"/")
        .put(&two(civil.day))
        .put(b" ")
        .time(&civil);
    out
}

/// `Nov  2 13:49:40`, as in syslog messages (RFC 3164, 4.1.2).
#[must_use]
pub fn syslog(seconds: i64, offset: i32) -> [u8; 15] {
    let civil = Civil::local(seconds, offset);
    let [tens, ones] = two(civil.day);
    let mut out = *b"Jan  1 00:00:00";
    Writer(&mut out)
        .put(civil.month_name())
        .put(b" ")
        .put(&[if tens == b'0' { b' ' } else { tens }, ones])
        .put(b" ")
        .time(&civil);
    out
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT` and `Sun Nov  6 08:49:37 1994`.
///
/// nginx: the day of the week and the zone are not looked at; a year of two digits below 70 is in this century.
#[must_use]
pub fn parse_http(value: &[u8]) -> Option<i64> {
    let gap = value.iter().position(|byte| matches!(byte, b',' | b' '))?;
    let is_asctime = value.get(gap) == Some(&b' ');
    let mut text = Text(value.get(gap + 1..)?);
    while text.skip(b' ').is_some() {}
    if text.0.len() < 18 {
        return None;
    }
    let (year, month, day, time);
    if is_asctime {
        month = text.month()?;
        text.skip(b' ')?;
        day = if text.skip(b' ').is_some() {
            text.number(1)?
        } else {
            let digits = if matches!(text.0.get(1), Some(b' ')) { 1 } else { 2 };
            text.number(digits)?
        };
        text.skip(b' ')?;
        time = text.time()?;
        text.skip(b' ')?;
        year = text.number(4)?;
    } else {
        day = text.number(2)?;
        let separator = *text.0.first()?;
        if separator == b' ' {
            text.skip(b' ')?;
            month = text.month()?;
            text.skip(b' ')?;
            year = text.number(4)?;
        } else {
            text.skip(b'-')?;
            month = text.month()?;
            text.skip(b'-')?;
            let short = text.number(2)?;
            year = short + if short < 70 { 2000 } else { 1900 };
        }
        text.skip(b' ')?;
        time = text.time()?;
    }
    (day >= 1 && day <= days_in(year, month)).then(|| days_before(year, month, day) * DAY + time)
}

/// What is left to read of a date.
struct Text<'a>(&'a [u8]);

impl Text<'_> {
    fn skip(&mut self, byte: u8) -> Option<()> {
        self.0 = self.0.strip_prefix(&[byte])?;
        Some(())
    }

    fn number(&mut self, digits: usize) -> Option<i64> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        number
            .iter()
            .try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
    }

    /// The month, 1 to 12.
    fn month(&mut self) -> Option<i64> {
        let (name, rest) = self.0.split_first_chunk::<3>()?;
        self.0 = rest;
        MONTHS.iter().position(|month| *month == name).map(|index| index as i64 + 1)
    }

    /// `hh:mm:ss` in seconds.
    fn time(&mut self) -> Option<i64> {
        let hour = self.number(2)?;
        self.skip(b':')?;
        let minute = self.number(2)?;
        self.skip(b':')?;
        let second = self.number(2)?;
        (hour < 24 && minute < 60 && second < 60).then_some(hour * 3600 + minute * 60 + second)
    }
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to this day; negative before.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn formats() {
        let at = 784_111_777; // the example of RFC 9110, 5.6.7
        assert_eq!(text(&http(at)), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(text(&log_local(at, 0)), "06/Nov/1994:08:49:37 +0000");
        assert_eq!(text(&log_local(at, -12_600)), "06/Nov/1994:05:19:37 -0330");
        assert_eq!(text(&iso8601(at, 20_700)), "1994-11-06T14:34:37+05:45");
        assert_eq!(text(&error_log(at, 3600)), "1994/11/06 09:49:37");
        assert_eq!(text(&syslog(at, 0)), "Nov  6 08:49:37");
        assert_eq!(text(&syslog(at + 10 * DAY, 0)), "Nov 16 08:49:37");
        assert_eq!(text(&http(0)), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(text(&http(-5)), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(text(&http(951_782_400)), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(text(&http(i64::MAX)), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(Civil::from_unix(at).weekday_number(), 0);
    }

    #[test]
    fn cookie_years_grow_in_2038() {
        let mut out = Vec::new();
        cookie(784_111_777, &mut out);
        assert_eq!(text(&out), "Sun, 06-Nov-94 08:49:37 GMT");
        out.clear();
        cookie(2_145_916_800, &mut out);
        assert_eq!(text(&out), "Fri, 01-Jan-2038 00:00:00 GMT");
    }

    fn check(value: &str, expect: Option<i64>) {
        assert_eq!(parse_http(value.as_bytes()), expect, "{value}");
    }

    #[test]
    fn the_three_formats_are_read() {
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777));
        check("Sun Nov  6 08:49:37 1994", Some(784_111_777));
        check("Wed Nov 16 08:49:37 1994", Some(784_111_777 + 10 * DAY));
        check("x,06 Nov 1994 08:49:37", Some(784_111_777));
        check("Tue, 29 Feb 2000 00:00:00 GMT", Some(951_782_400));
        check("Thu, 01 Jan 1970 00:00:00 GMT", Some(0));
        check("Wed, 31 Dec 1969 23:59:59 GMT", Some(-1));
        check("Monday, 01-Jan-69 00:00:00 GMT", Some(3_124_224_000));
    }

    #[test]
    fn broken_dates_are_refused() {
        for value in [
            "",
            ",",
            "Sun",
            "Sun, 06 Nov 1994",
            "Sun, 06 Nov 1994 08:49",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 29 Feb 1900 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:00 GMT",
            "Sun, 06 Nov 1994 08:00:60 GMT",
            "Sun, 06 Nox 1994 08:49:37 GMT",
            "Sun, 06-Nov 94 08:49:37 GMT  ",
            "Sun Nov 6x 08:49:37 1994",
            "Sun Nov  6 08:49:37 19x4",
            "+1, +6 Nov 1994 08:49:37 GMT",
        ] {
            check(value, None);
        }
    }

    #[test]
    fn every_day_of_four_centuries_survives_the_round_trip() {
        for day in 0..146_097 {
            let at = day * DAY + day % DAY;
            assert_eq!(parse_http(&http(at)), Some(at));
        }
    }
}
