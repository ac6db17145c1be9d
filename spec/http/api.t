# The state of the server as JSON, and changes to upstreams: https://nginx.org/en/docs/http/ngx_http_api_module.html
use Test::Nginx::Socket 'no_plan';
no_root_location();

our $Upstreams = <<'_EOC_';
upstream u {
    zone u 64k;
    server 127.0.0.1:$TEST_NGINX_SERVER_PORT weight=2 max_conns=9;
    server 127.0.0.1:1 backup;
    server 127.0.0.1:2 down;
    server 127.0.0.1:3 drain slow_start=30s;
}
upstream alone { server 127.0.0.1:1; }
init_by_lua_block {
    cjson = require "cjson"
    function api(path, method, body)
        local options = { method = ngx["HTTP_" .. (method or "GET")] }
        if body then options.body = type(body) == "table" and cjson.encode(body) or body end
        local path, args = path:match("^([^?]*)%??(.*)$")
        options.args = args
        local res = ngx.location.capture("/api" .. path, options)
        return res.body ~= "" and cjson.decode(res.body) or nil, res.status
    end
    function refused(...)
        local value, status = api(...)
        ngx.say(status, " ", value.error.status, " ", value.error.code, ": ", value.error.text)
    end
}
_EOC_
our $Api = <<'_EOC_';
location /api { api write=on; }
location /read { api; }
location /p { proxy_pass http://u/b; }
location /b { return 200 "fine"; }
_EOC_
add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value("http_config", $::Upstreams . ($block->http_config || ""));
    $block->set_value("config", $::Api . ($block->config || ""));
});
run_tests();

__DATA__

=== what there is
--- request eval
["GET /api", "GET /api/", "GET /api/9", "GET /api/1/http/"]
--- response_body eval
["[1,2,3,4,5,6,7,8,9]", "[1,2,3,4,5,6,7,8,9]", '["nginx","connections","http"]', '["requests","server_zones","location_zones","upstreams"]']

=== it is JSON, and not to be kept
--- request
GET /read/
--- response_headers
Content-Type: application/json
Cache-Control: no-cache

=== the server, its connections and requests
--- config
location /t {
    content_by_lua_block {
        local nginx = api("/9/nginx")
        ngx.say(nginx.version == ngx.var.nginx_version, " ", nginx.build:match("^moonrest"), " ", nginx.address, " ",
            nginx.generation, " ", nginx.pid == ngx.worker.pid(), " ", nginx.ppid > 0)
        ngx.say(nginx.timestamp:match("^20%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$") == nginx.timestamp, " ",
            nginx.load_timestamp <= nginx.timestamp)
        ngx.say(cjson.encode((api("/9/nginx?fields=generation,none"))))
        local connections = api("/9/connections")
        ngx.say(connections.accepted > 0, " ", connections.dropped, " ", connections.active, " ", connections.idle)
        local requests = api("/9/http/requests")
        ngx.say(requests.total > 0, " ", requests.current)
    }
}
--- request
GET /t
--- response_body
true moonrest 127.0.0.1 1 true true
true true
{"generation":1}
true 0 1 0
true 1

