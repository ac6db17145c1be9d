//! `ngx.hmac_sha1`.
//! <https://github.com/openresty/lua-nginx-module#ngxhmac_sha1>

use super::define;
use moonrest_luajit::{Call, LuaError, LuaResult, Return, Stack, Table};
use sha1::{Digest, Sha1};

pub(super) fn install(stack: &Stack<'_>, ngx: Table<'_>) -> LuaResult<()> {
    define(stack, ngx, &[("hmac_sha1", hmac_sha1)])
}

fn hmac_sha1(call: &mut Call<'_>) -> LuaResult<Return> {
    if call.args_len() != 2 {
        return Err(LuaError::new(format!("expecting 2 arguments, but got {}", call.args_len())));
    }
    let (key, text): (&[u8], &[u8]) = call.args()?;
    call.ret(&hmac(key, text)[..])
}

/// RFC 2104, with SHA-1 and its block of 64 bytes.
fn hmac(key: &[u8], text: &[u8]) -> [u8; 20] {
    let short: [u8; 20];
    let key = if key.len() > 64 {
        short = Sha1::digest(key).into();
        &short[..]
    } else {
        key
    };
    let padded = |pad: u8| {
        let mut block = [pad; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha1::new().chain_update(padded(0x36)).chain_update(text).finalize();
    Sha1::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::hmac;

    #[test]
    fn digests_are_those_of_rfc_2202() {
        let hex = |bytes: [u8; 20]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(
            hex(hmac(b"Jefe", b"what do ya want for nothing?")),
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
        );
        let long = hmac(&[0xaa; 80], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(hex(long), "aa4ae5e15272d00e95705637ce8a3b55ed402112");
    }
}
