# Requests passed to other HTTP servers.
use Test::Nginx::Socket 'no_plan';
no_root_location();
run_tests();

__DATA__

=== the path goes on as it was sent
--- config
location / { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT; }
location /b { return 200 "$request_uri"; }
location /p/ { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b/; }
--- request eval
["GET /p/x%20y?a=%2F", "GET /p/%7Ex/../z", "GET /p/"]
--- response_body eval
["/b/x%20y?a=%2F", "/b/z", "/b/"]

=== a URI takes the place of the location
--- config
location /one/ { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/two/; }
location /two/ { return 200 "$request_uri"; }
location /args { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/two/x?own=1; }
--- request eval
["GET /one/a/b?c", "GET /args?d=2"]
--- response_body eval
["/two/a/b?c", "/two/x?own=1?d=2"]

=== variables make the whole URL
--- config
location ~ ^/to/(\w+)$ { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/at/$1$is_args$args; }
location ~ ^/plain { set $up 127.0.0.1:$TEST_NGINX_SERVER_PORT; rewrite ^/plain(/.*) $1 break; proxy_pass http://$up; }
location /at/ { return 200 "$request_uri"; }
--- request eval
["GET /to/x?y", "GET /plain/at/z"]
--- response_body eval
["/at/x?y", "/at/z"]

=== a rewritten path is escaped anew
--- config
location /r { rewrite ^/r(.*) /b$1 break; proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT; }
location /b { return 200 "$request_uri"; }
--- request
GET /r/a%20b%3F?q
--- response_body: /b/a%20b%3F?q

=== fields: the default ones, those that are set, those that are removed
--- config
location / {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header X-Own "own $arg_a";
    proxy_set_header X-Gone "";
    proxy_set_header Host named;
}
location /b { return 200 "$http_host|$http_connection|$http_x_own|$http_x_gone|$http_x_kept|$http_te"; }
--- request
GET /?a=1
--- more_headers
X-Gone: 1
X-Kept: 2
TE: trailers
--- response_body: named||own 1||2|

=== the client's address is added to those before
--- config
location / {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Host "$proxy_host $proxy_port";
}
location /b { return 200 "$http_x_forwarded_for"; }
--- request
GET /
--- more_headers
X-Forwarded-For: 1.2.3.4
--- response_body: 1.2.3.4, 127.0.0.1

=== method, body and length
--- config
location /own { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b; proxy_method PUT; proxy_set_body "<$request_method>"; }
location /none { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b; proxy_pass_request_body off; proxy_set_header Content-Length ""; }
location /b { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/c; add_header X-Seen "$request_method $content_length"; }
location /c { return 200; }
--- request eval
["POST /own\nabc", "POST /none\nabc"]
--- raw_response_headers_like eval
["X-Seen: PUT 6", "X-Seen: POST\\r"]

=== redirects lead to us
--- config
location /in/ { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/out/; }
location /off/ { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/out/; proxy_redirect off; }
location /re/ { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/out/; proxy_redirect ~^http://[^/]+/out/(.*)$ /regex/$1; }
location /out/ { return 301 http://127.0.0.1:$server_port/out/there; }
--- request eval
["GET /in/x", "GET /off/x", "GET /re/x"]
--- response_headers eval
["Location: http://localhost:$ENV{TEST_NGINX_SERVER_PORT}/in/there", "Location: http://127.0.0.1:$ENV{TEST_NGINX_SERVER_PORT}/out/there", "Location: http://localhost:$ENV{TEST_NGINX_SERVER_PORT}/regex/there"]
--- error_code eval
[301, 301, 301]

=== cookies become ours
--- config
location / {
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_cookie_domain inner.example outer.example;
    proxy_cookie_path /b/ /;
    proxy_cookie_flags a httponly samesite=lax;
}
location /b { add_header Set-Cookie "a=1; domain=.inner.example; path=/b/x"; return 200; }
--- request
GET /
--- response_headers
Set-Cookie: a=1; domain=.outer.example; path=/x; HttpOnly; SameSite=Lax

=== fields that are hidden, passed again, or of no use behind us
--- config
location / { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b; proxy_hide_header X-Hide; }
location /pass { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b; proxy_pass_header X-Accel-Expires; }
location /b { add_header X-Hide 1; add_header X-Pad 2; add_header X-Show 3; add_header X-Accel-Expires 4; return 200; }
--- request eval
["GET /", "GET /pass"]
--- response_headers eval
["X-Hide: \nX-Pad: \nX-Show: 3\nX-Accel-Expires: ", "X-Accel-Expires: 4"]

=== X-Accel-Redirect leads to another location, which has the type and the cookies
--- config
location / { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b; }
location /b { add_header X-Accel-Redirect /inner/x?y; add_header Set-Cookie a=b; add_header X-Other 1; default_type a/b; return 200 outer; }
location /inner/ { internal; return 200 "inner $args"; }
location /ignore { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b; proxy_ignore_headers X-Accel-Redirect; }
--- request eval
["GET /", "GET /ignore"]
--- response_headers eval
["Set-Cookie: a=b\nX-Other: \nContent-Type: a/b", "X-Other: 1"]
--- response_body eval
["inner y", "outer"]

=== X-Accel-Redirect out of the site
--- config
location / { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b; }
location /b { add_header X-Accel-Redirect /a/../../x; return 200; }
--- request
GET /
--- error_code: 404
--- error_log
unsafe URI "/a/../../x" was detected

=== errors of the upstream's own, and pages of ours
--- config
error_page 404 /page;
location / { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b; }
location /i { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b; proxy_intercept_errors on; }
location /b { error_page 404 /theirs; return 404; }
location /theirs { return 200 theirs; }
location /page { return 200 ours; }
--- request eval
["GET /", "GET /i"]
--- error_code eval
[404, 404]
--- response_body eval
["theirs", "ours"]

=== nobody listens
--- config
location / { proxy_pass http://127.0.0.1:1; }
--- request
GET /x?y
--- error_code: 502
--- error_log eval
qr{connect\(\) failed \(111: Connection refused\) while connecting to upstream, client: 127\.0\.0\.1, server: \S*, request: "GET /x\?y HTTP/1\.1", upstream: "http://127\.0\.0\.1:1/x\?y"}

=== names made of variables need a resolver
--- config
location / { set $name no.such.example; proxy_pass http://$name; }
--- request
GET /
--- error_code: 502
--- error_log
no resolver defined to resolve no.such.example

=== a URL of variables that is none
--- config
location / { proxy_pass $arg_to; }
--- request
GET /?to=ftp://x
--- error_code: 500
--- error_log
invalid URL prefix in "ftp://x"

=== in if, in a named location, in limit_except
--- config
location / {
    if ($arg_a) { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b?if; }
    try_files /none @named;
}
location @named { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT; }
location = / { return 200 named; }
location /b { return 200 if; }
--- must_die
--- error_log
"proxy_pass" cannot have URI part in location given by regular expression, or inside named location, or inside "if" statement, or inside "limit_except" block

=== in if without a URI
--- config
location /a {
    if ($arg_a) { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT; }
    return 200 outer;
}
--- request
GET /a
--- response_body: outer

=== large answers through little memory
--- config
location / { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/f.txt; proxy_buffers 2 4k; proxy_busy_buffers_size 4k; }
location /u { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/f.txt; proxy_buffering off; }
location = /f.txt { }
--- user_files eval
">>> f.txt\n" . ("x" x 300000)
--- request eval
["GET /", "GET /u"]
--- response_body eval
[("x" x 300000) x 2]

=== default redirects need a URL without variables
--- config
location / { proxy_pass http://$arg_x; proxy_redirect default; }
--- must_die
--- error_log
"proxy_redirect default" cannot be used with "proxy_pass" directive with variables

=== sizes that contradict each other
--- config
proxy_buffer_size 8k;
proxy_busy_buffers_size 4k;
location / { proxy_pass http://127.0.0.1:1; }
--- must_die
--- error_log
"proxy_busy_buffers_size" must be equal to or greater than the maximum of the value of "proxy_buffer_size" and one of the "proxy_buffers"
