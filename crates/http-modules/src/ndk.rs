//! `ndk`: what other modules share of nginx's development kit: steps of a rewrite script that assign a variable what a
//! function makes of values, lists of values in one variable, and `upstream_list`.
//! <https://github.com/vision5/ngx_devel_kit>

use moonrest_core::Subject as _;
use moonrest_http::{
    prelude::*,
    script::{ScriptFlow, ScriptOp, ScriptStep},
};
use std::{borrow::Cow, sync::OnceLock};

/// The module.
pub struct Ndk;

impl HttpModule for Ndk {
    const NAME: &'static str = "ndk_http_module";
    const DIRECTIVES: &'static [Directive<Self>] =
        &[Directive::main("upstream_list", Arity::at_least(2), |lists: &mut UpstreamLists, args| {
            lists.add(args)
        })
        .also(Contexts::SERVER)];
    type Main = UpstreamLists;
    type Loc = ();
}

/// Where steps of a script may stand. Those that stand in `http` are never run (nginx's rewrite module inherits none).
pub(crate) const PLACES: Contexts =
    Contexts::HTTP.or(Contexts::SERVER).or(Contexts::LOCATION).or(Contexts::SERVER_IF).or(Contexts::IF);

/// Makes one value of several; what it appends is the result. `false` ends the request with 500.
pub(crate) type Function = Box<dyn Fn(&Request, &[Cow<'_, [u8]>], &mut Vec<u8>) -> bool + Send + Sync>;

/// Adds a step that assigns `name` what `function` makes of `values`.
///
/// # Errors
/// `the duplicate "name" variable`.
pub(crate) fn assign(args: &Args<'_>, name: &str, values: Vec<Template>, function: Function) -> ConfResult {
    let variable = args.vars.define_assigned(name, Arc::new(|_: &Request, _: &mut Vec<u8>| true))?;
    args.push_script(Compute { variable, values, function });
    Ok(())
}

struct Compute {
    variable: VarId,
    values: Vec<Template>,
    function: Function,
}

impl ScriptOp for Compute {
    fn run(&self, r: &RequestRef) -> Result<ScriptStep, RequestError> {
        let values: smallvec::SmallVec<[Cow<'_, [u8]>; 3]> =
            self.values.iter().map(|value| value.eval(&**r)).collect();
        let mut out = Vec::new();
        if !(self.function)(r, &values, &mut out) {
            return Ok(ScriptStep::Now(ScriptFlow::Finish(500)));
        }
        r.vars().assign(&**r, self.variable, Some(&out));
        Ok(ScriptStep::Now(ScriptFlow::Next))
    }
}

/// What a value that is a list begins with: nobody outside can write one.
fn mark() -> &'static [u8; 16] {
    static MARK: OnceLock<[u8; 16]> = OnceLock::new();
    MARK.get_or_init(|| {
        let mut mark = [0; 16];
        // Without random bytes lists can be forged, which gains nobody more than a list.
        let _ = moonrest_sys::random::fill(&mut mark);
        mark
    })
}

/// Appends a list of values as one value.
pub(crate) fn encode_list<'a>(items: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    out.extend_from_slice(mark());
    for item in items {
        out.extend_from_slice(&(item.len() as u64).to_le_bytes());
        out.extend_from_slice(item);
    }
}

/// The items of a list; `None` for any other value.
pub(crate) fn decode_list(value: &[u8]) -> Option<Vec<&[u8]>> {
    let mut rest = value.strip_prefix(mark())?;
    let mut items = Vec::new();
    while !rest.is_empty() {
        let (len, behind) = rest.split_first_chunk::<8>()?;
        let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
        items.push(behind.get(..len)?);
        rest = behind.get(len..)?;
    }
    Some(items)
}

/// The `upstream_list` directives.
#[derive(Default)]
pub struct UpstreamLists(Vec<(Box<[u8]>, UpstreamList)>);

/// The names of one list, each as often as its weight says.
pub(crate) type UpstreamList = Arc<[Box<[u8]>]>;

/// How long a list may become by its weights.
const MAX_WEIGHT: u64 = 100_000;

impl UpstreamLists {
    fn add(&mut self, args: &Args<'_>) -> ConfResult {
        let name = args.bytes(0)?;
        if self.find(name).is_some() {
            return Err(Fault::message(format!("duplicate upstream list name \"{}\"", args.lossy(0))));
        }
        let mut list: Vec<Box<[u8]>> = Vec::new();
        for n in 1..args.len() {
            let (weight, upstream) = weighted(args.bytes(n)?)?;
            list.extend((0..weight).map(|_| Box::from(upstream)));
        }
        self.0.push((name.into(), list.into()));
        Ok(())
    }

    /// A list by its name, in any case.
    pub(crate) fn find(&self, name: &[u8]) -> Option<&UpstreamList> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, list)| list)
    }
}

/// `[WEIGHT:]NAME`.
fn weighted(text: &[u8]) -> ConfResult<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let fault = |what: &str| {
        Err(Fault::message(format!("upstream list {what} \"{}\"", String::from_utf8_lossy(text))))
    };
    match text.split_at(digits) {
        ([], name) => Ok((1, name)),
        (_, []) => fault("just consists of number"),
        (weight, [b':', name @ ..]) => match moonrest_conf::value::parse_uint(weight) {
            Some(weight @ ..=MAX_WEIGHT) => Ok((weight, name)),
            _ => fault("not correct format"),
        },
        _ => fault("not correct format"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_survive_being_values() {
        for items in [vec![], vec![&b""[..]], vec![b"a", b"", b"b\0c"]] {
            let mut value = Vec::new();
            encode_list(items.iter().copied(), &mut value);
            assert_eq!(decode_list(&value), Some(items));
            value.push(1);
            assert_eq!(decode_list(&value), None);
        }
        assert_eq!(decode_list(b""), None);
        assert_eq!(decode_list(b"a,b"), None);
    }

    #[test]
    fn upstreams_have_weights() {
        assert_eq!(weighted(b"a").ok(), Some((1, &b"a"[..])));
        assert_eq!(weighted(b"12:a").ok(), Some((12, &b"a"[..])));
        assert!(weighted(b"12").is_err());
        assert!(weighted(b"12a").is_err());
        assert!(weighted(b"99999999:a").is_err());
    }
}
