//! `redis_pass`: values of Redis as answers.
//! <https://www.nginx.com/resources/wiki/modules/redis/>

use crate::cgi::{self, Pass};
use moonrest_http::{
    prelude::*,
    upstream::{
        self, BodyStep, Conf, Framing, HeadStep, Job, Protocol, RequestLength, directive, mask, start,
    },
};
use moonrest_proto::{
    http1::{Method, Parse, ResponseHead},
    redis::command,
};
use std::ops::Range;

/// The module.
pub struct Redis;
type D = Directive<Redis>;

impl HttpModule for Redis {
    const NAME: &'static str = "ngx_http_redis_module";
    const DIRECTIVES: &'static [D] = &[
        D::loc("redis_pass", Arity::exactly(1), |loc, args| {
            cgi::pass::set(&mut loc.pass, args, &[(b"redis://", false)])?;
            loc.key = Some(args.vars.reference("redis_key", Some(args.span())));
            Ok(())
        })
        .within(Contexts::LOCATION.or(Contexts::IF)),
        D::loc("redis_bind", Arity::between(1, 2), |loc, args| {
            upstream::Bind::set(&mut loc.upstream.bind, args)
        }),
        D::msec("redis_connect_timeout", |loc| &mut loc.upstream.connect_timeout),
        D::msec("redis_send_timeout", |loc| &mut loc.upstream.send_timeout),
        D::msec("redis_read_timeout", |loc| &mut loc.upstream.read_timeout),
        D::size("redis_buffer_size", |loc| &mut loc.upstream.buffer_size),
        D::flag("redis_socket_keepalive", |loc| &mut loc.upstream.socket_keepalive),
        D::loc("redis_next_upstream", Arity::at_least(1), |loc, args| {
            directive::set_mask(&mut loc.upstream.next_upstream, args, NEXT)
        }),
        D::msec("redis_next_upstream_timeout", |loc| &mut loc.upstream.next_upstream_timeout),
        directive::uint("redis_next_upstream_tries", |loc: &mut Loc| &mut loc.upstream.next_upstream_tries),
        directive::uint("redis_gzip_flag", |loc: &mut Loc| &mut loc.gzip_flag),
    ];
    const VARIABLES: &'static [VarDef<Request>] = &[VarDef::slot("redis_db"), VarDef::slot("redis_auth")];
    type Main = ();
    type Loc = Loc;

    fn attach((): &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        let (Some(pass), Some(key)) = (loc.pass.as_ref().filter(|pass| to.belongs(pass.block)), loc.key)
        else {
            return loc.upstream.check("redis", &[], to);
        };
        let conf = loc.upstream.resolve("redis", &[], to)?;
        if to.block == pass.block {
            to.auto_redirect();
        }
        let conf = Conf {
            intercept_404: true,
            intercept_errors: true,
            force_ranges: true,
            buffering: false,
            pass_request_body: false,
            ..conf
        };
        let gzip = loc.gzip_flag.is_some_and(|flag| flag != 0);
        to.content(Handler { conf: Arc::new(conf), pass: pass.clone(), key, gzip });
        Ok(())
    }
}

/// The words of `next_upstream` that the modules for Redis have.
pub(crate) const NEXT: &[(&str, u32)] = &[
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
    gzip_flag: Option<u64>,
    /// `$redis_key`, known where the module is used.
    key: Option<VarId>,
}

impl Inherit for Loc {
    fn inherit(&mut self, outer: &Self) {
        self.upstream.inherit(&outer.upstream);
        macro_rules! pass_down {
            ($($field:ident)*) => { $( if self.$field.is_none() { self.$field.clone_from(&outer.$field); } )* };
        }
        pass_down!(pass gzip_flag key);
    }
}

struct Handler {
    conf: Arc<Conf>,
    pass: Arc<Pass>,
    key: VarId,
    gzip: bool,
}

impl PhaseHandler for Handler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        if !matches!(r.method.get(), Method::Get | Method::Head) {
            return Step::finish(405);
        }
        r.ignore_body()?;
        r.set_content_type();
        let variable = |name: &str| {
            let vars = moonrest_core::Subject::vars(&**r);
            vars.find(name).and_then(|id| vars.get(&**r, id)).filter(|value| !value.is_empty())
        };
        let protocol = Talk {
            r: r.clone(),
            key: moonrest_core::Subject::vars(&**r).get(&**r, self.key).unwrap_or_default(),
            db: variable("redis_db").unwrap_or_else(|| b"0".to_vec()),
            auth: variable("redis_auth"),
            gzip: self.gzip,
            value_type: r.out().content_type.clone(),
            left: 0,
            end: END.len(),
        };
        let job = Job {
            conf: self.conf.clone(),
            destination: self.pass.destination(r)?.0,
            secure: false,
            protocol: Box::new(protocol),
            pass_body: false,
            stream_body: false,
        };
        start(r, job)
    }
}

/// What follows a value.
const END: &[u8] = b"\r\n";

