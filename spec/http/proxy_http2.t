# Requests passed on over HTTP/2.
use Test::Nginx::Socket 'no_plan';
no_root_location();
our $Back = <<'EOC';
upstream back { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; keepalive 4; }
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    http2 on;
    client_max_body_size 10m;
    location / { return 200 "$server_protocol|$request_method|$http_host|$request_uri|$http_connection|$http_x_own|$connection_requests"; }
    location /echo { echo_read_request_body; echo_request_body; }
    location /trailer { add_trailer X-T "t$arg_t"; return 200 body; }
    location /204 { return 204; }
    location /200 { return 200; }
    location /404 { return 404; }
}
EOC
run_tests();

__DATA__

=== a request, its fields, and the connection used again
--- http_config eval: $::Back
--- config
location / {
    proxy_pass http://back;
    proxy_http_version 2;
    proxy_set_header Connection close;
    proxy_set_header X-Own "own $arg_a";
}
--- request eval
["GET /x%20y?a=1", "DELETE /", "GET /"]
--- response_body eval
["HTTP/2.0|GET|back|/x%20y?a=1||own 1|1", "HTTP/2.0|DELETE|back|/||own|2", "HTTP/2.0|GET|back|/||own|3"]

=== bodies of every size, buffered and not
--- http_config eval: $::Back
--- config

location /on { proxy_pass http://back/echo; proxy_http_version 2; }
location /off {
    proxy_pass http://back/echo;
    proxy_http_version 2;
    proxy_request_buffering off;
    proxy_buffering off;
}
--- request eval
["POST /on\nhello", "POST /on\n" . ("x" x 300000), "POST /off\nhello", "POST /off\n" . ("y" x 300000)]
--- response_body eval
["hello", "x" x 300000, "hello", "y" x 300000]

=== a body of the configuration's own
--- http_config eval: $::Back
--- config
location / { proxy_pass http://back/echo; proxy_http_version 2; proxy_set_body "own $arg_a"; proxy_method POST; }
--- request
GET /?a=b
--- response_body: own b

=== trailers
--- http_config eval: $::Back
--- config
location / {
    proxy_pass http://back;
    proxy_http_version 2;
    proxy_pass_trailers on;
    add_trailer X-Seen $upstream_trailer_x_t;
}
--- request
GET /trailer?t=1
--- raw_response_headers_like: Transfer-Encoding: chunked
--- response_body: body

=== statuses without bodies
--- http_config eval: $::Back
--- config
location / { proxy_pass http://back; proxy_http_version 2; }
--- request eval
["GET /204", "HEAD /200", "GET /404"]
--- error_code eval
[204, 200, 404]

=== a server that does not speak it
--- http_config
upstream old { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
--- config
location / { proxy_pass http://old; proxy_http_version 2; }
--- request
GET /
--- error_code: 502
--- error_log
while reading response header from upstream
