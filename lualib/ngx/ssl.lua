-- `ngx.ssl`: the TLS session with the client, and the certificates that it is shown.
-- https://github.com/openresty/lua-resty-core/blob/master/lib/ngx/ssl.md
local ffi = require "ffi"
local base = require "resty.core.base"

base.allows_subsystem("http")

local C = ffi.C
local ffi_gc, ffi_string = ffi.gc, ffi.string
local error, tonumber, type = error, tonumber, type
local get_request, get_string_buf, get_size_ptr = base.get_request, base.get_string_buf, base.get_size_ptr
local OK, DECLINED = base.FFI_OK, base.FFI_DECLINED

ffi.cdef [[
int ngx_http_lua_ffi_ssl_set_der_certificate(ngx_http_request_t *r, const char *data, size_t len, char **err);
int ngx_http_lua_ffi_ssl_clear_certs(ngx_http_request_t *r, char **err);
int ngx_http_lua_ffi_ssl_set_der_private_key(ngx_http_request_t *r, const char *data, size_t len, char **err);
int ngx_http_lua_ffi_ssl_raw_server_addr(ngx_http_request_t *r, char **addr, size_t *addrlen, int *addrtype, char **err);
int ngx_http_lua_ffi_ssl_server_port(ngx_http_request_t *r, unsigned short *server_port, char **err);
int ngx_http_lua_ffi_ssl_server_name(ngx_http_request_t *r, char **name, size_t *namelen, char **err);
int ngx_http_lua_ffi_ssl_raw_client_addr(ngx_http_request_t *r, char **addr, size_t *addrlen, int *addrtype, char **err);
int ngx_http_lua_ffi_cert_pem_to_der(const unsigned char *pem, size_t pem_len, unsigned char *der, char **err);
int ngx_http_lua_ffi_priv_key_pem_to_der(const unsigned char *pem, size_t pem_len, const unsigned char *passphrase,
    unsigned char *der, char **err);
int ngx_http_lua_ffi_ssl_get_tls1_version(ngx_http_request_t *r, char **err);
void *ngx_http_lua_ffi_parse_pem_cert(const unsigned char *pem, size_t pem_len, char **err);
void *ngx_http_lua_ffi_parse_pem_priv_key(const unsigned char *pem, size_t pem_len, char **err);
void *ngx_http_lua_ffi_parse_der_cert(const char *data, size_t len, char **err);
void *ngx_http_lua_ffi_parse_der_priv_key(const char *data, size_t len, char **err);
void *ngx_http_lua_ffi_get_req_ssl_pointer(ngx_http_request_t *r, char **err);
void *ngx_http_lua_ffi_get_upstream_ssl_pointer(ngx_http_request_t *r, char **err);
int ngx_http_lua_ffi_set_cert(void *r, void *cdata, char **err);
int ngx_http_lua_ffi_set_priv_key(void *r, void *cdata, char **err);
void ngx_http_lua_ffi_free_cert(void *cdata);
void ngx_http_lua_ffi_free_priv_key(void *cdata);
int ngx_http_lua_ffi_ssl_verify_client(void *r, void *client_certs, void *trusted_certs, int depth, char **err);
int ngx_http_lua_ffi_ssl_client_random(ngx_http_request_t *r, const unsigned char *out, size_t *outlen, char **err);
int ngx_http_lua_ffi_ssl_server_random(ngx_http_request_t *r, const unsigned char *out, size_t *outlen, char **err);
int ngx_http_lua_ffi_ssl_session_master_key(ngx_http_request_t *r, const unsigned char *out, size_t *outlen,
    char **err);
int ngx_http_lua_ffi_ssl_export_keying_material(void *r, unsigned char *out, size_t out_size, const char *label,
    size_t llen, const unsigned char *ctx, size_t ctxlen, int use_ctx, char **err);
int ngx_http_lua_ffi_ssl_export_keying_material_early(void *r, unsigned char *out, size_t out_size, const char *label,
    size_t llen, const unsigned char *ctx, size_t ctxlen, char **err);
int ngx_http_lua_ffi_req_shared_ssl_ciphers(ngx_http_request_t *r, unsigned short *ciphers, unsigned short *nciphers,
    int filter_grease, char **err);
]]

local MOST_CIPHERS = 255
local ADDRESSES = { [0] = "unix", [1] = "inet", [2] = "inet6" }

local errmsg = base.get_errmsg_ptr()
local text_ptr, int_ptr, port_ptr = ffi.new("char *[1]"), ffi.new("int[1]"), ffi.new("unsigned short[1]")
local ciphers = ffi.new("unsigned short[?]", MOST_CIPHERS + 1)

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

local function request()
    local r = get_request()
    if not r then
        error("no request found", 3)
    end
    return r
end

local function failure()
    return nil, ffi_string(errmsg[0])
end

local function answer(rc)
    if rc == OK then
        return true
    end
    return failure()
end

-- What the client is shown.

function M.clear_certs()
    return answer(C.ngx_http_lua_ffi_ssl_clear_certs(request(), errmsg))
end

