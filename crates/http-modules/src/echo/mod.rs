//! `echo` and its family: answers written in the configuration, command by command.
//! <https://github.com/openresty/echo-nginx-module>

mod around;
mod run;
mod variables;

use moonrest_http::{compile::BlockId, module::Set, prelude::*};

/// The module.
pub struct Echo;

type D = Directive<Echo>;

const LI: Contexts = Contexts::LOCATION.or(Contexts::IF);

const fn row(name: &'static str, arity: Arity, set: fn(&mut Loc, &Args<'_>) -> ConfResult) -> D {
    D::new(name, LI, arity, Set::Loc(set))
}

impl HttpModule for Echo {
    const NAME: &'static str = "ngx_http_echo_module";
    const DIRECTIVES: &'static [D] = &[
        row("echo", Arity::at_least(0), |loc, args| {
            let text = Text::read(args, 0)?;
            loc.add(args, Command::Echo(text))
        }),
        row("echo_duplicate", Arity::exactly(2), |loc, args| {
            let times = count(args.bytes(0)?).ok_or_else(|| args.invalid_value(0))?;
            let text = args.template(1)?;
            loc.add(args, Command::Duplicate(times, text))
        }),
        row("echo_flush", Arity::exactly(0), |loc, args| loc.add(args, Command::Flush)),
        row("echo_sleep", Arity::exactly(1), |loc, args| {
            let seconds = args.template(0)?;
            loc.add(args, Command::Sleep(seconds))
        }),
        row("echo_blocking_sleep", Arity::exactly(1), |loc, args| {
            let seconds = args.template(0)?;
            loc.add(args, Command::BlockingSleep(seconds))
        }),
        row("echo_reset_timer", Arity::exactly(0), |loc, args| loc.add(args, Command::ResetTimer)),
        row("echo_read_request_body", Arity::exactly(0), |loc, args| loc.add(args, Command::ReadBody)),
        row("echo_request_body", Arity::exactly(0), |loc, args| loc.add(args, Command::Body)),
        row("echo_location", Arity::between(1, 2), |loc, args| {
            let target = Target::location(args)?;
            loc.add(args, Command::Subrequest { target, wait: true })
        }),
        row("echo_location_async", Arity::between(1, 2), |loc, args| {
            let target = Target::location(args)?;
            loc.add(args, Command::Subrequest { target, wait: false })
        }),
        row("echo_subrequest", Arity::at_least(2), |loc, args| {
            let target = Target::subrequest(args)?;
            loc.add(args, Command::Subrequest { target, wait: true })
        }),
        row("echo_subrequest_async", Arity::at_least(2), |loc, args| {
            let target = Target::subrequest(args)?;
            loc.add(args, Command::Subrequest { target, wait: false })
        }),
        row("echo_exec", Arity::between(1, 2), |loc, args| {
            let target = Target::location(args)?;
            loc.add(args, Command::Exec(target))
        }),
        row("echo_foreach_split", Arity::at_least(2), |loc, args| {
            let at = usize::from(args.bytes(0)? == b"--");
            let delimiter = args.template(at)?;
            let text = args.template(at + 1)?;
            loc.add(args, Command::ForEach(delimiter, text))
        }),
        row("echo_end", Arity::exactly(0), |loc, args| loc.add(args, Command::End)),
        row("echo_status", Arity::exactly(1), |loc, args| {
            let status = u16::try_from(args.uint(0)?).map_err(|_| args.invalid_value(0))?;
            loc.status = Some(status);
            Ok(())
        }),
        row("echo_before_body", Arity::at_least(0), |loc, args| {
            loc.before.get_or_insert_default().push(Text::read(args, 0)?);
            Ok(())
        }),
        row("echo_after_body", Arity::at_least(0), |loc, args| {
            loc.after.get_or_insert_default().push(Text::read(args, 0)?);
            Ok(())
        }),
    ];
    const VARIABLES: &'static [VarDef<Request>] = variables::TABLE;
    type Main = ();
    type Loc = Loc;

    fn attach((): &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if let Some(own) = loc.own.as_ref().filter(|own| to.belongs(own.block)) {
            to.content(run::Handler { commands: own.commands.clone().into(), status: loc.status });
        }
        if loc.before.is_some() || loc.after.is_some() {
            to.header_filter(HeaderOrder::Echo, around::Filter(loc.clone()));
        }
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    own: Option<Own>,
    status: Option<u16>,
    before: Option<Vec<Text>>,
    after: Option<Vec<Text>>,
}
inherit!(Loc { own, status, before, after });

