# resty.upstream.healthcheck: peers that fail are taken out, those that recover come back.
use Test::Nginx::Socket 'no_plan';
our $Peers = <<'_EOC_';
lua_shared_dict health 1m;
lua_socket_log_errors off;
init_by_lua_block {
    -- What each peer answers; nil closes without an answer.
    answers = { a = "200 OK", b = "200 OK", c = "200 OK" }
    checked = { a = 0, b = 0, c = 0 }
    function check(options)
        options.shm = options.shm or "health"
        options.upstream = options.upstream or "peers"
        options.type = options.type or "http"
        options.http_req = options.http_req or "GET /status HTTP/1.0\r\nHost: x\r\n\r\n"
        options.interval = 20
        options.timeout = 200
        return require("resty.upstream.healthcheck").spawn_checker(options)
    end
    -- Waits until the status page has this many peers that are down.
    function wait_for_down(n)
        for _ = 1, 600 do
            local page = require("resty.upstream.healthcheck").status_page()
            if select(2, page:gsub(" DOWN", "")) == n then
                return true
            end
            ngx.sleep(0.01)
        end
        return false
    end
    function page()
        local text = require("resty.upstream.healthcheck").status_page():gsub("127.0.0.1:%d+", "PORT"):gsub("unix:%S+/", "unix:")
        return text
    end
    function answer(name)
        checked[name] = checked[name] + 1
        local sock = ngx.req.socket(true)
        if answers[name] == "silence" then
            ngx.sleep(0.3)
        elseif answers[name] then
            sock:send("HTTP/1.0 " .. answers[name] .. "\r\n\r\n")
        end
    end
}
upstream peers {
    server unix:$TEST_NGINX_HTML_DIR/a.sock;
    server unix:$TEST_NGINX_HTML_DIR/b.sock;
    server unix:$TEST_NGINX_HTML_DIR/c.sock backup;
}
server { listen unix:$TEST_NGINX_HTML_DIR/a.sock; location / { content_by_lua_block { answer("a") } } }
server { listen unix:$TEST_NGINX_HTML_DIR/b.sock; location / { content_by_lua_block { answer("b") } } }
server { listen unix:$TEST_NGINX_HTML_DIR/c.sock; location / { content_by_lua_block { answer("c") } } }
_EOC_
run_tests();

__DATA__

=== TEST 1: up, down and up again
--- http_config eval: $::Peers
--- config
location /t {
    content_by_lua_block {
        ngx.print(page())
        ngx.say(check{ fall = 2, rise = 2, valid_statuses = { 200, 204 }, concurrency = 2 })
        ngx.sleep(0.1)
        ngx.say(wait_for_down(0), " ", checked.a > 1, " ", checked.c > 1)
        for _, bad in ipairs{ "500 Broken", "nonsense", "silence", false } do
            answers.b = bad
            ngx.print(bad, " ", wait_for_down(1), " ")
            answers.b = "204 No Content"
            ngx.say(wait_for_down(0))
        end
        answers.a, answers.b, answers.c = "503 No", "503 No", "503 No"
        ngx.say(wait_for_down(3))
        ngx.print(page())
        local metrics = require("resty.upstream.healthcheck").prometheus_status_page()
        ngx.print((metrics:gsub("unix:%S-/([abc].sock)", "%1")))
        local health = ngx.shared.health
        ngx.say(health:get("d:peers:p0"), " ", health:get("d:peers:b0"), " ", health:get("nok:peers:p1") >= 2, " ", health:get("v:peers") > 1)
    }
}
--- request
GET /t
--- timeout: 20
--- response_body
Upstream peers (NO checkers)
    Primary Peers
        unix:a.sock UP
        unix:b.sock UP
    Backup Peers
        unix:c.sock UP
true
true true true
500 Broken true true
nonsense true true
silence true true
false true true
true
Upstream peers
    Primary Peers
        unix:a.sock DOWN
        unix:b.sock DOWN
    Backup Peers
        unix:c.sock DOWN
# HELP nginx_upstream_status_info The running status of nginx upstream
# TYPE nginx_upstream_status_info gauge
nginx_upstream_status_info{name="peers",endpoint="a.sock",status="UP",role="PRIMARY"} 0
nginx_upstream_status_info{name="peers",endpoint="a.sock",status="DOWN",role="PRIMARY"} 1
nginx_upstream_status_info{name="peers",endpoint="b.sock",status="UP",role="PRIMARY"} 0
nginx_upstream_status_info{name="peers",endpoint="b.sock",status="DOWN",role="PRIMARY"} 1
nginx_upstream_status_info{name="peers",endpoint="c.sock",status="UP",role="BACKUP"} 0
nginx_upstream_status_info{name="peers",endpoint="c.sock",status="DOWN",role="BACKUP"} 1
nginx_upstream_status_info{name="peers",status="UP"} 0
nginx_upstream_status_info{name="peers",status="DOWN"} 1
nginx_upstream_status_info{name="peers",status="UNKNOWN"} 0
true true true true
--- error_log
healthcheck: bad status code from unix:
healthcheck: bad status line from unix:
healthcheck: failed to receive status line from unix:
is turned down after 2 failure(s)
is turned up after 2 success(es)

=== TEST 2: options that are wrong
--- http_config eval: $::Peers
--- config
location /t {
    content_by_lua_block {
        local spawn = require("resty.upstream.healthcheck").spawn_checker
        ngx.say(spawn{})
        ngx.say(spawn{ type = "tcp" })
        ngx.say(spawn{ type = "http" })
        ngx.say(spawn{ type = "http", http_req = "x" })
        ngx.say(spawn{ type = "http", http_req = "x", shm = "none" })
        ngx.say(spawn{ type = "http", http_req = "x", shm = "health" })
        ngx.say(spawn{ type = "http", http_req = "x", shm = "health", upstream = "none" })
    }
}
--- request
GET /t
--- response_body
nil"type" option required
nilonly "http" and "https" type are supported right now
nil"http_req" option required
nil"shm" option required
nilshm "none" not found
nilno upstream specified
nilfailed to get primary peers: upstream not found
