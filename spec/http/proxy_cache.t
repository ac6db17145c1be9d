# Answers of upstreams that are kept.
use Test::Nginx::Socket 'no_plan';
no_root_location();
run_tests();

__DATA__

=== an answer is asked for once
--- http_config
proxy_cache_path cache keys_zone=one:1m levels=1:2;
--- config
location /c {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_cache one;
    proxy_cache_valid 200 1m;
    add_header X-Cache $upstream_cache_status;
    add_header X-Status "[$upstream_status]";
}
location /b { return 200 "$connection_requests $connection $msec"; }
--- request eval
["GET /c?1", "GET /c?1", "GET /c?2"]
--- response_headers eval
["X-Cache: MISS", "X-Cache: HIT\nX-Status: []", "X-Cache: MISS"]

=== the answer's own fields say for how long
--- http_config
proxy_cache_path cache keys_zone=one:1m;
--- config
location /c/ {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b/;
    proxy_cache one;
    proxy_cache_valid any 1m;
    add_header X-Cache $upstream_cache_status;
}
location /b/ { return 200 ok; }
location /b/no-store { add_header Cache-Control no-store; return 200; }
location /b/private { add_header Cache-Control "max-age=60, private"; return 200; }
location /b/cookie { add_header Set-Cookie a=b; return 200; }
location /b/vary { add_header Vary *; return 200; }
location /b/accel { add_header X-Accel-Expires 60; add_header Cache-Control no-cache; return 200; }
location /b/expired { add_header Expires "Thu, 01 Jan 1970 00:00:01 GMT"; return 200; }
--- request eval
[map { ("GET /c/$_", "GET /c/$_") } qw(plain no-store private cookie vary accel expired)]
--- response_headers eval
[map { ("X-Cache: MISS", "X-Cache: " . (/plain|accel/ ? "HIT" : "MISS")) }
    qw(plain no-store private cookie vary accel expired)]

=== fields may be ignored
--- http_config
proxy_cache_path cache keys_zone=one:1m;
--- config
location /c/ {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b/;
    proxy_cache one;
    proxy_cache_valid any 1m;
    proxy_ignore_headers Cache-Control Set-Cookie Vary Expires X-Accel-Expires;
    add_header X-Cache $upstream_cache_status;
}
location /b/no-store { add_header Cache-Control no-store; return 200; }
location /b/cookie { add_header Set-Cookie a=b; return 200; }
location /b/vary { add_header Vary *; return 200; }
location /b/accel { add_header X-Accel-Expires 0; return 200; }
--- request eval
[map { ("GET /c/$_", "GET /c/$_") } qw(no-store cookie vary accel)]
--- response_headers eval
[("X-Cache: MISS", "X-Cache: HIT") x 4]

=== statuses have times of their own
--- http_config
proxy_cache_path cache keys_zone=one:1m;
--- config
location /c/ {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b/;
    proxy_cache one;
    proxy_cache_valid 1m;
    proxy_cache_valid 404 410 1m;
    add_header X-Cache $upstream_cache_status always;
}
location /b/200 { return 200; }
location /b/301 { return 301; }
location /b/404 { return 404; }
location /b/410 { return 410; }
location /b/403 { return 403; }
--- request eval
[map { ("GET /c/$_", "GET /c/$_") } qw(200 301 404 410 403)]
--- error_code eval
[map { ($_, $_) } qw(200 301 404 410 403)]
--- response_headers eval
[(("X-Cache: MISS", "X-Cache: HIT") x 4), "X-Cache: MISS", "X-Cache: MISS"]

=== bypassing asks and keeps, no_cache does not keep
--- http_config
proxy_cache_path cache keys_zone=one:1m;
--- config
location /c {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_cache one;
    proxy_cache_key k;
    proxy_cache_valid any 1m;
    proxy_cache_bypass $arg_bypass;
    proxy_no_cache $arg_no $arg_never;
    add_header X-Cache $upstream_cache_status;
}
location /b { return 200 "$arg_v"; }
--- request eval
["GET /c?v=1&no=1", "GET /c?v=2", "GET /c?v=3", "GET /c?v=4&bypass=1", "GET /c?v=5&bypass=0", "GET /c?v=6&bypass=1&never=x",
 "GET /c"]
--- response_body eval
[1, 2, 2, 4, 4, 6, 4]
--- response_headers eval
[map { "X-Cache: $_" } qw(MISS MISS HIT BYPASS HIT BYPASS HIT)]

