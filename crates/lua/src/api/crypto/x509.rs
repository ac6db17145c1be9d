//! Certificates, read, and stores of trusted ones.

use super::{answer, define_type, digest::algorithm, done, object, with};
use moonrest_crypto::{
    pkey::Key,
    x509::{AltName, Certificate, Extension, NameEntry, Party, Store, all_from_pem, purpose},
    x509_crl::Crl,
};
use moonrest_luajit::{Call, LuaError, LuaResult, Nil, Return, Stack, Table};

pub(super) fn install(call: &mut Call<'_>, module: Table<'_>) -> LuaResult<()> {
    super::define_type_with::<Certificate>(
        call,
        module,
        "is_x509",
        &[CERTIFICATE, super::x509_make::CERTIFICATE],
    )?;
    define_type::<Store>(call, module, "is_store", STORE)?;
    super::super::define(
        call,
        module,
        &[
            ("x509_read", read),
            ("x509_read_all", read_all),
            ("x509_store", |call| object(call, Store::new())),
            ("x509_purpose", |call| {
                let number = purpose(&super::text(call, 1)?);
                call.ret(number.map(f64::from))
            }),
        ],
    )
}

const CERTIFICATE: &[(&str, super::Function)] = &[
    ("write", write),
    ("digest", digest),
    ("public_key", |call| {
        let key = with(call, 1, Certificate::public_key)?;
        object(call, key)
    }),
    ("check_private_key", |call| {
        let fits = with(call, 1, |it: &Certificate| with(call, 2, |key: &Key| it.check_private_key(key)))??;
        done(call, fits)
    }),
    ("is_signed_by", |call| {
        let signed = with(call, 1, |it: &Certificate| with(call, 2, |key: &Key| it.is_signed_by(key)))??;
        answer(call, signed.as_ref().map(|signed| *signed))
    }),
    ("version", |call| {
        let version = with(call, 1, Certificate::version)?;
        call.ret(version as f64)
    }),
    ("serial_number", |call| {
        let number = with(call, 1, Certificate::serial_number)?;
        object(call, number)
    }),
    ("lifetime", |call| {
        let times = with(call, 1, Certificate::lifetime)?;
        answer(call, times.as_ref().map(|(from, until)| (*from as f64, *until as f64)))
    }),
    ("signature", |call| {
        let (algorithm, digest) = with(call, 1, Certificate::signature)?;
        call.ret((f64::from(algorithm), f64::from(digest)))
    }),
    ("signature_digest", |call| {
        let digest = with(call, 1, Certificate::signature_digest)?;
        call.ret(digest.and_then(moonrest_crypto::objects::short_name))
    }),
    ("name", name),
    ("find_extension", find_extension),
    ("extension", extension),
    ("extensions_len", |call| {
        let len = with(call, 1, Certificate::extensions_len)?;
        call.ret(len as f64)
    }),
    ("alt_names", alt_names),
    ("basic_constraints", basic_constraints),
    ("ocsp_urls", ocsp_urls),
    ("crl_points", crl_points),
];

const STORE: &[(&str, super::Function)] = &[
    ("add", |call| {
        let added = with(call, 1, |store: &Store| with(call, 2, |it: &Certificate| store.add(it)))??;
        done(call, added)
    }),
    ("add_crl", |call| {
        let added = with(call, 1, |store: &Store| with(call, 2, |it: &Crl| store.add_crl(it)))??;
        done(call, added)
    }),
    ("use_default", |call| {
        let loaded = with(call, 1, Store::use_default)?;
        done(call, loaded)
    }),
    ("load_file", |call| {
        let path = super::text(call, 2)?;
        let loaded = with(call, 1, |store: &Store| store.load_file(&path))?;
        done(call, loaded)
    }),
    ("load_directory", |call| {
        let path = super::text(call, 2)?;
        let loaded = with(call, 1, |store: &Store| store.load_directory(&path))?;
        done(call, loaded)
    }),
    ("set_depth", |call| {
        let depth: f64 = call.arg(2)?;
        let set = with(call, 1, |store: &Store| store.set_depth(depth as i32))?;
        done(call, set)
    }),
    ("set_flags", |call| {
        let flags: f64 = call.arg(2)?;
        let set = with(call, 1, |store: &Store| store.set_flags(flags as u32))?;
        done(call, set)
    }),
    ("set_purpose", |call| {
        let number: f64 = call.arg(2)?;
        let set = with(call, 1, |store: &Store| store.set_purpose(number as i32))?;
        done(call, set)
    }),
    ("verify", verify),
];

/// `x509_read(text, format) -> certificate or nil, error`; the format is PEM or DER.
fn read(call: &mut Call<'_>) -> LuaResult<Return> {
    let text: &[u8] = call.arg(1)?;
    let certificate = match call.arg::<&[u8]>(2)? {
        b"PEM" => Certificate::from_pem(text),
        _ => Certificate::from_der(text),
    };
    object(call, certificate)
}

/// `x509_read_all(pem) -> certificates`.
fn read_all(call: &mut Call<'_>) -> LuaResult<Return> {
    let text: &[u8] = call.arg(1)?;
    let list = call.table(1, 0)?;
    for certificate in all_from_pem(text) {
        let certificate = call.userdata(certificate)?;
        list.append(call, certificate)?;
    }
    call.ret(list)
}

/// `certificate:write(format) -> text or nil, error`.
fn write(call: &mut Call<'_>) -> LuaResult<Return> {
    let is_pem = call.arg::<&[u8]>(2)? == b"PEM";
    let text = with(call, 1, |it: &Certificate| if is_pem { it.to_pem() } else { it.to_der() })?;
    answer(call, text.as_deref())
}

