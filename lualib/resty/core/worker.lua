-- `ngx.worker`.
local ffi = require "ffi"
local base = require "resty.core.base"
require "resty.core.phase"

local C = ffi.C
local tonumber = tonumber
local get_phase = ngx.get_phase

ffi.cdef [[
int ngx_http_lua_ffi_worker_id(void);
int ngx_http_lua_ffi_worker_pid(void);
int ngx_http_lua_ffi_worker_pids(int *pids, size_t *pids_len);
int ngx_http_lua_ffi_worker_count(void);
int ngx_http_lua_ffi_worker_exiting(void);
]]

local worker = {}
ngx.worker = worker

function worker.exiting()
    return C.ngx_http_lua_ffi_worker_exiting() ~= 0
end

function worker.pid()
    local number = C.ngx_http_lua_ffi_worker_pid()
    return number
end

function worker.count()
    local number = C.ngx_http_lua_ffi_worker_count()
    return number
end

function worker.id()
    local id = C.ngx_http_lua_ffi_worker_id()
    if id < 0 then
        return nil
    end
    return id
end

function worker.pids()
    local phase = get_phase()
    if phase == "init" or phase == "init_worker" then
        return nil, "API disabled in the current context"
    end
    -- Old and new workers are there together while a new configuration takes over.
    local room = C.ngx_http_lua_ffi_worker_count() * 4
    local places, size = ffi.new("int[?]", room), base.get_size_ptr()
    size[0] = room
    local pids = {}
    if C.ngx_http_lua_ffi_worker_pids(places, size) == 0 then
        for i = 1, tonumber(size[0]) do
            pids[i] = places[i - 1]
        end
    end
    return pids
end

return { _VERSION = base.version }
