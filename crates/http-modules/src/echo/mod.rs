//! `echo`: answers written in the configuration: text, pauses, subrequests.
//! <https://github.com/openresty/echo-nginx-module>

mod around;
mod command;
mod run;
mod variables;

use command::Command;
use moonrest_http::{compile::BlockId, module::Set, prelude::*};

/// The module.
pub struct Echo;

type D = Directive<Echo>;

const WHERE: Contexts = Contexts::LOCATION.or(Contexts::IF);

const fn row(name: &'static str, arity: Arity, set: fn(&mut Loc, &Args<'_>) -> ConfResult) -> D {
    D::new(name, WHERE, arity, Set::Loc(set))
}

impl HttpModule for Echo {
    const NAME: &'static str = "ngx_http_echo_module";
    const DIRECTIVES: &'static [D] = &[
        row("echo", Arity::at_least(0), |loc, args| loc.add(args, command::echo(args)?)),
        row("echo_duplicate", Arity::exactly(2), |loc, args| loc.add(args, command::duplicate(args)?)),
        row("echo_flush", Arity::exactly(0), |loc, args| loc.add(args, Command::Flush)),
        row("echo_sleep", Arity::exactly(1), |loc, args| loc.add(args, Command::Sleep(args.template(0)?))),
        row("echo_blocking_sleep", Arity::exactly(1), |loc, args| {
            loc.add(args, Command::BlockingSleep(args.template(0)?))
        }),
        row("echo_reset_timer", Arity::exactly(0), |loc, args| loc.add(args, Command::ResetTimer)),
        row("echo_read_request_body", Arity::exactly(0), |loc, args| loc.add(args, Command::ReadBody)),
        row("echo_request_body", Arity::exactly(0), |loc, args| loc.add(args, Command::Body)),
        row("echo_location", Arity::between(1, 2), |loc, args| {
            loc.add(args, command::location(args, false)?)
        }),
        row("echo_location_async", Arity::between(1, 2), |loc, args| {
            loc.add(args, command::location(args, true)?)
        }),
        row("echo_subrequest", Arity::at_least(2), |loc, args| {
            loc.add(args, command::subrequest(args, false)?)
        }),
        row("echo_subrequest_async", Arity::at_least(2), |loc, args| {
            loc.add(args, command::subrequest(args, true)?)
        }),
        row("echo_foreach_split", Arity::at_least(2), |loc, args| loc.add(args, command::foreach(args)?)),
        row("echo_end", Arity::exactly(0), |loc, args| loc.add(args, Command::End)),
        row("echo_exec", Arity::between(1, 2), |loc, args| loc.add(args, command::exec(args)?)),
        row("echo_abort_parent", Arity::exactly(0), |loc, args| loc.add(args, Command::AbortParent)),
        row("echo_status", Arity::exactly(1), |loc, args| {
            let status = args.uint(0).map_err(|_| invalid_status(args))?;
            let status = u16::try_from(status).ok().filter(|status| (200..=999).contains(status));
            set_once(&mut loc.status, status.ok_or_else(|| invalid_status(args))?)
        }),
        row("echo_before_body", Arity::at_least(0), |loc, args| {
            loc.before.get_or_insert_default().push(command::text(args)?);
            Ok(())
        }),
        row("echo_after_body", Arity::at_least(0), |loc, args| {
            loc.after.get_or_insert_default().push(command::text(args)?);
            Ok(())
        }),
    ];
    const VARIABLES: &'static [VarDef<Request>] = variables::VARIABLES;
    type Main = ();
    type Loc = Loc;

    fn attach(_main: &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if let Some(block) = loc.block
            && to.belongs(block)
        {
            let commands = loc.commands.clone().unwrap_or_default();
            to.content(run::Handler::new(commands, loc.status.unwrap_or(200)));
        }
        let (before, after) = (loc.before.clone().unwrap_or_default(), loc.after.clone().unwrap_or_default());
        if !before.is_empty() || !after.is_empty() {
            to.header_filter(HeaderOrder::Echo, around::Filter::new(before, after));
        }
        Ok(())
    }
}

fn invalid_status(args: &Args<'_>) -> Fault {
    Fault::message(format!("invalid status number \"{}\"", args.lossy(0)))
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    /// The block that the commands stand in; nested locations have none of them.
    block: Option<BlockId>,
    commands: Option<Vec<Command>>,
    status: Option<u16>,
    before: Option<Vec<command::Text>>,
    after: Option<Vec<command::Text>>,
}
inherit!(Loc { block, commands, status, before, after });

impl Loc {
    fn add(&mut self, args: &Args<'_>, command: Command) -> ConfResult {
        self.block = Some(args.block);
        self.commands.get_or_insert_default().push(command);
        Ok(())
    }
}
