# Cosockets: connecting, sending, receiving, timeouts, sharing, and what closes them.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: lines, sizes and the rest of a stream
--- config
location /t {
    content_by_lua_block {
        local sock = ngx.socket.tcp()
        ngx.say(sock:connect("127.0.0.1", ngx.var.server_port))
        ngx.say(sock:send({"GET /foo HTTP/1.0\r\n", {"Host: x\r\n"}, "\r\n"}))
        ngx.say(sock:receive())
        local head = sock:receiveuntil("\r\n\r\n")
        head()
        ngx.say(sock:receive(3), "|", sock:receive(0), "|", (sock:receive("*a")))
        ngx.say(sock:receive("*a"))
        local line, err, partial = sock:receive("*l")
        ngx.say(line, " ", err, " [", partial, "]")
        ngx.say(sock:send("more"))
        ngx.say(sock:close(), " ", sock:close())
    }
}
location /foo { return 200 "foobar\n"; }
--- request
GET /t
--- response_body
1
30
HTTP/1.1 200 OK
foo||bar


nil closed []
4
1 nilclosed
--- no_error_log
[crit]

=== TEST 2: without anybody listening the connection is refused
--- config
location /t {
    content_by_lua_block {
        local sock = ngx.socket.tcp()
        ngx.say(sock:connect("127.0.0.1", 1))
        ngx.say(sock:send("x"))
        ngx.say(sock:connect("unix:/nonexistent/socket"))
        ngx.say(sock:connect("/nonexistent", 80))
        ngx.say(sock:connect("127.0.0.1"))
        ngx.say(sock:connect("127.0.0.1", 65536))
        ngx.say(sock:connect("example.net", 80))
    }
}
--- request
GET /t
--- response_body
nilconnection refused
nilclosed
nilno such file or directory
nilfailed to parse host name "/nonexistent": invalid host
nilmissing the port number
nilbad port number: 65536
nilno resolver defined to resolve "example.net"
--- error_log
connect() failed (111: Connection refused), client: 127.0.0.1
attempt to send data on a closed socket: u:
[crit]
connect() to unix:/nonexistent/socket failed (2: No such file or directory)

=== TEST 3: a timeout leaves what has come and the stream open
--- config
lua_socket_log_errors off;
location /t {
    content_by_lua_block {
        local sock = ngx.socket.tcp()
        assert(sock:connect("127.0.0.1", ngx.var.server_port))
        sock:settimeouts(1000, 1000, 50)
        sock:send("GET /slow HTTP/1.0\r\n\r\n")
        sock:receiveuntil("\r\n\r\n")()
        ngx.say(sock:receive(6))
        sock:settimeout(5000)
        ngx.say(sock:receive())
    }
}
location /slow {
    lua_http10_buffering off;
    content_by_lua_block { ngx.print("abc") ngx.flush(true) ngx.sleep(0.3) ngx.say("def") }
}
--- request
GET /t
--- response_body
niltimeoutabc
def
--- no_error_log
[error]

=== TEST 4: receiveuntil in pieces, inclusive or not
--- config
location /t {
    content_by_lua_block {
        local sock = ngx.socket.tcp()
        assert(sock:connect("127.0.0.1", ngx.var.server_port))
        sock:send("GET /foo HTTP/1.0\r\n\r\n")
        sock:receiveuntil("\r\n\r\n")()
        local reader = sock:receiveuntil("--abc")
        for i = 1, 6 do ngx.say(reader(4)) end
        ngx.say(sock:receiveuntil("|", { inclusive = true })())
        ngx.say(sock:receiveuntil("nowhere")())
    }
}
location /foo { return 200 "hello, world ------abcnext|rest"; }
--- request
GET /t
--- response_body
hell
o, w
orld
 ---
-
nilnilnil
next|
nilclosedrest
--- no_error_log
[error]

=== TEST 5: receiveany gives what is there
--- config
location /t {
    content_by_lua_block {
        local sock = ngx.socket.tcp()
        assert(sock:connect("127.0.0.1", ngx.var.server_port))
        sock:send("GET /slow HTTP/1.0\r\n\r\n")
        sock:receiveuntil("\r\n\r\n")()
        ngx.say(sock:receiveany(2), "|", sock:receiveany(100), "|", (sock:receiveany(100)))
        ngx.say(sock:receiveany(100))
    }
}
location /slow { lua_http10_buffering off; content_by_lua_block { ngx.print("abc") ngx.flush(true) ngx.sleep(0.1) ngx.print("def") } }
--- request
GET /t
--- response_body
ab|c|def
nilclosed
--- no_error_log
[error]

