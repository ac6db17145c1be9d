//! Certificates, extensions and requests, made.

use super::{answer, define_type, digest::optional_algorithm, done, object, with, x509};
use moonrest_crypto::{
    bn::BigNum,
    pkey::Key,
    x509::{AltName, Certificate, Party},
    x509_make::{ExtensionObject, Request, alt_names_text},
};
use moonrest_luajit::{Call, LuaError, LuaResult, Nil, Return, Table, Value};

/// What certificates can do beside being read.
pub(super) const CERTIFICATE: &[(&str, super::Function)] = &[
    ("set_version", |call| {
        let version: f64 = call.arg(2)?;
        let set = with(call, 1, |it: &Certificate| it.set_version(version as i64))?;
        done(call, set)
    }),
    ("set_serial_number", |call| {
        let set = with(call, 1, |it: &Certificate| with(call, 2, |n: &BigNum| it.set_serial_number(n)))??;
        done(call, set)
    }),
    ("set_not_before", |call| {
        let seconds: f64 = call.arg(2)?;
        let set = with(call, 1, |it: &Certificate| it.set_not_before(seconds as i64))?;
        done(call, set)
    }),
    ("set_not_after", |call| {
        let seconds: f64 = call.arg(2)?;
        let set = with(call, 1, |it: &Certificate| it.set_not_after(seconds as i64))?;
        done(call, set)
    }),
    ("set_public_key", |call| {
        let set = with(call, 1, |it: &Certificate| with(call, 2, |key: &Key| it.set_public_key(key)))??;
        done(call, set)
    }),
    ("set_name", |call| {
        let party = if call.arg::<&[u8]>(2)? == b"issuer" { Party::Issuer } else { Party::Subject };
        let parts = name_parts(call, 3)?;
        let set = with(call, 1, |it: &Certificate| it.set_name(party, &parts))?;
        done(call, set)
    }),
    ("add_extension", |call| {
        let place: Option<f64> = super::optional(call, 3)?;
        let place = place.map(|place| place as usize);
        let added = with(call, 1, |it: &Certificate| {
            with(call, 2, |extension: &ExtensionObject| it.add_extension(extension, place))
        })??;
        done(call, added)
    }),
    ("remove_extension", |call| {
        let place = super::integer(call, 2, 0.0, 1e6)? as usize;
        with(call, 1, |it: &Certificate| it.remove_extension(place))?;
        call.ret(true)
    }),
    ("sign", |call| {
        let digest = optional_algorithm(call, 3)?;
        let signed = with(call, 1, |it: &Certificate| with(call, 2, |key: &Key| it.sign(key, digest)))??;
        done(call, signed)
    }),
    ("extension_object", |call| {
        let place = super::integer(call, 2, 0.0, 1e6)? as usize;
        match with(call, 1, |it: &Certificate| ExtensionObject::of(it, place))? {
            Some(extension) => object(call, Ok(extension)),
            None => call.ret(Nil),
        }
    }),
];

const REQUEST: &[(&str, super::Function)] = &[
    ("write", |call| {
        let is_pem = call.arg::<&[u8]>(2)? == b"PEM";
        let text = with(call, 1, |it: &Request| if is_pem { it.to_pem() } else { it.to_der() })?;
        answer(call, text.as_deref())
    }),
    ("version", |call| {
        let version = with(call, 1, Request::version)?;
        call.ret(version as f64)
    }),
    ("set_version", |call| {
        let version: f64 = call.arg(2)?;
        let set = with(call, 1, |it: &Request| it.set_version(version as i64))?;
        done(call, set)
    }),
    ("public_key", |call| {
        let key = with(call, 1, Request::public_key)?;
        object(call, key)
    }),
    ("set_public_key", |call| {
        let set = with(call, 1, |it: &Request| with(call, 2, |key: &Key| it.set_public_key(key)))??;
        done(call, set)
    }),
    ("check_private_key", |call| {
        let fits = with(call, 1, |it: &Request| with(call, 2, |key: &Key| it.check_private_key(key)))??;
        done(call, fits)
    }),
    ("name", |call| {
        let entries = with(call, 1, Request::name)?;
        let list = x509::name_list(call, entries)?;
        call.ret(list)
    }),
    ("set_name", |call| {
        let parts = name_parts(call, 2)?;
        let set = with(call, 1, |it: &Request| it.set_name(&parts))?;
        done(call, set)
    }),
    ("extensions", |call| {
        let extensions = with(call, 1, Request::extensions)?;
        let list = call.table(extensions.len(), 0)?;
        for extension in extensions {
            let extension = call.userdata(extension)?;
            list.append(call, extension)?;
        }
        call.ret(list)
    }),
    ("set_extensions", set_extensions),
    ("sign", |call| {
        let digest = optional_algorithm(call, 3)?;
        let signed = with(call, 1, |it: &Request| with(call, 2, |key: &Key| it.sign(key, digest)))??;
        done(call, signed)
    }),
    ("is_signed_by", |call| {
        let signed = with(call, 1, |it: &Request| with(call, 2, |key: &Key| it.is_signed_by(key)))??;
        answer(call, signed.as_ref().map(|signed| *signed))
    }),
    ("signature", |call| {
        let nid = with(call, 1, Request::signature)?;
        call.ret(f64::from(nid))
    }),
];

