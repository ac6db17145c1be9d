-- What `resty.http` keeps for old programs: connecting by steps, and passing the present request on.
-- https://github.com/ledgetech/lua-resty-http#deprecated
local http_connect = require "resty.http_connect"

local ngx = ngx
local re_gsub = ngx.re.gsub
local lower = string.lower
local pairs = pairs

-- Fields that end with a connection, and the length, which the server finds itself.
local HOP_BY_HOP = {
    ["connection"] = true, ["keep-alive"] = true, ["proxy-authenticate"] = true, ["proxy-authorization"] = true,
    ["te"] = true, ["trailers"] = true, ["transfer-encoding"] = true, ["upgrade"] = true, ["content-length"] = true,
}

-- Adds the functions to the module.
return function(M)
    function M.ssl_handshake(self, ...)
        ngx.log(ngx.DEBUG, "Use of deprecated function `ssl_handshake`")
        local sock = self.sock
        if not sock then
            return nil, "not initialized"
        end
        self.ssl = true
        return sock:sslhandshake(...)
    end

    function M.connect_proxy(self, proxy_uri, scheme, host, port, proxy_authorization)
        ngx.log(ngx.DEBUG, "Use of deprecated function `connect_proxy`")
        local parts, err = self:parse_uri(proxy_uri, false)
        if not parts then
            return nil, err
        end
        if parts[1] ~= "http" then
            return nil, "protocol " .. parts[1] .. " not supported for proxy connections"
        end
        local ok
        ok, err = self:tcp_only_connect(parts[2], parts[3])
        if not ok then
            return nil, err
        end
        if scheme == "https" then
            local res
            res, err = http_connect.open_tunnel(self, host .. ":" .. port, proxy_authorization)
            if not res then
                return nil, err
            end
            if res.status < 200 or res.status > 299 then
                return nil, "failed to establish a tunnel through a proxy: " .. res.status
            end
        end
        return ok, nil
    end

    function M.proxy_request(self, chunksize)
        ngx.log(ngx.DEBUG, "Use of deprecated function `proxy_request`")
        local var = ngx.var
        local path = re_gsub(var.uri, "\\s", "%20", "jo")
        return self:request({
            method = ngx.req.get_method(),
            path = path .. var.is_args .. (var.query_string or ""),
            body = self:get_client_body_reader(chunksize),
            headers = ngx.req.get_headers(),
        })
    end

    function M.proxy_response(_, res, chunksize)
        ngx.log(ngx.DEBUG, "Use of deprecated function `proxy_response`")
        if not res then
            ngx.log(ngx.ERR, "no response provided")
            return
        end
        ngx.status = res.status
        for name, value in pairs(res.headers) do
            if not HOP_BY_HOP[lower(name)] then
                ngx.header[name] = value
            end
        end
        local reader = res.body_reader
        while true do
            local piece, err = reader(chunksize)
            if err then
                ngx.log(ngx.ERR, err)
            end
            if piece then
                local ok, problem = ngx.print(piece)
                if not ok then
                    ngx.log(ngx.ERR, problem)
                    err = problem
                end
            end
            if err or not piece then
                return
            end
        end
    end
end
