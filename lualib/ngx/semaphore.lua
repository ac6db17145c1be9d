-- `ngx.semaphore`: light threads of all requests of a worker wait for each other.
-- https://github.com/openresty/lua-resty-core/blob/master/lib/ngx/semaphore.md
local ffi = require "ffi"
local base = require "resty.core.base"

base.allows_subsystem("http")

local C = ffi.C
local ffi_gc, ffi_new, ffi_string = ffi.gc, ffi.new, ffi.string
local error, setmetatable, tonumber, type = error, setmetatable, tonumber, type
local get_errmsg_ptr, get_request = base.get_errmsg_ptr, base.get_request
local get_size_ptr, get_string_buf = base.get_size_ptr, base.get_string_buf
local wait_for_it = coroutine._yield
local OK, ERROR, DECLINED = base.FFI_OK, base.FFI_ERROR, base.FFI_DECLINED

ffi.cdef [[
struct ngx_http_lua_sema_s;
typedef struct ngx_http_lua_sema_s ngx_http_lua_sema_t;

int ngx_http_lua_ffi_sema_new(ngx_http_lua_sema_t **psem, int n, char **errmsg);
int ngx_http_lua_ffi_sema_post(ngx_http_lua_sema_t *sem, int n);
int ngx_http_lua_ffi_sema_count(ngx_http_lua_sema_t *sem);
int ngx_http_lua_ffi_sema_wait(ngx_http_request_t *r, ngx_http_lua_sema_t *sem, int wait_ms, unsigned char *errstr,
                               size_t *errlen);
void ngx_http_lua_ffi_sema_gc(ngx_http_lua_sema_t *sem);
]]

local ERROR_SIZE = 128

local place = ffi_new("ngx_http_lua_sema_t *[1]")

local M = { version = base.version }
local mt = { __index = M }

local function cdata(self)
    local sem = type(self) == "table" and self.sem
    if type(sem) ~= "cdata" then
        error("not a semaphore instance", 3)
    end
    return sem
end

function M.new(n)
    n = tonumber(n) or 0
    if n < 0 then
        error("no negative number", 2)
    end
    local err = get_errmsg_ptr()
    if C.ngx_http_lua_ffi_sema_new(place, n, err) == ERROR then
        return nil, ffi_string(err[0])
    end
    local object = setmetatable({ sem = ffi_gc(place[0], C.ngx_http_lua_ffi_sema_gc) }, mt)
    return object
end

function M.wait(self, seconds)
    local sem = cdata(self)
    local r = get_request()
    if not r then
        error("no request found")
    end
    local ms = tonumber(seconds) * 1000
    if ms < 0 then
        error("no negative number", 2)
    end
    local err, size = get_string_buf(ERROR_SIZE), get_size_ptr()
    size[0] = ERROR_SIZE
    local rc = C.ngx_http_lua_ffi_sema_wait(r, sem, ms, err, size)
    if rc == OK then
        return true
    end
    if rc == DECLINED then
        return nil, "timeout"
    end
    if rc == ERROR then
        return nil, ffi_string(err, size[0])
    end
    return wait_for_it()
end

function M.post(self, n)
    local sem = cdata(self)
    n = n and tonumber(n) or 1
    if n < 1 then
        error("positive number required", 2)
    end
    C.ngx_http_lua_ffi_sema_post(sem, n)
    return true
end

function M.count(self)
    local number = C.ngx_http_lua_ffi_sema_count(cdata(self))
    return number
end

return M
