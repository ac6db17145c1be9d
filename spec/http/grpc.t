# `grpc`: requests passed on over HTTP/2, trailers and all.
use Test::Nginx::Socket 'no_plan';
no_root_location();
our $Back = <<'EOC';
upstream back { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; keepalive 4; }
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    http2 on;
    location / {
        add_trailer grpc-status 0;
        add_header Server-Own x;
        return 200 "$server_protocol|$request_method|$http_host|$request_uri|$http_te|$http_x_own|$http_content_length";
    }
    location /echo { echo_read_request_body; echo_request_body; }
    location /fails { return 503; }
}
EOC
run_tests();

__DATA__

=== a call
--- http_config eval: $::Back
--- config
location / { grpc_pass back; grpc_set_header X-Own "own $arg_a"; add_header X-Status "$upstream_status $upstream_http_server_own"; }
--- request
GET /pkg.Service/Method?a=1
--- more_headers
TE: trailers
--- response_body: HTTP/2.0|GET|back|/pkg.Service/Method?a=1|trailers|own 1|
--- response_headers
X-Status: 200 x

=== another authority, and none of trailers
--- http_config eval: $::Back
--- config
location / { grpc_pass grpc://back; grpc_set_header Host other.example; }
--- request
GET /
--- response_body: HTTP/2.0|GET|other.example|/|||

=== a body both ways
--- http_config eval: $::Back
--- config
location / { grpc_pass grpc://back; }
--- request eval
["POST /echo\nhello", "POST /echo\n" . ("x" x 200000)]
--- response_body eval
["hello", "x" x 200000]

=== addresses with variables
--- http_config eval: $::Back
--- config
location / { grpc_pass $arg_to; }
--- request eval
["GET /?to=back", "GET /?to=grpc://back", "GET /?to=grpc://"]
--- error_code eval
[200, 200, 500]

=== errors can be answered here
--- http_config eval: $::Back
--- config
location / {
    grpc_pass back;
    grpc_intercept_errors on;
    error_page 503 = @own;
}
location @own { default_type application/grpc; add_header grpc-status 14; return 204; }
--- request
GET /fails
--- error_code: 204
--- response_headers
grpc-status: 14

=== the answer's fields may be hidden
--- http_config eval: $::Back
--- config
location / { grpc_pass back; grpc_hide_header Server-Own; }
--- request
GET /
--- response_headers
! Server-Own

=== nobody is there
--- config
location / { grpc_pass 127.0.0.1:1; }
--- request
GET /
--- error_code: 502
--- error_log
upstream: "grpc://127.0.0.1:1"

=== directives that nginx does not have
--- config
location / { grpc_pass 127.0.0.1:1; grpc_send_lowat 1; }
--- must_die
--- error_log
unknown directive "grpc_send_lowat"
