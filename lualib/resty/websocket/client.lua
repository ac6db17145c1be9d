-- `resty.websocket.client`: the client's end of a WebSocket, over TCP, unix sockets or TLS.
-- https://github.com/openresty/lua-resty-websocket#restywebsocketclient
local protocol = require "resty.websocket.protocol"
local messages = require "resty.websocket.messages"
local deflate = require "resty.websocket.deflate"
local http_headers = require "resty.http_headers"
local identity = require("resty.http_connect").identity

local ngx = ngx
local tcp = ngx.socket.tcp
local re_match, re_gmatch = ngx.re.match, ngx.re.gmatch
local char, find, lower = string.char, string.find, string.lower
local rand = math.random
local concat = table.concat
local assert, setmetatable, tostring, type = assert, setmetatable, tostring, type
local send_frame, close_payload = messages.send_frame, messages.close_payload

local M = protocol.new_tab(0, 13)
M._VERSION = "0.14"

local mt = { __index = M }

local GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
-- The longest head of a response.
local MAX_HEAD = 65536

function M.new(_, opts)
    local sock, err = tcp()
    if not sock then
        return nil, err
    end
    opts = opts or {}
    if opts.timeout then
        sock:settimeout(opts.timeout)
    end
    local max = opts.max_payload_len or 65535
    return setmetatable({
        sock = sock,
        max_recv_len = opts.max_recv_len or max,
        max_send_len = opts.max_send_len or max,
        send_unmasked = opts.send_unmasked,
        masks = not opts.send_unmasked,
        strict = opts.strict,
    }, mt)
end

