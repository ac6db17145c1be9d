-- What cosockets have over the FFI: options, the descriptor, TLS.
local ffi = require "ffi"
local base = require "resty.core.base"

local C = ffi.C
local error, select, tonumber, tostring, type = error, select, tonumber, tostring, type
local wait = coroutine._yield
local get_request = base.get_request
local get_string_buf, get_size_ptr = base.get_string_buf, base.get_size_ptr
local errmsg = base.get_errmsg_ptr()
local FFI_OK, FFI_ERROR, FFI_AGAIN, FFI_DONE = base.FFI_OK, base.FFI_ERROR, base.FFI_AGAIN, base.FFI_DONE
local FFI_NO_REQ_CTX = base.FFI_NO_REQ_CTX

ffi.cdef [[
typedef struct ngx_http_lua_socket_tcp_upstream_s ngx_http_lua_socket_tcp_upstream_t;
int ngx_http_lua_ffi_socket_tcp_getoption(ngx_http_lua_socket_tcp_upstream_t *u, int opt, int *val,
    unsigned char *err, size_t *errlen);
int ngx_http_lua_ffi_socket_tcp_setoption(ngx_http_lua_socket_tcp_upstream_t *u, int opt, int val,
    unsigned char *err, size_t *errlen);
int ngx_http_lua_ffi_socket_tcp_getfd(ngx_http_request_t *r, ngx_http_lua_socket_tcp_upstream_t *u,
    char **errmsg);
int ngx_http_lua_ffi_socket_tcp_sslhandshake(ngx_http_request_t *r, ngx_http_lua_socket_tcp_upstream_t *u,
    void *sess, int enable_session_reuse, ngx_str_t *server_name, int verify, int ocsp_status_req,
    void *chain, void *pkey, char **errmsg);
int ngx_http_lua_ffi_socket_tcp_get_sslhandshake_result(ngx_http_request_t *r,
    ngx_http_lua_socket_tcp_upstream_t *u, void **sess, char **errmsg, int *openssl_error_code);
int ngx_http_lua_socket_tcp_get_ssl_session(ngx_http_request_t *r, ngx_http_lua_socket_tcp_upstream_t *u,
    void **sess, char **errmsg);
int ngx_http_lua_ffi_ssl_free_session(void *sess);
int ngx_http_lua_ffi_socket_tcp_get_ssl_pointer(ngx_http_request_t *r, ngx_http_lua_socket_tcp_upstream_t *u,
    void **pssl, char **errmsg);
int ngx_http_lua_ffi_socket_tcp_get_ssl_ctx(ngx_http_request_t *r, ngx_http_lua_socket_tcp_upstream_t *u, void **pctx,
    char **errmsg);
int ngx_http_lua_ffi_socket_tcp_settrustedstore(ngx_http_request_t *r, ngx_http_lua_socket_tcp_upstream_t *u,
    void *store, char **errmsg);
]]

-- Fields of a socket's table that the server knows too.
local CONTEXT, TRANSPARENT = 1, 9
-- Fields that only this file knows.
local CERTIFICATE, KEY, STORE = "client_cert", "client_pkey", "trusted_store"

local OPTIONS = {
    ["keepalive"] = 1,
    ["reuseaddr"] = 2,
    ["tcp-nodelay"] = 3,
    ["sndbuf"] = 4,
    ["rcvbuf"] = 5,
    ["keepintvl"] = 6,
    ["keepcnt"] = 7,
}

local ERR_SIZE = 4096
local value_ptr = ffi.new("int[1]")

local function context_of(sock)
    local context = sock[CONTEXT]
    if not context then
        error("socket is never created nor connected")
    end
    return context
end

local function getoption(sock, option)
    local context = context_of(sock)
    if option == nil then
        return nil, 'missing the "option" argument'
    end
    local number = OPTIONS[option]
    if not number then
        return nil, "unsupported option " .. tostring(option)
    end
    local err, size = get_string_buf(ERR_SIZE), get_size_ptr()
    size[0] = ERR_SIZE
    if C.ngx_http_lua_ffi_socket_tcp_getoption(context, number, value_ptr, err, size) ~= FFI_OK then
        return nil, ffi.string(err, size[0])
    end
    local number = tonumber(value_ptr[0])
    return number
end

local function setoption(sock, option, value)
    if option == nil then
        return nil, 'missing the "option" argument'
    end
    if value == nil then
        return nil, 'missing the "value" argument'
    end
    if option == "ip-transparent" then
        sock[TRANSPARENT] = value
        return true
    end
    local context = context_of(sock)
    local number = OPTIONS[option]
    if not number then
        return nil, "unsupported option " .. tostring(option)
    end
    local err, size = get_string_buf(ERR_SIZE), get_size_ptr()
    size[0] = ERR_SIZE
    if C.ngx_http_lua_ffi_socket_tcp_setoption(context, number, value, err, size) ~= FFI_OK then
        return nil, ffi.string(err, size[0])
    end
    return true
end

