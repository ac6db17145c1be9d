# HTTP/1 on the wire: request lines, header fields, bodies, keep-alive, pipelines.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== HTTP/1.0 is closed, HTTP/1.1 is kept
--- config
location / { return 200 "x"; }
--- raw_request eval
"GET / HTTP/1.0\r\n\r\n"
--- response_headers
Connection: close
--- response_body chomp
x

=== HTTP/1.0 with keep-alive is kept
--- config
location / { return 200 "x"; }
--- raw_request eval
"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n"
--- http09
--- response_body_like eval
qr/^HTTP\/1\.1 200 OK\r\n.*Connection: keep-alive\r\n\r\nxHTTP\/1\.1 200 OK\r\n.*Connection: close\r\n\r\nx$/s

=== HTTP/0.9
--- config
location / { return 200 "zero nine"; }
--- raw_request eval
"GET /\r\n"
--- http09
--- response_body chomp
zero nine

=== HTTP/1.1 needs a Host
--- config
location / { return 200 "x"; }
--- raw_request eval
"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"
--- error_code: 400
--- error_log
client sent HTTP/1.1 request without "Host" header while reading client request headers

=== two Hosts are refused
--- config
location / { return 200 "x"; }
--- raw_request eval
"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n"
--- error_code: 400

=== Hosts that are none are refused
--- config
location / { return 200 "x"; }
--- more_headers eval
[map { "Host: $_" } "a/b", "a b", "a..b", "."]
--- request eval
[("GET /") x 4]
--- error_code eval
[400, 400, 400, 400]

=== broken request lines
--- config
location / { return 200 "x"; }
--- raw_request eval
"G\@T / HTTP/1.1\r\nHost: a\r\n\r\n"
--- error_code: 400
--- error_log
client sent invalid method while reading client request line
--- response_body_like: 400 Bad Request

=== lower case methods are refused
--- config
location / { return 200 "x"; }
--- raw_request eval
"get / HTTP/1.1\r\nHost: a\r\n\r\n"
--- error_code: 400

=== an unknown method is passed on
--- config
location / { return 200 "$request_method"; }
--- raw_request eval
"FROBNICATE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
--- response_body chomp
FROBNICATE

=== HTTP/2.0 in the request line
--- config
location / { return 200 "x"; }
--- raw_request eval
"GET / HTTP/2.0\r\nHost: a\r\n\r\n"
--- error_code: 505

=== HTTP/1.2 counts as 1.1
--- config
location / { return 200 "$server_protocol"; }
--- raw_request eval
"GET / HTTP/1.2\r\nHost: a\r\nConnection: close\r\n\r\n"
--- response_body chomp
HTTP/1.2

=== a line end alone ends a line too
--- config
location / { return 200 "$http_a"; }
--- raw_request eval
"GET / HTTP/1.1\nHost: a\nA: b\nConnection: close\n\n"
--- response_body chomp
b

=== an empty line before a request is left out
--- config
location / { return 200 "x"; }
--- raw_request eval
"\r\nGET / HTTP/1.0\r\n\r\n"
--- response_body chomp
x

=== an absolute address gives the host
--- config
location / { return 200 "$host $uri $http_host"; }
--- raw_request eval
"GET http://Some.Example:80/path?a HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n"
--- response_body chomp
some.example /path other

=== spaces around values are left out
--- config
location / { return 200 "[$http_a]"; }
--- raw_request eval
"GET / HTTP/1.1\r\nHost: a\r\nA:   b c  \r\nConnection: close\r\n\r\n"
--- response_body chomp
[b c]

=== header names are known in any case
--- config
location / { return 200 "$http_x_name $host"; }
--- raw_request eval
"GET / HTTP/1.1\r\nhOsT: A\r\nx-NAME: v\r\nconnection: CLOSE\r\n\r\n"
--- response_body chomp
v a

=== a header with an underscore is ignored, unless told otherwise
--- config
location / { return 200 "[$http_a_b]"; }
--- more_headers
A_B: x
--- request
GET /
--- response_body chomp
[]
--- error_log
client sent invalid header line: "A_B: x" while reading client request headers

=== underscores_in_headers
--- http_config
underscores_in_headers on;
--- config
location / { return 200 "[$http_a_b]"; }
--- more_headers
A_B: x
--- request
GET /
--- response_body chomp
[x]

=== ignore_invalid_headers off
--- http_config
ignore_invalid_headers off;
--- config
location / { return 200 "[$http_a_b]"; }
--- more_headers
A_B: x
--- request
GET /
--- response_body chomp
[x]

=== pipelined requests are answered in order
--- config
location / { return 200 "$request_uri"; }
--- pipelined_requests eval
[map { "GET /$_" } 1 .. 20]
--- response_body eval
[map { "/$_" } 1 .. 20]

