# What the core does by itself: internal locations, methods, bodies, refusals, types, names in redirects.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== an internal location is not there for clients
--- config
location /in { internal; return 200 "in"; }
location /rewritten { rewrite ^ /in last; }
location /paged { error_page 404 = /in; return 404; }
--- request eval
["GET /in", "GET /rewritten", "GET /paged"]
--- error_code eval
[404, 200, 200]

=== limit_except leaves rules to the methods it names
--- config
location /a { limit_except POST { deny all; } return 200 "$request_method"; }
--- request eval
["GET /a", "POST /a\nx", "FOO /a"]
--- error_code eval
[403, 200, 403]

=== limit_except GET lets HEAD pass
--- config
location /a { limit_except get { deny all; } return 200 "a"; }
--- request eval
["GET /a", "HEAD /a", "PUT /a\nx"]
--- error_code eval
[200, 200, 403]

=== limit_except knows no other methods
--- config
location / { limit_except FOO { deny all; } }
--- must_die
--- error_log
invalid method "FOO"

=== satisfy any
--- config
location /none { satisfy any; deny all; return 404; }
location /a { satisfy any; deny all; auth_basic a; auth_basic_user_file $TEST_NGINX_HTML_DIR/users; }
location /b { satisfy any; allow all; auth_basic a; auth_basic_user_file $TEST_NGINX_HTML_DIR/users; }
--- user_files
>>> users
u:{PLAIN}p
>>> a
file a
>>> b
file b
--- request eval
["GET /a", "GET /b"]
--- error_code eval
[401, 200]

=== types and default_type
--- config
default_type text/by-default;
location / { types { text/one one; text/two two TWO.gz; } return 200 "x"; }
location /none { types { } return 200 "x"; }
--- request eval
["GET /a.one", "GET /a.TWO", "GET /a.b/c", "GET /.one", "GET /none.html"]
--- response_headers eval
["Content-Type: text/one", "Content-Type: text/two", "Content-Type: text/by-default",
 "Content-Type: text/by-default", "Content-Type: text/by-default"]

=== merge_slashes
--- config
location / { return 200 "$uri"; }
--- request
GET //a///b/./c/../d
--- response_body chomp
/a/b/d

=== merge_slashes off
--- config
merge_slashes off;
location / { return 200 "$uri"; }
--- request
GET //a///b/./c/../d
--- response_body chomp
//a///b/d

=== client_max_body_size
--- config
location /a { client_max_body_size 3; return 200 "a"; }
location /none { client_max_body_size 0; return 200 "none"; }
--- request eval
["POST /a\n123", "POST /a\n1234", "POST /none\n1234"]
--- error_code eval
[200, 413, 200]

=== a location with the path's own name comes before the one with a slash
--- config
location /a { return 200 "without"; }
location /a/ { return 200 "with"; }
--- request eval
["GET /a", "GET /a/", "GET /a/b", "GET /ab"]
--- response_body eval
["without", "with", "with", "without"]

=== a location of an expression's text
--- config
location ~ ^/x { location ^/xy { return 200 "inner"; } return 200 "$uri"; }
--- request
GET /xy
--- response_body chomp
/xy

=== an exact location has no locations inside
--- config
location = /a { location /a/b { } }
--- must_die
--- error_log
location "/a/b" cannot be inside the exact location "/a"

=== a name with an asterisk inside is refused where names decide
--- http_config
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server_name a; }
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server_name b*c; }
--- config
--- must_die
--- error_log
invalid server name or wildcard "b*c" on 127.0.0.1:

=== a range of ports
--- config
listen 127.0.0.1:65535-65534;
--- must_die
--- error_log
invalid port range in "127.0.0.1:65535-65534" of the "listen" directive

=== names in redirects
--- config
server_name_in_redirect on;
port_in_redirect off;
location / { return 301 /x?$args; }
--- request
GET /?a=1
--- error_code: 301
--- response_headers
Location: http://localhost/x?a=1

=== post_action runs after the answer, and is what is logged
--- http_config
log_format action '$uri $request $status $request_completion';
--- config
location /a { post_action /after; return 200 "a"; }
location /after { access_log $TEST_NGINX_SERVROOT/logs/access.log action; return 200 "after"; }
--- request
GET /a
--- response_body chomp
a
--- access_log
/after GET /a HTTP/1.1 200 OK

=== an answer without a reason
--- error_code: 299
--- config
location / { return 299 "x"; }
--- raw_request eval
"GET / HTTP/1.0\r\n\r\n"
--- raw_response_headers_like: HTTP/1.1 299 \r\n

=== 204 has no type and no length, whatever was set
--- config
location / { default_type text/x; return 204 "text"; }
--- request
GET /
--- error_code: 204
--- response_headers
!Content-Type
!Content-Length

=== the path's error is 400, its line is logged
--- config
location / { return 200 "x"; }
--- raw_request eval
"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n"
--- error_code: 400
--- error_log
client sent invalid request
