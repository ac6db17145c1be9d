//! `memc_pass`: memcached's commands as locations.
//! <https://github.com/openresty/memc-nginx-module>

use moonrest_core::upstream::Url;
use moonrest_http::{
    compile::BlockId,
    module::Set,
    prelude::*,
    upstream::{
        self, BodyStep, Conf, Destination, Framing, GroupId, HeadStep, Job, Main, Protocol, RequestLength,
        directive, mask, start,
    },
};
use moonrest_proto::{
    date,
    escape::{Kind, escape},
    http1::{Method, Parse, ResponseHead},
};
use std::{ops::Range, os::unix::fs::FileExt as _};

/// The module.
pub struct Memc;
type D = Directive<Memc>;

const PLACE: Contexts = Contexts::LOCATION.or(Contexts::IF);
/// memcached's port.
const PORT: u16 = 11_211;

impl HttpModule for Memc {
    const NAME: &'static str = "ngx_http_memc_module";
    const DIRECTIVES: &'static [D] = &[
        D::loc("memc_pass", Arity::exactly(1), set_pass).within(PLACE),
        D::loc("memc_cmds_allowed", Arity::at_least(1), |loc, args| {
            for n in 0..args.len() {
                let command = Command::named(args.bytes(n)?).ok_or_else(|| args.invalid_value(n))?;
                loc.allowed.get_or_insert_default().push(command);
            }
            Ok(())
        })
        .also(Contexts::IF),
        D::flag("memc_flags_to_last_modified", |loc| &mut loc.flags_to_last_modified).within(PLACE),
        D::flag("memc_ignore_client_abort", |loc| &mut loc.upstream.ignore_client_abort).within(PLACE),
        D::msec("memc_connect_timeout", |loc| &mut loc.upstream.connect_timeout),
        D::msec("memc_send_timeout", |loc| &mut loc.upstream.send_timeout),
        D::msec("memc_read_timeout", |loc| &mut loc.upstream.read_timeout),
        D::size("memc_buffer_size", |loc| &mut loc.upstream.buffer_size),
        D::new(
            "memc_next_upstream",
            Contexts::HSL,
            Arity::at_least(1),
            Set::Loc(|loc: &mut Loc, args| directive::set_mask(&mut loc.upstream.next_upstream, args, NEXT)),
        ),
    ];
    const VARIABLES: &'static [VarDef<Request>] = &[
        VarDef::slot("memc_cmd"),
        VarDef::slot("memc_key"),
        VarDef::slot("memc_value"),
        VarDef::slot("memc_flags"),
        VarDef::slot("memc_exptime"),
        VarDef::get("memc_flags_as_http_time", |r, out| {
            let Some(flags) = variable(r, "memc_flags").and_then(|flags| number(&flags)) else {
                return false;
            };
            out.extend_from_slice(&date::http(i64::try_from(flags).unwrap_or(0)));
            true
        }),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach((): &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        let Some(pass) = loc.pass.as_ref().filter(|pass| to.belongs(pass.block)) else {
            return loc.upstream.check("memc", &[], to);
        };
        let conf = loc.upstream.resolve("memc", &[], to)?;
        if to.block == pass.block {
            to.auto_redirect();
        }
        to.content(Handler {
            conf: Arc::new(Conf { intercept_404: true, buffering: false, ..conf }),
            pass: pass.clone(),
            allowed: loc.allowed.clone(),
            flags_to_last_modified: loc.flags_to_last_modified.unwrap_or(false),
        });
        Ok(())
    }
}

/// The words of `memc_next_upstream`.
const NEXT: &[(&str, u32)] = &[
    ("error", mask::ERROR),
    ("timeout", mask::TIMEOUT),
    ("invalid_response", mask::INVALID_HEADER),
    ("not_found", mask::HTTP_404),
    ("off", mask::OFF),
];

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    upstream: upstream::Loc,
    pass: Option<Arc<Pass>>,
    allowed: Option<Vec<Command>>,
    flags_to_last_modified: Option<bool>,
}

