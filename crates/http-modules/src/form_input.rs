//! `set_form_input`: values of a form that a client posted, as variables.
//! <https://github.com/calio/form-input-nginx-module>

use crate::ndk::{self, encode_list};
use moonrest_http::{
    body,
    compile::BlockId,
    module::Set,
    prelude::*,
    script::{ScriptFlow, ScriptOp, ScriptStep},
};
use moonrest_proto::http1::{Known, Method};
use std::cell::Cell;

/// The module.
pub struct FormInput;
type D = Directive<FormInput>;

impl HttpModule for FormInput {
    const NAME: &'static str = "ngx_http_form_input_module";
    const DIRECTIVES: &'static [D] = &[
        D::new("set_form_input", Contexts::HSL, Arity::between(1, 2), Set::Loc(set)),
        D::new("set_form_input_multi", Contexts::HSL, Arity::between(1, 2), Set::Loc(set)),
    ];
    type Main = ();
    type Loc = Loc;

    fn attach((): &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        // nginx: bodies are read in the rewrite phase of locations; a server's own script comes too early for them.
        if loc.used == Some(to.block) && to.kind != LocationKind::Server {
            to.before_script(ReadForm);
        }
        Ok(())
    }
}

/// Where the values of a form are asked for.
#[derive(Clone, Default)]
pub struct Loc {
    used: Option<BlockId>,
}
inherit!(Loc { used });

/// `set_form_input $variable [NAME]`: the name is the variable's unless given.
fn set(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    loc.used = Some(args.block);
    let variable = args.variable_name(0)?;
    let name = if args.len() > 1 { args.template(1)? } else { Template::literal(variable.as_bytes()) };
    let several = args.name() == "set_form_input_multi";
    let find: ndk::Function = Box::new(move |r, values, out| {
        let name = values.first().map_or(&[][..], |name| name);
        let Some(form) = form(r) else { return true };
        let mut found = fields(&form, name);
        if several {
            encode_list(found, out);
        } else {
            out.extend_from_slice(found.next().unwrap_or_default());
        }
        true
    });
    ndk::assign(args, variable, vec![name], find)
}

/// Whether the form was read. Kept in the request's context.
#[derive(Default)]
struct Read(Cell<bool>);

/// The form, if it was read and there is one.
fn form(r: &Request) -> Option<Bytes> {
    if !r.find_ctx::<Read>()?.0.get() {
        return None;
    }
    let body = r.body.borrow();
    if body.is_empty() {
        return Some(Bytes::new());
    }
    let bytes = body.bytes();
    if bytes.is_none() {
        moonrest_http::error!(
            r,
            "form-input: in-file buffer found. aborted. consider increasing your client_body_buffer_size setting"
        );
    }
    Some(bytes.unwrap_or_default())
}

/// The values of all fields of that name, in any case, as they were sent.
fn fields<'a>(form: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    form.split(|byte| *byte == b'&').filter_map(move |field| {
        let (given, value) = field.split_at_checked(name.len())?;
        let matches = !name.is_empty() && given.eq_ignore_ascii_case(name);
        if matches { value.strip_prefix(b"=") } else { None }
    })
}

/// Reads the body of a request that posts a form, before the location's script runs.
struct ReadForm;

const MEDIA_TYPE: &[u8] = b"application/x-www-form-urlencoded";

impl ScriptOp for ReadForm {
    fn run(&self, r: &RequestRef) -> Result<ScriptStep, RequestError> {
        let posts = matches!(r.method.get(), Method::Post | Method::Put);
        let is_form = |value: Option<&[u8]>| {
            value
                .and_then(|value| value.get(..MEDIA_TYPE.len()))
                .is_some_and(|start| start.eq_ignore_ascii_case(MEDIA_TYPE))
        };
        if !posts || !r.with_known(Known::ContentType, is_form) {
            return Ok(ScriptStep::Now(ScriptFlow::Next));
        }
        let read = r.ctx::<Read>();
        if body::read_at_once(r) {
            read.0.set(true);
            return Ok(ScriptStep::Now(ScriptFlow::Next));
        }
        let reading = body::read(r);
        Ok(ScriptStep::Wait(Box::pin(async move {
            reading.await?;
            read.0.set(true);
            Ok(ScriptFlow::Next)
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(form: &str, name: &str, expect: &[&str]) {
        let found: Vec<_> = fields(form.as_bytes(), name.as_bytes()).map(String::from_utf8_lossy).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        check("a=1&b=2&A=3", "a", &["1", "3"]);
        check("aa=1&a=", "a", &[""]);
        check("a&ba=1", "a", &[]);
        check("a=b=c&", "a", &["b=c"]);
        check("", "a", &[]);
        check("=1", "", &[]);
    }
}
