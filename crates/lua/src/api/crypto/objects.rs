//! The names and numbers of things in ASN.1.

use moonrest_crypto::objects;
use moonrest_luajit::{Call, LuaResult, Nil, Return, Table};

pub(super) fn install(call: &mut Call<'_>, module: Table<'_>) -> LuaResult<()> {
    super::super::define(
        call,
        module,
        &[
            ("nid", nid),
            ("names", names),
            ("signature_digest", |call| {
                let number: f64 = call.arg(1)?;
                let digest = objects::signature_digest(number as i32);
                call.ret(digest.map(f64::from))
            }),
        ],
    )
}

/// `nid(text) -> number or nil`.
fn nid(call: &mut Call<'_>) -> LuaResult<Return> {
    call.ret(objects::nid(&super::text(call, 1)?).map(f64::from))
}

/// `names(number) -> short name, long name, dotted identifier or nil`.
fn names(call: &mut Call<'_>) -> LuaResult<Return> {
    let number: f64 = call.arg(1)?;
    let nid = number as i32;
    match (objects::short_name(nid), objects::long_name(nid), objects::dotted(nid)) {
        (Some(short), Some(long), dotted) => call.ret((short, long, dotted.unwrap_or_default())),
        _ => call.ret(Nil),
    }
}
