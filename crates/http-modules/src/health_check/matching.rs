//! `match`: what an answer must be like.

use moonrest_conf::{Word, value};
use moonrest_core::block::{Row, rows};
use moonrest_http::{prelude::*, upstream::Answer};
use moonrest_proto::http1::ResponseHead;

/// The tests of one block: all of them must pass.
#[derive(Default)]
pub(super) struct Match {
    status: Option<Statuses>,
    headers: Vec<Header>,
    bodies: Vec<(Regex, bool)>,
    required: Vec<VarId>,
}

/// `status [!] 200-299 304`.
struct Statuses {
    ranges: Vec<(u16, u16)>,
    expect: bool,
}

/// `header …`.
struct Header {
    name: Box<[u8]>,
    test: Test,
}

enum Test {
    Present(bool),
    /// `=`, or `!=`: then one must be there all the same.
    Equal(Box<[u8]>, bool),
    Like(Regex, bool),
}

impl Match {
    /// Reads a block.
    ///
    /// # Errors
    /// What is wrong with one of its rows, with its place.
    pub(super) fn parse(args: &Args<'_>) -> ConfResult<Self> {
        let mut tests = Self::default();
        rows(args, |row| tests.add(row, args))?;
        Ok(tests)
    }

    fn add(&mut self, row: &Row<'_>, args: &Args<'_>) -> ConfResult {
        let words: Vec<&[u8]> = row.values().iter().map(|word| &*word.text).collect();
        let name = row.key().as_str().unwrap_or_default();
        let wrong_count = || Fault::message(format!("invalid number of arguments in \"{name}\" directive"));
        match (name, &*words) {
            ("status", [] | [b"!"]) => return Err(wrong_count()),
            ("status", _) if self.status.is_some() => return Err(Fault::DUPLICATE),
            ("status", [b"!", codes @ ..]) => self.status = Some(Statuses::parse(codes, false)?),
            ("status", codes) => self.status = Some(Statuses::parse(codes, true)?),
            ("header", [b"!", name]) => self.add_header(name, Test::Present(false)),
            ("header", [name]) => self.add_header(name, Test::Present(true)),
            ("header", [name, b"=", text]) => self.add_header(name, Test::Equal((*text).into(), true)),
            ("header", [name, b"!=", text]) => self.add_header(name, Test::Equal((*text).into(), false)),
            ("header", [name, b"~", text]) => {
                self.add_header(name, Test::Like(Regex::new(text, false)?, true))
            }
            ("header", [name, b"!~", text]) => {
                self.add_header(name, Test::Like(Regex::new(text, false)?, false));
            }
            ("body", [b"~", text]) => self.bodies.push((Regex::new(text, false)?, true)),
            ("body", [b"!~", text]) => self.bodies.push((Regex::new(text, false)?, false)),
            ("header", [_, operator, _]) | ("body", [operator, _]) => {
                let shown = String::from_utf8_lossy(operator);
                return Err(Fault::message(format!("invalid parameter \"{shown}\"")));
            }
            ("header" | "body", _) | ("require", []) => return Err(wrong_count()),
            ("require", _) => self.require(row.values(), args)?,
            _ => return Err(Fault::message(format!("unknown directive \"{name}\""))),
        }
        Ok(())
    }

    fn add_header(&mut self, name: &[u8], test: Test) {
        self.headers.push(Header { name: name.into(), test });
    }

    fn require(&mut self, words: &[Word], args: &Args<'_>) -> ConfResult {
        for word in words {
            let name = word.as_str().and_then(|text| text.strip_prefix('$')).filter(|name| !name.is_empty());
            let Some(name) = name else {
                let shown = String::from_utf8_lossy(&word.text);
                return Err(Fault::message(format!("invalid variable name \"{shown}\"")));
            };
            self.required.push(args.vars.reference(name, Some(args.span())));
        }
        Ok(())
    }

    /// Whether the body is looked at.
    pub(super) fn needs_body(&self) -> bool {
        !self.bodies.is_empty()
    }

