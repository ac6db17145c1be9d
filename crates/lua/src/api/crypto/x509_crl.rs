//! Lists of revoked certificates, and PKCS#12 files.

use super::{
    answer, define_type, digest::optional_algorithm, done, object, set_bytes, with, x509,
    x509_make::name_parts,
};
use moonrest_crypto::{
    bn::BigNum,
    pkcs12::{self, Settings},
    pkey::Key,
    x509::Certificate,
    x509_crl::{Crl, Entry, Revoked},
    x509_make::ExtensionObject,
};
use moonrest_luajit::{Call, LuaResult, Nil, Return, Table, Value};

const LIST: &[(&str, super::Function)] = &[
    ("write", |call| {
        let text = match call.arg::<&[u8]>(2)? {
            b"PEM" => with(call, 1, Crl::to_pem)?,
            b"DER" => with(call, 1, Crl::to_der)?,
            _ => with(call, 1, Crl::text)?,
        };
        answer(call, text.as_deref())
    }),
    ("duplicate", |call| {
        let copy = with(call, 1, Crl::duplicate)?;
        object(call, copy)
    }),
    ("version", |call| {
        let version = with(call, 1, Crl::version)?;
        call.ret(version as f64)
    }),
    ("set_version", |call| {
        let version: f64 = call.arg(2)?;
        let set = with(call, 1, |it: &Crl| it.set_version(version as i64))?;
        done(call, set)
    }),
    ("name", |call| {
        let entries = with(call, 1, Crl::issuer)?;
        let list = x509::name_list(call, entries)?;
        call.ret(list)
    }),
    ("set_name", |call| {
        let parts = name_parts(call, 2)?;
        let set = with(call, 1, |it: &Crl| it.set_issuer(&parts))?;
        done(call, set)
    }),
    ("updates", |call| {
        let (last, next) = with(call, 1, Crl::updates)?;
        call.ret((last.map(|seconds| seconds as f64), next.map(|seconds| seconds as f64)))
    }),
    ("set_last_update", |call| {
        let seconds: f64 = call.arg(2)?;
        let set = with(call, 1, |it: &Crl| it.set_last_update(seconds as i64))?;
        done(call, set)
    }),
    ("set_next_update", |call| {
        let seconds: f64 = call.arg(2)?;
        let set = with(call, 1, |it: &Crl| it.set_next_update(seconds as i64))?;
        done(call, set)
    }),
    ("len", |call| {
        let len = with(call, 1, Crl::len)?;
        call.ret(len as f64)
    }),
    ("entry", |call| {
        let place = super::integer(call, 2, 0.0, f64::from(u32::MAX))? as usize;
        let entry = with(call, 1, |it: &Crl| it.entry(place))?;
        entry_row(call, entry)
    }),
    ("find", |call| match with(call, 1, |it: &Crl| with(call, 2, |serial: &BigNum| it.find(serial)))?? {
        Ok(entry) => entry_row(call, entry),
        Err(error) => super::refuse(call, &error),
    }),
    ("add", |call| {
        let added = with(call, 1, |it: &Crl| with(call, 2, |entry: &Revoked| it.add(entry)))??;
        done(call, added)
    }),
    ("find_extension", |call| {
        let (nid, after): (f64, Option<f64>) = (call.arg(2)?, super::optional(call, 3)?);
        let after = after.filter(|after| *after >= 0.0).map(|after| after as usize);
        let place = with(call, 1, |it: &Crl| it.find_extension(nid as i32, after))?;
        call.ret(place.map(|place| place as f64))
    }),
    ("extension_object", |call| {
        let place = super::integer(call, 2, 0.0, 1e6)? as usize;
        match with(call, 1, |it: &Crl| it.extension(place))? {
            Some(extension) => object(call, Ok(extension)),
            None => call.ret(Nil),
        }
    }),
    ("add_extension", |call| {
        let place: Option<f64> = super::optional(call, 3)?;
        let place = place.map(|place| place as usize);
        let added = with(call, 1, |it: &Crl| {
            with(call, 2, |extension: &ExtensionObject| it.add_extension(extension, place))
        })??;
        done(call, added)
    }),
    ("remove_extension", |call| {
        let place = super::integer(call, 2, 0.0, 1e6)? as usize;
        with(call, 1, |it: &Crl| it.remove_extension(place))?;
        call.ret(true)
    }),
    ("sign", |call| {
        let digest = optional_algorithm(call, 3)?;
        let signed = with(call, 1, |it: &Crl| with(call, 2, |key: &Key| it.sign(key, digest)))??;
        done(call, signed)
    }),
    ("is_signed_by", |call| {
        let signed = with(call, 1, |it: &Crl| with(call, 2, |key: &Key| it.is_signed_by(key)))??;
        answer(call, signed.as_ref().map(|signed| *signed))
    }),
    ("signature", |call| {
        let nid = with(call, 1, Crl::signature)?;
        call.ret(f64::from(nid))
    }),
];

