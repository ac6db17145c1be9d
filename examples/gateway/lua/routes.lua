-- Which servers answer for a host: set over HTTP, kept in a shared dictionary, tried one after the other.
local balancer = require "ngx.balancer"
local cjson = require "cjson.safe"

local routes = ngx.shared.routes

local M = {}

-- access_by_lua: finds the servers of the host.
function M.find()
    local servers = cjson.decode(routes:get(ngx.var.host) or "[]")
    if #servers == 0 then
        ngx.status = ngx.HTTP_NOT_FOUND
        ngx.say("no route for ", ngx.var.host)
        return ngx.exit(ngx.HTTP_NOT_FOUND)
    end
    ngx.ctx.servers = servers
end

-- balancer_by_lua: names the next of them. Each request begins with another one.
function M.balance()
    local ctx = ngx.ctx
    local servers = ctx.servers
    if not ctx.at then
        ctx.at = routes:incr("turn", 1, 0)
        balancer.set_more_tries(#servers - 1)
    else
        ctx.at = ctx.at + 1
    end
    local server = servers[ctx.at % #servers + 1]
    local ok, err = balancer.set_current_peer(server, nil, ngx.var.host)
    if not ok then
        ngx.log(ngx.ERR, "cannot use \"", server, "\": ", err)
        return ngx.exit(ngx.HTTP_INTERNAL_SERVER_ERROR)
    end
    balancer.enable_keepalive(60, 1000)
end

-- The routes themselves.
function M.serve()
    local host = ngx.var.uri:match("^/routes/([^/]+)$")
    local method = ngx.req.get_method()
    if not host then
        return ngx.exit(ngx.HTTP_NOT_FOUND)
    end
    if method == "PUT" then
        ngx.req.read_body()
        local servers = cjson.decode(ngx.req.get_body_data() or "")
        if type(servers) ~= "table" then
            return ngx.exit(ngx.HTTP_BAD_REQUEST)
        end
        assert(routes:set(host, cjson.encode(servers)))
    elseif method == "DELETE" then
        routes:delete(host)
    end
    ngx.say(routes:get(host) or "[]")
end

return M
