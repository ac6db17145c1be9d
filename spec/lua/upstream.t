# ngx.upstream: the upstreams of the configuration as Lua sees them.
use Test::Nginx::Socket 'no_plan';
run_tests();

__DATA__

=== TEST 1: names, servers and peers
--- http_config
upstream one {
    server 127.0.0.1:81 weight=2 max_fails=3 fail_timeout=7;
    server 127.0.0.1:82 backup;
    server 127.0.0.1:83 down;
}
upstream two { server 127.0.0.1:84; }
--- config
location /t {
    content_by_lua_block {
        local upstream = require "ngx.upstream"
        ngx.say(table.concat(upstream.get_upstreams(), " "))
        for _, server in ipairs(upstream.get_servers("one")) do
            ngx.say(server.name, " ", server.addr, " ", server.weight, " ", server.max_fails, " ", server.fail_timeout, " ",
                tostring(server.backup), " ", tostring(server.down))
        end
        for _, peer in ipairs(upstream.get_primary_peers("one")) do
            ngx.say(peer.id, " ", peer.name, " ", peer.effective_weight, " ", peer.conns, " ", peer.fails, " ",
                tostring(peer.down), " ", tostring(peer.accessed))
        end
        ngx.say(#upstream.get_backup_peers("one"), #upstream.get_backup_peers("two"))
        ngx.say(upstream.get_servers("three"))
        ngx.say(tostring(upstream.current_upstream_name()))
    }
}
--- request
GET /t
--- response_body
one two
127.0.0.1:81 127.0.0.1:81 2 3 7 nil nil
127.0.0.1:82 127.0.0.1:82 1 1 10 true nil
127.0.0.1:83 127.0.0.1:83 1 1 10 nil true
0 127.0.0.1:81 2 0 0 nil nil
1 127.0.0.1:83 1 0 0 true nil
10
nilupstream not found
nil

=== TEST 2: a peer is taken out and brought back
--- http_config
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; location / { return 200 "here"; } }
upstream one { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
--- config
location /p {
    proxy_pass http://one/;
    header_filter_by_lua_block { ngx.log(ngx.WARN, "asked ", require("ngx.upstream").current_upstream_name()) }
}
location /t {
    content_by_lua_block {
        local upstream = require "ngx.upstream"
        ngx.say(ngx.location.capture("/p").status)
        ngx.say(upstream.set_peer_down("one", false, 0, true))
        ngx.say(ngx.location.capture("/p").status, " ", upstream.get_primary_peers("one")[1].down)
        ngx.say(upstream.set_peer_down("one", false, 0, false))
        ngx.say(ngx.location.capture("/p").status)
        ngx.say(upstream.set_peer_down("one", false, 1, true))
        ngx.say(upstream.set_peer_down("one", true, 0, true))
        ngx.say(upstream.set_peer_down("two", false, 0, true))
    }
}
--- request
GET /t
--- response_body
200
true
502 true
true
200
nilbad peer id
nilno backup peers
nilupstream not found
--- error_log
no live upstreams
asked one

=== TEST 3: an upstream without a block
--- config
location /p { proxy_pass http://127.0.0.1:1/; }
location /t {
    content_by_lua_block {
        local upstream = require "ngx.upstream"
        local server = upstream.get_servers("127.0.0.1:1")[1]
        ngx.say(upstream.get_upstreams()[1], " ", server.addr, " ", server.weight, " ", tostring(server.name))
    }
}
--- request
GET /t
--- response_body
127.0.0.1:1 127.0.0.1:1 0 nil
