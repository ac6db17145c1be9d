# `resolver`: what the directive accepts, and names resolved at run time by way of Lua's sockets.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: addresses and switches
--- config
location /t {
    resolver 127.0.0.1 127.0.0.1:5353 [::1]:53 valid=5s ipv6=off status_zone=x;
    resolver_timeout 100ms;
    return 200 ok;
}
--- request
GET /t
--- response_body chomp
ok

=== TEST 2: a parameter that is none
--- config
resolver 127.0.0.1 valid=x;
--- must_die
--- error_log
invalid parameter: valid=x

=== TEST 3: no family left
--- config
resolver 127.0.0.1 ipv4=off ipv6=off;
--- must_die
--- error_log
"ipv4" and "ipv6" cannot both be "off"

=== TEST 4: switches alone
--- config
resolver ipv6=off;
--- must_die
--- error_log
no name servers defined

=== TEST 5: twice in one block
--- config
resolver 127.0.0.1;
resolver 127.0.0.2;
--- must_die
--- error_log
"resolver" directive is duplicate

=== TEST 6: a port that is none
--- config
resolver 127.0.0.1:0;
--- must_die
--- error_log
invalid port in resolver "127.0.0.1:0"

=== TEST 7: a server that never answers
--- config
location /t {
    resolver 127.0.0.1:$TEST_NGINX_SERVER_PORT ipv6=off;
    resolver_timeout 200ms;
    content_by_lua_block { ngx.say(ngx.socket.tcp():connect("example.net", 80)) }
}
--- request
GET /t
--- response_body
nilexample.net could not be resolved (110: Operation timed out)
--- error_log
recv() failed (111: Connection refused) while resolving, resolver: 127.0.0.1:

=== TEST 8: names that cannot be
--- config
location /t {
    resolver 127.0.0.1:$TEST_NGINX_SERVER_PORT;
    content_by_lua_block { ngx.say(ngx.socket.tcp():connect("example..net", 80)) }
}
--- request
GET /t
--- response_body
nilexample..net could not be resolved (3: Host not found)

=== TEST 9: the machine's own names
--- config
location /t {
    resolver system ipv6=off;
    content_by_lua_block {
        local sock = ngx.socket.tcp()
        ngx.say(sock:connect("localhost", ngx.var.server_port))
    }
}
--- request
GET /t
--- response_body
1