/// `certificate:digest(name, key_only) -> bytes or nil, error`; nothing but nil for an unknown digest.
fn digest(call: &mut Call<'_>) -> LuaResult<Return> {
    let Some(algorithm) = algorithm(call, 2)? else { return call.ret(Nil) };
    let key_only = super::boolean(call, 3);
    let made = with(call, 1, |it: &Certificate| it.digest(algorithm, key_only))?;
    answer(call, made.as_deref())
}

fn party(call: &Call<'_>) -> LuaResult<Party> {
    match call.arg::<&[u8]>(2)? {
        b"subject" => Ok(Party::Subject),
        b"issuer" => Ok(Party::Issuer),
        _ => Err(LuaError::argument(2, "subject or issuer expected")),
    }
}

/// `certificate:name(party) -> { { nid = …, id = …, blob = … }, … }`.
fn name(call: &mut Call<'_>) -> LuaResult<Return> {
    let party = party(call)?;
    let entries = with(call, 1, |it: &Certificate| it.name(party))?;
    let list = name_list(call, entries)?;
    call.ret(list)
}

pub(super) fn name_list<'s>(stack: &Stack<'s>, entries: Vec<NameEntry>) -> LuaResult<Table<'s>> {
    let list = stack.table(entries.len(), 0)?;
    for entry in entries {
        let row = stack.table(0, 3)?;
        row.raw_set(stack, "nid", f64::from(entry.nid))?;
        row.raw_set(stack, "id", entry.dotted)?;
        row.raw_set(stack, "blob", entry.value)?;
        list.append(stack, row)?;
    }
    Ok(list)
}

/// `certificate:find_extension(nid, after) -> place or nil`, counted from 0.
fn find_extension(call: &mut Call<'_>) -> LuaResult<Return> {
    let (nid, after): (f64, Option<f64>) = (call.arg(2)?, super::optional(call, 3)?);
    let after = after.filter(|after| *after >= 0.0).map(|after| after as usize);
    let place = with(call, 1, |it: &Certificate| it.find_extension(nid as i32, after))?;
    call.ret(place.map(|place| place as f64))
}

/// `certificate:extension(place) -> { nid, id, critical, der, text } or nil`.
fn extension(call: &mut Call<'_>) -> LuaResult<Return> {
    let place = super::integer(call, 2, 0.0, 1e6)? as usize;
    match with(call, 1, |it: &Certificate| it.extension(place))? {
        Some(extension) => {
            let row = extension_row(call, extension)?;
            call.ret(row)
        }
        None => call.ret(Nil),
    }
}

pub(super) fn extension_row<'s>(stack: &Stack<'s>, extension: Extension) -> LuaResult<Table<'s>> {
    let row = stack.table(0, 5)?;
    row.raw_set(stack, "nid", f64::from(extension.nid))?;
    row.raw_set(stack, "id", extension.dotted)?;
    row.raw_set(stack, "critical", extension.is_critical)?;
    row.raw_set(stack, "der", extension.der)?;
    row.raw_set(stack, "text", extension.text)?;
    Ok(row)
}

/// A list of kind and value in turn.
fn names_list<'s>(stack: &Stack<'s>, names: Vec<AltName>) -> LuaResult<Table<'s>> {
    let list = stack.table(names.len() * 2, 0)?;
    for name in names {
        list.append(stack, name.kind)?;
        list.append(stack, name.value)?;
    }
    Ok(list)
}

/// `certificate:alt_names(party) -> { kind, value, … } or nil`.
fn alt_names(call: &mut Call<'_>) -> LuaResult<Return> {
    let party = party(call)?;
    match with(call, 1, |it: &Certificate| it.alt_names(party))? {
        Some(names) => {
            let list = names_list(call, names)?;
            call.ret(list)
        }
        None => call.ret(Nil),
    }
}

/// `certificate:basic_constraints() -> is_authority, path_len`, or nothing.
fn basic_constraints(call: &mut Call<'_>) -> LuaResult<Return> {
    match with(call, 1, Certificate::basic_constraints)? {
        Some((is_authority, len)) => call.ret((is_authority, len.map(|len| len as f64))),
        None => call.ret(Nil),
    }
}

fn ocsp_urls(call: &mut Call<'_>) -> LuaResult<Return> {
    let urls = with(call, 1, Certificate::ocsp_urls)?;
    let list = call.table(urls.len(), 0)?;
    for url in urls {
        list.append(call, url)?;
    }
    call.ret(list)
}

/// `certificate:crl_points() -> { { kind, value, … }, … }`.
fn crl_points(call: &mut Call<'_>) -> LuaResult<Return> {
    let points = with(call, 1, Certificate::crl_points)?;
    let list = call.table(points.len(), 0)?;
    for names in points {
        let names = names_list(call, names)?;
        list.append(call, names)?;
    }
    call.ret(list)
}

/// `store:verify(certificate, others, purpose, flags) -> chain or nil, error`.
fn verify(call: &mut Call<'_>) -> LuaResult<Return> {
    let others = super::x509_crl::certificates(call, 3)?;
    let purpose: Option<f64> = super::optional(call, 4)?;
    let flags: Option<f64> = super::optional(call, 5)?;
    let (purpose, flags) = (purpose.map(|purpose| purpose as i32), flags.unwrap_or(0.0) as u32);
    let chain = with(call, 1, |store: &Store| {
        with(call, 2, |certificate: &Certificate| store.verify(certificate, &others, purpose, flags))
    })??;
    match chain {
        Ok(chain) => {
            let list = call.table(chain.len(), 0)?;
            for certificate in chain {
                let certificate = call.userdata(certificate)?;
                list.append(call, certificate)?;
            }
            call.ret(list)
        }
        Err(error) => super::refuse(call, &error),
    }
}
