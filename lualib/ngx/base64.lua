-- ngx.base64: the URL-safe alphabet, without padding.
local ffi = require "ffi"
local base = require "resty.core.base"

local C = ffi.C
local ffi_string = ffi.string
local type = type
local floor = math.floor
local get_string_buf = base.get_string_buf

ffi.cdef [[
void ngx_encode_base64url(ngx_str_t *dst, ngx_str_t *src);
intptr_t ngx_decode_base64url(ngx_str_t *dst, ngx_str_t *src);
]]

local M = { version = base.version }

local src, dst = ffi.new("ngx_str_t[1]"), ffi.new("ngx_str_t[1]")

local function prepare(s, room)
    src[0].data, src[0].len = s, #s
    dst[0].data, dst[0].len = get_string_buf(room), room
end

function M.encode_base64url(s)
    if type(s) ~= "string" then
        return nil, "must provide a string"
    end
    prepare(s, floor((#s + 2) / 3) * 4)
    C.ngx_encode_base64url(dst, src)
    local text = ffi_string(dst[0].data, dst[0].len)
    return text
end

function M.decode_base64url(s)
    if type(s) ~= "string" then
        return nil, "must provide a string"
    end
    prepare(s, floor((#s + 3) / 4) * 3)
    if C.ngx_decode_base64url(dst, src) ~= 0 then
        return nil, "invalid input"
    end
    local text = ffi_string(dst[0].data, dst[0].len)
    return text
end

return M
