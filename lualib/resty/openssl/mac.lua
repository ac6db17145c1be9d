-- resty.openssl.mac: message authentication codes by name: HMAC with a digest, CMAC with a cipher.
local crypto = require "moonrest.crypto"
local describe = require("resty.openssl.err").describe
local add_pieces = require "moonrest.pieces"

local format, upper = string.format, string.upper
local setmetatable, tostring = setmetatable, tostring

local M = {}
local methods = { __index = M }

local UNSUPPORTED = "error:0308010C:digital envelope routines::unsupported:"

function M.new(key, name, cipher, digest)
    local kind = upper(tostring(name))
    local ctx, err
    if kind == "HMAC" then
        ctx, err = crypto.hmac(tostring(digest), key)
    elseif kind == "CMAC" then
        ctx, err = crypto.cmac(tostring(cipher), key)
    else
        return nil, describe(format('mac.new: invalid mac type "%s"', tostring(name)), UNSUPPORTED)
    end
    if not ctx then
        return nil, describe("mac.new: invalid cipher or digest type", err or UNSUPPORTED)
    end
    return setmetatable({ ctx = ctx }, methods)
end

function M.istype(l)
    return l and l.ctx and crypto.is_mac(l.ctx)
end

function M:get_provider_name()
    return "default"
end

add_pieces(M, "mac", "EVP_MAC_final")

return M
