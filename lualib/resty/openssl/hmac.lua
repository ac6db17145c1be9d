-- resty.openssl.hmac: keyed digests.
local crypto = require "moonrest.crypto"
local describe = require("resty.openssl.err").describe
local add_pieces = require "moonrest.pieces"

local format = string.format
local setmetatable, tostring = setmetatable, tostring

local M = {}
local methods = { __index = M }

function M.new(key, name)
    local ctx, err = crypto.hmac(name or "sha1", key)
    if not ctx then
        if err then
            return nil, describe("hmac.new", err)
        end
        return nil, format('hmac.new: invalid digest type "%s"', tostring(name))
    end
    return setmetatable({ ctx = ctx, algo = name }, methods)
end

function M.istype(l)
    return l and l.ctx and crypto.is_mac(l.ctx)
end

add_pieces(M, "hmac", "HMAC_Final")

return M
