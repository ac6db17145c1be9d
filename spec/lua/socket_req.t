# The client's connection as a socket: its request body, and past HTTP.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: the body through a socket
--- config
location /t {
    content_by_lua_block {
        local sock, err = ngx.req.socket()
        if not sock then return ngx.say(err) end
        ngx.say(sock:receive(2), "|", sock:receive(), "|", (sock:receive("*a")))
        ngx.say(sock:receive())
        ngx.say(pcall(sock.connect or function() end))
    }
}
--- request
POST /t
abcd
efg
--- response_body
ab|cd|efg
nilclosed
true
--- no_error_log
[error]

=== TEST 2: no body, no socket
--- config
location /t { content_by_lua_block { ngx.say(ngx.req.socket()) } }
location /read { content_by_lua_block { ngx.req.read_body() ngx.say(ngx.req.socket()) } }
--- request eval
["GET /t", "POST /read\nabc"]
--- response_body eval
["nilno body\n", "nilrequest body already exists\n"]

=== TEST 3: chunked bodies are for read_body
--- config
location /t { content_by_lua_block { ngx.say(ngx.req.socket()) } }
--- more_headers
Transfer-Encoding: chunked
--- request eval
"POST /t
3\r
abc\r
0\r
\r
"
--- response_body
nilchunked request bodies not supported yet

=== TEST 4: a body that is left unread does not become the next request
--- config
location /t { content_by_lua_block { local sock = ngx.req.socket() ngx.say(sock:receive(2)) } }
--- pipelined_requests eval
["POST /t\nabcdef", "POST /t\nghi"]
--- response_body eval
["ab\n", "gh\n"]

=== TEST 5: the raw connection speaks for itself
--- config
location /t {
    content_by_lua_block {
        local sock = assert(ngx.req.socket(true))
        ngx.flush(true)
        sock:send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")
        sock:send({ "hello, ", 1 })
        ngx.log(ngx.WARN, "second: ", select(2, ngx.req.socket(true)))
    }
}
--- request
GET /t
--- response_body chomp
hello, 1
--- error_log
second: duplicate call

=== TEST 6: what follows the head belongs to the raw socket
--- config
location /t {
    content_by_lua_block {
        local sock = assert(ngx.req.socket(true))
        local data = sock:receive(5)
        sock:send("HTTP/1.0 200 OK\r\n\r\n" .. data .. "\n")
    }
}
--- request
POST /t
hello
--- response_body
hello

=== TEST 7: both ends of a tunnel
--- config
location /t {
    content_by_lua_block {
        local sock = ngx.socket.tcp()
        assert(sock:connect("127.0.0.1", ngx.var.server_port))
        sock:send("GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n")
        ngx.say(sock:receive())
        sock:receive()
        for i = 1, 3 do
            sock:send("line " .. i .. "\n")
            ngx.say(sock:receive())
        end
        sock:send("end\n")
        ngx.say(sock:receive())
    }
}
location /echo {
    content_by_lua_block {
        local sock = assert(ngx.req.socket(true))
        sock:send("HTTP/1.1 101 Switching Protocols\r\n\r\n")
        while true do
            local line = sock:receive()
            if not line or line == "end" then return end
            sock:send(line:upper() .. "\n")
        end
    }
}
--- request
GET /t
--- response_body
HTTP/1.1 101 Switching Protocols
LINE 1
LINE 2
LINE 3
nilclosed
