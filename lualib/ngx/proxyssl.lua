-- `ngx.proxyssl`: the TLS session with an upstream.
-- https://github.com/openresty/lua-resty-core/blob/master/lib/ngx/proxyssl.md
local ffi = require "ffi"
local base = require "resty.core.base"

base.allows_subsystem("http")

local C = ffi.C
local ffi_string = ffi.string
local error, tonumber = error, tonumber
local get_request = base.get_request

ffi.cdef [[
int ngx_http_lua_ffi_proxy_ssl_get_tls1_version(ngx_http_request_t *r, char **err);
]]

local errmsg = base.get_errmsg_ptr()

local M = {
    version = base.version,
    SSL3_VERSION = 0x0300,
    TLS1_VERSION = 0x0301,
    TLS1_1_VERSION = 0x0302,
    TLS1_2_VERSION = 0x0303,
    TLS1_3_VERSION = 0x0304,
}

local VERSIONS = {
    [M.SSL3_VERSION] = "SSLv3",
    [M.TLS1_VERSION] = "TLSv1",
    [M.TLS1_1_VERSION] = "TLSv1.1",
    [M.TLS1_2_VERSION] = "TLSv1.2",
    [M.TLS1_3_VERSION] = "TLSv1.3",
}

function M.get_tls1_version()
    local r = get_request()
    if not r then
        error("no request found")
    end
    local version = tonumber(C.ngx_http_lua_ffi_proxy_ssl_get_tls1_version(r, errmsg))
    if version >= 0 then
        return version
    end
    return nil, ffi_string(errmsg[0])
end

function M.get_tls1_version_str()
    local version, err = M.get_tls1_version()
    if not version then
        return nil, err
    end
    local name = VERSIONS[version]
    if not name then
        return nil, "unknown version"
    end
    return name
end

return M
