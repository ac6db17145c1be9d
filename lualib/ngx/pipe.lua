-- `ngx.pipe`: programs, started and talked to without blocking.
-- https://github.com/openresty/lua-resty-core/blob/master/lib/ngx/pipe.md
local ffi = require "ffi"
local base = require "resty.core.base"
require "resty.core.phase"

base.allows_subsystem("http")

local C = ffi.C
local ffi_new, ffi_string = ffi.new, ffi.string
local error, ipairs, tonumber, tostring, type = error, ipairs, tonumber, tostring, type
local concat, find = table.concat, string.find
local get_request, get_size_ptr, get_string_buf = base.get_request, base.get_size_ptr, base.get_string_buf
local wait_for_it = coroutine._yield
local OK, ERROR, AGAIN, DECLINED = base.FFI_OK, base.FFI_ERROR, base.FFI_AGAIN, base.FFI_DECLINED
local NO_REQ_CTX, BAD_CONTEXT = base.FFI_NO_REQ_CTX, base.FFI_BAD_CONTEXT

ffi.cdef [[
typedef struct ngx_http_lua_pipe_s ngx_http_lua_pipe_t;

typedef struct {
    int _pid;
    uintptr_t write_timeout;
    uintptr_t stdout_read_timeout;
    uintptr_t stderr_read_timeout;
    uintptr_t wait_timeout;
    ngx_http_lua_pipe_t *pipe;
} ngx_http_lua_ffi_pipe_proc_t;

int ngx_http_lua_ffi_pipe_spawn(ngx_http_request_t *r, ngx_http_lua_ffi_pipe_proc_t *proc, const char *file,
                                const char **argv, int merge_stderr, size_t buffer_size, const char **environ,
                                unsigned char *errbuf, size_t *errbuf_size);
int ngx_http_lua_ffi_pipe_proc_read(ngx_http_request_t *r, ngx_http_lua_ffi_pipe_proc_t *proc, int from_stderr,
                                    int reader_type, size_t length, unsigned char **buf, size_t *buf_size,
                                    unsigned char *errbuf, size_t *errbuf_size);
int ngx_http_lua_ffi_pipe_get_read_result(ngx_http_request_t *r, ngx_http_lua_ffi_pipe_proc_t *proc, int from_stderr,
                                          unsigned char **buf, size_t *buf_size, unsigned char *errbuf,
                                          size_t *errbuf_size);
ssize_t ngx_http_lua_ffi_pipe_proc_write(ngx_http_request_t *r, ngx_http_lua_ffi_pipe_proc_t *proc,
                                         const unsigned char *data, size_t len, unsigned char *errbuf,
                                         size_t *errbuf_size);
ssize_t ngx_http_lua_ffi_pipe_get_write_result(ngx_http_request_t *r, ngx_http_lua_ffi_pipe_proc_t *proc,
                                               unsigned char *errbuf, size_t *errbuf_size);
int ngx_http_lua_ffi_pipe_proc_shutdown_stdin(ngx_http_lua_ffi_pipe_proc_t *proc, unsigned char *errbuf,
                                              size_t *errbuf_size);
int ngx_http_lua_ffi_pipe_proc_shutdown_stdout(ngx_http_lua_ffi_pipe_proc_t *proc, unsigned char *errbuf,
                                               size_t *errbuf_size);
int ngx_http_lua_ffi_pipe_proc_shutdown_stderr(ngx_http_lua_ffi_pipe_proc_t *proc, unsigned char *errbuf,
                                               size_t *errbuf_size);
int ngx_http_lua_ffi_pipe_proc_wait(ngx_http_request_t *r, ngx_http_lua_ffi_pipe_proc_t *proc, char **reason,
                                    int *status, unsigned char *errbuf, size_t *errbuf_size);
int ngx_http_lua_ffi_pipe_proc_kill(ngx_http_lua_ffi_pipe_proc_t *proc, int signal, unsigned char *errbuf,
                                    size_t *errbuf_size);
void ngx_http_lua_ffi_pipe_proc_destroy(ngx_http_lua_ffi_pipe_proc_t *proc);
]]

local ERROR_SIZE = 256
local ALL, BYTES, LINE, ANY = 0, 1, 2, 3
local DEFAULT_TIMEOUT = 10000
local MAX_TIMEOUT = 0xffffffff
local SHELL = "/bin/sh"

