//! `userid`: cookies that tell clients apart.
//! <https://nginx.org/en/docs/http/ngx_http_userid_module.html>

use crate::lenient_base64::decode_base64;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use moonrest_http::{filter::FilterStep, prelude::*};
use moonrest_net::addr::Addr;
use moonrest_proto::{cookie, date};
use moonrest_sys::{process, time};
use std::{
    cell::{Cell, RefCell},
    io::Write,
    net::IpAddr,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

/// The module.
pub struct UserId;
type D = Directive<UserId>;

impl HttpModule for UserId {
    const NAME: &'static str = "ngx_http_userid_module";
    const DIRECTIVES: &'static [D] = &[
        D::new(
            "userid",
            Contexts::HSL,
            Arity::exactly(1),
            Set::Enum(&["off", "log", "v1", "on"], |loc: &mut Loc| &mut loc.mode),
        ),
        D::new(
            "userid_service",
            Contexts::HSL,
            Arity::exactly(1),
            Set::Uint(|loc: &mut Loc| &mut loc.service),
        ),
        D::new("userid_name", Contexts::HSL, Arity::exactly(1), Set::Text(|loc: &mut Loc| &mut loc.name)),
        D::loc("userid_domain", Arity::exactly(1), |loc, args| {
            set_once(&mut loc.domain, attribute("; domain=", none_is_empty(args.bytes(0)?)))
        }),
        D::loc("userid_path", Arity::exactly(1), |loc, args| {
            set_once(&mut loc.path, [b"; path=", args.bytes(0)?].concat().into())
        }),
        D::loc("userid_expires", Arity::exactly(1), |loc, args| {
            let expires = match args.bytes(0)? {
                b"max" => Expires::Max,
                b"off" => Expires::Session,
                _ => match args.sec(0)? {
                    0 => Expires::Session,
                    seconds => Expires::After(seconds),
                },
            };
            set_once(&mut loc.expires, expires)
        }),
        D::loc("userid_flags", Arity::between(1, 3), set_flags),
        D::loc("userid_p3p", Arity::exactly(1), |loc, args| {
            set_once(&mut loc.p3p, none_is_empty(args.bytes(0)?).into())
        }),
        D::loc("userid_mark", Arity::exactly(1), |loc, args| {
            let mark = match args.bytes(0)? {
                b"off" => None,
                [mark] if mark.is_ascii_alphanumeric() || *mark == b'=' => Some(*mark),
                _ => {
                    let text = "value must be \"off\" or a single letter, digit or \"=\"";
                    return Err(Fault::directive(text));
                }
            };
            set_once(&mut loc.mark, mark)
        }),
    ];
    const VARIABLES: &'static [VarDef<Request>] = &[
        VarDef::get("uid_got", |r, out| with_settings(r, LOG, |r, loc| loc.state(r).got.get(), out)),
        VarDef::get("uid_set", |r, out| {
            with_settings(
                r,
                V1,
                |r, loc| {
                    let state = loc.state(r);
                    loc.create(r, &state);
                    state.set.get()
                },
                out,
            )
        }),
        VarDef::slot("uid_reset"),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach(_main: &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if loc.mode.is_some_and(|mode| mode >= V1) {
            to.header_filter(HeaderOrder::Userid, Filter(loc.clone()));
        }
        Ok(())
    }
}

/// Positions among the words of `userid`.
const LOG: usize = 1;
const V1: usize = 2;

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    mode: Option<usize>,
    service: Option<u64>,
    name: Option<Box<[u8]>>,
    /// With `; domain=` in front, or empty.
    domain: Option<Box<[u8]>>,
    path: Option<Box<[u8]>>,
    expires: Option<Expires>,
    flags: Option<Flags>,
    p3p: Option<Box<[u8]>>,
    mark: Option<Option<u8>>,
}
inherit!(Loc { mode, service, name, domain, path, expires, flags, p3p, mark });

#[derive(Clone, Copy)]
enum Expires {
    /// The cookie goes when the browser is closed.
    Session,
    After(u64),
    /// The end of 2037.
    Max,
}

#[derive(Clone, Copy, Default)]
struct Flags {
    secure: bool,
    http_only: bool,
    same_site: Option<&'static str>,
}

fn none_is_empty(text: &[u8]) -> &[u8] {
    if text == b"none" { b"" } else { text }
}

fn attribute(name: &str, value: &[u8]) -> Box<[u8]> {
    if value.is_empty() { Box::default() } else { [name.as_bytes(), value].concat().into() }
}

