# Health checks of upstreams' servers: https://nginx.org/en/docs/http/ngx_http_upstream_hc_module.html
use Test::Nginx::Socket 'no_plan';
no_root_location();

# Two servers whose answers Lua code decides about, and a wait for a peer's state.
our $Servers = <<'_EOC_';
lua_shared_dict answers 1m;
init_by_lua_block {
    local upstream = require "ngx.upstream"
    local answers = ngx.shared.answers
    -- Waits until peer n of u is in this state.
    function wait_for(n, state, backup)
        for _ = 1, 500 do
            local peers = (backup and upstream.get_backup_peers or upstream.get_primary_peers)("u")
            if peers[n] and peers[n].state == state then
                return state
            end
            ngx.sleep(0.02)
        end
        return "not " .. state
    end
    function say(name, text)
        answers:set(name, text)
    end
    function seen(name)
        return answers:get("seen " .. name) or 0
    end
    -- Waits for more checks of a server.
    function wait_for_checks(name, more)
        local first = seen(name)
        for _ = 1, 500 do
            if seen(name) >= first + more then
                return true
            end
            ngx.sleep(0.02)
        end
        return false
    end
    function answer(name)
        answers:incr("seen " .. name, 1, 0)
        answers:set("request " .. name, ngx.req.raw_header())
        local text = answers:get(name) or "200 fine"
        if text == "close" then
            return ngx.exit(444)
        end
        ngx.status = tonumber(text:sub(1, 3))
        ngx.header["X-Mode"] = answers:get("mode")
        ngx.print(text:sub(5))
    end
}
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; location / { return 200 "one\n"; } location /check { content_by_lua_block { answer("one") } } }
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_2; location / { return 200 "two\n"; } location /check { content_by_lua_block { answer("two") } } }
upstream u {
    zone u 64k;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
}
_EOC_

our $Ask = <<'_EOC_';
location /p { proxy_pass http://u/; }
_EOC_

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value("http_config", $::Servers . ($block->http_config || ""));
    $block->set_value("config", $::Ask . ($block->config || ""));
});
run_tests();

__DATA__

