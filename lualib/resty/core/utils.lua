-- Helpers of other parts.
local ffi = require "ffi"
local base = require "resty.core.base"

local C = ffi.C
local byte, find = string.byte, string.find

ffi.cdef [[
void ngx_http_lua_ffi_str_replace_char(unsigned char *buf, size_t len, const unsigned char find,
    const unsigned char replace);
]]

local M = { version = base.version }

-- `str` with each `old` byte replaced by `new`.
function M.str_replace_char(str, old, new)
    if not find(str, old, 1, true) then
        return str
    end
    local buffer = base.get_string_buf(#str)
    ffi.copy(buffer, str, #str)
    C.ngx_http_lua_ffi_str_replace_char(buffer, #str, byte(old), byte(new))
    return ffi.string(buffer, #str)
end

return M
