# Access logs: formats, conditions, escaping, places.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== the combined format
--- http_config
access_log logs/access.log combined;
--- config
location / { return 200 "hello"; }
--- more_headers
Referer: http://from.example/
User-Agent: tester/1.0
--- request
GET /x?a=1
--- access_log eval
qr{^127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /x\?a=1 HTTP/1\.1" 200 5 "http://from\.example/" "tester/1\.0"$}
--- response_body chomp
hello

=== a format of one's own
--- http_config
log_format own '$status|$request_method|$uri|$args|$body_bytes_sent|$http_x_y';
access_log logs/access.log own;
--- config
location / { return 200 "hello"; }
--- more_headers
X-Y: z
--- request
GET /x?a=1
--- access_log
200|GET|/x|a=1|5|z
--- response_body chomp
hello

=== an empty variable is a dash
--- http_config
log_format own '[$http_none] [$remote_user] [$args]';
access_log logs/access.log own;
--- config
location / { return 200 "hello"; }
--- request
GET /
--- access_log
[-] [-] [-]
--- response_body chomp
hello

=== escaping
--- http_config
log_format default '1 $arg_a';
log_format json escape=json '2 $arg_a $http_x';
log_format none escape=none '3 $arg_a $http_x';
log_format raw '4 $http_x';
access_log logs/access.log default;
access_log logs/access.log json;
access_log logs/access.log none;
access_log logs/access.log raw;
--- config
location / { return 200 ""; }
--- more_headers eval
"X: a\"b\\c\td\xe4"
--- request
GET /?a=1%222
--- access_log eval
["1 1%222", "2 1%222 a\\\"b\\\\c\\td\xe4", "3 1%222 a\"b\\c\td\xe4", "4 a\\x22b\\x5Cc\\x09d\\xE4"]
--- response_body

=== a condition
--- config
access_log logs/access.log combined if=$arg_log;
location / { return 200 ""; }
--- request eval
["GET /no", "GET /zero?log=0", "GET /yes?log=1"]
--- no_access_log eval
["/no", "/zero"]
--- response_body eval
["", "", ""]

=== access_log off
--- config
location /off { access_log off; return 200 ""; }
location /on { return 200 ""; }
--- request eval
["GET /off", "GET /on"]
--- no_access_log
/off
--- response_body eval
["", ""]

=== a location's logs replace those outside
--- http_config
log_format inner 'inner $uri';
--- config
access_log logs/access.log combined;
location / { access_log logs/access.log inner; return 200 ""; }
--- request
GET /x
--- access_log
inner /x
--- no_access_log
GET /x
--- response_body

=== a buffered log is written when the server stops
--- http_config
log_format own 'buffered $uri';
access_log logs/error.log own buffer=64k;
--- config
location / { return 200 ""; }
--- request
GET /x
--- response_body
--- no_error_log
buffered /x
--- shutdown_error_log
buffered /x

=== flush takes care of a buffered log
--- http_config
log_format own 'buffered $uri';
access_log logs/access.log own buffer=64k flush=50ms;
--- config
location / { return 200 ""; }
--- request
GET /x
--- response_body
--- wait: 0.2
--- access_log
buffered /x

=== a file named by a variable
--- http_config
log_format own 'var $uri';
access_log $TEST_NGINX_HTML_DIR/$host.log own;
--- config
location / { return 200 ""; }
location /logs/ { alias $TEST_NGINX_HTML_DIR/; access_log off; }
--- more_headers
Host: some.example
--- request eval
["GET /x", "GET /logs/some.example.log"]
--- response_body eval
["", "var /x\n"]

=== log_subrequest
--- http_config
log_format own 'sub $uri';
access_log logs/access.log own;
--- config
log_subrequest on;
location / { auth_request /auth; try_files /f.txt =404; }
location = /auth { return 204; }
--- user_files
>>> f.txt
x
--- request
GET /x
--- access_log
sub /auth
--- response_body
x

=== no subrequests otherwise
--- http_config
log_format own 'sub $uri';
access_log logs/access.log own;
--- config
location / { auth_request /auth; try_files /f.txt =404; }
location = /auth { return 204; }
--- user_files
>>> f.txt
x
--- request
GET /x
--- no_access_log
sub /auth
--- response_body
x

=== $request_time, $msec, $pipe, $connection_requests
--- http_config
log_format own 'T $request_time $msec $pipe $connection_requests $request_length $bytes_sent';
access_log logs/access.log own;
--- config
location / { return 200 ""; }
--- raw_request eval
"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
--- ignore_response
--- error_log eval
qr/./

=== an unknown format is refused
--- config
access_log logs/access.log nonesuch;
--- must_die
--- error_log
unknown log format "nonesuch"

=== a format twice is refused
--- http_config
log_format a x;
log_format a y;
--- config
--- must_die
--- error_log
duplicate "log_format" name "a"

=== the error log has a level
--- log_level: error
--- config
location / { return 200 ""; }
--- request
GET /
--- response_body
--- no_error_log
[notice]
[info]
[debug]
