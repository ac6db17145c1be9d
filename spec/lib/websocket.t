# resty.websocket: handshakes, frames, fragments, compression, and what others get wrong.
use Test::Nginx::Socket 'no_plan';
our $Server = <<'_EOC_';
init_by_lua_block {
    -- Bytes of a frame; a mask of zeros leaves the payload as it is.
    function frame(first, payload, masked)
        local n = #payload
        return string.char(first, (masked and 0x80 or 0) + n) .. (masked and "\0\0\0\0" or "") .. payload
    end
    -- Sends bytes to the server after a handshake, and says what it makes of them.
    function raw(path, bytes, cut, stall, extensions)
        local sock = ngx.socket.tcp()
        sock:settimeout(1000)
        assert(sock:connect("unix:$TEST_NGINX_HTML_DIR/ws.sock"))
        sock:send("GET " .. path .. " HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            .. "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" .. (extensions or "") .. "\r\n")
        local head = assert(sock:receiveuntil("\r\n\r\n")())
        if cut then
            sock:send(bytes:sub(1, cut))
            ngx.sleep(stall or 0)
            if not stall then
                sock:shutdown("send")
                return sock:receive("*a"), head
            end
            bytes = bytes:sub(cut + 1)
        end
        sock:send(bytes)
        return sock, head
    end
    function connect(path, opts, new_opts)
        local client = require "resty.websocket.client"
        local wb = client:new(new_opts or { timeout = 1000 })
        local ok, err, head = wb:connect("ws://unix:$TEST_NGINX_HTML_DIR/ws.sock:" .. path, opts)
        return ok and wb or nil, err, head
    end
}
server {
    listen unix:$TEST_NGINX_HTML_DIR/ws.sock;
    lua_check_client_abort off;
    location /echo {
        content_by_lua_block {
            local server = require "resty.websocket.server"
            local wb, err = server:new{ timeout = tonumber(ngx.var.arg_timeout) or 1000, max_payload_len = 200000,
                deflate = ngx.var.arg_deflate and { min_size = 0 }, strict = ngx.var.arg_strict and true, protocols = "b" }
            if not wb then
                ngx.status = 400
                ngx.say(err)
                return
            end
            local tries = 0
            while true do
                local data, typ, err = wb:recv_frame()
                if not data then
                    tries = tries + 1
                    if not err:find("timeout") or tries > 300 then
                        ngx.log(ngx.NOTICE, "ended: ", err, ";")
                        return
                    end
                elseif typ == "close" then
                    wb:send_close(err or 1000, data)
                    return
                elseif typ == "ping" then
                    wb:send_pong(data)
                else
                    local opcode = ({ text = 1, binary = 2, continuation = 0 })[typ]
                    wb:send_frame(err ~= "again", opcode, data)
                end
            end
        }
    }
}
_EOC_
run_tests();

__DATA__

=== TEST 1: messages of every length there and back, pings and closing
--- http_config eval: $::Server
--- config
location /t {
    content_by_lua_block {
        local wb, err, head = connect("/echo", { protocols = { "a", "b" } }, { timeout = 1000, max_payload_len = 200000 })
        ngx.say(err, " ", head:match("Sec%-WebSocket%-Protocol: (%S+)"))
        for _, len in ipairs{ 0, 1, 7, 8, 125, 126, 127, 65535, 65536, 150000 } do
            local text = ("0123456789abcde"):rep(10000):sub(1, len)
            wb:send_binary(text)
            local data, typ, err = wb:recv_frame()
            if data ~= text or typ ~= "binary" then
                ngx.say("bad echo of ", len, " ", typ, " ", err)
            end
        end
        wb:send_ping("p")
        ngx.say(wb:recv_frame())
        wb:send_frame(false, 1, "on")
        wb:send_ping()
        wb:send_frame(true, 0, "e")
        for _ = 1, 3 do
            local data, typ, err = wb:recv_frame()
            ngx.say(data, " ", typ, " ", err)
        end
        ngx.say(wb:send_close(3000, "bye"))
        ngx.say(wb:recv_frame())
        ngx.say(wb:send_text("x"))
        ngx.say(wb:close())
    }
}
--- request
GET /t
--- response_body
nil b
ppongnil
on text again
 pong nil
e continuation nil
11nil
byeclose3000
nilalready closed
1
--- no_error_log
[error]

=== TEST 2: compressed messages, with and without building on each other, and as fragments
--- http_config eval: $::Server
--- config
location /t {
    content_by_lua_block {
        for _, options in ipairs{ { min_size = 0 }, { min_size = 0, server_no_context_takeover = true, client_no_context_takeover = true },
            { min_size = 0, server_max_window_bits = 9, client_max_window_bits = 10, level = 9 } }
        do
            local wb, err, head = connect("/echo?deflate=1", { deflate = options })
            ngx.say(head:match("Sec%-WebSocket%-Extensions: ([^\r]+)"))
            local text = ("hello "):rep(1000)
            local sent = wb:send_text(text)
            ngx.say(sent < 100, " ", (wb:recv_frame()) == text)
            local again = wb:send_text(text)
            ngx.say(again < sent, " ", (wb:recv_frame()) == text)
            wb:send_text("")
            ngx.say("[", wb:recv_frame(), "]")
            wb:send_frame(false, 1, "κό")
            wb:send_frame(true, 0, "σμε")
            local a, _, more = wb:recv_frame()
            local b = wb:recv_frame()
            ngx.say(a, "|", b, " ", more)
            ngx.say(wb:set_keepalive())
        end
        local wb = connect("/echo?deflate=1")
        wb:send_text("plain")
        ngx.say((wb:recv_frame()))
        local wb, _, head = connect("/echo", { deflate = true })
        ngx.say(head:match("Extensions"), " ", wb:send_text(("x"):rep(100)))
    }
}
--- request
GET /t
--- response_body
permessage-deflate
true true
true true
[]
κό|σμε again
nilconnection must be closed
permessage-deflate; server_no_context_takeover; client_no_context_takeover
true true
false true
[]
κό|σμε again
nilconnection must be closed
permessage-deflate; server_max_window_bits=9
true true
true true
[]
κό|σμε again
nilconnection must be closed
plain
nil 106nil

=== TEST 3: the offers that are taken
--- http_config eval: $::Server
--- config
location /t {
    content_by_lua_block {
        for _, offer in ipairs{ "permessage-deflate", "x-webkit, permessage-deflate; client_max_window_bits",
            "permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=\"12\"",
            "permessage-deflate; unknown", "permessage-deflate; server_max_window_bits", "permessage-deflate; client_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover", "permessage-deflate; server_max_window_bits=16" }
        do
            local sock, head = raw("/echo?deflate=1", "", nil, nil, "Sec-WebSocket-Extensions: " .. offer .. "\r\n")
            ngx.say(head:match("Sec%-WebSocket%-Extensions: ([^\r]+)"))
        end
    }
}
--- request
GET /t
--- response_body
permessage-deflate
permessage-deflate
permessage-deflate; server_max_window_bits=12
nil
nil
nil
nil
nil

=== TEST 4: requests that are no handshakes
--- http_config eval: $::Server
--- config
location /t {
    content_by_lua_block {
        local good = { Upgrade = "WebSocket", Connection = "keep-alive, Upgrade", ["Sec-WebSocket-Key"] = "x", ["Sec-WebSocket-Version"] = "13" }
        local http = require "resty.http"
        for _, change in ipairs{ { "Upgrade", nil }, { "Upgrade", "h2c" }, { "Connection", "close" }, { "Sec-WebSocket-Key", nil }, { "Sec-WebSocket-Version", "8" } } do
            local headers = { Host = "x" }
            for k, v in pairs(good) do
                headers[k] = v
            end
            headers[change[1]] = change[2]
            local c = http.new()
            c:connect{ host = "unix:$TEST_NGINX_HTML_DIR/ws.sock" }
            local res = c:request{ path = "/echo", headers = headers }
            ngx.print(res:read_body())
        end
        local client = require "resty.websocket.client"
        local wb = client:new()
        ngx.say(wb:connect("http://x/"))
        ngx.say(wb:connect("ws://127.0.0.1:" .. ngx.var.server_port .. "/nothing"))
        ngx.say(wb:connect("ws://127.0.0.1:" .. ngx.var.server_port .. "/liar"))
        ngx.say(wb:connect("ws://127.0.0.1:1/"))
        ngx.say(wb:send_text("x"))
    }
}
location /liar {
    content_by_lua_block {
        ngx.req.socket(true):send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n")
    }
}
--- request
GET /t
--- response_body
bad "upgrade" request header: nil
bad "upgrade" request header: h2c
bad "connection" request header
bad "sec-websocket-key" request header
bad "sec-websocket-version" request header
nilbad websocket uri
nilunexpected HTTP response code: 404
nilbad "Sec-WebSocket-Accept" response header
nilfailed to connect: connection refused
nilfailed to send frame: closed

=== TEST 5: frames that break the rules, and what the other side is told
--- http_config eval: $::Server
--- config
location /t {
    content_by_lua_block {
        local function answer(path, bytes, extensions)
            local sock = raw(path, bytes, nil, nil, extensions)
            local reply = sock:receive("*a")
            local code = reply and #reply >= 4 and reply:byte(1) == 0x88 and reply:byte(3) * 256 + reply:byte(4)
            ngx.say(code or (reply == "" and "closed") or reply)
        end
        answer("/echo", frame(0x81, "\xff", true))
        answer("/echo", frame(0x01, "\xe2\x82", true) .. frame(0x80, "\xac", true) .. frame(0x81, "\xe2", true))
        answer("/echo", frame(0x88, "\3\237", true))
        answer("/echo", frame(0x88, "\3", true))
        answer("/echo", frame(0x88, "\3\232\xff", true))
        answer("/echo", frame(0x81, "x", false))
        answer("/echo", frame(0xc1, "x", true))
        answer("/echo", frame(0x83, "x", true))
        answer("/echo", frame(0x8b, "x", true))
        answer("/echo", frame(0x09, "x", true))
        answer("/echo", "\x81\xff\0\0\0\1\0\0\0\0")
        answer("/echo", "\x81\xff\0\0\0\0\0\x0f\0\0")
        answer("/echo", "\x89\xfe\0\x7e")
        answer("/echo?strict=1", frame(0x80, "x", true))
        local deflate = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
        answer("/echo?deflate=1", frame(0xc1, "\xff\xff\xff", true), deflate)
        answer("/echo?deflate=1", frame(0xc9, "x", true), deflate)
        local bomb = require("resty.websocket.deflate").confirm("permessage-deflate", true):compress(("\0"):rep(300000), 2, true)
        answer("/echo?deflate=1", string.char(0xc2, 0xfe, math.floor(#bomb / 256), #bomb % 256) .. "\0\0\0\0" .. bomb, deflate)
    }
}
--- request
GET /t
--- response_body_like eval
qr/\A1007
.*\n?1002
closed
1007
(closed
){8}1002
1007
1002
1009
\z/s
--- grep_error_log eval: qr/ended: [^;]+/
--- grep_error_log_out
ended: invalid UTF-8 in text frame
ended: invalid UTF-8 in text frame
ended: bad status code in close frame: 1005
ended: close frame with a body must carry a 2-byte status code
ended: invalid UTF-8 in close frame
ended: frame unmasked
ended: bad RSV1, RSV2, or RSV3 bits
ended: reserved non-control frames
ended: reserved control frames
ended: fragmented control frame
ended: payload len too large
ended: exceeding max payload len
ended: too long payload for control frame
ended: unexpected continuation frame
ended: bad compressed data
ended: bad RSV1, RSV2, or RSV3 bits
ended: exceeding max payload len

=== TEST 6: the other side leaves at every byte, or pauses there longer than the timeout
--- http_config eval: $::Server
--- config
location /t {
    content_by_lua_block {
        local payload = ("x"):rep(130)
        local bytes = "\x81\xfe\0\x82\0\0\0\0" .. payload
        for cut = 0, #bytes - 1, 1 do
            local rest = raw("/echo", bytes, cut)
            if rest ~= "" then
                ngx.say("an answer at ", cut, ": ", rest)
            end
        end
        for _, cut in ipairs{ 1, 2, 3, 4, 6, 8, 9, 100, 137 } do
            local sock = raw("/echo?timeout=5", bytes, cut, 0.02)
            local reply = sock:receive(134)
            ngx.print(reply == "\x81\x7e\0\x82" .. payload)
        end
        ngx.say()
        local wb = connect("/echo", nil, { timeout = 10 })
        ngx.say(wb:recv_frame())
        wb:send_text("still here")
        ngx.say(wb:recv_frame())
        ngx.say(wb:set_keepalive())
    }
}
--- request
GET /t
--- timeout: 20
--- response_body
truetruetruetruetruetruetruetruetrue
nilnilfailed to receive the first 2 bytes: timeout
still heretextnil
1
