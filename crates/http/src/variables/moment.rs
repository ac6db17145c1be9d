//! Variables of time.

use super::bytes;
use crate::request::Request;
use moonrest_sys::time;

pub(super) fn request_time(r: &Request, out: &mut Vec<u8>) -> bool {
    crate::decimal::append_millis(out, time::monotonic_ms().saturating_sub(r.started_ms.get()));
    true
}

pub(super) fn msec(_: &Request, out: &mut Vec<u8>) -> bool {
    let now = time::wall();
    let millis = u64::try_from(now.secs).unwrap_or(0) * 1000 + u64::from(now.millis());
    crate::decimal::append_millis(out, millis);
    true
}

pub(super) fn iso8601(r: &Request, out: &mut Vec<u8>) -> bool {
    bytes(out, &r.worker.local_times().iso8601)
}

pub(super) fn local(r: &Request, out: &mut Vec<u8>) -> bool {
    bytes(out, &r.worker.local_times().log)
}