impl Inherit for Loc {
    fn inherit(&mut self, outer: &Self) {
        self.upstream.inherit(&outer.upstream);
        macro_rules! pass_down {
            ($($field:ident)*) => { $( if self.$field.is_none() { self.$field.clone_from(&outer.$field); } )* };
        }
        pass_down!(pass allowed flags_to_last_modified);
    }
}

/// One `memc_pass`. Nested locations do not inherit it.
struct Pass {
    block: BlockId,
    to: To,
}

enum To {
    Group(GroupId),
    Template(Template),
}

fn set_pass(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    if loc.pass.is_some() {
        return Err(Fault::DUPLICATE);
    }
    let template = args.template(0)?;
    let to = match template.as_static() {
        None => To::Template(template),
        Some(text) => {
            let parsed = Url::parse(text, PORT, true).map_err(|error| {
                Fault::message(format!("{error} in upstream \"{}\"", String::from_utf8_lossy(text)))
            })?;
            let group = args.compiler.with_main(|main: &mut Main| main.reference(&parsed, args.span()));
            To::Group(group.unwrap_or_else(|| Err(Fault::message("no upstream module")))?)
        }
    };
    loc.pass = Some(Arc::new(Pass { block: args.block, to }));
    Ok(())
}

/// memcached's commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Command {
    Get,
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    Delete,
    Incr,
    Decr,
    FlushAll,
    Stats,
    Version,
}

impl Command {
    const NAMES: [(&'static str, Self); 12] = [
        ("get", Self::Get),
        ("set", Self::Set),
        ("add", Self::Add),
        ("replace", Self::Replace),
        ("append", Self::Append),
        ("prepend", Self::Prepend),
        ("delete", Self::Delete),
        ("incr", Self::Incr),
        ("decr", Self::Decr),
        ("flush_all", Self::FlushAll),
        ("stats", Self::Stats),
        ("version", Self::Version),
    ];

    fn named(name: &[u8]) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, command)| *command)
    }

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, command)| *command == self).map_or("", |(name, _)| name)
    }

    /// What a method asks for where no command is named.
    fn of_method(method: Method) -> Option<Self> {
        Some(match method {
            Method::Get | Method::Head => Self::Get,
            Method::Post => Self::Add,
            Method::Put => Self::Set,
            Method::Delete => Self::Delete,
            _ => return None,
        })
    }

    /// Whether it stores a value.
    fn stores(self) -> bool {
        matches!(self, Self::Set | Self::Add | Self::Replace | Self::Append | Self::Prepend)
    }

    fn has_key(self) -> bool {
        !matches!(self, Self::FlushAll | Self::Stats | Self::Version)
    }
}

/// A variable that is set to something.
fn variable(r: &Request, name: &str) -> Option<Vec<u8>> {
    let vars = r.vars();
    vars.find(name).and_then(|id| vars.get(r, id)).filter(|value| !value.is_empty())
}

fn number(text: &[u8]) -> Option<u64> {
    moonrest_core::conf::value::parse_uint(text)
}

struct Handler {
    conf: Arc<Conf>,
    pass: Arc<Pass>,
    allowed: Option<Vec<Command>>,
    flags_to_last_modified: bool,
}

impl PhaseHandler for Handler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        let command = match variable(r, "memc_cmd") {
            None => Command::of_method(r.method.get()),
            Some(name) => {
                let command = Command::named(&name);
                if command.is_none() {
                    let name = String::from_utf8_lossy(&name);
                    moonrest_http::error!(r, "ngx_memc: unknown $memc_cmd \"{name}\"");
                    return Step::finish(400);
                }
                command
            }
        };
        let Some(command) = command else {
            let method = r.method.get().name();
            moonrest_http::error!(r, "ngx_memc: $memc_cmd variable not found for HTTP {method} requests");
            return Step::finish(400);
        };
        if self.allowed.as_ref().is_some_and(|allowed| !allowed.contains(&command)) {
            let name = command.name();
            moonrest_http::error!(r, "ngx_memc: memcached command \"{name}\" not allowed");
            return Step::finish(403);
        }
        r.set_content_type();
        let destination = match &self.pass.to {
            To::Group(group) => Destination::Group(*group),
            To::Template(template) => match &*template.eval(&**r) {
                b"" => return Err(RequestError::internal("memc: handler: empty \"memc_pass\" target")),
                text => dynamic(text)?,
            },
        };
        let talk =
            Talk { r: r.clone(), command, state: State::Head, to_last_modified: self.flags_to_last_modified };
        let job = Job {
            conf: self.conf.clone(),
            destination,
            protocol: Box::new(talk),
            pass_body: false,
            stream_body: false,
            secure: false,
        };
        start(r, job)
    }
}

