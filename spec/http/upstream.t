# Groups of servers.
use Test::Nginx::Socket 'no_plan';
no_root_location();
run_tests();

__DATA__

=== round robin by weight
--- http_config
upstream u { server 127.0.0.1:$TEST_NGINX_SERVER_PORT weight=2; server localhost:$TEST_NGINX_SERVER_PORT down; }
--- config
location / { proxy_pass http://u/b; }
location /b { return 200 "$http_host"; }
--- request
GET /
--- response_body: u

=== the next server is asked, and variables tell of both
--- http_config
upstream u { server 127.0.0.1:1; server 127.0.0.1:$TEST_NGINX_SERVER_PORT backup; }
--- config
location / { proxy_pass http://u/b; add_header X-Up "$upstream_addr $upstream_status"; }
location /b { return 200 ok; }
--- request
GET /
--- response_body: ok
--- response_headers eval
"X-Up: 127.0.0.1:1, 127.0.0.1:$ENV{TEST_NGINX_SERVER_PORT} 502, 200"
--- error_log
connect() failed (111: Connection refused) while connecting to upstream
upstream server temporarily disabled while connecting to upstream

=== nobody is left
--- http_config
upstream u { server 127.0.0.1:1 down; }
--- config
location / { proxy_pass http://u; add_header X-Up "$upstream_addr" always; }
--- request
GET /
--- error_code: 502
--- response_headers
X-Up: u
--- error_log
no live upstreams while connecting to upstream

=== attempts of several locations
--- config
location / { proxy_pass http://127.0.0.1:1; error_page 502 = @other; }
location @other { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b?; add_header X-Up "$upstream_status"; }
location /b { return 200 ok; }
--- must_die
--- error_log
"proxy_pass" cannot have URI part

=== attempts of several locations, separated
--- config
location / { proxy_pass http://127.0.0.1:1; error_page 502 = @other; }
location @other { rewrite ^ /b break; proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT; add_header X-Up "$upstream_status"; }
location /b { return 200 ok; }
--- request
GET /
--- response_headers
X-Up: 502 : 200
--- error_log
Connection refused

=== fields and cookies of the answer
--- config
location / { proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b; proxy_hide_header X-A; add_header X-Seen "$upstream_http_x_a|$upstream_cookie_c|$upstream_http_none"; }
location /b { add_header X-A 1; add_header Set-Cookie "c=2; path=/"; return 200; }
--- request
GET /
--- response_headers
X-A:
X-Seen: 1|2|

=== nothing was asked
--- config
location / { return 200 "[$upstream_addr$upstream_status$upstream_http_a]"; }
--- request
GET /
--- response_body: []

=== a key decides
--- http_config
upstream u { hash $arg_k; server 127.0.0.1:$TEST_NGINX_SERVER_PORT; server 127.0.0.1:$TEST_NGINX_SERVER_PORT; }
upstream c { hash $arg_k consistent; server 127.0.0.1:$TEST_NGINX_SERVER_PORT; }
upstream i { ip_hash; server 127.0.0.1:$TEST_NGINX_SERVER_PORT; }
upstream l { least_conn; server 127.0.0.1:$TEST_NGINX_SERVER_PORT; }
upstream r { random two least_conn; server 127.0.0.1:$TEST_NGINX_SERVER_PORT; }
upstream z { zone z 64k; server 127.0.0.1:$TEST_NGINX_SERVER_PORT max_conns=5 max_fails=3 fail_timeout=5s; keepalive 4; keepalive_requests 10; keepalive_time 1m; keepalive_timeout 5s; }
--- config
location ~ /(\w) { proxy_pass http://$1/; }
location = / { return 200 "$http_host"; }
--- request eval
["GET /u?k=1", "GET /c?k=1", "GET /i", "GET /l", "GET /r", "GET /z"]
--- response_body eval
["u", "c", "i", "l", "r", "z"]

=== a block without servers
--- http_config
upstream u { keepalive 1; }
--- must_die
--- error_log
no servers are inside upstream

=== a name that nobody has
--- http_config
upstream u { server no.such.name.invalid; }
--- must_die
--- error_log
host not found in upstream "no.such.name.invalid"

=== a name in proxy_pass that nobody has
--- config
location / { proxy_pass http://no.such.name.invalid; }
--- must_die
--- error_log
host not found in upstream "no.such.name.invalid"

=== methods that take no servers standing by
--- http_config
upstream u { ip_hash; server 127.0.0.1 backup; }
--- must_die
--- error_log
balancing method does not support parameter "backup"

=== unknown parameters
--- http_config
upstream u { server 127.0.0.1 color=red; }
--- must_die
--- error_log
invalid parameter "color=red"

=== a zone must have room
--- http_config
upstream u { zone z 1k; server 127.0.0.1; }
--- must_die
--- error_log
zone "z" is too small
