//! What a result looks like to the client: `postgres_output`, `postgres_rewrite`, `postgres_set`.

use super::session::Answer;
use crate::database::method;
use moonrest_core::Subject as _;
use moonrest_http::prelude::*;
use moonrest_proto::rds::{self, kind};

/// The forms of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    Rds,
    Text,
    Value,
    BinaryValue,
    None,
}

impl Format {
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"rds" => Self::Rds,
            b"text" => Self::Text,
            b"value" => Self::Value,
            b"binary_value" => Self::BinaryValue,
            b"none" => Self::None,
            _ => return None,
        })
    }
}

/// The body for a result; `Err` when the result does not fit the form, which is logged.
pub(super) fn body(r: &Request, format: Format, answer: &Answer) -> Result<Vec<u8>, ()> {
    match format {
        Format::None => Ok(Vec::new()),
        Format::Rds => Ok(stream(answer)),
        Format::Text => Ok(text(answer)),
        Format::Value | Format::BinaryValue => value(r, answer),
    }
}

fn stream(answer: &Answer) -> Vec<u8> {
    let mut out = Vec::new();
    let head = rds::Head {
        // libpq's number for what came: no rows, or rows.
        driver_code: if answer.has_rows { 2 } else { 1 },
        affected_rows: answer.affected.unwrap_or(0),
        columns: u16::try_from(answer.columns.len()).unwrap_or(0),
        ..rds::Head::default()
    };
    head.append(&mut out);
    if head.columns == 0 {
        return out;
    }
    for column in &answer.columns {
        let driver_kind = u16::try_from(column.oid & 0xffff).unwrap_or(0);
        let name = if column.name.is_empty() { b"?".to_vec() } else { column.name.clone() };
        rds::Column { kind: standard_kind(column.oid), driver_kind, name }.append(&mut out);
    }
    for row in answer.rows() {
        rds::append_row(&mut out);
        row.into_iter().for_each(|value| rds::append_value(value, &mut out));
    }
    rds::append_end(&mut out);
    out
}

fn text(answer: &Answer) -> Vec<u8> {
    let values = answer.rows().flatten().map(|value| value.unwrap_or(b"(null)"));
    values.collect::<Vec<_>>().join(&b'\n')
}

fn value(r: &Request, answer: &Answer) -> Result<Vec<u8>, ()> {
    let complain = |what: &str| {
        let name = String::from_utf8_lossy(&r.loc().name);
        moonrest_http::error!(
            r,
            "postgres: \"postgres_output value\" received {what} in location \"{name}\""
        );
    };
    let count = answer.len() * answer.columns.len();
    if answer.len() != 1 || answer.columns.len() != 1 {
        complain(&format!("{count} value(s) instead of expected single value"));
        return Err(());
    }
    match answer.value(0, 0) {
        None => complain("NULL value"),
        Some(b"") => complain("empty value"),
        Some(value) => return Ok(value.to_vec()),
    }
    Err(())
}

/// What a rule looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Condition {
    NoChanges,
    Changes,
    NoRows,
    Rows,
}

impl Condition {
    fn named(name: &[u8]) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_slice() {
            b"no_changes" => Self::NoChanges,
            b"changes" => Self::Changes,
            b"no_rows" => Self::NoRows,
            b"rows" => Self::Rows,
            _ => return None,
        })
    }

    fn holds(self, answer: &Answer) -> bool {
        match self {
            Self::NoChanges => answer.affected == Some(0),
            Self::Changes => answer.affected.is_some_and(|affected| affected > 0),
            Self::NoRows => answer.len() == 0,
            Self::Rows => answer.len() > 0,
        }
    }
}

/// The `postgres_rewrite` rules of one block.
#[derive(Clone, Default)]
pub(super) struct Rewrites(Vec<Rule>);

#[derive(Clone)]
struct Rule {
    condition: Condition,
    by_method: Vec<(u32, Status)>,
    default: Option<Status>,
}

/// The status that a rule sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Status {
    pub code: u16,
    /// The body is sent with it, also where the status has a page of its own.
    pub keep_body: bool,
}

