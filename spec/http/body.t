# Request bodies: in memory, in files, in chunks, too large. They are read early here, so that nothing but the core is needed.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== a body in memory
--- config
client_body_early_read 1;
location / { return 200 "$request_body|$request_body_file|$content_length|$request_length"; }
--- request
POST /
hello
--- response_body_like: ^hello\|\|5\|\d+$

=== only when a condition holds
--- config
client_body_early_read 0 $arg_read;
location / { return 200 "[$request_body]"; }
--- request eval
["POST /\nhello", "POST /?read=1\nhello", "POST /?read=0\nhello"]
--- response_body eval
["[]", "[hello]", "[]"]

=== a chunked body has a length once it is read
--- config
client_body_early_read 1;
location / { return 200 "$request_body|$content_length|$http_content_length"; }
--- raw_request eval
"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX: trailer\r\n\r\n"
--- response_body chomp
abcde|5|

=== a body larger than its buffer goes to a file
--- config
client_body_early_read 1;
client_body_buffer_size 100;
location / { return 200 "$request_body|$request_body_file"; }
--- request eval
["POST /\n" . "x" x 200, "POST /\n" . "x" x 124, "POST /\n" . "x" x 125]
--- response_body_like eval
[qr/^\|.*client_body_temp\/\d{10}$/, qr/^x{124}\|$/, qr/^\|.*\/\d{10}$/]

=== a body that goes to a file is mentioned
--- config
client_body_early_read 1;
client_body_buffer_size 10;
location / { return 200 "ok"; }
--- request
POST /
more than ten bytes
--- error_log eval
qr/\[warn\] .* a client request body is buffered to a temporary file/

=== a body in a file that is kept until the end
--- config
client_body_early_read 1;
client_body_in_file_only clean;
location / { return 200 "$request_body|$request_body_file"; }
--- request
POST /
abc
--- response_body_like: ^\|.*client_body_temp/\d{10}$

=== a chunked body that grows too large
--- http_config
server {
    listen $TEST_NGINX_SERVER_PORT;
    server_name small;
    client_body_early_read 1;
    client_max_body_size 4;
    return 200 "ok";
}
--- config
--- raw_request eval
"POST / HTTP/1.1\r\nHost: small\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
--- error_code: 413
--- error_log
client intended to send too large chunked body: 5 bytes

=== an announced body that is too large is not read
--- http_config
server {
    listen $TEST_NGINX_SERVER_PORT;
    server_name small;
    client_body_early_read 1;
    client_max_body_size 4;
    return 200 "ok";
}
--- config
--- more_headers
Host: small
--- request
POST /
12345
--- error_code: 413
--- error_log
client intended to send too large body: 5 bytes

=== the location has a limit of its own
--- config
client_body_early_read 1;
location / { client_max_body_size 4; return 200 "ok"; }
--- request
POST /
12345
--- error_code: 413

=== broken chunks
--- config
client_body_early_read 1;
location / { return 200 "ok"; }
--- raw_request eval
"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"
--- error_code: 400
--- error_log
client sent invalid chunked body

=== broken chunks of a body that nobody reads
--- config
location / { return 200 "ok"; }
--- raw_request eval
"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"
--- error_code: 400
--- error_log
client sent invalid chunked body

=== a body and the next request
--- config
client_body_early_read 1;
location / { return 200 "[$request_body]"; }
--- pipelined_requests eval
["POST /\nabc", "GET /", "POST /\nde"]
--- response_body eval
["[abc]", "[]", "[de]"]

=== a body that does not come
--- config
client_body_early_read 1;
client_body_timeout 100ms;
location / { return 200 "ok"; }
--- raw_request eval
"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"
--- ignore_response
--- access_log
 408 0 

=== leave to send the body
--- config
client_body_early_read 1;
location / { return 200 "$request_body"; }
--- raw_request eval
["POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\nConnection: close\r\n\r\n", "abc"]
--- raw_request_middle_delay: 0.05
--- error_code: 100
--- response_body_like eval
qr/^HTTP\/1\.1 200 OK\r\n.*\r\n\r\nabc$/s