/// `auth`, `select` and `get` at once, and the answers to them.
struct Talk {
    r: RequestRef,
    key: Vec<u8>,
    db: Vec<u8>,
    auth: Option<Vec<u8>>,
    gzip: bool,
    value_type: Bytes,
    /// Bytes of the value still to come.
    left: u64,
    /// Bytes of [`END`] that have come.
    end: usize,
}

impl Talk {
    fn key(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }

    /// The head of the answer to the line that `get` is answered with; a length when there is a value.
    fn answer(&self, line: &[u8]) -> Result<(String, Option<u64>), String> {
        let shown = String::from_utf8_lossy(line);
        if line == b"$-1" {
            moonrest_http::info!(self.r, "key: \"{}\" was not found by redis", self.key());
            return Ok(("HTTP/1.1 404 Not Found\r\n\r\n".to_owned(), None));
        }
        let Some(digits) = line.strip_prefix(b"$") else { return Err(invalid(line)) };
        let Some(length) = moonrest_core::conf::value::parse_uint(digits) else {
            return Err(format!(
                "redis sent invalid length in response \"{shown}\" for key \"{}\"",
                self.key()
            ));
        };
        let mut text = "HTTP/1.1 200 OK\r\n".to_owned();
        if !self.value_type.is_empty() {
            text.push_str(&format!("Content-Type: {}\r\n", String::from_utf8_lossy(&self.value_type)));
        }
        if self.gzip {
            text.push_str("Content-Encoding: gzip\r\n");
        }
        text.push_str("\r\n");
        Ok((text, Some(length)))
    }
}

fn invalid(line: &[u8]) -> String {
    format!("redis sent invalid response: \"{}\"", String::from_utf8_lossy(line))
}

/// The first line, and how long it is with its end. `None` when it has not come yet.
fn line(input: &[u8]) -> Option<(&[u8], usize)> {
    let end = memchr::memchr(b'\n', input)?;
    let line = input.get(..end).unwrap_or_default();
    Some((line.strip_suffix(b"\r").unwrap_or(line), end + 1))
}

impl Protocol for Talk {
    fn scheme(&self) -> &'static [u8] {
        b"redis://"
    }

    fn request(
        &mut self,
        _: &RequestRef,
        _: RequestLength,
        out: &mut Vec<u8>,
    ) -> Result<Range<usize>, RequestError> {
        if self.key.is_empty() {
            return Err(RequestError::internal("the \"$redis_key\" variable is not set"));
        }
        if let Some(password) = &self.auth {
            command(&[&b"auth"[..], password], out);
        }
        command(&[&b"select"[..], &self.db], out);
        command(&[&b"get"[..], &self.key], out);
        let end = out.len().saturating_sub(END.len());
        Ok(end.saturating_sub(self.key.len())..end)
    }

    fn reset(&mut self) {
        (self.left, self.end) = (0, END.len());
    }

    fn read_head(&mut self, input: &[u8], head: &mut ResponseHead) -> Result<HeadStep, String> {
        let mut used = 0;
        for _ in 0..1 + usize::from(self.auth.is_some()) {
            let Some((line, len)) = line(input.get(used..).unwrap_or_default()) else {
                return Ok(HeadStep::More);
            };
            if line.starts_with(b"-ERR") {
                let line = String::from_utf8_lossy(line);
                return Err(format!("redis sent error in response \"{line}\" for key \"{}\"", self.key()));
            }
            if line != b"+OK" {
                return Err(invalid(line));
            }
            used += len;
        }
        let Some((line, len)) = line(input.get(used..).unwrap_or_default()) else {
            return Ok(HeadStep::More);
        };
        let (text, length) = self.answer(line)?;
        if !matches!(head.parse(text.as_bytes()), Ok(Parse::Complete { .. })) {
            return Err(invalid(line));
        }
        if let Some(length) = length {
            (self.left, self.end) = (length, 0);
        }
        let framing = Framing {
            content_length: length,
            empty: length.is_none(),
            keep_alive: true,
            text: Some(text.into()),
            ..Framing::default()
        };
        Ok(HeadStep::Done(used + len, framing))
    }

    fn read_body(&mut self, input: &[u8]) -> Result<BodyStep, String> {
        if self.left > 0 {
            if input.is_empty() {
                return Ok(BodyStep::More(0));
            }
            let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
            self.left -= take as u64;
            return Ok(BodyStep::Data(0..take));
        }
        let missing = END.get(self.end..).unwrap_or_default();
        let take = missing.len().min(input.len());
        if input.get(..take) != missing.get(..take) {
            return Err("redis sent invalid trailer".to_owned());
        }
        self.end += take;
        Ok(if self.end == END.len() { BodyStep::End(take) } else { BodyStep::More(take) })
    }

    fn may_end(&self) -> bool {
        false
    }

    fn excess(&self) -> &'static str {
        "redis sent more than it was asked for"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_a_newline() {
        assert_eq!(line(b"+OK\r\n$3"), Some((&b"+OK"[..], 5)));
        assert_eq!(line(b"+OK\r"), None);
        assert_eq!(line(b"\n"), Some((&b""[..], 1)));
    }
}
