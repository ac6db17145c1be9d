//! `memcached`: answers taken from a memcached server.
//! <https://nginx.org/en/docs/http/ngx_http_memcached_module.html>

use crate::cgi::{self, Pass};
use moonrest_http::{
    prelude::*,
    upstream::{self, BodyStep, Conf, Framing, HeadStep, Job, Protocol, RequestLength, start},
    upstream_directives,
};
use moonrest_proto::{
    escape,
    http1::{Method, Parse, ResponseHead},
};
use std::ops::Range;

/// The module.
pub struct Memcached;
type D = Directive<Memcached>;

/// What one block says.
#[derive(Clone, Default)]
pub struct MemcachedLoc {
    upstream: upstream::Loc,
    pass: Option<Arc<Pass>>,
    gzip_flag: Option<u64>,
    /// `$memcached_key`, known where the module is used.
    key: Option<VarId>,
}

impl Inherit for MemcachedLoc {
    fn inherit(&mut self, outer: &Self) {
        self.upstream.inherit(&outer.upstream);
        macro_rules! pass_down {
            ($($field:ident)*) => { $( if self.$field.is_none() { self.$field.clone_from(&outer.$field); } )* };
        }
        pass_down!(pass gzip_flag key);
    }
}

impl HttpModule for Memcached {
    const NAME: &'static str = "ngx_http_memcached_module";
    const DIRECTIVES: &'static [D] = upstream_directives!("memcached", MemcachedLoc, upstream;
        D::loc("memcached_pass", Arity::exactly(1), |c, args| {
            cgi::pass::set(&mut c.pass, args, &[(b"memcached://", false)])?;
            c.key = Some(args.vars.reference("memcached_key", Some(args.span())));
            Ok(())
        })
        .within(Contexts::LOCATION.or(Contexts::IF)),
        upstream::directive::uint("memcached_gzip_flag", |c: &mut MemcachedLoc| &mut c.gzip_flag),
    );
    type Main = ();
    type Loc = MemcachedLoc;

    fn attach((): &(), loc: &Arc<MemcachedLoc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        let (Some(pass), Some(key)) = (loc.pass.as_ref().filter(|pass| to.belongs(pass.block)), loc.key)
        else {
            return loc.upstream.check("memcached", &[], to);
        };
        let mut conf = loc.upstream.resolve("memcached", &[], to)?;
        conf.intercept_404 = true;
        conf.buffering = false;
        conf.pass_request_body = false;
        if to.block == pass.block {
            to.auto_redirect();
        }
        let gzip_flag = loc.gzip_flag.unwrap_or(0);
        to.asks(pass.group(), Speaks::Other);
        to.content(Handler { conf: Arc::new(conf), pass: pass.clone(), key, gzip_flag });
        Ok(())
    }
}

struct Handler {
    conf: Arc<Conf>,
    pass: Arc<Pass>,
    key: VarId,
    gzip_flag: u64,
}

impl PhaseHandler for Handler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        if !matches!(r.method.get(), Method::Get | Method::Head) {
            return Step::finish(405);
        }
        r.ignore_body()?;
        r.set_content_type();
        let protocol = Talk {
            key: self.key,
            shown: Vec::new(),
            gzip_flag: self.gzip_flag,
            value_type: r.out().content_type.clone(),
            left: 0,
            end: 0,
        };
        let job = Job {
            conf: self.conf.clone(),
            destination: self.pass.destination(r)?.0,
            protocol: Box::new(protocol),
            pass_body: false,
            stream_body: false,
            secure: false,
        };
        start(r, job)
    }
}

/// What follows a value.
const END: &[u8] = b"\r\nEND\r\n";

/// One `get`.
struct Talk {
    key: VarId,
    /// The key as it was sent.
    shown: Vec<u8>,
    gzip_flag: u64,
    value_type: Bytes,
    /// Bytes of the value still to come.
    left: u64,
    /// Bytes of [`END`] that have come.
    end: usize,
}