    /// Whether an answer passes. The request's action says which test was the last.
    pub(super) fn passes(&self, r: &Request, answer: &Answer, body: &[u8]) -> bool {
        if let Some(status) = &self.status {
            r.action.set(CHECKING_STATUS);
            if !status.allow(answer.head.status) {
                return false;
            }
        }
        if !self.headers.is_empty() {
            r.action.set("checking header");
            if !self.headers.iter().all(|header| header.passes(&answer.head, &answer.block)) {
                return false;
            }
        }
        if !self.bodies.is_empty() {
            r.action.set("checking body");
            let passes = |(regex, expect): &(Regex, bool)| regex.try_is_match(body) == Ok(*expect);
            if !self.bodies.iter().all(passes) {
                return false;
            }
        }
        if !self.required.is_empty() {
            r.action.set("checking required variables");
            let holds =
                |id: &VarId| r.vars().get(r, *id).is_some_and(|value| !value.is_empty() && *value != *b"0");
            if !self.required.iter().all(holds) {
                return false;
            }
        }
        true
    }
}

pub(super) const CHECKING_STATUS: &str = "checking status code";

impl Statuses {
    fn parse(codes: &[&[u8]], expect: bool) -> ConfResult<Self> {
        let code = |text: &[u8]| {
            let code = value::parse_uint(text).and_then(|code| u16::try_from(code).ok());
            code.filter(|code| (100..=999).contains(code))
        };
        let range = |text: &&[u8]| {
            let parsed = match memchr::memchr(b'-', text) {
                None => code(text).map(|code| (code, code)),
                Some(at) => {
                    let (first, last) = text.split_at(at);
                    code(first).zip(last.get(1..).and_then(code)).filter(|(first, last)| first <= last)
                }
            };
            let invalid = || Fault::message(format!("invalid status \"{}\"", String::from_utf8_lossy(text)));
            parsed.ok_or_else(invalid)
        };
        Ok(Self { ranges: codes.iter().map(range).collect::<ConfResult<_>>()?, expect })
    }

    fn allow(&self, status: u16) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&status)) == self.expect
    }
}

impl Header {
    fn passes(&self, head: &ResponseHead, block: &[u8]) -> bool {
        let fields =
            || head.fields.iter().filter(|field| field.name.of(block).eq_ignore_ascii_case(&self.name));
        let judge = |expect: bool, like: &dyn Fn(&[u8]) -> bool| {
            let found = fields().any(|field| like(field.value.of(block)));
            found == expect && fields().next().is_some()
        };
        match &self.test {
            Test::Present(expect) => fields().next().is_some() == *expect,
            Test::Equal(text, expect) => judge(*expect, &|value| *value == **text),
            Test::Like(regex, expect) => judge(*expect, &|value| regex.is_match(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moonrest_proto::http1::Parse;

    fn status(codes: &[&str], expect: bool) -> Statuses {
        let codes: Vec<&[u8]> = codes.iter().map(|code| code.as_bytes()).collect();
        Statuses::parse(&codes, expect).unwrap()
    }

    #[test]
    fn statuses_stand_alone_in_ranges_and_negated() {
        let check =
            |statuses: &Statuses, code: u16, expect: bool| assert_eq!(statuses.allow(code), expect, "{code}");
        let some = status(&["301-303", "307"], true);
        for (code, expect) in [(300, false), (301, true), (303, true), (304, false), (307, true)] {
            check(&some, code, expect);
        }
        check(&status(&["400-599"], false), 404, false);
        check(&status(&["400-599"], false), 200, true);
        for wrong in ["", "abc", "99", "300-200", "200-", "-200", "1000"] {
            assert!(Statuses::parse(&[wrong.as_bytes()], true).is_err(), "{wrong}");
        }
    }

    #[test]
    fn fields_are_there_or_not_and_have_values() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nVia: a\r\nVia: b\r\n\r\n";
        let mut head = ResponseHead::new();
        assert!(matches!(head.parse(text), Ok(Parse::Complete { .. })));
        let check = |name: &str, test: Test, expect: bool| {
            let header = Header { name: name.as_bytes().into(), test };
            assert_eq!(header.passes(&head, text), expect, "{name}");
        };
        let equal = |text: &str, expect| Test::Equal(text.as_bytes().into(), expect);
        let like = |text: &str, expect| Test::Like(Regex::new(text.as_bytes(), false).unwrap(), expect);
        check("content-type", Test::Present(true), true);
        check("Refresh", Test::Present(false), true);
        check("Via", Test::Present(false), false);
        check("Content-Type", equal("text/html", true), true);
        check("Content-Type", equal("text/plain", true), false);
        check("Content-Type", equal("text/plain", false), true);
        check("Refresh", equal("x", false), false);
        check("Via", equal("b", true), true);
        check("Via", equal("b", false), false);
        check("Via", like("^[ab]$", true), true);
        check("Via", like("c", false), true);
        check("Via", like("a", false), false);
        check("Refresh", like("a", false), false);
    }
}
