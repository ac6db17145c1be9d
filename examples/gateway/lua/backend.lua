-- What the two servers behind the gateway say of themselves: well, until somebody wants it otherwise.
local flags = ngx.shared.routes

local M = {}

local function key(port)
    return "unwell:" .. port
end

-- The answer to a health check.
function M.health()
    if flags:get(key(ngx.var.server_port)) then
        ngx.status = ngx.HTTP_SERVICE_UNAVAILABLE
        return ngx.say("busy")
    end
    ngx.say("ready")
end

-- PUT and DELETE /unwell/PORT.
function M.serve()
    local port = ngx.var.uri:match("^/unwell/(%d+)$")
    local method = ngx.req.get_method()
    if not port or (method ~= "PUT" and method ~= "DELETE") then
        return ngx.exit(ngx.HTTP_NOT_FOUND)
    end
    assert(flags:set(key(port), method == "PUT" or nil))
    ngx.say(port, method == "PUT" and " is unwell" or " is well")
end

return M