=== pipelined requests with bodies and files
--- config
location /r { return 200 "$request_uri"; }
--- user_files
>>> f.txt
file
--- pipelined_requests eval
["GET /f.txt", "POST /r1\nabc", "GET /f.txt", "GET /r3"]
--- response_body eval
["file\n", "/r1", "file\n", "/r3"]

=== a request in pieces
--- config
location / { return 200 "$request_uri $http_a"; }
--- raw_request eval
["GE", "T /ab", "c HTTP", "/1.1\r", "\nHost: a\r\nA", ": v", "\r\nConnection: close\r\n\r", "\n"]
--- raw_request_middle_delay: 0.01
--- response_body chomp
/abc v

=== keepalive_requests
--- config
keepalive_requests 2;
location / { return 200 "$connection_requests"; }
--- raw_request eval
"GET / HTTP/1.1\r\nHost: a\r\n\r\n" x 3
--- http09
--- response_body_like eval
qr/Connection: keep-alive\r\n\r\n1HTTP.*Connection: close\r\n\r\n2$/s

=== keepalive_timeout 0
--- config
keepalive_timeout 0;
location / { return 200 "x"; }
--- raw_request eval
"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
--- response_headers
Connection: close
--- response_body chomp
x

=== the header of keepalive_timeout
--- config
keepalive_timeout 60s 30s;
location / { return 200 "x"; }
--- pipelined_requests eval
["GET /", "GET /"]
--- response_headers eval
["Keep-Alive: timeout=30", "!Keep-Alive"]
--- response_body eval
["x", "x"]

=== keepalive_disable
--- config
location / { return 200 "x"; keepalive_disable msie6; }
--- raw_request eval
"POST / HTTP/1.1\r\nHost: a\r\nUser-Agent: Mozilla/4.0 (compatible; MSIE 6.0)\r\nContent-Length: 1\r\n\r\na"
--- response_headers
Connection: close
--- response_body chomp
x

=== a chunked request
--- config
location / { return 200 "$request_method $http_transfer_encoding"; }
--- raw_request eval
"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
--- http09
--- response_body_like eval
qr/\r\n\r\nPOST chunkedHTTP.*\r\n\r\nGET $/s

=== an unknown transfer coding
--- config
location / { return 200 "x"; }
--- raw_request eval
"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: frob\r\nConnection: close\r\n\r\n"
--- error_code: 501
--- error_log
client sent unknown "Transfer-Encoding": "frob"

=== length and chunked together are refused
--- config
location / { return 200 "x"; }
--- raw_request eval
"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"
--- error_code: 400
--- error_log
client sent "Content-Length" and "Transfer-Encoding" headers at the same time

=== a wrong length is refused
--- config
location / { return 200 "x"; }
--- raw_request eval
"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3x\r\n\r\nabc"
--- error_code: 400
--- error_log
client sent invalid "Content-Length" header

=== two lengths are refused
--- config
location / { return 200 "x"; }
--- raw_request eval
"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"
--- error_code: 400

=== TRACE and CONNECT are not allowed
--- config
--- raw_request eval
"TRACE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
--- error_code: 405

=== a client that takes too long for its head
--- http_config
client_header_timeout 100ms;
--- config
location / { return 200 "x"; }
--- raw_request eval
["GET / HTTP/1.1\r\nHo", "st: a\r\n\r\n"]
--- raw_request_middle_delay: 0.4
--- ignore_response
--- access_log
" 408 0 
--- error_log
client timed out

=== chunked_transfer_encoding off closes instead
--- config
location / { chunked_transfer_encoding off; addition_types *; add_after_body /b; return 200 "a"; }
location /b { return 200 "b"; }
--- request
GET /
--- response_headers
!Transfer-Encoding
Connection: close
--- response_body chomp
ab

=== an answer of unknown length is chunked
--- config
location / { addition_types *; add_after_body /b; return 200 "a"; }
location /b { return 200 "b"; }
--- request
GET /
--- response_headers
Transfer-Encoding: chunked
!Content-Length
--- response_body chomp
ab

=== HTTP/1.0 gets no chunks
--- config
location / { addition_types *; add_after_body /b; return 200 "a"; }
location /b { return 200 "b"; }
--- request
GET / HTTP/1.0
--- response_headers
!Transfer-Encoding
--- response_body chomp
ab

=== Expect: 100-continue
--- config
location / { return 200 "done"; }
--- raw_request eval
"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
--- error_code: 100
--- response_body_like eval
qr/^HTTP\/1\.1 200 OK\r\n.*\r\n\r\ndone$/s

=== a server that has the whole body at once still says 100, and only to HTTP/1.1
--- config
location / { return 200 "done"; }
--- raw_request eval
"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"
--- response_body chomp
done