impl Status {
    fn parse(text: &[u8]) -> Option<Self> {
        let (keep_body, digits) = match text {
            [b'=', digits @ ..] => (true, digits),
            digits => (false, digits),
        };
        let code = u16::try_from(moonrest_conf::value::parse_uint(digits)?).ok()?;
        matches!(code, 200..300 | 400..=507).then_some(Self { code, keep_body })
    }
}

impl Rewrites {
    /// Reads `[METHOD ...] CONDITION [=]STATUS`.
    pub(super) fn add(&mut self, args: &Args<'_>) -> ConfResult {
        let last = args.len() - 1;
        let what = args.lossy(last - 1);
        let fault =
            |text: String| Fault::message(format!("postgres: {text} in \"postgres_rewrite\" directive"));
        let condition = Condition::named(args.bytes(last - 1)?)
            .ok_or_else(|| fault(format!("invalid condition \"{what}\"")))?;
        let status = Status::parse(args.bytes(last)?).ok_or_else(|| {
            fault(format!(
                "invalid status value \"{}\" for condition \"{what}\"",
                args.lossy(last).trim_start_matches('=')
            ))
        })?;
        let index = self.0.iter().position(|rule| rule.condition == condition).unwrap_or_else(|| {
            self.0.push(Rule { condition, by_method: Vec::new(), default: None });
            self.0.len() - 1
        });
        let Some(rule) = self.0.get_mut(index) else { return Err(args.wrong_count()) };
        if last == 1 {
            return set_once(&mut rule.default, status);
        }
        let mut methods = 0;
        for n in 0..last - 1 {
            let name = args.lossy(n);
            let method = method(args.bytes(n)?)
                .ok_or_else(|| fault(format!("invalid method \"{name}\" for condition \"{what}\"")))?;
            if rule.by_method.iter().any(|(known, _)| known & method.bit() != 0) {
                return Err(fault(format!("method \"{name}\" for condition \"{what}\" is duplicate")));
            }
            methods |= method.bit();
        }
        rule.by_method.push((methods, status));
        Ok(())
    }

    /// The status for a result, if a rule has one.
    pub(super) fn apply(&self, method: u32, answer: &Answer) -> Option<Status> {
        self.0.iter().filter(|rule| rule.condition.holds(answer)).find_map(|rule| {
            let own = rule.by_method.iter().find(|(methods, _)| methods & method != 0);
            own.map(|(_, status)| *status).or(rule.default)
        })
    }
}

/// One `postgres_set`.
#[derive(Clone)]
pub(super) struct Setting {
    variable: VarId,
    name: Box<str>,
    row: usize,
    column: ColumnRef,
    required: bool,
}

#[derive(Clone)]
enum ColumnRef {
    Number(usize),
    Name(Box<[u8]>),
}

impl Setting {
    /// Reads `$variable ROW COLUMN [optional|required]`.
    pub(super) fn parse(args: &Args<'_>) -> ConfResult<Self> {
        let fault = |text: String| Fault::message(format!("postgres: {text} in \"postgres_set\" directive"));
        let name = match args.str(0)?.strip_prefix('$') {
            Some("") => return Err(fault("empty variable name".to_owned())),
            Some(name) => name,
            None => return Err(fault(format!("invalid variable name \"{}\"", args.lossy(0)))),
        };
        let number = |text: &[u8]| {
            moonrest_conf::value::parse_uint(text).and_then(|number| usize::try_from(number).ok())
        };
        if args.bytes(2)?.is_empty() {
            return Err(fault("empty column".to_owned()));
        }
        let row = number(args.bytes(1)?)
            .ok_or_else(|| fault(format!("invalid row number \"{}\"", args.lossy(1))))?;
        let column = match number(args.bytes(2)?) {
            Some(column) => ColumnRef::Number(column),
            None => ColumnRef::Name(args.bytes(2)?.into()),
        };
        let required = match args.words().get(3).map(|word| &*word.text) {
            None | Some(b"optional") => false,
            Some(b"required") => true,
            Some(_) => return Err(fault(format!("invalid requirement option \"{}\"", args.lossy(3)))),
        };
        Ok(Self { variable: args.vars.define_slot(name)?, name: name.into(), row, column, required })
    }

