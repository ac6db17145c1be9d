-- `ngx.escape_uri`, `ngx.unescape_uri`.
local ffi = require "ffi"
local base = require "resty.core.base"

local C = ffi.C
local ffi_string = ffi.string
local error, tonumber, tostring, type = error, tonumber, tostring, type
local get_string_buf = base.get_string_buf
local ngx = ngx

ffi.cdef [[
size_t ngx_http_lua_ffi_uri_escaped_length(const unsigned char *src, size_t len, int type);
void ngx_http_lua_ffi_escape_uri(const unsigned char *src, size_t len, unsigned char *dst, int type);
size_t ngx_http_lua_ffi_unescape_uri(const unsigned char *src, size_t len, unsigned char *dst);
]]

local COMPONENT, LAST_TYPE = 2, 6

local function text(s)
    if type(s) == "string" then
        return s
    end
    return s and tostring(s) or ""
end

function ngx.escape_uri(s, kind)
    s = text(s)
    if kind == nil then
        kind = COMPONENT
    elseif type(kind) ~= "number" then
        error('"type" is not a number', 3)
    elseif kind < 0 or kind > LAST_TYPE then
        error('"type" ' .. kind .. " out of range", 3)
    end
    local size = tonumber(C.ngx_http_lua_ffi_uri_escaped_length(s, #s, kind))
    if size == #s then
        return s
    end
    local buffer = get_string_buf(size)
    C.ngx_http_lua_ffi_escape_uri(s, #s, buffer, kind)
    local text = ffi_string(buffer, size)
    return text
end

function ngx.unescape_uri(s)
    s = text(s)
    local buffer = get_string_buf(#s)
    local text = ffi_string(buffer, C.ngx_http_lua_ffi_unescape_uri(s, #s, buffer))
    return text
end

return { version = base.version }
