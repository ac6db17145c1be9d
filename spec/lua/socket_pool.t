# Keep-alive pools of cosockets, and the line before a full one.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: a connection is used again, and tells how often
--- http_config
init_by_lua_block {
    function get(pool)
        local sock = ngx.socket.tcp()
        assert(sock:connect("127.0.0.1", ngx.var.server_port, pool and { pool = pool }))
        sock:send("GET /foo HTTP/1.1\r\nHost: x\r\n\r\n")
        sock:receiveuntil("\r\n\r\n")()
        sock:receive(3)
        local reused = sock:getreusedtimes()
        return reused, sock:setkeepalive()
    end
}
--- config
location /t {
    content_by_lua_block {
        ngx.say(get())
        ngx.say(get())
        ngx.say(get("other"))
        ngx.say(get())
    }
}
location /foo { return 200 foo; }
--- request
GET /t
--- response_body
01
11
01
21
--- no_error_log
[error]

=== TEST 2: what was not read keeps a connection from being kept
--- config
location /t {
    content_by_lua_block {
        local sock = ngx.socket.tcp()
        assert(sock:connect("127.0.0.1", ngx.var.server_port))
        sock:send("GET /foo HTTP/1.1\r\nHost: x\r\n\r\n")
        sock:receive()
        ngx.say(sock:setkeepalive())
        sock:close()
        ngx.say(sock:setkeepalive())
    }
}
location /foo { return 200 foo; }
--- request
GET /t
--- response_body
nilunread data in buffer
nilclosed

=== TEST 3: an idle connection that the peer closes is not used again
--- config
location /t {
    content_by_lua_block {
        local function open()
            local sock = ngx.socket.tcp()
            assert(sock:connect("127.0.0.1", ngx.var.server_port))
            return sock
        end
        local sock = open()
        sock:send("GET /foo HTTP/1.1\r\nHost: x\r\n\r\n")
        sock:receiveuntil("\r\n\r\n")()
        sock:receive(3)
        ngx.say(sock:setkeepalive())
        ngx.sleep(0.4)
        ngx.say(open():getreusedtimes())
    }
}
location /foo { keepalive_timeout 100ms; return 200 foo; }
--- request
GET /t
--- response_body
1
0

=== TEST 4: an idle connection that is too old is closed
--- config
location /t {
    content_by_lua_block {
        local function open()
            local sock = ngx.socket.tcp()
            assert(sock:connect("127.0.0.1", ngx.var.server_port))
            return sock
        end
        open():setkeepalive(50)
        ngx.sleep(0.3)
        ngx.say(open():getreusedtimes())
    }
}
--- request
GET /t
--- response_body
0

=== TEST 5: the oldest gives way when there are too many
--- config
location /t {
    content_by_lua_block {
        local socks = {}
        for i = 1, 3 do
            socks[i] = ngx.socket.tcp()
            assert(socks[i]:connect("127.0.0.1", ngx.var.server_port))
        end
        for i = 1, 3 do socks[i]:setkeepalive(10000, 2) end
        local reused = 0
        for i = 1, 3 do
            socks[i]:connect("127.0.0.1", ngx.var.server_port)
            reused = reused + socks[i]:getreusedtimes()
        end
        ngx.say(reused)
    }
}
--- request
GET /t
--- response_body
2

=== TEST 6: connects beyond the pool's size wait for their turn
--- config
location /t {
    content_by_lua_block {
        local options = { pool_size = 1, backlog = 1 }
        local function connect(sock) return sock:connect("127.0.0.1", ngx.var.server_port, options) end
        local first, second, third = ngx.socket.tcp(), ngx.socket.tcp(), ngx.socket.tcp()
        ngx.say(connect(first))
        local thread = ngx.thread.spawn(function() return connect(second) end)
        ngx.say(connect(third))
        first:setkeepalive()
        ngx.say(select(2, ngx.thread.wait(thread)), " ", second:getreusedtimes())
        second:settimeout(50)
        third:settimeout(50)
        ngx.say(connect(third))
        second:close()
        ngx.say(connect(third), " ", third:getreusedtimes())
    }
}
--- request
GET /t
--- response_body
1
niltoo many waiting connect operations
1 1
niltimeout
1 0
--- error_log
lua tcp socket queued connect timed out, when trying to connect to 127.0.0.1:

=== TEST 7: who is killed in the line leaves no trace
--- config
location /t {
    content_by_lua_block {
        local options = { pool_size = 1, backlog = 5 }
        local function connect(sock) return sock:connect("127.0.0.1", ngx.var.server_port, options) end
        local first = ngx.socket.tcp()
        connect(first)
        local killed = ngx.thread.spawn(function() connect(ngx.socket.tcp()) end)
        local last = ngx.socket.tcp()
        local waiting = ngx.thread.spawn(function() return connect(last) end)
        ngx.thread.kill(killed)
        first:close()
        ngx.say(select(2, ngx.thread.wait(waiting)))
    }
}
--- request
GET /t
--- response_body
1
