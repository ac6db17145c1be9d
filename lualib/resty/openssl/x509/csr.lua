-- resty.openssl.x509.csr: requests for certificates.
local crypto = require "moonrest.crypto"
local altname_lib = require "resty.openssl.x509.altname"
local extension_lib = require "resty.openssl.x509.extension"
local extensions_lib = require "resty.openssl.x509.extensions"
local name_lib = require "resty.openssl.x509.name"
local objects = require "resty.openssl.objects"
local signed = require "resty.openssl.x509.signed"
local describe = require("resty.openssl.err").describe

local ipairs, setmetatable, type, unpack = ipairs, setmetatable, type, unpack

local M = {}
local methods = { __index = M }

local function wrap(ctx)
    return setmetatable({ ctx = ctx, asked = {} }, methods)
end

function M.new(text, fmt)
    if text == nil then
        local ctx, err = crypto.csr_new()
        if not ctx then
            return nil, describe("x509.csr.new", err)
        end
        return wrap(ctx)
    end
    local ctx, err = signed.read("x509.csr", text, fmt, crypto.csr_read)
    if not ctx then
        return nil, err
    end
    local csr = wrap(ctx)
    for n, extension in ipairs(ctx:extensions()) do
        csr.asked[n] = extension_lib.from_native(extension)
    end
    return csr
end

function M.istype(l)
    return l and l.ctx and crypto.is_csr(l.ctx)
end

-- Extensions go into the request as a whole, before it is signed or written.
local function settle(self)
    if not self.changed then
        return true
    end
    local list = {}
    for n, extension in ipairs(self.asked) do
        list[n] = extension.ctx
    end
    self.changed = false
    return self.ctx:set_extensions(list)
end

signed.add_signing(M, methods, "x509.csr", settle)
signed.add_key(M, "x509.csr")

function M:get_subject_name()
    return name_lib.from_entries(self.ctx:name())
end

function M:set_subject_name(name)
    if not name_lib.istype(name) then
        return false, "x509.csr:set_subject_name: expect a x509.name instance at #1"
    end
    local ok, err = self.ctx:set_name(name:flat())
    if not ok then
        return false, describe("x509.csr:set_subject_name", err)
    end
    return true
end

function M:get_version()
    return self.ctx:version()
end

function M:set_version(version)
    if type(version) ~= "number" then
        return false, "x509.csr:set_version: expect a number at #1"
    end
    local ok, err = self.ctx:set_version(version)
    if not ok then
        return false, describe("x509.csr:set_version", err)
    end
    return true
end

function M:get_extensions()
    return extensions_lib.from_items({ unpack(self.asked) })
end

local function nid_of(extension)
    return extension.ctx:describe().nid
end

-- The next extension of this kind behind a place, and where it is.
function M:get_extension(nid_or_txt, last_pos)
    local nid, err = objects.txtnid2nid(nid_or_txt)
    if not nid then
        return nil, nil, "x509.csr:get_extension: " .. err
    end
    for n = (last_pos or 0) + 1, #self.asked do
        if nid_of(self.asked[n]) == nid then
            return self.asked[n], n
        end
    end
end

local function change(self, place, extension)
    self.asked[place] = extension
    self.changed = true
    return true
end

function M:add_extension(extension)
    if not extension_lib.istype(extension) then
        return false, "x509:set_extension: expect a x509.extension instance at #1"
    end
    return change(self, #self.asked + 1, extension)
end

function M:set_extension(extension)
    if not extension_lib.istype(extension) then
        return false, "x509:set_extension: expect a x509.extension instance at #1"
    end
    local _, place = self:get_extension(nid_of(extension))
    return change(self, place or #self.asked + 1, extension)
end

function M:get_extension_critical(nid_or_txt, last_pos)
    local extension, _, err = self:get_extension(nid_or_txt, last_pos)
    if not extension then
        return nil, "x509.csr:get_extension_critical: " .. (err or "extension not found")
    end
    return extension:get_critical()
end

function M:set_extension_critical(nid_or_txt, critical, last_pos)
    local extension, place, err = self:get_extension(nid_or_txt, last_pos)
    if not extension then
        return nil, "x509.csr:set_extension_critical: " .. (err or "extension not found")
    end
    extension:set_critical(critical)
    return change(self, place, extension)
end

function M:get_subject_alt_name()
    local extension = self:get_extension("subjectAltName")
    return extension and extension:to_data(objects.txt2nid("subjectAltName"))
end

function M:set_subject_alt_name(names)
    if not altname_lib.istype(names) then
        return false, "x509.csr:set_subject_alt_name: expect a x509.altname instance at #1"
    end
    local extension, err = extension_lib.from_data(names, "subjectAltName")
    if not extension then
        return false, describe("x509.csr:set_subject_alt_name", err)
    end
    return self:set_extension(extension)
end

M.set_subject_alt = M.set_subject_alt_name

function M:get_subject_alt_name_critical()
    return self:get_extension_critical("subjectAltName")
end

function M:set_subject_alt_name_critical(critical)
    return self:set_extension_critical("subjectAltName", critical)
end

return M