=== a server that fails gets nothing until it passes again
--- config
location /c { proxy_pass http://u; proxy_set_header X-Set yes; health_check interval=30ms uri=/check?a=b; }
location /t {
    content_by_lua_block {
        local function three()
            local bodies = {}
            for i = 1, 4 do bodies[i] = ngx.location.capture("/p").body:sub(1, 3) end
            table.sort(bodies)
            ngx.say(table.concat(bodies, " "))
        end
        ngx.say(wait_for_checks("one", 1))
        three()
        say("one", "500 broken")
        ngx.say(wait_for(1, "unhealthy"))
        three()
        say("two", "close")
        ngx.say(wait_for(2, "unhealthy"), " ", ngx.location.capture("/p").status)
        say("one", "301 moved")
        say("two", "200 fine")
        ngx.say(wait_for(1, "up"), " ", wait_for(2, "up"))
        three()
        ngx.print(ngx.shared.answers:get("request one"))
    }
}
--- request
GET /t
--- response_body eval
"true
one one two two
unhealthy
two two two two
unhealthy 502
up up
one one two two
GET /check?a=b HTTP/1.1\r
Host: u\r
X-Set: yes\r
\r
"
--- error_log eval
[qr/ \[warn\] \S+ peer is unhealthy while checking status code, health check "" of peer 127.0.0.1:\d+ in upstream "u"\n/,
qr/ \[error\] \S+ upstream prematurely closed connection while reading response header from upstream, health check "" of peer 127/,
qr/ \[warn\] \S+ peer is unhealthy while reading response header from upstream, health check "" of peer 127.0.0.1:\d+ in upstream "u"\n/,
qr/ \[notice\] \S+ peer is healthy while checking status code, health check "" of peer 127.0.0.1:\d+ in upstream "u"\n/,
qr/no live upstreams while connecting to upstream/]

=== so many failures and passes in a row
--- config
location /c { proxy_pass http://u; health_check interval=30ms fails=3 passes=3 uri=/check; }
location /t {
    content_by_lua_block {
        local upstream = require "ngx.upstream"
        wait_for_checks("one", 1)
        local before = seen("one")
        say("one", "404 gone")
        wait_for(1, "unhealthy")
        ngx.say(seen("one") - before >= 3)
        before = seen("one")
        say("one", "204 fine")
        wait_for(1, "up")
        ngx.say(seen("one") - before >= 3)
        local peer = upstream.get_primary_peers("u")[1]
        local checks = peer.health_checks
        ngx.say(checks.checks > 6, " ", checks.fails >= 3, " ", checks.unhealthy, " ", checks.last_passed, " ",
            tostring(peer.down))
    }
}
--- request
GET /t
--- response_body
true
true
true true 1 true nil

=== mandatory: nobody is asked before the first check
--- config
location /c { proxy_pass http://u; health_check interval=30ms jitter=10ms mandatory uri=/check; }
location /t {
    content_by_lua_block {
        local peer = require("ngx.upstream").get_primary_peers("u")[1]
        ngx.say(wait_for(1, "up"), " ", wait_for(2, "unhealthy"))
        for _ = 1, 3 do ngx.print(ngx.location.capture("/p").body) end
        say("two", "200 fine")
        ngx.say(wait_for(2, "up"))
    }
}
--- http_config
init_worker_by_lua_block {
    say("two", "503 not yet")
    local peers = require("ngx.upstream").get_primary_peers("u")
    ngx.log(ngx.WARN, "at first ", peers[1].state, " ", tostring(peers[1].down))
}
--- request
GET /t
--- response_body
up unhealthy
one
one
one
up
--- error_log
at first checking true
peer is healthy while checking status code, health check "" of peer

=== what an answer must be like
--- http_config
map $upstream_http_x_mode $is_ready { default 1; "away" 0; }
match ok {
    status 200-204 ! ;
}
--- config
location /t { return 200; }
--- must_die
--- error_log
invalid status "!"

=== tests of status, header, body and variables
--- http_config
init_worker_by_lua_block { say("mode", "here") }
map $upstream_http_x_mode $is_ready { default 1; away 0; }
match ok {
    status 200 204;
    header Content-Type ~ ^text/;
    header ! X-Bad;
    header X-Mode != none;
    body ~ "f(in)e";
    body !~ maintenance;
    require $is_ready $upstream_status;
}
--- config
default_type text/plain;
location /c { proxy_pass http://u; health_check interval=20ms match=ok uri=/check; }
location /t {
    content_by_lua_block {
        ngx.say(wait_for(1, "up"))
        for _, bad in ipairs{ "201 fine", "200 bad", "200 fine maintenance" } do
            say("one", bad)
            ngx.print(wait_for(1, "unhealthy"), " ")
            say("one", "200 fine")
            ngx.say(wait_for(1, "up"))
        end
        for _, bad in ipairs{ "none", "away" } do
            say("mode", bad)
            ngx.print(wait_for(1, "unhealthy"), " ")
            say("mode", "here")
            ngx.say(wait_for(1, "up"))
        end
    }
}
--- request
GET /t
--- response_body
up
unhealthy up
unhealthy up
unhealthy up
unhealthy up
unhealthy up
--- error_log
peer is unhealthy while checking status code, health check "ok" of peer
peer is unhealthy while checking header, health check "ok" of peer
peer is unhealthy while checking body, health check "ok" of peer
peer is unhealthy while checking required variables, health check "ok" of peer
peer is healthy while checking required variables, health check "ok" of peer

=== another port, and the connection is kept
--- http_config
upstream v { zone v 64k; server 127.0.0.1:1; }
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_3; location / { return 200 "$connection_requests"; } }
match used { body ~ "^([4-9]|[0-9][0-9]+)$"; }
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_4;
    location /c { proxy_pass http://v; proxy_http_version 1.1; proxy_set_header Connection "";
        health_check interval=20ms mandatory passes=1 port=$TEST_NGINX_RAND_PORT_3 match=used keepalive_time=1m; }
}
--- config
location /t {
    content_by_lua_block {
        local upstream = require "ngx.upstream"
        for _ = 1, 100 do
            if upstream.get_primary_peers("v")[1].state == "up" then break end
            ngx.sleep(0.02)
        end
        ngx.say(upstream.get_primary_peers("v")[1].state, " ", upstream.has_health_checks("v"), " ", upstream.has_health_checks("u"))
    }
}
--- request
GET /t
--- response_body
up true false
--- error_log eval
qr/peer is healthy while checking body, health check "used" of peer 127.0.0.1:1 in upstream "v", port \d+\n/

=== FastCGI servers, and one that is not there
--- http_config
upstream v { zone v 64k; server 127.0.0.1:1; server 127.0.0.1:1 backup; }
--- config
location /c { fastcgi_pass v; fastcgi_connect_timeout 1s; health_check interval=20ms; }
location /t {
    content_by_lua_block {
        local upstream = require "ngx.upstream"
        for _ = 1, 500 do
            if upstream.get_backup_peers("v")[1].state == "unhealthy" then break end
            ngx.sleep(0.02)
        end
        local page = require("resty.upstream.healthcheck").status_page()
        ngx.print(page:match("Upstream v.*"))
    }
}
--- request
GET /t
--- response_body
Upstream v
    Primary Peers
        127.0.0.1:1 DOWN
    Backup Peers
        127.0.0.1:1 DOWN
--- error_log
connect() failed (111: Connection refused) while connecting to upstream, health check "" of peer 127.0.0.1:1 in upstream "v"
peer is unhealthy while connecting to upstream, health check "" of peer 127.0.0.1:1 in upstream "v"

=== a server that is silent, and bodies without an end
--- http_config
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_3; location / { content_by_lua_block { ngx.sleep(2) } } }
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_4;
    location / { content_by_lua_block { local ok = true while ok do ok = ngx.print(("x"):rep(60000)) and ngx.flush(true) end } }
}
match xs { body ~ "^x{10}"; body !~ y; }
upstream v { zone v 64k; server 127.0.0.1:$TEST_NGINX_RAND_PORT_3; server 127.0.0.1:$TEST_NGINX_RAND_PORT_4; }
--- config
location /c { proxy_pass http://v; proxy_read_timeout 100ms; health_check interval=20ms mandatory match=xs; }
location /t {
    content_by_lua_block {
        local upstream = require "ngx.upstream"
        for _ = 1, 500 do
            local peers = upstream.get_primary_peers("v")
            if peers[1].state == "unhealthy" and peers[2].state == "up" then break end
            ngx.sleep(0.02)
        end
        local peers = upstream.get_primary_peers("v")
        ngx.say(peers[1].state, " ", peers[2].state)
    }
}
--- request
GET /t
--- response_body
unhealthy up
--- error_log
upstream timed out (110: Connection timed out) while reading response header from upstream, health check "xs" of peer
peer is healthy while checking body, health check "xs" of peer

=== gRPC servers
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
    http2 on;
    location = /grpc.health.v1.Health/Check {
        content_by_lua_block {
            ngx.req.read_body()
            local body = ngx.req.get_body_data()
            ngx.header["Content-Type"] = "application/grpc"
            ngx.header["grpc-status"] = body == "\0\0\0\0\4\10\2my" and "0" or "5"
            local serving = ngx.shared.answers:get("grpc") or "\1"
            ngx.print("\0\0\0\0\2\8" .. serving)
        }
    }
}
upstream v { zone v 64k; server 127.0.0.1:$TEST_NGINX_RAND_PORT_3; }
upstream w { zone w 64k; server 127.0.0.1:$TEST_NGINX_RAND_PORT_3; }
upstream x { zone x 64k; server 127.0.0.1:$TEST_NGINX_RAND_PORT_3; }
--- config
location /v { grpc_pass v; health_check interval=20ms mandatory keepalive_time=10s type=grpc grpc_service=my; }
location /w { grpc_pass w; health_check interval=20ms mandatory type=grpc grpc_service=other; }
location /x { grpc_pass x; health_check interval=20ms mandatory type=grpc grpc_status=5; }
location /t {
    content_by_lua_block {
        local upstream = require "ngx.upstream"
        local function wait(name, state)
            for _ = 1, 500 do
                if upstream.get_primary_peers(name)[1].state == state then return state end
                ngx.sleep(0.02)
            end
            return upstream.get_primary_peers(name)[1].state
        end
        ngx.say(wait("v", "up"), " ", wait("w", "unhealthy"), " ", wait("x", "up"))
        say("grpc", "\2")
        ngx.say(wait("v", "unhealthy"))
    }
}
--- request
GET /t
--- response_body
up unhealthy up
unhealthy
--- error_log
peer is unhealthy while checking gRPC status, health check "" of peer

