# Files: types, conditions on their date and tag, directories, what cannot be opened.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== a file with its type, length, date and tag
--- http_config
types { text/html html; text/css css; }
--- config
--- user_files
>>> a.css 201001010000.00
body{}
--- request
GET /a.css
--- response_body
body{}
--- response_headers
Content-Type: text/css
Content-Length: 7
Last-Modified: Fri, 01 Jan 2010 00:00:00 GMT
ETag: "4b3d3b00-7"
Accept-Ranges: bytes

=== an unknown extension has the default type
--- config
location / { default_type application/x-own; }
--- user_files
>>> a.none
x
--- request
GET /a.none
--- response_body
x
--- response_headers
Content-Type: application/x-own

=== types of a location replace those outside
--- http_config
types { text/css css; }
--- config
location /in/ { types { text/x-in css; } }
location /out/ { }
--- user_files
>>> in/a.css
1
>>> out/a.css
2
--- request eval
["GET /in/a.css", "GET /out/a.css"]
--- response_headers eval
["Content-Type: text/x-in", "Content-Type: text/css"]

=== extensions are found without regard to case
--- http_config
types { text/css css; }
--- config
--- user_files
>>> a.CSS
1
--- request
GET /a.CSS
--- response_body
1
--- response_headers
Content-Type: text/css

=== a missing file
--- config
--- request
GET /none.html
--- error_code: 404
--- response_body_like: 404 Not Found
--- error_log eval
qr{\[error\] .*open\(\) "\S+/html/none.html" failed \(2: No such file or directory\), client: 127.0.0.1, server: localhost, request: "GET /none.html HTTP/1.1", host: "localhost"}

=== log_not_found off
--- config
log_not_found off;
--- request
GET /none.html
--- error_code: 404
--- no_error_log
[error]

=== a file below a file
--- config
--- user_files
>>> f.txt
x
--- request
GET /f.txt/more
--- error_code: 404
--- error_log
(20: Not a directory)

=== a directory without its slash is redirected
--- config
--- user_files
>>> d/index.html
x
--- request
GET /d?a=1
--- error_code: 301
--- response_headers eval
"Location: http://localhost:$ENV{TEST_NGINX_SERVER_PORT}/d/?a=1"

=== POST to a file is not allowed
--- config
--- user_files
>>> f.txt
x
--- request
POST /f.txt
abc
--- error_code: 405
--- response_body_like: 405 Not Allowed

=== other methods are not allowed either
--- config
--- user_files
>>> f.txt
x
--- request eval
["DELETE /f.txt", "PUT /f.txt", "OPTIONS /f.txt"]
--- error_code eval
[405, 405, 405]

=== HEAD
--- config
--- user_files
>>> f.txt
12345
--- request
HEAD /f.txt
--- response_body
--- response_headers
Content-Length: 6
Accept-Ranges: bytes

=== an empty file
--- config
--- user_files
>>> empty.txt
--- request
GET /empty.txt
--- response_body
--- response_headers
Content-Length: 0

=== If-Modified-Since with the file's date
--- config
--- user_files
>>> f.txt 201001010000.00
x
--- request
GET /f.txt
--- more_headers
If-Modified-Since: Fri, 01 Jan 2010 00:00:00 GMT
--- error_code: 304
--- response_body
--- response_headers
!Content-Type
!Content-Length
ETag: "4b3d3b00-2"
Last-Modified: Fri, 01 Jan 2010 00:00:00 GMT

=== If-Modified-Since compares exactly by default
--- config
location /exact { alias $TEST_NGINX_HTML_DIR; }
location /before { alias $TEST_NGINX_HTML_DIR; if_modified_since before; }
location /off { alias $TEST_NGINX_HTML_DIR; if_modified_since off; }
--- user_files
>>> f.txt 201001010000.00
x
--- more_headers
If-Modified-Since: Sat, 02 Jan 2010 00:00:00 GMT
--- request eval
["GET /exact/f.txt", "GET /before/f.txt", "GET /off/f.txt"]
--- error_code eval
[200, 304, 200]

=== If-None-Match
--- config
--- user_files
>>> f.txt 201001010000.00
x
--- more_headers eval
['If-None-Match: "4b3d3b00-2"', 'If-None-Match: W/"4b3d3b00-2"', 'If-None-Match: "other"', 'If-None-Match: *', 'If-None-Match: "a", "4b3d3b00-2"']
--- request eval
[("GET /f.txt") x 5]
--- error_code eval
[304, 304, 200, 304, 304]

