//! `access`: who may come in, by address.
//! <https://nginx.org/en/docs/http/ngx_http_access_module.html>

use moonrest_core::Cidr;
use moonrest_http::{core::Satisfy, prelude::*};

/// The module.
pub struct Access;
type D = Directive<Access>;

const CONTEXTS: Contexts = Contexts::HSL.or(Contexts::LIMIT_EXCEPT);

impl HttpModule for Access {
    const NAME: &'static str = "ngx_http_access_module";
    const DIRECTIVES: &'static [D] = &[
        D::new("allow", CONTEXTS, Arity::exactly(1), Set::Loc(|loc: &mut Loc, args| loc.add(args, false))),
        D::new("deny", CONTEXTS, Arity::exactly(1), Set::Loc(|loc: &mut Loc, args| loc.add(args, true))),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach(_main: &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        let Some(rules) = &loc.rules else { return Ok(()) };
        to.on(
            Phase::Access,
            Rules {
                rules: rules.as_slice().into(),
                has_v4: rules.iter().any(|rule| matches!(rule.network, None | Some(Cidr::V4 { .. }))),
                satisfy: to.core.satisfy,
            },
        );
        Ok(())
    }
}

/// The rules of one block, in order. Those of outer blocks are in force only where there are none.
#[derive(Clone, Default)]
pub struct Loc {
    rules: Option<Vec<Rule>>,
}
inherit!(Loc { rules });

#[derive(Clone, Copy)]
struct Rule {
    /// `None` is `all`.
    network: Option<Cidr>,
    deny: bool,
}

impl Loc {
    fn add(&mut self, args: &Args<'_>, deny: bool) -> ConfResult {
        let network = match args.bytes(0)? {
            b"all" => None,
            b"unix:" => Some(Cidr::Unix),
            text => {
                let parsed = Cidr::parse(text).ok_or_else(|| args.invalid_parameter(0))?;
                if parsed.low_bits {
                    let message = format!("low address bits of {} are meaningless", args.lossy(0));
                    args.env.warn(message, Some(args.span()));
                }
                Some(parsed.cidr)
            }
        };
        self.rules.get_or_insert_default().push(Rule { network, deny });
        Ok(())
    }
}

struct Rules {
    rules: Box<[Rule]>,
    has_v4: bool,
    satisfy: Satisfy,
}

impl PhaseHandler for Rules {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        // nginx: a mapped address is compared as IPv4, unless all rules are of IPv6.
        let denies = r.with_client(|addr| {
            let found = |rule: &&Rule| match rule.network {
                None => true,
                Some(network) if self.has_v4 => network.contains(addr),
                Some(network) => network.contains_unmapped(addr),
            };
            self.rules.iter().find(found).map(|rule| rule.deny)
        });
        match denies {
            None => Step::next(),
            Some(false) => Step::done(),
            Some(true) => {
                if self.satisfy == Satisfy::All {
                    moonrest_http::error!(r, "access forbidden by rule");
                }
                Step::finish(403)
            }
        }
    }
}
