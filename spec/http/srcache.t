# Responses kept by subrequests.
use Test::Nginx::Socket 'no_plan';
no_root_location();
our $cache = <<'_EOC_';
location /cache {
    internal;
    set_unescape_uri $memc_key $arg_key;
    set $memc_exptime $arg_ttl;
    memc_pass 127.0.0.1:$TEST_NGINX_MEMCACHED_PORT;
}
add_header X-Fetch $srcache_fetch_status;
add_header X-Store $srcache_store_status;
_EOC_
run_tests();

__DATA__

=== a miss, then a hit
--- config eval
$::cache . <<'_EOC_'
location /main {
    content_by_lua_block {
        local key = "spec-" .. ngx.now() .. "-" .. math.random(1e9)
        local http = ngx.socket.tcp()
        for n = 1, 2 do
            http:connect("127.0.0.1", ngx.var.server_port)
            http:send("GET /page?k=" .. key .. " HTTP/1.0\r\nHost: localhost\r\n\r\n")
            local text = http:receive("*a")
            http:close()
            ngx.say(text:match("X%-Fetch: (%u+)"), " ", text:match("X%-Store: (%u+)"), " ",
                text:match("Content%-Type: (%S+)"), " ", text:match("X%-Page: (%d+)"), " ", text:match("\r\n\r\n(.*)"))
            ngx.sleep(0.1)
        end
    }
}
location /page {
    srcache_fetch GET /cache key=$arg_k;
    srcache_store PUT /cache key=$arg_k&ttl=$srcache_expire;
    content_by_lua_block {
        ngx.shared.count:incr("n", 1, 0)
        ngx.header["Content-Type"] = "text/css"
        ngx.header["X-Page"] = ngx.shared.count:get("n")
        ngx.header["Set-Cookie"] = "secret"
        ngx.print("page")
    }
}
_EOC_
--- http_config
lua_shared_dict count 100k;
--- request
GET /main
--- response_body
MISS STORE text/css 1 page
HIT BYPASS text/css 1 page

=== what is not stored
--- config eval
$::cache . <<'_EOC_'
srcache_store PUT /cache key=never&ttl=1;
location /private { content_by_lua_block { ngx.header["Cache-Control"] = "private" ngx.print("a") } }
location /age { content_by_lua_block { ngx.header["Cache-Control"] = "max-age=0" ngx.print("a") } }
location /old { content_by_lua_block { ngx.header["Expires"] = "Thu, 01 Jan 1970 00:00:01 GMT" ngx.print("a") } }
location /status { return 404 a; }
location /skip { srcache_store_skip 1; return 200 a; }
location /large { srcache_store_max_size 40; content_by_lua_block { ngx.print(("a"):rep(100)) } }
location /encoded { content_by_lua_block { ngx.header["Content-Encoding"] = "x" ngx.print("a") } }
location /method { content_by_lua_block { ngx.print("a") } }
location /yes { content_by_lua_block { ngx.header["Cache-Control"] = "max-age=5" ngx.print("a") } }
_EOC_
--- request eval
["GET /private", "GET /age", "GET /old", "GET /status", "GET /skip", "GET /large", "GET /encoded", "POST /method\n", "GET /yes"]
--- error_code eval
[200, 200, 200, 404, 200, 200, 200, 200, 200]
--- response_headers eval
["X-Store: BYPASS", "X-Store: BYPASS", "X-Store: BYPASS", "", "X-Store: BYPASS", "X-Store: STORE", "X-Store: BYPASS", "X-Store: BYPASS", "X-Store: STORE"]

=== how long it is kept
--- config
srcache_store PUT /cache;
location /cache { internal; return 201; }
add_header X-Expire $srcache_expire;
location /default { content_by_lua_block { ngx.print("a") } }
location /set { srcache_default_expire 7; content_by_lua_block { ngx.print("a") } }
location /age { content_by_lua_block { ngx.header["Cache-Control"] = "max-age=99" ngx.print("a") } }
location /most { srcache_max_expire 9; content_by_lua_block { ngx.header["Cache-Control"] = "max-age=99" ngx.print("a") } }
location /skip { srcache_store_skip 1; content_by_lua_block { ngx.print("a") } }
--- request eval
["GET /default", "GET /set", "GET /age", "GET /most", "GET /skip"]
--- response_headers eval
["X-Expire: 60", "X-Expire: 7", "X-Expire: 99", "X-Expire: 9", "!X-Expire"]