=== If-None-Match wins over If-Modified-Since
--- config
--- user_files
>>> f.txt 201001010000.00
x
--- more_headers
If-None-Match: "other"
If-Modified-Since: Fri, 01 Jan 2010 00:00:00 GMT
--- request
GET /f.txt
--- response_body
x

=== If-Match and If-Unmodified-Since
--- config
--- user_files
>>> f.txt 201001010000.00
x
--- more_headers eval
['If-Match: "4b3d3b00-2"', 'If-Match: "other"', 'If-Match: *', 'If-Unmodified-Since: Fri, 01 Jan 2010 00:00:00 GMT', 'If-Unmodified-Since: Thu, 31 Dec 2009 00:00:00 GMT']
--- request eval
[("GET /f.txt") x 5]
--- error_code eval
[200, 412, 200, 200, 412]

=== etag off
--- config
etag off;
--- user_files
>>> f.txt
x
--- request
GET /f.txt
--- response_body
x
--- response_headers
!ETag

=== alias
--- config
location /pictures/ { alias $TEST_NGINX_HTML_DIR/images/; }
--- user_files
>>> images/a.txt
picture
--- request
GET /pictures/a.txt
--- response_body
picture

=== alias in a location with an expression takes the whole path
--- config
location ~ ^/u/(\w+)/(.*)$ { alias $TEST_NGINX_HTML_DIR/users/$1/$2; }
--- user_files
>>> users/ann/f.txt
ann's
--- request
GET /u/ann/f.txt
--- response_body
ann's

=== root with variables
--- config
location / { root $TEST_NGINX_HTML_DIR/$host; }
--- user_files
>>> one.example/f.txt
one
>>> two.example/f.txt
two
--- more_headers eval
["Host: one.example", "Host: two.example"]
--- request eval
["GET /f.txt", "GET /f.txt"]
--- response_body eval
["one\n", "two\n"]

=== addresses are decoded once
--- config
--- user_files eval
[["a b.txt", "space"], ["a%20b.txt", "percent"], ["a+b.txt", "plus"]]
--- request eval
["GET /a%20b.txt", "GET /a%2520b.txt", "GET /a+b.txt", "GET /%61%2bb.txt"]
--- response_body eval
["space", "percent", "plus", "plus"]

=== dots and slashes are resolved before a file is looked for
--- config
--- user_files
>>> d/f.txt
x
--- request eval
["GET /d/./f.txt", "GET /d/e/../f.txt", "GET //d///f.txt", "GET /d/%2e%2e/d/f.txt"]
--- response_body eval
[("x\n") x 4]

=== above the root is an error
--- config
--- request eval
["GET /../etc/passwd", "GET /a/../../etc/passwd", "GET /%2e%2e/etc/passwd"]
--- error_code eval
[400, 400, 400]

=== an encoded slash counts as a slash
--- config
--- user_files
>>> d/f.txt
x
--- request
GET /d%2ff.txt
--- response_body
x

=== merge_slashes off
--- config
merge_slashes off;
location /d/ { return 200 "single"; }
location //d/ { return 200 "double"; }
--- request eval
["GET /d/", "GET //d/"]
--- response_body eval
["single", "double"]

=== a NUL in the address is an error
--- config
--- request
GET /a%00b
--- error_code: 400

=== sendfile, and output_buffers without it, give the same
--- config
location /s { alias $TEST_NGINX_HTML_DIR; sendfile on; }
location /b { alias $TEST_NGINX_HTML_DIR; sendfile off; output_buffers 1 512; }
--- user_files eval
[["big.txt", "0123456789" x 20000]]
--- request eval
["GET /s/big.txt", "GET /b/big.txt"]
--- response_body_filters
md5_hex
--- response_body eval
[("bcc4bfca43786497d970f7d3e2fdd455") x 2]

=== open_file_cache keeps serving and notices a changed file after its time
--- config
open_file_cache max=10 inactive=10s;
open_file_cache_valid 10s;
--- user_files
>>> f.txt
first
--- request eval
["GET /f.txt", "GET /f.txt", "GET /none", "GET /none"]
--- response_body eval
["first\n", "first\n", qr/404/, qr/404/]
--- error_code eval
[200, 200, 404, 404]

=== internal locations cannot be asked for
--- config
location /in/ { internal; }
--- user_files
>>> in/f.txt
x
--- request
GET /in/f.txt
--- error_code: 404
