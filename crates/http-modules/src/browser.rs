//! `browser`: whether the client's browser is modern or ancient, by its name and version.
//! <https://nginx.org/en/docs/http/ngx_http_browser_module.html>

use memchr::memmem;
use moonrest_http::{browser, prelude::*};

/// The module.
pub struct Browser;
type D = Directive<Browser>;

impl HttpModule for Browser {
    const NAME: &'static str = "ngx_http_browser_module";
    const DIRECTIVES: &'static [D] = &[
        D::loc("modern_browser", Arity::between(1, 2), add_modern),
        D::loc("ancient_browser", Arity::at_least(1), |loc, args| {
            for word in args.words() {
                match &*word.text {
                    b"netscape4" => loc.netscape4 = true,
                    name => loc.ancient.get_or_insert_default().push(name.into()),
                }
            }
            Ok(())
        }),
        // nginx: the last of several counts.
        D::loc("modern_browser_value", Arity::exactly(1), |loc, args| {
            loc.modern_value = Some(args.bytes(0)?.into());
            Ok(())
        }),
        D::loc("ancient_browser_value", Arity::exactly(1), |loc, args| {
            loc.ancient_value = Some(args.bytes(0)?.into());
            Ok(())
        }),
    ];
    const VARIABLES: &'static [VarDef<Request>] = &[
        VarDef { changeable: true, ..VarDef::get("msie", msie) },
        VarDef { changeable: true, ..VarDef::get("modern_browser", |r, out| value(r, Age::Modern, out)) },
        VarDef { changeable: true, ..VarDef::get("ancient_browser", |r, out| value(r, Age::Ancient, out)) },
    ];
    type Main = ();
    type Loc = Loc;
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    /// Sorted by kind: Opera, which pretended to be others, is asked first.
    modern: Option<Vec<Modern>>,
    modern_unlisted: bool,
    ancient: Option<Vec<Box<[u8]>>>,
    netscape4: bool,
    modern_value: Option<Box<[u8]>>,
    ancient_value: Option<Box<[u8]>>,
}

impl Inherit for Loc {
    fn inherit(&mut self, outer: &Self) {
        if self.modern.is_none() && !self.modern_unlisted {
            self.modern.clone_from(&outer.modern);
            self.modern_unlisted = outer.modern_unlisted;
        }
        if self.ancient.is_none() && !self.netscape4 {
            self.ancient.clone_from(&outer.ancient);
            self.netscape4 = outer.netscape4;
        }
        self.modern_value = self.modern_value.take().or_else(|| outer.modern_value.clone());
        self.ancient_value = self.ancient_value.take().or_else(|| outer.ancient_value.clone());
    }
}

/// A browser that is modern from this version on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Modern {
    /// The place in [`KINDS`].
    kind: usize,
    version: u64,
}

/// How a browser is recognised in `User-Agent`.
struct Kind {
    name: &'static str,
    /// How much of the field is not searched.
    skip: usize,
    /// What stands in front of the version.
    mark: &'static [u8],
    /// From the start of the mark to the version.
    version_at: usize,
}

const KINDS: [Kind; 5] = [
    // `Opera/7.50 …` and `… Opera 7.50`
    Kind { name: "opera", skip: 0, mark: b"Opera", version_at: 6 },
    Kind { name: "msie", skip: 25, mark: b"MSIE ", version_at: 5 },
    Kind { name: "gecko", skip: 13, mark: b"rv:", version_at: 3 },
    Kind { name: "safari", skip: 13, mark: b"Safari/", version_at: 7 },
    Kind { name: "konqueror", skip: 25, mark: b"Konqueror/", version_at: 10 },
];

/// No version is as high as that.
const UNREACHABLE: u64 = 4_001_000_000;

fn add_modern(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    if args.len() == 1 {
        if args.bytes(0)? != b"unlisted" {
            return Err(args.invalid_parameter(0));
        }
        loc.modern_unlisted = true;
        return Ok(());
    }
    let name = args.bytes(0)?;
    let kind = KINDS
        .iter()
        .position(|kind| kind.name.as_bytes().eq_ignore_ascii_case(name))
        .ok_or_else(|| Fault::message(format!("unknown browser name \"{}\"", args.lossy(0))))?;
    let text = args.bytes(1)?;
    if !text.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') {
        return Err(Fault::message(format!("invalid browser version \"{}\"", args.lossy(1))));
    }
    let modern = loc.modern.get_or_insert_with(|| vec![Modern { kind: 0, version: UNREACHABLE }]);
    // Opera's field may contain MSIE, so Opera is in the list whether it is named or not.
    if kind == 0 {
        modern.retain(|known| known.kind != 0 || known.version != UNREACHABLE);
    }
    modern.push(Modern { kind, version: version(text) });
    modern.sort_by_key(|known| known.kind);
    Ok(())
}

