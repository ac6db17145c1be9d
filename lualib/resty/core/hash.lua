-- `ngx.md5`, `ngx.md5_bin`, `ngx.sha1_bin`, `ngx.crc32_short`, `ngx.crc32_long`.
local ffi = require "ffi"
local base = require "resty.core.base"

local C = ffi.C
local ffi_string = ffi.string
local tostring, type = tostring, type
local ngx = ngx

ffi.cdef [[
void ngx_http_lua_ffi_md5_bin(const unsigned char *src, size_t len, unsigned char *dst);
void ngx_http_lua_ffi_md5(const unsigned char *src, size_t len, unsigned char *dst);
int ngx_http_lua_ffi_sha1_bin(const unsigned char *src, size_t len, unsigned char *dst);
unsigned int ngx_http_lua_ffi_crc32_long(const unsigned char *src, size_t len);
unsigned int ngx_http_lua_ffi_crc32_short(const unsigned char *src, size_t len);
]]

local function text(s)
    if type(s) == "string" then
        return s
    end
    return s and tostring(s) or ""
end

local digest = ffi.new("unsigned char[32]")

function ngx.md5_bin(s)
    s = text(s)
    C.ngx_http_lua_ffi_md5_bin(s, #s, digest)
    local text = ffi_string(digest, 16)
    return text
end

function ngx.md5(s)
    s = text(s)
    C.ngx_http_lua_ffi_md5(s, #s, digest)
    local text = ffi_string(digest, 32)
    return text
end

function ngx.sha1_bin(s)
    s = text(s)
    C.ngx_http_lua_ffi_sha1_bin(s, #s, digest)
    local text = ffi_string(digest, 20)
    return text
end

function ngx.crc32_short(s)
    s = text(s)
    local number = C.ngx_http_lua_ffi_crc32_short(s, #s)
    return number
end

function ngx.crc32_long(s)
    s = text(s)
    local number = C.ngx_http_lua_ffi_crc32_long(s, #s)
    return number
end

return { version = base.version }
