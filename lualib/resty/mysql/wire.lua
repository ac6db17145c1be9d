-- Numbers and strings as MySQL's protocol lays them out. Readers give `nil` for what is not all there.
local bit = require "bit"

local band, bor, lshift, rshift = bit.band, bit.bor, bit.lshift, bit.rshift
local byte, char, sub = string.byte, string.char, string.sub
local floor = math.floor
local null = ngx.null

local M = {}

function M.u16(data, at)
    local a, b = byte(data, at, at + 1)
    return bor(a, lshift(b, 8))
end

local function u24(data, at)
    local a, b, c = byte(data, at, at + 2)
    return bor(a, lshift(b, 8), lshift(c, 16))
end
M.u24 = u24

function M.u32(data, at)
    return u24(data, at) + byte(data, at + 3) * 0x1000000
end

function M.p16(n)
    return char(band(n, 255), band(rshift(n, 8), 255))
end

function M.p24(n)
    return char(band(n, 255), band(rshift(n, 8), 255), band(rshift(n, 16), 255))
end

local function p32(n)
    return char(n % 256, floor(n / 0x100) % 256, floor(n / 0x10000) % 256, floor(n / 0x1000000) % 256)
end
M.p32 = p32

-- `number (or ngx.null), where the next value begins`.
local function lenenc(data, at)
    local first = byte(data, at)
    if not first then
        return nil
    elseif first < 251 then
        return first, at + 1
    elseif first == 251 then
        return null, at + 1
    end
    local size = first == 252 and 2 or first == 253 and 3 or first == 254 and 8
    if not size or #data < at + size then
        return nil
    end
    local number, scale = 0, 1
    for i = at + 1, at + size do
        number = number + byte(data, i) * scale
        scale = scale * 256
    end
    return number, at + size + 1
end
M.lenenc = lenenc

function M.lenenc_string(data, at)
    local len
    len, at = lenenc(data, at)
    if not len then
        return nil
    elseif len == null then
        return null, at
    elseif at + len - 1 > #data then
        return nil
    end
    return sub(data, at, at + len - 1), at + len
end

function M.to_lenenc_string(text)
    local len = #text
    if len < 251 then
        return char(len) .. text
    elseif len < 0x10000 then
        return "\252" .. M.p16(len) .. text
    elseif len < 0x1000000 then
        return "\253" .. M.p24(len) .. text
    end
    return "\254" .. p32(len) .. p32(floor(len / 0x100000000)) .. text
end

return M
