-- `ngx.get_phase`.
local ffi = require "ffi"
local base = require "resty.core.base"

local C = ffi.C
local ffi_string = ffi.string
local error, tostring = error, tostring
local get_request = base.get_request
local errmsg = base.get_errmsg_ptr()

ffi.cdef [[
int ngx_http_lua_ffi_get_phase(ngx_http_request_t *r, char **err);
]]

local names = {
    [0x1] = "set",
    [0x2] = "rewrite",
    [0x4] = "access",
    [0x8] = "content",
    [0x10] = "log",
    [0x20] = "header_filter",
    [0x40] = "body_filter",
    [0x80] = "timer",
    [0x100] = "init_worker",
    [0x200] = "balancer",
    [0x400] = "ssl_cert",
    [0x800] = "ssl_session_store",
    [0x1000] = "ssl_session_fetch",
    [0x2000] = "exit_worker",
    [0x4000] = "ssl_client_hello",
    [0x8000] = "server_rewrite",
    [0x10000] = "proxy_ssl_verify",
    [0x20000] = "precontent",
    [0x40000] = "proxy_ssl_cert",
}

function ngx.get_raw_phase(r)
    local bit = C.ngx_http_lua_ffi_get_phase(r, errmsg)
    if bit < 0 then
        error(ffi_string(errmsg[0]), 2)
    end
    return bit
end

local get_raw_phase = ngx.get_raw_phase

function ngx.get_phase()
    local r = get_request()
    if not r then
        return "init"
    end
    local bit = get_raw_phase(r)
    return names[bit] or error("unknown phase: " .. tostring(bit))
end

return { version = base.version }
