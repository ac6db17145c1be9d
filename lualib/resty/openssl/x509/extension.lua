-- resty.openssl.x509.extension: an extension of a certificate, read.
local altname = require "resty.openssl.x509.altname"
local objects = require "resty.openssl.objects"

local format = string.format
local getmetatable, setmetatable, type = getmetatable, setmetatable, type

local M = {}
local methods = { __index = M }

-- The extension at a place of a native certificate, counted from 0.
function M.at(certificate, place)
    local found = certificate:extension(place)
    return found and setmetatable({ found = found, certificate = certificate }, methods)
end

function M.istype(l)
    return type(l) == "table" and getmetatable(l) == methods
end

function M:get_object()
    local found = self.found
    if found.nid == 0 then
        return { id = found.id, nid = 0, sn = "UNDEF", ln = "undefined" }
    end
    local known = objects.nid2table(found.nid)
    known.id = found.id
    return known
end

function M:get_critical()
    return self.found.critical
end

M.get_extension_critical = M.get_critical

function M:to_der()
    return self.found.der
end

function M.to_data(extension, nid)
    if not M.istype(extension) then
        return nil, "x509.extension.dup: expect a x509.extension ctx at #1"
    elseif type(nid) ~= "number" then
        return nil, "x509.extension.to_data: expect a table at #2"
    end
    if nid == objects.txt2nid("subjectAltName") and extension.found.nid == nid then
        return altname.from_pairs(extension.certificate:alt_names("subject") or {})
    end
    return nil, format("x509.extension:to_data: don't know how to convert to NID %d", nid)
end

function M:tostring()
    return self.found.text
end

M.text = M.tostring
methods.__tostring = M.tostring

return M
