-- resty.openssl.x509.signed: what certificates, requests and revocation lists have in common: they are read, written, signed,
-- and have extensions.
local digest_lib = require "resty.openssl.digest"
local extension_lib = require "resty.openssl.x509.extension"
local objects = require "resty.openssl.objects"
local pkey_lib = require "resty.openssl.pkey"
local describe = require("resty.openssl.err").describe

local type = type

local M = {}

-- A native object of a text, with `read(text, "PEM" or "DER")`. Without a format both are tried.
function M.read(label, text, fmt, read)
    if type(text) ~= "string" then
        return nil, label .. ".new: expect nil or a string at #1"
    end
    fmt = fmt or "*"
    if fmt ~= "PEM" and fmt ~= "DER" and fmt ~= "*" then
        return nil, label .. ".new: expect PEM, DER or * at #2"
    end
    local ctx, err
    if fmt ~= "DER" then
        ctx, err = read(text, "PEM")
    end
    if not ctx and fmt ~= "PEM" then
        local problem
        ctx, problem = read(text, "DER")
        err = err or problem
    end
    if not ctx then
        return nil, describe(label .. ".new", err)
    end
    return ctx
end

-- Keys that take no digest sign without.
local function digest_name(key, md)
    if md then
        return md.algo
    end
    local kind = key.ctx:kind()
    return (kind == "RSA" or kind == "EC") and "sha256" or nil
end

-- Adds `tostring`, `to_PEM`, `sign` and `verify` to a class. `settle(self) -> ok, err` is called before writing and signing.
function M.add_signing(methods, metatable, label, settle)
    settle = settle or function()
        return true
    end

    function methods:tostring(fmt)
        fmt = fmt or "PEM"
        if fmt ~= "PEM" and fmt ~= "DER" then
            return nil, label .. ":tostring: can only write PEM or DER format, not " .. fmt
        end
        local text
        local ok, err = settle(self)
        if ok then
            text, err = self.ctx:write(fmt)
        end
        if not text then
            return nil, describe(label .. ":tostring", err)
        end
        return text
    end

    function metatable.__tostring(self)
        return (self:tostring("PEM"))
    end

    function methods:to_PEM()
        return self:tostring("PEM")
    end

    function methods:sign(key, md)
        if not pkey_lib.istype(key) then
            return false, label .. ":sign: expect a pkey instance at #1"
        elseif md and not digest_lib.istype(md) then
            return false, label .. ":sign: expect a digest instance at #2"
        end
        local ok, err = settle(self)
        if ok then
            ok, err = self.ctx:sign(key.ctx, digest_name(key, md))
        end
        if not ok then
            return false, describe(label .. ":sign", err)
        end
        return true
    end

    function methods:verify(key)
        if not pkey_lib.istype(key) then
            return false, label .. ":verify: expect a pkey instance at #1"
        end
        local signed, err = self.ctx:is_signed_by(key.ctx)
        if signed == nil then
            return false, describe(label .. ":verify", err)
        end
        return signed
    end

    function methods:get_signature_nid()
        return (self.ctx:signature())
    end

    function methods:get_signature_name()
        return objects.nid2table(self:get_signature_nid()).sn
    end

    function methods:get_signature_digest_name()
        local digest = objects.find_sigid_algs(self:get_signature_nid())
        return digest ~= 0 and objects.nid2table(digest).sn or "UNDEF"
    end
end

-- Adds `get_pubkey`, `set_pubkey` and `check_private_key` to a class whose objects are about a key.
function M.add_key(methods, label)
    function methods:check_private_key(key)
        if not pkey_lib.istype(key) then
            return false, label .. ":check_private_key: except a pkey instance at #1"
        elseif not key:is_private() then
            return false, label .. ":check_private_key: not a private key"
        end
        local ok, err = self.ctx:check_private_key(key.ctx)
        if not ok then
            return false, describe(label .. ":check_private_key", err)
        end
        return true
    end

    function methods:get_pubkey()
        local key, err = self.ctx:public_key()
        if not key then
            return nil, describe(label .. ":get_pubkey", err)
        end
        return pkey_lib.new(key)
    end

    function methods:set_pubkey(key)
        if not pkey_lib.istype(key) then
            return false, label .. ":set_pubkey: expect a pkey instance at #1"
        end
        local ok, err = self.ctx:set_public_key(key.ctx)
        if not ok then
            return false, describe(label .. ":set_pubkey", err)
        end
        return true
    end
end

-- Adds the methods for extensions that stand in the native object itself.
function M.add_extensions(methods, label)
    -- The next extension of this kind behind a place, and where it is.
    function methods:get_extension(nid_or_txt, last_pos)
        local nid, err = objects.txtnid2nid(nid_or_txt)
        if not nid then
            return nil, nil, label .. ":get_extension: " .. err
        end
        local place = self.ctx:find_extension(nid, (last_pos or 0) - 1)
        if not place then
            return nil
        end
        return extension_lib.from_native(self.ctx:extension_object(place)), place + 1
    end

    function methods:get_extension_critical(nid_or_txt, last_pos)
        local extension, _, err = self:get_extension(nid_or_txt, last_pos)
        if not extension then
            return nil, label .. ":get_extension_critical: " .. (err or "extension not found")
        end
        return extension:get_critical()
    end

    function methods:add_extension(extension)
        if not extension_lib.istype(extension) then
            return false, label .. ":add_extension: expect a x509.extension instance at #1"
        end
        local ok, err = self.ctx:add_extension(extension.ctx)
        if not ok then
            return false, describe(label .. ":add_extension", err)
        end
        return true
    end

    -- Puts an extension in the place of the one of its kind.
    function methods:set_extension(extension, last_pos)
        if not extension_lib.istype(extension) then
            return false, label .. ":set_extension: expect a x509.extension instance at #1"
        end
        local place = self.ctx:find_extension(extension.ctx:describe().nid, (last_pos or 0) - 1)
        if place then
            self.ctx:remove_extension(place)
        end
        local ok, err = self.ctx:add_extension(extension.ctx, place)
        if not ok then
            return false, describe(label .. ":set_extension", err)
        end
        return true
    end

    function methods:set_extension_critical(nid_or_txt, critical, last_pos)
        local extension, _, err = self:get_extension(nid_or_txt, last_pos)
        if not extension then
            return false, label .. ":set_extension_critical: " .. (err or "extension not found")
        end
        extension:set_critical(critical)
        return self:set_extension(extension, last_pos)
    end
end

-- Adds `set_NAME(value)`, which needs no more than an argument of the right type: `convert` gives what `native` takes.
function M.add_setter(methods, label, name, convert, expected, native)
    methods["set_" .. name] = function(self, value)
        local converted = convert(value)
        if converted == nil then
            return false, label .. ":set_" .. name .. ": expect " .. expected .. " at #1"
        end
        local ok, err = native(self.ctx, converted)
        if not ok then
            return false, describe(label .. ":set_" .. name, err)
        end
        return true
    end
end

return M
