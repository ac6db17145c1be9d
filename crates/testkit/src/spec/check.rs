//! Compares what a server did with what the sections of a block expect.
use std::path::Path;
use std::time::Duration;

use super::block::Block;
use super::evaluator::Evaluator;
use super::pattern::{Modifiers, Pattern, regex};
use super::site::Site;
use super::value::Value;
use crate::logs;
use crate::process::poll;
use crate::response::Response;

/// How long an expected log line may take to appear.
const LINE_PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait for log lines that must not come: the log phase runs after the client has its answer.
const SETTLE: Duration = Duration::from_millis(12);

/// Counts what was looked at and keeps what was wrong.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Comparisons made, counted as Test::Nginx counts them.
    pub assertions: usize,
    /// A text per comparison that failed.
    pub failures: Vec<String>,
}

impl Tally {
    /// One comparison.
    pub(super) fn check(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        self.assertions += 1;
        if !holds {
            self.failures.push(otherwise());
        }
    }

    /// Something that should never happen, whatever is expected.
    pub(super) fn fail(&mut self, text: String) {
        self.failures.push(text);
    }
}

/// The place of a response among the requests of its block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The request's number.
    pub request: usize,
    /// The block has several requests, so its sections hold lists.
    pub several: bool,
    /// Which repetition of the block this is.
    pub repetition: usize,
}

/// Checks status, header fields and body.
pub(super) fn response(
    tally: &mut Tally,
    block: &Block,
    site: &Site,
    perl: &mut Evaluator,
    got: &mut Response,
    place: Place,
) -> Result<(), String> {
    let expected = |section| block.expected(section, place.request, place.several);
    status(tally, got, expected("error_code")?, expected("error_code_like")?)?;
    let dot_all = Modifiers { dot_all: true, ..Modifiers::default() };
    for (section, like) in [("raw_response_headers_like", true), ("raw_response_headers_unlike", false)] {
        if let Some(source) = expected(section)?.and_then(Value::bytes) {
            let found = Pattern::Regex(regex(source, dot_all)?).matches(&got.head);
            tally.check(found == like, || format!("{section}:\n{}in\n{}", quoted(source), quoted(&got.head)));
        }
    }
    let (headers, headers_like) = (expected("response_headers")?, expected("response_headers_like")?);
    if let Some(lines) = headers.and_then(Value::text) {
        response_headers(tally, got, &replace_ports(&lines, site));
    } else if let Some(lines) = headers_like.and_then(Value::text) {
        response_headers_like(tally, got, &lines)?;
    }
    if let Some(filters) = block.get("response_body_filters") {
        got.body = filtered(perl, filters, place, std::mem::take(&mut got.body))?;
    }
    body(tally, site, got, expected("response_body")?, block.has("response_body"))?;
    for (section, like) in [("response_body_like", true), ("response_body_unlike", false)] {
        if let Some(source) =
            expected(section)?.filter(|_| !block.has("response_body")).and_then(Value::bytes)
        {
            let source = replace_ports(&String::from_utf8_lossy(source), site);
            let found = Pattern::Regex(regex(source.as_bytes(), dot_all)?).matches(&got.body);
            tally.check(found == like, || {
                format!("{section}:\n{}in\n{}", quoted(source.as_bytes()), quoted(&got.body))
            });
        }
    }
    Ok(())
}

fn status(
    tally: &mut Tally,
    got: &Response,
    code: Option<&Value>,
    like: Option<&Value>,
) -> Result<(), String> {
    let status = got.status.map_or_else(String::new, |status| status.to_string());
    if let Some(source) = like.and_then(Value::bytes) {
        let pattern = Pattern::Regex(regex(source, Modifiers { dot_all: true, multi_line: true })?);
        tally.check(pattern.matches(status.as_bytes()), || {
            format!("status {status}, expected {}", pattern.shown())
        });
    } else {
        let expected = code.and_then(Value::text).unwrap_or_else(|| "200".into());
        tally.check(status == expected, || {
            format!(
                "status {status}, expected {expected}; the response:\n{}{}",
                quoted(&got.head),
                quoted(&got.body)
            )
        });
    }
    Ok(())
}

