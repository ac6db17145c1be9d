-- ngx.process.
local ffi = require "ffi"
local base = require "resty.core.base"
require "resty.core.phase"

local C = ffi.C
local tonumber, type = tonumber, type
local errmsg = base.get_errmsg_ptr()
local get_phase = ngx.get_phase

ffi.cdef [[
int ngx_http_lua_ffi_enable_privileged_agent(char **err, unsigned int connections);
int ngx_http_lua_ffi_get_process_type(void);
void ngx_http_lua_ffi_process_signal_graceful_exit(void);
int ngx_http_lua_ffi_master_pid(void);
]]

local M = { version = base.version }

local names = {
    [0] = "single",
    [1] = "master",
    [2] = "signaller",
    [3] = "worker",
    [4] = "helper",
    [99] = "privileged agent",
}

function M.type()
    return names[C.ngx_http_lua_ffi_get_process_type()]
end

function M.get_master_pid()
    local pid = tonumber(C.ngx_http_lua_ffi_master_pid())
    if pid ~= base.FFI_ERROR then
        return pid
    end
end

function M.signal_graceful_exit()
    C.ngx_http_lua_ffi_process_signal_graceful_exit()
end

function M.enable_privileged_agent(connections)
    if get_phase() ~= "init" then
        return nil, "API disabled in the current context"
    end
    connections = connections or 512
    if type(connections) ~= "number" or connections < 0 then
        return nil, "bad 'connections' argument: number expected and greater than 0"
    end
    if C.ngx_http_lua_ffi_enable_privileged_agent(errmsg, connections) == base.FFI_ERROR then
        return nil, ffi.string(errmsg[0])
    end
    return true
end

return M
