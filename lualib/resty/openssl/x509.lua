-- resty.openssl.x509: certificates, read and made.
local crypto = require "moonrest.crypto"
local altname_lib = require "resty.openssl.x509.altname"
local bn_lib = require "resty.openssl.bn"
local digest_lib = require "resty.openssl.digest"
local extension_lib = require "resty.openssl.x509.extension"
local name_lib = require "resty.openssl.x509.name"
local objects = require "resty.openssl.objects"
local pkey_lib = require "resty.openssl.pkey"
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
    elseif type(text) ~= "string" then
        return nil, "x509.new: expect nil or a string at #1"
    end
    fmt = fmt or "*"
    if fmt ~= "PEM" and fmt ~= "DER" and fmt ~= "*" then
        return nil, "x509.new: expect PEM, DER or * at #2"
    end
    local ctx, err
    if fmt ~= "DER" then
        ctx, err = crypto.x509_read(text, "PEM")
    end
    if not ctx and fmt ~= "PEM" then
        local problem
        ctx, problem = crypto.x509_read(text, "DER")
        err = err or problem
    end
    if not ctx then
        return nil, describe("x509.new", err)
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

function M:tostring(fmt)
    fmt = fmt or "PEM"
    if fmt ~= "PEM" and fmt ~= "DER" then
        return nil, "x509:tostring: can only write PEM or DER format, not " .. fmt
    end
    local text, err = self.ctx:write(fmt)
    if not text then
        return nil, describe("x509:tostring", err)
    end
    return text
end

function methods.__tostring(self)
    return (self:tostring("PEM"))
end

function M:to_PEM()
    return self:tostring("PEM")
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

function M:check_private_key(key)
    if not pkey_lib.istype(key) then
        return false, "x509:check_private_key: except a pkey instance at #1"
    elseif not key:is_private() then
        return false, "x509:check_private_key: not a private key"
    end
    local ok, err = self.ctx:check_private_key(key.ctx)
    if not ok then
        return false, describe("x509:check_private_key", err)
    end
    return true
end

function M:verify(key)
    if not pkey_lib.istype(key) then
        return false, "x509:verify: expect a pkey instance at #1"
    end
    local signed, err = self.ctx:is_signed_by(key.ctx)
    if signed == nil then
        return false, describe("x509:verify", err)
    end
    return signed
end

function M:get_pubkey()
    local key, err = self.ctx:public_key()
    if not key then
        return nil, describe("x509:get_pubkey", err)
    end
    return pkey_lib.new(key)
end

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

function M:get_signature_nid()
    return (self.ctx:signature())
end

function M:get_signature_name()
    return objects.nid2table(self:get_signature_nid()).sn
end

function M:get_signature_digest_name()
    local _, nid = self.ctx:signature()
    return nid ~= 0 and objects.nid2table(nid).sn or "UNDEF"
end

-- The next extension of this kind behind a place, and where it is.
function M:get_extension(nid_or_txt, last_pos)
    local nid, err = objects.txtnid2nid(nid_or_txt)
    if not nid then
        return nil, nil, "x509:get_extension: " .. err
    end
    local place = self.ctx:find_extension(nid, (last_pos or 0) - 1)
    if not place then
        return nil
    end
    return extension_lib.from_native(self.ctx:extension_object(place)), place + 1
end

function M:get_extension_critical(nid_or_txt, last_pos)
    local extension, _, err = self:get_extension(nid_or_txt, last_pos)
    if not extension then
        return nil, "x509:get_extension_critical: " .. (err or "extension not found")
    end
    return extension:get_critical()
end

-- Setters that need no more than an argument of the right type.
local function setter(name, check, expected, native)
    M["set_" .. name] = function(self, value)
        local converted = check(value)
        if converted == nil then
            return false, "x509:set_" .. name .. ": expect " .. expected .. " at #1"
        end
        local ok, err = native(self.ctx, converted)
        if not ok then
            return false, describe("x509:set_" .. name, err)
        end
        return true
    end
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
setter("pubkey", ctx_of(pkey_lib), "a pkey instance", function(ctx, value)
    return ctx:set_public_key(value)
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

-- A digest instance's name; keys that take none sign without.
local function digest_name(key, md)
    if md then
        return md.algo
    end
    local kind = key.ctx:kind()
    return (kind == "RSA" or kind == "EC") and "sha256" or nil
end

function M:sign(key, md)
    if not pkey_lib.istype(key) then
        return false, "x509:sign: expect a pkey instance at #1"
    elseif md and not digest_lib.istype(md) then
        return false, "x509:sign: expect a digest instance at #2"
    end
    local ok, err = self.ctx:sign(key.ctx, digest_name(key, md))
    if not ok then
        return false, describe("x509:sign", err)
    end
    return true
end

function M:add_extension(extension)
    if not extension_lib.istype(extension) then
        return false, "x509:add_extension: expect a x509.extension instance at #1"
    end
    local ok, err = self.ctx:add_extension(extension.ctx)
    if not ok then
        return false, describe("x509:add_extension", err)
    end
    return true
end

-- Puts an extension in the place of the one of its kind.
function M:set_extension(extension, last_pos)
    if not extension_lib.istype(extension) then
        return false, "x509:set_extension: expect a x509.extension instance at #1"
    end
    local place = self.ctx:find_extension(extension.ctx:describe().nid, (last_pos or 0) - 1)
    if place then
        self.ctx:remove_extension(place)
    end
    local ok, err = self.ctx:add_extension(extension.ctx, place)
    if not ok then
        return false, describe("x509:set_extension", err)
    end
    return true
end

function M:set_extension_critical(nid_or_txt, critical, last_pos)
    local extension, _, err = self:get_extension(nid_or_txt, last_pos)
    if not extension then
        return false, "x509:set_extension_critical: " .. (err or "extension not found")
    end
    extension:set_critical(critical)
    return self:set_extension(extension, last_pos)
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
