-- `resty.websocket.server`: the server's end of a WebSocket, on the connection of the present request.
-- https://github.com/openresty/lua-resty-websocket#restywebsocketserver
local protocol = require "resty.websocket.protocol"
local messages = require "resty.websocket.messages"
local deflate = require "resty.websocket.deflate"

local ngx = ngx
local find, gmatch, lower = string.find, string.gmatch, string.lower
local ipairs, setmetatable, tostring, type = ipairs, setmetatable, tostring, type
local send_frame, close_payload = messages.send_frame, messages.close_payload

local M = protocol.new_tab(0, 11)
M._VERSION = "0.14"

local mt = { __index = M }

local GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

local function first(value)
    if type(value) == "table" then
        return value[1]
    end
    return value
end

-- The client's key; or nil and what is wrong with its request.
local function check_request(headers)
    local version = ngx.req.http_version()
    -- A stream of HTTP/2 that asks for a WebSocket (RFC 8441) shows the fields of HTTP/1; no other can have them.
    if version ~= 1.1 and version ~= 2 then
        return nil, "bad http version"
    end
    local upgrade = first(headers.upgrade)
    if not upgrade or lower(upgrade) ~= "websocket" then
        return nil, "bad \"upgrade\" request header: " .. tostring(upgrade)
    end
    local connection = first(headers.connection)
    if not connection or not find(lower(connection), "upgrade", 1, true) then
        return nil, "bad \"connection\" request header"
    end
    local key = first(headers["sec-websocket-key"])
    if not key then
        return nil, "bad \"sec-websocket-key\" request header"
    end
    if first(headers["sec-websocket-version"]) ~= "13" then
        return nil, "bad \"sec-websocket-version\" request header"
    end
    return key
end

-- Of the protocols that the client wants, the first that the server has; all of them if nothing is said about that.
local function choose_protocol(wanted, known)
    if not wanted or not known then
        return wanted
    end
    if type(known) ~= "table" then
        known = { known }
    end
    for name in gmatch(wanted, "[^%s,]+") do
        for _, own in ipairs(known) do
            if name == own then
                return name
            end
        end
    end
    return nil
end

local function answer(headers, key, opts)
    local out = ngx.header
    local chosen = choose_protocol(first(headers["sec-websocket-protocol"]), opts.protocols)
    if chosen then
        out["Sec-WebSocket-Protocol"] = chosen
    end
    local compression, extension
    local offers = headers["sec-websocket-extensions"]
    if opts.deflate and offers then
        compression, extension = deflate.accept(offers, opts.deflate)
        out["Sec-WebSocket-Extensions"] = extension
    end
    out["Upgrade"] = "websocket"
    out["Sec-WebSocket-Accept"] = ngx.encode_base64(ngx.sha1_bin(key .. GUID))
    out["Content-Type"] = nil
    ngx.status = 101
    local ok, err = ngx.send_headers()
    if not ok then
        return nil, "failed to send response header: " .. (err or "unknown")
    end
    ok, err = ngx.flush(true)
    if not ok then
        return nil, "failed to flush response header: " .. (err or "unknown")
    end
    return true, compression
end

function M.new(_, opts)
    if ngx.headers_sent then
        return nil, "response header already sent"
    end
    opts = opts or {}
    ngx.req.read_body()
    local headers = ngx.req.get_headers()
    local key, err = check_request(headers)
    if not key then
        return nil, err
    end
    local ok, compression = answer(headers, key, opts)
    if not ok then
        return nil, compression
    end
    local sock
    sock, err = ngx.req.socket(true)
    if not sock then
        return nil, err
    end
    if opts.timeout then
        sock:settimeout(opts.timeout)
    end
    local max = opts.max_payload_len or 65535
    local self = {
        sock = sock,
        max_recv_len = opts.max_recv_len or max,
        max_send_len = opts.max_send_len or max,
        send_masked = opts.send_masked,
        masks = opts.send_masked,
        deflate = compression,
        strict = opts.strict,
    }
    return messages.prepare(setmetatable(self, mt), true)
end

M.set_timeout = messages.set_timeout
M.recv_frame = messages.recv_frame
M.send_frame = send_frame

function M.send_continue(self, data)
    return send_frame(self, true, 0x0, data)
end

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
    return send_frame(self, true, 0x8, payload)
end

function M.send_ping(self, data)
    return send_frame(self, true, 0x9, data)
end

function M.send_pong(self, data)
    return send_frame(self, true, 0xa, data)
end

return M
