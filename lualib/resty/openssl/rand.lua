-- resty.openssl.rand: random bytes.
local crypto = require "moonrest.crypto"
local describe = require("resty.openssl.err").describe

local type = type

local M = {}

function M.bytes(length, _, strength)
    if type(length) ~= "number" then
        return nil, "rand.bytes: expect a number at #1"
    elseif strength and type(strength) ~= "number" then
        return nil, "rand.bytes: expect a number at #3"
    end
    local bytes, err = crypto.random(length)
    if not bytes then
        return nil, describe("rand.bytes", err)
    end
    return bytes
end

return M