local function error_place()
    local buf, size = get_string_buf(ERROR_SIZE), get_size_ptr()
    size[0] = ERROR_SIZE
    return buf, size
end

local function check(proc)
    if type(proc) ~= "cdata" then
        error("not a process instance", 3)
    end
end

local function request_of(level)
    local r = get_request()
    if not r then
        error("no request found", level + 1)
    end
    return r
end

-- What is an error of the caller, not of the program.
local function check_code(code, err, size, level)
    if code == NO_REQ_CTX then
        error("no request ctx found", level + 1)
    elseif code == BAD_CONTEXT then
        error(ffi_string(err, size[0]), level + 1)
    end
end

local buf, buf_size = ffi_new("unsigned char *[1]"), ffi_new("size_t[1]")
local SMALL = 4096
local small = ffi_new("unsigned char[?]", SMALL)

local function offer_small()
    buf[0], buf_size[0] = small, SMALL
end

-- The bytes that were read; what was too much for the small buffer is fetched.
local function bytes(r, proc, from_stderr)
    if buf[0] == small then
        return ffi_string(small, buf_size[0])
    end
    local size = buf_size[0]
    local large = ffi_new("unsigned char[?]", size)
    buf[0] = large
    local err, err_size = error_place()
    C.ngx_http_lua_ffi_pipe_get_read_result(r, proc, from_stderr, buf, buf_size, err, err_size)
    return ffi_string(large, buf_size[0])
end

local function read(proc, from_stderr, kind, length)
    check(proc)
    local r = request_of(3)
    offer_small()
    local err, size = error_place()
    local code = C.ngx_http_lua_ffi_pipe_proc_read(r, proc, from_stderr, kind, length, buf, buf_size, err, size)
    check_code(code, err, size, 3)
    if code == AGAIN then
        wait_for_it()
        offer_small()
        err, size = error_place()
        code = C.ngx_http_lua_ffi_pipe_get_read_result(r, proc, from_stderr, buf, buf_size, err, size)
    end
    if code == OK then
        return bytes(r, proc, from_stderr)
    end
    local message = ffi_string(err, size[0])
    if code == DECLINED then
        return nil, message, bytes(r, proc, from_stderr)
    end
    return nil, message
end

local function set_timeouts(proc, level, write, out, err, wait)
    local function set(name, value)
        if value then
            if value < 0 or value > MAX_TIMEOUT then
                error("bad " .. name .. " option", level + 2)
            end
            proc[name] = value
        end
    end
    set("write_timeout", write)
    set("stdout_read_timeout", out)
    set("stderr_read_timeout", err)
    set("wait_timeout", wait)
end

local methods = {}

function methods.pid(proc)
    return proc._pid
end

function methods.set_timeouts(proc, write, out, err, wait)
    set_timeouts(proc, 1, write, out, err, wait)
end

for name, from_stderr in pairs { stdout = 0, stderr = 1 } do
    methods[name .. "_read_all"] = function(proc)
        return read(proc, from_stderr, ALL, 0)
    end

    methods[name .. "_read_line"] = function(proc)
        return read(proc, from_stderr, LINE, 0)
    end

    methods[name .. "_read_bytes"] = function(proc, length)
        if length < 0 then
            error("bad len argument", 2)
        elseif length == 0 then
            return ""
        end
        return read(proc, from_stderr, BYTES, length)
    end

    methods[name .. "_read_any"] = function(proc, max)
        max = tonumber(max)
        if not max or max <= 0 then
            error("bad max argument", 2)
        end
        return read(proc, from_stderr, ANY, max)
    end
end

