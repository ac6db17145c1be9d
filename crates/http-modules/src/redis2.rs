//! `redis2_pass`: commands of Redis as locations; the replies are passed on as they are.
//! <https://github.com/openresty/redis2-nginx-module>

use crate::{
    cgi::{self, Pass},
    redis::NEXT,
};
use moonrest_http::{
    prelude::*,
    upstream::{self, BodyStep, Conf, Framing, HeadStep, Job, Protocol, RequestLength, directive, start},
};
use moonrest_proto::{
    http1::{Parse, ResponseHead},
    redis::{Invalid, Reply, begins_reply, command},
};
use std::ops::Range;

/// The module.
pub struct Redis2;
type D = Directive<Redis2>;

const PLACE: Contexts = Contexts::LOCATION.or(Contexts::IF);

impl HttpModule for Redis2 {
    const NAME: &'static str = "ngx_http_redis2_module";
    const DIRECTIVES: &'static [D] = &[
        D::loc("redis2_query", Arity::at_least(1), add_query).within(PLACE),
        D::loc("redis2_raw_query", Arity::exactly(1), |loc, args| {
            if matches!(&loc.raw, Some(raw) if raw.query.is_some()) {
                return Err(Fault::DUPLICATE);
            }
            loc.raw.get_or_insert_default().query = Some(args.template(0)?);
            Ok(())
        })
        .within(PLACE),
        D::loc("redis2_raw_queries", Arity::exactly(2), |loc, args| {
            let (count, query) = (Some(args.template(0)?), Some(args.template(1)?));
            let raw = loc.raw.get_or_insert_default();
            (raw.count, raw.query) = (count, query);
            Ok(())
        })
        .within(PLACE),
        D::loc("redis2_literal_raw_query", Arity::exactly(1), |loc, args| {
            set_once(&mut loc.raw.get_or_insert_default().literal, args.bytes(0)?.into())
        })
        .within(PLACE),
        D::loc("redis2_pass", Arity::exactly(1), |loc, args| {
            cgi::pass::set(&mut loc.pass, args, &[(b"redis2://", false)])
        })
        .within(PLACE),
        D::loc("redis2_bind", Arity::exactly(1), |loc, args| {
            upstream::Bind::set(&mut loc.upstream.bind, args)
        }),
        D::msec("redis2_connect_timeout", |loc| &mut loc.upstream.connect_timeout),
        D::msec("redis2_send_timeout", |loc| &mut loc.upstream.send_timeout),
        D::msec("redis2_read_timeout", |loc| &mut loc.upstream.read_timeout),
        D::size("redis2_buffer_size", |loc| &mut loc.upstream.buffer_size),
        D::loc("redis2_next_upstream", Arity::at_least(1), |loc, args| {
            directive::set_mask(&mut loc.upstream.next_upstream, args, NEXT)
        }),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach((): &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        let Some(pass) = loc.pass.as_ref().filter(|pass| to.belongs(pass.block)) else {
            return loc.upstream.check("redis2", &[], to);
        };
        let conf = loc.upstream.resolve("redis2", &[], to)?;
        if to.block == pass.block {
            to.auto_redirect();
        }
        let conf = Conf { intercept_404: true, buffering: false, pass_request_body: false, ..conf };
        to.content(Handler { conf: Arc::new(conf), pass: pass.clone(), loc: loc.clone() });
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    upstream: upstream::Loc,
    pass: Option<Arc<Pass>>,
    queries: Option<Vec<Vec<Template>>>,
    raw: Option<Raw>,
}

/// Commands that are written out by the configuration.
#[derive(Clone, Default)]
struct Raw {
    literal: Option<Box<[u8]>>,
    query: Option<Template>,
    /// How many commands it has.
    count: Option<Template>,
}

impl Inherit for Loc {
    fn inherit(&mut self, outer: &Self) {
        self.upstream.inherit(&outer.upstream);
        if self.pass.is_none() {
            self.pass.clone_from(&outer.pass);
        }
        if self.queries.is_none() && self.raw.is_none() {
            self.queries.clone_from(&outer.queries);
            self.raw.clone_from(&outer.raw);
        }
    }
}

/// `redis2_query COMMAND [ARGUMENT ...]`; several are sent at once.
fn add_query(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    if let Some(raw) = &loc.raw {
        if raw.literal.is_some() {
            return Err(Fault::directive("conflicts with redis2_literal_raw_query"));
        }
        return Err(Fault::directive("conflicts with redis2_raw_query"));
    }
    let words = (0..args.len()).map(|n| args.template(n)).collect::<ConfResult<_>>()?;
    loc.queries.get_or_insert_default().push(words);
    Ok(())
}

struct Handler {
    conf: Arc<Conf>,
    pass: Arc<Pass>,
    loc: Arc<Loc>,
}

impl PhaseHandler for Handler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        r.set_content_type();
        let value_type = r.out().content_type.clone();
        let protocol = Talk { loc: self.loc.clone(), count: 0, value_type, left: 0, reply: Reply::default() };
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

impl Loc {
    /// The commands to send, and how many they are.
    fn query(&self, r: &Request) -> Result<(Vec<u8>, u64), RequestError> {
        if let Some(queries) = &self.queries {
            let mut out = Vec::new();
            for words in queries {
                let words: Vec<_> = words.iter().map(|word| word.eval(r)).collect();
                command(&words, &mut out);
            }
            return Ok((out, queries.len() as u64));
        }
        let raw = self.raw.clone().unwrap_or_default();
        if let Some(literal) = raw.literal.filter(|literal| !literal.is_empty()) {
            return Ok((literal.to_vec(), 1));
        }
        let Some(query) = raw.query else {
            return Err(RequestError::internal("no redis2 query specified or the query is empty"));
        };
        let query = query.eval(r).into_owned();
        if query.is_empty() {
            return Err(RequestError::internal("the redis query is empty"));
        }
        let Some(count) = raw.count else { return Ok((query, 1)) };
        let count = count.eval(r);
        if count.is_empty() {
            return Err(RequestError::internal("the N argument to redis2_raw_queries is empty"));
        }
        match moonrest_core::conf::value::parse_uint(&count) {
            Some(count @ 1..) => Ok((query, count)),
            _ => Err(RequestError::internal("the N argument to redis2_raw_queries is invalid")),
        }
    }
}

/// Commands and the replies to them.
struct Talk {
    loc: Arc<Loc>,
    /// Commands that were sent.
    count: u64,
    value_type: Bytes,
    /// Replies still to come.
    left: u64,
    reply: Reply,
}

impl Protocol for Talk {
    fn scheme(&self) -> &'static [u8] {
        b"redis2://"
    }