=== what the cache says is a response
--- config
srcache_fetch GET /cache $arg_what;
location /cache {
    internal;
    content_by_lua_block {
        local answers = {
            good = "HTTP/1.1 203 Moon\r\nContent-Type: text/css\r\nX-A: b\r\nContent-Length: 99\r\nConnection: close\r\n\r\nbody",
            empty = "HTTP/1.1 200 OK\r\n\r\n",
        }
        ngx.print(answers[ngx.var.args])
    }
}
location / { echo -n origin; }
location /skip { srcache_fetch_skip 1; add_header X-Fetch $srcache_fetch_status; echo -n origin; }
--- request eval
["GET /?what=good", "GET /?what=empty", "GET /skip?what=good"]
--- error_code eval
[203, 200, 200]
--- response_headers eval
["Content-Type: text/css\nX-A: b\nContent-Length: 4", "Content-Length: 0", "X-Fetch: BYPASS"]
--- response_body eval
["body", "", "origin"]

=== what is no response is a miss
--- config
srcache_fetch GET /cache $arg_what;
location /cache {
    internal;
    content_by_lua_block {
        local answers = {
            line = "nonsense\r\n\r\nbody",
            header = "HTTP/1.1 200 OK\r\nno colon\r\n\r\nbody",
            short = "HTTP/1.1 200 OK\r\nX-A: b\r\n",
            long = "HTTP/1.1 200 OK\r\nX-A: " .. ("b"):rep(5000) .. "\r\n\r\nbody",
        }
        if ngx.var.args == "error" then return ngx.exit(500) end
        ngx.print(answers[ngx.var.args])
    }
}
location / { content_by_lua_block { ngx.print("origin ", ngx.var.srcache_fetch_status) } }
--- request eval
["GET /?what=line", "GET /?what=header", "GET /?what=short", "GET /?what=long", "GET /?what=error"]
--- response_body eval
[("origin MISS") x 5]

=== a cache that is gone harms nobody
--- config
srcache_fetch GET /cache;
srcache_store PUT /cache;
location /cache { internal; set $memc_key a; memc_pass 127.0.0.1:1; }
location / { content_by_lua_block { ngx.print("origin") } }
--- request
GET /
--- response_body: origin
--- error_log
connect() failed (111: Connection refused) while connecting to upstream
srcache_store subrequest failed: rc=502

=== access comes first
--- config
srcache_fetch GET /cache;
location /cache { internal; return 200 "HTTP/1.1 200 OK\r\n\r\nsecret"; }
location / { deny all; }
location /open { satisfy any; allow all; deny all; auth_basic moon; content_by_lua_block { ngx.print("origin") } }
--- request eval
["GET /", "GET /open"]
--- error_code eval
[403, 200]
--- response_body_like eval
["403 Forbidden", "^secret\$"]

=== a client that wants no cache
--- config
srcache_request_cache_control on;
srcache_fetch GET /cache;
srcache_store PUT /put;
location /cache { internal; content_by_lua_block { ngx.print("HTTP/1.1 200 OK\r\n\r\ncached") } }
location /put { internal; return 201; }
location / { add_header X-Store $srcache_store_status; content_by_lua_block { ngx.print("origin") } }
--- more_headers eval
["", "Cache-Control: no-cache", "Cache-Control: no-cache, no-store", "Pragma: no-cache"]
--- request eval
["GET /", "GET /", "GET /", "GET /"]
--- response_body eval
["cached", "origin", "origin", "origin"]
--- response_headers eval
["", "X-Store: STORE", "X-Store: BYPASS", "X-Store: STORE"]

=== a method that is none
--- config
location / { srcache_fetch BREW /cache; }
--- must_die
--- error_log
srcache_fetch specifies bad HTTP method BREW
