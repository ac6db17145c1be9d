//! `array_split`, `array_join`, `array_map`, `array_map_op`: variables that hold lists.
//! <https://github.com/openresty/array-var-nginx-module>

use crate::ndk::{self, PLACES, decode_list, encode_list};
use moonrest_core::Subject as _;
use moonrest_http::{module::Set, prelude::*};
use std::borrow::Cow;

/// The module.
pub struct ArrayVar;
type D = Directive<ArrayVar>;

const fn row(name: &'static str, arity: Arity, set: fn(&Args<'_>) -> ConfResult) -> D {
    // The function differs from row to row, so that it must be found by the directive's name.
    D::new(name, PLACES, arity, Set::Accepted(set))
}

impl HttpModule for ArrayVar {
    const NAME: &'static str = "ngx_http_array_var_module";
    const DIRECTIVES: &'static [D] = &[
        row("array_split", Arity::at_least(2), array_split),
        row("array_join", Arity::between(2, 3), array_join),
        row("array_map", Arity::between(2, 3), array_map),
        row("array_map_op", Arity::between(2, 3), array_map_op),
    ];
    const VARIABLES: &'static [VarDef<Request>] = &[VarDef::slot(ITEM)];
    type Main = ();
    type Loc = ();
}

/// The item that `array_map` makes another one of.
const ITEM: &str = "array_it";

type Values<'a> = [Cow<'a, [u8]>];

/// The variable of `to=$variable`, argument `n`; without one the variable that is argument 1.
fn target<'a>(args: &Args<'a>, n: Option<usize>) -> ConfResult<&'a str> {
    let text = match n {
        None => return args.variable_name(1),
        Some(n) => args.str(n)?.get(3..).unwrap_or_default(),
    };
    let name = text.strip_prefix('$').filter(|name| !name.is_empty());
    name.ok_or_else(|| Fault::message(format!("invalid variable name \"{text}\"")))
}

fn is_target(args: &Args<'_>, n: usize) -> bool {
    args.bytes(n).is_ok_and(|text| text.starts_with(b"to="))
}

fn unexpected(args: &Args<'_>, n: usize) -> Fault {
    Fault::message(format!("{}: unexpected argument \"{}\"", args.name(), args.lossy(n)))
}

/// `array_split SEPARATOR VALUE [MOST] [to=$variable]`.
fn array_split(args: &Args<'_>) -> ConfResult {
    let to = match args.len() {
        2 => None,
        3 if is_target(args, 2) => Some(2),
        3 => None,
        4 if is_target(args, 2) => return Err(unexpected(args, 3)),
        4 if is_target(args, 3) => Some(3),
        4 => {
            return Err(Fault::message(format!(
                "array_split: expecting the \"to\" option at the 4th argument: \"{}\"",
                args.lossy(3)
            )));
        }
        _ if is_target(args, 2) => return Err(unexpected(args, 3)),
        _ => return Err(unexpected(args, 4)),
    };
    let count = to.unwrap_or(args.len());
    let values = (0..count).map(|n| args.template(n)).collect::<ConfResult<_>>()?;
    ndk::assign(args, target(args, to)?, values, Box::new(split))
}

fn split(r: &Request, values: &Values<'_>, out: &mut Vec<u8>) -> bool {
    let [separator, text, most @ ..] = values else { return false };
    let most = match most {
        [] => 0,
        [most, ..] => match moonrest_core::conf::value::parse_uint(most) {
            Some(most) => usize::try_from(most).unwrap_or(usize::MAX),
            None => {
                let most = String::from_utf8_lossy(most);
                moonrest_http::error!(r, "array_split: invalid max items: \"{most}\"");
                return false;
            }
        },
    };
    encode_list(parts(separator, text, most), out);
    true
}

/// The parts of a text, at most so many; 0 is unlimited. Without a separator every byte is a part.
fn parts<'a>(separator: &[u8], text: &'a [u8], most: usize) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut rest = text;
    while most == 0 || parts.len() + 1 < most {
        let found = if separator.is_empty() {
            (rest.len() > 1).then_some(1)
        } else {
            memchr::memmem::find(rest, separator)
        };
        let Some(at) = found else { break };
        let (part, behind) = rest.split_at(at);
        parts.push(part);
        rest = behind.get(separator.len()..).unwrap_or_default();
    }
    parts.push(rest);
    parts
}

