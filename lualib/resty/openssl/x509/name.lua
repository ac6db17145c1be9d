-- resty.openssl.x509.name: distinguished names.
local objects = require "resty.openssl.objects"
local list = require "resty.openssl.x509.list"

local concat, sort = table.concat, table.sort
local getmetatable, ipairs, type = getmetatable, ipairs, type

local M = {}

local class = list("x509.name", M, function(item)
    return item.sn or item.ln or item.id, item
end)

-- The name of what the native functions answer: `{ nid, id, blob }`.
function M.from_entries(entries)
    for _, entry in ipairs(entries) do
        local known = entry.nid ~= 0 and objects.nid2table(entry.nid)
        entry.sn = known and known.sn or "UNDEF"
        entry.ln = known and known.ln or "undefined"
    end
    return class.new(entries)
end

function M.new()
    return class.new({})
end

function M.istype(l)
    return type(l) == "table" and getmetatable(l) == class
end

local function nid_of(text)
    return text and objects.txt2nid(text)
end

function M:add(text, value)
    local nid = nid_of(text)
    if not nid then
        return nil, "x509.name:add: invalid NID text " .. (text or "nil")
    end
    local item = objects.nid2table(nid)
    item.blob = value
    self.items[#self.items + 1] = item
    return self
end

-- The next part of this kind behind a place, and where it is.
function M:find(text, last_pos)
    local nid = nid_of(text)
    if not nid then
        return nil, nil, "x509.name:find: invalid NID text " .. (text or "nil")
    end
    for n = (last_pos or 0) + 1, #self.items do
        if self.items[n].nid == nid then
            return self.items[n], n
        end
    end
end

-- Number and text in turn, as the native functions take them.
function M:flat()
    local flat = {}
    for _, item in ipairs(self.items) do
        flat[#flat + 1], flat[#flat + 2] = item.nid, item.blob
    end
    return flat
end

function M:tostring()
    local parts = {}
    for n, item in ipairs(self.items) do
        parts[n] = (item.sn or item.ln or item.id) .. "=" .. item.blob
    end
    sort(parts)
    return concat(parts, "/")
end

class.__tostring = M.tostring

return M