local function getfd(sock)
    if not sock then
        error("ngx.socket getfd: expecting the cosocket object, but seen none")
    end
    local r = get_request()
    if not r then
        error("no request found")
    end
    local fd = C.ngx_http_lua_ffi_socket_tcp_getfd(r, context_of(sock), errmsg)
    if fd < 0 then
        return nil, ffi.string(errmsg[0])
    end
    return fd
end

local session_ptr = ffi.new("void *[1]")
local code_ptr = ffi.new("int[1]")
local name_ptr = ffi.new("ngx_str_t[1]")

-- A session that Lua owns; nil when there is none.
local function owned(session)
    if session == nil then
        return nil
    end
    return ffi.gc(session, C.ngx_http_lua_ffi_ssl_free_session)
end

local function sslhandshake(sock, reused_session, server_name, ssl_verify, send_status_req, ...)
    local more = select("#", ...)
    if not sock or more > 0 then
        error("ngx.socket sslhandshake: expecting 1 ~ 5 arguments (including the object), but seen "
            .. (sock and 5 + more or 0))
    end
    local r = get_request()
    if not r then
        error("no request found", 2)
    end
    local given = type(reused_session) == "cdata" and reused_session or nil
    name_ptr[0].data = server_name
    name_ptr[0].len = server_name and #server_name or 0
    local context = context_of(sock)
    local code = C.ngx_http_lua_ffi_socket_tcp_sslhandshake(r, context, given, reused_session ~= false, name_ptr,
        ssl_verify and 1 or 0, send_status_req and 1 or 0, sock[CERTIFICATE], sock[KEY], errmsg)
    if code == FFI_NO_REQ_CTX then
        error("no request ctx found", 2)
    end
    if code == FFI_ERROR then
        return nil, ffi.string(errmsg[0])
    end
    if code == FFI_DONE then
        return reused_session
    end
    if code == FFI_AGAIN then
        wait()
    end
    code = C.ngx_http_lua_ffi_socket_tcp_get_sslhandshake_result(r, context, session_ptr, errmsg, code_ptr)
    if code ~= FFI_OK then
        local why = ffi.string(errmsg[0])
        return nil, code_ptr[0] ~= 0 and code_ptr[0] .. ": " .. why or why
    end
    if reused_session == false then
        return true
    end
    return owned(session_ptr[0])
end

local function getsslsession(sock)
    local r = get_request()
    if not r then
        error("no request found")
    end
    if C.ngx_http_lua_socket_tcp_get_ssl_session(r, context_of(sock), session_ptr, errmsg) ~= FFI_OK then
        return nil, ffi.string(errmsg[0])
    end
    return owned(session_ptr[0])
end

local function setclientcert(sock, cert, pkey)
    if not cert and not pkey then
        sock[CERTIFICATE], sock[KEY] = nil, nil
        return true
    end
    if not cert or not pkey then
        return nil, "client certificate must be supplied with corresponding private key"
    end
    if type(cert) ~= "cdata" then
        return nil, "bad cert arg: cdata expected, got " .. type(cert)
    end
    if type(pkey) ~= "cdata" then
        return nil, "bad pkey arg: cdata expected, got " .. type(pkey)
    end
    sock[CERTIFICATE], sock[KEY] = cert, pkey
    return true
end

local function settrustedstore(sock, store)
    if store ~= nil and type(store) ~= "cdata" then
        return nil, "bad store arg: cdata expected, got " .. type(store)
    end
    local r = get_request()
    if not r then
        error("no request found", 2)
    end
    if C.ngx_http_lua_ffi_socket_tcp_settrustedstore(r, context_of(sock), store, errmsg) ~= FFI_OK then
        return nil, ffi.string(errmsg[0])
    end
    sock[STORE] = store
    return true
end

-- Pointers of OpenSSL's, which is not used here: the entries say so.
local function pointer(entry)
    return function(sock)
        if not sock then
            error("ngx.socket getfd: expecting the cosocket object, but seen none")
        end
        local r = get_request()
        if not r then
            error("no request found")
        end
        if entry(r, context_of(sock), session_ptr, errmsg) ~= FFI_OK then
            return nil, ffi.string(errmsg[0])
        end
        return session_ptr[0]
    end
end

local getsslpointer = pointer(C.ngx_http_lua_ffi_socket_tcp_get_ssl_pointer)
local getsslctx = pointer(C.ngx_http_lua_ffi_socket_tcp_get_ssl_ctx)

local registry = debug.getregistry()
for _, name in ipairs { "__tcp_cosocket_mt", "__tcp_req_cosocket_mt", "__tcp_raw_req_cosocket_mt" } do
    local methods = registry[name]
    methods.getoption, methods.setoption, methods.getfd = getoption, setoption, getfd
end

local methods = registry.__tcp_cosocket_mt
methods.sslhandshake, methods.getsslsession = sslhandshake, getsslsession
methods.setclientcert, methods.settrustedstore = setclientcert, settrustedstore
methods.getsslpointer, methods.getsslctx = getsslpointer, getsslctx

return { version = base.version }