pub(super) fn install(call: &mut Call<'_>, module: Table<'_>) -> LuaResult<()> {
    define_type::<Request>(call, module, "is_csr", REQUEST)?;
    define_type::<ExtensionObject>(
        call,
        module,
        "is_extension",
        &[
            ("describe", |call| {
                let extension = with(call, 1, ExtensionObject::describe)?;
                let row = x509::extension_row(call, extension)?;
                call.ret(row)
            }),
            ("set_critical", |call| {
                let critical = super::boolean(call, 2);
                let set = with(call, 1, |it: &ExtensionObject| it.set_critical(critical))?;
                done(call, set)
            }),
        ],
    )?;
    super::super::define(
        call,
        module,
        &[
            ("x509_new", |call| object(call, Certificate::new())),
            ("csr_new", |call| object(call, Request::new())),
            ("csr_read", |call| {
                let text: &[u8] = call.arg(1)?;
                let is_pem = call.arg::<&[u8]>(2)? == b"PEM";
                object(call, if is_pem { Request::from_pem(text) } else { Request::from_der(text) })
            }),
            ("extension_from_text", extension_from_text),
            ("extension_from_der", |call| {
                let (der, nid): (&[u8], f64) = (call.arg(1)?, call.arg(2)?);
                object(call, ExtensionObject::from_der(nid as i32, der, super::boolean(call, 3)))
            }),
            ("alt_names_text", |call| {
                let names = alt_names(call, 1)?;
                let text = alt_names_text(&names);
                answer(call, text.as_deref())
            }),
        ],
    )
}

/// The parts of a name: a list of number and text in turn.
pub(super) fn name_parts(call: &Call<'_>, n: u32) -> LuaResult<Vec<(i32, Vec<u8>)>> {
    let list: Table<'_> = call.arg(n)?;
    let mut parts = Vec::new();
    for place in (1..=list.raw_len(call)).step_by(2) {
        let (nid, text) =
            (list.raw_index(call, place)?.as_number(), list.raw_index(call, place + 1)?.as_bytes());
        let (Some(nid), Some(text)) = (nid, text) else {
            return Err(LuaError::argument(n, "number and text expected in turn"));
        };
        parts.push((nid as i32, text.to_vec()));
    }
    Ok(parts)
}

/// Other names: a list of kind and value in turn.
fn alt_names(call: &Call<'_>, n: u32) -> LuaResult<Vec<AltName>> {
    let list: Table<'_> = call.arg(n)?;
    let mut names = Vec::new();
    for place in (1..=list.raw_len(call)).step_by(2) {
        let kind = match list.raw_index(call, place)?.as_bytes() {
            Some(b"DNS") => "DNS",
            Some(b"email") => "email",
            Some(b"URI") => "URI",
            Some(b"IP") => "IP",
            _ => return Err(LuaError::argument(n, "a kind of name that cannot be written")),
        };
        let value = list.raw_index(call, place + 1)?.as_bytes().unwrap_or_default().to_vec();
        names.push(AltName { kind, value });
    }
    Ok(names)
}

/// `extension_from_text(nid, text, issuer, subject) -> extension or nil, error`.
fn extension_from_text(call: &mut Call<'_>) -> LuaResult<Return> {
    let nid: f64 = call.arg(1)?;
    let text = super::text(call, 2)?;
    let certificate = |n: u32| match call.value(n as usize) {
        Value::Nil => Ok(None),
        _ => with(call, n, |it: &Certificate| Some(it.share())),
    };
    let (issuer, subject) = (certificate(3)?, certificate(4)?);
    object(call, ExtensionObject::from_text(nid as i32, &text, issuer.as_ref(), subject.as_ref()))
}

/// `csr:set_extensions(list) -> true or nil, error`.
fn set_extensions(call: &mut Call<'_>) -> LuaResult<Return> {
    let list: Table<'_> = call.arg(2)?;
    let mut extensions = Vec::new();
    for n in 1..=list.raw_len(call) {
        if let Value::Userdata(extension) = list.raw_index(call, n)?
            && let Some(extension) = extension.get::<ExtensionObject>(call)
        {
            let described = extension.describe();
            extensions.push(ExtensionObject::from_der(described.nid, &described.der, described.is_critical));
        }
    }
    let added = with(call, 1, |it: &Request| {
        let extensions = extensions.into_iter().collect::<Result<Vec<_>, _>>()?;
        it.set_extensions(&extensions)
    })?;
    done(call, added)
}
