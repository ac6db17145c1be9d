-- `resty.http`: a client for HTTP/1.1 and 1.0 on cosockets, with TLS, proxies, streaming and connection pools.
-- https://github.com/ledgetech/lua-resty-http
local http_headers = require "resty.http_headers"
local response = require "resty.http_response"
local http_connect = require "resty.http_connect"

local ngx = ngx
local tcp = ngx.socket.tcp
local find, sub, upper, lower = string.find, string.sub, string.upper, string.lower
local concat = table.concat
local re_match = ngx.re.match
local getmetatable, ipairs, next, pairs, pcall, rawget = getmetatable, ipairs, next, pairs, pcall, rawget
local setmetatable, tonumber, tostring, type = setmetatable, tonumber, tostring, type

local M = { _VERSION = "0.17.2" }
M._USER_AGENT = "lua-resty-http/" .. M._VERSION .. " (Lua) ngx_lua/" .. ngx.config.ngx_lua_version
M.transfer_encoding_is_chunked = response.is_chunked

local mt = { __index = M }

local HTTP_VERSIONS = { [1.0] = " HTTP/1.0\r\n", [1.1] = " HTTP/1.1\r\n" }
local DEFAULTS = { __index = { method = "GET", path = "/", version = 1.1 } }
local EXPECTS_BODY = { POST = true, PUT = true, PATCH = true }
local PHASES_WITH_VARIABLES = {
    set = true, rewrite = true, server_rewrite = true, access = true, content = true, header_filter = true,
    body_filter = true, log = true, precontent = true,
}

local debugging = false

local function copied(value)
    if type(value) ~= "table" then
        return value
    end
    local copy = {}
    for k, v in next, value do
        copy[copied(k)] = copied(v)
    end
    return copy
end

function M.new(_)
    local sock, err = tcp()
    if not sock then
        return nil, err
    end
    return setmetatable({ sock = sock, keepalive = true, unread = 0 }, mt)
end

function M.debug(on)
    debugging = on == true
end

function M.set_timeout(self, timeout)
    local sock = self.sock
    if not sock then
        return nil, "not initialized"
    end
    return sock:settimeout(timeout)
end

function M.set_timeouts(self, connect_timeout, send_timeout, read_timeout)
    local sock = self.sock
    if not sock then
        return nil, "not initialized"
    end
    return sock:settimeouts(connect_timeout, send_timeout, read_timeout)
end

-- Takes a table of options; or, as in the past, what the socket's `connect` takes.
function M.connect(self, options, ...)
    if type(options) == "table" then
        return http_connect(self, options)
    end
    return M.tcp_only_connect(self, options, ...)
end

function M.tcp_only_connect(self, ...)
    ngx.log(ngx.DEBUG, "Use of deprecated `connect` method signature")
    local sock = self.sock
    if not sock then
        return nil, "not initialized"
    end
    local host, port = ...
    self.host, self.port = host, type(port) == "number" and port or nil
    self.keepalive, self.unread, self.ssl = true, 0, false
    return sock:connect(...)
end

-- 1; or 2 and why where the connection cannot be used again and was closed: the other side wants that, or bytes of a
-- response are still to come.
function M.set_keepalive(self, ...)
    local sock = self.sock
    if not sock then
        return nil, "not initialized"
    end
    if self.keepalive and self.unread == 0 then
        return sock:setkeepalive(...)
    end
    local ok, err = sock:close()
    if not ok then
        return ok, err
    end
    return 2, "connection must be closed"
end

function M.get_reused_times(self)
    local sock = self.sock
    if not sock then
        return nil, "not initialized"
    end
    return sock:getreusedtimes()
end

function M.close(self)
    local sock = self.sock
    if not sock then
        return nil, "not initialized"
    end
    return sock:close()
end

