//! `cjson` and `cjson.safe`: the functions; reading and writing are in `moonrest_luajit::json`.
//! <https://github.com/openresty/lua-cjson>

use moonrest_luajit::{
    Call, ErrorKind, Function, Light, LuaError, LuaResult, Nil, Return, Stack, Table, Value,
    json::{self, Decoding, Encoding, InvalidNumbers, Settings},
};
use std::rc::Rc;

/// The fork's version whose behaviour this is.
const VERSION: &str = "2.1.0.19";

type Instance = Rc<Settings>;
type Body = fn(&mut Call<'_>, &Instance) -> LuaResult<Return>;

/// The functions of an instance, but for `new`.
const FUNCTIONS: &[(&str, Body)] = &[
    ("encode_empty_table_as_object", |call, cjson| {
        encode_switch(call, cjson, |set| &mut set.empty_table_as_object)
    }),
    ("encode_escape_forward_slash", |call, cjson| {
        encode_switch(call, cjson, |set| &mut set.escape_forward_slash)
    }),
    ("encode_skip_unsupported_value_types", |call, cjson| {
        encode_switch(call, cjson, |set| &mut set.skip_unsupported)
    }),
    ("encode_keep_buffer", encode_keep_buffer),
    ("encode_sparse_array", encode_sparse_array),
    ("encode_max_depth", |call, cjson| encode_number(call, cjson, 1, i32::MAX, |set| &mut set.max_depth)),
    ("encode_number_precision", |call, cjson| {
        encode_number(call, cjson, 1, 16, |set| &mut set.number_precision)
    }),
    ("encode_invalid_numbers", encode_invalid_numbers),
    ("encode_indent", encode_indent),
    ("decode_array_with_array_mt", |call, cjson| {
        decode_switch(call, cjson, |set| &mut set.array_with_array_mt)
    }),
    ("decode_allow_comment", |call, cjson| decode_switch(call, cjson, |set| &mut set.allow_comment)),
    ("decode_invalid_numbers", |call, cjson| decode_switch(call, cjson, |set| &mut set.invalid_numbers)),
    ("decode_max_depth", decode_max_depth),
];

/// Makes `cjson`.
pub(super) fn open(call: &mut Call<'_>) -> LuaResult<Return> {
    let cjson = instance(call, false)?;
    call.ret(cjson)
}

/// Makes `cjson.safe`.
pub(super) fn open_safe(call: &mut Call<'_>) -> LuaResult<Return> {
    let cjson = instance(call, true)?;
    call.ret(cjson)
}

fn instance<'s>(stack: &Stack<'s>, is_safe: bool) -> LuaResult<Table<'s>> {
    let cjson = stack.table(0, 24)?;
    let settings = Rc::new(Settings::new(stack)?);
    for (name, body) in FUNCTIONS {
        let function =
            stack.function_with((settings.clone(), *body), |call, (settings, body)| body(call, settings))?;
        cjson.raw_set(stack, *name, function)?;
    }
    let (new, encode, decode): (Function<'_>, _, _) = if is_safe {
        (
            stack.function(open_safe)?,
            stack.function_with(settings.clone(), |call, settings| safely(call, settings, encode))?,
            stack.function_with(settings, |call, settings| safely(call, settings, decode))?,
        )
    } else {
        (
            stack.function(open)?,
            stack.function_with(settings.clone(), encode)?,
            stack.function_with(settings, decode)?,
        )
    };
    cjson.raw_set(stack, "new", new)?;
    cjson.raw_set(stack, "encode", encode)?;
    cjson.raw_set(stack, "decode", decode)?;
    cjson.raw_set(stack, "null", Light(0))?;
    cjson.raw_set(stack, "empty_array", json::empty_array())?;
    cjson.raw_set(stack, "empty_array_mt", json::empty_array_mt(stack)?)?;
    cjson.raw_set(stack, "array_mt", json::array_mt(stack)?)?;
    cjson.raw_set(stack, "_NAME", "cjson")?;
    cjson.raw_set(stack, "_VERSION", VERSION)?;
    Ok(cjson)
}

fn one_argument(call: &Call<'_>) -> LuaResult<()> {
    if call.args_len() == 1 { Ok(()) } else { Err(LuaError::argument(1, "expected 1 argument")) }
}

fn encode(call: &mut Call<'_>, settings: &Instance) -> LuaResult<Return> {
    one_argument(call)?;
    settings.encode(call, 1)?;
    Ok(call.ret_from(call.len()))
}

fn decode(call: &mut Call<'_>, settings: &Instance) -> LuaResult<Return> {
    one_argument(call)?;
    let _: &[u8] = call.arg(1)?;
    settings.decode(call, 1)?;
    Ok(call.ret_from(call.len()))
}

/// Answers nil and the message instead of raising, but for a wrong number of arguments.
fn safely(call: &mut Call<'_>, settings: &Instance, convert: Body) -> LuaResult<Return> {
    one_argument(call)?;
    match convert(call, settings) {
        Err(error) if error.kind() == ErrorKind::Memory => Err(error),
        Err(error) => match error.kind() {
            // Upstream calls the function from C, which knows no name.
            ErrorKind::Argument(n) => {
                let message =
                    [format!("bad argument #{n} to '?' (").as_bytes(), error.message(), b")"].concat();
                call.ret((Nil, message))
            }
            _ => call.ret((Nil, error.message())),
        },
        done => done,
    }
}

