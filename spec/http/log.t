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

=== the format is combined unless another is named
--- config
access_log logs/access.log;
location / { return 200 "hello"; }
--- request
GET /x
--- access_log eval
qr{^127\.0\.0\.1 - - \[[^]]+\] "GET /x HTTP/1\.1" 200 5 "-" "-"$}
--- response_body chomp
hello

=== names in braces, texts in several words
--- http_config
log_format own '${status}x' '-' "$request_method" y ' ${arg_a}$arg_b';
access_log logs/access.log own;
--- config
location / { return 200 ""; }
--- request
GET /x?a=1&b=2
--- access_log
200x-GETy 12
--- response_body

=== several logs of one place
--- http_config
log_format one 'one $uri';
log_format two 'two $uri';
--- config
access_log logs/access.log one;
access_log logs/access.log two;
location / { return 200 ""; }
--- request
GET /x
--- access_log
one /x
two /x
--- response_body

=== a log of an if
--- http_config
log_format outer 'outer $uri';
log_format inner 'inner $uri';
--- config
access_log logs/access.log outer;
location / { if ($arg_a) { access_log logs/access.log inner; } return 200 ""; }
--- request
GET /if?a=1
--- access_log
inner /if
--- no_access_log
outer
--- response_body

=== a log of limit_except
--- http_config
log_format outer 'outer $uri';
log_format inner 'inner $uri $status';
--- config
access_log logs/access.log outer;
location / { limit_except GET { access_log logs/access.log inner; } }
--- request
PUT /x
--- error_code: 405
--- access_log
inner /x 405
--- no_access_log
outer

=== a request is logged where it ends
--- http_config
log_format first 'first $uri $status';
log_format second 'second $uri $status $request_uri';
--- config
error_page 404 /error;
location / { access_log logs/access.log first; return 404; }
location = /error { access_log logs/access.log second; return 200 "sorry"; }
--- request
GET /x
--- error_code: 404
--- access_log
second /error 404 /x
--- no_access_log
first
--- response_body chomp
sorry

=== off needs no more words
--- config
access_log off combined;
--- must_die
--- error_log
invalid parameter "combined"

=== flush needs a buffer
--- config
access_log logs/access.log combined flush=1s;
--- must_die
--- error_log
no buffer is defined for access_log "logs/access.log"

=== a buffer needs a fixed name
--- config
access_log logs/$host.log combined buffer=4k;
--- must_die
--- error_log
buffered logs cannot have variables in name

=== a buffer needs a file
--- config
access_log syslog:server=127.0.0.1 combined buffer=4k;
--- must_die
--- error_log
logs to syslog cannot be buffered

=== one file has one buffer
--- config
access_log logs/access.log combined buffer=4k;
location / { access_log logs/access.log combined buffer=8k; }
--- must_die
--- error_log
access_log "logs/access.log" already defined with conflicting parameters

=== sizes, times and levels are checked
--- config
access_log logs/access.log combined buffer=0;
--- must_die
--- error_log
invalid buffer size "0"

=== a compression level
--- config
access_log logs/access.log combined gzip=10;
--- must_die
--- error_log
invalid compression level "10"

=== a time to flush
--- config
access_log logs/access.log combined buffer=1k flush=x;
--- must_die
--- error_log
invalid flush time "x"

=== parameters are known
--- config
access_log logs/access.log combined buffers=1k;
--- must_die
--- error_log
invalid parameter "buffers=1k"

=== ways of escaping are known
--- http_config
log_format own escape=xml '$uri';
--- config
--- must_die
--- error_log
unknown log format escaping "xml"

=== a variable that does not exist
--- http_config
log_format own '$nonesuch';
--- config
access_log logs/access.log own;
--- must_die
--- error_log
unknown "nonesuch" variable

=== the cache of open logs needs a size
--- config
open_log_file_cache inactive=10s;
--- must_die
--- error_log
"open_log_file_cache" must have "max" parameter

=== parameters of the cache are known
--- config
open_log_file_cache max=10 size=1;
--- must_die
--- error_log
invalid "open_log_file_cache" parameter "size=1"

=== syslog parameters are known
--- config
access_log syslog:server=127.0.0.1,color=red;
--- must_die
--- error_log
unknown syslog parameter "color=red"

=== a syslog server is needed
--- config
access_log syslog:facility=user;
--- must_die
--- error_log
no syslog server specified

=== levels of the error log are known
--- config
error_log logs/error.log verbose;
--- must_die
--- error_log
invalid log level "verbose"

=== an error line has its context
--- config
location / { root $TEST_NGINX_HTML_DIR; }
--- more_headers
Referer: http://from.example/
--- request
GET /missing?x
--- error_code: 404
--- error_log eval
qr{\[error\] \d+#\d+: \*\d+ open\(\) "\S+/missing" failed \(2: No such file or directory\), client: 127\.0\.0\.1, server: localhost, request: "GET /missing\?x HTTP/1\.1", host: "localhost", referrer: "http://from\.example/"$}
