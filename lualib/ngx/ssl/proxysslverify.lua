-- `ngx.ssl.proxysslverify`: what an upstream's certificate is worth.
-- https://github.com/openresty/lua-resty-core/blob/master/lib/ngx/ssl/proxysslverify.md
local ffi = require "ffi"
local base = require "resty.core.base"

base.allows_subsystem("http")

local C = ffi.C
local ffi_gc, ffi_string = ffi.gc, ffi.string
local error = error
local get_phase = ngx.get_phase
local get_request = base.get_request
local OK, ERROR = base.FFI_OK, base.FFI_ERROR

ffi.cdef [[
int ngx_http_lua_ffi_proxy_ssl_set_verify_result(ngx_http_request_t *r, int verify_result, char **err);
int ngx_http_lua_ffi_proxy_ssl_get_verify_result(ngx_http_request_t *r, char **err);
void *ngx_http_lua_ffi_proxy_ssl_get_verify_cert(ngx_http_request_t *r, char **err);
void ngx_http_lua_ffi_proxy_ssl_free_verify_cert(void *cdata);
]]

local errmsg = base.get_errmsg_ptr()

local M = { version = base.version }

local function request()
    local r = get_request()
    if not r then
        error("no request found", 3)
    end
    if get_phase() ~= "proxy_ssl_verify" then
        error("API disabled in the current context", 3)
    end
    return r
end

function M.set_verify_result(result)
    if C.ngx_http_lua_ffi_proxy_ssl_set_verify_result(request(), result, errmsg) == OK then
        return true
    end
    return nil, ffi_string(errmsg[0])
end

function M.get_verify_result()
    local result = C.ngx_http_lua_ffi_proxy_ssl_get_verify_result(request(), errmsg)
    if result == ERROR then
        return nil, ffi_string(errmsg[0])
    end
    return result
end

function M.get_verify_cert()
    local cert = C.ngx_http_lua_ffi_proxy_ssl_get_verify_cert(request(), errmsg)
    if cert == nil then
        return nil, ffi_string(errmsg[0])
    end
    return ffi_gc(cert, C.ngx_http_lua_ffi_proxy_ssl_free_verify_cert)
end

return M
