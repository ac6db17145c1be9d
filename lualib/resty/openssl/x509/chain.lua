-- resty.openssl.x509.chain: lists of certificates.
local crypto = require "moonrest.crypto"
local list = require "resty.openssl.x509.list"

local getmetatable, type = getmetatable, type

local M = {}

local class = list("x509.chain", M, function(item, n)
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

function M:add(x509)
    if type(x509) ~= "table" or not crypto.is_x509(x509.ctx) then
        return nil, "x509.chain:add: expect a x509 instance at #1"
    end
    self.items[#self.items + 1] = x509
    return true
end

return M
