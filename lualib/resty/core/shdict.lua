-- `ngx.shared.DICT`: the methods that are called often. Those for lists and `get_keys`, `flush_expired` are built in.
local ffi = require "ffi"
local base = require "resty.core.base"

local C = ffi.C
local ffi_new, ffi_string = ffi.new, ffi.string
local error, getmetatable, next, tonumber, tostring, type = error, getmetatable, next, tonumber, tostring, type
local get_string_buf, get_string_buf_size = base.get_string_buf, base.get_string_buf_size
local DECLINED = base.FFI_DECLINED

local M = { version = base.version }

local _, any_dict = next(ngx.shared or {})
local methods = any_dict and getmetatable(any_dict)
methods = methods and methods.__index
if not methods then
    return M
end

ffi.cdef [[
int ngx_http_lua_ffi_shdict_get(void *zone, const unsigned char *key, size_t key_len, int *value_type,
    unsigned char **str_value_buf, size_t *str_value_len, double *num_value, int *user_flags, int get_stale,
    int *is_stale, char **errmsg);
int ngx_http_lua_ffi_shdict_store(void *zone, int op, const unsigned char *key, size_t key_len, int value_type,
    const unsigned char *str_value_buf, size_t str_value_len, double num_value, long exptime, int user_flags,
    char **errmsg, int *forcible);
int ngx_http_lua_ffi_shdict_incr(void *zone, const unsigned char *key, size_t key_len, double *value, char **err,
    int has_init, double init, long init_ttl, int *forcible);
int ngx_http_lua_ffi_shdict_flush_all(void *zone);
long ngx_http_lua_ffi_shdict_get_ttl(void *zone, const unsigned char *key, size_t key_len);
int ngx_http_lua_ffi_shdict_set_expire(void *zone, const unsigned char *key, size_t key_len, long exptime);
size_t ngx_http_lua_ffi_shdict_capacity(void *zone);
size_t ngx_http_lua_ffi_shdict_free_space(void *zone);
void *ngx_http_lua_ffi_shdict_udata_to_zone(void *zone_udata);
void free(void *ptr);
]]

-- Types of values.
local NIL, BOOLEAN, NUMBER, STRING = 0, 1, 3, 4
-- How a value is stored.
local SET, ADD, REPLACE, SAFE_SET, SAFE_ADD = 0, 1, 2, 4, 5

local MAX_KEY = 65535

local value_type = ffi_new "int[1]"
local user_flags = ffi_new "int[1]"
local is_stale = ffi_new "int[1]"
local forcible = ffi_new "int[1]"
local number = ffi_new "double[1]"
local text = ffi_new "unsigned char *[1]"
local text_len = ffi_new "size_t[1]"
local errmsg = base.get_errmsg_ptr()

local function zone_of(dict)
    local userdata = type(dict) == "table" and dict[1]
    local zone = type(userdata) == "userdata" and C.ngx_http_lua_ffi_shdict_udata_to_zone(userdata)
    if not zone or zone == nil then
        error('bad "zone" argument', 3)
    end
    return zone
end

-- The key as a string, or nil and why it is none.
local function checked(key)
    if type(key) ~= "string" then
        if key == nil then
            return nil, "nil key"
        end
        key = tostring(key)
    end
    local len = #key
    if len == 0 then
        return nil, "empty key"
    end
    if len > MAX_KEY then
        return nil, "key too long"
    end
    return key
end

local function store(dict, op, key, value, exptime, flags)
    local zone = zone_of(dict)
    if not exptime then
        exptime = 0
    elseif exptime < 0 then
        error('bad "exptime" argument', 3)
    end
    local name, problem = checked(key)
    if not name then
        return nil, problem
    end
    local kind, str, num = type(value), nil, 0
    if kind == "string" then
        kind, str = STRING, value
    elseif kind == "number" then
        kind, num = NUMBER, value
    elseif kind == "boolean" then
        kind, num = BOOLEAN, value and 1 or 0
    elseif kind == "nil" then
        kind = NIL
    else
        return nil, "bad value type"
    end
    local code = C.ngx_http_lua_ffi_shdict_store(zone, op, name, #name, kind, str, str and #str or 0, num,
                                                 exptime * 1000, flags or 0, errmsg, forcible)
    if code == 0 then
        return true, nil, forcible[0] == 1
    end
    return false, ffi_string(errmsg[0]), forcible[0] == 1
end

function methods.set(dict, key, value, exptime, flags)
    return store(dict, SET, key, value, exptime, flags)
