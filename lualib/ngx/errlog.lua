-- ngx.errlog: what the error log has kept (lua_capture_error_log), and logging as it stands.
local ffi = require "ffi"
local base = require "resty.core.base"

local C = ffi.C
local ffi_string = ffi.string
local error, tonumber, type = error, tonumber, type
local get_request, get_size_ptr, get_string_buf = base.get_request, base.get_size_ptr, base.get_string_buf
local ERROR = base.FFI_ERROR

ffi.cdef [[
int ngx_http_lua_ffi_errlog_set_filter_level(int level, unsigned char *err, size_t *errlen);
int ngx_http_lua_ffi_errlog_get_msg(char **log, int *loglevel, unsigned char *err, size_t *errlen, double *log_time);
int ngx_http_lua_ffi_errlog_get_sys_filter_level(ngx_http_request_t *r);
int ngx_http_lua_ffi_raw_log(ngx_http_request_t *r, int level, const unsigned char *s, size_t s_len);
]]

local M = { version = base.version }

local ERROR_SIZE = 128

local function error_place()
    local size = get_size_ptr()
    size[0] = ERROR_SIZE
    return get_string_buf(ERROR_SIZE), size
end

function M.set_filter_level(level)
    if not level then
        return nil, 'missing "level" argument'
    end
    local err, size = error_place()
    if C.ngx_http_lua_ffi_errlog_set_filter_level(level, err, size) == ERROR then
        return nil, ffi_string(err, size[0])
    end
    return true
end

local text, level, time = ffi.new("char *[1]"), ffi.new("int[1]"), ffi.new("double[1]")

-- Level, time and text of up to `max` lines, one after another.
function M.get_logs(max, logs)
    max = max or 10
    logs = logs or base.new_tab(max * 3 + 1, 0)
    local err, size = error_place()
    local n = 0
    for _ = 1, max do
        local len = C.ngx_http_lua_ffi_errlog_get_msg(text, level, err, size, time)
        if len == ERROR then
            return nil, ffi_string(err, size[0])
        end
        if len < 0 then
            break
        end
        if len > 0 then
            logs[n + 1], logs[n + 2], logs[n + 3] = level[0], time[0], ffi_string(text[0], len)
            n = n + 3
        end
    end
    logs[n + 1] = nil
    return logs
end

function M.get_sys_filter_level()
    local number = tonumber(C.ngx_http_lua_ffi_errlog_get_sys_filter_level(get_request()))
    return number
end

function M.raw_log(severity, message)
    if type(severity) ~= "number" then
        error("bad argument #1 to 'raw_log' (must be a number)", 2)
    end
    if type(message) ~= "string" then
        error("bad argument #2 to 'raw_log' (must be a string)", 2)
    end
    if C.ngx_http_lua_ffi_raw_log(get_request(), severity, message, #message) == ERROR then
        error("bad log level", 2)
    end
end

return M
