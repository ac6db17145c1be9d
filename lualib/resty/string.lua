-- resty.string: hexadecimal digits of bytes, and numbers of decimal ones.
local ffi = require "ffi"

local C = ffi.C
local ffi_new = ffi.new
local ffi_string = ffi.string
local tonumber = tonumber

ffi.cdef [[
unsigned char *ngx_hex_dump(unsigned char *dst, const unsigned char *src, size_t len);
intptr_t ngx_atoi(const unsigned char *line, size_t n);
]]

local M = { _VERSION = "0.19" }

local char_array = ffi.typeof("unsigned char[?]")
local BUFFER_SIZE = 1024
local buffer = ffi_new(char_array, BUFFER_SIZE)

function M.to_hex(s)
    local len = #s * 2
    local to = len <= BUFFER_SIZE and buffer or ffi_new(char_array, len)
    C.ngx_hex_dump(to, s, #s)
    return ffi_string(to, len)
end

-- -1 for what is no number.
function M.atoi(s)
    return tonumber(C.ngx_atoi(s, #s))
end

return M