function methods.write(proc, data)
    check(proc)
    local r = request_of(2)
    local kind = type(data)
    if kind == "table" then
        data = concat(data)
    elseif kind == "number" then
        data = tostring(data)
    elseif kind ~= "string" then
        error("bad data arg: string, number, or table expected, got " .. kind, 2)
    end
    local err, size = error_place()
    local code = C.ngx_http_lua_ffi_pipe_proc_write(r, proc, data, #data, err, size)
    check_code(code, err, size, 2)
    if code == AGAIN then
        wait_for_it()
        err, size = error_place()
        code = C.ngx_http_lua_ffi_pipe_get_write_result(r, proc, err, size)
    end
    if code >= 0 then
        return tonumber(code)
    end
    return nil, ffi_string(err, size[0])
end

function methods.shutdown(proc, direction)
    check(proc)
    local shut
    if direction == "stdin" then
        shut = C.ngx_http_lua_ffi_pipe_proc_shutdown_stdin
    elseif direction == "stdout" then
        shut = C.ngx_http_lua_ffi_pipe_proc_shutdown_stdout
    elseif direction == "stderr" then
        shut = C.ngx_http_lua_ffi_pipe_proc_shutdown_stderr
    else
        error("bad shutdown arg: " .. tostring(direction), 2)
    end
    local err, size = error_place()
    if shut(proc, err, size) == ERROR then
        return nil, ffi_string(err, size[0])
    end
    return true
end

function methods.wait(proc)
    check(proc)
    local r = request_of(2)
    local reason, status = ffi_new("char *[1]"), ffi_new("int[1]")
    local err, size = error_place()
    local code = C.ngx_http_lua_ffi_pipe_proc_wait(r, proc, reason, status, err, size)
    check_code(code, err, size, 2)
    if code == AGAIN then
        return wait_for_it()
    elseif code == ERROR then
        return nil, ffi_string(err, size[0])
    end
    return code == OK, ffi_string(reason[0]), tonumber(status[0])
end

function methods.kill(proc, signal)
    check(proc)
    if type(signal) ~= "number" then
        error("bad signal arg: number expected, got " .. tostring(signal), 2)
    end
    local err, size = error_place()
    if C.ngx_http_lua_ffi_pipe_proc_kill(proc, signal, err, size) == ERROR then
        return nil, ffi_string(err, size[0])
    end
    return true
end

local Proc = ffi.metatype("ngx_http_lua_ffi_pipe_proc_t", {
    __gc = C.ngx_http_lua_ffi_pipe_proc_destroy,
    __index = methods,
})

-- An array of strings that a null pointer ends.
local function array(list, count)
    local strings = ffi_new("const char *[?]", count + 1, list)
    strings[count] = nil
    return strings
end

local function words_of(args)
    if type(args) == "string" then
        return { SHELL, "-c", args }
    elseif type(args) ~= "table" then
        error("bad args arg: table expected, got " .. type(args), 3)
    end
    local words = {}
    for i, word in ipairs(args) do
        words[i] = tostring(word)
    end
    if #words == 0 then
        error("bad args arg: non-empty table expected", 3)
    end
    return words
end

local function environment_of(environ)
    if type(environ) ~= "table" then
        error("bad environ option: table expected, got " .. type(environ), 3)
    end
    local count = 0
    for i, line in ipairs(environ) do
        if type(line) ~= "string" then
            error("bad value at index " .. i .. " of environ option: string expected, got " .. type(line), 3)
        elseif not find(line, "=", 2, true) then
            error("bad value at index " .. i .. " of environ option: 'name=[value]' format expected, got '" .. line
                  .. "'", 3)
        end
        count = i
    end
    if count > 0 then
        return array(environ, count)
    end
end

local M = { version = base.version }

function M.spawn(args, opts)
    if ngx.get_phase() == "init" then
        error("API disabled in the current context", 2)
    end
    local words = words_of(args)
    opts = opts or {}
    local buffer_size = 4096
    if opts.buffer_size then
        buffer_size = tonumber(opts.buffer_size)
        if not buffer_size or buffer_size < 1 then
            error("bad buffer_size option", 2)
        end
    end
    local environment
    if opts.environ then
        environment = environment_of(opts.environ)
    end
    local proc = Proc()
    set_timeouts(proc, 1, opts.write_timeout or DEFAULT_TIMEOUT, opts.stdout_read_timeout or DEFAULT_TIMEOUT,
                 opts.stderr_read_timeout or DEFAULT_TIMEOUT, opts.wait_timeout or DEFAULT_TIMEOUT)
    local err, size = error_place()
    local code = C.ngx_http_lua_ffi_pipe_spawn(get_request(), proc, words[1], array(words, #words),
                                               opts.merge_stderr and 1 or 0, buffer_size, environment, err, size)
    if code == ERROR then
        return nil, ffi_string(err, size[0])
    end
    return proc
end

return M