fn set_flags(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    let mut flags = Flags::default();
    let mut off = false;
    for n in 0..args.len() {
        let known = match args.bytes(n)? {
            b"off" => std::mem::replace(&mut off, true),
            b"secure" => std::mem::replace(&mut flags.secure, true),
            b"httponly" => std::mem::replace(&mut flags.http_only, true),
            b"samesite=strict" => same_site(&mut flags, "strict"),
            b"samesite=lax" => same_site(&mut flags, "lax"),
            b"samesite=none" => same_site(&mut flags, "none"),
            _ => return Err(args.invalid_value(n)),
        };
        if known {
            args.env.warn(format!("duplicate value \"{}\"", args.lossy(n)), Some(args.word(n)?.span));
        }
    }
    set_once(&mut loc.flags, flags)
}

/// Whether another was given before: that one counts.
fn same_site(flags: &mut Flags, value: &'static str) -> bool {
    let known = flags.same_site.is_some();
    flags.same_site.get_or_insert(value);
    known
}

/// A user's number: four words of 32 bits, here as the bytes of the cookie.
type Uid = [u8; 16];

/// Of one request.
#[derive(Default)]
struct State {
    read: Cell<bool>,
    got: Cell<Option<Uid>>,
    set: Cell<Option<Uid>>,
    /// What the client sent, for marked cookies.
    cookie: RefCell<Vec<u8>>,
    reset: Cell<bool>,
}

fn with_settings(
    r: &Request,
    least: usize,
    uid: impl Fn(&Request, &Loc) -> Option<Uid>,
    out: &mut Vec<u8>,
) -> bool {
    let main = r.main();
    let Some(loc) = main.loc().conf::<Loc>().filter(|loc| loc.mode.is_some_and(|mode| mode >= least)) else {
        return false;
    };
    let Some(uid) = uid(main, loc) else { return false };
    out.extend_from_slice(loc.name());
    write!(out, "={}", Shown(uid)).is_ok()
}

/// The number as nginx prints it: its words in the byte order of the machine.
struct Shown(Uid);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.as_chunks::<4>().0.iter().try_for_each(|word| write!(f, "{:08X}", u32::from_ne_bytes(*word)))
    }
}

struct Filter(Arc<Loc>);

impl HeaderFilter for Filter {
    fn filter(&self, r: &RequestRef) -> Result<FilterStep<Needed>, RequestError> {
        if !r.is_subrequest() {
            self.0.add_cookie(r);
        }
        Ok(FilterStep::Now(None))
    }
}

impl Loc {
    fn name(&self) -> &[u8] {
        self.name.as_deref().unwrap_or(b"uid")
    }

    /// This request's state, the cookie read.
    fn state(&self, r: &Request) -> std::rc::Rc<State> {
        let state = r.ctx::<State>();
        if !state.read.replace(true) {
            r.with_headers(b"cookie", |lines| {
                let found = lines
                    .iter()
                    .find_map(|line| cookie::find([*line], self.name()).map(|value| (*line, value)));
                if let Some((line, value)) = found {
                    read_cookie(r, &state, line, value);
                }
            });
        }
        state
    }

    /// Decides whether the client gets a number, and which.
    fn create(&self, r: &Request, state: &State) {
        if state.set.get().is_some() {
            return;
        }
        if let Some(got) = state.got.get() {
            let reset = r.vars().find("uid_reset").and_then(|id| r.vars().get(r, id)).unwrap_or_default();
            if reset.is_empty() || reset == b"0" {
                let cookie = state.cookie.borrow();
                let marked = |mark: u8| cookie.get(22) == Some(&mark) && cookie.get(23) == Some(&b'=');
                if !self.mark.flatten().is_none_or(marked) {
                    state.set.set(Some(got));
                }
                return;
            }
            state.reset.set(true);
            if reset == b"log" {
                let name = String::from_utf8_lossy(self.name());
                moonrest_http::notice!(r, "userid cookie \"{name}={}\" was reset", Shown(got));
            }
        }
        state.set.set(Some(self.generate(r)));
    }

    fn generate(&self, r: &Request) -> Uid {
        let now = word(u64::try_from(r.worker.now()).unwrap_or(0));
        let service = self.service.map(word);
        if self.mode == Some(V1) {
            let sequence = V1_SEQUENCE.fetch_add(0x100, Relaxed);
            return join([service.unwrap_or(0), now, *START, sequence].map(u32::to_ne_bytes));
        }
        let service = match service {
            Some(number) => number.to_be_bytes(),
            None => r.with_local(|addr| match addr {
                Addr::Inet(addr) => match addr.ip() {
                    IpAddr::V4(ip) => ip.octets(),
                    IpAddr::V6(ip) => *ip.octets().last_chunk::<4>().unwrap_or(&[0; 4]),
                },
                Addr::Unix(_) => [0; 4],
            }),
        };
        join([service, now.to_be_bytes(), START.to_be_bytes(), next_sequence().to_be_bytes()])
    }

