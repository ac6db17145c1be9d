# Which server answers, and what a configuration is made of: `listen`, `server_name`, `include`, errors.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== names
--- http_config
server { listen $TEST_NGINX_SERVER_PORT; server_name one.example *.two.example three.*; return 200 "first"; }
server { listen $TEST_NGINX_SERVER_PORT; server_name ~^(?<sub>\w+)\.four\.example$; return 200 "fourth $sub"; }
server { listen $TEST_NGINX_SERVER_PORT; server_name .five.example; return 200 "fifth"; }
--- config
server_name localhost;
location / { return 200 "default"; }
--- more_headers eval
[map { "Host: $_" } qw(one.example ONE.example one.example:80 a.b.two.example two.example three.org x.four.example five.example a.five.example localhost)]
--- request eval
[("GET /") x 10]
--- response_body eval
["first", "first", "first", "first", "first", "first", "fourth x", "fifth", "fifth", "default"]

=== the first server is the default, unless another one says so
--- http_config
server { listen $TEST_NGINX_SERVER_PORT default_server; server_name a; return 200 "chosen"; }
--- config
location / { return 200 "main"; }
--- more_headers eval
["Host: unknown", "Host: localhost"]
--- request eval
["GET /", "GET /"]
--- response_body eval
["chosen", "main"]

=== an exact name before a wildcard before an expression
--- http_config
server { listen $TEST_NGINX_SERVER_PORT; server_name ~^www\.; return 200 "expression"; }
server { listen $TEST_NGINX_SERVER_PORT; server_name www.*; return 200 "right"; }
server { listen $TEST_NGINX_SERVER_PORT; server_name *.example; return 200 "left"; }
server { listen $TEST_NGINX_SERVER_PORT; server_name www.an.example; return 200 "exact"; }
--- config
location / { return 200 "main"; }
--- more_headers eval
[map { "Host: $_" } qw(www.an.example www.x.example www.org)]
--- request eval
[("GET /") x 3]
--- response_body eval
["exact", "left", "right"]

=== a name twice draws a warning
--- http_config
server { listen $TEST_NGINX_SERVER_PORT; server_name localhost; return 200 "second"; }
--- config
location / { return 200 "main"; }
--- request
GET /
--- response_body chomp
second
--- error_log eval
qr/\[warn\] .*conflicting server name "localhost" on 0\.0\.0\.0:\d+, ignored/

=== an address of its own
--- http_config
server { listen 127.0.0.1:$TEST_NGINX_SERVER_PORT; server_name x; return 200 "loopback"; }
--- config
location / { return 200 "any"; }
--- request
GET /
--- response_body chomp
loopback

=== two default servers are refused
--- http_config
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 default_server; }
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 default_server; }
--- config
--- must_die
--- error_log
a duplicate default server for 127.0.0.1:

=== the same address twice in a server is refused
--- http_config
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
--- config
--- must_die
--- error_log
a duplicate listen 127.0.0.1:

=== include
--- config
include $TEST_NGINX_HTML_DIR/*.inc;
--- user_files
>>> a.inc
location /a { return 200 "a"; }
>>> b.inc
location /b { return 200 "b"; }
--- request eval
["GET /a", "GET /b"]
--- response_body eval
["a", "b"]

=== a missing include is refused, a pattern without a match is not
--- config
include $TEST_NGINX_HTML_DIR/none*.inc;
include $TEST_NGINX_HTML_DIR/missing.inc;
--- must_die
--- error_log eval
qr{\[emerg\] .*open\(\) "\S+/missing.inc" failed \(2: No such file or directory\) in \S+/conf/nginx.conf:\d+}

=== an unknown directive
--- config
nonsense on;
--- must_die
--- error_log eval
qr{\[emerg\] \d+#\d+: unknown directive "nonsense" in \S+/conf/nginx\.conf:\d+}

=== a directive in the wrong place
--- config
worker_processes 2;
--- must_die
--- error_log
"worker_processes" directive is not allowed here in

=== a directive twice
--- config
root /a;
root /b;
--- must_die
--- error_log
"root" directive is duplicate in

=== too few arguments
--- config
root;
--- must_die
--- error_log
invalid number of arguments in "root" directive in

=== a flag that is none
--- config
sendfile maybe;
--- must_die
--- error_log
invalid value "maybe" in "sendfile" directive, it must be "on" or "off" in

=== a size, a time, a number that are none
--- config
client_body_buffer_size big;
--- must_die
--- error_log
"client_body_buffer_size" directive invalid value in

=== a word that is not in the list
--- config
satisfy some;
--- must_die
--- error_log
invalid value "some" in

=== a missing semicolon
--- config
root /a
}
--- must_die
--- error_log
unexpected "}" in

=== a missing brace
--- config
include $TEST_NGINX_HTML_DIR/open.inc;
--- user_files
>>> open.inc
location / {
    root /a;
--- must_die
--- error_log eval
qr{unexpected end of file, expecting "\}" in \S+/open\.inc:3}

=== quotes and escapes
--- config
location / { return 200 "a\"b'c\\d {;}#" ; } # a comment
location /s { return 200 'a"b\'c'; }
--- request eval
["GET /", "GET /s"]
--- response_body eval
["a\"b'c\\d {;}#", "a\"b'c"]

=== the error log says what a server was asked
--- config
error_log logs/error.log info;
location / { root $TEST_NGINX_HTML_DIR; }
--- more_headers
Referer: http://from.example/
--- request
GET /missing?a=1
--- error_code: 404
--- error_log eval
qr{^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[error\] \d+#\d+: \*\d+ open\(\) "\S+/missing" failed \(2: No such file or directory\), client: 127\.0\.0\.1, server: localhost, request: "GET /missing\?a=1 HTTP/1\.1", host: "localhost", referrer: "http://from\.example/"$}
