-- resty.openssl.x509.extensions: lists of extensions.
local extension_lib = require "resty.openssl.x509.extension"
local list = require "resty.openssl.x509.list"

local getmetatable, type = getmetatable, type

local M = {}

local class = list("x509.extensions", M, function(item, n)
    return n, item
end)

function M.from_items(items)
    return class.new(items)
end

function M.new()
    return class.new({})
end

function M.istype(l)
    return type(l) == "table" and getmetatable(l) == class
end

function M:add(extension)
    if not extension_lib.istype(extension) then
        return nil, "x509.extensions:add: expect a x509.extension instance at #1"
    end
    self.items[#self.items + 1] = extension
    return true
end

return M
