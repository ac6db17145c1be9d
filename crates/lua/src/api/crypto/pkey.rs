//! Keys of public-key algorithms.

use super::{
    answer, bn, define_type,
    digest::{Held, optional_algorithm},
    done, object, refuse, with,
};
use moonrest_crypto::{
    cipher,
    digest::Algorithm,
    pkey::{Key, Kind, Operation, Options, Padding, curve_by_name},
    pkey_dh::Dh,
    pkey_parameters::{Ec, Rsa},
    pkey_text::Half,
};
use moonrest_luajit::{Call, LuaError, LuaResult, Nil, Return, Table, Value};

pub(super) fn install(call: &mut Call<'_>, module: Table<'_>) -> LuaResult<()> {
    define_type::<Key>(
        call,
        module,
        "is_pkey",
        &[
            ("kind", kind),
            ("is_private", |call| {
                let is_private = with(call, 1, Key::is_private)?;
                call.ret(is_private)
            }),
            ("sizes", |call| {
                let (size, bits) = with(call, 1, |key: &Key| (key.size(), key.bits()))?;
                call.ret((size as f64, f64::from(bits)))
            }),
            ("curve", |call| {
                let (curve, len) = with(call, 1, |key: &Key| (key.curve(), key.order_len()))?;
                call.ret((curve.map(f64::from), len.map(|len| len as f64)))
            }),
            ("same_public", |call| {
                let same = with(call, 1, |a: &Key| with(call, 2, |b: &Key| a.same_public(b)))??;
                call.ret(same)
            }),
            ("write", write),
            ("parameters", parameters),
            ("operate", operate),
            ("verify_raw", verify_raw),
            ("sign", sign),
            ("verify", verify),
            ("derive", |call| {
                let secret = with(call, 1, |a: &Key| with(call, 2, |b: &Key| a.derive(b)))??;
                answer(call, secret.as_deref())
            }),
        ],
    )?;
    super::super::define(
        call,
        module,
        &[
            ("pkey_generate", generate),
            ("pkey_read", read),
            ("pkey_from_rsa", from_rsa),
            ("pkey_from_ec", from_ec),
            ("pkey_from_raw", from_raw),
            ("pkey_from_dh", from_dh),
            ("dh_parameters", |call| {
                let pem = dh_group(call, 1)?.and_then(|group| group.parameters_pem());
                answer(call, pem.as_deref())
            }),
            ("ec_parameters", |call| {
                let pem = Ec::parameters_pem(call.arg::<f64>(1)? as i32);
                answer(call, pem.as_deref())
            }),
            ("ec_parameters_read", |call| match Ec::from_parameters_pem(call.arg(1)?) {
                Some(curve) => call.ret(f64::from(curve)),
                None => call.ret((Nil, "no start line")),
            }),
        ],
    )
}

fn kind_by_name(name: &[u8]) -> Option<Kind> {
    match name {
        b"RSA" => Some(Kind::Rsa),
        b"EC" => Some(Kind::Ec),
        b"Ed25519" => Some(Kind::Ed25519),
        b"X25519" => Some(Kind::X25519),
        b"DH" => Some(Kind::Dh),
        _ => None,
    }
}

/// `key:kind() -> name, nid`.
fn kind(call: &mut Call<'_>) -> LuaResult<Return> {
    let kind = with(call, 1, Key::kind)?;
    let name = match kind {
        Kind::Rsa => "RSA",
        Kind::Ec => "EC",
        Kind::Ed25519 => "Ed25519",
        Kind::X25519 => "X25519",
        Kind::Dh => "DH",
        Kind::Other(_) => "other",
    };
    call.ret((name, f64::from(kind.nid())))
}

/// `pkey_generate(kind, bits or curve, exponent) -> key or nil, error`.
fn generate(call: &mut Call<'_>) -> LuaResult<Return> {
    let made = match kind_by_name(call.arg(1)?) {
        Some(Kind::Rsa) => {
            let bits: f64 = call.arg(2)?;
            let bits = if bits >= 1.0 { bits as u32 } else { 0 };
            let exponent: Option<f64> = super::optional(call, 3)?;
            Key::generate_rsa(bits, exponent.map(|exponent| exponent as u64))
        }
        Some(Kind::Ec) => {
            let name = super::text(call, 2)?;
            match curve_by_name(&name) {
                Some(curve) => Key::generate_ec(curve),
                None => return call.ret((Nil, format!("unknown curve {name}"))),
            }
        }
        Some(kind @ (Kind::Ed25519 | Kind::X25519)) => Key::generate(kind),
        Some(Kind::Dh) => dh_group(call, 2)?.and_then(|group| group.generate()),
        _ => return call.ret((Nil, "unsupported key type")),
    };
    object(call, made)
}

/// A group: the number of its bits, its name, or its parameters in PEM.
fn dh_group(call: &Call<'_>, n: u32) -> LuaResult<Result<Dh, moonrest_crypto::Error>> {
    if let Value::Number(bits) = call.value(n as usize) {
        return Ok(Dh::of_bits(bits as u32));
    }
    let text: &[u8] = call.arg(n)?;
    Ok(if text.starts_with(b"-----") {
        Dh::from_parameters_pem(text)
    } else {
        Dh::group(&String::from_utf8_lossy(text))
    })
}

