-- How `resty.http` connects: over TCP, TLS and through proxies, to a pool that fits all of it.
-- https://github.com/ledgetech/lua-resty-http#connect
local re_gmatch = ngx.re.gmatch
local find, sub = string.find, string.sub
local setmetatable, tostring, type = setmetatable, tostring, type
local ngx = ngx

local M = {}

-- Whether a comma separated list of hosts, or domains that they are in, names this host; `*` names all.
function M.is_excluded(list, host)
    if not list then
        return false
    end
    if list == "*" then
        return true
    end
    local names = {}
    for name in re_gmatch(list, [[\.?([^,]+)]], "jo") do
        names[name[1]] = true
    end
    -- Not the last label alone, unless the host is no more than that.
    repeat
        if names[host] then
            return true
        end
        local dot = find(host, ".", 1, true)
        if not dot or dot == 1 then
            return false
        end
        host = sub(host, dot + 1)
    until not find(host, ".", 1, true)
    return false
end

-- A number for each certificate and key in use.
local numbers, last_number = setmetatable({}, { __mode = "k" }), 0

local function number_of(object)
    local number = numbers[object]
    if not number then
        last_number = last_number + 1
        number = last_number
        numbers[object] = number
    end
    return number
end

-- Tells client certificates apart: a connection made with one may not be used with another, nor without its key.
function M.identity(cert, key)
    return cert and key and number_of(cert) .. "/" .. number_of(key) or ""
end

-- Which proxy to use: its URI, what to authorise with, and what comes before the path of requests.
local function choose_proxy(proxy, scheme, host, port)
    if not proxy or M.is_excluded(proxy.no_proxy, host) then
        return nil
    end
    if scheme == "https" then
        if proxy.https_proxy then
            return proxy.https_proxy, proxy.https_proxy_authorization, nil
        end
        return nil
    end
    if proxy.http_proxy then
        -- Proxies are asked for an absolute URI (RFC 9112, 3.2.2).
        local prefix = "http://" .. host .. (port == 80 and "" or ":" .. tostring(port))
        return proxy.http_proxy, proxy.http_proxy_authorization, prefix
    end
    return nil
end

-- Asks a proxy for a connection to `destination`; answers its response.
function M.open_tunnel(client, destination, authorization)
    return client:request({
        method = "CONNECT",
        path = destination,
        headers = { ["Host"] = destination, ["Proxy-Authorization"] = authorization },
    })
end

local function connect_through(client, proxy_uri, destination, authorization, options)
    local parts, err = client:parse_uri(proxy_uri)
    if not parts then
        return nil, "uri parse error: " .. err
    end
    if parts[1] ~= "http" then
        return nil, "protocol " .. tostring(parts[1]) .. " not supported for proxy connections"
    end
    local sock, ok = client.sock, nil
    ok, err = sock:connect(parts[2], parts[3], options)
    if not ok then
        return nil, "failed to connect to: " .. parts[2] .. ":" .. parts[3] .. ": " .. err
    end
    if not destination or sock:getreusedtimes() ~= 0 then
        return true
    end
    client.keepalive, client.unread, client.path_prefix, client.http_proxy_auth = true, 0, nil, nil
    local res
    res, err = M.open_tunnel(client, destination, authorization)
    if not res then
        sock:close()
        return nil, "failed to issue CONNECT to proxy: " .. err
    end
    if res.status < 200 or res.status > 299 then
        sock:close()
        return nil, "failed to establish a tunnel through a proxy: " .. res.status
    end
    return true
end

local function check_client_cert(cert, key)
    if type(cert) ~= "cdata" then
        return "bad ssl_client_cert: cdata expected, got " .. type(cert)
    end
    if type(key) ~= "cdata" then
        return "bad ssl_client_priv_key: cdata expected, got " .. type(key)
    end
end

local function handshake(sock, options, verify)
    local cert, key = options.ssl_client_cert, options.ssl_client_priv_key
    if cert and key then
        if type(sock.setclientcert) ~= "function" then
            return nil, "cannot use SSL client cert and key without mTLS support"
        end
        local ok, err = sock:setclientcert(cert, key)
        if not ok then
            return nil, "could not set client certificate: " .. err
        end
    end
    return sock:sslhandshake(options.ssl_reused_session, options.ssl_server_name, verify, options.ssl_send_status_req)
end

-- true, nil and the TLS session; or nil and an error.
local function connect(client, options)
    local sock = client.sock
    if not sock then
        return nil, "not initialized"
    end
    local scheme, host, port = options.scheme, options.host, options.port
    if scheme and not port then
        port = scheme == "https" and 443 or 80
    elseif port and not scheme then
        return nil, "'scheme' is required when providing a port"
    end
    local ssl = scheme == "https" or nil
    local verify = ssl and options.ssl_verify ~= false or nil
    local server_name = ssl and options.ssl_server_name
    local certificate
    if ssl and options.ssl_client_cert and options.ssl_client_priv_key then
        local problem = check_client_cert(options.ssl_client_cert, options.ssl_client_priv_key)
        if problem then
            return nil, problem
        end
        certificate = M.identity(options.ssl_client_cert, options.ssl_client_priv_key)
    end
    local proxy_uri, authorization, path_prefix =
        choose_proxy(options.proxy_opts or client.proxy_opts, scheme, host, port)

    -- All that makes connections differ. With plain HTTP the authorisation is part of each request.
    local pool = options.pool or (scheme or "") .. ":" .. host .. ":" .. tostring(port) .. ":" .. tostring(ssl) .. ":"
        .. (server_name or "") .. ":" .. tostring(verify) .. ":" .. (proxy_uri or "") .. ":"
        .. (ssl and authorization or "") .. ":" .. (certificate or "")
    if options.pool_debug == true then
        ngx.log(ngx.DEBUG, "poolname: ", pool)
    end
    local pooling = { pool = pool, pool_size = options.pool_size, backlog = options.backlog }
    local ok, err
    if proxy_uri then
        ok, err = connect_through(client, proxy_uri, ssl and host .. ":" .. port, authorization, pooling)
    elseif port then
        ok, err = sock:connect(host, port, pooling)
    else
        ok, err = sock:connect(host, pooling)
    end
    if not ok then
        return nil, err
    end
    local session
    if ssl and sock:getreusedtimes() == 0 then
        session, err = handshake(sock, options, verify)
        if not session then
            sock:close()
            return nil, err
        end
    end
    client.host, client.port, client.ssl = host, port, ssl
    client.keepalive, client.unread = true, 0
    client.http_proxy_auth = not ssl and authorization or nil
    client.path_prefix = path_prefix
    return true, nil, session
end

return setmetatable(M, { __call = function(_, client, options) return connect(client, options) end })
