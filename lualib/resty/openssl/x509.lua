-- resty.openssl.x509: certificates, read and made.
local crypto = require "moonrest.crypto"
local altname_lib = require "resty.openssl.x509.altname"
local bn_lib = require "resty.openssl.bn"
local extension_lib = require "resty.openssl.x509.extension"
local info_access_lib = require "resty.openssl.x509.extension.info_access"
local name_lib = require "resty.openssl.x509.name"
local signed = require "resty.openssl.x509.signed"
local describe = require("resty.openssl.err").describe

local format, lower = string.format, string.lower
local ipairs, pairs, setmetatable = ipairs, pairs, setmetatable
local tonumber, type = tonumber, type

local M = {}
local methods = { __index = M }

-- The certificate of a native one.
function M.from_native(ctx)
    return setmetatable({ ctx = ctx }, methods)
end

function M.new(text, fmt)
    if type(text) == "userdata" and crypto.is_x509(text) then
        return M.from_native(text)
    elseif text == nil then
        return M.from_native(crypto.x509_new())
    end
    local ctx, err = signed.read("x509", text, fmt, crypto.x509_read)
    if not ctx then
        return nil, err
    end
    return M.from_native(ctx)
end

function M.istype(l)
    return l and l.ctx and crypto.is_x509(l.ctx)
end

function M.dup(ctx)
    if not crypto.is_x509(ctx) then
        return nil, "x509.dup: expect a x509 ctx at #1"
    end
    return M.from_native(ctx)
end

local function digest(self, name, key_only)
    name = name or "sha1"
    local bytes, err = self.ctx:digest(name, key_only)
    if bytes then
        return bytes
    end
    return nil, err and describe("x509:digest", err) or format('x509:digest: invalid digest type "%s"', name)
end

function M:digest(name)
    return digest(self, name, false)
end

function M:pubkey_digest(name)
    return digest(self, name, true)
end

signed.add_signing(M, methods, "x509")
signed.add_key(M, "x509")
signed.add_extensions(M, "x509")

function M:get_version()
    return self.ctx:version()
end

function M:get_serial_number()
    local number, err = self.ctx:serial_number()
    if not number then
        return nil, describe("x509:get_serial_number", err)
    end
    return bn_lib.dup(number)
end

function M:get_lifetime()
    local from, to = self.ctx:lifetime()
    if not from then
        return nil, nil, describe("x509:get_lifetime", to)
    end
    return from, to
end

function M:get_not_before()
    return (self:get_lifetime())
end

function M:get_not_after()
    local _, to = self:get_lifetime()
    return to
end

function M:get_subject_name()
    return name_lib.from_entries(self.ctx:name("subject"))
end

function M:get_issuer_name()
    return name_lib.from_entries(self.ctx:name("issuer"))
end

local function setter(...)
    signed.add_setter(M, "x509", ...)
end

local function number(value)
    return type(value) == "number" and value or nil
end

local function ctx_of(lib)
    return function(value)
        return lib.istype(value) and value.ctx or nil
    end
end

local function name(value)
    return name_lib.istype(value) and value:flat() or nil
end

setter("version", number, "a number", function(ctx, value)
    return ctx:set_version(value)
end)
setter("serial_number", ctx_of(bn_lib), "a bn instance", function(ctx, value)
    return ctx:set_serial_number(value)
end)
setter("not_before", number, "a number", function(ctx, value)
    return ctx:set_not_before(value)
end)
setter("not_after", number, "a number", function(ctx, value)
    return ctx:set_not_after(value)
end)
setter("subject_name", name, "a x509.name instance", function(ctx, value)
    return ctx:set_name("subject", value)
end)
setter("issuer_name", name, "a x509.name instance", function(ctx, value)
    return ctx:set_name("issuer", value)
end)

function M:set_lifetime(not_before, not_after)
    local ok, err
    if not_before then
        ok, err = self:set_not_before(not_before)
        if not ok then
            return ok, err
        end
    end
    if not_after then
        ok, err = self:set_not_after(not_after)
        if not ok then
            return ok, err
        end
    end
    return true
end

-- Sets an extension of a text.
local function set_text(self, kind, text)
    local extension, err = extension_lib.new(kind, text)
    if not extension then
        return false, err
    end
    return self:set_extension(extension)
end

function M:set_basic_constraints(values)
    if type(values) ~= "table" then
        return false, "x509:set_basic_constraints: expect a table at #1"
    end
    local given = {}
    for key, value in pairs(values) do
        given[lower(key)] = value
    end
    local text = given.ca and "CA:TRUE" or "CA:FALSE"
    local pathlen = given.pathlen and tonumber(given.pathlen)
    return set_text(self, "basicConstraints", pathlen and text .. ",pathlen:" .. pathlen or text)
end

for field, kind in pairs({ subject_alt_name = "subjectAltName", issuer_alt_name = "issuerAltName" }) do
    M["set_" .. field] = function(self, names)
        if not altname_lib.istype(names) then
            return false, "x509:set_" .. field .. ": expect a x509.altname instance at #1"
        end
        local extension, err = extension_lib.from_data(names, kind)
        if not extension then
            return false, describe("x509:set_" .. field, err)
        end
        return self:set_extension(extension)
    end
end

local function alt_names(self, party)
    local names = self.ctx:alt_names(party)
    return names and altname_lib.from_pairs(names)
end

function M:get_subject_alt_name()
    return alt_names(self, "subject")
end

function M:get_issuer_alt_name()
    return alt_names(self, "issuer")
end

for name, extension in pairs({
    subject_alt_name = "subjectAltName",
    issuer_alt_name = "issuerAltName",
    basic_constraints = "basicConstraints",
    info_access = "authorityInfoAccess",
    crl_distribution_points = "crlDistributionPoints",
}) do
    M["get_" .. name .. "_critical"] = function(self)
        return self:get_extension_critical(extension)
    end
    M["set_" .. name .. "_critical"] = function(self, critical)
        return self:set_extension_critical(extension, critical)
    end
end

function M:get_info_access()
    local extension = self:get_extension("authorityInfoAccess")
    return extension and info_access_lib.from_text(extension:text())
end

function M:set_info_access(places)
    if not info_access_lib.istype(places) then
        return false, "x509:set_info_access: expect a x509.extension.info_access instance at #1"
    end
    return set_text(self, "authorityInfoAccess", places:text())
end

-- All of them, or the one called `ca` or `pathlen`.
function M:get_basic_constraints(name)
    local ca, pathlen = self.ctx:basic_constraints()
    if ca == nil then
        return nil
    end
    pathlen = pathlen or 0
    if type(name) ~= "string" then
        return { ca = ca, pathlen = pathlen }
    elseif lower(name) == "ca" then
        return ca
    elseif lower(name) == "pathlen" then
        return pathlen
    end
end

function M:get_ocsp_url(return_all)
    local urls = self.ctx:ocsp_urls()
    if #urls == 0 then
        return nil
    end
    return return_all and urls or urls[1]
end

function M:get_crl_url(return_all)
    local urls = {}
    for _, names in ipairs(self.ctx:crl_points()) do
        for n = 1, #names, 2 do
            if names[n] == "URI" then
                urls[#urls + 1] = names[n + 1]
            end
        end
    end
    if #urls == 0 then
        return nil
    end
    return return_all and urls or urls[1]
end

-- A list of `altname` instances, one for each point.
function M:get_crl_distribution_points()
    local points = self.ctx:crl_points()
    if #points == 0 then
        return nil
    end
    for n, names in ipairs(points) do
        points[n] = altname_lib.from_pairs(names)
    end
    return points
end

return M
