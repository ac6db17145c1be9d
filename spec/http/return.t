# Answers without content of their own: `return` with codes, texts and addresses.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== a code and a text
--- config
location / { return 200 "hello"; }
--- request
GET /
--- response_body chomp
hello
--- response_headers
Content-Type: text/plain
Content-Length: 5

=== a text takes the location's default type
--- config
location / { default_type application/json; return 201 "{}"; }
--- request
GET /
--- error_code: 201
--- response_body chomp
{}
--- response_headers
Content-Type: application/json

=== a text with variables
--- config
location / { return 200 "$request_method $uri $arg_a\n"; }
--- request
GET /x/y?a=1&b=2
--- response_body
GET /x/y 1

=== an empty text
--- config
location / { return 200 ""; }
--- request
GET /
--- response_body
--- response_headers
Content-Length: 0
Content-Type: text/plain

=== a code without a text has the code's page
--- config
location / { return 403; }
--- request
GET /
--- error_code: 403
--- response_body_like: <center><h1>403 Forbidden</h1></center>
--- response_headers
Content-Type: text/html

=== 204 has neither a page nor a length
--- config
location / { return 204; }
--- request
GET /
--- error_code: 204
--- response_body
--- response_headers
!Content-Type
!Content-Length

=== codes that HTTP does not name
--- config
location /a { return 299; }
location /b { return 499; }
location /c { return 599 "five"; }
--- request eval
["GET /a", "GET /c"]
--- error_code eval
[299, 599]

=== 444 closes the connection without an answer
--- config
location / { return 444; }
--- request
GET /
--- ignore_response
--- access_log
" 444 0 

=== an address alone means 302
--- config
location / { return http://example.com/there; }
--- request
GET /
--- error_code: 302
--- response_headers
Location: http://example.com/there
--- response_body_like: 302 Found

=== redirects with their codes
--- config
location ~ ^/(30.)$ { return 404; }
location = /301 { return 301 /there; }
location = /302 { return 302 /there; }
location = /303 { return 303 /there; }
location = /307 { return 307 /there; }
location = /308 { return 308 /there; }
--- request eval
["GET /301", "GET /302", "GET /303", "GET /307", "GET /308"]
--- error_code eval
[301, 302, 303, 307, 308]
--- response_headers eval
[("Location: http://localhost:$ENV{TEST_NGINX_SERVER_PORT}/there") x 5]

=== a relative redirect with absolute_redirect off
--- config
absolute_redirect off;
location / { return 301 /there?$args; }
--- request
GET /?a=1
--- error_code: 301
--- response_headers
Location: /there?a=1

=== port_in_redirect and server_name_in_redirect
--- config
port_in_redirect off;
location /a { return 301 /there; }
location /b { server_name_in_redirect on; return 301 /there; }
--- more_headers
Host: asked.example
--- request eval
["GET /a", "GET /b"]
--- error_code eval
[301, 301]
--- response_headers eval
["Location: http://asked.example/there", "Location: http://localhost/there"]

=== HEAD has the head only
--- config
location / { return 200 "hello"; }
--- request
HEAD /
--- response_body
--- response_headers
Content-Length: 5

=== return in a server answers every request
--- http_config
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; return 200 "other"; }
--- config
return 200 "server";
location / { return 200 "location"; }
--- request
GET /any
--- response_body chomp
server

=== POST is answered as well, its body discarded
--- config
location / { return 200 "$request_method $content_length"; }
--- request
POST /
some body
--- response_body chomp
POST 9

=== a body follows a return on one connection
--- config
location / { return 200 "$request_method "; }
--- pipelined_requests eval
["POST /\nabc", "GET /", "PUT /\nlonger body here", "GET /"]
--- response_body eval
["POST ", "GET ", "PUT ", "GET "]

=== what follows a return is not run
--- config
location / { set $a 1; return 200 "a=$a"; set $a 2; }
--- request
GET /
--- response_body chomp
a=1

=== an invalid code is refused
--- config
location / { return 1000; }
--- must_die
--- error_log
invalid return code "1000"

=== too many arguments are refused
--- config
location / { return 200 a b; }
--- must_die
--- error_log
invalid number of arguments in "return" directive