end

function methods.safe_set(dict, key, value, exptime, flags)
    return store(dict, SAFE_SET, key, value, exptime, flags)
end

function methods.add(dict, key, value, exptime, flags)
    return store(dict, ADD, key, value, exptime, flags)
end

function methods.safe_add(dict, key, value, exptime, flags)
    return store(dict, SAFE_ADD, key, value, exptime, flags)
end

function methods.replace(dict, key, value, exptime, flags)
    return store(dict, REPLACE, key, value, exptime, flags)
end

function methods.delete(dict, key)
    return store(dict, SET, key, nil)
end

-- The value, its flags (nil if 0), and whether it is stale; or nil and an error.
local function fetch(zone, key, stale)
    local name, problem = checked(key)
    if not name then
        return nil, problem
    end
    local size = get_string_buf_size()
    local buf = get_string_buf(size)
    text[0], text_len[0] = buf, size
    local code = C.ngx_http_lua_ffi_shdict_get(zone, name, #name, value_type, text, text_len, number, user_flags,
                                               stale, is_stale, errmsg)
    if code ~= 0 then
        if errmsg[0] ~= nil then
            return nil, ffi_string(errmsg[0])
        end
        error("failed to get the key")
    end
    local kind, value = value_type[0], nil
    if kind == NIL then
        return nil
    elseif kind == STRING then
        local found = text[0]
        value = ffi_string(found, text_len[0])
        if found ~= buf then
            C.free(found)
        end
    elseif kind == NUMBER then
        value = number[0]
    elseif kind == BOOLEAN then
        value = buf[0] ~= 0
    else
        error("unknown value type: " .. kind)
    end
    local flags = user_flags[0]
    return value, flags ~= 0 and flags or nil
end

function methods.get(dict, key)
    local value, more = fetch(zone_of(dict), key, 0)
    if more == nil then
        return value
    end
    return value, more
end

function methods.get_stale(dict, key)
    local value, more = fetch(zone_of(dict), key, 1)
    if value == nil then
        if more then
            return nil, more
        end
        return nil
    end
    return value, more, is_stale[0] == 1
end

-- An argument as a number.
local function numeric(value, what)
    if type(value) == "number" then
        return value
    end
    return tonumber(value) or error("bad " .. what .. " arg: number expected, got " .. type(value), 3)
end

function methods.incr(dict, key, value, init, init_ttl)
    local zone = zone_of(dict)
    local name, problem = checked(key)
    if not name then
        return nil, problem
    end
    number[0] = type(value) == "number" and value or tonumber(value)
    if init then
        init = numeric(init, "init")
    end
    if init_ttl == nil then
        init_ttl = 0
    else
        init_ttl = numeric(init_ttl, "init_ttl")
        if init_ttl < 0 then
            error('bad "init_ttl" argument', 2)
        end
        if not init then
            error('must provide "init" when providing "init_ttl"', 2)
        end
    end
    local code = C.ngx_http_lua_ffi_shdict_incr(zone, name, #name, number, errmsg, init and 1 or 0, init or 0,
                                                init_ttl * 1000, forcible)
    if code ~= 0 then
        return nil, ffi_string(errmsg[0])
    end
    if init then
        return number[0], nil, forcible[0] == 1
    end
    return number[0]
end

function methods.flush_all(dict)
    C.ngx_http_lua_ffi_shdict_flush_all(zone_of(dict))
end

function methods.ttl(dict, key)
    local zone = zone_of(dict)
    local name, problem = checked(key)
    if not name then
        return nil, problem
    end
    local ms = C.ngx_http_lua_ffi_shdict_get_ttl(zone, name, #name)
    if ms == DECLINED then
        return nil, "not found"
    end
    return tonumber(ms) / 1000
end

function methods.expire(dict, key, exptime)
    local zone = zone_of(dict)
    if not exptime then
        error('bad "exptime" argument', 2)
    end
    local name, problem = checked(key)
    if not name then
        return nil, problem
    end
    if C.ngx_http_lua_ffi_shdict_set_expire(zone, name, #name, exptime * 1000) == DECLINED then
        return nil, "not found"
    end
    return true
end

function methods.capacity(dict)
    local number = tonumber(C.ngx_http_lua_ffi_shdict_capacity(zone_of(dict)))
    return number
end

function methods.free_space(dict)
    local number = tonumber(C.ngx_http_lua_ffi_shdict_free_space(zone_of(dict)))
    return number
end

return M
