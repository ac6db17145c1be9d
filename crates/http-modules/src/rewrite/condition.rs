//! `if (condition) { … }`.

use super::{LogSwitch, Main, file_test::FileTest, value::Value};
use moonrest_core::{Subject, Word};
use moonrest_http::{
    compile::BlockId,
    location::LocId,
    prelude::*,
    script::{ScriptFlow, ScriptOp, ScriptStep},
};

/// An `if`, compiled.
struct If {
    condition: Condition,
    block: BlockId,
    location: LocId,
}

enum Condition {
    /// `($variable)`: neither empty nor `0`.
    True(VarId),
    /// `($variable = value)`, `!=`.
    Equal { variable: VarId, value: Value, negated: bool },
    /// `($variable ~ regex)`, `~*`, `!~`, `!~*`.
    Match { variable: VarId, regex: CapturingRegex, negated: bool, log: LogSwitch },
    /// `(-f path)`, `!-f` and so on.
    File { test: FileTest, path: Value, negated: bool },
}

/// Sets `if`.
pub(super) fn set_if(args: &Args<'_>) -> ConfResult {
    let condition = parse(args)?;
    let inner = if args.context.overlaps(Contexts::SERVER) { Contexts::SERVER_IF } else { Contexts::IF };
    let block = args.sub_block(inner);
    args.push_script(If { condition, block, location: LocId(0) });
    Ok(())
}

/// A word of the condition, its parentheses taken off.
struct Part<'a> {
    text: &'a [u8],
    word: &'a Word,
}

impl Part<'_> {
    fn invalid(&self) -> Fault {
        Fault::message(format!("invalid condition \"{}\"", String::from_utf8_lossy(self.text)))
    }

    fn value(&self, args: &Args<'_>) -> ConfResult<Value> {
        let span = self.word.span;
        Template::parse(self.text, |name| args.vars.reference(name, Some(span))).map(Value::of)
    }
}

/// The words between the parentheses, which may stand by themselves or touch the outer words.
fn parts<'a>(args: &Args<'a>) -> ConfResult<Vec<Part<'a>>> {
    let mut parts: Vec<Part<'a>> = args.words().iter().map(|word| Part { text: &word.text, word }).collect();
    let Some(first) = parts.first_mut() else { return Err(args.wrong_count()) };
    first.text = first.text.strip_prefix(b"(").ok_or_else(|| first.invalid())?;
    let alone = first.text.is_empty();
    if let Some(last) = parts.last_mut() {
        last.text = last.text.strip_suffix(b")").ok_or_else(|| last.invalid())?;
        if last.text.is_empty() {
            parts.pop();
        }
    }
    if alone && !parts.is_empty() {
        parts.remove(0);
    }
    Ok(parts)
}

fn parse(args: &Args<'_>) -> ConfResult<Condition> {
    let parts = parts(args)?;
    match &*parts {
        [] => Err(Fault::message("invalid condition \")\"")),
        [first, ..] if first.text.len() > 1 && first.text.starts_with(b"$") => of_variable(args, &parts),
        [first, rest @ ..] => {
            let (negated, letter) = match first.text {
                [b'-', letter] => (false, *letter),
                [b'!', b'-', letter] => (true, *letter),
                _ => return Err(first.invalid()),
            };
            let [path] = rest else { return Err(first.invalid()) };
            let path = path.value(args)?;
            let test = FileTest::from_letter(letter).ok_or_else(|| first.invalid())?;
            Ok(Condition::File { test, path, negated })
        }
    }
}

fn of_variable(args: &Args<'_>, parts: &[Part<'_>]) -> ConfResult<Condition> {
    let (first, rest) = match parts {
        [first] => (first, None),
        [first, operator, last] => (first, Some((operator, last))),
        [first, ..] => return Err(first.invalid()),
        [] => return Err(args.wrong_count()),
    };
    let name = std::str::from_utf8(first.text.get(1..).unwrap_or_default()).map_err(|_| first.invalid())?;
    let variable = args.vars.reference(name, Some(first.word.span));
    let Some((operator, last)) = rest else { return Ok(Condition::True(variable)) };
    let negated = operator.text.starts_with(b"!");
    match operator.text {
        b"=" | b"!=" => Ok(Condition::Equal { variable, value: last.value(args)?, negated }),
        b"~" | b"~*" | b"!~" | b"!~*" => {
            let regex = CapturingRegex::compile(args, last.text, operator.text.ends_with(b"*"))?;
            let log = args.compiler.with_main(|main: &mut Main| main.log_of(args.block));
            Ok(Condition::Match { variable, regex, negated, log: log.unwrap_or_default() })
        }
        other => {
            Err(Fault::message(format!("unexpected \"{}\" in condition", String::from_utf8_lossy(other))))
        }
    }
}

impl ScriptOp for If {
    fn run(&self, r: &RequestRef) -> Result<ScriptStep, RequestError> {
        let flow = if self.condition.holds(r)? { ScriptFlow::Enter(self.location) } else { ScriptFlow::Next };
        Ok(ScriptStep::Now(flow))
    }

    fn resolve(&mut self, location_of: &dyn Fn(BlockId) -> LocId) {
        self.location = location_of(self.block);
    }
}

impl Condition {
    fn holds(&self, r: &Request) -> Result<bool, RequestError> {
        let read = |variable: VarId| {
            let mut value = Vec::new();
            r.vars().append(r, variable, &mut value);
            value
        };
        Ok(match self {
            Self::True(variable) => !matches!(&*read(*variable), b"" | b"0"),
            Self::Equal { variable, value, negated } => {
                let left = read(*variable);
                (*left == *value.eval(r)) != *negated
            }
            Self::Match { variable, regex, negated, log } => {
                let text = read(*variable);
                let matched = regex.matches(r, &text)?;
                if !matched {
                    r.captures.borrow_mut().groups.clear();
                }
                if log.is_on(r) {
                    let verb = if matched { "matches" } else { "does not match" };
                    let (pattern, text) = (regex.pattern(), String::from_utf8_lossy(&text));
                    moonrest_http::notice!(r, "\"{pattern}\" {verb} \"{text}\"");
                }
                matched != *negated
            }
            Self::File { test, path, negated } => test.passes(r, &path.eval(r)) != *negated,
        })
    }
}
