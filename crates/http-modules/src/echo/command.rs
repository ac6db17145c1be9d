//! The commands of a location, as written and compiled.

use moonrest_http::prelude::*;
use moonrest_proto::http1::Method;

/// One command.
#[derive(Clone, Debug)]
pub(super) enum Command {
    Text(Text),
    Duplicate {
        count: Template,
        text: Template,
    },
    Flush,
    Sleep(Template),
    BlockingSleep(Template),
    ResetTimer,
    ReadBody,
    Body,
    Subrequest(Target),
    Foreach {
        delimiter: Template,
        text: Template,
    },
    /// One whose delimiter looks like an option.
    BadForeach,
    End,
    Exec {
        uri: Template,
        args: Option<Template>,
    },
    AbortParent,
}

/// Arguments with spaces between them, and a line's end unless `-n` was given.
#[derive(Clone, Debug)]
pub(super) struct Text {
    words: Vec<Template>,
    newline: bool,
}

impl Text {
    pub(super) fn append(&self, r: &Request, out: &mut Vec<u8>) {
        for (n, word) in self.words.iter().enumerate() {
            if n > 0 {
                out.push(b' ');
            }
            word.append(r, out);
        }
        if self.newline {
            out.push(b'\n');
        }
    }
}

/// A subrequest to make.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The next command runs at once, not when the answer is complete.
    pub aside: bool,
    pub method: Option<Template>,
    pub uri: Template,
    pub args: Option<Template>,
    pub body: Body,
}

impl Target {
    /// The directive that made it.
    pub(super) fn name(&self) -> &'static str {
        match (self.method.is_some(), self.aside) {
            (false, false) => "echo_location",
            (false, true) => "echo_location_async",
            (true, false) => "echo_subrequest",
            (true, true) => "echo_subrequest_async",
        }
    }
}

/// What is sent with a subrequest.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// What its parent has.
    Inherited,
    Text(Template),
    File(Template),
}

pub(super) fn text(args: &Args<'_>) -> ConfResult<Text> {
    let (mut first, mut newline) = (0, true);
    while let Ok(word) = args.bytes(first) {
        match word {
            b"-n" => newline = false,
            b"--" => {
                first += 1;
                break;
            }
            _ => break,
        }
        first += 1;
    }
    let words = (first..args.len()).map(|n| args.template(n)).collect::<ConfResult<_>>()?;
    Ok(Text { words, newline })
}

pub(super) fn echo(args: &Args<'_>) -> ConfResult<Command> {
    text(args).map(Command::Text)
}

pub(super) fn duplicate(args: &Args<'_>) -> ConfResult<Command> {
    Ok(Command::Duplicate { count: args.template(0)?, text: args.template(1)? })
}

pub(super) fn foreach(args: &Args<'_>) -> ConfResult<Command> {
    // A delimiter may be preceded by `--`, so that it can begin with a dash; otherwise that would be an option.
    let first = usize::from(args.bytes(0)?.starts_with(b"--") && args.len() > 2);
    if matches!(args.bytes(first)?, [b'-', _, ..]) && first == 0 {
        return Ok(Command::BadForeach);
    }
    Ok(Command::Foreach { delimiter: args.template(first)?, text: args.template(first + 1)? })
}

pub(super) fn exec(args: &Args<'_>) -> ConfResult<Command> {
    Ok(Command::Exec { uri: args.template(0)?, args: optional(args, 1)? })
}

fn optional(args: &Args<'_>, n: usize) -> ConfResult<Option<Template>> {
    if n < args.len() { args.template(n).map(Some) } else { Ok(None) }
}

pub(super) fn location(args: &Args<'_>, aside: bool) -> ConfResult<Command> {
    let (uri, query) = (args.template(0)?, optional(args, 1)?);
    Ok(Command::Subrequest(Target { aside, method: None, uri, args: query, body: Body::Inherited }))
}

pub(super) fn subrequest(args: &Args<'_>, aside: bool) -> ConfResult<Command> {
    let method = args.template(0)?;
    if let Some(name) = method.as_static()
        && Method::from_name(name) == Method::Other
    {
        return Err(Fault::message(format!("invalid method \"{}\"", args.lossy(0))));
    }
    let mut target =
        Target { aside, method: Some(method), uri: args.template(1)?, args: None, body: Body::Inherited };
    let mut n = 2;
    while n < args.len() {
        let option = args.bytes(n)?;
        if !matches!(option, b"-q" | b"-b" | b"-f") {
            return Err(Fault::message(format!("unknown option \"{}\"", args.lossy(n))));
        }
        if n + 1 >= args.len() {
            return Err(Fault::message(format!("option \"{}\" takes an argument", args.lossy(n))));
        }
        let value = args.template(n + 1)?;
        match option {
            b"-q" => target.args = Some(value),
            b"-b" => target.body = Body::Text(value),
            _ => target.body = Body::File(value),
        }
        n += 2;
    }
    Ok(Command::Subrequest(target))
}