=== a use is not enough
--- http_config
proxy_cache_path cache keys_zone=one:1m;
--- config
location /c {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_cache one;
    proxy_cache_valid any 1m;
    proxy_cache_min_uses 3;
    add_header X-Cache $upstream_cache_status;
}
location /b { return 200 "$arg_v"; }
--- request eval
["GET /c", "GET /c", "GET /c", "GET /c"]
--- response_headers eval
[map { "X-Cache: $_" } qw(MISS MISS MISS HIT)]

=== variants by what Vary names
--- http_config
proxy_cache_path cache keys_zone=one:1m;
--- config
location /c {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_cache one;
    proxy_cache_valid any 1m;
    add_header X-Cache $upstream_cache_status;
}
location /b { add_header Vary X-Kind; return 200 "kind $http_x_kind"; }
--- request eval
[("GET /c") x 6]
--- more_headers eval
["X-Kind: a", "X-Kind: b", "X-Kind: a", "X-Kind: b", "", ""]
--- response_body eval
["kind a", "kind b", "kind a", "kind b", "kind ", "kind "]
--- response_headers eval
[map { "X-Cache: $_" } qw(MISS MISS HIT HIT MISS HIT)]

=== HEAD fetches the whole, GET finds it
--- http_config
proxy_cache_path cache keys_zone=one:1m;
--- config
location /c {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_cache one;
    proxy_cache_valid any 1m;
    add_header X-Cache $upstream_cache_status;
}
location /b { return 200 "$request_method"; }
--- request eval
["HEAD /c", "GET /c"]
--- response_body eval
["", "GET"]
--- response_headers eval
["X-Cache: MISS\nContent-Length: 3", "X-Cache: HIT\nContent-Length: 3"]

=== HEAD renews the whole behind
--- http_config
proxy_cache_path cache keys_zone=one:1m;
--- config
location /c {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_cache one;
    proxy_cache_valid any 1m;
    proxy_cache_use_stale updating;
    proxy_cache_background_update on;
    add_header X-Cache $upstream_cache_status;
}
location /b {
    if ($arg_old) { add_header X-Accel-Expires @1; }
    return 200 "$request_method $arg_old";
}
location /wait { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b; limit_rate 4; }
--- request eval
["HEAD /c?old=1", "HEAD /c?old=1", "GET /wait", "GET /c?old=1"]
--- response_headers eval
["X-Cache: MISS", "X-Cache: STALE", "", "X-Cache: STALE"]
--- response_body eval
["", "", "GET ", "GET 1"]

=== conditions and ranges are the client's, not the upstream's
--- http_config
proxy_cache_path cache keys_zone=one:1m;
--- config
location /c {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_cache one;
    proxy_cache_valid any 1m;
    proxy_force_ranges on;
    add_header X-Cache $upstream_cache_status;
}
location /b {
    add_header Last-Modified "Mon, 28 Sep 1970 06:00:00 GMT";
    add_header ETag '"e"';
    return 200 "0123456789[$http_range$http_if_none_match$http_if_modified_since]";
}
--- request eval
[("GET /c") x 4]
--- more_headers eval
["Range: bytes=2-4", "Range: bytes=0-1,9-11", "If-None-Match: \"e\"", "If-Modified-Since: Mon, 28 Sep 1970 06:00:00 GMT"]
--- error_code eval
[206, 206, 304, 304]
--- response_headers eval
["X-Cache: MISS\nContent-Range: bytes 2-4/12", "X-Cache: HIT", "X-Cache: HIT", "X-Cache: HIT"]

=== an answer without a length stays without one
--- http_config
proxy_cache_path cache keys_zone=one:1m;
--- config
location /c {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_http_version 1.1;
    proxy_cache one;
    proxy_cache_valid any 1m;
    add_header X-Cache $upstream_cache_status;
}
location /b { sub_filter a b; sub_filter_types *; return 200 "aaa"; }
--- request eval
[("GET /c") x 2]
--- response_body eval
["baa", "baa"]
--- response_headers eval
["X-Cache: MISS\nTransfer-Encoding: chunked", "X-Cache: HIT\nTransfer-Encoding: chunked"]

