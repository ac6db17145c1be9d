//! Carries out the commands of one page.

use super::{
    DateFormat, Settings,
    parser::{Command, Event, Parser},
    state::{Failed, Shared, evaluate, holds, target, variable},
};
use moonrest_http::{
    prelude::*,
    subrequest::{self, Subrequest},
};
use moonrest_proto::escape::{self, Kind};
use std::rc::Rc;

/// How `echo` writes a value.
#[derive(Clone, Copy)]
enum Encoding {
    None,
    Url,
    Entity,
}

/// Where in a condition the page stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Outside,
    /// Behind `if` or `elif`.
    If,
    Else,
}

/// A row of the table of commands: its parameters, `true` for those that must be given.
struct Row {
    name: &'static [u8],
    parameters: &'static [(&'static [u8], bool)],
}

static COMMANDS: [Row; 10] = [
    Row {
        name: b"include",
        parameters: &[
            (b"virtual", false),
            (b"file", false),
            (b"wait", false),
            (b"set", false),
            (b"stub", false),
        ],
    },
    Row { name: b"echo", parameters: &[(b"var", true), (b"default", false), (b"encoding", false)] },
    Row { name: b"config", parameters: &[(b"errmsg", false), (b"timefmt", false)] },
    Row { name: b"set", parameters: &[(b"var", true), (b"value", true)] },
    Row { name: b"if", parameters: &[(b"expr", true)] },
    Row { name: b"elif", parameters: &[(b"expr", true)] },
    Row { name: b"else", parameters: &[] },
    Row { name: b"endif", parameters: &[] },
    Row { name: b"block", parameters: &[(b"name", true)] },
    Row { name: b"endblock", parameters: &[] },
];

/// The values of a command's parameters, in the order of its row.
type Values<'a> = [Option<&'a [u8]>; 5];

/// How much is put out before the client is given time to take it.
const AT_ONCE: usize = 64 * 1024;
/// Subrequests that one call may begin.
const CHILDREN_AT_ONCE: usize = 128;

/// The filter of one response.
pub(super) struct Page {
    settings: Arc<Settings>,
    shared: Rc<Shared>,
    parser: Parser,
    /// Text and output stand here until they are passed on.
    together: Vec<u8>,
    made: usize,
    children: usize,
    /// A subrequest that was pushed must end before the page goes on.
    waiting: bool,
    /// What stands here is output.
    output: bool,
    condition: Condition,
    /// A branch of the present condition was taken.
    chosen: bool,
    in_block: bool,
    encoding: Encoding,
    error_message: Vec<u8>,
}

impl Page {
    pub(super) fn new(settings: Arc<Settings>, r: &Request) -> Self {
        Self {
            parser: Parser::new(settings.value_length),
            settings,
            shared: r.main().ctx::<Shared>(),
            together: Vec::new(),
            made: 0,
            children: 0,
            waiting: false,
            output: true,
            condition: Condition::Outside,
            chosen: false,
            in_block: false,
            encoding: Encoding::Entity,
            error_message: b"[an error occurred while processing the directive]".to_vec(),
        }
    }

    /// Goes on as far as the page was given and one call may go.
    fn run(&mut self, r: &RequestRef, out: &mut Pieces) {
        (self.made, self.children) = (0, 0);
        while !self.waiting && self.made < AT_ONCE && self.children < CHILDREN_AT_ONCE {
            match self.parser.next() {
                Some(Event::Text(text)) => self.text(text, out),
                Some(Event::Command(command)) => {
                    if self.command(r, &command, out).is_err() {
                        self.show_error();
                    }
                }
                Some(Event::Invalid(why)) => {
                    moonrest_http::error!(r, "{why}");
                    self.show_error();
                }
                None => break,
            }
        }
        self.pass_on(out);
    }

    fn text(&mut self, text: Bytes, out: &mut Pieces) {
        if self.output {
            self.made += text.len();
            if text.len() < 2048 {
                self.together.extend_from_slice(&text);
            } else {
                self.pass_on(out);
                out.push(Piece::Data(text));
            }
        } else if self.in_block {
            self.shared.with_block(|block| block.extend_from_slice(&text));
        }
    }

    fn show_error(&mut self) {
        if !self.settings.silent_errors {
            self.made += self.error_message.len();
            self.together.extend_from_slice(&self.error_message);
        }
    }

    fn pass_on(&mut self, out: &mut Pieces) {
        if !self.together.is_empty() {
            out.push(Piece::Data(std::mem::take(&mut self.together).into()));
        }
    }

