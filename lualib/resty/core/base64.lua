-- `ngx.encode_base64`, `ngx.decode_base64`, `ngx.decode_base64mime`.
local ffi = require "ffi"
local base = require "resty.core.base"

local C = ffi.C
local ffi_string = ffi.string
local error, tostring, type = error, tostring, type
local floor = math.floor
local get_size_ptr, get_string_buf = base.get_size_ptr, base.get_string_buf
local ngx = ngx

ffi.cdef [[
size_t ngx_http_lua_ffi_encode_base64(const unsigned char *src, size_t len, unsigned char *dst, int no_padding);
int ngx_http_lua_ffi_decode_base64(const unsigned char *src, size_t len, unsigned char *dst, size_t *dlen);
int ngx_http_lua_ffi_decode_base64mime(const unsigned char *src, size_t len, unsigned char *dst, size_t *dlen);
]]

function ngx.encode_base64(s, no_padding)
    if type(s) ~= "string" then
        s = s and tostring(s) or ""
    end
    if no_padding and no_padding ~= true then
        error("bad no_padding: boolean expected, got " .. type(no_padding), 2)
    end
    local dst = get_string_buf(floor((#s + 2) / 3) * 4)
    local text = ffi_string(dst, C.ngx_http_lua_ffi_encode_base64(s, #s, dst, no_padding and 1 or 0))
    return text
end

local function decoder(decode)
    return function(s)
        if type(s) ~= "string" then
            error("string argument only", 2)
        end
        local dst, size = get_string_buf(floor((#s + 3) / 4) * 3), get_size_ptr()
        if decode(s, #s, dst, size) == 0 then
            return nil
        end
        local text = ffi_string(dst, size[0])
        return text
    end
end

ngx.decode_base64 = decoder(C.ngx_http_lua_ffi_decode_base64)
ngx.decode_base64mime = decoder(C.ngx_http_lua_ffi_decode_base64mime)

return { version = base.version }