=== TEST 6: two threads use the two directions; a third is told that they are busy
--- config
location /t {
    content_by_lua_block {
        local sock = ngx.socket.tcp()
        assert(sock:connect("127.0.0.1", ngx.var.server_port))
        local reader = ngx.thread.spawn(function()
            sock:receiveuntil("\r\n\r\n")()
            return sock:receive()
        end)
        ngx.say(sock:receive())
        ngx.say(sock:setkeepalive())
        sock:send("GET /foo HTTP/1.0\r\n\r\n")
        ngx.say(select(2, ngx.thread.wait(reader)))
        sock:close()
    }
}
location /foo { return 200 "foo\n"; }
--- request
GET /t
--- response_body
nilsocket busy reading
nilsocket busy reading
foo
--- no_error_log
[error]

=== TEST 7: a socket belongs to the request that connected it
--- http_config
init_by_lua_block { shared = {} }
--- config
location /t {
    content_by_lua_block {
        if not shared.sock then
            shared.sock = ngx.socket.tcp()
            ngx.say(shared.sock:connect("127.0.0.1", ngx.var.server_port))
        else
            ngx.say(shared.sock:receive())
            ngx.say(pcall(shared.sock.connect, shared.sock, "127.0.0.1", ngx.var.server_port))
        end
    }
}
--- pipelined_requests eval
["GET /t", "GET /t"]
--- response_body eval
["1\n", "nilclosed\nfalsebad request\n"]

=== TEST 8: ngx.socket.connect is connect of whatever ngx.socket.tcp is
--- config
location /t {
    content_by_lua_block {
        ngx.say(type(ngx.socket.connect("127.0.0.1", ngx.var.server_port)))
        ngx.say(ngx.socket.connect("127.0.0.1", 1))
        local tcp = ngx.socket.tcp
        ngx.socket.tcp = function()
            return setmetatable({}, { __index = { connect = function() return nil, "patched" end } })
        end
        ngx.say(ngx.socket.connect("x", 1))
        ngx.socket.tcp = tcp
        ngx.say(ngx.socket.stream == tcp)
    }
}
--- request
GET /t
--- response_body
table
nilconnection refused
nilpatched
true

=== TEST 9: wrong use
--- config
location /t {
    content_by_lua_block {
        local sock = ngx.socket.tcp()
        assert(sock:connect("127.0.0.1", ngx.var.server_port))
        local function try(f, ...)
            ngx.say((select(2, pcall(f, ...))))
        end
        try(sock.send, "x")
        try(sock.send, "x", "y")
        try(sock.send, sock, function() end)
        try(sock.send, sock, { x = 1 })
        try(sock.receive, sock, "*x")
        try(sock.receive, sock, "line")
        try(sock.receive, sock, -1)
        try(sock.receiveany, sock, 0)
        try(sock.settimeout, sock, -1)
        try(sock.connect, sock)
        try(sock.connect, sock, "127.0.0.1", 1, { pool_size = 0 })
        try(sock.setkeepalive, sock, "x")
    }
}
--- request
GET /t
--- response_body
expecting 2 arguments (including the object), but got 1
bad argument #1 to '?' (table expected, got string)
bad argument #2 to '?' (string, number, boolean, nil, or array table expected, got function)
bad argument #2 to '?' (non-array table found)
bad argument #2 to '?' (bad pattern argument)
bad argument #2 to '?' (bad pattern argument: line)
bad argument #2 to '?' (bad number argument)
bad argument #2 to '?' (bad max argument)
bad timeout value
ngx.socket connect: expecting 2, 3, or 4 arguments (including the object), but seen 1
bad argument #4 to '?' (bad "pool_size" option value: 0)
bad argument #2 to '?' (number expected, got string)

