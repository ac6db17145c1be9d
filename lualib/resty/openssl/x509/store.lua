-- resty.openssl.x509.store: trusted certificates, and certificates checked against them.
local crypto = require "moonrest.crypto"
local chain_lib = require "resty.openssl.x509.chain"
local crl_lib = require "resty.openssl.x509.crl"
local x509_lib = require "resty.openssl.x509"
local describe = require("resty.openssl.err").describe

local bor = require("bit").bor
local ipairs, setmetatable, tonumber, type = ipairs, setmetatable, tonumber, type

local M = {}
local methods = { __index = M }

-- OpenSSL's numbers.
M.verify_flags = {
    X509_V_FLAG_CB_ISSUER_CHECK = 0x0,
    X509_V_FLAG_USE_CHECK_TIME = 0x2,
    X509_V_FLAG_CRL_CHECK = 0x4,
    X509_V_FLAG_CRL_CHECK_ALL = 0x8,
    X509_V_FLAG_IGNORE_CRITICAL = 0x10,
    X509_V_FLAG_X509_STRICT = 0x20,
    X509_V_FLAG_ALLOW_PROXY_CERTS = 0x40,
    X509_V_FLAG_POLICY_CHECK = 0x80,
    X509_V_FLAG_EXPLICIT_POLICY = 0x100,
    X509_V_FLAG_INHIBIT_ANY = 0x200,
    X509_V_FLAG_INHIBIT_MAP = 0x400,
    X509_V_FLAG_NOTIFY_POLICY = 0x800,
    X509_V_FLAG_EXTENDED_CRL_SUPPORT = 0x1000,
    X509_V_FLAG_USE_DELTAS = 0x2000,
    X509_V_FLAG_CHECK_SS_SIGNATURE = 0x4000,
    X509_V_FLAG_TRUSTED_FIRST = 0x8000,
    X509_V_FLAG_PARTIAL_CHAIN = 0x80000,
    X509_V_FLAG_NO_ALT_CHAINS = 0x100000,
    X509_V_FLAG_NO_CHECK_TIME = 0x200000,
}

function M.new()
    local ctx, err = crypto.x509_store()
    if not ctx then
        return nil, describe("x509.store.new", err)
    end
    return setmetatable({ ctx = ctx }, methods)
end

function M.istype(l)
    return l and l.ctx and crypto.is_store(l.ctx)
end

function M:use_default()
    local ok, err = self.ctx:use_default()
    if not ok then
        return false, describe("x509.store:use_default", err)
    end
    return true
end

-- Certificates are trusted. A list of revoked ones turns on that the last certificate of a chain is looked for in it.
function M:add(item, skip_flags)
    if type(item) == "table" and crl_lib.istype(item) then
        local ok, err = self.ctx:add_crl(item.ctx)
        if not ok then
            return false, describe("x509.store:add: X509_STORE_add_crl", err)
        end
        return skip_flags and true or self:set_flags(M.verify_flags.X509_V_FLAG_CRL_CHECK)
    elseif not x509_lib.istype(item) then
        return false, "x509.store:add: expect an x509 or crl instance at #1"
    end
    local ok, err = self.ctx:add(item.ctx)
    if not ok then
        return false, describe("x509.store:add: X509_STORE_add_cert", err)
    end
    return true
end

function M:load_file(path)
    if type(path) ~= "string" then
        return false, "x509.store:load_file: expect a string at #1"
    end
    local ok, err = self.ctx:load_file(path)
    if not ok then
        return false, describe("x509.store:load_file", err)
    end
    return true
end

function M:load_directory(path)
    if type(path) ~= "string" then
        return false, "x509.store:load_directory expect a string at #1"
    end
    local ok, err = self.ctx:load_directory(path)
    if not ok then
        return false, describe("x509.store:load_directory", err)
    end
    return true
end

function M:set_depth(depth)
    depth = depth and tonumber(depth)
    if not depth then
        return nil, "x509.store:set_depth: expect a number at #1"
    end
    local ok, err = self.ctx:set_depth(depth)
    if not ok then
        return false, describe("x509.store:set_depth", err)
    end
    return true
end

function M:set_purpose(purpose)
    if type(purpose) ~= "string" then
        return nil, "x509.store:set_purpose: expect a string at #1"
    end
    local number = crypto.x509_purpose(purpose)
    if not number then
        return false, 'invalid purpose "' .. purpose .. '"'
    end
    local ok, err = self.ctx:set_purpose(number)
    if not ok then
        return false, describe("x509.store:set_purpose: X509_STORE_set_purpose", err)
    end
    return true
end

function M:set_flags(...)
    local flags = 0
    for _, flag in ipairs({ ... }) do
        flags = bor(flags, flag)
    end
    local ok, err = self.ctx:set_flags(flags)
    if not ok then
        return false, describe("x509.store:set_flags: X509_STORE_set_flags", err)
    end
    return true
end

-- The purposes that upstream calls methods.
local verify_methods = {
    default = false,
    pkcs7 = "smimesign",
    smime_sign = "smimesign",
    ssl_client = "sslclient",
    ssl_server = "sslserver",
}

function M:verify(x509, chain, return_chain, _, verify_method, flags)
    if not x509_lib.istype(x509) then
        return nil, "x509.store:verify: expect a x509 instance at #1"
    elseif chain and not chain_lib.istype(chain) then
        return nil, "x509.store:verify: expect a x509.chain instance at #1"
    end
    local purpose
    if verify_method then
        purpose = verify_methods[verify_method]
        if purpose == nil then
            return nil, 'x509.store:verify: invalid verify_method "' .. verify_method .. '"'
        end
        purpose = purpose and crypto.x509_purpose(purpose) or nil
    end
    local others = {}
    for n, other in ipairs(chain and chain.items or {}) do
        others[n] = other.ctx
    end
    local found, err = self.ctx:verify(x509.ctx, others, purpose, flags)
    if not found then
        return nil, err
    end
    if not return_chain then
        return true, nil
    end
    for n, ctx in ipairs(found) do
        found[n] = x509_lib.from_native(ctx)
    end
    return chain_lib.from_items(found)
end

-- Whether the first certificate of a chain that `verify` gave is in no list of revoked ones. A list has to be there.
function M:check_revocation(chain)
    if not chain or not chain_lib.istype(chain) then
        return nil, "x509.store:check_revocation: expect a x509.chain instance at #1"
    end
    local others = {}
    for n, other in ipairs(chain.items) do
        others[n] = other.ctx
    end
    if not others[1] then
        return nil, "x509.store:check_revocation: the chain is empty"
    end
    local found, err = self.ctx:verify(others[1], others, nil, M.verify_flags.X509_V_FLAG_CRL_CHECK)
    if not found then
        return nil, err
    end
    return true, nil
end

return M
