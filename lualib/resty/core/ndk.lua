-- ndk.set_var: ndk.set_var.set_escape_uri(text) calls what the directive of that name calls.
local ffi = require "ffi"
local base = require "resty.core.base"

local C, ffi_new, ffi_string = ffi.C, ffi.new, ffi.string
local get_request = base.get_request
local tostring, error = tostring, error

ffi.cdef [[
    typedef void *ndk_set_var_value_pt;

    int ngx_http_lua_ffi_ndk_lookup_directive(const unsigned char *var_data, size_t var_len,
        ndk_set_var_value_pt *func);
    int ngx_http_lua_ffi_ndk_set_var_get(ngx_http_request_t *r, ndk_set_var_value_pt func,
        const unsigned char *arg_data, size_t arg_len, ngx_http_lua_ffi_str_t *value);
]]

local found = ffi_new("ndk_set_var_value_pt[1]")
local value = ffi_new("ngx_http_lua_ffi_str_t[1]")

local functions = {}

function functions.__index(_, name)
    name = tostring(name)
    if C.ngx_http_lua_ffi_ndk_lookup_directive(name, #name, found) ~= 0 then
        error('ndk.set_var: directive "' .. name .. '" not found or does not use ndk_set_var_value', 2)
    end
    local func = found[0]
    return function(arg)
        local r = get_request()
        if not r then
            error("no request found", 2)
        end
        arg = tostring(arg)
        local rc = C.ngx_http_lua_ffi_ndk_set_var_get(r, func, arg, #arg, value)
        if rc ~= 0 then
            error("calling directive " .. name .. " failed with code " .. rc, 2)
        end
        local text = ffi_string(value[0].data, value[0].len)
        return text
    end
end

function functions.__newindex()
    error("not allowed", 2)
end

ndk.set_var = setmetatable({}, functions)

return { version = base.version }