=== TEST 10: a peer that does not read ends in a write timeout
--- config
location /t {
    content_by_lua_block {
        local sock = ngx.socket.tcp()
        assert(sock:connect("127.0.0.1", ngx.var.server_port))
        sock:settimeout(200)
        sock:send("POST /stuck HTTP/1.1\r\nHost: x\r\nContent-Length: 200000000\r\n\r\n")
        local chunk = string.rep("x", 1024 * 1024)
        local sent, err
        repeat sent, err = sock:send(chunk) until not sent
        ngx.say(err)
        ngx.say(sock:send("x"))
    }
}
location /stuck { client_max_body_size 0; content_by_lua_block { ngx.sleep(3) } }
--- request
GET /t
--- response_body
timeout
nilclosed
--- error_log
lua tcp socket write timed out, upstream: 127.0.0.1:

=== TEST 11: options and the descriptor
--- config
location /t {
    content_by_lua_block {
        local sock = ngx.socket.tcp()
        ngx.say(pcall(sock.getoption, sock, "keepalive"))
        assert(sock:connect("127.0.0.1", ngx.var.server_port))
        ngx.say(sock:getfd() > 0, " ", sock:setoption("keepalive", 1), " ", sock:getoption("keepalive"))
        ngx.say(sock:setoption("unknown", 1))
        sock:close()
        ngx.say(sock:getoption("keepalive"))
    }
}
--- request
GET /t
--- response_body_like
^false.*socket is never created nor connected
true true 1
nilunsupported option unknown
nilclosed$

=== TEST 12: a thread that is killed takes its wait, and the socket, with it
--- config
location /t {
    content_by_lua_block {
        local sock = ngx.socket.tcp()
        assert(sock:connect("127.0.0.1", ngx.var.server_port))
        local thread = ngx.thread.spawn(function() sock:receive() end)
        ngx.say(ngx.thread.kill(thread))
        ngx.say(sock:send("x"))
    }
}
--- request
GET /t
--- response_body
1
nilclosed

=== TEST 13: the address that a connection comes from
--- config
location /t {
    content_by_lua_block {
        local sock = ngx.socket.tcp()
        ngx.say(sock:bind("127.0.0.9"), " ", sock:bind("x"))
        assert(sock:connect("127.0.0.1", ngx.var.server_port))
        sock:send("GET /ip HTTP/1.0\r\n\r\n")
        sock:receiveuntil("\r\n\r\n")()
        ngx.say(sock:receive("*a"))
    }
}
location /ip { return 200 $remote_addr; }
--- request
GET /t
--- response_body
true nilbad address
127.0.0.9

=== TEST 14: what a table is sent as
--- config
location /echo { content_by_lua_block { ngx.req.read_body() ngx.print(ngx.req.get_body_data()) } }
location /t {
    content_by_lua_block {
        local function deep(levels) return levels == 0 and "deep" or { deep(levels - 1) } end
        local long = {}
        for n = 1, 9 do long[#long + 1] = n end
        local sparse = { "a", nil, "b" }
        local function try(value)
            local sock = ngx.socket.tcp()
            assert(sock:connect("127.0.0.1", $TEST_NGINX_SERVER_PORT))
            local ok, sent, err = pcall(sock.send, sock, { "POST /echo HTTP/1.0\r\nContent-Length: 1000\r\n\r\n", value })
            if not ok then return ngx.say(sent) end
            assert(sock:send({ (" "):rep(1000) }))
            local reader = sock:receiveuntil("\r\n\r\n")
            assert(reader())
            ngx.say(sock:receive("*a"):match("^(.-) *$"))
            sock:close()
        end
        try { "a", 1, -2.5, 1e15, 0.1, { "b", { long, "c" } } }
        try {}
        try(long)
        try(deep(30))
        try(sparse)
        try { x = "a" }
        try { "a", x = "b" }
        try { "a", { [0] = "b" } }
        try { true }
        try { "a", ngx.null }
        try { setmetatable({ "m" }, { __index = { "n", "o" } }) }
    }
}
--- request
GET /t
--- no_error_log
[error]
--- response_body
a1-2.51e+150.1b123456789c

123456789
deep
bad argument #2 to '?' (bad data type nil found)
bad argument #2 to '?' (non-array table found)
bad argument #2 to '?' (non-array table found)
bad argument #2 to '?' (non-array table found)
bad argument #2 to '?' (bad data type boolean found)
bad argument #2 to '?' (bad data type userdata found)
m