/// `pkey_read(text, format, half, password) -> key or nil, error`; the format is PEM or DER, the half `*`, `pr` or `pu`.
fn read(call: &mut Call<'_>) -> LuaResult<Return> {
    let (text, password): (&[u8], Option<&[u8]>) = (call.arg(1)?, super::optional(call, 4)?);
    let half = match call.arg::<&[u8]>(3)? {
        b"pr" => Half::Private,
        b"pu" => Half::Public,
        _ => Half::Any,
    };
    let key = match call.arg::<&[u8]>(2)? {
        b"PEM" => Key::from_pem(text, half, password),
        _ => Key::from_der(text, half),
    };
    object(call, key)
}

/// `key:write(is_private, format, cipher, password) -> text or nil, error`; the format is PEM, DER or PKCS1.
fn write(call: &mut Call<'_>) -> LuaResult<Return> {
    let is_private = super::boolean(call, 2);
    let format: &[u8] = call.arg(3)?;
    let password: Option<&[u8]> = super::optional(call, 5)?;
    let secret = match password {
        Some(password) => match cipher::Algorithm::by_name(&super::text(call, 4)?) {
            Some(cipher) => Some((cipher, password)),
            None => return call.ret((Nil, "unknown cipher")),
        },
        None => None,
    };
    let text = with(call, 1, |key: &Key| match (format, is_private) {
        (b"PEM", true) => key.private_pem(secret),
        (b"PEM", false) => key.public_pem(),
        (b"PKCS1", true) => key.rsa_private_pem(),
        (b"PKCS1", false) => key.rsa_public_pem(),
        (_, true) => key.private_der(),
        (_, false) => key.public_der(),
    })?;
    answer(call, text.as_deref())
}

/// `key:parameters() -> table or nil`: numbers, and bytes for keys that consist of them.
fn parameters(call: &mut Call<'_>) -> LuaResult<Return> {
    let (kind, rsa, ec, raw) = with(call, 1, |key: &Key| {
        let kind = key.kind();
        let is_raw = matches!(kind, Kind::Ed25519 | Kind::X25519);
        (kind, key.rsa_parameters(), key.ec_parameters(), is_raw.then(|| key.raw()))
    })?;
    let table = call.table(0, 8)?;
    match (kind, rsa, ec, raw) {
        (Kind::Rsa, Some(rsa), ..) => {
            for (name, number) in [
                ("n", rsa.n),
                ("e", rsa.e),
                ("d", rsa.d),
                ("p", rsa.p),
                ("q", rsa.q),
                ("dmp1", rsa.dmp1),
                ("dmq1", rsa.dmq1),
                ("iqmp", rsa.iqmp),
            ] {
                bn::set(call, table, name, number)?;
            }
        }
        (Kind::Dh, ..) => {
            let numbers = with(call, 1, Key::dh_parameters)?.unwrap_or_default();
            for (name, number) in [
                ("p", numbers.p),
                ("g", numbers.g),
                ("q", numbers.q),
                ("public", numbers.public),
                ("private", numbers.private),
            ] {
                bn::set(call, table, name, number)?;
            }
        }
        (Kind::Ec, _, Some(ec), _) => {
            if let Some(group) = ec.group {
                table.raw_set(call, "group", f64::from(group))?;
            }
            bn::set(call, table, "private", ec.private)?;
            bn::set(call, table, "x", ec.x)?;
            bn::set(call, table, "y", ec.y)?;
            super::set_bytes(call, table, "public", ec.public.as_deref())?;
        }
        (.., Some((public, private))) => {
            super::set_bytes(call, table, "public", public.as_deref())?;
            super::set_bytes(call, table, "private", private.as_deref())?;
        }
        _ => return call.ret(Nil),
    }
    call.ret(table)
}

/// `pkey_from_rsa(numbers) -> key or nil, error`.
fn from_rsa(call: &mut Call<'_>) -> LuaResult<Return> {
    let given: Table<'_> = call.arg(1)?;
    let number = |name| bn::field(call, given, name);
    let numbers = Rsa {
        n: number("n")?,
        e: number("e")?,
        d: number("d")?,
        p: number("p")?,
        q: number("q")?,
        dmp1: number("dmp1")?,
        dmq1: number("dmq1")?,
        iqmp: number("iqmp")?,
    };
    object(call, Key::from_rsa_parameters(&numbers))
}

/// `pkey_from_ec(numbers) -> key or nil, error`; the point is `x` and `y`, or `public` in bytes, or made of `private`.
fn from_ec(call: &mut Call<'_>) -> LuaResult<Return> {
    let given: Table<'_> = call.arg(1)?;
    let number = |name| bn::field(call, given, name);
    let group = given.raw_get(call, "group")?.as_number().map(|group| group as i32);
    let public = given.raw_get(call, "public")?.as_bytes().map(<[u8]>::to_vec);
    let numbers = Ec { group, private: number("private")?, x: number("x")?, y: number("y")?, public };
    object(call, Key::from_ec_parameters(&numbers))
}

