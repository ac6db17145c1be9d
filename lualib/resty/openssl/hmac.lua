-- resty.openssl.hmac: keyed digests.
local crypto = require "moonrest.crypto"
local describe = require("resty.openssl.err").describe

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

function M:update(...)
    local ok, err = self.ctx:update(...)
    if not ok then
        return false, describe("hmac:update", err)
    end
    return true
end

function M:final(s)
    local code, err = self.ctx:final(s)
    if not code then
        return nil, describe("hmac:final: HMAC_Final", err)
    end
    return code
end

function M:reset()
    local ok, err = self.ctx:reset()
    if not ok then
        return false, describe("hmac:reset", err)
    end
    return true
end

return M
