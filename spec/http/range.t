# Parts of a file: `Range`, `If-Range`, `max_ranges`.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== one range
--- config
--- user_files eval
[["f.txt", "0123456789"]]
--- more_headers
Range: bytes=2-4
--- request
GET /f.txt
--- error_code: 206
--- response_body chomp
234
--- response_headers
Content-Range: bytes 2-4/10
Content-Length: 3
!Accept-Ranges

=== forms of one range
--- config
--- user_files eval
[["f.txt", "0123456789"]]
--- more_headers eval
["Range: bytes=7-", "Range: bytes=-3", "Range: bytes=0-0", "Range: bytes=5-99", "Range: bytes=-99", "Range: bytes= 1 - 2 "]
--- request eval
[("GET /f.txt") x 6]
--- error_code eval
[206, 206, 206, 206, 206, 206]
--- response_body eval
["789", "789", "0", "56789", "0123456789", "12"]
--- response_headers eval
["Content-Range: bytes 7-9/10", "Content-Range: bytes 7-9/10", "Content-Range: bytes 0-0/10", "Content-Range: bytes 5-9/10", "Content-Range: bytes 0-9/10", "Content-Range: bytes 1-2/10"]

=== a range behind the end
--- config
--- user_files eval
[["f.txt", "0123456789"]]
--- more_headers
Range: bytes=10-
--- request
GET /f.txt
--- error_code: 416
--- response_headers
Content-Range: bytes */10
Content-Type: text/html
--- response_body_like: 416 Requested Range Not Satisfiable

=== broken ranges
--- config
--- user_files eval
[["f.txt", "0123456789"]]
--- more_headers eval
["Range: bytes=a-b", "Range: bytes=5-2", "Range: items=1-2", "Range: bytes=", "Range: bytes=1", "Range: bytes=-"]
--- request eval
[("GET /f.txt") x 6]
--- error_code eval
[416, 416, 200, 200, 416, 416]

=== several ranges
--- http_config
types { text/plain txt; }
--- config
--- user_files eval
[["f.txt", "0123456789"]]
--- more_headers
Range: bytes=0-1,-2
--- request
GET /f.txt
--- error_code: 206
--- response_headers_like
Content-Type: multipart/byteranges; boundary=\d{20}
--- response_body_like eval
qr{^\r\n--(\d{20})\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n--\1\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n--\1--\r\n$}

=== ranges that sum up to more than the file give all of it
--- config
--- user_files eval
[["f.txt", "0123456789"]]
--- more_headers
Range: bytes=0-5,0-5
--- request
GET /f.txt
--- response_body chomp
0123456789

=== unsatisfiable ranges among others are left out
--- config
--- user_files eval
[["f.txt", "0123456789"]]
--- more_headers
Range: bytes=20-30,1-2
--- request
GET /f.txt
--- error_code: 206
--- response_body chomp
12
--- response_headers
Content-Range: bytes 1-2/10

=== max_ranges
--- config
location /none { alias $TEST_NGINX_HTML_DIR; max_ranges 0; }
location /one { alias $TEST_NGINX_HTML_DIR; max_ranges 1; }
--- user_files eval
[["f.txt", "0123456789"]]
--- more_headers eval
["Range: bytes=1-2", "Range: bytes=1-2", "Range: bytes=1-2,4-5"]
--- request eval
["GET /none/f.txt", "GET /one/f.txt", "GET /one/f.txt"]
--- error_code eval
[200, 206, 200]

=== no ranges are offered with max_ranges 0
--- config
max_ranges 0;
--- user_files eval
[["f.txt", "0123456789"]]
--- request
GET /f.txt
--- response_headers
!Accept-Ranges
--- response_body chomp
0123456789

=== If-Range with date and tag
--- config
--- user_files
>>> f.txt 201001010000.00
123456789
--- more_headers eval
[map { "Range: bytes=1-2\nIf-Range: $_" } 'Fri, 01 Jan 2010 00:00:00 GMT', 'Sat, 02 Jan 2010 00:00:00 GMT', '"4b3d3b00-a"', '"other"', 'W/"4b3d3b00-a"']
--- request eval
[("GET /f.txt") x 5]
--- error_code eval
[206, 200, 206, 200, 200]

=== HEAD with a range
--- config
--- user_files eval
[["f.txt", "0123456789"]]
--- more_headers
Range: bytes=2-4
--- request
HEAD /f.txt
--- error_code: 206
--- response_headers
Content-Range: bytes 2-4/10
Content-Length: 3

=== a range of a big file
--- config
--- user_files eval
[["f.txt", join("", map { sprintf "%09d\n", $_ } 0 .. 19999)]]
--- more_headers
Range: bytes=150000-150009
--- request
GET /f.txt
--- error_code: 206
--- response_body
000015000
