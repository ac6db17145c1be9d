-- resty.openssl.x509.extension.info_access: where more is to be learned of an authority: `{ nid, kind, value }` each.
local list = require "resty.openssl.x509.list"
local objects = require "resty.openssl.objects"

local concat = table.concat
local find, gmatch = string.find, string.gmatch
local getmetatable, ipairs, tostring, type = getmetatable, ipairs, tostring, type

local M = {}

local class = list("x509.extension.info_access", M, function(item, n)
    return n, item
end)

local kinds = { dns = "DNS", email = "email", uri = "URI", ip = "IP" }

function M.new()
    return class.new({})
end

function M.istype(l)
    return type(l) == "table" and getmetatable(l) == class
end

-- Of an extension's text: a line for each.
function M.from_text(text)
    local items = {}
    for name, kind, value in gmatch(text, "([^\n]-) %- ([%a ]+):([^\n]*)") do
        local nid = objects.txt2nid((name:gsub("^%s+", "")))
        items[#items + 1] = { nid or 0, kind, value }
    end
    return class.new(items)
end

function M:add(nid_or_txt, kind, value)
    local nid, err = objects.txtnid2nid(nid_or_txt)
    if not nid then
        return nil, "x509.extension.info_access:add: " .. err
    end
    local known = type(kind) == "string" and kinds[kind:lower()]
    if not known then
        return nil, "x509.extension.info_access:add: unknown type " .. tostring(kind)
    elseif type(value) ~= "string" or find(value, "[,%c]") then
        return nil, "x509.extension.info_access:add: invalid value"
    end
    self.items[#self.items + 1] = { nid, known, value }
    return self
end

-- As OpenSSL's configuration has it.
function M:text()
    local parts = {}
    for n, item in ipairs(self.items) do
        parts[n] = objects.nid2table(item[1]).sn .. ";" .. item[2] .. ":" .. item[3]
    end
    return concat(parts, ",")
end

return M
