# Limits: `limit_req`, `limit_conn`, `limit_rate`, sizes of bodies and heads.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== limit_req rejects what exceeds the burst
--- http_config
limit_req_zone $arg_key zone=one:1m rate=1r/m;
--- config
location / { limit_req zone=one burst=1 nodelay; empty_gif; }
--- request eval
["GET /?key=a", "GET /?key=a", "GET /?key=a", "GET /?key=b"]
--- error_code eval
[200, 200, 503, 200]
--- response_body_like eval
["GIF89a", "GIF89a", "503 Service", "GIF89a"]

=== limit_req says so in the log
--- http_config
limit_req_zone $binary_remote_addr zone=one:1m rate=1r/m;
--- config
location / { limit_req zone=one; empty_gif; }
--- raw_request eval
"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\nGET /b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
--- ignore_response
--- error_log eval
qr/\[error\] .*limiting requests, excess: (?:1\.000|0\.99\d) by zone "one", client: 127\.0\.0\.1, server: localhost, request: "GET \/b HTTP\/1\.1", host: "localhost"/

=== limit_req and the pages for its errors
--- http_config
limit_req_zone $binary_remote_addr zone=one:1m rate=1r/m;
--- config
location /a { limit_req zone=one; empty_gif; }
location / { limit_req zone=one; error_page 503 =200 /limited; }
location = /limited { return 200 "limited"; }
--- request eval
["GET /a", "GET /x"]
--- response_body eval
[qr/GIF/, "limited"]

=== limit_req_status and limit_req_log_level
--- http_config
limit_req_zone $arg_key zone=one:1m rate=1r/m;
--- config
limit_req_status 429;
limit_req_log_level warn;
location / { limit_req zone=one; empty_gif; }
--- request eval
["GET /?key=a", "GET /?key=a"]
--- error_code eval
[200, 429]

=== an empty key is not limited
--- http_config
limit_req_zone $arg_key zone=one:1m rate=1r/m;
--- config
location / { limit_req zone=one; empty_gif; }
--- request eval
["GET /", "GET /", "GET /"]
--- error_code eval
[200, 200, 200]

=== a delayed request waits
--- http_config
limit_req_zone $arg_key zone=one:1m rate=4r/s;
--- config
location / { limit_req zone=one burst=10; empty_gif; add_header X-Limit $limit_req_status; }
--- request eval
["GET /?key=a", "GET /?key=a", "GET /?key=a"]
--- response_headers eval
["X-Limit: PASSED", "X-Limit: DELAYED", "X-Limit: DELAYED"]
--- response_body_like eval
["GIF", "GIF", "GIF"]

=== limit_req_dry_run
--- http_config
limit_req_zone $arg_key zone=one:1m rate=1r/m;
--- config
location / { limit_req zone=one; limit_req_dry_run on; empty_gif; add_header X-Limit $limit_req_status; }
--- request eval
["GET /?key=a", "GET /?key=a"]
--- response_headers eval
["X-Limit: PASSED", "X-Limit: REJECTED_DRY_RUN"]
--- error_code eval
[200, 200]

=== several limits apply together
--- http_config
limit_req_zone $arg_a zone=a:1m rate=1r/m;
limit_req_zone $arg_b zone=b:1m rate=1r/m;
--- config
location / { limit_req zone=a; limit_req zone=b burst=5 nodelay; empty_gif; }
--- request eval
["GET /?a=1&b=1", "GET /?a=2&b=1", "GET /?a=1&b=2"]
--- error_code eval
[200, 200, 503]

=== an unknown zone is refused
--- config
location / { limit_req zone=none; }
--- must_die
--- error_log
zero size shared memory zone "none"

=== a rate that is no number is refused
--- http_config
limit_req_zone $arg_a zone=a:1m rate=fastr/s;
--- config
--- must_die
--- error_log
invalid rate "rate=fastr/s"

=== a zone that is too small is refused
--- http_config
limit_req_zone $arg_a zone=a:1k rate=5r/s;
--- config
--- must_die
--- error_log
zone "zone=a:1k" is too small

=== limit_conn counts while a request is served
--- http_config
limit_conn_zone $arg_key zone=one:1m;
--- config
location / { limit_conn one 1; add_header X-Limit $limit_conn_status; empty_gif; }
--- request eval
["GET /?key=a", "GET /?key=a", "GET /"]
--- response_headers eval
["X-Limit: PASSED", "X-Limit: PASSED", "X-Limit: "]
--- error_code eval
[200, 200, 200]

=== limit_conn: an unknown zone is refused
--- config
limit_conn none 1;
--- must_die
--- error_log
zero size shared memory zone "none"

=== client_max_body_size
--- config
location / { client_max_body_size 5; error_page 405 =200 /ok; }
location = /ok { return 200 "ok"; }
--- request eval
["POST /\n12345", "POST /\n123456"]
--- error_code eval
[200, 413]

=== client_max_body_size is logged
--- config
location / { client_max_body_size 5; }
--- request
POST /
123456
--- error_code: 413
--- error_log
client intended to send too large body: 6 bytes
--- response_body_like: 413 Request Entity Too Large

=== a request line that is too long
--- http_config
client_header_buffer_size 128;
large_client_header_buffers 2 512;
--- config
location / { return 200 "ok"; }
--- request eval
["GET /" . ("x" x 100), "GET /" . ("x" x 600)]
--- error_code eval
[200, 414]

=== header fields that are too long
--- http_config
client_header_buffer_size 128;
large_client_header_buffers 2 512;
--- config
location / { return 200 "ok"; }
--- more_headers eval
["X: " . ("x" x 200), "X: " . ("x" x 600)]
--- request eval
["GET /", "GET /"]
--- error_code eval
[200, 400]
--- response_body_like eval
["ok", "Request Header Or Cookie Too Large"]

=== limit_rate
--- config
location / { limit_rate 100k; }
--- user_files eval
[["f.txt", "x" x 120000]]
--- request
GET /f.txt
--- response_body eval
"x" x 120000

=== limit_rate by a variable
--- config
location / { set $limit_rate 1000k; }
--- user_files eval
[["f.txt", "x" x 20000]]
--- request
GET /f.txt
--- response_body eval
"x" x 20000
