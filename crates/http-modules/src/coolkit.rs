//! `override_method`, `$location`, `$remote_passwd`.
//! <https://github.com/FRiCKLE/ngx_coolkit>

use moonrest_http::{
    basic_auth,
    module::Set,
    prelude::*,
    script::{ScriptFlow, ScriptOp, ScriptStep},
};
use moonrest_proto::http1::Method;
use std::cell::Cell;

/// The module.
pub struct Coolkit;

impl HttpModule for Coolkit {
    const NAME: &'static str = "ngx_coolkit_module";
    const DIRECTIVES: &'static [Directive<Self>] =
        &[Directive::new("override_method", Contexts::HSL, Arity::at_least(1), Set::Loc(override_method))];
    const VARIABLES: &'static [VarDef<Request>] = &[
        VarDef::get("location", location),
        VarDef::get("remote_passwd", |r, out| {
            basic_auth::credentials(r).is_some_and(|credentials| {
                out.extend_from_slice(credentials.password());
                true
            })
        }),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach((): &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        if let Some(rule) = &loc.rule
            && to.kind != LocationKind::Unnamed
        {
            to.before_script(Override(rule.clone()));
        }
        Ok(())
    }
}

/// What one block says.
#[derive(Clone, Default)]
pub struct Loc {
    rule: Option<Rule>,
}
inherit!(Loc { rule });

/// Which methods are replaced, and by what; `None` for `off`.
type Rule = Option<(u32, Template)>;

/// `override_method off | [METHOD ...] SOURCE`.
fn override_method(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    if loc.rule.is_some() {
        return Err(Fault::DUPLICATE);
    }
    let last = args.len() - 1;
    if args.bytes(0)? == b"off" {
        loc.rule = Some(None);
        return Ok(());
    }
    if args.bytes(last)?.is_empty() {
        return Err(Fault::message("coolkit: empty source in \"override_method\" directive"));
    }
    let mut methods = if last == 0 { u32::MAX } else { 0 };
    for n in 0..last {
        let invalid = || {
            Fault::message(format!(
                "coolkit: invalid method \"{}\" in \"override_method\" directive",
                args.lossy(n)
            ))
        };
        methods |= method(args.bytes(n)?).ok_or_else(invalid)?.bit();
    }
    loc.rule = Some(Some((methods, args.template(last)?)));
    Ok(())
}

/// A method by its name, in any case.
fn method(name: &[u8]) -> Option<Method> {
    match Method::from_name(&name.to_ascii_uppercase()) {
        Method::Other | Method::Connect | Method::Trace => None,
        method => Some(method),
    }
}

/// The name of the location; the part of the path that its regular expression matches.
fn location(r: &Request, out: &mut Vec<u8>) -> bool {
    let location = r.loc();
    if location.kind == LocationKind::Regex {
        return moonrest_core::Subject::capture(r, 0, out);
    }
    out.extend_from_slice(&location.name);
    true
}

/// The method that the client sent, if another one took its place. Kept in the request's context.
#[derive(Default)]
struct Original(Cell<Option<Method>>);

struct Override(Rule);

impl ScriptOp for Override {
    fn run(&self, r: &RequestRef) -> Result<ScriptStep, RequestError> {
        let original = r.find_ctx::<Original>().and_then(|original| original.0.get());
        match &self.0 {
            None => original.into_iter().for_each(|method| r.set_method(method)),
            Some((methods, source)) => {
                let sent = original.unwrap_or(r.method.get());
                if sent.bit() & methods != 0
                    && let Some(method) = method(&source.eval(&**r))
                {
                    r.ctx::<Original>().0.set(Some(sent));
                    r.set_method(method);
                }
            }
        }
        Ok(ScriptStep::Now(ScriptFlow::Next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_names_in_any_case() {
        assert_eq!(method(b"post"), Some(Method::Post));
        assert_eq!(method(b"CONNECT"), None);
        assert_eq!(method(b"x"), None);
    }
}