fn dynamic(text: &[u8]) -> Result<Destination, RequestError> {
    let parsed = Url::parse(text, PORT, true).map_err(|error| {
        RequestError::internal(format!("{error} in upstream \"{}\"", String::from_utf8_lossy(text)))
    })?;
    Ok(Destination::Dynamic {
        host: parsed.host.to_vec(),
        port: parsed.port,
        no_port: parsed.no_port,
        addr: parsed.addr.clone(),
    })
}

/// One command and its answer.
struct Talk {
    r: RequestRef,
    command: Command,
    state: State,
    to_last_modified: bool,
}

/// How far the answer was read.
enum State {
    Head,
    /// So many bytes are left, the value of `get` or an answer that is passed on as it is.
    Bytes {
        left: u64,
        value: bool,
    },
    /// What stands behind a value.
    Trailer,
    /// Lines up to `END`.
    Lines,
    Over,
}

const TRAILER: &[u8] = b"\r\nEND\r\n";

impl Talk {
    /// The value to store: the variable's, or the request's body.
    fn value(&self) -> Result<Vec<u8>, RequestError> {
        if let Some(value) = variable(&self.r, "memc_value") {
            return Ok(value);
        }
        let body = self.r.body.borrow();
        if let Some(bytes) = body.bytes() {
            return Ok(bytes.to_vec());
        }
        let mut value = Vec::new();
        if let Some(kept) = &body.file {
            // Its name may be gone; another reader may have moved its position.
            value.resize(usize::try_from(kept.len.get()).unwrap_or(usize::MAX), 0);
            let read = kept.file.read_exact_at(&mut value, 0);
            read.map_err(|error| {
                let error = moonrest_core::env::os_error(&error);
                RequestError::internal(format!("reading the request body from its file failed ({error})"))
            })?;
        }
        Ok(value)
    }

    fn number(&self, name: &str, default: &str) -> Result<String, RequestError> {
        match variable(&self.r, name) {
            None => {
                // nginx: what was left out can be read afterwards.
                let vars = self.r.vars();
                if let Some(id) = vars.find(name) {
                    vars.assign(&*self.r, id, Some(default.as_bytes()));
                }
                Ok(default.to_owned())
            }
            Some(text) => number(&text).map(|number| number.to_string()).ok_or_else(|| {
                let text = String::from_utf8_lossy(&text).into_owned();
                moonrest_http::error!(self.r, "variable \"${name}\" takes invalid value: {text}");
                RequestError::Client { status: 400, message: "".into() }
            }),
        }
    }

    /// A head as HTTP has it, for an answer of `status`.
    fn head(
        &mut self,
        head: &mut ResponseHead,
        status: u16,
        used: usize,
        length: Option<u64>,
    ) -> Result<HeadStep, String> {
        let mut text = format!("HTTP/1.1 {status} \r\n");
        if let Some(length) = length {
            text.push_str(&format!("Content-Length: {length}\r\n"));
        }
        if self.to_last_modified
            && self.command == Command::Get
            && let Some(flags) = variable(&self.r, "memc_flags").and_then(|flags| number(&flags))
        {
            let date = date::http(i64::try_from(flags).unwrap_or(0));
            text.push_str(&format!("Last-Modified: {}\r\n", String::from_utf8_lossy(&date)));
        }
        text.push_str("\r\n");
        match head.parse(text.as_bytes()) {
            Ok(Parse::Complete { .. }) => {
                let framing = Framing {
                    content_length: length,
                    empty: length == Some(0),
                    keep_alive: true,
                    tunnel: false,
                    text: Some(text.into()),
                };
                Ok(HeadStep::Done(used, framing))
            }
            _ => Err("memcached's answer cannot be passed on".to_owned()),
        }
    }