/// `pkey_from_dh(numbers) -> key or nil, error`; a `public` that is not given is calculated.
fn from_dh(call: &mut Call<'_>) -> LuaResult<Return> {
    let given: Table<'_> = call.arg(1)?;
    let number = |name| bn::field(call, given, name);
    let numbers = Dh {
        p: number("p")?,
        g: number("g")?,
        q: number("q")?,
        public: number("public")?,
        private: number("private")?,
    };
    object(call, numbers.key())
}

/// `pkey_from_raw(kind, is_private, bytes) -> key or nil, error`.
fn from_raw(call: &mut Call<'_>) -> LuaResult<Return> {
    let (is_private, bytes): (_, &[u8]) = (super::boolean(call, 2), call.arg(3)?);
    match kind_by_name(call.arg(1)?) {
        Some(kind) => object(call, Key::from_raw(kind, is_private, bytes)),
        None => call.ret((Nil, "unsupported key type")),
    }
}

/// Options in a table: `padding`, `digest`, `oaep_md`, `mgf1_md`, `pss_saltlen`.
fn options(call: &Call<'_>, n: u32) -> LuaResult<Result<Options, String>> {
    let Some(table) = super::optional::<Table<'_>>(call, n)? else { return Ok(Ok(Options::default())) };
    let digest = |name: &str| -> LuaResult<Result<Option<Algorithm>, String>> {
        let Some(given) = table.raw_get(call, name)?.as_bytes() else { return Ok(Ok(None)) };
        let given = String::from_utf8_lossy(given);
        Ok(Algorithm::by_name(&given).map(Some).ok_or_else(|| format!("invalid digest type \"{given}\"")))
    };
    let number = |name: &str| -> LuaResult<Option<i32>> {
        Ok(table.raw_get(call, name)?.as_number().map(|number| number as i32))
    };
    let (padding, pss_salt_len) = (number("padding")?.map(Padding), number("pss_saltlen")?);
    let (md, oaep, mgf1) = (digest("digest")?, digest("oaep_md")?, digest("mgf1_md")?);
    Ok((|| Ok(Options { padding, digest: md?, oaep_digest: oaep?, mgf1_digest: mgf1?, pss_salt_len }))())
}

/// `key:operate(operation, bytes, options) -> bytes or nil, error`.
fn operate(call: &mut Call<'_>) -> LuaResult<Return> {
    let operation = match call.arg::<&[u8]>(2)? {
        b"encrypt" => Operation::Encrypt,
        b"decrypt" => Operation::Decrypt,
        b"sign" => Operation::Sign,
        b"verify_recover" => Operation::VerifyRecover,
        _ => return Err(LuaError::argument(2, "no such operation")),
    };
    let input: &[u8] = call.arg(3)?;
    let options = match options(call, 4)? {
        Ok(options) => options,
        Err(problem) => return call.ret((Nil, problem)),
    };
    let out = with(call, 1, |key: &Key| key.operate(operation, input, &options))?;
    answer(call, out.as_deref())
}

/// `key:verify_raw(signature, bytes, options) -> true or nil, error`.
fn verify_raw(call: &mut Call<'_>) -> LuaResult<Return> {
    let (signature, input): (&[u8], &[u8]) = (call.arg(2)?, call.arg(3)?);
    let options = match options(call, 4)? {
        Ok(options) => options,
        Err(problem) => return call.ret((Nil, problem)),
    };
    let outcome = with(call, 1, |key: &Key| key.verify_raw(signature, input, &options))?;
    done(call, outcome)
}

/// `key:sign(message or digest, digest name, options) -> signature or nil, error`.
fn sign(call: &mut Call<'_>) -> LuaResult<Return> {
    let options = match options(call, 4)? {
        Ok(options) => options,
        Err(problem) => return call.ret((Nil, problem)),
    };
    let made = if let Value::Userdata(_) = call.value(2) {
        with(call, 1, |key: &Key| with(call, 2, |digest: &Held| key.sign_digest(&digest.borrow())))??
    } else {
        let (message, digest): (&[u8], _) = (call.arg(2)?, optional_algorithm(call, 3)?);
        with(call, 1, |key: &Key| key.sign(message, digest, &options))?
    };
    answer(call, made.as_deref())
}

/// `key:verify(signature, message or digest, digest name, options) -> true or nil, error`.
fn verify(call: &mut Call<'_>) -> LuaResult<Return> {
    let signature: &[u8] = call.arg(2)?;
    let options = match options(call, 5)? {
        Ok(options) => options,
        Err(problem) => return call.ret((Nil, problem)),
    };
    let outcome = if let Value::Userdata(_) = call.value(3) {
        with(call, 1, |key: &Key| {
            with(call, 3, |digest: &Held| key.verify_digest(signature, &digest.borrow()))
        })??
    } else {
        let (message, digest): (&[u8], _) = (call.arg(3)?, optional_algorithm(call, 4)?);
        with(call, 1, |key: &Key| key.verify(signature, message, digest, &options))?
    };
    match outcome {
        Ok(()) => call.ret(true),
        Err(error) => refuse(call, &error),
    }
}
