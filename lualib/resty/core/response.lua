-- `ngx.header`.
local ffi = require "ffi"
local base = require "resty.core.base"

local C = ffi.C
local ffi_cast, ffi_string = ffi.cast, ffi.string
local error, tostring, type = error, tostring, type
local new_tab, get_request, get_string_buf = base.new_tab, base.get_request, base.get_string_buf
local OK, DECLINED = base.FFI_OK, base.FFI_DECLINED
local NO_REQ_CTX, BAD_CONTEXT = base.FFI_NO_REQ_CTX, base.FFI_BAD_CONTEXT
local errmsg = base.get_errmsg_ptr()

ffi.cdef [[
int ngx_http_lua_ffi_set_resp_header(ngx_http_request_t *r, const char *key_data, size_t key_len, int is_nil,
    const char *sval, size_t sval_len, ngx_http_lua_ffi_str_t *mvals, size_t mvals_len, int override, char **errmsg);
int ngx_http_lua_ffi_get_resp_header(ngx_http_request_t *r, const unsigned char *key, size_t key_len,
    unsigned char *key_buf, ngx_http_lua_ffi_str_t *values, int max_nvalues, char **errmsg);
int ngx_http_lua_ffi_bypass_if_checks(ngx_http_request_t *r);
]]

local M = { version = base.version }

local MAX_VALUES = 100
local str_ptr = ffi.typeof("ngx_http_lua_ffi_str_t *")
local str_size = ffi.sizeof("ngx_http_lua_ffi_str_t")

local function failed(code)
    if code == NO_REQ_CTX then
        error("no request ctx found", 3)
    end
    if code == BAD_CONTEXT then
        error("API disabled in the current context", 3)
    end
    error(ffi_string(errmsg[0]), 3)
end

-- Sets a field to a value or a list of them, or adds them to what is there; nil removes it.
local function set(_, key, value, add)
    local r = get_request()
    if not r then
        error("no request found")
    end
    if type(key) ~= "string" then
        key = tostring(key)
    end
    local one, many, count = nil, nil, 0
    if type(value) == "table" then
        count = #value
        if count == 0 and add then
            return
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
    elseif add then
        error("invalid header value", 3)
    end
    local code = C.ngx_http_lua_ffi_set_resp_header(r, key, #key, value == nil, one, one and #one or 0, many, count,
        add and 0 or 1, errmsg)
    if code ~= OK and code ~= DECLINED then
        failed(code)
    end
end

M.set_resp_header = set

local function get(_, key)
    local r = get_request()
    if not r then
        error("no request found")
    end
    if type(key) ~= "string" then
        key = tostring(key)
    end
    local buffer = get_string_buf(str_size * MAX_VALUES + #key)
    local values = ffi_cast(str_ptr, buffer)
    local count = C.ngx_http_lua_ffi_get_resp_header(r, key, #key, buffer + str_size * MAX_VALUES, values, MAX_VALUES,
        errmsg)
    if count == 1 then
        local text = ffi_string(values[0].data, values[0].len)
        return text
    end
    if count == 0 then
        return nil
    end
    if count < 0 then
        failed(count)
    end
    local list = new_tab(count, 0)
    for i = 1, count do
        list[i] = ffi_string(values[i - 1].data, values[i - 1].len)
    end
    return list
end

function M.bypass_if_checks()
    local r = get_request()
    if not r then
        error("no request found")
    end
    C.ngx_http_lua_ffi_bypass_if_checks(r)
end

ngx.header = setmetatable({}, { __index = get, __newindex = set })

return M