-- { scheme, address, port, path }, and whether it is a unix socket; or nil and an error.
local function parse(uri)
    local unix = find(uri, "unix:", 1, true) ~= nil
    local parts, err
    if unix then
        parts, err = re_match(uri, [[^(wss?)://(unix:[^:]+):()(.*)]], "jo")
    else
        parts, err = re_match(uri, [=[^(wss?)://(\[[^\]]+\]|[^:/]+)(?::(\d+))?(.*)]=], "jo")
    end
    if not parts then
        if err then
            return nil, "failed to match the uri: " .. err
        end
        return nil, "bad websocket uri"
    end
    local ssl = parts[1] == "wss"
    local port = parts[3]
    if not port or port == "" then
        port = ssl and 443 or 80
    end
    local path = parts[4]
    return { ssl = ssl, addr = parts[2], port = port, path = path == "" and "/" or path, unix = unix }
end

local function check_options(opts)
    if opts.client_cert then
        assert(opts.client_priv_key, "client_priv_key must be provided with client_cert")
    end
    if opts.server_name ~= nil and type(opts.server_name) ~= "string" then
        return "SSL server_name must be a string"
    end
    if opts.headers and type(opts.headers) ~= "table" then
        return "custom headers must be a table"
    end
    if opts.host ~= nil and type(opts.host) ~= "string" then
        return "custom host header must be a string"
    end
    if opts.key ~= nil and type(opts.key) ~= "string" then
        return "custom Sec-WebSocket-Key must be a string"
    end
end

local function handshake_tls(sock, target, opts)
    if opts.client_cert then
        local ok, err = sock:setclientcert(opts.client_cert, opts.client_priv_key)
        if not ok then
            return nil, "failed to set TLS client certificate: " .. err
        end
    end
    local ok, err = sock:sslhandshake(false, opts.server_name or opts.host or target.addr, opts.ssl_verify)
    if not ok then
        return nil, "ssl handshake failed: " .. err
    end
    return true
end

-- It only has to differ from one connection to the next.
local function new_key()
    local bytes = {}
    for i = 1, 16 do
        bytes[i] = char(rand(256) - 1)
    end
    return ngx.encode_base64(concat(bytes))
end

local function request(target, opts, key)
    local lines = { "GET " .. target.path .. " HTTP/1.1", "Upgrade: websocket" }
    lines[3] = "Host: " .. (opts.host or target.unix and "unix_sock" or target.addr .. ":" .. target.port)
    lines[4] = "Sec-WebSocket-Key: " .. key
    local protocols = opts.protocols
    if protocols then
        lines[#lines + 1] = "Sec-WebSocket-Protocol: " .. (type(protocols) == "table" and concat(protocols, ",") or protocols)
    end
    if opts.deflate then
        lines[#lines + 1] = "Sec-WebSocket-Extensions: " .. deflate.offer(opts.deflate)
    end
    lines[#lines + 1] = "Sec-WebSocket-Version: 13"
    if opts.origin then
        lines[#lines + 1] = "Origin: " .. opts.origin
    end
    lines[#lines + 1] = "Connection: Upgrade"
    local own = opts.headers
    for i = 1, own and #own or 0 do
        lines[#lines + 1] = own[i]
    end
    return concat(lines, "\r\n") .. "\r\n\r\n"
end

-- Its text without the empty line; or nil and an error.
local function receive_head(sock)
    local read = sock:receiveuntil("\r\n\r\n")
    local head, err = read(MAX_HEAD)
    if not head then
        return nil, "failed to receive response header: " .. (err or "closed")
    end
    local more
    more, err = read(1)
    if more then
        return nil, "failed to receive response header: too big"
    end
    if err then
        return nil, "failed to receive response header: " .. err
    end
    return head
end

local function fields(head)
    local headers = http_headers.new()
    for field in re_gmatch(head, [[^([^:\s]+):[ \t]*(.*?)[ \t]*\r?$]], "jom") do
        local present = headers[field[1]]
        headers[field[1]] = present and present .. ", " .. field[2] or field[2]
    end
    return headers
end

-- What is wrong with the server's answer; otherwise nil and how messages are compressed.
local function check_answer(self, head, key, opts)
    local status = re_match(head, [[^\s*HTTP/1\.1\s+(\d*)]], "jo")
    if not status then
        return "bad HTTP response status line: " .. head
    end
    if self.strict == false then
        return nil
    end
    if status[1] ~= "101" then
        return "unexpected HTTP response code: " .. status[1]
    end
    local headers = fields(head)
    local upgrade, connection = headers["Upgrade"], headers["Connection"]
    if not upgrade or lower(upgrade) ~= "websocket" then
        return "bad \"Upgrade\" response header: " .. tostring(upgrade)
    end
    if not connection or not find(lower(connection), "upgrade", 1, true) then
        return "bad \"Connection\" response header: " .. tostring(connection)
    end
    if headers["Sec-WebSocket-Accept"] ~= ngx.encode_base64(ngx.sha1_bin(key .. GUID)) then
        return "bad \"Sec-WebSocket-Accept\" response header"
    end
    local compression, err = deflate.confirm(headers["Sec-WebSocket-Extensions"], opts.deflate)
    return err, compression
end

-- 1, nil and the head of the server's response.
function M.connect(self, uri, opts)
    local sock = self.sock
    if not sock then
        return nil, "not initialized"
    end
    opts = opts or {}
    local target, err = parse(uri)
    if not target then
        return nil, err
    end
    err = check_options(opts)
    if err then
        return nil, err
    end
    self.fatal, self.closed, self.message, self.deflate = nil, nil, nil, nil
    local pool = opts.pool
    if not pool and target.ssl then
        -- Of its own for each way to have made the handshake.
        pool = concat({ "wss", target.addr, target.port, opts.server_name or opts.host or target.addr,
            tostring(opts.ssl_verify), identity(opts.client_cert, opts.client_priv_key) }, ":")
    end
    local pooling = { pool = pool, pool_size = opts.pool_size, backlog = opts.backlog }
    local ok
    if target.unix then
        ok, err = sock:connect(target.addr, pooling)
    else
        ok, err = sock:connect(target.addr, target.port, pooling)
    end
    if not ok then
        return nil, "failed to connect: " .. err
    end
    local reused
    reused, err = sock:getreusedtimes()
    if not reused then
        return nil, "failed to get reused times: " .. tostring(err)
    end
    if reused > 0 then
        messages.prepare(self, false)
        return 1, nil, "connection reused"
    end

    local function fail(problem)
        sock:close()
        return nil, problem
    end
    if target.ssl then
        ok, err = handshake_tls(sock, target, opts)
        if not ok then
            return fail(err)
        end
    end
    local key = opts.key or new_key()
    local bytes, head
    bytes, err = sock:send(request(target, opts, key))
    if not bytes then
        return fail("failed to send the handshake request: " .. err)
    end
    head, err = receive_head(sock)
    if not head then
        return fail(err)
    end
    err, self.deflate = check_answer(self, head, key, opts)
    if err then
        return fail(err)
    end
    messages.prepare(self, false)
    return 1, nil, head
end

M.set_timeout = messages.set_timeout
M.recv_frame = messages.recv_frame
M.send_frame = send_frame

function M.send_text(self, data)
    return send_frame(self, true, 0x1, data)
end

function M.send_binary(self, data)
    return send_frame(self, true, 0x2, data)
end

function M.send_close(self, code, msg)
    local payload, err = close_payload(code, msg)
    if not payload then
        return nil, err
    end
    local bytes
    bytes, err = send_frame(self, true, 0x8, payload)
    self.closed = true
    return bytes, err
end

function M.send_ping(self, data)
    return send_frame(self, true, 0x9, data)
end

function M.send_pong(self, data)
    return send_frame(self, true, 0xa, data)
end

function M.close(self)
    if self.fatal then
        return nil, "fatal error already happened"
    end
    local sock = self.sock
    if not sock then
        return nil, "not initialized"
    end
    if not self.closed then
        local bytes, err = M.send_close(self)
        if not bytes then
            return nil, "failed to send close frame: " .. err
        end
    end
    if self.deflate then
        self.deflate:release()
    end
    return sock:close()
end

-- Only a connection between two messages can be used again, by one who knows nothing of what was compressed on it.
function M.set_keepalive(self, ...)
    local sock = self.sock
    if not sock then
        return nil, "not initialized"
    end
    local receiving = self.receiving
    if self.fatal or self.closed or self.message or self.deflate
        or receiving and (receiving.first or receiving.held)
    then
        sock:close()
        self.fatal = true
        return nil, "connection must be closed"
    end
    return sock:setkeepalive(...)
end

return M