/// `1.2.3` as a number in which each part has its own digits.
fn version(text: &[u8]) -> u64 {
    let (mut version, mut scale) = (0_u64, 1_000_000_u64);
    for part in text.split(|byte| *byte == b'.') {
        let number = part.iter().fold(0_u64, |number, digit| {
            number.saturating_mul(10).saturating_add(u64::from(digit.wrapping_sub(b'0')))
        });
        version = version.saturating_add(number.saturating_mul(scale));
        scale /= 100;
    }
    version
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Age {
    Modern,
    Ancient,
}

impl Loc {
    fn age(&self, agent: Option<&[u8]>) -> Age {
        let unlisted = if self.modern_unlisted { Age::Modern } else { Age::Ancient };
        let Some(agent) = agent else { return unlisted };
        if let Some(modern) = &self.modern {
            if let Some(age) = modern.iter().find_map(|modern| modern.age(agent)) {
                return age;
            }
            if !self.modern_unlisted {
                return Age::Ancient;
            }
        }
        let netscape4 = self.netscape4
            && agent.len() > 13
            && agent.starts_with(b"Mozilla/")
            && matches!(agent.get(8), Some(b'1'..=b'4'));
        let listed = || {
            self.ancient
                .as_ref()
                .is_some_and(|names| names.iter().any(|name| memmem::find(agent, name).is_some()))
        };
        if netscape4 || listed() { Age::Ancient } else { unlisted }
    }
}

impl Modern {
    /// Its age, if it is this browser.
    fn age(&self, agent: &[u8]) -> Option<Age> {
        let kind = KINDS.get(self.kind)?;
        let searched = agent.get(kind.skip..)?;
        let at = memmem::find(searched, kind.mark)?;
        let text = searched.get(at + kind.version_at..).filter(|text| !text.is_empty())?;
        let len = text.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
        let modern = version(text.get(..len)?) >= self.version;
        Some(if modern { Age::Modern } else { Age::Ancient })
    }
}

fn value(r: &Request, wanted: Age, out: &mut Vec<u8>) -> bool {
    let Some(loc) = r.loc().conf::<Loc>() else { return false };
    if r.with_header(b"user-agent", |agent| loc.age(agent)) == wanted {
        let value = if wanted == Age::Modern { &loc.modern_value } else { &loc.ancient_value };
        out.extend_from_slice(value.as_deref().unwrap_or(b"1"));
    }
    true
}

/// `$msie`: any Internet Explorer.
fn msie(r: &Request, out: &mut Vec<u8>) -> bool {
    if browser::Browser::of(r).msie {
        out.push(b'1');
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_part_by_part() {
        assert!(version(b"1.10") > version(b"1.9"));
        assert!(version(b"2") > version(b"1.99.99"));
        assert_eq!(version(b"1.0.0"), version(b"1"));
        assert_eq!(version(b""), 0);
        assert_eq!(version(b"99999999999999999999999"), u64::MAX);
    }

    #[test]
    fn browsers_are_recognised_by_name_and_version() {
        let list = vec![
            Modern { kind: 0, version: UNREACHABLE },
            Modern { kind: 1, version: version(b"5.5") },
            Modern { kind: 2, version: version(b"1.0.0") },
        ];
        let mut loc = Loc { modern: Some(list), ..Loc::default() };
        let msie6 = b"Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)";
        assert_eq!(loc.age(Some(msie6)), Age::Modern);
        assert_eq!(loc.age(Some(b"Mozilla/4.0 (compatible; MSIE 5.0; Windows NT 5.1)")), Age::Ancient);
        assert_eq!(loc.age(Some(b"Mozilla/4.0 (compatible; MSIE 6.0; X11) Opera 7.50")), Age::Ancient);
        assert_eq!(loc.age(Some(b"Mozilla/5.0 (X11; rv:1.5) Gecko/20031006")), Age::Modern);
        assert_eq!(loc.age(Some(b"Mozilla/5.0 (X11; rv:")), Age::Ancient);
        assert_eq!(loc.age(Some(b"Lynx")), Age::Ancient);
        assert_eq!(loc.age(None), Age::Ancient);
        loc.modern_unlisted = true;
        loc.ancient = Some(vec![(*b"Links").into()]);
        loc.netscape4 = true;
        assert_eq!(loc.age(Some(b"Lynx")), Age::Modern);
        assert_eq!(loc.age(Some(b"Links")), Age::Ancient);
        assert_eq!(loc.age(Some(b"Mozilla/4.72 [en]")), Age::Ancient);
        assert_eq!(loc.age(None), Age::Modern);
    }
}
