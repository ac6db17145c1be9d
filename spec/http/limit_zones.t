# Limits by key, beyond the common cases.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== limit_req: the status is asked once for a request
--- http_config
limit_req_zone $arg_key zone=one:1m rate=1r/m;
--- config
location / { limit_req zone=one; error_page 404 /other; try_files /none =404; }
location = /other { limit_req zone=one; return 200 "$limit_req_status"; }
--- request
GET /?key=a
--- error_code: 404
--- response_body chomp
PASSED

=== limit_req: every zone counts or none
--- http_config
limit_req_zone $arg_a zone=a:1m rate=1r/m;
limit_req_zone $arg_b zone=b:1m rate=1r/m;
--- config
location / { limit_req zone=a burst=1 nodelay; limit_req zone=b; empty_gif; }
--- request eval
["GET /?a=1&b=1", "GET /?a=1&b=1", "GET /?a=1&b=2", "GET /?a=1&b=3"]
--- error_code eval
[200, 503, 200, 503]

=== limit_req: a key that is too long is not limited
--- http_config
large_client_header_buffers 4 128k;
limit_req_zone $http_x_a$http_x_a zone=one:1m rate=1r/m;
--- config
location / { limit_req zone=one; empty_gif; }
--- more_headers eval
"X-A: " . "a" x 40000
--- request eval
["GET /", "GET /"]
--- error_code eval
[200, 200]
--- error_log
the value of the "$http_x_a$http_x_a" key is more than 65535 bytes: "aaa

=== limit_req: the same zone twice is refused
--- http_config
limit_req_zone $arg_a zone=a:1m rate=1r/m;
--- config
limit_req zone=a;
limit_req zone=a burst=5;
--- must_die
--- error_log
"limit_req" directive is duplicate

=== limit_req_zone: the same zone twice is refused
--- http_config
limit_req_zone $arg_a zone=a:1m rate=1r/m;
limit_req_zone $arg_b zone=a:1m rate=1r/m;
--- config
--- must_die
--- error_log
limit_req_zone "a" is already bound to key "$arg_a"

=== limit_req_zone: another size is refused
--- http_config
limit_req_zone $arg_a zone=a:1m rate=1r/m;
limit_req_zone $arg_a zone=a:2m rate=1r/m;
--- config
--- must_die
--- error_log
the size 2097152 of shared memory zone "a" conflicts with already declared size 1048576

=== a zone belongs to one module
--- http_config
limit_req_zone $arg_a zone=a:1m rate=1r/m;
limit_conn_zone $arg_a zone=a:1m;
--- config
--- must_die
--- error_log
the shared memory zone "a" is already declared for a different use

=== limit_req: wrong parameters are refused
--- http_config
limit_req_zone $arg_a zone=a:1m rate=1r/m;
--- config
limit_req zone=a burst=0;
--- must_die
--- error_log
invalid burst value "burst=0"

=== limit_req without a zone is refused
--- config
limit_req burst=5;
--- must_die
--- error_log
"limit_req" must have "zone" parameter

=== limit_conn: too many is refused
--- http_config
limit_conn_zone $arg_a zone=a:1m;
--- config
limit_conn a 65536;
--- must_die
--- error_log
connection limit must be less 65536

=== limit_conn: no number is refused
--- http_config
limit_conn_zone $arg_a zone=a:1m;
--- config
limit_conn a many;
--- must_die
--- error_log
invalid number of connections "many"

=== limit_conn: a key that is too long is not limited
--- http_config
limit_conn_zone $http_x_a zone=one:1m;
--- config
location / { limit_conn one 1; add_header X-Limit "[$limit_conn_status]"; empty_gif; }
--- more_headers eval
"X-A: " . "a" x 300
--- request
GET /
--- response_headers
X-Limit: []
--- error_log
the value of the "$http_x_a" key is more than 255 bytes: "aaa
