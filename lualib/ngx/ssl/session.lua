-- `ngx.ssl.session`: sessions that are kept outside of the server, to be gone on with later.
-- https://github.com/openresty/lua-resty-core/blob/master/lib/ngx/ssl/session.md
local ffi = require "ffi"
local base = require "resty.core.base"

base.allows_subsystem("http")

local C = ffi.C
local ffi_string = ffi.string
local error = error
local get_request, get_string_buf = base.get_request, base.get_string_buf
local ERROR = base.FFI_ERROR

ffi.cdef [[
int ngx_http_lua_ffi_ssl_set_serialized_session(ngx_http_request_t *r, const unsigned char *buf, int len, char **err);
int ngx_http_lua_ffi_ssl_get_serialized_session(ngx_http_request_t *r, char *buf, char **err);
int ngx_http_lua_ffi_ssl_get_session_id(ngx_http_request_t *r, char *buf, char **err);
int ngx_http_lua_ffi_ssl_get_serialized_session_size(ngx_http_request_t *r, char **err);
int ngx_http_lua_ffi_ssl_get_session_id_size(ngx_http_request_t *r, char **err);
]]

local MOST = 4096

local errmsg = base.get_errmsg_ptr()

local M = { version = base.version }

local function request()
    local r = get_request()
    if not r then
        error("no request found", 3)
    end
    return r
end

local function failure()
    return nil, ffi_string(errmsg[0])
end

function M.get_serialized_session()
    local r = request()
    local size = C.ngx_http_lua_ffi_ssl_get_serialized_session_size(r, errmsg)
    if size < 0 then
        return failure()
    end
    if size > MOST then
        return nil, "session too big to serialize"
    end
    local buffer = get_string_buf(size)
    if C.ngx_http_lua_ffi_ssl_get_serialized_session(r, buffer, errmsg) == ERROR then
        return failure()
    end
    return ffi_string(buffer, size)
end

function M.get_session_id()
    local r = request()
    local size = C.ngx_http_lua_ffi_ssl_get_session_id_size(r, errmsg)
    if size < 0 then
        return failure()
    end
    local buffer = get_string_buf(size)
    if C.ngx_http_lua_ffi_ssl_get_session_id(r, buffer, errmsg) == ERROR then
        return failure()
    end
    return ffi_string(buffer, size)
end

function M.set_serialized_session(session)
    local r = request()
    if C.ngx_http_lua_ffi_ssl_set_serialized_session(r, session, #session, errmsg) == ERROR then
        return failure()
    end
    return true
end

return M
