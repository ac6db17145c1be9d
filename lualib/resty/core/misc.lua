-- `ngx.status`, `ngx.headers_sent`, `ngx.is_subrequest`, `ngx.req.is_internal`: fields of `ngx` that are computed.
local ffi = require "ffi"
local base = require "resty.core.base"

local C = ffi.C
local error, rawset, tonumber, type = error, rawset, tonumber, type
local get_request = base.get_request
local NO_REQ_CTX, BAD_CONTEXT = base.FFI_NO_REQ_CTX, base.FFI_BAD_CONTEXT
local ngx = ngx

ffi.cdef [[
int ngx_http_lua_ffi_get_resp_status(ngx_http_request_t *r);
int ngx_http_lua_ffi_set_resp_status(ngx_http_request_t *r, int r);
int ngx_http_lua_ffi_is_subrequest(ngx_http_request_t *r);
int ngx_http_lua_ffi_headers_sent(ngx_http_request_t *r);
int ngx_http_lua_ffi_req_is_internal(ngx_http_request_t *r);
int ngx_http_lua_ffi_get_conf_env(const unsigned char *name, unsigned char **env_buf, size_t *name_len);
]]

local M = { _VERSION = base.version }

local getters, setters = {}, {}

function M.register_ngx_magic_key_getter(key, f)
    getters[key] = f
end

function M.register_ngx_magic_key_setter(key, f)
    setters[key] = f
end

-- Where `ngx` looks for what it has not itself. What a getter has found may be kept here for as long as it holds: that
-- is found without calling anything.
M.kept = setmetatable({}, {
    __index = function(_, key)
        local f = getters[key]
        if f then
            return f()
        end
    end,
})

setmetatable(ngx, {
    __index = M.kept,

    __newindex = function(t, key, value)
        local f = setters[key]
        if f then
            return f(value)
        end
        local done = rawset(t, key, value)
        return done
    end,
})

local function checked(code)
    if code == BAD_CONTEXT then
        error("API disabled in the current context", 3)
    end
    if code == NO_REQ_CTX then
        error("no request ctx found", 3)
    end
    return code
end

function getters.status()
    local r = get_request()
    if not r then
        error("no request found")
    end
    return checked(C.ngx_http_lua_ffi_get_resp_status(r))
end

function setters.status(status)
    local r = get_request()
    if not r then
        error("no request found")
    end
    if type(status) ~= "number" then
        status = tonumber(status)
    end
    checked(C.ngx_http_lua_ffi_set_resp_status(r, status))
end

function getters.headers_sent()
    local r = get_request()
    if not r then
        error("no request found")
    end
    return checked(C.ngx_http_lua_ffi_headers_sent(r)) == 1
end

function getters.is_subrequest()
    local r = get_request()
    if not r then
        error("no request found")
    end
    return checked(C.ngx_http_lua_ffi_is_subrequest(r)) == 1
end

function ngx.req.is_internal()
    local r = get_request()
    if not r then
        error("no request found")
    end
    return checked(C.ngx_http_lua_ffi_req_is_internal(r)) == 1
end

return M