/// `Name: value` for a field that must have this value, `!Name` for one that must not be there.
fn header_lines(text: &str) -> Vec<(String, Option<String>)> {
    let mut lines: Vec<(String, Option<String>)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let line = match line.strip_prefix('!') {
            Some(name) => (name.trim_start().to_owned(), None),
            None => {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                (name.trim_end().to_owned(), Some(value.trim_start().to_owned()))
            }
        };
        lines.retain(|(name, _)| *name != line.0);
        lines.push(line);
    }
    lines
}

fn response_headers(tally: &mut Tally, got: &Response, text: &str) {
    for (name, expected) in header_lines(text) {
        let value = got.header(&name);
        match expected {
            None => tally.check(value.is_none(), || format!("there is a header field {name}: {value:?}")),
            Some(expected) => {
                let value = value.unwrap_or_default();
                tally.check(value == expected, || format!("header {name}: {value:?}, expected {expected:?}"));
            }
        }
    }
}

fn response_headers_like(tally: &mut Tally, got: &Response, text: &str) -> Result<(), String> {
    for (name, expected) in header_lines(text) {
        let source = format!("^{}$", expected.unwrap_or_default());
        let value = got.header(&name).unwrap_or_default();
        let found = Pattern::Regex(regex(source.as_bytes(), Modifiers::default())?).matches(value.as_bytes());
        tally.check(found, || format!("header {name}: {value:?}, expected to match {source}"));
    }
    Ok(())
}

fn body(
    tally: &mut Tally,
    site: &Site,
    got: &Response,
    expected: Option<&Value>,
    wanted: bool,
) -> Result<(), String> {
    match expected {
        Some(pattern @ Value::Regex(_)) => {
            let pattern = Pattern::of(pattern)?;
            tally.check(pattern.matches(&got.body), || {
                format!("response_body, expected {}\nin\n{}", pattern.shown(), quoted(&got.body))
            });
        }
        Some(expected) => {
            let bytes = expected.bytes().ok_or("\"response_body\" must be a string or qr//")?;
            let expected = match std::str::from_utf8(bytes) {
                Ok(text) => replace_ports(&site.expand(text), site).into_bytes(),
                Err(_) => bytes.to_vec(),
            };
            tally.check(got.body == expected, || {
                format!("response_body:\n{}", difference(&expected, &got.body))
            });
        }
        // A list that ends early, or has undef there, says nothing about this request's body.
        None if wanted => tally.assertions += 1,
        None => {}
    }
    Ok(())
}

fn filtered(
    perl: &mut Evaluator,
    filters: &Value,
    place: Place,
    mut body: Vec<u8>,
) -> Result<Vec<u8>, String> {
    let filters = match filters {
        Value::List(list) if matches!(list.first(), Some(Value::List(_))) => {
            list.get(place.request).map(Value::elements).unwrap_or_default()
        }
        other => other.elements(),
    };
    for filter in filters {
        if let Value::Code(number) = filter {
            let result = perl.call(*number, &body).map_err(|error| error.to_string())?;
            body = result.bytes().unwrap_or_default().to_vec();
            continue;
        }
        for name in filter.text().unwrap_or_default().split_whitespace() {
            body = named_filter(perl, name, &body)?;
        }
    }
    Ok(body)
}

fn named_filter(perl: &mut Evaluator, name: &str, body: &[u8]) -> Result<Vec<u8>, String> {
    let function = match name {
        "md5_hex" => "require Digest::MD5; Digest::MD5::md5_hex",
        "sha1_hex" => "require Digest::SHA; Digest::SHA::sha1_hex",
        "uc" | "lc" | "ucfirst" | "lcfirst" | "length" => name,
        _ => return Err(format!("unknown response_body_filters \"{name}\"")),
    };
    let hex: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
    let result =
        perl.eval(format!("{function}(pack 'H*', '{hex}')").as_bytes()).map_err(|error| error.to_string())?;
    Ok(result.bytes().unwrap_or_default().to_vec())
}