=== several checks: one that fails is enough
--- config
location /c { proxy_pass http://u; health_check interval=20ms uri=/check; }
location /d { proxy_pass http://u; health_check interval=20ms uri=/; }
location /t {
    content_by_lua_block {
        say("one", "500 broken")
        ngx.say(wait_for(1, "unhealthy"))
        wait_for_checks("one", 5)
        ngx.say(require("ngx.upstream").get_primary_peers("u")[1].state)
    }
}
--- request
GET /t
--- response_body
unhealthy
unhealthy

=== errors: no zone
--- http_config
upstream v { server 127.0.0.1:1; }
--- config
location / { proxy_pass http://v; health_check; }
--- must_die
--- error_log
health check requires upstream "v" to be in shared memory in

=== errors: no upstream
--- config
location / { return 200; health_check; }
--- must_die
--- error_log
health check requires an upstream that is named without variables in

=== errors: an unknown match
--- config
location / { proxy_pass http://u; health_check match=none; }
--- must_die
--- error_log
unknown match "none" in

=== errors: parameters
--- config
location / { proxy_pass http://u; health_check interval=x; }
--- must_die
--- error_log
invalid parameter "interval=x" in

=== errors: persistent alone
--- config
location / { proxy_pass http://u; health_check persistent; }
--- must_die
--- error_log
invalid parameter "persistent" in

=== errors: gRPC without its type
--- config
location / { grpc_pass u; health_check grpc_status=12 type=grpc; }
--- must_die
--- error_log
parameter "grpc_status=12" requires "type=grpc" before it in

=== errors: what stands behind the type
--- config
location / { grpc_pass u; health_check type=grpc interval=1s; }
--- must_die
--- error_log
parameter "interval=1s" must be specified before "type=grpc" in

=== errors: gRPC and a URI
--- config
location / { grpc_pass u; health_check uri=/a type=grpc; }
--- must_die
--- error_log
parameter "uri" is incompatible with "type=grpc" in

=== errors: gRPC over HTTP
--- config
location / { proxy_pass http://u; health_check type=grpc; }
--- must_die
--- error_log
health check of type "grpc" requires "grpc_pass" in

=== errors: a test of nothing
--- http_config
match a { state 200; }
--- config
location /t { return 200; }
--- must_die
--- error_log
unknown directive "state" in

=== errors: a match twice
--- http_config
match a { status 200; }
match a { status 200; }
--- config
location /t { return 200; }
--- must_die
--- error_log
duplicate match "a" in

=== slow_start is not for every method
--- http_config
upstream v { random; server 127.0.0.1:1 slow_start=30s; }
--- config
location / { proxy_pass http://v; }
--- must_die
--- error_log
balancing method does not support parameter "slow_start=30s" in