impl Protocol for Talk {
    fn scheme(&self) -> &'static [u8] {
        b"memcached://"
    }

    fn request(
        &mut self,
        r: &RequestRef,
        _body: RequestLength,
        out: &mut Vec<u8>,
    ) -> Result<Range<usize>, RequestError> {
        let key = r
            .vars()
            .get(&**r, self.key)
            .filter(|key| !key.is_empty())
            .ok_or_else(|| RequestError::internal("the \"$memcached_key\" variable is not set"))?;
        self.shown.clear();
        escape::escape(escape::Kind::Memcached, &key, &mut self.shown);
        out.extend_from_slice(b"get ");
        let start = out.len();
        out.extend_from_slice(&self.shown);
        let end = out.len();
        out.extend_from_slice(b"\r\n");
        Ok(start..end)
    }

    fn reset(&mut self) {
        (self.left, self.end) = (0, 0);
    }

    fn read_head(&mut self, input: &[u8], head: &mut ResponseHead) -> Result<HeadStep, String> {
        let Some(at) = memchr::memchr(b'\n', input) else { return Ok(HeadStep::More) };
        let line = input.get(..at).and_then(|line| line.strip_suffix(b"\r"));
        let invalid =
            |line: &[u8]| format!("memcached sent invalid response: \"{}\"", String::from_utf8_lossy(line));
        let line = line.ok_or_else(|| invalid(input.get(..at).unwrap_or_default()))?;
        let mut text = Vec::new();
        let mut length = None;
        if line == b"END" {
            text.extend_from_slice(b"HTTP/1.1 404 Not Found\r\n\r\n");
        } else {
            let (flags, size) = self.value(line).ok_or_else(|| invalid(line))?;
            text.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
            if !self.value_type.is_empty() {
                text.extend_from_slice(b"Content-Type: ");
                text.extend_from_slice(&self.value_type);
                text.extend_from_slice(b"\r\n");
            }
            if self.gzip_flag != 0 && flags & self.gzip_flag != 0 {
                text.extend_from_slice(b"Content-Encoding: gzip\r\n");
            }
            text.extend_from_slice(b"\r\n");
            self.left = size;
            length = Some(size);
        }
        head.reset();
        if !matches!(head.parse(&text), Ok(Parse::Complete { .. })) {
            return Err(invalid(line));
        }
        let framing = Framing {
            content_length: length,
            empty: length.is_none(),
            keep_alive: true,
            text: Some(text.into()),
            ..Framing::default()
        };
        if length.is_none() {
            self.end = END.len();
        }
        Ok(HeadStep::Done(at + 1, framing))
    }

    fn read_body(&mut self, input: &[u8]) -> Result<BodyStep, String> {
        if self.left == 0 {
            let missing = END.get(self.end..).unwrap_or_default();
            let take = missing.len().min(input.len());
            if input.get(..take) != missing.get(..take) {
                return Err("memcached sent invalid trailer".to_owned());
            }
            self.end += take;
            return Ok(if self.end == END.len() { BodyStep::End(take) } else { BodyStep::More(take) });
        }
        if input.is_empty() {
            return Ok(BodyStep::More(0));
        }
        let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
        self.left -= take as u64;
        Ok(BodyStep::Data(0..take))
    }

    fn may_end(&self) -> bool {
        false
    }
}

impl Talk {
    /// Flags and length of a `VALUE key flags length` line for our key.
    fn value(&self, line: &[u8]) -> Option<(u64, u64)> {
        let mut words = line.strip_prefix(b"VALUE ")?.split(|byte| *byte == b' ');
        if words.next()? != self.shown.as_slice() {
            return None;
        }
        let mut number = || std::str::from_utf8(words.next()?).ok()?.parse::<u64>().ok();
        let flags = number()?;
        let length = number()?;
        // A unique number may follow.
        Some((flags, length))
    }
}