=== filters and subrequests work on what is kept
--- http_config
proxy_cache_path cache keys_zone=one:1m;
--- config
location /page { ssi on; ssi_types *; return 200 "<!--#include virtual='/c' -->+<!--#include virtual='/c' wait='yes' -->"; }
location /c {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_cache one;
    proxy_cache_valid any 1m;
    sub_filter kept found;
    sub_filter_types *;
}
location /b { return 200 "kept"; }
--- request eval
[("GET /page") x 2]
--- response_body eval
[("found+found") x 2]

=== files are read by threads
--- http_config
proxy_cache_path cache keys_zone=one:1m;
--- config
location /c {
    aio threads;
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_cache one;
    proxy_cache_valid any 1m;
    add_header X-Cache $upstream_cache_status;
}
location /b { root html; try_files /large =404; }
--- user_files eval
">>> large\n" . ("0123456789" x 20000)
--- request eval
[("GET /c") x 3]
--- response_body eval
[("0123456789" x 20000) x 3]
--- response_headers eval
[map { "X-Cache: $_" } qw(MISS HIT HIT)]

=== a stale answer is better than an error
--- http_config
proxy_cache_path cache keys_zone=one:1m;
--- config
location /c {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_cache one;
    proxy_cache_key k;
    proxy_cache_use_stale http_503;
    add_header X-Cache $upstream_cache_status;
}
location /b {
    if ($arg_fail = 500) { return 500; }
    if ($arg_fail = 503) { return 503; }
    # Stale as soon as it is there.
    add_header X-Accel-Expires @1;
    return 200 fresh;
}
--- request eval
["GET /c", "GET /c?fail=503", "GET /c?fail=500", "GET /c"]
--- error_code eval
[200, 200, 500, 200]
--- response_headers eval
["X-Cache: MISS", "X-Cache: STALE", "", "X-Cache: EXPIRED"]

=== a stale answer is confirmed
--- http_config
proxy_cache_path cache keys_zone=one:1m;
--- config
location /c {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_cache one;
    proxy_cache_revalidate on;
    add_header X-Cache $upstream_cache_status;
}
location /b {
    if ($http_if_none_match) { set $seconds 60; }
    if ($http_if_none_match = "") { set $seconds @1; }
    add_header X-Accel-Expires $seconds always;
    add_header ETag '"e"';
    add_header X-Asked "[$http_if_none_match]";
    if ($http_if_none_match) { return 304; }
    return 200 whole;
}
--- request eval
[("GET /c") x 3]
--- response_body eval
[("whole") x 3]
--- response_headers eval
[map { "X-Cache: $_" } qw(MISS REVALIDATED HIT)]

=== RFC 5861: stale while it is renewed
--- http_config
proxy_cache_path cache keys_zone=one:1m;
--- config
location /c {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_cache one;
    proxy_cache_key k;
    proxy_cache_background_update on;
    add_header X-Cache $upstream_cache_status;
}
location /b {
    add_header Cache-Control "stale-while-revalidate=2000000000";
    add_header X-Accel-Expires @1;
    return 200 "$arg_v";
}
--- request eval
["GET /c?v=1", "GET /c?v=2"]
--- response_body eval
[1, 1]
--- response_headers eval
["X-Cache: MISS", "X-Cache: STALE"]

=== a redirect of the upstream's is kept as well
--- http_config
proxy_cache_path cache keys_zone=one:1m;
--- config
location /c {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_cache one;
    proxy_cache_valid any 1m;
}
location /b { add_header X-Accel-Redirect /elsewhere; return 200 no; }
location /elsewhere { return 200 "elsewhere"; }
--- request eval
[("GET /c") x 2]
--- response_body eval
[("elsewhere") x 2]

=== an intercepted status is kept
--- http_config
proxy_cache_path cache keys_zone=one:1m;
--- config
location /c {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_cache one;
    proxy_cache_valid any 1m;
    proxy_intercept_errors on;
    error_page 404 = @none;
}
location @none { return 200 "[$upstream_cache_status]"; }
location /b { return 404; }
--- request eval
[("GET /c") x 2]
--- response_body eval
["[MISS]", "[HIT]"]

=== the cache is chosen by a variable
--- http_config
proxy_cache_path cache1 keys_zone=one:1m;
proxy_cache_path cache2 keys_zone=two:1m;
--- config
location /c {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_cache $arg_in;
    proxy_cache_key k;
    proxy_cache_valid any 1m;
    add_header X-Cache "[$upstream_cache_status]";
}
location /b { return 200; }
--- request eval
["GET /c?in=one", "GET /c?in=two", "GET /c?in=one", "GET /c?in=off", "GET /c"]
--- response_headers eval
["X-Cache: [MISS]", "X-Cache: [MISS]", "X-Cache: [HIT]", "X-Cache: []", "X-Cache: []"]

