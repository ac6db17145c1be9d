-- resty.openssl.crypto: comparing in a time that does not tell where two texts differ.
local bit = require "bit"
local ffi = require "ffi"

local bor, bxor = bit.bor, bit.bxor
local type = type

local M = {}

local bytes = ffi.typeof("const uint8_t *")

-- 0 when the first `len` bytes are equal, otherwise 1.
function M.memcmp(a, b, len)
    if type(len) ~= "number" or len < 1 then
        return nil, "crypto:memcmp arg 'len' must be a number > 0"
    end
    for _, value in ipairs({ a, b }) do
        local kind = type(value)
        if kind ~= "string" and kind ~= "cdata" then
            return nil, "crypto:memcmp only strings and cdata types are supported"
        elseif len > (kind == "string" and #value or ffi.sizeof(value) or len) then
            return nil, "crypto:memcmp arg 'len' is longer than a value"
        end
    end
    local left, right, difference = ffi.cast(bytes, a), ffi.cast(bytes, b), 0
    for n = 0, len - 1 do
        difference = bor(difference, bxor(left[n], right[n]))
    end
    return difference == 0 and 0 or 1
end

return M
