# balancer_by_lua*: Lua code names the server of each attempt.
use Test::Nginx::Socket 'no_plan';

our $Servers = <<'_EOC_';
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    keepalive_requests 1000;
    location / { return 200 "one $connection_requests $http_x_tag"; }
    location /busy { return 503; }
    location /from { return 200 $remote_addr; }
    location /body {
        content_by_lua_block { ngx.req.read_body() ngx.print(ngx.req.get_body_data()) }
    }
    location /slow { content_by_lua_block { ngx.sleep(2) ngx.print("late") } }
}
_EOC_
run_tests();

__DATA__

=== TEST 1: a server is named, after some waiting
--- http_config eval
$::Servers . q{
upstream dynamic {
    balancer_by_lua_block {
        ngx.sleep(0.01)
        assert(require("ngx.balancer").set_current_peer("127.0.0.1", $TEST_NGINX_RAND_PORT_1))
        ngx.log(ngx.INFO, "phase: ", ngx.get_phase())
    }
}
}
--- config
location /t { proxy_pass http://dynamic/; }
--- log_level: info
--- request
GET /t
--- response_body chomp
one 1 
--- error_log
phase: balancer while connecting to upstream

=== TEST 2: nobody is named
--- http_config
upstream dynamic { balancer_by_lua_block { } }
--- config
location /t { proxy_pass http://dynamic/; }
--- request
GET /t
--- error_code: 500
--- error_log
lua balancer: no peer set

=== TEST 3: attempts are added, and their failures known
--- http_config eval
$::Servers . q{
upstream dynamic {
    server 0.0.0.1;
    balancer_by_lua_block {
        local balancer = require "ngx.balancer"
        local ctx = ngx.ctx
        ctx.tries = (ctx.tries or 0) + 1
        if ctx.tries == 1 then
            assert(balancer.set_more_tries(2))
            return assert(balancer.set_current_peer("127.0.0.1", 1))
        end
        local state, status = balancer.get_last_failure()
        ngx.log(ngx.WARN, "try ", ctx.tries, " after ", state, " ", status)
        if ctx.tries == 2 then
            return assert(balancer.set_current_peer("127.0.0.1:$TEST_NGINX_RAND_PORT_1"))
        end
        ngx.exit(429)
    }
}
}
--- config
location /t {
    proxy_next_upstream error http_503;
    proxy_pass http://dynamic/busy;
}
--- request
GET /t
--- error_code: 429
--- error_log
try 2 after failed 502
try 3 after failed 503

=== TEST 4: the limit on attempts holds
--- http_config
upstream dynamic {
    balancer_by_lua_block {
        local balancer = require "ngx.balancer"
        local ok, err = balancer.set_more_tries(9)
        ngx.log(ngx.WARN, tostring(ok), " ", err)
        balancer.set_current_peer("127.0.0.1", 1)
    }
}
--- config
location /t {
    proxy_next_upstream_tries 2;
    proxy_pass http://dynamic/;
}
--- request
GET /t
--- error_code: 502
--- error_log
true reduced tries due to limit

=== TEST 5: connections are kept for their host
--- http_config eval
$::Servers . q{
upstream dynamic {
    balancer_by_lua_block {
        local balancer = require "ngx.balancer"
        assert(balancer.set_current_peer("127.0.0.1", $TEST_NGINX_RAND_PORT_1, ngx.var.arg_host))
        assert(balancer.enable_keepalive(60, 2))
    }
    balancer_keepalive 4;
}
}
--- config
location /p {
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_pass http://dynamic/;
}
location /t {
    content_by_lua_block {
        for _, host in ipairs { "a", "b", "a", "a" } do
            ngx.say(host, ": ", ngx.location.capture("/p?host=" .. host).body)
        end
    }
}
--- request
GET /t
--- response_body
a: one 1 
b: one 1 
a: one 2 
a: one 1 

=== TEST 6: times, local address and the request are this request's own
--- http_config eval
$::Servers . q{
upstream dynamic {
    balancer_by_lua_block {
        local balancer = require "ngx.balancer"
        assert(balancer.set_current_peer("127.0.0.1", $TEST_NGINX_RAND_PORT_1))
        if ngx.var.arg_what == "slow" then
            assert(balancer.set_timeouts(1, 1, 0.05))
        elseif ngx.var.arg_what == "from" then
            assert(balancer.bind_to_local_addr("127.0.0.9"))
        else
            ngx.req.set_body_data("another body")
            assert(balancer.recreate_request())
        end
    }
}
}
--- config
location /p/ { proxy_pass http://dynamic/; }
location /t {
    content_by_lua_block {
        ngx.say(ngx.location.capture("/p/slow?what=slow").status)
        ngx.say(ngx.location.capture("/p/from?what=from").body)
        local body = { method = ngx.HTTP_POST, body = "a body" }
        ngx.say(ngx.location.capture("/p/body?what=body", body).body)
    }
}
--- request
GET /t
--- response_body
504
127.0.0.9
another body

=== TEST 7: what cannot be
--- http_config
upstream dynamic {
    balancer_by_lua_block {
        local balancer = require "ngx.balancer"
        ngx.log(ngx.WARN, "keepalive: ", select(2, balancer.enable_keepalive()))
        ngx.log(ngx.WARN, "name: ", select(2, balancer.set_current_peer("some.name", 80)))
        ngx.log(ngx.WARN, "port: ", select(2, balancer.set_current_peer("127.0.0.1:x")))
        ngx.log(ngx.WARN, "local: ", select(2, balancer.bind_to_local_addr("x")))
        ngx.exit(403)
    }
}
--- config
location /p { proxy_pass http://dynamic/; }
location /t {
    content_by_lua_block {
        local balancer = require "ngx.balancer"
        ngx.say(select(2, balancer.set_current_peer("127.0.0.1", 1)))
        ngx.say(ngx.location.capture("/p").status)
    }
}
--- request
GET /t
--- response_body
no upstream found
403
--- error_log
keepalive: no current peer set
name: no host allowed
port: invalid port
local: invalid addr x

=== TEST 8: an error answers 500
--- http_config
upstream dynamic { balancer_by_lua_block { error("no idea") } }
--- config
location /t { proxy_pass http://dynamic/; }
--- request
GET /t
--- error_code: 500
--- error_log
failed to run balancer_by_lua*: balancer_by_lua(
no idea