    fn add_cookie(&self, r: &Request) {
        let state = self.state(r);
        self.create(r, &state);
        let Some(uid) = state.set.get() else { return };
        let mut value = self.name().to_vec();
        value.push(b'=');
        let mark = self.mark.flatten();
        if state.got.get().is_none() || state.reset.get() {
            let start = value.len();
            value.extend_from_slice(STANDARD.encode(uid).as_bytes());
            // The mark takes the place of the first `=`.
            if let (Some(mark), Some(place)) = (mark, value.get_mut(start + 22)) {
                *place = mark;
            }
        } else {
            value.extend_from_slice(state.cookie.borrow().get(..22).unwrap_or_default());
            value.extend(mark);
            value.push(b'=');
        }
        self.add_attributes(r, &mut value);
        let mut out = r.out_mut();
        out.add("Set-Cookie", value);
        if let Some(p3p) = self.p3p.as_ref().filter(|p3p| !p3p.is_empty()) {
            out.add("P3P", p3p.to_vec());
        }
    }

    fn add_attributes(&self, r: &Request, value: &mut Vec<u8>) {
        match self.expires {
            None | Some(Expires::Session) => {}
            Some(Expires::Max) => value.extend_from_slice(b"; expires=Thu, 31-Dec-37 23:55:55 GMT"),
            Some(Expires::After(seconds)) => {
                value.extend_from_slice(b"; expires=");
                date::cookie(r.worker.now().saturating_add_unsigned(seconds), value);
            }
        }
        value.extend_from_slice(self.domain.as_deref().unwrap_or_default());
        value.extend_from_slice(self.path.as_deref().unwrap_or(b"; path=/"));
        let flags = self.flags.unwrap_or_default();
        if flags.secure {
            value.extend_from_slice(b"; secure");
        }
        if flags.http_only {
            value.extend_from_slice(b"; httponly");
        }
        if let Some(same_site) = flags.same_site {
            value.extend_from_slice(b"; samesite=");
            value.extend_from_slice(same_site.as_bytes());
        }
    }
}

fn read_cookie(r: &Request, state: &State, line: &[u8], value: &[u8]) {
    *state.cookie.borrow_mut() = value.to_vec();
    let line = || String::from_utf8_lossy(line);
    // Only so much is looked at: a mark may follow, or any of the wrong endings that are about.
    let Some(encoded) = value.get(..22) else {
        moonrest_http::error!(r, "client sent too short userid cookie \"{}\"", line());
        return;
    };
    match decode_base64(encoded).map(Uid::try_from) {
        // nginx: a number whose last word is zero counts as none.
        Some(Ok(uid)) => state.got.set(Some(uid).filter(|uid| uid.last_chunk::<4>() != Some(&[0; 4]))),
        Some(Err(_)) => {}
        None => moonrest_http::error!(r, "client sent invalid userid cookie \"{}\"", line()),
    }
}

/// Tells processes apart: the time they began at and their number.
static START: LazyLock<u32> = LazyLock::new(|| {
    let moment = time::wall().nanos / 20_000;
    moment << 16 | process::pid().unsigned_abs()
});
static V1_SEQUENCE: AtomicU32 = AtomicU32::new(1);
/// The least number of the newer kind: no byte of it is zero.
const V2_LEAST: u32 = 0x0303_0302;
static V2_SEQUENCE: AtomicU32 = AtomicU32::new(V2_LEAST);

fn next_sequence() -> u32 {
    let next = |number: u32| Some(number.wrapping_add(0x100).max(V2_LEAST));
    V2_SEQUENCE.fetch_update(Relaxed, Relaxed, next).unwrap_or_else(|number| number)
}

/// The low 32 bits.
fn word(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0)
}

fn join(words: [[u8; 4]; 4]) -> Uid {
    let mut uid = [0; 16];
    uid.as_chunks_mut::<4>().0.copy_from_slice(&words);
    uid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_word_by_word() {
        let uid = join([1_u32, 2, 3, 0xabcd_ef01].map(u32::to_ne_bytes));
        assert_eq!(Shown(uid).to_string(), "000000010000000200000003ABCDEF01");
    }

    #[test]
    fn sequences_do_not_repeat() {
        let first = next_sequence();
        assert!(first >= V2_LEAST);
        assert_eq!(next_sequence(), first + 0x100);
    }
}