/// Commands answer in their own location alone.
#[derive(Clone)]
struct Own {
    block: BlockId,
    commands: Vec<Command>,
}

impl Loc {
    fn add(&mut self, args: &Args<'_>, command: Command) -> ConfResult {
        self.own
            .get_or_insert_with(|| Own { block: args.block, commands: Vec::new() })
            .commands
            .push(command);
        Ok(())
    }
}

/// One step of an answer.
#[derive(Clone)]
enum Command {
    Echo(Text),
    Duplicate(usize, Template),
    Flush,
    Sleep(Template),
    BlockingSleep(Template),
    ResetTimer,
    ReadBody,
    Body,
    Subrequest { target: Target, wait: bool },
    Exec(Target),
    ForEach(Template, Template),
    End,
}

/// Words joined by spaces, and whether a line ends behind them.
#[derive(Clone)]
struct Text {
    words: Vec<Template>,
    newline: bool,
}

impl Text {
    /// Arguments from `first` on; `-n` takes the line's end away, `--` ends the options.
    fn read(args: &Args<'_>, first: usize) -> ConfResult<Self> {
        let mut at = first;
        let mut newline = true;
        while at < args.len() {
            match args.bytes(at)? {
                b"-n" => newline = false,
                b"--" => {
                    at += 1;
                    break;
                }
                _ => break,
            }
            at += 1;
        }
        let words = (at..args.len()).map(|n| args.template(n)).collect::<ConfResult<_>>()?;
        Ok(Self { words, newline })
    }

    fn eval(&self, r: &Request) -> Vec<u8> {
        let mut out = Vec::new();
        for (n, word) in self.words.iter().enumerate() {
            if n > 0 {
                out.push(b' ');
            }
            word.append(r, &mut out);
        }
        if self.newline {
            out.push(b'\n');
        }
        out
    }
}

/// Where a subrequest or a redirect leads.
#[derive(Clone)]
struct Target {
    method: Option<Template>,
    uri: Template,
    args: Option<Template>,
    body: Option<Template>,
    file: Option<Template>,
}

impl Target {
    fn location(args: &Args<'_>) -> ConfResult<Self> {
        let uri = args.template(0)?;
        let query = if args.len() > 1 { Some(args.template(1)?) } else { None };
        Ok(Self { method: None, uri, args: query, body: None, file: None })
    }

    fn subrequest(args: &Args<'_>) -> ConfResult<Self> {
        let mut target = Self {
            method: Some(args.template(0)?),
            uri: args.template(1)?,
            args: None,
            body: None,
            file: None,
        };
        let mut at = 2;
        while at < args.len() {
            let field = match args.bytes(at)? {
                b"-q" => &mut target.args,
                b"-b" => &mut target.body,
                b"-f" => &mut target.file,
                _ => {
                    return Err(Fault::message(format!(
                        "Unknown option for {}: {}",
                        args.name(),
                        args.lossy(at)
                    )));
                }
            };
            *field = Some(args.template(at + 1)?);
            at += 2;
        }
        Ok(target)
    }
}

/// A number, in which underscores may separate digits.
fn count(text: &[u8]) -> Option<usize> {
    let digits: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'_').collect();
    std::str::from_utf8(&digits).ok()?.parse().ok()
}
