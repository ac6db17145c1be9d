-- `ngx.ssl.clienthello`: what a client asks for, before anything is decided.
-- https://github.com/openresty/lua-resty-core/blob/master/lib/ngx/ssl/clienthello.md
local ffi = require "ffi"
local bit = require "bit"
local base = require "resty.core.base"

base.allows_subsystem("http")

local C = ffi.C
local ffi_cast, ffi_string = ffi.cast, ffi.string
local byte = string.byte
local error, ipairs, tonumber = error, ipairs, tonumber
local get_phase = ngx.get_phase
local get_request, get_string_buf, get_size_ptr = base.get_request, base.get_string_buf, base.get_size_ptr
local OK, DECLINED = base.FFI_OK, base.FFI_DECLINED

ffi.cdef [[
int ngx_http_lua_ffi_ssl_get_client_hello_server_name(ngx_http_request_t *r, const char **name, size_t *namelen,
    char **err);
int ngx_http_lua_ffi_ssl_get_client_hello_ext(ngx_http_request_t *r, unsigned int type, const unsigned char **out,
    size_t *outlen, char **err);
int ngx_http_lua_ffi_ssl_set_protocols(ngx_http_request_t *r, int protocols, char **err);
int ngx_http_lua_ffi_ssl_get_client_hello_ext_present(ngx_http_request_t *r, int **extensions, size_t *extensions_len,
    char **err);
int ngx_http_lua_ffi_ssl_get_client_hello_ciphers(ngx_http_request_t *r, unsigned short *ciphers, size_t ciphers_len,
    char **err);
]]

local SUPPORTED_VERSIONS = 43
local MOST_CIPHERS = 128
local VERSIONS = {
    [0x002] = "SSLv2",
    [0x300] = "SSLv3",
    [0x301] = "TLSv1",
    [0x302] = "TLSv1.1",
    [0x303] = "TLSv1.2",
    [0x304] = "TLSv1.3",
}
local PROTOCOLS = {
    ["SSLv2"] = 0x02,
    ["SSLv3"] = 0x04,
    ["TLSv1"] = 0x08,
    ["TLSv1.1"] = 0x10,
    ["TLSv1.2"] = 0x20,
    ["TLSv1.3"] = 0x40,
}

local errmsg = base.get_errmsg_ptr()
local name_ptr, data_ptr = ffi.new("const char *[1]"), ffi.new("const unsigned char *[1]")
local ints_ptr = ffi.new("int *[1]")
local shorts = ffi.typeof("unsigned short *")

local M = { version = base.version }

local function request()
    local r = get_request()
    if not r then
        error("no request found", 3)
    end
    if get_phase() ~= "ssl_client_hello" then
        error("API disabled in the current context", 3)
    end
    return r
end

-- What an entry has found; nothing when the client did not say it.
local function found(rc, data, size)
    if rc == OK then
        return ffi_string(data[0], size[0])
    end
    if rc == DECLINED then
        return nil
    end
    return nil, ffi_string(errmsg[0])
end

function M.get_client_hello_server_name()
    local r, size = request(), get_size_ptr()
    return found(C.ngx_http_lua_ffi_ssl_get_client_hello_server_name(r, name_ptr, size, errmsg), name_ptr, size)
end

function M.get_client_hello_ext(kind)
    local r, size = request(), get_size_ptr()
    return found(C.ngx_http_lua_ffi_ssl_get_client_hello_ext(r, kind, data_ptr, size, errmsg), data_ptr, size)
end

function M.get_client_hello_ext_present()
    local r, size = request(), get_size_ptr()
    local rc = C.ngx_http_lua_ffi_ssl_get_client_hello_ext_present(r, ints_ptr, size, errmsg)
    if rc == DECLINED then
        return nil
    end
    if rc ~= OK then
        return nil, ffi_string(errmsg[0])
    end
    local kinds = {}
    for i = 1, tonumber(size[0]) do
        kinds[i] = ints_ptr[0][i - 1]
    end
    return kinds
end

-- Values that only keep servers from choking on unknown ones: both bytes the same, ending in 0xa.
local function is_grease(cipher)
    return bit.band(cipher, 0x0f0f) == 0x0a0a and bit.rshift(cipher, 8) == bit.band(cipher, 0xff)
end

function M.get_client_hello_ciphers()
    local r = request()
    local list = ffi_cast(shorts, get_string_buf(MOST_CIPHERS * 2))
    local count = C.ngx_http_lua_ffi_ssl_get_client_hello_ciphers(r, list, MOST_CIPHERS, errmsg)
    if count <= 0 then
        return nil, ffi_string(errmsg[0])
    end
    local ciphers, n = {}, 0
    for i = 0, count - 1 do
        local cipher = tonumber(list[i])
        if not is_grease(cipher) then
            n = n + 1
            ciphers[n] = cipher
        end
    end
    return ciphers
end

function M.get_supported_versions()
    local r, size = request(), get_size_ptr()
    local list, err = found(C.ngx_http_lua_ffi_ssl_get_client_hello_ext(r, SUPPORTED_VERSIONS, data_ptr, size, errmsg),
        data_ptr, size)
    if not list then
        return nil, err
    end
    local length = byte(list, 1)
    if length ~= #list - 1 then
        return nil
    end
    local versions = {}
    -- From the last to the first, as upstream has them.
    for at = length, 2, -2 do
        local name = VERSIONS[byte(list, at) * 256 + byte(list, at + 1)]
        versions[#versions + 1] = name
    end
    return versions
end

function M.set_protocols(protocols)
    local r = request()
    local bits = 0
    for _, name in ipairs(protocols) do
        local known = PROTOCOLS[name]
        if not known then
            return nil, "invalid protocols failed"
        end
        bits = bit.bor(bits, known)
    end
    if C.ngx_http_lua_ffi_ssl_set_protocols(r, bits, errmsg) == OK then
        return true
    end
    return nil, ffi_string(errmsg[0])
end

return M
