-- `ngx.now`, `ngx.time` and the rest of the clock.
local ffi = require "ffi"
local base = require "resty.core.base"

local C = ffi.C
local ffi_string = ffi.string
local error, tonumber, type = error, tonumber, type
local get_string_buf = base.get_string_buf
local ngx = ngx

ffi.cdef [[
double ngx_http_lua_ffi_now(void);
long ngx_http_lua_ffi_time(void);
long ngx_http_lua_ffi_monotonic_msec(void);
void ngx_http_lua_ffi_update_time(void);
void ngx_http_lua_ffi_today(unsigned char *buf);
void ngx_http_lua_ffi_localtime(unsigned char *buf);
void ngx_http_lua_ffi_utctime(unsigned char *buf);
int ngx_http_lua_ffi_cookie_time(unsigned char *buf, long t);
void ngx_http_lua_ffi_http_time(unsigned char *buf, long t);
void ngx_http_lua_ffi_parse_http_time(const unsigned char *str, size_t len, long *time);
]]

local M = { version = base.version }

function ngx.now()
    local number = tonumber(C.ngx_http_lua_ffi_now())
    return number
end

function ngx.time()
    local number = tonumber(C.ngx_http_lua_ffi_time())
    return number
end

function ngx.update_time()
    C.ngx_http_lua_ffi_update_time()
end

function M.monotonic_msec()
    local number = tonumber(C.ngx_http_lua_ffi_monotonic_msec())
    return number
end

function M.monotonic_time()
    return tonumber(C.ngx_http_lua_ffi_monotonic_msec()) / 1000
end

-- 2010-11-19
function ngx.today()
    local buffer = get_string_buf(10)
    C.ngx_http_lua_ffi_today(buffer)
    local text = ffi_string(buffer, 10)
    return text
end

-- 2010-11-19 20:56:31
function ngx.localtime()
    local buffer = get_string_buf(19)
    C.ngx_http_lua_ffi_localtime(buffer)
    local text = ffi_string(buffer, 19)
    return text
end

function ngx.utctime()
    local buffer = get_string_buf(19)
    C.ngx_http_lua_ffi_utctime(buffer)
    local text = ffi_string(buffer, 19)
    return text
end

-- Mon, 28-Sep-38 06:00:00 GMT
function ngx.cookie_time(seconds)
    if type(seconds) ~= "number" then
        error("number argument only", 2)
    end
    local buffer = get_string_buf(29)
    local text = ffi_string(buffer, C.ngx_http_lua_ffi_cookie_time(buffer, seconds))
    return text
end

-- Mon, 28 Sep 1970 06:00:00 GMT
function ngx.http_time(seconds)
    if type(seconds) ~= "number" then
        error("number argument only", 2)
    end
    local buffer = get_string_buf(29)
    C.ngx_http_lua_ffi_http_time(buffer, seconds)
    local text = ffi_string(buffer, 29)
    return text
end

local time = ffi.new("long[1]")

function ngx.parse_http_time(text)
    if type(text) ~= "string" then
        error("string argument only", 2)
    end
    C.ngx_http_lua_ffi_parse_http_time(text, #text, time)
    local seconds = tonumber(time[0])
    if seconds == -1 then
        return nil
    end
    return seconds
end

return M