    fn command(&mut self, r: &RequestRef, command: &Command, out: &mut Pieces) -> Result<(), Failed> {
        let name = &command.name[..];
        let Some(row) = COMMANDS.iter().find(|row| row.name == name) else {
            if self.output {
                moonrest_http::error!(r, "invalid SSI command: \"{}\"", String::from_utf8_lossy(name));
                return Err(Failed);
            }
            return Ok(());
        };
        let conditional = matches!(name, b"elif" | b"else" | b"endif");
        if !self.output && name != b"endblock" {
            if self.in_block {
                self.shared.with_block(|block| command.append_text(block));
                return Ok(());
            }
            if !conditional {
                return Ok(());
            }
        }
        let misplaced = match self.condition {
            Condition::Outside => conditional,
            Condition::If => false,
            Condition::Else => matches!(name, b"elif" | b"else"),
        };
        if misplaced {
            moonrest_http::error!(r, "invalid context of SSI command: \"{}\"", String::from_utf8_lossy(name));
            return Err(Failed);
        }
        let values = values(r, row, command)?;
        match name {
            b"include" => self.include(r, &values, out)?,
            b"echo" => self.echo(r, &values),
            b"config" => self.config(r, &values),
            b"set" => {
                let [name, value, ..] = values;
                let value = evaluate(r, value.unwrap_or_default())?;
                self.shared.set(name.unwrap_or_default(), value);
            }
            b"if" | b"elif" => self.condition(r, name == b"if", values[0].unwrap_or_default())?,
            b"else" => {
                self.output = !self.chosen;
                self.condition = Condition::Else;
            }
            b"endif" => {
                self.output = true;
                self.chosen = false;
                self.condition = Condition::Outside;
            }
            b"block" => {
                self.shared.add_block(values[0].unwrap_or_default());
                self.output = false;
                self.in_block = true;
            }
            _ => {
                if self.in_block || self.condition == Condition::Outside {
                    self.output = true;
                }
                self.in_block = false;
            }
        }
        Ok(())
    }

    fn condition(&mut self, r: &Request, first: bool, expression: &[u8]) -> Result<(), Failed> {
        if first && self.condition != Condition::Outside {
            moonrest_http::error!(r, "the \"if\" command inside the \"if\" command");
            return Err(Failed);
        }
        if self.chosen {
            self.output = false;
            return Ok(());
        }
        let holds = holds(r, expression)?;
        self.output = holds;
        self.chosen = holds;
        self.condition = Condition::If;
        Ok(())
    }

    fn echo(&mut self, r: &Request, values: &Values<'_>) {
        let &[name, default, encoding, ..] = values;
        let value = variable(r, name.unwrap_or_default())
            .unwrap_or_else(|| default.map_or_else(|| b"(none)".to_vec(), <[u8]>::to_vec));
        if value.is_empty() {
            return;
        }
        match encoding {
            None => {}
            Some(b"none") => self.encoding = Encoding::None,
            Some(b"url") => self.encoding = Encoding::Url,
            Some(b"entity") => self.encoding = Encoding::Entity,
            Some(other) => moonrest_http::error!(
                r,
                "unknown encoding \"{}\" in the \"echo\" command",
                String::from_utf8_lossy(other)
            ),
        }
        let before = self.together.len();
        match self.encoding {
            Encoding::None => self.together.extend_from_slice(&value),
            Encoding::Url => escape::escape(Kind::Html, &value, &mut self.together),
            Encoding::Entity => escape::html(&value, &mut self.together),
        }
        self.made += self.together.len() - before;
    }

    fn config(&mut self, r: &Request, values: &Values<'_>) {
        let &[message, format, ..] = values;
        if let Some(format) = format {
            *r.ctx::<DateFormat>().0.borrow_mut() = Some(format.to_vec());
        }
        if let Some(message) = message {
            self.error_message = message.to_vec();
        }
    }

