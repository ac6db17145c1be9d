-- `ngx.req`: fields, method and time of the request. `get_headers` and `get_uri_args` need no FFI.
local ffi = require "ffi"
local base = require "resty.core.base"

local C = ffi.C
local ffi_cast, ffi_string = ffi.cast, ffi.string
local error, tonumber, tostring, type = error, tonumber, tostring, type
local get_request, get_size_ptr, get_string_buf = base.get_request, base.get_size_ptr, base.get_string_buf
local OK, DECLINED, BAD_CONTEXT = base.FFI_OK, base.FFI_DECLINED, base.FFI_BAD_CONTEXT
local errmsg = base.get_errmsg_ptr()
local req = ngx.req

ffi.cdef [[
double ngx_http_lua_ffi_req_start_time(ngx_http_request_t *r);
int ngx_http_lua_ffi_req_get_method(ngx_http_request_t *r);
int ngx_http_lua_ffi_req_get_method_name(ngx_http_request_t *r, unsigned char **name, size_t *len);
int ngx_http_lua_ffi_req_set_method(ngx_http_request_t *r, int method);
int ngx_http_lua_ffi_req_set_header(ngx_http_request_t *r, const unsigned char *key, size_t key_len,
    const unsigned char *value, size_t value_len, ngx_http_lua_ffi_str_t *mvals, size_t mvals_len, int override,
    char **errmsg);
]]

local M = { version = base.version }

local DISABLED = "API disabled in the current context"
local str_ptr = ffi.typeof("ngx_http_lua_ffi_str_t *")
local str_size = ffi.sizeof("ngx_http_lua_ffi_str_t")

function req.start_time()
    local r = get_request()
    if not r then
        error("no request found")
    end
    local number = tonumber(C.ngx_http_lua_ffi_req_start_time(r))
    return number
end

local methods = {
    [0x2] = "GET",
    [0x4] = "HEAD",
    [0x8] = "POST",
    [0x10] = "PUT",
    [0x20] = "DELETE",
    [0x40] = "MKCOL",
    [0x80] = "COPY",
    [0x100] = "MOVE",
    [0x200] = "OPTIONS",
    [0x400] = "PROPFIND",
    [0x800] = "PROPPATCH",
    [0x1000] = "LOCK",
    [0x2000] = "UNLOCK",
    [0x4000] = "PATCH",
    [0x8000] = "TRACE",
}
local name_ptr = ffi.new("unsigned char *[1]")

function req.get_method()
    local r = get_request()
    if not r then
        error("no request found")
    end
    local bit = C.ngx_http_lua_ffi_req_get_method(r)
    if bit == BAD_CONTEXT then
        error(DISABLED, 2)
    end
    local known = methods[bit]
    if known then
        return known
    end
    local size = get_size_ptr()
    if C.ngx_http_lua_ffi_req_get_method_name(r, name_ptr, size) ~= OK then
        return nil
    end
    local text = ffi_string(name_ptr[0], size[0])
    return text
end

function req.set_method(method)
    local r = get_request()
    if not r then
        error("no request found")
    end
    if type(method) ~= "number" then
        error("bad method number", 2)
    end
    local code = C.ngx_http_lua_ffi_req_set_method(r, method)
    if code == BAD_CONTEXT then
        error(DISABLED, 2)
    end
    if code ~= OK then
        error("unsupported HTTP method: " .. method, 2)
    end
end

-- Sets a field to a value or a list of them; nil removes it.
local function set_header(name, value, override, level)
    local r = get_request()
    if not r then
        error("no request found", level)
    end
    if type(name) ~= "string" then
        if name == nil then
            error("bad 'name' argument: string expected, got nil", level)
        end
        name = tostring(name)
    end
    local one, many, count = nil, nil, 0
    if type(value) == "table" then
        count = #value
        if count == 0 and not override then
            error("bad 'value' argument: non-empty table expected", level)
        end
        many = ffi_cast(str_ptr, get_string_buf(str_size * count))
        for i = 1, count do
            local text = value[i]
            if type(text) ~= "string" then
                text = tostring(text)
                value[i] = text
            end
            local place = many[i - 1]
            place.data, place.len = text, #text
        end
    elseif value ~= nil then
        one = type(value) == "string" and value or tostring(value)
    elseif not override then
        error("bad 'value' argument: string or table expected, got nil", level)
    end
    local code = C.ngx_http_lua_ffi_req_set_header(r, name, #name, one, one and #one or 0, many, count,
        override and 1 or 0, errmsg)
    if code == OK or code == DECLINED then
        return
    end
    if code == BAD_CONTEXT then
        error(DISABLED, level)
    end
    error(ffi_string(errmsg[0]), level)
end

function M.set_req_header(name, value, override)
    return set_header(name, value, override, 4)
end

function req.set_header(name, value)
    set_header(name, value, true, 3)
end

function req.clear_header(name)
    set_header(tostring(name), nil, true, 3)
end

return M
