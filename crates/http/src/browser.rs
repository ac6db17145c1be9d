//! Browsers that need special treatment, told by `User-Agent` (`msie_padding`, `msie_refresh`, `keepalive_disable`).

use crate::request::Request;
use memchr::memmem::{Finder, find};
use moonrest_proto::http1::Known;
use std::sync::LazyLock;

/// What a `User-Agent` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Browser {
    /// Internet Explorer of any version.
    pub msie: bool,
    /// Internet Explorer 4, 5, or 6 before its service pack.
    pub msie6: bool,
    pub chrome: bool,
    pub safari: bool,
}

/// What is looked for in every agent, prepared once.
struct Marks {
    opera: Finder<'static>,
    msie: Finder<'static>,
    gecko: Finder<'static>,
    chrome: Finder<'static>,
    safari: Finder<'static>,
}

static MARKS: LazyLock<Marks> = LazyLock::new(|| Marks {
    opera: Finder::new("Opera"),
    msie: Finder::new("MSIE "),
    gecko: Finder::new("Gecko/"),
    chrome: Finder::new("Chrome/"),
    safari: Finder::new("Safari/"),
});

impl Browser {
    /// The browser of a request.
    pub fn of(r: &Request) -> Self {
        let (head, block) = (r.head.borrow(), r.block.borrow());
        head.fields.value(Known::UserAgent, &block).map_or_else(Self::default, Self::from_agent)
    }

    fn from_agent(agent: &[u8]) -> Self {
        let marks = &*MARKS;
        let has = |mark: &Finder<'_>| mark.find(agent).is_some();
        if has(&marks.opera) {
            return Self::default();
        }
        // At least two characters of a version must follow.
        if let Some([version, dot, rest @ ..]) =
            marks.msie.find(agent).and_then(|at| agent.get(at + 5..)).filter(|rest| rest.len() > 2)
        {
            let msie6 = *dot == b'.'
                && match version {
                    b'4' | b'5' => true,
                    b'6' => find(rest, b"SV1").is_none(),
                    _ => false,
                };
            return Self { msie: true, msie6, ..Self::default() };
        }
        let gecko = has(&marks.gecko);
        let chrome = !gecko && has(&marks.chrome);
        let safari = !gecko && !chrome && has(&marks.safari) && find(agent, b"Mac OS X").is_some();
        Self { chrome, safari, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents() {
        let none = Browser::default();
        let msie = Browser { msie: true, ..none };
        let msie6 = Browser { msie6: true, ..msie };
        for (agent, expect) in [
            ("Mozilla/4.0 (compatible; MSIE 5.5; Windows)", msie6),
            ("Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)", msie6),
            ("Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1; SV1)", msie),
            ("Mozilla/5.0 (compatible; MSIE 9.0; Windows NT 6.1)", msie),
            ("Mozilla/4.0 (compatible; MSIE 6.0; Opera 9)", none),
            ("MSIE 6", none),
            (
                "Mozilla/5.0 (X11) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36",
                Browser { chrome: true, ..none },
            ),
            (
                "Mozilla/5.0 (Macintosh; Mac OS X 10_15) AppleWebKit/605 (KHTML, like Gecko) Version/13 Safari/605",
                Browser { safari: true, ..none },
            ),
            ("Mozilla/5.0 (X11; rv:109.0) Gecko/20100101 Firefox/115.0", none),
            ("", none),
        ] {
            assert_eq!(Browser::from_agent(agent.as_bytes()), expect, "{agent}");
        }
    }
}