    fn include(&mut self, r: &RequestRef, values: &Values<'_>, out: &mut Pieces) -> Result<(), Failed> {
        let &[uri, file, wait, set, stub] = values;
        let shown = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        let refuse = |message: String| {
            moonrest_http::error!(r, "{message}");
            Err(Failed)
        };
        if uri.is_some() && file.is_some() {
            return refuse(format!(
                "inclusion may be either virtual=\"{}\" or file=\"{}\"",
                shown(uri),
                shown(file)
            ));
        }
        let Some(text) = uri.or(file) else {
            return refuse("no parameter in \"include\" SSI command".to_owned());
        };
        if set.is_some() && stub.is_some() {
            return refuse(
                "\"set\" and \"stub\" cannot be used together in \"include\" SSI command".to_owned(),
            );
        }
        if wait.is_some() && uri.is_none() {
            return refuse(format!("\"wait\" cannot be used with file=\"{}\"", shown(file)));
        }
        let waits = match wait {
            None => uri.is_none() || set.is_some(),
            Some(wait) if wait.eq_ignore_ascii_case(b"no") => set.is_some(),
            Some(wait) if wait.eq_ignore_ascii_case(b"yes") => true,
            Some(_) => {
                return refuse(format!("invalid value \"{}\" in the \"wait\" parameter", shown(wait)));
            }
        };
        let (path, args) = target(r, text)?;
        let stub = match stub {
            None => None,
            Some(name) => match self.shared.block(name) {
                None => return refuse(format!("\"stub\"=\"{}\" for \"include\" not found", shown(stub))),
                found => found,
            },
        };
        let child = match set {
            Some(name) => self.included_into(r, &path, name),
            None => subrequest::inline(r, &path).map(|request| Subrequest { request, done: None }),
        };
        let child = match child {
            Ok(child) => child,
            Err(error) => return refuse(error.describe().1.to_owned()),
        };
        // Given apart, since a decoded path may contain a question mark.
        *child.request.uri.borrow_mut() = path;
        *child.request.args.borrow_mut() = args;
        if let Some(stub) = stub {
            subrequest::set_stub(&child.request, stub);
        }
        self.pass_on(out);
        out.push(Piece::Subrequest(child));
        self.children += 1;
        self.waiting = waits;
        Ok(())
    }

    /// A subrequest whose output becomes the value of a variable.
    fn included_into(&self, r: &RequestRef, path: &[u8], name: &[u8]) -> Result<Subrequest, RequestError> {
        let (request, captured) = subrequest::captured_small(r, path)?;
        self.shared.declare(name);
        let (shared, name) = (self.shared.clone(), name.to_vec());
        let done = move |child: &RequestRef| {
            let body = captured.body.take();
            if child.out().status < 300 && !body.is_empty() {
                shared.set(&name, body);
            }
        };
        Ok(Subrequest { request, done: Some(Box::new(done)) })
    }
}

/// Puts a command's parameters in order.
fn values<'a>(r: &Request, row: &Row, command: &'a Command) -> Result<Values<'a>, Failed> {
    let name = String::from_utf8_lossy(&command.name);
    if command.too_many {
        moonrest_http::error!(r, "too many SSI command parameters: \"{name}\"");
        return Err(Failed);
    }
    let mut values: Values<'a> = [None; 5];
    for (key, value) in &command.parameters {
        let place = row.parameters.iter().position(|(known, _)| known == key);
        let Some(slot) = place.and_then(|place| values.get_mut(place)) else {
            let key = String::from_utf8_lossy(key);
            moonrest_http::error!(r, "invalid parameter name: \"{key}\" in \"{name}\" SSI command");
            return Err(Failed);
        };
        if slot.replace(value).is_some() {
            let key = String::from_utf8_lossy(key);
            moonrest_http::error!(r, "duplicate \"{key}\" parameter in \"{name}\" SSI command");
            return Err(Failed);
        }
    }
    for ((key, mandatory), value) in row.parameters.iter().zip(&values) {
        if *mandatory && value.is_none() {
            let key = String::from_utf8_lossy(key);
            moonrest_http::error!(r, "mandatory \"{key}\" parameter is absent in \"{name}\" SSI command");
            return Err(Failed);
        }
    }
    Ok(values)
}

impl BodyFilter for Page {
    fn filter(
        &mut self,
        r: &RequestRef,
        piece: Piece,
        out: &mut Pieces,
    ) -> Result<FilterStep<()>, RequestError> {
        match piece {
            Piece::Data(data) => {
                self.parser.take(data);
                self.run(r, out);
            }
            Piece::Last => {
                self.release(r, out)?;
                out.push(Piece::Last);
            }
            piece => out.push(piece),
        }
        Ok(FilterStep::Now(()))
    }

    fn pending(&self) -> bool {
        self.waiting || self.parser.has_input()
    }

    fn more(&mut self, r: &RequestRef, out: &mut Pieces) -> Result<(), RequestError> {
        self.waiting = false;
        self.run(r, out);
        Ok(())
    }

    fn release(&mut self, _r: &RequestRef, out: &mut Pieces) -> Result<(), RequestError> {
        if let Some(held) = self.parser.held() {
            self.text(held, out);
        }
        self.pass_on(out);
        Ok(())
    }
}
