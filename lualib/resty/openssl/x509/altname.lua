-- resty.openssl.x509.altname: other names of a subject or issuer.
local list = require "resty.openssl.x509.list"

local concat, sort = table.concat, table.sort
local getmetatable, ipairs, type = getmetatable, ipairs, type
local lower = string.lower

local M = {}

local class = list("x509.altname", M, function(item)
    return item[1], item[2]
end)

-- Kinds that may be added, and how they are written.
local kinds = { dns = "DNS", email = "email", uri = "URI", ip = "IP", rfc822name = "email", ipaddress = "IP" }

-- The list of what the native functions answer: kind and value in turn.
function M.from_pairs(flat)
    local items = {}
    for n = 1, #flat, 2 do
        items[#items + 1] = { flat[n], flat[n + 1] }
    end
    return class.new(items)
end

function M.new()
    return class.new({})
end

function M.istype(l)
    return type(l) == "table" and getmetatable(l) == class
end

function M:add(kind, value)
    if type(kind) ~= "string" then
        return nil, "x509.altname:gn_set: expect a string at #1"
    elseif type(value) ~= "string" then
        return nil, "x509.altname:gn_set: except a string at #2"
    end
    local known = kinds[lower(kind)]
    if not known then
        return nil, "x509.altname:gn_set: unknown type " .. kind
    end
    if known == "IP" and not (value:find("^%d+%.%d+%.%d+%.%d+$") or value:find("^[%x:.]*:[%x:.]*$")) then
        return nil, "x509.altname:gn_set: invalid IP address " .. value
    end
    self.items[#self.items + 1] = { known, value }
    return self
end

-- Kind and value in turn, as the native functions take them.
function M:flat()
    local flat = {}
    for _, item in ipairs(self.items) do
        flat[#flat + 1], flat[#flat + 2] = item[1], item[2]
    end
    return flat
end

function M:tostring()
    local parts = {}
    for n, item in ipairs(self.items) do
        parts[n] = item[1] .. "=" .. item[2]
    end
    sort(parts)
    return concat(parts, "/")
end

class.__tostring = M.tostring

return M
