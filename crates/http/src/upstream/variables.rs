//! `$upstream_*`: what the asked servers answered, several attempts separated as nginx does.
//! <https://nginx.org/en/docs/http/ngx_http_upstream_module.html#variables>

use super::state::{Attempt, States};
use crate::{decimal, request::Request};
use moonrest_core::var::VarDef;
use moonrest_proto::{cookie, http1::Known};

type D = VarDef<Request>;

/// The variables.
pub const TABLE: &[D] = &[
    D::get("upstream_addr", |r, out| {
        each(r, out, |attempt, out| {
            out.extend_from_slice(attempt.name.as_ref().map_or(b"", |name| name.text()));
        })
    }),
    D::get("upstream_status", |r, out| {
        each(r, out, |attempt, out| match attempt.status {
            0 => out.push(b'-'),
            status => decimal::append(out, u64::from(status)),
        })
    }),
    D::get("upstream_connect_time", |r, out| each(r, out, |attempt, out| time(attempt.connect_time, out))),
    D::get("upstream_header_time", |r, out| each(r, out, |attempt, out| time(attempt.header_time, out))),
    D::get("upstream_response_time", |r, out| each(r, out, |attempt, out| time(attempt.response_time, out))),
    D::get("upstream_response_length", |r, out| {
        each(r, out, |attempt, out| decimal::append(out, attempt.response_length))
    }),
    D::get("upstream_bytes_received", |r, out| {
        each(r, out, |attempt, out| decimal::append(out, attempt.bytes_received))
    }),
    D::get("upstream_bytes_sent", |r, out| {
        each(r, out, |attempt, out| decimal::append(out, attempt.bytes_sent))
    }),
    D::get("upstream_cache_status", |r, out| {
        let Some(status) = r.find_ctx::<States>().and_then(|states| states.cache_status()) else {
            return false;
        };
        out.extend_from_slice(status.name().as_bytes());
        true
    }),
    D::get("upstream_cache_last_modified", |r, out| {
        r.find_ctx::<States>().is_some_and(|states| states.append_cached_modified(out))
    }),
    D::get("upstream_cache_etag", |r, out| {
        r.find_ctx::<States>().is_some_and(|states| states.append_cached_etag(out))
    }),
    D::prefix("upstream_http_", |r, name, out| {
        let Some(states) = r.find_ctx::<States>() else { return false };
        let answer = states.answer.borrow();
        let same = answer
            .head
            .fields
            .iter()
            .filter(|field| super::super::variables::names_match(name, field.name.of(&answer.block)))
            .map(|field| field.value.of(&answer.block));
        super::super::variables::join(out, same, b',')
    }),
    D::prefix("upstream_trailer_", |r, name, out| {
        let Some(states) = r.find_ctx::<States>() else { return false };
        let answer = states.answer.borrow();
        let same = answer
            .trailers
            .iter()
            .filter(|(field, _)| super::super::variables::names_match(name, field))
            .map(|(_, value)| &**value);
        super::super::variables::join(out, same, b',')
    }),
    D::prefix("upstream_cookie_", |r, name, out| {
        let Some(states) = r.find_ctx::<States>() else { return false };
        let answer = states.answer.borrow();
        let fields = answer.head.fields.all(Known::SetCookie).map(|field| field.value.of(&answer.block));
        match cookie::find_set(fields, name) {
            Some(value) => {
                out.extend_from_slice(value);
                true
            }
            None => false,
        }
    }),
];

/// Appends a value for each attempt: `, ` between attempts, ` : ` where another location began anew.
fn each(r: &Request, out: &mut Vec<u8>, append: impl Fn(&Attempt, &mut Vec<u8>)) -> bool {
    let Some(states) = r.find_ctx::<States>() else { return false };
    let attempts = states.attempts.borrow();
    if attempts.is_empty() {
        return false;
    }
    append_each(&attempts, out, append);
    true
}

fn append_each(attempts: &[Attempt], out: &mut Vec<u8>, append: impl Fn(&Attempt, &mut Vec<u8>)) {
    let mut at = 0;
    while let Some(attempt) = attempts.get(at) {
        append(attempt, out);
        at += 1;
        if at == attempts.len() {
            break;
        }
        if attempts.get(at).is_some_and(|next| next.name.is_some()) {
            out.extend_from_slice(b", ");
        } else {
            out.extend_from_slice(b" : ");
            at += 1;
        }
    }
}

fn time(time: Option<u64>, out: &mut Vec<u8>) {
    match time {
        Some(time) => decimal::append_millis(out, time),
        None => out.push(b'-'),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::state::Name, *};

    #[test]
    fn attempts_and_locations_are_told_apart() {
        let attempt = |name: &str, status| Attempt {
            name: (!name.is_empty()).then(|| Name::Text(name.as_bytes().into())),
            status,
            ..Attempt::default()
        };
        let check = |attempts: &[Attempt], expect: &str| {
            let mut out = Vec::new();
            append_each(attempts, &mut out, |attempt, out| decimal::append(out, u64::from(attempt.status)));
            assert_eq!(String::from_utf8_lossy(&out), expect);
        };
        check(&[attempt("a", 200)], "200");
        check(&[attempt("a", 502), attempt("b", 200)], "502, 200");
        check(&[attempt("a", 404), attempt("", 0), attempt("b", 200)], "404 : 200");
    }
}
