# Variables of the core: what a request, a connection and a server are called.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== parts of the address
--- config
location / { return 200 "$request_uri|$uri|$document_uri|$args|$query_string|$is_args|$request"; }
--- request
GET /a%20b/../c?x=1&y=%41
--- response_body chomp
/a%20b/../c?x=1&y=%41|/c|/c|x=1&y=%41|x=1&y=%41|?|GET /a%20b/../c?x=1&y=%41 HTTP/1.1

=== without arguments
--- config
location / { return 200 "[$args][$is_args]"; }
--- request eval
["GET /", "GET /?"]
--- response_body eval
["[][]", "[][]"]

=== $arg_ finds names in any case, the first of several
--- config
location / { return 200 "[$arg_a][$arg_long_name][$arg_none]"; }
--- request
GET /?b=0&A=1&a=2&long_name=x%20y
--- response_body chomp
[1][x%20y][]

=== $args can be set
--- config
location / { set $args "a=9&$args"; return 200 "$args $arg_a"; }
--- request
GET /?b=1
--- response_body chomp
a=9&b=1 9

=== $http_ and the fields with names of their own
--- config
location / { return 200 "$http_user_agent|$http_referer|$http_x_own|$content_type|$content_length|$http_cookie"; }
--- more_headers
User-Agent: ua
Referer: ref
X-Own: own
Content-Type: a/b
Cookie: a=1
--- request
POST /
12345
--- response_body chomp
ua|ref|own|a/b|5|a=1

=== $http_ of a field that comes twice
--- config
location / { return 200 "$http_x_forwarded_for|$http_cookie"; }
--- more_headers
X-Forwarded-For: 1.1.1.1
X-Forwarded-For: 2.2.2.2
Cookie: a=1
Cookie: b=2
--- request
GET /
--- response_body chomp
1.1.1.1, 2.2.2.2|a=1; b=2

=== $cookie_
--- config
location / { return 200 "[$cookie_a][$cookie_B][$cookie_none][$cookie_c]"; }
--- more_headers
Cookie: a=1; b=two; c="q"
--- request
GET /
--- response_body chomp
[1][two][]["q"]

=== $host
--- config
server_name first.example;
location / { return 200 "$host|$http_host|$server_name"; }
--- more_headers eval
["Host: Some.EXAMPLE:8080", "Host: some.example."]
--- request eval
["GET /", "GET /"]
--- response_body eval
["some.example|Some.EXAMPLE:8080|localhost", "some.example|some.example.|localhost"]

=== $host without a Host is the server's name
--- config
location / { return 200 "$host"; }
--- raw_request eval
"GET / HTTP/1.0\r\n\r\n"
--- response_body chomp
localhost

=== the connection
--- config
location / { return 200 "$remote_addr|$server_addr|$server_port|$scheme|$https|$server_protocol|$connection_requests"; }
--- request
GET /
--- response_body eval
"127.0.0.1|127.0.0.1|$ENV{TEST_NGINX_SERVER_PORT}|http||HTTP/1.1|1"

=== $binary_remote_addr and $remote_port
--- config
location / { default_type text/x; return 200 "$binary_remote_addr|$remote_port"; }
--- request
GET /
--- response_body eval
qr/^\x7f\0\0\x01\|\d+$/

=== places of files
--- config
location /a/ { root /some/where; return 200 "$document_root|$request_filename"; }
location /b/ { alias /else/; return 200 "$document_root|$request_filename"; }
--- request eval
["GET /a/f", "GET /b/f"]
--- response_body eval
["/some/where|/some/where/a/f", "/else/|/else/f"]

=== $realpath_root
--- init
symlink "$ENV{TEST_NGINX_HTML_DIR}/real", "$ENV{TEST_NGINX_HTML_DIR}/link";
--- config
location / { root $TEST_NGINX_HTML_DIR/link; return 200 "$realpath_root"; }
--- user_files
>>> real/f
x
--- request
GET /
--- response_body eval
"$ENV{TEST_NGINX_HTML_DIR}/real"

=== times and ids
--- config
location / { return 200 "$msec|$time_iso8601|$time_local|$request_id|$pid|$nginx_version|$hostname"; }
--- request
GET /
--- response_body eval
qr{^\d+\.\d{3}\|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d\|\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\|[0-9a-f]{32}\|\d+\|1\.\d+\.\d+\|\S+$}

=== $sent_http_ in the log
--- http_config
log_format own 'sent $sent_http_content_type|$sent_http_content_length|$sent_http_x_own|$sent_http_location|$sent_http_connection|$status';
access_log logs/access.log own;
--- config
location / { add_header X-Own v; return 200 "12345"; }
--- request
GET /
--- access_log
sent text/plain|5|v|-|close|200
--- response_body chomp
12345

=== $request_completion
--- http_config
log_format own 'done [$request_completion]';
access_log logs/access.log own;
--- config
location / { return 200 "x"; }
--- request
GET /
--- access_log
done [OK]
--- response_body chomp
x

=== $request_method cannot be set
--- config
location / { set $request_method POST; }
--- must_die
--- error_log
the duplicate "request_method" variable

=== a dollar sign by a variable of one's own
--- http_config
geo $dollar { default "$"; }
--- config
location / { return 200 "${dollar}1"; }
--- request
GET /
--- response_body chomp
$1

=== captures of the last expression
--- config
location ~ ^/(\w)(\w)(\w)$ {
    set $loc "$1$2$3";
    if ($arg_a ~ (x)(y)) { return 200 "$loc $1$2[$3]"; }
    return 200 "no match";
}
--- request
GET /abc?a=xy
--- response_body chomp
abc xy[]