local URI = [=[^(?:(https?):)?//(\[[^\]]+\]|[^\[\]:/?]+)(?::(\d+))?([^?]*)\??(.*)]=]

-- { scheme, host, port, path, query }; the query is part of the path unless `query_in_path` is false.
function M.parse_uri(_, uri, query_in_path)
    local parts, err = re_match(uri, URI, "jos")
    if not parts then
        if err then
            return nil, "failed to match the uri: " .. uri .. ", " .. err
        end
        return nil, "bad uri: " .. uri
    end
    if not parts[1] then
        -- Inherits the scheme of the present request.
        local scheme = ngx.var.scheme
        if scheme ~= "http" and scheme ~= "https" then
            return nil, "schemaless URIs require a request context: " .. uri
        end
        parts[1] = scheme
    end
    parts[3] = tonumber(parts[3]) or (parts[1] == "https" and 443 or 80)
    if not parts[4] or parts[4] == "" then
        parts[4] = "/"
    end
    if query_in_path ~= false and parts[5] and parts[5] ~= "" then
        parts[4] = parts[4] .. "?" .. parts[5]
        parts[5] = nil
    end
    return parts, nil
end

-- Whether a text would end the line it is put in.
local function breaks_line(text)
    return find(text, "\n", 1, true) or find(text, "\r", 1, true) or find(text, "\0", 1, true)
end

-- The head of a request; or nil and an error.
local function format_head(self, params, headers)
    local query = params.query or ""
    if type(query) == "table" then
        query = ngx.encode_args(query)
    end
    if query ~= "" and sub(query, 1, 1) ~= "?" then
        query = "?" .. query
    end
    local target = (self.path_prefix or "") .. params.path .. query
    local method = upper(params.method)
    local version = HTTP_VERSIONS[params.version]
    if not version then
        return nil, "unsupported HTTP version: " .. tostring(params.version)
    end
    if breaks_line(method) or breaks_line(target) then
        return nil, "line break in method or path of request"
    end
    local lines, n = { method, " ", target, version }, 4
    for name, value in pairs(headers) do
        name = tostring(name)
        local values = type(value) == "table" and value or nil
        local i, one = nil, value
        if values then
            i, one = next(values)
        end
        while one ~= nil do
            one = tostring(one)
            if breaks_line(one) or breaks_line(name) then
                return nil, "line break in request header: " .. name
            end
            lines[n + 1], lines[n + 2], lines[n + 3], lines[n + 4] = name, ": ", one, "\r\n"
            n = n + 4
            if not values then
                break
            end
            i, one = next(values, i)
        end
    end
    lines[n + 1] = "\r\n"
    return concat(lines)
end

local function send_body(sock, body)
    if type(body) ~= "function" then
        if body == nil then
            return true
        end
        local bytes, err = sock:send(body)
        return bytes and true, err
    end
    while true do
        local piece, err, partial = body()
        if piece then
            local ok
            ok, err = sock:send(piece)
            if not ok then
                return nil, err
            end
        elseif err ~= nil then
            return nil, err, partial
        else
            return true
        end
    end
end

-- Sees to it that the fields tell how long the body is.
local function frame(params, headers)
    if response.is_chunked(headers) then
        -- Both together would be smuggling (RFC 9112, 6.3).
        headers["Content-Length"] = nil
        return true
    end
    if headers["Content-Length"] then
        return true
    end
    local body = params.body
    local kind = type(body)
    if kind == "function" then
        return nil, "Request body is a function but a length or chunked encoding is not specified"
    elseif kind == "table" then
        local length = 0
        for _, piece in ipairs(body) do
            length = length + #tostring(piece)
        end
        headers["Content-Length"] = length
    elseif body ~= nil then
        headers["Content-Length"] = #tostring(body)
    elseif EXPECTS_BODY[upper(params.method)] then
        return nil, "Request body is nil but " .. upper(params.method)
            .. " method expects a body. Use an empty string \"\" if you want to send an empty body."
    end
    return true
end

local function host_field(self)
    local host, port = self.host, self.port
    if not port then
        if sub(host, 1, 5) == "unix:" then
            return nil, "Unable to generate a useful Host header for a unix domain socket. Please provide one."
        end
        return host
    end
    if port == (self.ssl and 443 or 80) then
        return host
    end
    return host .. ":" .. port
end

-- Sends a request, but for a body that waits for leave. `params` gets the fields as they were sent.
function M.send_request(self, params)
    setmetatable(params, DEFAULTS)
    local sock, body = self.sock, params.body
    local headers = http_headers.new()
    for name, value in pairs(params.headers or {}) do
        headers[name] = value
    end
    if not headers["Proxy-Authorization"] then
        headers["Proxy-Authorization"] = self.http_proxy_auth
    end
    local ok, err = frame(params, headers)
    if not ok then
        return nil, err
    end
    if not headers["Host"] then
        headers["Host"], err = host_field(self)
        if err then
            return nil, err
        end
    end
    if not headers["User-Agent"] then
        headers["User-Agent"] = M._USER_AGENT
    end
    if params.version == 1.0 and not headers["Connection"] then
        headers["Connection"] = "Keep-Alive"
    end
    if not headers["traceparent"] and PHASES_WITH_VARIABLES[ngx.get_phase()] then
        headers["traceparent"] = ngx.var.http_traceparent
    end
    params.headers = headers

    local head
    head, err = format_head(self, params, headers)
    if not head then
        return nil, err
    end
    if debugging then
        ngx.log(ngx.DEBUG, "\n", head)
    end
    self.unread = self.unread + 1
    local waits = headers["Expect"] == "100-continue"
    local kind = type(body)
    local bytes
    if not waits and (kind == "string" or kind == "table") then
        bytes, err = sock:send({ head, body }) -- one write
        return bytes and true, err
    end
    bytes, err = sock:send(head)
    if not bytes then
        return nil, err
    end
    if waits then
        return true
    end
    return send_body(sock, body)
end

-- Whether the connection may carry another request.
local function persists(headers, version)
    local connection = headers["Connection"]
    if type(connection) == "table" then
        connection = concat(connection, ",")
    end
    if connection == nil then
        return version ~= 1.0
    end
    connection = lower(connection)
    if version == 1.0 then
        return find(connection, "keep-alive", 1, true) ~= nil
    end
    return find(connection, "close", 1, true) == nil
end

local function has_body(method, status)
    if method == "HEAD" or status == 204 or status == 304 or status < 200 then
        return false
    end
    return not (method == "CONNECT" and status < 300)
end

-- The readers of a response's body and trailers; or nil and an error.
local function readers(self, params, status, version, headers)
    local sock = self.sock
    if not has_body(upper(params.method), status) then
        self.unread = self.unread - 1
        return response.no_body, nil
    end
    local chunked = response.is_chunked(headers)
    local length, err = response.length(headers)
    if err and not chunked then
        return nil, err
    end
    local trailers
    local body
    if version == 1.1 and chunked then
        if headers["Content-Length"] ~= nil then
            self.keepalive = false -- two lengths: nothing that follows can be relied upon
        end
        body = response.chunked_reader(self, sock, nil, function(fields) trailers = fields end)
    elseif length and headers["Transfer-Encoding"] == nil then
        body = response.fixed_reader(self, sock, length)
    else
        body = response.open_reader(self, sock)
    end
    if not headers["Trailer"] then
        return body, nil
    end
    return body, function()
        if trailers then
            return trailers
        end
        -- Some put an empty line before them. They cannot be told from the next response.
        self.keepalive = false
        return response.headers(sock)
    end
end

-- Asks for leave to send the body, which is sent if it is given; or answers the final response's head.
local function continue(self, params)
    local status, version, reason, headers = response.head(self.sock, 100)
    if not status then
        return nil, version
    end
    if status ~= 100 then
        -- The body was announced, but never sent: what follows on the connection would be taken for it.
        self.keepalive = false
        return status, version, reason, headers
    end
    local ok, err = send_body(self.sock, params.body)
    if not ok then
        return nil, err
    end
    return 100
end

function M.read_response(self, params)
    local status, version, reason, headers
    if params.headers["Expect"] == "100-continue" then
        status, version, reason, headers = continue(self, params)
        if not status then
            self.keepalive = false
            return nil, version
        end
    end
    if not headers then
        status, version, reason, headers = response.head(self.sock)
        if not status then
            self.keepalive = false
            return nil, version
        end
    end
    if status == 101 or not persists(headers, version) then
        self.keepalive = false
    end
    local body_reader, trailer_reader = readers(self, params, status, version, headers)
    if not body_reader then
        self.keepalive = false
        return nil, trailer_reader
    end
    return {
        status = status,
        reason = reason,
        headers = headers,
        has_body = body_reader ~= response.no_body,
        body_reader = body_reader,
        read_body = response.read_body,
        trailer_reader = trailer_reader,
        read_trailers = response.read_trailers,
    }
end

function M.request(self, params)
    params = copied(params)
    local ok, err = self:send_request(params)
    if not ok then
        return ok, err
    end
    return self:read_response(params)
end

-- Reads a pipelined response when a field of it is first asked for.
local function read_lazily(t, key)
    if rawget(t, "response_read") == false then
        t.response_read = true
        local res, err = getmetatable(t).client:read_response(t.params)
        if not res then
            ngx.log(ngx.ERR, err)
        else
            for k, v in pairs(res) do
                t[k] = v
            end
        end
    end
    return rawget(t, key)
end

function M.request_pipeline(self, requests)
    requests = copied(requests)
    for _, params in ipairs(requests) do
        if params.headers and params.headers["Expect"] == "100-continue" then
            return nil, "Cannot pipeline request specifying Expect: 100-continue"
        end
        local ok, err = self:send_request(params)
        if not ok then
            return ok, err
        end
    end
    local responses = {}
    local lazy = { __index = read_lazily, client = self }
    for i, params in ipairs(requests) do
        responses[i] = setmetatable({ params = params, response_read = false }, lazy)
    end
    return responses
end

local function log_failure(ok, err)
    if not ok then
        ngx.log(ngx.ERR, err)
    end
end

-- Connects, sends one request, reads all of its response, and gives the connection back.
function M.request_uri(self, uri, params)
    params = copied(params or {})
    if self.proxy_opts then
        params.proxy_opts = copied(self.proxy_opts)
    end
    local parts, err = self:parse_uri(uri, false)
    if not parts then
        return nil, err
    end
    params.scheme, params.host, params.port = parts[1], parts[2], parts[3]
    params.path = params.path or parts[4]
    params.query = params.query or parts[5]
    params.ssl_server_name = params.ssl_server_name or params.host
    local authorization = params.headers and params.headers["Proxy-Authorization"]
    if authorization and params.proxy_opts then
        params.proxy_opts.https_proxy_authorization = authorization
        params.proxy_opts.http_proxy_authorization = authorization
    end

    local ok, res, body
    ok, err = self:connect(params)
    if not ok then
        return nil, err
    end
    res, err = self:request(params)
    if not res then
        self:close()
        return nil, err
    end
    body, err = res:read_body()
    if not body then
        self:close()
        return nil, err
    end
    res.body = body
    if params.keepalive == false then
        log_failure(self:close())
    else
        log_failure(self:set_keepalive(params.keepalive_timeout, params.keepalive_pool))
    end
    return res, nil
end

-- An iterator over the body of the present request, or of what `sock` receives with these fields.
function M.get_client_body_reader(_, chunksize, sock, headers)
    chunksize = chunksize or 65536
    if not sock then
        local ok, err
        ok, sock, err = pcall(ngx.req.socket)
        if not ok then
            return nil, sock
        end
        if not sock then
            if err == "no body" then
                return nil
            end
            return nil, err
        end
    end
    headers = headers or ngx.req.get_headers()
    local length = headers["Content-Length"]
    if length then
        length = tonumber(length)
        if not length or length < 0 then
            return nil, "bad Content-Length in request"
        end
        return response.fixed_reader(nil, sock, length, chunksize)
    elseif response.is_chunked(headers) then
        return response.chunked_reader(nil, sock, chunksize)
    end
    return nil
end

function M.set_proxy_options(self, options)
    self.proxy_opts = copied(options)
end

-- The proxy to go through for a host, or nil.
function M.get_proxy_uri(self, scheme, host)
    local options = self.proxy_opts
    if not options or http_connect.is_excluded(options.no_proxy, host) then
        return nil
    end
    if scheme == "http" or scheme == "https" then
        return options[scheme .. "_proxy"]
    end
    return nil
end

require("resty.http_deprecated")(M)

return M
