-- What cosockets have over the FFI: options and the descriptor.
local ffi = require "ffi"
local base = require "resty.core.base"

local C = ffi.C
local error, tonumber, tostring = error, tonumber, tostring
local get_request = base.get_request
local get_string_buf, get_size_ptr = base.get_string_buf, base.get_size_ptr
local errmsg = base.get_errmsg_ptr()
local FFI_OK = base.FFI_OK

ffi.cdef [[
typedef struct ngx_http_lua_socket_tcp_upstream_s ngx_http_lua_socket_tcp_upstream_t;
int ngx_http_lua_ffi_socket_tcp_getoption(ngx_http_lua_socket_tcp_upstream_t *u, int opt, int *val,
    unsigned char *err, size_t *errlen);
int ngx_http_lua_ffi_socket_tcp_setoption(ngx_http_lua_socket_tcp_upstream_t *u, int opt, int val,
    unsigned char *err, size_t *errlen);
int ngx_http_lua_ffi_socket_tcp_getfd(ngx_http_request_t *r, ngx_http_lua_socket_tcp_upstream_t *u,
    char **errmsg);
]]

-- Fields of a socket's table that the server knows too.
local CONTEXT, TRANSPARENT = 1, 9

local OPTIONS = {
    ["keepalive"] = 1,
    ["reuseaddr"] = 2,
    ["tcp-nodelay"] = 3,
    ["sndbuf"] = 4,
    ["rcvbuf"] = 5,
    ["keepintvl"] = 6,
    ["keepcnt"] = 7,
}

local ERR_SIZE = 4096
local value_ptr = ffi.new("int[1]")

local function context_of(sock)
    local context = sock[CONTEXT]
    if not context then
        error("socket is never created nor connected")
    end
    return context
end

local function getoption(sock, option)
    local context = context_of(sock)
    if option == nil then
        return nil, 'missing the "option" argument'
    end
    local number = OPTIONS[option]
    if not number then
        return nil, "unsupported option " .. tostring(option)
    end
    local err, size = get_string_buf(ERR_SIZE), get_size_ptr()
    size[0] = ERR_SIZE
    if C.ngx_http_lua_ffi_socket_tcp_getoption(context, number, value_ptr, err, size) ~= FFI_OK then
        return nil, ffi.string(err, size[0])
    end
    return tonumber(value_ptr[0])
end

local function setoption(sock, option, value)
    if option == nil then
        return nil, 'missing the "option" argument'
    end
    if value == nil then
        return nil, 'missing the "value" argument'
    end
    if option == "ip-transparent" then
        sock[TRANSPARENT] = value
        return true
    end
    local context = context_of(sock)
    local number = OPTIONS[option]
    if not number then
        return nil, "unsupported option " .. tostring(option)
    end
    local err, size = get_string_buf(ERR_SIZE), get_size_ptr()
    size[0] = ERR_SIZE
    if C.ngx_http_lua_ffi_socket_tcp_setoption(context, number, value, err, size) ~= FFI_OK then
        return nil, ffi.string(err, size[0])
    end
    return true
end

local function getfd(sock)
    if not sock then
        error("ngx.socket getfd: expecting the cosocket object, but seen none")
    end
    local r = get_request()
    if not r then
        error("no request found")
    end
    local fd = C.ngx_http_lua_ffi_socket_tcp_getfd(r, context_of(sock), errmsg)
    if fd < 0 then
        return nil, ffi.string(errmsg[0])
    end
    return fd
end

local registry = debug.getregistry()
for _, name in ipairs { "__tcp_cosocket_mt", "__tcp_req_cosocket_mt", "__tcp_raw_req_cosocket_mt" } do
    local methods = registry[name]
    methods.getoption, methods.setoption, methods.getfd = getoption, setoption, getfd
end

return { version = base.version }