/// The variable of a directive that is `NAME WHAT LIST [to=$variable]`.
fn in_place_or_to<'a>(args: &Args<'a>) -> ConfResult<&'a str> {
    match args.len() {
        2 => target(args, None),
        _ if is_target(args, 2) => target(args, Some(2)),
        _ => Err(unexpected(args, 2)),
    }
}

/// The items of a list, or a complaint.
fn items<'a>(r: &Request, who: &str, value: &'a [u8]) -> Option<Vec<&'a [u8]>> {
    let items = decode_list(value);
    if items.is_none() {
        let value = String::from_utf8_lossy(value);
        moonrest_http::error!(r, "{who}: invalid array variable value in the 2nd argument: \"{value}\"");
    }
    items
}

/// `array_join SEPARATOR LIST [to=$variable]`.
fn array_join(args: &Args<'_>) -> ConfResult {
    let values = vec![args.template(0)?, args.template(1)?];
    let join: ndk::Function = Box::new(|r, values, out| {
        let [separator, list] = values else { return false };
        let Some(items) = items(r, "array_join", list) else { return false };
        out.extend(items.join(&**separator));
        true
    });
    ndk::assign(args, in_place_or_to(args)?, values, join)
}

/// `array_map TEMPLATE LIST [to=$variable]`: the template's value for each `$array_it`.
fn array_map(args: &Args<'_>) -> ConfResult {
    let template = args.template(0)?;
    if args.len() == 3 && !is_target(args, 2) {
        return Err(Fault::message(format!(
            "array_map: expecting the \"to\" option at the 3rd argument: \"{}\"",
            args.lossy(2)
        )));
    }
    let map: ndk::Function = Box::new(move |r, values, out| {
        let [list] = values else { return false };
        let Some(items) = items(r, "array_map", list) else { return false };
        let Some(item) = r.vars().find(ITEM) else { return false };
        let results = items.into_iter().map(|value| {
            r.vars().assign(r, item, Some(value));
            template.eval(r).into_owned()
        });
        let results: Vec<Vec<u8>> = results.collect();
        r.slots().borrow_mut().forget(item);
        encode_list(results.iter().map(Vec::as_slice), out);
        true
    });
    ndk::assign(args, in_place_or_to(args)?, vec![args.template(1)?], map)
}

/// `array_map_op DIRECTIVE LIST [to=$variable]`: what a directive of one value makes of each item.
fn array_map_op(args: &Args<'_>) -> ConfResult {
    let values = vec![args.template(0)?, args.template(1)?];
    let map: ndk::Function = Box::new(|r, values, out| {
        let [name, list] = values else { return false };
        let functions = || r.http().registry.iter().flat_map(|module| module.value_functions());
        let Some(function) = functions().find(|function| function.name.as_bytes() == &**name) else {
            let name = String::from_utf8_lossy(name);
            moonrest_http::error!(
                r,
                "array_map_op: directive \"{name}\" not found or does not use ndk_set_var_value"
            );
            return false;
        };
        let Some(items) = items(r, "array_map_op", list) else { return false };
        let mut results = Vec::with_capacity(items.len());
        for item in items {
            let mut result = Vec::new();
            if !(function.call)(Some(r), item, &mut result) {
                return false;
            }
            results.push(result);
        }
        encode_list(results.iter().map(Vec::as_slice), out);
        true
    });
    ndk::assign(args, in_place_or_to(args)?, values, map)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(separator: &str, text: &str, most: usize, expect: &[&str]) {
        let expect: Vec<&[u8]> = expect.iter().map(|part| part.as_bytes()).collect();
        assert_eq!(parts(separator.as_bytes(), text.as_bytes(), most), expect);
    }

    #[test]
    fn texts_fall_into_parts() {
        check(",", "a,b,c", 0, &["a", "b", "c"]);
        check(",", "a,b,c", 2, &["a", "b,c"]);
        check(",", "a,b,c", 1, &["a,b,c"]);
        check(",", ",", 0, &["", ""]);
        check(", ", "a, b,c, ", 0, &["a", "b,c", ""]);
        check("", "abc", 0, &["a", "b", "c"]);
        check("", "abc", 2, &["a", "bc"]);
        check("", "", 0, &[""]);
        check(",", "", 0, &[""]);
    }
}