fn at_most(call: &Call<'_>, count: u32) -> LuaResult<()> {
    if call.args_len() <= count as usize {
        return Ok(());
    }
    Err(LuaError::argument(count + 1, "found too many arguments"))
}

/// The argument as one of these words, or as a boolean: `false` is the first, `true` the second.
fn word(call: &Call<'_>, n: u32, words: &[&str]) -> LuaResult<Option<usize>> {
    match call.value(n as usize) {
        Value::Nil => Ok(None),
        Value::Boolean(value) => Ok(Some(usize::from(value))),
        _ => {
            let given: &[u8] = call.arg(n)?;
            match words.iter().position(|word| word.as_bytes() == given) {
                Some(at) => Ok(Some(at)),
                None => Err(LuaError::argument(n, [b"invalid option '", given, b"'"].concat())),
            }
        }
    }
}

fn switch(call: &Call<'_>, n: u32, setting: &mut bool) -> LuaResult<()> {
    if let Some(at) = word(call, n, &["off", "on"])? {
        *setting = at == 1;
    }
    Ok(())
}

fn integer(call: &Call<'_>, n: u32, min: i32, max: i32, setting: &mut i32) -> LuaResult<()> {
    if matches!(call.value(n as usize), Value::Nil) {
        return Ok(());
    }
    let value: f64 = call.arg(n)?;
    if !(f64::from(min)..=f64::from(max)).contains(&value.trunc()) {
        // Upstream blames the first argument, whichever it is.
        return Err(LuaError::argument(1, format!("expected integer between {min} and {max}")));
    }
    *setting = value as i32;
    Ok(())
}

fn encode_switch(
    call: &mut Call<'_>,
    cjson: &Instance,
    field: fn(&mut Encoding) -> &mut bool,
) -> LuaResult<Return> {
    at_most(call, 1)?;
    let mut set = cjson.encoding.get();
    switch(call, 1, field(&mut set))?;
    cjson.encoding.set(set);
    call.ret(*field(&mut set))
}

fn decode_switch(
    call: &mut Call<'_>,
    cjson: &Instance,
    field: fn(&mut Decoding) -> &mut bool,
) -> LuaResult<Return> {
    at_most(call, 1)?;
    let mut set = cjson.decoding.get();
    switch(call, 1, field(&mut set))?;
    cjson.decoding.set(set);
    call.ret(*field(&mut set))
}

fn encode_number(
    call: &mut Call<'_>,
    cjson: &Instance,
    min: i32,
    max: i32,
    field: fn(&mut Encoding) -> &mut i32,
) -> LuaResult<Return> {
    at_most(call, 1)?;
    let mut set = cjson.encoding.get();
    integer(call, 1, min, max, field(&mut set))?;
    cjson.encoding.set(set);
    call.ret(f64::from(*field(&mut set)))
}

fn decode_max_depth(call: &mut Call<'_>, cjson: &Instance) -> LuaResult<Return> {
    at_most(call, 1)?;
    let mut set = cjson.decoding.get();
    integer(call, 1, 1, i32::MAX, &mut set.max_depth)?;
    cjson.decoding.set(set);
    call.ret(f64::from(set.max_depth))
}

fn encode_keep_buffer(call: &mut Call<'_>, cjson: &Instance) -> LuaResult<Return> {
    let answer = encode_switch(call, cjson, |set| &mut set.keep_buffer)?;
    if !cjson.encoding.get().keep_buffer {
        cjson.free_buffer();
    }
    Ok(answer)
}

fn encode_sparse_array(call: &mut Call<'_>, cjson: &Instance) -> LuaResult<Return> {
    at_most(call, 3)?;
    let mut set = cjson.encoding.get();
    switch(call, 1, &mut set.sparse_convert)?;
    integer(call, 2, 0, i32::MAX, &mut set.sparse_ratio)?;
    integer(call, 3, 0, i32::MAX, &mut set.sparse_safe)?;
    cjson.encoding.set(set);
    call.ret((set.sparse_convert, f64::from(set.sparse_ratio), f64::from(set.sparse_safe)))
}

fn encode_invalid_numbers(call: &mut Call<'_>, cjson: &Instance) -> LuaResult<Return> {
    at_most(call, 1)?;
    let mut set = cjson.encoding.get();
    match word(call, 1, &["off", "on", "null"])? {
        Some(0) => set.invalid_numbers = InvalidNumbers::Refused,
        Some(1) => set.invalid_numbers = InvalidNumbers::Written,
        Some(_) => set.invalid_numbers = InvalidNumbers::Null,
        None => {}
    }
    cjson.encoding.set(set);
    match set.invalid_numbers {
        InvalidNumbers::Refused => call.ret(false),
        InvalidNumbers::Written => call.ret(true),
        InvalidNumbers::Null => call.ret("null"),
    }
}

fn encode_indent(call: &mut Call<'_>, cjson: &Instance) -> LuaResult<Return> {
    at_most(call, 1)?;
    if !matches!(call.value(1), Value::Nil) {
        let text: &[u8] = call.arg(1)?;
        *cjson.indent.borrow_mut() = (!text.is_empty()).then(|| text.into());
    }
    let indent = cjson.indent.borrow().clone();
    call.ret(indent.as_deref().unwrap_or_default())
}
