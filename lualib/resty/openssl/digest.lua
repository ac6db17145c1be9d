-- resty.openssl.digest: digests in parts.
local crypto = require "moonrest.crypto"
local describe = require("resty.openssl.err").describe
local add_pieces = require "moonrest.pieces"

local format, lower = string.format, string.lower
local setmetatable, tostring, type = setmetatable, tostring, type

local M = {}
local methods = { __index = M }

-- The digest that leaves its input as it is, in OpenSSL: one of nothing.
local null = {}
null.__index = null
function null.update()
    return true
end
function null.final()
    return ""
end
function null.reset()
    return true
end

function M.new(name, properties)
    name = name or "sha1"
    local problem = format('digest.new: invalid digest type "%s"', tostring(name))
    if type(properties) == "string" and properties:find("provider=", 1, true)
        and not properties:find("provider=default", 1, true) then
        return nil, describe(problem, "error:0308010C:digital envelope routines::unsupported:")
    end
    local ctx
    if lower(name) == "null" then
        ctx = setmetatable({}, null)
    else
        ctx = crypto.digest(name)
    end
    if not ctx then
        return nil, describe(problem, "error:0308010C:digital envelope routines::unsupported:")
    end
    return setmetatable({ ctx = ctx, algo = name }, methods)
end

function M.istype(l)
    return l and l.ctx and crypto.is_digest(l.ctx)
end

function M:get_provider_name()
    return "default"
end

add_pieces(M, "digest", "EVP_DigestFinal_ex")

return M
