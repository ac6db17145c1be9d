-- ngx.resp: fields added to those of their name, a status with a reason of its own.
local ffi = require "ffi"
local base = require "resty.core.base"
local response = require "resty.core.response"

local C = ffi.C
local error, tonumber, type = error, tonumber, type

ffi.cdef [[
int ngx_http_lua_ffi_set_resp_status_and_reason(ngx_http_request_t *r, int status, const char *reason,
    size_t reason_len);
]]

local M = { version = base.version, bypass_if_checks = response.bypass_if_checks }

function M.add_header(name, value)
    response.set_resp_header(nil, name, value, true)
end

function M.set_status(status, reason)
    local r = base.get_request()
    if not r then
        error("no request found")
    end
    if type(status) ~= "number" then
        status = tonumber(status)
    end
    if C.ngx_http_lua_ffi_set_resp_status_and_reason(r, status, reason, #reason) == base.FFI_BAD_CONTEXT then
        error("API disabled in the current context", 2)
    end
end

return M
