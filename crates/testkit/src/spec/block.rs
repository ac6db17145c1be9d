//! One block of a specification: a name and its sections.
use std::collections::BTreeMap;
use std::time::Duration;

use super::value::Value;

/// The sections the runner knows. Any other name is a mistake in the specification, and said so.
const SECTIONS: &[&str] = &[
    "LAST",
    "ONLY",
    "abort",
    "access_log",
    "config",
    "curl",
    "curl_error",
    "curl_options",
    "curl_protocol",
    "error_code",
    "error_code_like",
    "error_log",
    "error_log_file",
    "grep_error_log",
    "grep_error_log_out",
    "http09",
    "http2",
    "http_config",
    "ignore_response",
    "init",
    "log_level",
    "main_config",
    "more_headers",
    "must_die",
    "no_access_log",
    "no_check_leak",
    "no_error_log",
    "no_http2",
    "no_shutdown_error_log",
    "pipelined_requests",
    "post_main_config",
    "post_setup_server_root",
    "raw_request",
    "raw_request_middle_delay",
    "raw_response_headers_like",
    "raw_response_headers_unlike",
    "request",
    "response_body",
    "response_body_filters",
    "response_body_like",
    "response_body_unlike",
    "response_headers",
    "response_headers_like",
    "server_addr_for_client",
    "server_name",
    "shutdown",
    "shutdown_error_log",
    "skip_eval",
    "skip_nginx",
    "suppress_stderr",
    "tcp_listen",
    "tcp_no_close",
    "tcp_query",
    "tcp_query_len",
    "tcp_reply",
    "tcp_reply_delay",
    "tcp_shutdown",
    "timeout",
    "todo",
    "udp_listen",
    "udp_query",
    "udp_reply",
    "udp_reply_delay",
    "user_files",
    "wait",
];

/// A block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// What stands behind `===`.
    pub name: String,
    /// The line of `===` in its file.
    pub line: usize,
    sections: BTreeMap<String, Value>,
}

impl Block {
    /// A block as the evaluator gave it.
    pub(super) fn new(value: &Value) -> Result<Self, String> {
        let name = value.get("name").and_then(Value::text).unwrap_or_default();
        let line = value.get("line").and_then(Value::number).unwrap_or_default();
        let sections = match value.get("sections") {
            Some(Value::Map(sections)) => sections.clone(),
            _ => BTreeMap::new(),
        };
        match sections.keys().find(|name| SECTIONS.binary_search(&name.as_str()).is_err()) {
            Some(unknown) => Err(format!("line {line}: \"{name}\" has an unknown section \"{unknown}\"")),
            None => Ok(Self { name, line, sections }),
        }
    }

    /// A section's value.
    pub(super) fn get(&self, section: &str) -> Option<&Value> {
        self.sections.get(section).filter(|value| **value != Value::Undefined)
    }

    /// Whether the section is there, whatever its value.
    pub(super) fn has(&self, section: &str) -> bool {
        self.get(section).is_some()
    }

    /// A section's text.
    pub(super) fn text(&self, section: &str) -> Option<String> {
        self.get(section).and_then(Value::text)
    }

    /// A section's number of seconds: `2`, `0.5`, `3s`, `200ms`.
    pub(super) fn time(&self, section: &str) -> Result<Option<Duration>, String> {
        let Some(text) = self.text(section) else { return Ok(None) };
        match parse_time(&text) {
            Some(time) => Ok(Some(time)),
            None => Err(format!("\"{text}\" is no time in the section \"{section}\"")),
        }
    }

    /// What a section expects of the request with this number. Blocks with several requests give lists.
    pub(super) fn expected(
        &self,
        section: &str,
        request: usize,
        several: bool,
    ) -> Result<Option<&Value>, String> {
        match self.get(section) {
            None => Ok(None),
            Some(Value::List(values)) => {
                let index = if several { request } else { 0 };
                Ok(values.get(index).filter(|value| **value != Value::Undefined))
            }
            Some(_) if several => Err(format!("several requests, so \"{section}\" must be a list as well")),
            Some(value) => Ok(Some(value)),
        }
    }
}

/// A time in seconds, or with a unit.
pub(super) fn parse_time(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let seconds = number.trim().parse::<f64>().ok()? * unit;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_names_are_sorted() {
        assert!(SECTIONS.is_sorted());
    }

    #[test]
    fn times_have_units() {
        let check =
            |text, millis| assert_eq!(parse_time(text).map(|time| time.as_millis()), millis, "{text}");
        check("2", Some(2000));
        check("0.25", Some(250));
        check("3s", Some(3000));
        check("20ms", Some(20));
        check("soon", None);
    }
}
