-- `ngx.ocsp`: asking an issuer about a certificate, and passing its word on to clients.
-- https://github.com/openresty/lua-resty-core/blob/master/lib/ngx/ocsp.md
local ffi = require "ffi"
local base = require "resty.core.base"

base.allows_subsystem("http")

local C = ffi.C
local ffi_string = ffi.string
local error, tonumber = error, tonumber
local get_request, get_size_ptr = base.get_request, base.get_size_ptr
local get_string_buf, get_string_buf_size = base.get_string_buf, base.get_string_buf_size
local OK, BUSY, DECLINED = base.FFI_OK, base.FFI_BUSY, base.FFI_DECLINED

ffi.cdef [[
int ngx_http_lua_ffi_ssl_get_ocsp_responder_from_der_chain(const char *chain_data, size_t chain_len, char *out,
    size_t *out_size, char **err);
int ngx_http_lua_ffi_ssl_create_ocsp_request(const char *chain_data, size_t chain_len, unsigned char *out,
    size_t *out_size, char **err);
int ngx_http_lua_ffi_ssl_validate_ocsp_response(const unsigned char *resp, size_t resp_len, const char *chain_data,
    size_t chain_len, unsigned char *errbuf, size_t *errbuf_size, long *valid);
int ngx_http_lua_ffi_ssl_set_ocsp_status_resp(ngx_http_request_t *r, const unsigned char *resp, size_t resp_len,
    char **err);
]]

local errmsg = base.get_errmsg_ptr()
local until_ptr = ffi.new("long[1]")

local M = { version = base.version }

local function room(wanted)
    local size = wanted or get_string_buf_size()
    local size_ptr = get_size_ptr()
    size_ptr[0] = size
    return get_string_buf(size), size_ptr, size
end

function M.get_ocsp_responder_from_der_chain(chain, maxlen)
    local buffer, size = room(maxlen)
    local rc = C.ngx_http_lua_ffi_ssl_get_ocsp_responder_from_der_chain(chain, #chain, buffer, size, errmsg)
    if rc == OK then
        return ffi_string(buffer, size[0])
    end
    if rc == BUSY then
        return ffi_string(buffer, size[0]), "truncated"
    end
    if rc == DECLINED then
        return nil
    end
    return nil, ffi_string(errmsg[0])
end

function M.create_ocsp_request(chain, maxlen)
    local buffer, size, given = room(maxlen)
    local rc = C.ngx_http_lua_ffi_ssl_create_ocsp_request(chain, #chain, buffer, size, errmsg)
    if rc == OK then
        return ffi_string(buffer, size[0])
    end
    local err = ffi_string(errmsg[0])
    if rc == BUSY then
        err = err .. ": " .. tonumber(size[0]) .. " > " .. given
    end
    return nil, err
end

function M.validate_ocsp_response(response, chain, max_errmsg_len)
    local buffer, size = room(max_errmsg_len)
    until_ptr[0] = 0
    local rc = C.ngx_http_lua_ffi_ssl_validate_ocsp_response(response, #response, chain, #chain, buffer, size, until_ptr)
    if rc ~= OK then
        return nil, ffi_string(buffer, size[0])
    end
    local next_update = tonumber(until_ptr[0])
    return true, next_update ~= 0 and next_update or nil
end

function M.set_ocsp_status_resp(response)
    local r = get_request()
    if not r then
        error("no request found")
    end
    local rc = C.ngx_http_lua_ffi_ssl_set_ocsp_status_resp(r, response, #response, errmsg)
    if rc == DECLINED then
        return true, "no status req"
    end
    if rc == OK then
        return true
    end
    return nil, ffi_string(errmsg[0])
end

return M