pub(super) fn install(call: &mut Call<'_>, module: Table<'_>) -> LuaResult<()> {
    define_type::<Crl>(call, module, "is_crl", LIST)?;
    define_type::<Revoked>(call, module, "is_revoked", &[])?;
    super::super::define(
        call,
        module,
        &[
            ("crl_new", |call| object(call, Crl::new())),
            ("crl_read", |call| {
                let text: &[u8] = call.arg(1)?;
                let is_pem = call.arg::<&[u8]>(2)? == b"PEM";
                object(call, if is_pem { Crl::from_pem(text) } else { Crl::from_der(text) })
            }),
            ("revoked_new", |call| {
                let (since, reason): (f64, f64) = (call.arg(2)?, call.arg(3)?);
                let made =
                    with(call, 1, |serial: &BigNum| Revoked::new(serial, since as i64, reason as i64))?;
                object(call, made)
            }),
            ("pkcs12_open", open),
            ("pkcs12_make", make),
        ],
    )
}

/// `serial number, revoked since`, or nothing.
fn entry_row(call: &mut Call<'_>, entry: Option<Entry>) -> LuaResult<Return> {
    let Some(Entry { serial, since }) = entry else { return call.ret(Nil) };
    let serial = call.userdata(serial)?;
    call.ret((serial, since.map(|seconds| seconds as f64)))
}

/// `pkcs12_open(file, password) -> { key, cert, friendly_name, cacerts } or nil, error`.
fn open(call: &mut Call<'_>) -> LuaResult<Return> {
    let file: &[u8] = call.arg(1)?;
    let contents = match pkcs12::open(file, &super::text(call, 2)?) {
        Ok(contents) => contents,
        Err(error) => return super::refuse(call, &error),
    };
    let row = call.table(0, 4)?;
    if let Some(key) = contents.key {
        let key = call.userdata(key)?;
        row.raw_set(call, "key", key)?;
    }
    if let Some(certificate) = contents.certificate {
        let certificate = call.userdata(certificate)?;
        row.raw_set(call, "cert", certificate)?;
    }
    set_bytes(call, row, "friendly_name", contents.name.as_deref())?;
    let others = call.table(contents.others.len(), 0)?;
    for certificate in contents.others {
        let certificate = call.userdata(certificate)?;
        others.append(call, certificate)?;
    }
    row.raw_set(call, "cacerts", others)?;
    call.ret(row)
}

/// `pkcs12_make(password, key, certificate, others, name, key_cipher, cipher, rounds, mac_rounds) -> file or nil, error`.
fn make(call: &mut Call<'_>) -> LuaResult<Return> {
    let password = super::text(call, 1)?;
    let others = certificates(call, 4)?;
    let name = match call.value(5) {
        Value::Nil => None,
        _ => Some(super::text(call, 5)?),
    };
    let mut numbers = [0; 4];
    for (n, number) in (6..).zip(&mut numbers) {
        *number = super::optional::<f64>(call, n)?.unwrap_or(0.0) as i32;
    }
    let [key_cipher, certificate_cipher, rounds, mac_rounds] = numbers;
    let settings = Settings { name: name.as_deref(), key_cipher, certificate_cipher, rounds, mac_rounds };
    let made = with(call, 2, |key: &Key| {
        with(call, 3, |it: &Certificate| pkcs12::make(&password, key, it, &others, settings))
    })??;
    answer(call, made.as_deref())
}

/// The certificates of the list that is the n-th argument, if there is one.
pub(super) fn certificates(call: &Call<'_>, n: u32) -> LuaResult<Vec<Certificate>> {
    let mut found = Vec::new();
    if let Some(list) = super::optional::<Table<'_>>(call, n)? {
        for n in 1..=list.raw_len(call) {
            if let Value::Userdata(certificate) = list.raw_index(call, n)?
                && let Some(certificate) = certificate.get::<Certificate>(call)
            {
                found.push(certificate.share());
            }
        }
    }
    Ok(found)
}
