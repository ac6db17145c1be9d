-- `ngx.var`.
local ffi = require "ffi"
local base = require "resty.core.base"

local C = ffi.C
local ffi_string = ffi.string
local error, tostring, type = error, tostring, type
local get_request, get_size_ptr, get_string_buf = base.get_request, base.get_size_ptr, base.get_string_buf
local OK = base.FFI_OK

ffi.cdef [[
int ngx_http_lua_ffi_var_set(ngx_http_request_t *r, const unsigned char *name_data, size_t name_len,
    unsigned char *lowcase_buf, const unsigned char *value, size_t value_len, unsigned char *errbuf, size_t *errlen);
]]

local size_ptr = get_size_ptr()

local ERROR_SIZE = 256

local function set(_, name, value)
    local r = get_request()
    if not r then
        error("no request found")
    end
    if type(name) ~= "string" then
        error("bad variable name", 2)
    end
    if value ~= nil and type(value) ~= "string" then
        value = tostring(value)
    end
    local lowered = get_string_buf(#name + ERROR_SIZE)
    local message = lowered + #name
    size_ptr[0] = ERROR_SIZE
    local code = C.ngx_http_lua_ffi_var_set(r, name, #name, lowered, value, value and #value or 0, message, size_ptr)
    if code ~= OK then
        error(ffi_string(message, size_ptr[0]), 2)
    end
end

ngx.var = setmetatable({}, { __index = require "moonrest.var_get", __newindex = set })

return { version = base.version }