    /// The status of an answer of one line that is passed on; `None` for one that makes no sense.
    fn status(&self, line: &[u8]) -> Option<u16> {
        let starts = |text: &str| line.starts_with(text.as_bytes());
        let error = starts("ERROR") || starts("CLIENT_ERROR ") || starts("SERVER_ERROR ");
        if error && self.command != Command::Get {
            return Some(502);
        }
        Some(match self.command {
            command if command.stores() => match line {
                b"STORED\r\n" => 201,
                b"NOT_STORED\r\n" | b"EXISTS\r\n" => 200,
                b"NOT_FOUND\r\n" => 404,
                _ => return None,
            },
            Command::Delete => match line {
                b"DELETED\r\n" => 200,
                b"NOT_FOUND\r\n" => 404,
                _ => return None,
            },
            Command::Incr | Command::Decr => match line.first() {
                Some(b'0'..=b'9') => 201,
                _ if line == b"NOT_FOUND\r\n" => 404,
                _ => return None,
            },
            Command::FlushAll if line == b"OK\r\n" => 200,
            Command::Version if starts("VERSION ") => 200,
            _ => return None,
        })
    }
}

/// The flags and the length of `VALUE key flags length`.
fn parse_value(line: &[u8]) -> Option<(&[u8], u64)> {
    let mut words = line.strip_suffix(b"\r\n")?.split(|byte| *byte == b' ');
    if words.next()? != b"VALUE" {
        return None;
    }
    let (_key, flags, length) = (words.next()?, words.next()?, words.next()?);
    number(flags)?;
    Some((flags, number(length)?))
}

