-- What all of resty.core shares: the current request, buffers for FFI calls, and the codes that FFI entries answer.
--
-- No function of resty.core ends in a tail call of a builtin or an FFI function, as in `return ffi_string(…)`: LuaJIT
-- compiles no such function on its own, and code that is not compiled pays thousands of instructions for an FFI call.
local ffi = require "ffi"
local exdata = require "thread.exdata"
local new_tab = require "table.new"
local clear_tab = require "table.clear"

local error, select, type = error, select, type
local ceil = math.ceil
local ffi_new = ffi.new
local subsystem = ngx.config.subsystem

ffi.cdef [[
typedef struct ngx_http_request_s ngx_http_request_t;
typedef struct { size_t len; const unsigned char *data; } ngx_str_t;
typedef struct { int len; const unsigned char *data; } ngx_http_lua_ffi_str_t;
]]

local M = {
    version = "0.1.33",
    new_tab = new_tab,
    clear_tab = clear_tab,

    FFI_OK = 0,
    FFI_ERROR = -1,
    FFI_AGAIN = -2,
    FFI_BUSY = -3,
    FFI_DONE = -4,
    FFI_DECLINED = -5,
    FFI_ABORT = -6,
    FFI_NO_REQ_CTX = -100,
    FFI_BAD_CONTEXT = -101,
}

-- A loaded module without leaving compiled code: `require` itself ends a trace. While a module is being loaded, its
-- place holds a userdata, which the original turns into an error.
do
    local globals = getfenv(0)
    local loaded = package.loaded
    local original = globals.require

    function globals.require(name)
        local module = loaded[name]
        if module and type(module) ~= "userdata" then
            return module
        end
        return original(name)
    end
end

-- The request being served, as a pointer that stays the same until it ends; nil in init_by_lua.
function M.get_request()
    local r = exdata()
    if r ~= nil then
        return r
    end
end

-- One buffer serves all calls. `always` asks for one of the caller's own.
local char_array = ffi.typeof("char[?]")
local buffer_size = 4096
local buffer

function M.get_string_buf(size, always)
    if always or size > buffer_size then
        local own = ffi_new(char_array, size)
        return own
    end
    if not buffer then
        buffer = ffi_new(char_array, buffer_size)
    end
    return buffer
end

function M.get_string_buf_size()
    return buffer_size
end

function M.set_string_buf_size(size)
    if size > 0 then
        buffer = nil
        buffer_size = ceil(size)
    end
end

local size_ptr = ffi_new("size_t[1]")
local errmsg_ptr = ffi_new("char *[1]")

function M.get_size_ptr()
    return size_ptr
end

function M.get_errmsg_ptr()
    return errmsg_ptr
end

-- Places that were given back form a list: element 0 has the first free one, each free one the next.
local FREE = 0

function M.ref_in_table(t, value)
    if value == nil then
        return -1
    end
    local ref = t[FREE]
    if ref and ref ~= 0 then
        t[FREE] = t[ref]
    else
        ref = #t + 1
    end
    t[ref] = value
    return ref
end

function M.allows_subsystem(...)
    for i = 1, select("#", ...) do
        if select(i, ...) == subsystem then
            return
        end
    end
    error("unsupported subsystem: " .. subsystem, 2)
end

return M
