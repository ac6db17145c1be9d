-- resty.openssl.ssl: what can be seen of a TLS connection. It is not OpenSSL's here, so that nothing of it can be changed:
-- `ssl_*` and `lua_ssl_*` directives and `ngx.ssl` do that.
local chain = require "resty.openssl.x509.chain"
local x509 = require "resty.openssl.x509"
local native = require "moonrest.socket"

local getmetatable, ipairs, ngx, pcall, setmetatable, type = getmetatable, ipairs, ngx, pcall, setmetatable, type

local M = {
    SSL_VERIFY_NONE = 0,
    SSL_VERIFY_PEER = 1,
    SSL_VERIFY_FAIL_IF_NO_PEER_CERT = 2,
    SSL_VERIFY_CLIENT_ONCE = 4,
    SSL_VERIFY_POST_HANDSHAKE = 8,
}
local methods = { __index = M }

-- The connection of the client whose request this is.
function M.from_request()
    local ok, protocol = pcall(function()
        return ngx.var.ssl_protocol
    end)
    if not ok then
        return nil, "ssl.from_request: no request found"
    elseif not protocol or protocol == "" then
        return nil, "bad request"
    end
    return setmetatable({ ctx = true, _server = true }, methods)
end

-- The connection of an `ngx.socket.tcp` to its server.
function M.from_socket(sock)
    if type(sock) ~= "table" then
        return nil, "expect a ngx.socket.tcp instance at #1"
    end
    local shown, cipher, protocol = native.tls_session(sock)
    if not shown then
        return nil, "ssl.from_socket: no TLS connection"
    end
    return setmetatable({ ctx = true, _server = false, shown = shown, cipher = cipher, protocol = protocol }, methods)
end

function M.istype(l)
    return type(l) == "table" and getmetatable(l) == methods
end

-- `nil` where none was shown.
function M:get_peer_certificate()
    if self._server then
        local pem = ngx.var.ssl_client_raw_cert
        if not pem or pem == "" then
            return nil
        end
        return x509.new(pem, "PEM")
    end
    return self.shown[1] and x509.new(self.shown[1], "DER")
end

-- Of a server all certificates that it has shown. A client's is the list of what it has shown beside its own in OpenSSL.
function M:get_peer_cert_chain()
    if self._server then
        return nil, "ssl:get_peer_cert_chain: only the first certificate of a client is known"
    end
    local found = chain.new()
    for _, der in ipairs(self.shown) do
        local certificate, err = x509.new(der, "DER")
        if not certificate then
            return nil, err
        end
        found:add(certificate)
    end
    return found
end

function M:get_cipher_name()
    if self._server then
        return ngx.var.ssl_cipher
    end
    return self.cipher
end

-- The names that a client offers.
function M:get_ciphers()
    if self._server then
        return ngx.var.ssl_ciphers
    end
    return nil, "ssl:get_ciphers: not known of connections to servers"
end

for name, instead in pairs({
    set_ciphersuites = "ssl_conf_command Ciphersuites, lua_ssl_conf_command",
    set_cipher_list = "ssl_ciphers, lua_ssl_ciphers",
    set_protocols = "ssl_protocols, lua_ssl_protocols",
    set_verify = "ssl_verify_client, ngx.ssl.verify_client",
    add_client_ca = "ssl_client_certificate, ngx.ssl.verify_client",
    set_timeout = "ssl_session_timeout",
    get_timeout = "ssl_session_timeout",
    set_options = "ssl_protocols and the other directives of TLS",
    get_options = "ssl_protocols and the other directives of TLS",
    clear_options = "ssl_protocols and the other directives of TLS",
}) do
    M[name] = function()
        return nil, "ssl:" .. name .. ": not supported, this connection is not OpenSSL's; see " .. instead
    end
end

function M:free_verify_cb()
end

return M
