# Commands of Redis as locations.
use Test::Nginx::Socket 'no_plan';
no_root_location();
run_tests();

__DATA__

=== commands, one and several
--- config
location /one { redis2_query set moon "$arg_v"; redis2_pass 127.0.0.1:$TEST_NGINX_REDIS_PORT; }
location /two { redis2_query get moon; redis2_query lrange none 0 9; redis2_pass 127.0.0.1:$TEST_NGINX_REDIS_PORT; }
location /raw { redis2_raw_query "get moon\r\n"; redis2_pass 127.0.0.1:$TEST_NGINX_REDIS_PORT; }
location /raws { redis2_raw_queries $arg_n "get moon\r\nping\r\n"; redis2_pass 127.0.0.1:$TEST_NGINX_REDIS_PORT; }
location /literal { redis2_literal_raw_query 'echo $moon\r\n'; redis2_pass 127.0.0.1:$TEST_NGINX_REDIS_PORT; }
--- request eval
["GET /one?v=rise", "GET /two", "GET /raw", "GET /raws?n=2", "GET /literal"]
--- response_body eval
["+OK\r\n", "\$4\r\nrise\r\n*0\r\n", "\$4\r\nrise\r\n", "\$4\r\nrise\r\n+PONG\r\n", "\$5\r\n\$moon\r\n"]

=== the body of the request
--- config
location / { redis2_query set body $echo_request_body; redis2_query get body; redis2_pass 127.0.0.1:$TEST_NGINX_REDIS_PORT; }
--- request
POST /
hello
--- response_body eval: "+OK\r\n\$5\r\nhello\r\n"

=== a connection is kept
--- http_config
upstream redis { server 127.0.0.1:$TEST_NGINX_REDIS_PORT; keepalive 4; }
--- config
location / { redis2_query client id; redis2_pass redis; }
location /main {
    content_by_lua_block {
        local one, two = ngx.location.capture("/").body, ngx.location.capture("/").body
        ngx.print(one == two)
    }
}
--- request
GET /main
--- response_body: true

=== no command
--- config
location / { redis2_pass 127.0.0.1:1985; }
location /empty { redis2_raw_query $arg_q; redis2_pass 127.0.0.1:1985; }
location /count { redis2_raw_queries $arg_n "ping\r\n"; redis2_pass 127.0.0.1:1985; }
--- request eval
["GET /", "GET /empty", "GET /count?n=x"]
--- error_code eval
[500, 500, 500]
--- error_log eval
qr/no redis2 query specified or the query is empty|the redis query is empty|the N argument to redis2_raw_queries is invalid/

=== what is no reply
--- config
location / { redis2_query ping; redis2_pass 127.0.0.1:1985; }
--- tcp_listen: 1985
--- tcp_query_len: 14
--- tcp_reply eval: "HELLO\r\n"
--- request
GET /
--- error_code: 502
--- error_log
redis2 sent invalid response: "HELLO

=== a reply that goes wrong is cut off
--- config
location / { redis2_query ping; redis2_pass 127.0.0.1:1985; }
--- tcp_listen: 1985
--- tcp_query_len: 14
--- tcp_reply eval: "\$3\r\nabcdef"
--- request
GET /
--- ignore_response
--- error_log
Redis server returned invalid response near pos

=== a reply that breaks off
--- config
location / { redis2_query ping; redis2_pass 127.0.0.1:1985; }
--- tcp_listen: 1985
--- tcp_query_len: 14
--- tcp_reply eval: "\$300\r\nabcdef"
--- request
GET /
--- ignore_response
--- error_log
upstream prematurely closed connection

=== nobody answers
--- config
location / { redis2_query ping; redis2_read_timeout 100ms; redis2_pass 127.0.0.1:1985; }
--- tcp_listen: 1985
--- tcp_query_len: 14
--- tcp_reply_delay: 2s
--- tcp_reply eval: "+PONG\r\n"
--- request
GET /
--- error_code: 504

=== one kind of command excludes the other
--- config
location / { redis2_raw_query a; redis2_query ping; redis2_pass 127.0.0.1:1985; }
--- must_die
--- error_log
"redis2_query" directive conflicts with redis2_raw_query
