-- resty.openssl.pkcs12: a key and certificates in one file, under a password.
local crypto = require "moonrest.crypto"
local objects = require "resty.openssl.objects"
local pkey = require "resty.openssl.pkey"
local x509 = require "resty.openssl.x509"
local describe = require("resty.openssl.err").describe

local ipairs, type = ipairs, type

local M = {}

-- `{ key, cert, friendly_name, cacerts }`.
function M.decode(file, passphrase)
    local found, err = crypto.pkcs12_open(file, passphrase or "")
    if not found then
        return nil, describe("pkcs12.decode: PKCS12_parse", err)
    end
    found.key = found.key and pkey.new(found.key)
    found.cert = found.cert and x509.from_native(found.cert)
    for n, ctx in ipairs(found.cacerts) do
        found.cacerts[n] = x509.from_native(ctx)
    end
    if #found.cacerts == 0 then
        found.cacerts = nil
    end
    return found
end

-- Of `{ key, cert, friendly_name, cacerts, nid_key, nid_cert, iter, mac_iter }`.
function M.encode(opts, passphrase)
    if passphrase and type(passphrase) ~= "string" then
        return nil, "pkcs12.encode: expect passphrase to be a string"
    elseif not pkey.istype(opts.key) then
        return nil, "pkcs12.encode: expect key to be a pkey instance"
    elseif not x509.istype(opts.cert) then
        return nil, "pkcs12.encode: expect cert to be a x509 instance"
    elseif opts.cacerts and type(opts.cacerts) ~= "table" then
        return nil, "pkcs12.encode: expect cacerts to be a table"
    end
    local ok, err = opts.cert:check_private_key(opts.key)
    if not ok then
        return nil, "pkcs12.encode: key doesn't match cert: " .. err
    end
    local ciphers = {}
    for _, name in ipairs({ "nid_key", "nid_cert" }) do
        if opts[name] then
            ciphers[name] = objects.txtnid2nid(opts[name])
            if not ciphers[name] then
                return nil, "pkcs12.encode: invalid " .. name
            end
        end
    end
    local others = {}
    for n, certificate in ipairs(opts.cacerts or {}) do
        if not x509.istype(certificate) then
            return nil, "pkcs12.encode: failed to add cacerts: expect a x509 instance"
        end
        others[n] = certificate.ctx
    end
    local file
    file, err = crypto.pkcs12_make(passphrase or "", opts.key.ctx, opts.cert.ctx, others, opts.friendly_name, ciphers.nid_key,
        ciphers.nid_cert, opts.iter, opts.mac_iter)
    if not file then
        return nil, describe("pkcs12.encode: PKCS12_create", err)
    end
    return file
end

M.loads, M.dumps = M.decode, M.encode

return M
