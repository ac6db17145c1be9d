-- `ngx.balancer`: code of balancer_by_lua* chooses the server of each attempt.
-- https://github.com/openresty/lua-resty-core/blob/master/lib/ngx/balancer.md
local ffi = require "ffi"
local base = require "resty.core.base"

base.allows_subsystem("http")

local C = ffi.C
local ffi_string = ffi.string
local error, tonumber, type = error, tonumber, type
local get_request, get_string_buf, get_size_ptr = base.get_request, base.get_string_buf, base.get_size_ptr
local OK, ERROR = base.FFI_OK, base.FFI_ERROR

ffi.cdef [[
int ngx_http_lua_ffi_balancer_set_current_peer(ngx_http_request_t *r, const unsigned char *addr, size_t addr_len,
    int port, const unsigned char *host, ssize_t host_len, char **err);
int ngx_http_lua_ffi_balancer_enable_keepalive(ngx_http_request_t *r, unsigned long timeout, unsigned int max_requests,
    char **err);
int ngx_http_lua_ffi_balancer_set_more_tries(ngx_http_request_t *r, int count, char **err);
int ngx_http_lua_ffi_balancer_get_last_failure(ngx_http_request_t *r, int *status, char **err);
int ngx_http_lua_ffi_balancer_set_timeouts(ngx_http_request_t *r, long connect_timeout, long send_timeout,
    long read_timeout, char **err);
int ngx_http_lua_ffi_balancer_recreate_request(ngx_http_request_t *r, char **err);
int ngx_http_lua_ffi_balancer_set_upstream_tls(ngx_http_request_t *r, int on, char **err);
int ngx_http_lua_ffi_balancer_bind_to_local_addr(ngx_http_request_t *r, const unsigned char *addr, size_t addr_len,
    unsigned char *errbuf, size_t *errbuf_size);
]]

local IDLE_MS, REQUESTS = 60000, 100
local ERROR_SIZE = 1024
local FAILURES = { [1] = "keepalive", [2] = "next", [4] = "failed" }

local errmsg = base.get_errmsg_ptr()
local status = ffi.new("int[1]")

local M = { version = base.version }

local function request()
    local r = get_request()
    if not r then
        error("no request found", 3)
    end
    return r
end

local function answer(rc)
    if rc == OK then
        return true
    end
    return nil, ffi_string(errmsg[0])
end

function M.set_current_peer(addr, port, host)
    local r = request()
    if not port then
        port = 0
    elseif type(port) ~= "number" then
        port = tonumber(port)
    end
    if host ~= nil and type(host) ~= "string" then
        error("bad argument #3 to 'set_current_peer' (string expected, got " .. type(host) .. ")")
    end
    return answer(C.ngx_http_lua_ffi_balancer_set_current_peer(r, addr, #addr, port, host, host and #host or 0, errmsg))
end

-- A number that is not negative, or its default.
local function count(n, value, default)
    if not value then
        return default
    end
    if type(value) ~= "number" then
        error("bad argument #" .. n .. " to 'enable_keepalive' (number expected, got " .. type(value) .. ")", 3)
    end
    if value < 0 then
        error("bad argument #" .. n .. " to 'enable_keepalive' (expected >= 0)", 3)
    end
    return value
end

function M.enable_keepalive(idle_timeout, max_requests)
    local r = request()
    local idle = count(1, idle_timeout, IDLE_MS / 1000) * 1000
    local requests = count(2, max_requests, REQUESTS)
    return answer(C.ngx_http_lua_ffi_balancer_enable_keepalive(r, idle, requests, errmsg))
end

function M.set_more_tries(more)
    local r = request()
    if C.ngx_http_lua_ffi_balancer_set_more_tries(r, more, errmsg) ~= OK then
        return nil, ffi_string(errmsg[0])
    end
    if errmsg[0] == nil then
        return true
    end
    return true, ffi_string(errmsg[0])
end

function M.get_last_failure()
    local r = request()
    local state = C.ngx_http_lua_ffi_balancer_get_last_failure(r, status, errmsg)
    if state == 0 then
        return nil
    end
    if state == ERROR then
        return nil, nil, ffi_string(errmsg[0])
    end
    return FAILURES[state] or "unknown", status[0]
end

local function milliseconds(what, seconds)
    if not seconds then
        return 0
    end
    if type(seconds) ~= "number" or seconds <= 0 then
        error("bad " .. what .. " timeout", 3)
    end
    return seconds * 1000
end

function M.set_timeouts(connect, send, read)
    local r = request()
    local connect_ms = milliseconds("connect", connect)
    local send_ms = milliseconds("send", send)
    local read_ms = milliseconds("read", read)
    if C.ngx_http_lua_ffi_balancer_set_timeouts(r, connect_ms, send_ms, read_ms, errmsg) == OK then
        return true
    end
    return false, ffi_string(errmsg[0])
end

function M.recreate_request()
    local r = request()
    if C.ngx_http_lua_ffi_balancer_recreate_request(r, errmsg) == OK then
        return true
    end
    if errmsg[0] ~= nil then
        return nil, ffi_string(errmsg[0])
    end
    return nil, "failed to recreate the upstream request"
end

function M.set_upstream_tls(on)
    local r = request()
    local off = on == 0 or on == false
    return answer(C.ngx_http_lua_ffi_balancer_set_upstream_tls(r, off and 0 or 1, errmsg))
end

function M.bind_to_local_addr(addr)
    local r = request()
    if type(addr) ~= "string" then
        error("bad argument #1 to 'bind_to_local_addr' (string expected, got " .. type(addr) .. ")")
    end
    local buffer, size = get_string_buf(ERROR_SIZE), get_size_ptr()
    size[0] = ERROR_SIZE
    if C.ngx_http_lua_ffi_balancer_bind_to_local_addr(r, addr, #addr, buffer, size) == OK then
        return true
    end
    return nil, ffi_string(buffer, size[0])
end

return M
