# HTTP/2 on cleartext, with clients that know in advance.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== a request and its variables
--- config
location /t { return 200 "$http2 $server_protocol $request_uri $host\n"; }
--- http2
--- request
GET /t?a=b
--- response_body_like: ^h2c HTTP/2\.0 /t\?a=b \S+$

=== HTTP/1 on the same socket
--- config
http2 on;
location /t { return 200 "[$http2] $server_protocol\n"; }
--- request
GET /t
--- response_body
[] HTTP/1.1

=== a body both ways
--- config
location /t {
    echo_read_request_body;
    echo_request_body;
}
--- http2
--- request eval
"POST /t\n" . ("x" x 12000)
--- response_body eval
"x" x 12000

=== a large file
--- config
location /files/ { }
--- user_files eval
[["files/big" => "0123456789" x 30000]]
--- http2
--- request
GET /files/big
--- response_body eval
"0123456789" x 30000

=== fields of the response, without those of HTTP/1 connections
--- config
location /t {
    add_header X-One 1;
    add_header X-One 2;
    return 204;
}
--- http2
--- request
GET /t
--- error_code: 204
--- response_headers
! Connection
! Transfer-Encoding
--- raw_response_headers_like: (?i)x-one: 1\r?\nx-one: 2

=== a status of the engine's own
--- config
location /t { deny all; }
--- http2
--- request
GET /t
--- error_code: 403
--- response_body_like: 403 Forbidden

=== chunks of no size
--- config
http2_chunk_size 0;
--- must_die
--- error_log
the http2 chunk size cannot be zero

=== TRACE is not allowed, as over HTTP/1
--- config
location /t { return 200 ok; }
--- http2
--- request
TRACE /t
--- error_code: 405

=== requests beside WebSockets (those are in the test kit: no common client opens them)
--- config
http2_websocket on;
location /t { return 200 "$http2 [$http_upgrade]\n"; }
--- http2
--- request
GET /t
--- response_body
h2c []

=== a field that must not stand twice
--- config
location /t { return 200 "$http_if_match\n"; }
--- http2
--- request
GET /t
--- more_headers
If-Match: "a"
If-Match: "b"
--- error_code: 400
--- error_log
client sent duplicate header line

=== a field that may
--- config
location /t { return 200 "$http_x_twice\n"; }
--- http2
--- request
GET /t
--- more_headers
X-Twice: a
X-Twice: b
--- response_body
a, b