=== peers of an upstream
--- config
location /t {
    content_by_lua_block {
        ngx.location.capture("/p")
        ngx.location.capture("/p")
        local all = api("/9/http/upstreams")
        ngx.say(all.u.zone, " ", #all.u.peers, " ", tostring(all.alone))
        for _, peer in ipairs(all.u.peers) do
            ngx.say(peer.id, " ", peer.server == peer.name, " ", peer.weight, " ", tostring(peer.backup), " ", peer.state, " ",
                peer.requests, " ", peer.responses["2xx"], " ", peer.responses.total, " ", peer.health_checks.checks)
        end
        local first = api("/9/http/upstreams/u").peers[1]
        ngx.say(first.max_conns, " ", first.responses.codes["200"], " ", first.sent > 50, " ", first.received > 200, " ",
            first.fails, " ", first.unavail, " ", first.downtime, " ", first.active, " ", first.selected:sub(-1), " ",
            first.response_time >= 0)
        ngx.say(cjson.encode((api("/9/http/upstreams/?fields=zone"))))
        ngx.say(#api("/9/http/upstreams/u/peers"))
    }
}
--- request
GET /t
--- response_body
u 4 nil
0 true 2 false up 2 2 2 0
2 true 1 false down 0 0 0 0
3 true 1 false draining 0 0 0 0
1 true 1 true up 0 0 0 0
9 2 true true 0 0 0 0 Z true
{"u":{"zone":"u"}}
4

=== requests are counted by server and location
--- config
status_zone front;
location /one { status_zone first; return 200 "one"; location /one/off { status_zone off; return 404; } }
location /two { status_zone second; if ($arg_x) { status_zone third; return 201; } return 204; }
location /gone { status_zone second; return 444; }
location /t {
    content_by_lua_block {
        local function ask(path)
            local sock = ngx.socket.tcp()
            assert(sock:connect("127.0.0.1", ngx.var.server_port))
            sock:send("GET " .. path .. " HTTP/1.0\r\nHost: localhost\r\n\r\n")
            sock:receive("*a")
            sock:close()
        end
        for _, path in ipairs{ "/one", "/one", "/one/off", "/two", "/two?x=1", "/gone" } do ask(path) end
        local zone
        for _ = 1, 200 do
            zone = api("/9/http/server_zones/front")
            if zone.requests == 6 then break end
            ngx.sleep(0.02)
        end
        ngx.say(zone.processing, " ", zone.requests, " ", zone.responses["2xx"], " ", zone.responses["4xx"], " ",
            zone.responses.codes["201"], " ", zone.responses.total, " ", zone.discarded, " ", zone.received > 200, " ",
            zone.sent > 300)
        local zones = api("/9/http/location_zones")
        ngx.say(zones.first.requests, " ", zones.second.requests, " ", zones.second.discarded, " ", zones.third.requests, " ",
            tostring(zones.first.processing))
        refused("/9/http/server_zones/none")
        refused("/9/http/location_zones/none")
        ngx.say(select(2, api("/9/http/location_zones/first", "DELETE")))
        local first = api("/9/http/location_zones/first?fields=requests,sent")
        ngx.say(first.requests, " ", first.sent, " ", tostring(first.received))
    }
}
--- request
GET /t
--- response_body
1 6 4 1 1 5 1 true true
2 2 1 1 nil
404 404 ServerZoneNotFound: server zone not found
404 404 LocationZoneNotFound: location zone not found
204
0 0 nil

=== failures are counted
--- http_config
upstream v { zone v 64k; server 127.0.0.1:1 max_fails=1; server 127.0.0.1:$TEST_NGINX_SERVER_PORT; }
--- config
location /v { proxy_pass http://v/b; }
location /t {
    content_by_lua_block {
        for _ = 1, 3 do ngx.location.capture("/v") end
        local peer = api("/9/http/upstreams/v").peers[1]
        ngx.say(peer.state, " ", peer.requests, " ", peer.fails, " ", peer.unavail, " ", peer.downstart ~= nil, " ",
            peer.responses.total)
        ngx.say(select(2, api("/9/http/upstreams/v", "DELETE")))
        peer = api("/9/http/upstreams/v").peers[1]
        ngx.say(peer.state, " ", peer.requests, " ", peer.fails)
    }
}
--- request
GET /t
--- response_body
unavail 1 1 1 true 0
204
unavail 0 0
--- error_log
upstream server temporarily disabled

=== servers and changes to them
--- config
location /t {
    content_by_lua_block {
        local servers = api("/9/http/upstreams/u/servers/")
        ngx.say(#servers, " ", servers[1].weight, " ", servers[1].max_conns, " ", servers[1].fail_timeout, " ", tostring(servers[2].down),
            " ", tostring(servers[3].drain), " ", servers[3].slow_start)
        ngx.say(ngx.location.capture("/p").status)
        local changed, status = api("/9/http/upstreams/u/servers/0", "PATCH",
            { down = true, weight = 7, max_conns = 3, max_fails = 4, fail_timeout = "5s", slow_start = "1m" })
        ngx.say(status, " ", tostring(changed.down), " ", changed.weight, " ", changed.max_conns, " ", changed.max_fails, " ",
            changed.fail_timeout, " ", changed.slow_start)
        ngx.say(ngx.location.capture("/p").status, " ", require("ngx.upstream").get_primary_peers("u")[1].weight)
        api("/9/http/upstreams/u/servers/0", "PATCH", { drain = true })
        ngx.say(api("/9/http/upstreams/u").peers[1].state, " ", ngx.location.capture("/p").status)
        api("/9/http/upstreams/u/servers/0", "PATCH", { drain = false })
        ngx.say(api("/9/http/upstreams/u").peers[1].state, " ", ngx.location.capture("/p").status)
        ngx.say(api("/9/http/upstreams/u").peers[1].requests)
    }
}
--- request
GET /t
--- response_body
4 2 9 10s true true 30s
200
200 true 7 3 4 5s 60s
502 7
draining 502
up 200
2
--- error_log
no live upstreams

=== servers are added and removed
--- config
location /t {
    content_by_lua_block {
        local added, status = api("/9/http/upstreams/u/servers", "POST",
            { server = "127.0.0.1:" .. ngx.var.server_port, weight = 3, route = "x", backup = true })
        ngx.say(status, " ", added.id, " ", added.weight, " ", added.route, " ", tostring(added.backup))
        refused("/9/http/upstreams/u/servers", "POST", { server = "127.0.0.1:" .. ngx.var.server_port, backup = true })
        local rest, status = api("/9/http/upstreams/u/servers/0", "DELETE")
        ngx.say(status, " ", #rest, " ", ngx.location.capture("/p").status)
        api("/9/http/upstreams/u/servers/3", "DELETE")
        api("/9/http/upstreams/u/servers/4", "DELETE")
        ngx.say(ngx.location.capture("/p").status)
        added = api("/9/http/upstreams/u/servers", "POST", { server = "127.0.0.1:" .. ngx.var.server_port })
        ngx.say(added.id, " ", ngx.location.capture("/p").status)
    }
}
--- request
GET /t
--- response_body
201 4 3 x true
409 409 EntryExists: entry exists
200 4 200
502
5 200

=== what is refused
--- config
location /t {
    content_by_lua_block {
        refused("/x/nginx")
        refused("/10/nginx")
        refused("/9/nothing")
        refused("/9/http/upstreams/none")
        refused("/9/http/upstreams/alone")
        refused("/9/http/upstreams/u/servers/x")
        refused("/9/http/upstreams/u/servers/99")
        refused("/9/nginx", "DELETE")
        local servers = "/9/http/upstreams/u/servers"
        refused(servers, "POST", "{")
        refused(servers, "POST", "[]")
        refused(servers, "POST", { weight = 1 })
        refused(servers, "POST", { server = "a.example" })
        refused(servers, "POST", { server = "127.0.0.1:x" })
        refused(servers, "POST", { server = {} })
        refused(servers, "POST", { server = "127.0.0.1", color = "red" })
        refused(servers .. "/0", "PATCH", { weight = 0 })
        refused(servers .. "/0", "PATCH", { weight = -1 })
        refused(servers .. "/0", "PATCH", { max_conns = "1" })
        refused(servers .. "/0", "PATCH", { max_fails = 1.5 })
        refused(servers .. "/0", "PATCH", { fail_timeout = "x" })
        refused(servers .. "/0", "PATCH", { slow_start = true })
        refused(servers .. "/0", "PATCH", { down = "yes" })
        refused(servers .. "/0", "PATCH", { server = "127.0.0.1:9" })
        refused(servers .. "/0", "PATCH", { route = ("x"):rep(33) })
        ngx.say(api("/9/http/upstreams/u").peers[1].weight)
    }
}
--- request
GET /t
--- response_body
404 404 UnknownVersion: unknown version
404 404 UnknownVersion: unknown version
404 404 PathNotFound: path not found
404 404 UpstreamNotFound: upstream not found
400 400 UpstreamStatic: upstream is static
400 400 UpstreamBadServerId: invalid server ID
404 404 UpstreamServerNotFound: server with ID "99" does not exist
405 405 MethodDisabled: method disabled
415 415 JsonError: JSON error
415 415 JsonError: JSON error
400 400 UpstreamConfFormatError: missing "server" argument
400 400 UpstreamConfNoResolver: no resolver defined to resolve "a.example"
400 400 UpstreamBadAddress: invalid port while parsing "127.0.0.1:x"
400 400 UpstreamConfFormatError: nested object or list
400 400 UpstreamConfFormatError: unknown parameter "color"
400 400 UpstreamBadWeight: invalid "weight"
400 400 UpstreamBadWeight: invalid "weight"
400 400 UpstreamBadMaxConns: invalid "max_conns"
400 400 UpstreamBadMaxFails: invalid "max_fails"
400 400 UpstreamBadFailTimeout: invalid "fail_timeout"
400 400 UpstreamBadSlowStart: invalid "slow_start"
400 400 UpstreamConfFormatError: invalid "down" value
400 400 UpstreamServerImmutable: server "0" address is immutable
400 400 UpstreamBadRoute: route is too long
2

=== without leave to write
--- request
PATCH /read/9/http/upstreams/u/servers/0
{"down":true}
--- error_code: 405
--- response_body_like: ^\{"error":\{"status":405,"text":"method disabled","code":"MethodDisabled"\},"request_id":"[0-9a-f]{32}","href":"https://nginx\.org/en/docs/http/ngx_http_api_module\.html"\}$

=== errors: a parameter
--- config
location /t { api write=maybe; }
--- must_die
--- error_log
invalid parameter "write=maybe" in