function M.set_der_cert(data)
    return answer(C.ngx_http_lua_ffi_ssl_set_der_certificate(request(), data, #data, errmsg))
end

function M.set_der_priv_key(data)
    return answer(C.ngx_http_lua_ffi_ssl_set_der_private_key(request(), data, #data, errmsg))
end

function M.set_cert(cert)
    return answer(C.ngx_http_lua_ffi_set_cert(request(), cert, errmsg))
end

function M.set_priv_key(key)
    return answer(C.ngx_http_lua_ffi_set_priv_key(request(), key, errmsg))
end

-- Certificates and keys, from text or encoded.

local function owned(value, free)
    if value == nil then
        return failure()
    end
    return ffi_gc(value, free)
end

function M.parse_pem_cert(pem)
    return owned(C.ngx_http_lua_ffi_parse_pem_cert(pem, #pem, errmsg), C.ngx_http_lua_ffi_free_cert)
end

function M.parse_der_cert(der)
    return owned(C.ngx_http_lua_ffi_parse_der_cert(der, #der, errmsg), C.ngx_http_lua_ffi_free_cert)
end

function M.parse_pem_priv_key(pem)
    return owned(C.ngx_http_lua_ffi_parse_pem_priv_key(pem, #pem, errmsg), C.ngx_http_lua_ffi_free_priv_key)
end

function M.parse_der_priv_key(der)
    return owned(C.ngx_http_lua_ffi_parse_der_priv_key(der, #der, errmsg), C.ngx_http_lua_ffi_free_priv_key)
end

function M.cert_pem_to_der(pem)
    local out = get_string_buf(#pem)
    local size = C.ngx_http_lua_ffi_cert_pem_to_der(pem, #pem, out, errmsg)
    if size > 0 then
        return ffi_string(out, size)
    end
    return failure()
end

function M.priv_key_pem_to_der(pem, passphrase)
    local out = get_string_buf(#pem)
    local size = C.ngx_http_lua_ffi_priv_key_pem_to_der(pem, #pem, passphrase, out, errmsg)
    if size > 0 then
        return ffi_string(out, size)
    end
    return failure()
end

-- Who talks to whom.

local function address(rc, size)
    if rc ~= OK then
        return nil, nil, ffi_string(errmsg[0])
    end
    local kind = ADDRESSES[int_ptr[0]]
    if not kind then
        return nil, nil, "unknown address type: " .. int_ptr[0]
    end
    return ffi_string(text_ptr[0], size[0]), kind
end

function M.raw_server_addr()
    local r, size = request(), get_size_ptr()
    return address(C.ngx_http_lua_ffi_ssl_raw_server_addr(r, text_ptr, size, int_ptr, errmsg), size)
end

function M.raw_client_addr()
    local r, size = request(), get_size_ptr()
    return address(C.ngx_http_lua_ffi_ssl_raw_client_addr(r, text_ptr, size, int_ptr, errmsg), size)
end

function M.server_port()
    if C.ngx_http_lua_ffi_ssl_server_port(request(), port_ptr, errmsg) == OK then
        return port_ptr[0]
    end
    return failure()
end

function M.server_name()
    local r, size = request(), get_size_ptr()
    local rc = C.ngx_http_lua_ffi_ssl_server_name(r, text_ptr, size, errmsg)
    if rc == OK then
        return ffi_string(text_ptr[0], size[0])
    end
    if rc == DECLINED then
        return nil
    end
    return failure()
end

function M.verify_client(client_certs, depth, trusted_certs)
    return answer(C.ngx_http_lua_ffi_ssl_verify_client(request(), client_certs, trusted_certs, depth or -1, errmsg))
end

-- What was agreed on.

function M.get_tls1_version()
    local version = tonumber(C.ngx_http_lua_ffi_ssl_get_tls1_version(request(), errmsg))
    if version >= 0 then
        return version
    end
    return failure()
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

function M.get_req_shared_ssl_ciphers(filter_grease)
    local r = request()
    ciphers[0] = MOST_CIPHERS
    local filter = filter_grease ~= false and 1 or 0
    if C.ngx_http_lua_ffi_req_shared_ssl_ciphers(r, ciphers + 1, ciphers, filter, errmsg) ~= OK then
        return failure()
    end
    local found = {}
    for i = 1, ciphers[0] do
        found[i] = tonumber(ciphers[i])
    end
    return found
end

-- Bytes of at most `length`; 0 asks how many there are.
local function bytes(read, r, length)
    local out, size = get_string_buf(length), get_size_ptr()
    size[0] = length
    if read(r, out, size, errmsg) ~= OK then
        return failure()
    end
    if length == 0 then
        return tonumber(size[0])
    end
    return ffi_string(out, size[0])
end

function M.get_client_random(length)
    return bytes(C.ngx_http_lua_ffi_ssl_client_random, request(), length or 32)
end

function M.get_server_random(length)
    return bytes(C.ngx_http_lua_ffi_ssl_server_random, request(), length or 32)
end

function M.get_session_master_key(length)
    return bytes(C.ngx_http_lua_ffi_ssl_session_master_key, request(), length or 48)
end

local function exported(rc, out, length)
    if rc == OK then
        return ffi_string(out, length)
    end
    if rc == DECLINED then
        return nil
    end
    return failure()
end

function M.export_keying_material(length, label, context)
    local r, out = request(), get_string_buf(length)
    local rc = C.ngx_http_lua_ffi_ssl_export_keying_material(r, out, length, label, #label, context,
        context and #context or 0, context and 1 or 0, errmsg)
    return exported(rc, out, length)
end

function M.export_keying_material_early(length, label, context)
    local r, out = request(), get_string_buf(length)
    local rc = C.ngx_http_lua_ffi_ssl_export_keying_material_early(r, out, length, label, #label, context,
        context and #context or 0, errmsg)
    return exported(rc, out, length)
end

-- Pointers of OpenSSL's, which is not used here.

function M.get_req_ssl_pointer()
    local pointer = C.ngx_http_lua_ffi_get_req_ssl_pointer(request(), errmsg)
    if pointer == nil then
        return failure()
    end
    return pointer
end

function M.get_upstream_ssl_pointer()
    local pointer = C.ngx_http_lua_ffi_get_upstream_ssl_pointer(request(), errmsg)
    if pointer == nil then
        return failure()
    end
    return pointer
end

function M.ssl_session_reused(ssl)
    if type(ssl) ~= "cdata" then
        return nil, "bad ssl"
    end
    return false
end

return M
