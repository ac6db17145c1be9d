-- resty.openssl.x509.revoked: entries for lists of revoked certificates.
local crypto = require "moonrest.crypto"
local bn = require "resty.openssl.bn"
local describe = require("resty.openssl.err").describe

local setmetatable, type = setmetatable, type

local M = {}
local methods = { __index = M }

-- A certificate's number, since when it is revoked, and the number of the reason (RFC 5280, 5.3.1).
function M.new(serial, time, reason)
    if type(serial) == "number" then
        serial = bn.new(serial)
    end
    if not bn.istype(serial) then
        return nil, "x509.revoked.new: sn should be number or a bn instance"
    elseif type(time) ~= "number" then
        return nil, "x509.revoked.new: expect a number at #2"
    elseif type(reason) ~= "number" then
        return nil, "x509.revoked.new: expect a number at #3"
    end
    local ctx, err = crypto.revoked_new(serial.ctx, time, reason)
    if not ctx then
        return nil, describe("x509.revoked.new", err)
    end
    return setmetatable({ ctx = ctx }, methods)
end

function M.istype(l)
    return l and l.ctx and crypto.is_revoked(l.ctx)
end

return M
