# Datagram cosockets.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: a question and its answer
--- config
location /t {
    content_by_lua_block {
        local udp = ngx.socket.udp()
        ngx.say(udp:setpeername("127.0.0.1", 29871))
        ngx.say(udp:send({ "he", "llo" }))
        ngx.say(udp:receive())
        ngx.say(udp:close(), " ", udp:close())
        ngx.say(udp:send("x"))
    }
}
--- udp_listen: 29871
--- udp_query: hello
--- udp_reply: answer
--- request
GET /t
--- response_body
1
1
answer
1 nilclosed
nilclosed
--- error_log
attempt to send data on a closed socket: u:

=== TEST 2: nobody there, and nobody answering
--- config
location /t {
    content_by_lua_block {
        local udp = ngx.socket.udp()
        udp:settimeout(100)
        udp:setpeername("127.0.0.1", 1)
        udp:send("x")
        ngx.say(udp:receive())
        ngx.say(udp:setpeername("x y", 65536))
        ngx.say(udp:setpeername("example.net", 53))
    }
}
--- request
GET /t
--- response_body
nilconnection refused
nilbad port number: 65536
nilno resolver defined to resolve "example.net"
--- error_log
recv() failed (111: Connection refused)
