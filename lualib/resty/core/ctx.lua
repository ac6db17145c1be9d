-- `ngx.ctx`: the table of a request. All of them are kept in one; the request knows the place of its own.
local ffi = require "ffi"
local base = require "resty.core.base"
local misc = require "resty.core.misc"

local C = ffi.C
local error, rawset, type = error, rawset, type
local get_request, new_tab, ref_in_table = base.get_request, base.new_tab, base.ref_in_table
local OK, NO_REQ_CTX = base.FFI_OK, base.FFI_NO_REQ_CTX

ffi.cdef [[
int ngx_http_lua_ffi_get_ctx_ref(ngx_http_request_t *r, int *in_ssl_phase, int *ssl_ctx_ref);
int ngx_http_lua_ffi_set_ctx_ref(ngx_http_request_t *r, int ref);
]]

local M = { _VERSION = base.version }

local tables = {}
debug.getregistry().ngx_lua_ctx_tables = tables

-- The table of the request that runs is also kept here, once it was asked for. The server takes it away when another
-- request runs, or the table is no longer this one's.
local kept = misc.kept
debug.getregistry().ngx_lua_kept = kept

local in_ssl_phase, ssl_ref = ffi.new("int[1]"), ffi.new("int[1]")

local function present()
    local r = get_request()
    if not r then
        error("no request found")
    end
    local ref = C.ngx_http_lua_ffi_get_ctx_ref(r, in_ssl_phase, ssl_ref)
    if ref == NO_REQ_CTX then
        error("no request ctx found")
    end
    return r, ref
end

-- What an earlier phase of the connection has left shows through.
local function fresh(ctx)
    local ref = ssl_ref[0]
    local outer = ref > 0 and tables[ref]
    if in_ssl_phase[0] == 0 then
        ctx = ctx or new_tab(0, 4)
        return outer and setmetatable(ctx, outer) or ctx
    end
    if outer then
        return outer, true
    end
    ctx = ctx or new_tab(1, 4)
    ctx.__index = ctx
    return ctx
end

function M.get_ctx_table(ctx)
    local r, ref = present()
    if ref >= 0 then
        local table = tables[ref]
        rawset(kept, "ctx", table)
        return table
    end
    local table, known = fresh(ctx)
    if known then
        return table
    end
    if C.ngx_http_lua_ffi_set_ctx_ref(r, ref_in_table(tables, table)) ~= OK then
        return nil
    end
    rawset(kept, "ctx", table)
    return table
end

local function set(ctx)
    if type(ctx) ~= "table" then
        error("ctx should be a table while getting a " .. type(ctx))
    end
    local r, ref = present()
    if ref >= 0 then
        tables[ref] = ctx
    else
        C.ngx_http_lua_ffi_set_ctx_ref(r, ref_in_table(tables, ctx))
    end
    rawset(kept, "ctx", ctx)
end

misc.register_ngx_magic_key_getter("ctx", M.get_ctx_table)
misc.register_ngx_magic_key_setter("ctx", set)

return M