fn replace_ports(text: &str, site: &Site) -> String {
    let port = site.port.number().to_string();
    text.replace("$ServerPortForClient", &port).replace("$ServerPort", &port)
}

/// A log a block has expectations about: each check looks at what was added since the last one.
#[derive(Debug, Default)]
pub(super) struct LogReader {
    position: usize,
}

impl LogReader {
    /// Checks the error log's sections and the patterns to be grepped out of it.
    pub(super) fn error_log(
        &mut self,
        tally: &mut Tally,
        block: &Block,
        site: &Site,
        place: Place,
    ) -> Result<(), String> {
        let path = site.error_log();
        let wanted = block.get("error_log").map(Pattern::list).transpose()?.unwrap_or_default();
        let unwanted = block.get("no_error_log").map(Pattern::list).transpose()?.unwrap_or_default();
        let grep = block.get("grep_error_log").map(|value| repetition(value, place));
        let grep = grep.map(Pattern::of).transpose()?;
        let grep_out = block.get("grep_error_log_out").map(|value| repetition(value, place));
        if grep.is_some() != grep_out.is_some() {
            return Err("\"grep_error_log\" and \"grep_error_log_out\" go together".into());
        }
        if wanted.is_empty() && unwanted.is_empty() && grep.is_none() {
            return Ok(());
        }
        let log = self.settled(&path, &wanted, !unwanted.is_empty() || grep.is_some());
        if let (Some(grep), Some(expected)) = (grep, grep_out) {
            let found: String = lines(&log).filter_map(|line| grep.find(line)).map(one_line).collect();
            match expected {
                Value::Regex(_) => {
                    let expected = Pattern::of(expected)?;
                    let holds = expected.matches(found.as_bytes());
                    tally.check(holds, || {
                        format!("grep_error_log_out, expected {}\nin\n{found}", expected.shown())
                    });
                }
                other => {
                    let expected = site.expand(&other.text().unwrap_or_default());
                    let difference = || difference(expected.as_bytes(), found.as_bytes());
                    tally.check(found == expected, || format!("grep_error_log_out:\n{}", difference()));
                }
            }
        }
        compare(tally, "error.log", &log, &wanted, &unwanted);
        Ok(())
    }

    /// Checks what the server logged while it stopped.
    pub(super) fn shutdown(&mut self, tally: &mut Tally, block: &Block, site: &Site) -> Result<(), String> {
        let wanted = block.get("shutdown_error_log").map(Pattern::list).transpose()?.unwrap_or_default();
        let unwanted = block.get("no_shutdown_error_log").map(Pattern::list).transpose()?.unwrap_or_default();
        if !wanted.is_empty() || !unwanted.is_empty() {
            let log = self.settled(&site.error_log(), &wanted, false);
            compare(tally, "error.log", &log, &wanted, &unwanted);
        }
        Ok(())
    }

    /// Reads what was added, waiting for lines that are to come.
    fn settled(&mut self, path: &Path, wanted: &[Pattern], settle: bool) -> Vec<u8> {
        if settle {
            std::thread::sleep(SETTLE);
        }
        let added = || added_since(path, self.position);
        let complete =
            |log: &Vec<u8>| wanted.iter().all(|pattern| lines(log).any(|line| pattern.matches(line)));
        let log = poll(LINE_PATIENCE, || Some(added()).filter(complete)).unwrap_or_else(added);
        self.position += log.len();
        log
    }
}

/// What a file holds behind a position.
fn added_since(path: &Path, position: usize) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap_or_default();
    bytes.split_off(position.min(bytes.len()))
}