    /// Assigns the variable; `false` when a value that must be there is not, which is logged.
    pub(super) fn apply(&self, r: &Request, answer: &Answer) -> bool {
        let found = self.find(answer);
        if let (Err(reason), true) = (&found, self.required) {
            let location = String::from_utf8_lossy(&r.loc().name);
            moonrest_http::error!(
                r,
                "postgres: \"postgres_set\" for variable \"${}\" requires {reason} in location \"{location}\"",
                self.name
            );
        }
        r.vars().assign(r, self.variable, Some(found.as_deref().unwrap_or_default()));
        found.is_ok() || !self.required
    }

    fn find<'a>(&self, answer: &'a Answer) -> Result<&'a [u8], String> {
        let column = match &self.column {
            ColumnRef::Number(column) => *column,
            ColumnRef::Name(name) => {
                let index = answer.columns.iter().position(|column| *column.name == **name);
                index.ok_or_else(|| {
                    let name = String::from_utf8_lossy(name);
                    format!("value from column \"{name}\" that wasn't found in the received result-set")
                })?
            }
        };
        if self.row >= answer.len() || column >= answer.columns.len() {
            return Err(format!(
                "value out of range of the received result-set (rows:{} cols:{})",
                answer.len(),
                answer.columns.len()
            ));
        }
        match answer.value(self.row, column) {
            None => Err("non-NULL value".to_owned()),
            Some(b"") => Err("non-zero length value".to_owned()),
            Some(value) => Ok(value),
        }
    }
}

/// The standard's kind for the number of a type.
fn standard_kind(oid: u32) -> u16 {
    match oid {
        16 => kind::BOOLEAN,
        17 => kind::BLOB,
        18 => kind::CHAR,
        19 | 25 | 1043 => kind::VARCHAR,
        20 => kind::BIGINT,
        21 => kind::SMALLINT,
        23 => kind::INTEGER,
        142 => kind::XML,
        700 => kind::REAL,
        701 => kind::DOUBLE,
        1082 => kind::DATE,
        1083 => kind::TIME,
        1114 => kind::TIMESTAMP,
        1184 => kind::TIMESTAMP_WITH_TIME_ZONE,
        1186 => kind::INTERVAL,
        1266 => kind::TIME_WITH_TIME_ZONE,
        1560 => kind::BIT,
        1562 => kind::BIT_VARYING,
        1700 => kind::DECIMAL,
        _ => kind::UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_look_at_changes_and_rows() {
        let none = Answer { affected: Some(0), ..Answer::default() };
        let some = Answer { affected: Some(2), ..Answer::default() };
        let select = Answer { has_rows: true, ..Answer::default() };
        assert!(Condition::NoChanges.holds(&none) && !Condition::NoChanges.holds(&select));
        assert!(Condition::Changes.holds(&some) && !Condition::Changes.holds(&select));
        assert!(Condition::NoRows.holds(&select) && !Condition::Rows.holds(&select));
        let status = Status { code: 404, keep_body: false };
        let other = Status { code: 410, keep_body: true };
        let rules = Rewrites(vec![Rule {
            condition: Condition::NoRows,
            by_method: vec![(2, other)],
            default: Some(status),
        }]);
        assert_eq!(rules.apply(2, &select), Some(other));
        assert_eq!(rules.apply(4, &select), Some(status));
    }

    #[test]
    fn statuses_are_answers_or_errors() {
        assert_eq!(Status::parse(b"=404"), Some(Status { code: 404, keep_body: true }));
        assert_eq!(Status::parse(b"201"), Some(Status { code: 201, keep_body: false }));
        for wrong in ["301", "100", "508", "x", ""] {
            assert_eq!(Status::parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(Format::named(b"binary_value"), Some(Format::BinaryValue));
        assert_eq!(Format::named(b"json"), None);
    }
}
