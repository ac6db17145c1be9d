-- resty.hmac: keyed digests. Both of the libraries of this name work: `hmac:new(key, hmac.ALGOS.SHA256)` with `update`,
-- `final` and `reset`, and `hmac:new(key):digest("sha256", text)`.
local crypto = require "moonrest.crypto"
local to_hex = require("resty.string").to_hex

local setmetatable, type = setmetatable, type
local lower = string.lower

local M = { _VERSION = "0.06" }
local methods = { __index = M }

M.ALGOS = {
    MD5 = "md5",
    SHA1 = "sha1",
    SHA224 = "sha224",
    SHA256 = "sha256",
    SHA384 = "sha384",
    SHA512 = "sha512",
}

function M.new(_, key, algorithm)
    local mac = crypto.hmac(algorithm or M.ALGOS.MD5, key)
    if not mac then
        return nil
    end
    return setmetatable({ _ctx = mac, _key = key }, methods)
end

function M.update(self, text)
    return self._ctx:update(text) == true
end

function M.final(self, text, hex_output)
    local code = self._ctx:final(text)
    if code and hex_output == true then
        return to_hex(code)
    end
    return code
end

function M.reset(self)
    return self._ctx:reset() == true
end

-- The other library's: the code of a text at once, in hexadecimal digits unless `raw`.
function M.digest(self, algorithm, text, raw)
    if type(algorithm) ~= "string" then
        return nil, "algorithm must be a string"
    end
    local mac = crypto.hmac(lower(algorithm), self._key)
    if not mac then
        return nil, "unknown digest " .. algorithm
    end
    local code = mac:final(text)
    return raw and code or to_hex(code)
end

return M
