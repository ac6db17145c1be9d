-- resty.openssl.x509.crl: lists of revoked certificates, read and made. `#crl`, `crl[n]`, `ipairs(crl)` are its entries.
local crypto = require "moonrest.crypto"
local bn = require "resty.openssl.bn"
local name_lib = require "resty.openssl.x509.name"
local revoked_lib = require "resty.openssl.x509.revoked"
local signed = require "resty.openssl.x509.signed"
local describe = require("resty.openssl.err").describe

local rawget, setmetatable, type = rawget, setmetatable, type

local LABEL = "x509.crl"
local M = {}
local methods = {}

local function wrap(ctx)
    return setmetatable({ ctx = ctx }, methods)
end

function M.new(text, fmt)
    local ctx, err
    if text == nil then
        ctx, err = crypto.crl_new()
        err = describe("x509.crl.new", err)
    else
        ctx, err = signed.read(LABEL, text, fmt, crypto.crl_read)
    end
    if not ctx then
        return nil, err
    end
    return wrap(ctx)
end

function M.istype(l)
    return l and l.ctx and crypto.is_crl(l.ctx)
end

function M.dup(ctx)
    if not crypto.is_crl(ctx) then
        return nil, "x509.crl.dup: expect a x509.crl ctx at #1"
    end
    local copy, err = ctx:duplicate()
    if not copy then
        return nil, describe("x509.crl.dup", err)
    end
    return wrap(copy)
end

signed.add_signing(M, methods, LABEL)
signed.add_extensions(M, LABEL)

function M:text()
    local text, err = self.ctx:write("text")
    if not text then
        return nil, describe("x509.crl:text", err)
    end
    return text
end

-- Entries ------------------------------------------------------------------------------------------------------------------

local function entry(serial, since)
    return serial and { serial_number = bn.dup(serial):to_hex(), revocation_date = since }
end

function M:count()
    return self.ctx:len()
end

function M:index(n)
    return n >= 1 and entry(self.ctx:entry(n - 1)) or nil
end

function M:each()
    local n = 0
    return function()
        n = n + 1
        local found = self:index(n)
        if found then
            return n, found
        end
    end
end

function M:all()
    local found = {}
    for n, one in self:each() do
        found[n] = one
    end
    return found
end

methods.__len = M.count
methods.__pairs = M.each
methods.__ipairs = M.each

function methods.__index(self, key)
    if type(key) == "number" then
        return M.index(self, key)
    end
    return M[key]
end

function M:add_revoked(revoked)
    if type(revoked) ~= "table" or not crypto.is_revoked(rawget(revoked, "ctx")) then
        return false, "x509.crl:add_revoked: expect a revoked instance at #1"
    end
    local ok, err = self.ctx:add(revoked.ctx)
    if not ok then
        return false, describe("x509.crl:add_revoked", err)
    end
    return true
end

-- The entry for a number, given as `bn` or in hexadecimal digits.
function M:get_by_serial(serial)
    if type(serial) == "string" then
        local err
        serial, err = bn.from_hex(serial)
        if not serial then
            return nil, "x509.crl:find: can't decode bn: " .. err
        end
    end
    if not bn.istype(serial) then
        return nil, "x509.crl:find: expect a bn instance at #1"
    end
    local found, since = self.ctx:find(serial.ctx)
    if not found then
        return nil, since
    end
    return entry(found, since)
end

-- The rest -----------------------------------------------------------------------------------------------------------------

function M:get_issuer_name()
    return name_lib.from_entries(self.ctx:name())
end

function M:get_version()
    return self.ctx:version()
end

function M:get_last_update()
    return (self.ctx:updates())
end

function M:get_next_update()
    local _, next_update = self.ctx:updates()
    return next_update
end

local function number(value)
    return type(value) == "number" and value or nil
end

for _, field in ipairs({ "version", "last_update", "next_update" }) do
    signed.add_setter(M, LABEL, field, number, "a number", function(ctx, value)
        return ctx["set_" .. field](ctx, value)
    end)
end

signed.add_setter(M, LABEL, "issuer_name", function(value)
    return name_lib.istype(value) and value:flat() or nil
end, "a x509.name instance", function(ctx, parts)
    return ctx:set_name(parts)
end)

return M
