//! The variables of the core module, by family: the request, the connection, the response, files, and time.
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#variables>

mod connection;
mod files;
mod moment;
mod response;
mod sent;

use crate::request::Request;
use moonrest_core::var::VarDef;
use moonrest_proto::http1::Known;

pub use sent::nginx_version;

type D = VarDef<Request>;

pub(crate) const TABLE: &[D] = &[
    // What was asked for.
    D::get("uri", sent::uri),
    D::get("document_uri", sent::uri),
    D::get_set("args", sent::args, sent::set_args),
    D::get("query_string", sent::args),
    D::get("is_args", sent::is_args),
    D::get("request", sent::request_line),
    D::get("request_uri", sent::request_uri),
    D::get("request_method", sent::method),
    D::get("server_protocol", sent::protocol),
    D::get("host", sent::host),
    D::get("request_port", sent::port),
    D::get("is_request_port", sent::is_port),
    D::get("content_length", sent::content_length),
    D::get("content_type", sent::content_type),
    D::get("remote_user", sent::remote_user),
    D::get("request_body", sent::body),
    D::get("request_body_file", sent::body_file),
    D::get("request_length", sent::length),
    D::kept("request_id", sent::id),
    D::get("http_cookie", sent::cookies),
    D::get("http_host", |r, out| sent::known(r, Known::Host, out, b',')),
    D::get("http_user_agent", |r, out| sent::known(r, Known::UserAgent, out, b',')),
    D::get("http_referer", |r, out| sent::known(r, Known::Referer, out, b',')),
    D::prefix("http_", sent::header),
    D::prefix("cookie_", sent::cookie),
    D::prefix("arg_", sent::argument),
    // Between whom.
    D::get("binary_remote_addr", connection::binary_remote_addr),
    D::get("remote_addr", connection::remote_addr),
    D::get("remote_port", connection::remote_port),
    D::get("server_addr", connection::server_addr),
    D::get("server_port", connection::server_port),
    D::get("server_name", connection::server_name),
    D::get("scheme", connection::scheme),
    D::get("https", connection::https),
    D::get("connection", connection::serial),
    D::get("connection_requests", connection::requests),
    D::get("connection_time", connection::age),
    D::get("proxy_protocol_addr", connection::proxy_protocol_addr),
    D::get("proxy_protocol_port", connection::proxy_protocol_port),
    D::get("proxy_protocol_server_addr", connection::proxy_protocol_server_addr),
    D::get("proxy_protocol_server_port", connection::proxy_protocol_server_port),
    D::prefix("proxy_protocol_tlv_", connection::proxy_protocol_tlv),
    D::get("tcpinfo_rtt", |r, out| connection::tcp_info(r, out, |info| info.rtt)),
    D::get("tcpinfo_rttvar", |r, out| connection::tcp_info(r, out, |info| info.rttvar)),
    D::get("tcpinfo_snd_cwnd", |r, out| connection::tcp_info(r, out, |info| info.snd_cwnd)),
    D::get("tcpinfo_rcv_space", |r, out| connection::tcp_info(r, out, |info| info.rcv_space)),
    D::get("pipe", connection::pipe),
    // What was answered.
    D::get("status", response::status),
    D::get("bytes_sent", response::bytes_sent),
    D::get("body_bytes_sent", response::body_bytes_sent),
    D::get("request_completion", response::completion),
    D::get_set("limit_rate", response::limit_rate, response::set_limit_rate),
    D::get("sent_http_content_type", response::content_type),
    D::get("sent_http_content_length", response::content_length),
    D::get("sent_http_location", response::location),
    D::get("sent_http_last_modified", response::last_modified),
    D::get("sent_http_connection", response::connection),
    D::get("sent_http_keep_alive", response::keep_alive),
    D::get("sent_http_transfer_encoding", response::transfer_encoding),
    D::prefix("sent_http_", response::header),
    D::prefix("sent_trailer_", response::trailer),
    // Where it lies.
    D::get("document_root", files::document_root),
    D::get("realpath_root", files::realpath_root),
    D::get("request_filename", files::request_filename),
    // When, and by whom.
    D::get("request_time", moment::request_time),
    D::get("msec", moment::msec),
    D::get("time_iso8601", moment::iso8601),
    D::get("time_local", moment::local),
    D::get("nginx_version", |_, out| bytes(out, sent::nginx_version().as_bytes())),
    D::get("hostname", |r, out| bytes(out, r.http().hostname.as_bytes())),
    D::get("pid", |_, out| number(out, u64::from(moonrest_sys::process::pid().unsigned_abs()))),
];

/// A value that is there.
fn bytes(out: &mut Vec<u8>, value: &[u8]) -> bool {
    out.extend_from_slice(value);
    true
}

/// A value that is not there when it is empty.
fn unless_empty(out: &mut Vec<u8>, value: &[u8]) -> bool {
    out.extend_from_slice(value);
    !value.is_empty()
}

fn number(out: &mut Vec<u8>, value: u64) -> bool {
    crate::decimal::append(out, value);
    true
}

/// A port; empty for what has none.
fn port(out: &mut Vec<u8>, value: u16) -> bool {
    if value != 0 {
        crate::decimal::append(out, u64::from(value));
    }
    true
}

/// Whether a field's name is that of a variable: letters in any case, `_` for `-`.
pub(crate) fn names_match(variable: &[u8], field: &[u8]) -> bool {
    variable.len() == field.len()
        && variable
            .iter()
            .zip(field)
            .all(|(wanted, found)| *wanted == if *found == b'-' { b'_' } else { found.to_ascii_lowercase() })
}

/// Appends values joined by `separator` and a space; `false` when there are none.
pub(crate) fn join<'a>(out: &mut Vec<u8>, values: impl Iterator<Item = &'a [u8]>, separator: u8) -> bool {
    let mut found = false;
    for value in values {
        if found {
            out.extend_from_slice(&[separator, b' ']);
        }
        found = true;
        out.extend_from_slice(value);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_name_fields_with_underscores() {
        assert!(names_match(b"x_forwarded_for", b"X-Forwarded-For"));
        assert!(names_match(b"x_a", b"X_A"));
        assert!(!names_match(b"x_a", b"X-AB"));
        assert!(!names_match(b"x-a", b"X-A"));
    }

    #[test]
    fn several_fields_are_joined() {
        let mut out = Vec::new();
        assert!(!join(&mut out, std::iter::empty(), b','));
        assert!(join(&mut out, [&b"a"[..], b"", b"b"].into_iter(), b';'));
        assert_eq!(out, b"a; ; b");
    }
}