    fn request(
        &mut self,
        r: &RequestRef,
        _: RequestLength,
        out: &mut Vec<u8>,
    ) -> Result<Range<usize>, RequestError> {
        let (query, count) = self.loc.query(r)?;
        out.extend(query);
        self.count = count;
        Ok(0..0)
    }

    fn reset(&mut self) {
        self.left = self.count;
        self.reply = Reply::default();
    }

    fn read_head(&mut self, input: &[u8], head: &mut ResponseHead) -> Result<HeadStep, String> {
        let Some(first) = input.first() else { return Ok(HeadStep::More) };
        let invalid = || format!("redis2 sent invalid response: \"{}\"", String::from_utf8_lossy(input));
        if !begins_reply(*first) {
            return Err(invalid());
        }
        let mut text = "HTTP/1.1 200 OK\r\n".to_owned();
        if !self.value_type.is_empty() {
            text.push_str(&format!("Content-Type: {}\r\n", String::from_utf8_lossy(&self.value_type)));
        }
        text.push_str("\r\n");
        if !matches!(head.parse(text.as_bytes()), Ok(Parse::Complete { .. })) {
            return Err(invalid());
        }
        let framing = Framing { keep_alive: true, text: Some(text.into()), ..Framing::default() };
        Ok(HeadStep::Done(0, framing))
    }

    fn read_body(&mut self, input: &[u8]) -> Result<BodyStep, String> {
        let mut used = 0;
        while self.left > 0 {
            let rest = input.get(used..).unwrap_or_default();
            used += self.reply.watch(rest).map_err(|Invalid(at)| {
                let input = String::from_utf8_lossy(input);
                format!("Redis server returned invalid response near pos {} in \"{input}\"", used + at)
            })?;
            if !self.reply.is_over() {
                break;
            }
            self.reply = Reply::default();
            self.left -= 1;
        }
        if used > 0 {
            return Ok(BodyStep::Data(0..used));
        }
        Ok(if self.left == 0 { BodyStep::End(0) } else { BodyStep::More(0) })
    }

    fn may_end(&self) -> bool {
        false
    }

    fn excess(&self) -> &'static str {
        "Redis server returned extra bytes"
    }
}
