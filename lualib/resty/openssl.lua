-- resty.openssl: what there is of lua-resty-openssl, over the server's own cryptography.
local crypto = require "moonrest.crypto"
local version = require "resty.openssl.version"

local ipairs, pcall, require = ipairs, pcall, require

local M = { _VERSION = "1.8.0" }

local modules = {
    "bn",
    "cipher",
    "crypto",
    "digest",
    "err",
    "hmac",
    "kdf",
    "mac",
    "objects",
    "pkcs12",
    "pkey",
    "provider",
    "rand",
    "version",
    "x509",
    "x509.altname",
    "x509.chain",
    "x509.crl",
    "x509.csr",
    "x509.extension",
    "x509.extensions",
    "x509.name",
    "x509.revoked",
    "x509.store",
}

-- Puts the modules into this one: `openssl.pkey`, `openssl.x509`, `openssl.altname`, …
function M.load_modules()
    for _, name in ipairs(modules) do
        local ok, module = pcall(require, "resty.openssl." .. name)
        if ok then
            M[name:match("[^.]+$")] = module
        end
    end
    M.bignum = M.bn
    M.version = version
end

function M.load_library()
    return "crypto"
end

function M.set_fips_mode(enabled)
    if enabled then
        return false, "openssl.set_fips_mode: FIPS mode is not supported"
    end
    return true
end

function M.get_fips_mode()
    return false
end

function M.get_fips_version_text()
    return nil, "openssl.get_fips_version_text: FIPS mode is not supported"
end

function M.set_default_properties()
    return true
end

-- Those of the names that are there, with OpenSSL's provider behind them.
local function list(names, hide_provider, find)
    local found = {}
    for _, name in ipairs(names) do
        if not find or find(name) then
            found[#found + 1] = hide_provider and name or name .. " @ default"
        end
    end
    return found
end

local digests = {
    "MD4", "MD5", "MD5-SHA1", "RIPEMD160", "SHA1", "SHA2-224", "SHA2-256", "SHA2-384", "SHA2-512", "SHA2-512/224",
    "SHA2-512/256", "SHA3-224", "SHA3-256", "SHA3-384", "SHA3-512",
}

function M.list_digest_algorithms(hide_provider)
    return list(digests, hide_provider, function(name)
        return crypto.digest_size((name:gsub("^SHA2%-", "SHA"):gsub("/", "-")))
    end)
end

function M.list_cipher_algorithms(hide_provider)
    local names = { "CHACHA20-POLY1305", "DES-CBC", "DES-ECB", "DES-EDE3-CBC", "RC4" }
    for _, size in ipairs({ 128, 192, 256 }) do
        for _, mode in ipairs({ "CBC", "CFB", "CFB1", "CFB8", "CTR", "ECB", "GCM", "OFB" }) do
            names[#names + 1] = "AES-" .. size .. "-" .. mode
        end
    end
    return list(names, hide_provider, crypto.cipher)
end

function M.list_mac_algorithms(hide_provider)
    return list({ "CMAC", "HMAC" }, hide_provider)
end

function M.list_kdf_algorithms(hide_provider)
    return list({ "HKDF", "PBKDF2", "SCRYPT", "TLS1-PRF" }, hide_provider)
end

function M.list_ssl_ciphers()
    return nil, "openssl.list_ssl_ciphers: not supported, TLS is not OpenSSL's here"
end

return M