=== a variable names no cache
--- http_config
proxy_cache_path cache keys_zone=one:1m;
--- config
location /c { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b; proxy_cache $arg_in; }
--- request
GET /c?in=three
--- error_code: 500
--- error_log
cache "three" not found

=== methods
--- http_config
proxy_cache_path cache keys_zone=one:1m;
--- config
location /c {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_cache one;
    proxy_cache_key $request_body;
    proxy_cache_valid any 1m;
    proxy_cache_methods POST;
    add_header X-Cache "[$upstream_cache_status]";
}
location /b { return 200; }
--- request eval
["POST /c\na", "POST /c\nb", "POST /c\na", "PUT /c\na"]
--- response_headers eval
["X-Cache: [MISS]", "X-Cache: [MISS]", "X-Cache: [HIT]", "X-Cache: []"]

=== what is purged is asked for again, its variants too
--- skip_nginx
99: < 1.31.0
--- http_config
proxy_cache_path cache keys_zone=one:1m;
map $request_method $purge { PURGE 1; default 0; }
--- config
location /c {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_cache one;
    proxy_cache_key $uri;
    proxy_cache_valid any 1m;
    proxy_cache_purge $purge;
    add_header X-Cache "[$upstream_cache_status]";
}
location /b { add_header Vary X-Kind; return 200 "$http_x_kind"; }
--- request eval
["GET /c", "GET /c", "GET /c", "PURGE /c", "PURGE /c", "GET /c", "GET /c", "GET /c"]
--- more_headers eval
["X-Kind: a", "X-Kind: b", "X-Kind: b", "", "", "X-Kind: b", "X-Kind: a", "X-Kind: a"]
--- error_code eval
[200, 200, 200, 204, 404, 200, 200, 200]
--- response_headers eval
["X-Cache: [MISS]", "X-Cache: [MISS]", "X-Cache: [HIT]", "", "", "X-Cache: [MISS]", "X-Cache: [MISS]", "X-Cache: [HIT]"]

=== purges by the beginning of keys
--- skip_nginx
99: < 1.31.0
--- http_config
proxy_cache_path cache keys_zone=one:1m;
--- config
location /c/ {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_cache one;
    proxy_cache_key $uri;
    proxy_cache_valid any 1m;
    proxy_cache_purge $arg_purge;
    add_header X-Cache "[$upstream_cache_status]";
}
location /b { return 200; }
--- request eval
["GET /c/a/1", "GET /c/a/2", "GET /c/b", "GET /c/a/*?purge=1", "GET /c/a/1", "GET /c/b"]
--- error_code eval
[200, 200, 200, 204, 200, 200]
--- response_headers eval
["X-Cache: [MISS]", "X-Cache: [MISS]", "X-Cache: [MISS]", "", "X-Cache: [MISS]", "X-Cache: [HIT]"]

=== a zone that nobody made
--- config
location / { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT; proxy_cache none; }
--- must_die
--- error_log
"proxy_cache" zone "none" is unknown

=== caches of one module are not another's
--- http_config
proxy_cache_path cache keys_zone=one:1m;
fastcgi_cache_path cache2 keys_zone=one:1m;
--- config
--- must_die
--- error_log
the shared memory zone "one" is already declared for a different use

=== wrong parameters
--- http_config
proxy_cache_path cache keys_zone=one:1m levels=1:3;
--- config
--- must_die
--- error_log
invalid "levels" "levels=1:3"

=== a directory has one cache
--- http_config
proxy_cache_path cache keys_zone=one:1m;
proxy_cache_path cache/ keys_zone=two:1m;
--- config
--- must_die
--- error_log eval
qr{the same path name ".*/cache" used in .*nginx.conf:\d+ and in }

=== a zone is needed
--- http_config
proxy_cache_path cache levels=1:2;
--- config
--- must_die
--- error_log
"proxy_cache_path" must have "keys_zone" parameter

=== stored or kept, not both
--- http_config
proxy_cache_path cache keys_zone=one:1m;
--- config
location / { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT; proxy_store on; proxy_cache one; }
--- must_die
--- error_log
"proxy_cache" directive is incompatible with "proxy_store"
