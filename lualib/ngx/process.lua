-- `ngx.process`: what the process is, and its end.
-- https://github.com/openresty/lua-resty-core/blob/master/lib/ngx/process.md
local ffi = require "ffi"
local base = require "resty.core.base"

base.allows_subsystem("http")

local C = ffi.C
local tonumber, type = tonumber, type

ffi.cdef [[
int ngx_http_lua_ffi_enable_privileged_agent(char **err, unsigned int connections);
int ngx_http_lua_ffi_get_process_type(void);
void ngx_http_lua_ffi_process_signal_graceful_exit(void);
int ngx_http_lua_ffi_master_pid(void);
]]

local NAMES = {
    [0] = "single",
    [1] = "master",
    [2] = "signaller",
    [3] = "worker",
    [4] = "helper",
    [99] = "privileged agent",
}

local M = { version = base.version }

function M.type()
    return NAMES[tonumber(C.ngx_http_lua_ffi_get_process_type())]
end

function M.enable_privileged_agent(connections)
    if ngx.get_phase() ~= "init" then
        return nil, "API disabled in the current context"
    end
    connections = connections or 512
    if type(connections) ~= "number" or connections < 0 then
        return nil, "bad 'connections' argument: number expected and greater than 0"
    end
    local err = base.get_errmsg_ptr()
    if C.ngx_http_lua_ffi_enable_privileged_agent(err, connections) == base.FFI_ERROR then
        return nil, ffi.string(err[0])
    end
    return true
end

function M.signal_graceful_exit()
    C.ngx_http_lua_ffi_process_signal_graceful_exit()
end

function M.get_master_pid()
    local pid = tonumber(C.ngx_http_lua_ffi_master_pid())
    if pid == base.FFI_ERROR then
        return nil
    end
    return pid
end

return M
