# Values of Redis as answers.
use Test::Nginx::Socket 'no_plan';
no_root_location();
run_tests();

__DATA__

=== a value
--- config
location / { set $redis_key "a b"; redis_pass 127.0.0.1:$TEST_NGINX_REDIS_PORT; }
location /set { redis2_query set "a b" hello; redis2_pass 127.0.0.1:$TEST_NGINX_REDIS_PORT; }
--- request eval
["GET /set", "GET /"]
--- response_body eval
["+OK\r\n", "hello"]

=== a key that is not there, and a method that is not asked for
--- config
location / { set $redis_key $uri; redis_pass 127.0.0.1:$TEST_NGINX_REDIS_PORT; }
--- request eval
["GET /nobody-has-set-this", "POST /\n"]
--- error_code eval
[404, 405]

=== the commands, and a value that is compressed
--- config
location / {
    set $redis_key k; set $redis_db 2; set $redis_auth pw;
    redis_gzip_flag 1;
    redis_pass 127.0.0.1:1985;
}
--- tcp_listen: 1985
--- tcp_query eval: "*2\r\n\$4\r\nauth\r\n\$2\r\npw\r\n*2\r\n\$6\r\nselect\r\n\$1\r\n2\r\n*2\r\n\$3\r\nget\r\n\$1\r\nk\r\n"
--- tcp_query_len: 65
--- tcp_reply eval: "+OK\r\n+OK\r\n\$3\r\nabc\r\n"
--- request
GET /
--- response_headers
Content-Encoding: gzip
--- response_body: abc

=== no key
--- config
location / { set $redis_key ""; redis_pass 127.0.0.1:1985; }
--- request
GET /
--- error_code: 500
--- error_log
the "$redis_key" variable is not set

=== an error of Redis
--- config
location / { set $redis_key k; set $redis_db 999; redis_pass 127.0.0.1:$TEST_NGINX_REDIS_PORT; }
--- request
GET /
--- error_code: 502
--- error_log
redis sent error in response

=== what is no answer
--- config
location / { set $redis_key k; redis_pass 127.0.0.1:1985; }
--- tcp_listen: 1985
--- tcp_query_len: 43
--- tcp_reply eval: "HTTP/1.1 200 OK\r\n\r\n"
--- request
GET /
--- error_code: 502
--- error_log
redis sent invalid response: "HTTP/1.1 200 OK"

=== a length that cannot be one
--- config
location / { set $redis_key k; redis_pass 127.0.0.1:1985; }
--- tcp_listen: 1985
--- tcp_query_len: 43
--- tcp_reply eval: "+OK\r\n\$99999999999999999999\r\nx"
--- request
GET /
--- error_code: 502
--- error_log
redis sent invalid length in response

=== a value that ends otherwise is cut off
--- config
location / { set $redis_key k; redis_pass 127.0.0.1:1985; }
--- tcp_listen: 1985
--- tcp_query_len: 43
--- tcp_reply eval: "+OK\r\n\$3\r\nabcde"
--- request
GET /
--- ignore_response
--- error_log
redis sent invalid trailer

=== nobody there
--- config
location / { set $redis_key k; redis_pass 127.0.0.1:1; }
--- request
GET /
--- error_code: 502
--- error_log
connect() failed (111: Connection refused) while connecting to upstream

=== nobody answers
--- config
location / { set $redis_key k; redis_read_timeout 100ms; redis_pass 127.0.0.1:1985; }
--- tcp_listen: 1985
--- tcp_query_len: 43
--- tcp_reply_delay: 2s
--- tcp_reply eval: "+OK\r\n"
--- request
GET /
--- error_code: 504
--- error_log
upstream timed out (110: Connection timed out) while reading response header from upstream
