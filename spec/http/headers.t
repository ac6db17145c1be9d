# Header fields of answers: `add_header`, `add_trailer`, `expires`.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== add_header
--- config
add_header X-One 1;
add_header X-Two "$uri two";
location / { return 200 "x"; }
--- request
GET /p
--- response_headers
X-One: 1
X-Two: /p two

=== only on some codes, unless always
--- config
add_header X-Some 1;
add_header X-All 1 always;
location /404 { return 404; }
location /304 { return 304; }
location /204 { return 204; }
location /206 { return 206 "x"; }
location /301 { return 301 /; }
location /308 { return 308 /; }
location /500 { return 500; }
--- request eval
["GET /404", "GET /304", "GET /204", "GET /206", "GET /301", "GET /308", "GET /500"]
--- error_code eval
[404, 304, 204, 206, 301, 308, 500]
--- response_headers eval
["!X-Some\nX-All: 1", ("X-Some: 1\nX-All: 1") x 5, "!X-Some\nX-All: 1"]

=== inherited as a whole
--- config
add_header X-Outer 1;
location /a { add_header X-Inner 1; return 200 ""; }
location /b { return 200 ""; }
--- request eval
["GET /a", "GET /b"]
--- response_headers eval
["X-Inner: 1\n!X-Outer", "X-Outer: 1\n!X-Inner"]

=== an empty value adds nothing
--- config
add_header X-Empty $arg_a;
location / { return 200 ""; }
--- request eval
["GET /", "GET /?a=1"]
--- response_headers eval
["!X-Empty", "X-Empty: 1"]

=== the same name twice
--- config
add_header Set-Cookie a=1;
add_header Set-Cookie b=2;
location / { return 200 ""; }
--- request
GET /
--- raw_response_headers_like eval
qr/Set-Cookie: a=1\r\n.*Set-Cookie: b=2\r\n/s

=== fields the server knows
--- config
add_header Last-Modified "Fri, 01 Jan 2010 00:00:00 GMT";
add_header Cache-Control private;
add_header ETag '"x"';
location / { return 200 ""; }
--- request
GET /
--- response_headers
Last-Modified: Fri, 01 Jan 2010 00:00:00 GMT
Cache-Control: private
ETag: "x"

=== an empty Last-Modified takes the field away
--- config
add_header Last-Modified "";
--- user_files
>>> f.txt
x
--- request
GET /f.txt
--- response_headers
!Last-Modified

=== expires
--- config
location /e { expires epoch; return 200 ""; }
location /m { expires max; return 200 ""; }
location /o { expires off; return 200 ""; }
location /n { expires -1; return 200 ""; }
location /h { expires 1h; return 200 ""; }
location /z { expires 0; return 200 ""; }
--- request eval
["GET /e", "GET /m", "GET /o", "GET /n", "GET /h", "GET /z"]
--- response_headers eval
["Expires: Thu, 01 Jan 1970 00:00:01 GMT\nCache-Control: no-cache",
 "Expires: Thu, 31 Dec 2037 23:55:55 GMT\nCache-Control: max-age=315360000",
 "!Expires\n!Cache-Control",
 "Cache-Control: no-cache", "Cache-Control: max-age=3600", "Cache-Control: max-age=0"]

=== expires modified
--- config
expires modified 1d;
--- user_files
>>> f.txt 201001010000.00
x
--- request
GET /f.txt
--- response_headers
Expires: Sat, 02 Jan 2010 00:00:00 GMT

=== expires by a variable
--- http_config
map $sent_http_content_type $when { default off; text/css 1d; }
types { text/css css; }
--- config
expires $when;
--- user_files
>>> f.css
x
>>> f.txt
x
--- request eval
["GET /f.css", "GET /f.txt"]
--- response_headers eval
["Cache-Control: max-age=86400", "!Cache-Control"]

=== expires only on some codes
--- config
location / { expires 1h; return 404; }
--- request
GET /
--- error_code: 404
--- response_headers
!Expires

=== add_trailer
--- config
add_trailer X-End "$uri";
chunked_transfer_encoding on;
location / { return 200 "body"; }
--- request
GET /t
--- raw_request eval
"GET /t HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTE: trailers\r\n\r\n"
--- http09
--- response_body_like eval
qr/Transfer-Encoding: chunked\r\n.*\r\n\r\n4\r\nbody\r\n0\r\nX-End: \/t\r\n\r\n$/s

=== Server and Date are always there
--- config
location / { return 200 ""; }
--- request
GET /
--- response_headers_like
Server: [\w/.]+
Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT

=== expires with a wrong time is refused
--- config
expires soon;
--- must_die
--- error_log
"expires" directive invalid value

=== add_header_inherit
--- config
add_header X-Out out;
location /merge/ { add_header X-In in; add_header_inherit merge; return 200; }
location /on/ { add_header X-In in; return 200; }
location /off/ { add_header_inherit off; return 200; }
location /none/ { return 200; }
--- request eval
["GET /merge/", "GET /on/", "GET /off/", "GET /none/"]
--- response_headers eval
["X-Out: out\nX-In: in", "!X-Out\nX-In: in", "!X-Out\n!X-In", "X-Out: out\n!X-In"]
--- skip_nginx
2: < 1.29.3
