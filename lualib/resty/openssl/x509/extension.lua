-- resty.openssl.x509.extension: extensions of certificates and requests.
local crypto = require "moonrest.crypto"
local altname = require "resty.openssl.x509.altname"
local objects = require "resty.openssl.objects"
local describe = require("resty.openssl.err").describe

local format, match = string.format, string.match
local ipairs, setmetatable, type = ipairs, setmetatable, type

local M = {}
local methods = { __index = M }

-- The extension of a native one.
function M.from_native(ctx)
    return setmetatable({ ctx = ctx }, methods)
end

-- Of a text as in OpenSSL's configuration; `data` may name certificates: `issuer`, `subject`.
function M.new(nid_or_txt, value, data)
    local nid, err = objects.txtnid2nid(nid_or_txt)
    if not nid then
        return nil, "x509.extension.new: " .. err
    elseif type(value) ~= "string" then
        return nil, "x509.extension.new: expect string at #2"
    end
    local issuer, subject
    if type(data) == "table" then
        for _, name in ipairs({ "issuer", "subject" }) do
            if data[name] and not crypto.is_x509(data[name].ctx) then
                return nil, "x509.extension.new: expect data." .. name .. " to be a resty.openssl.x509 instance"
            end
        end
        issuer, subject = data.issuer and data.issuer.ctx, data.subject and data.subject.ctx
    elseif type(data) == "string" then
        return nil, "x509.extension.new: sections of a configuration are not supported"
    elseif data then
        return nil, "x509.extension.new: expect nil, string a table at #3"
    end
    local ctx
    ctx, err = crypto.extension_from_text(nid, value, issuer, subject)
    if not ctx then
        return nil, describe("x509.extension.new", err)
    end
    return M.from_native(ctx)
end

function M.from_der(der, nid_or_txt, critical)
    local nid, err = objects.txtnid2nid(nid_or_txt)
    if not nid then
        return nil, "x509.extension.from_der: " .. err
    elseif type(der) ~= "string" then
        return nil, "x509.extension.from_der: expect string at #1"
    end
    local ctx
    ctx, err = crypto.extension_from_der(der, nid, critical)
    if not ctx then
        return nil, describe("x509.extension.from_der: X509_EXTENSION_create_by_NID", err)
    end
    return M.from_native(ctx)
end

-- Of an `altname` instance.
function M.from_data(data, nid_or_txt, critical)
    local nid, err = objects.txtnid2nid(nid_or_txt)
    if not nid then
        return nil, "x509.extension.from_der: " .. err
    elseif not altname.istype(data) then
        return nil, "x509.extension.from_data: expect a table with ctx at #1"
    end
    local text
    text, err = crypto.alt_names_text(data:flat())
    if not text then
        return nil, describe("x509.extension.from_data", err)
    end
    return M.new(nid, (critical and "critical," or "") .. text)
end

function M.istype(l)
    return l and l.ctx and crypto.is_extension(l.ctx)
end

function M.dup(ctx)
    if not crypto.is_extension(ctx) then
        return nil, "x509.extension.dup: expect a x509.extension ctx at #1"
    end
    local found = ctx:describe()
    return M.from_der(found.der, found.nid, found.critical)
end

function M:get_object()
    local found = self.ctx:describe()
    if found.nid == 0 then
        return { id = found.id, nid = 0, sn = "UNDEF", ln = "undefined" }
    end
    local known = objects.nid2table(found.nid)
    known.id = found.id
    return known
end

function M:get_critical()
    return self.ctx:describe().critical
end

M.get_extension_critical = M.get_critical

function M:set_critical(critical)
    local ok, err = self.ctx:set_critical(critical)
    if not ok then
        return false, describe("x509.extension:set_critical", err)
    end
    return true
end

M.set_extension_critical = M.set_critical

function M:to_der()
    return self.ctx:describe().der
end

-- The names of an extension, of the text that shows them.
function M.to_data(extension, nid)
    if not M.istype(extension) then
        return nil, "x509.extension.dup: expect a x509.extension ctx at #1"
    elseif type(nid) ~= "number" then
        return nil, "x509.extension.to_data: expect a table at #2"
    elseif nid ~= objects.txt2nid("subjectAltName") or extension.ctx:describe().nid ~= nid then
        return nil, format("x509.extension:to_data: don't know how to convert to NID %d", nid)
    end
    local flat = {}
    for part in (extension:text() .. ", "):gmatch("(.-), ") do
        local kind, value = match(part, "^%s*([%a%s]+):(.*)$")
        if kind == "IP Address" then
            kind = "IP"
        end
        flat[#flat + 1], flat[#flat + 2] = kind or "otherName", value or ""
    end
    return altname.from_pairs(flat)
end

function M:tostring()
    return self.ctx:describe().text
end

M.text = M.tostring
methods.__tostring = M.tostring

return M
