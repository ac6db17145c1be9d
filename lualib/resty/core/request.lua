-- `ngx.req`: fields, arguments, method and time of the request.
local ffi = require "ffi"
local base = require "resty.core.base"
local replace_char = require("resty.core.utils").str_replace_char

local C = ffi.C
local ffi_cast, ffi_string = ffi.cast, ffi.string
local error, rawget, setmetatable, tonumber, tostring, type = error, rawget, setmetatable, tonumber, tostring, type
local find, lower = string.find, string.lower
local clear_tab, new_tab = base.clear_tab, base.new_tab
local get_request, get_size_ptr, get_string_buf = base.get_request, base.get_size_ptr, base.get_string_buf
local OK, DECLINED, BAD_CONTEXT = base.FFI_OK, base.FFI_DECLINED, base.FFI_BAD_CONTEXT
local errmsg = base.get_errmsg_ptr()
local req = ngx.req

ffi.cdef [[
typedef struct { ngx_http_lua_ffi_str_t key; ngx_http_lua_ffi_str_t value; } ngx_http_lua_ffi_table_elt_t;

double ngx_http_lua_ffi_req_start_time(ngx_http_request_t *r);
int ngx_http_lua_ffi_req_get_headers_count(ngx_http_request_t *r, int max, int *truncated);
int ngx_http_lua_ffi_req_get_headers(ngx_http_request_t *r, ngx_http_lua_ffi_table_elt_t *out, int count, int raw);
int ngx_http_lua_ffi_req_get_uri_args_count(ngx_http_request_t *r, int max, int *truncated);
size_t ngx_http_lua_ffi_req_get_querystring_len(ngx_http_request_t *r);
int ngx_http_lua_ffi_req_get_uri_args(ngx_http_request_t *r, unsigned char *buf, ngx_http_lua_ffi_table_elt_t *out,
    int count);
int ngx_http_lua_ffi_req_get_method(ngx_http_request_t *r);
int ngx_http_lua_ffi_req_get_method_name(ngx_http_request_t *r, unsigned char **name, size_t *len);
int ngx_http_lua_ffi_req_set_method(ngx_http_request_t *r, int method);
int ngx_http_lua_ffi_req_set_header(ngx_http_request_t *r, const unsigned char *key, size_t key_len,
    const unsigned char *value, size_t value_len, ngx_http_lua_ffi_str_t *mvals, size_t mvals_len, int override,
    char **errmsg);
]]

local M = { version = base.version }

local DISABLED = "API disabled in the current context"
local pair_ptr = ffi.typeof("ngx_http_lua_ffi_table_elt_t *")
local pair_size = ffi.sizeof("ngx_http_lua_ffi_table_elt_t")
local str_ptr = ffi.typeof("ngx_http_lua_ffi_str_t *")
local str_size = ffi.sizeof("ngx_http_lua_ffi_str_t")
local truncated = ffi.new("int[1]")

function req.start_time()
    local r = get_request()
    if not r then
        error("no request found")
    end
    return tonumber(C.ngx_http_lua_ffi_req_start_time(r))
end

-- A name that comes again makes a list.
local function put(t, key, value)
    local known = t[key]
    if known == nil then
        t[key] = value
    elseif type(known) == "table" then
        known[#known + 1] = value
    else
        t[key] = { known, value }
    end
end

-- `headers.User_Agent` finds "user-agent".
local any_case = {
    __index = function(t, key)
        key = lower(key)
        local value = rawget(t, key)
        if value == nil and find(key, "_", 1, true) then
            value = rawget(t, replace_char(key, "_", "-"))
        end
        return value
    end,
}

function req.get_headers(max, raw)
    local r = get_request()
    if not r then
        error("no request found")
    end
    local count = C.ngx_http_lua_ffi_req_get_headers_count(r, max or -1, truncated)
    if count == BAD_CONTEXT then
        error(DISABLED, 2)
    end
    local headers = new_tab(0, count)
    if count > 0 then
        local pairs = ffi_cast(pair_ptr, get_string_buf(count * pair_size))
        if C.ngx_http_lua_ffi_req_get_headers(r, pairs, count, raw and 1 or 0) ~= OK then
            return nil
        end
        for i = 0, count - 1 do
            local key, value = pairs[i].key, pairs[i].value
            put(headers, ffi_string(key.data, key.len), ffi_string(value.data, value.len))
        end
    end
    if not raw then
        setmetatable(headers, any_case)
    end
    if truncated[0] ~= 0 then
        return headers, "truncated"
    end
    return headers
end

function req.get_uri_args(max, t)
    local r = get_request()
    if not r then
        error("no request found")
    end
    if t then
        clear_tab(t)
    end
    local count = C.ngx_http_lua_ffi_req_get_uri_args_count(r, max or -1, truncated)
    if count == BAD_CONTEXT then
        error(DISABLED, 2)
    end
    if count == 0 then
        return t or {}
    end
    -- The pairs first: they are aligned then.
    local buffer = get_string_buf(count * pair_size + tonumber(C.ngx_http_lua_ffi_req_get_querystring_len(r)))
    local pairs = ffi_cast(pair_ptr, buffer)
    count = C.ngx_http_lua_ffi_req_get_uri_args(r, buffer + count * pair_size, pairs, count)
    local args = t or new_tab(0, count)
    for i = 0, count - 1 do
        local key, value = pairs[i].key, pairs[i].value
        local text = true
        if value.len ~= -1 then
            text = ffi_string(value.data, value.len)
        end
        put(args, ffi_string(key.data, key.len), text)
    end
    if truncated[0] ~= 0 then
        return args, "truncated"
    end
    return args
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
    return ffi_string(name_ptr[0], size[0])
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