/// Checks the access log's sections.
pub(super) fn access_log(tally: &mut Tally, block: &Block, site: &Site) -> Result<(), String> {
    let wanted = block.get("access_log").map(Pattern::list).transpose()?.unwrap_or_default();
    let unwanted = block.get("no_access_log").map(Pattern::list).transpose()?.unwrap_or_default();
    if !wanted.is_empty() || !unwanted.is_empty() {
        let log = LogReader::default().settled(&site.access_log(), &wanted, !unwanted.is_empty());
        compare(tally, "access.log", &log, &wanted, &unwanted);
    }
    Ok(())
}

/// Lines that mean a bug in the server, unless the block is about such lines.
pub(super) fn no_grave_lines(tally: &mut Tally, block: &Block, site: &Site) {
    let mentioned = |tag: &str| {
        ["error_log", "no_error_log", "shutdown_error_log"].iter().any(|section| {
            let patterns = block.get(section).map(Value::elements).unwrap_or_default();
            patterns.iter().filter_map(|pattern| pattern.text()).any(|pattern| pattern.contains(tag))
        })
    };
    let log = logs::read(&site.error_log());
    for line in logs::grave_lines(&log) {
        let about_it = (line.contains("[alert]") && mentioned("alert"))
            || (line.contains("[emerg]") && mentioned("emerg"));
        if !about_it {
            tally.fail(format!("a grave line in error.log: {line}"));
        }
    }
}

fn repetition(value: &Value, place: Place) -> &Value {
    match value {
        Value::List(values) => values.get(place.repetition).unwrap_or(&Value::Undefined),
        other => other,
    }
}

fn compare(tally: &mut Tally, name: &str, log: &[u8], wanted: &[Pattern], unwanted: &[Pattern]) {
    for pattern in wanted {
        let found = lines(log).any(|line| pattern.matches(line));
        tally.check(found, || format!("no line of {name} matches {}", pattern.shown()));
    }
    for pattern in unwanted {
        let found = lines(log).find(|line| pattern.matches(line)).map(String::from_utf8_lossy);
        tally.check(found.is_none(), || {
            format!("{name} has a line with {}: {}", pattern.shown(), found.unwrap_or_default().trim_end())
        });
    }
}

/// The lines of a log, line ends included, as patterns see them.
fn lines(log: &[u8]) -> impl Iterator<Item = &[u8]> {
    log.split_inclusive(|&b| b == b'\n')
}

fn one_line(found: &[u8]) -> String {
    if found.contains(&b'\n') { String::new() } else { String::from_utf8_lossy(found).into_owned() + "\n" }
}

/// Text behind a margin, so that it stands out in a report.
fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).replace('\r', "\\r");
    if text.len() > 4000 {
        let end = (0..=4000).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.push_str(" … (cut)");
    }
    text.lines().map(|line| format!("    {line}\n")).collect()
}

/// Expected and received text line by line.
fn difference(expected: &[u8], got: &[u8]) -> String {
    let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\r', "\\r");
    let (expected, got) = (show(expected), show(got));
    if expected.len().max(got.len()) > 20_000 {
        return format!("    {} bytes, expected {}\n", got.len(), expected.len());
    }
    let diff = similar::TextDiff::from_lines(&expected, &got);
    let mut out = String::from("    - expected, + received\n");
    for change in diff.iter_all_changes() {
        let sign = match change.tag() {
            similar::ChangeTag::Delete => '-',
            similar::ChangeTag::Insert => '+',
            similar::ChangeTag::Equal => ' ',
        };
        let missing_newline = if change.missing_newline() { "  (no line end)" } else { "" };
        out.push_str(&format!("    {sign} {}{missing_newline}\n", change.value().trim_end_matches('\n')));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_header_lines_replace_earlier_ones() {
        let lines = header_lines("A: 1\n!B\nA: x: y\n");
        assert_eq!(lines, [("B".to_owned(), None), ("A".to_owned(), Some("x: y".to_owned()))]);
    }

    #[test]
    fn a_difference_shows_a_missing_line_end() {
        let shown = difference(b"one\ntwo\n", b"one\ntwo");
        assert!(shown.contains("- two\n") && shown.contains("+ two  (no line end)"), "{shown}");
    }
}