impl Protocol for Talk {
    fn scheme(&self) -> &'static [u8] {
        b"memcached://"
    }

    fn request(
        &mut self,
        r: &RequestRef,
        _: RequestLength,
        out: &mut Vec<u8>,
    ) -> Result<Range<usize>, RequestError> {
        out.extend_from_slice(self.command.name().as_bytes());
        let mut shown = out.len()..out.len();
        if self.command.has_key() {
            let Some(key) = variable(r, "memc_key") else {
                return Err(RequestError::internal("the \"$memc_key\" variable is not set"));
            };
            out.push(b' ');
            let start = out.len();
            escape(Kind::Memcached, &key, out);
            shown = start..out.len();
        }
        match self.command {
            command if command.stores() => {
                let value = self.value()?;
                let flags = self.number("memc_flags", "0")?;
                let exptime = self.number("memc_exptime", "0")?;
                out.extend(format!(" {flags} {exptime} {}\r\n", value.len()).bytes());
                out.extend_from_slice(&value);
            }
            Command::Incr | Command::Decr => {
                if variable(r, "memc_value").is_none() {
                    moonrest_http::error!(
                        r,
                        "the \"$memc_value\" variable is required for command \"{}\"",
                        self.command.name()
                    );
                    return Err(RequestError::Client { status: 400, message: "".into() });
                }
                out.push(b' ');
                let value = variable(r, "memc_value").unwrap_or_default();
                if number(&value).is_none() {
                    let value = String::from_utf8_lossy(&value);
                    moonrest_http::error!(r, "variable \"$memc_value\" is invalid for incr/decr: {value}");
                    return Err(RequestError::Client { status: 400, message: "".into() });
                }
                out.extend(value);
            }
            Command::Delete | Command::FlushAll if variable(r, "memc_exptime").is_some() => {
                out.push(b' ');
                out.extend(self.number("memc_exptime", "0")?.bytes());
            }
            _ => {}
        }
        out.extend_from_slice(b"\r\n");
        Ok(shown)
    }

    fn reset(&mut self) {
        self.state = State::Head;
    }

    fn read_head(&mut self, input: &[u8], head: &mut ResponseHead) -> Result<HeadStep, String> {
        if self.command == Command::Stats && input.starts_with(b"STAT ") {
            self.state = State::Lines;
            return self.head(head, 200, 0, None);
        }
        let Some(end) = memchr::memchr(b'\n', input) else { return Ok(HeadStep::More) };
        let line = input.get(..=end).unwrap_or_default();
        if self.command == Command::Get {
            if line == b"END\r\n" {
                moonrest_http::info!(self.r, "the key was not found by memcached");
                self.state = State::Over;
                return self.head(head, 404, line.len(), Some(0));
            }
            if let Some((flags, length)) = parse_value(line) {
                let vars = self.r.vars();
                if let Some(id) = vars.find("memc_flags") {
                    vars.assign(&*self.r, id, Some(flags));
                }
                self.state = State::Bytes { left: length, value: true };
                let step = self.head(head, 200, line.len(), Some(length))?;
                return Ok(match step {
                    // Something follows the value even if that is empty.
                    HeadStep::Done(used, framing) => {
                        HeadStep::Done(used, Framing { empty: false, ..framing })
                    }
                    other => other,
                });
            }
        }
        match self.status(line) {
            Some(status) => {
                let length = line.len() as u64;
                self.state = State::Bytes { left: length, value: false };
                self.head(head, status, 0, Some(length))
            }
            None => {
                let line = String::from_utf8_lossy(line.strip_suffix(b"\r\n").unwrap_or(line));
                Err(match self.command {
                    Command::Get => format!("memcached sent invalid response: \"{line}\""),
                    command => {
                        let command = command.name();
                        format!("memcached sent invalid response for command \"{command}\": {line}")
                    }
                })
            }
        }
    }

    fn read_body(&mut self, input: &[u8]) -> Result<BodyStep, String> {
        match &mut self.state {
            State::Head | State::Over => Ok(BodyStep::End(0)),
            State::Bytes { left: 0, value } => {
                let value = *value;
                self.state = if value { State::Trailer } else { State::Over };
                self.read_body(input)
            }
            State::Bytes { .. } if input.is_empty() => Ok(BodyStep::More(0)),
            State::Bytes { left, .. } => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= take as u64;
                Ok(BodyStep::Data(0..take))
            }
            State::Trailer => {
                let seen = input.len().min(TRAILER.len());
                if input.get(..seen) != TRAILER.get(..seen) {
                    return Err("memcached sent invalid trailer".to_owned());
                }
                if seen < TRAILER.len() {
                    return Ok(BodyStep::More(0));
                }
                self.state = State::Over;
                Ok(BodyStep::End(seen))
            }
            State::Lines => match memchr::memrchr(b'\n', input) {
                None => Ok(BodyStep::More(0)),
                Some(at) => {
                    let lines = input.get(..=at).unwrap_or_default();
                    if lines == b"END\r\n" || lines.ends_with(b"\nEND\r\n") {
                        self.state = State::Over;
                    }
                    Ok(BodyStep::Data(0..at + 1))
                }
            },
        }
    }

    fn may_end(&self) -> bool {
        false
    }

    fn excess(&self) -> &'static str {
        "memcached sent more than it was asked for"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_announced_with_flags_and_length() {
        assert_eq!(parse_value(b"VALUE a 3 10\r\n"), Some((&b"3"[..], 10)));
        assert_eq!(parse_value(b"VALUE a 3 10 77\r\n"), Some((&b"3"[..], 10)));
        for wrong in
            ["VALUE a 3\r\n", "VALUE a x 10\r\n", "VALUE a 3 -1\r\n", "VALUES a 3 10\r\n", "VALUE a 3 1\n"]
        {
            assert_eq!(parse_value(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn commands_have_names_and_methods() {
        for (name, command) in Command::NAMES {
            assert_eq!(Command::named(name.as_bytes()), Some(command));
            assert_eq!(command.name(), name);
        }
        assert_eq!(Command::of_method(Method::Put), Some(Command::Set));
        assert_eq!(Command::of_method(Method::Options), None);
    }
}
