# Changing files: PUT, DELETE, MKCOL, COPY and MOVE of `dav_methods`.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== PUT creates, replaces, and reads back
--- config
dav_methods PUT;
--- request eval
["PUT /new.txt\nfirst", "GET /new.txt", "PUT /new.txt\nsecond", "GET /new.txt"]
--- error_code eval
[201, 200, 204, 200]
--- response_body eval
["", "first", "", "second"]
--- response_headers eval
["Content-Length: 0\nLocation: http://localhost:$ENV{TEST_NGINX_SERVER_PORT}/new.txt", "", "", ""]

=== PUT into a directory that is not there
--- config
location / { dav_methods PUT; }
location /made/ { dav_methods PUT; create_full_put_path on; }
--- request eval
["PUT /none/f\nx", "PUT /made/up/f\nx", "GET /made/up/f"]
--- error_code eval
[500, 201, 200]
--- response_body eval
[qr/500 Internal/, "", "x"]

=== PUT to a directory
--- config
dav_methods PUT;
--- request
PUT /dir/
x
--- error_code: 409
--- error_log
cannot PUT to a collection

=== PUT with a date
--- config
dav_methods PUT;
--- more_headers
Date: Fri, 01 Jan 2010 00:00:00 GMT
--- request eval
["PUT /f.txt\nx", "GET /f.txt"]
--- error_code eval
[201, 200]
--- response_headers eval
["", "Last-Modified: Fri, 01 Jan 2010 00:00:00 GMT"]

=== PUT of a big body
--- config
dav_methods PUT;
client_body_buffer_size 1k;
--- request eval
["PUT /big\n" . ("0123456789" x 10000), "GET /big"]
--- error_code eval
[201, 200]
--- response_body eval
["", "0123456789" x 10000]

=== PUT with a chunked body
--- config
dav_methods PUT;
--- raw_request eval
"PUT /f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nGET /f HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
--- http09
--- response_body_like eval
qr/^HTTP\/1\.1 201 Created\r\n.*\r\n\r\nabcde$/s

=== DELETE
--- config
dav_methods DELETE;
--- user_files
>>> f.txt
x
>>> d/e/f.txt
x
--- request eval
["DELETE /f.txt", "GET /f.txt", "DELETE /none", "DELETE /d/", "GET /d/e/f.txt"]
--- error_code eval
[204, 404, 404, 204, 404]

=== DELETE with a depth
--- config
dav_methods DELETE;
min_delete_depth 2;
--- user_files
>>> a/f
x
>>> f
x
--- request eval
["DELETE /f", "DELETE /a/f"]
--- error_code eval
[409, 204]

=== DELETE of a directory without a slash
--- config
dav_methods DELETE;
--- user_files
>>> d/f
x
--- request
DELETE /d
--- error_code: 409

=== MKCOL
--- config
dav_methods MKCOL;
--- request eval
["MKCOL /d/", "MKCOL /d/", "MKCOL /e", "MKCOL /x/y/", "MKCOL /b/\nbody"]
--- error_code eval
[201, 405, 409, 409, 415]

=== COPY and MOVE
--- config
dav_methods COPY MOVE;
--- user_files
>>> f.txt
content
--- more_headers eval
["Destination: /copy.txt", "Destination: http://localhost/moved.txt", "X: y", "X: y", "X: y"]
--- request eval
["COPY /f.txt", "MOVE /f.txt", "GET /copy.txt", "GET /moved.txt", "GET /f.txt"]
--- error_code eval
[204, 204, 200, 200, 404]
--- response_body_like eval
["", "", "content", "content", "404"]

=== Overwrite
--- config
dav_methods COPY;
--- user_files
>>> a
a
>>> b
b
--- more_headers eval
["Destination: /b\nOverwrite: F", "X: y", "Destination: /b\nOverwrite: T", "X: y"]
--- request eval
["COPY /a", "GET /b", "COPY /a", "GET /b"]
--- error_code eval
[412, 200, 204, 200]
--- response_body_like eval
["412", "^b", "", "^a"]

=== COPY of a directory
--- config
dav_methods COPY;
--- user_files
>>> d/e/f
x
--- more_headers eval
["Destination: /c/", "X: y"]
--- request eval
["COPY /d/", "GET /c/e/f"]
--- error_code eval
[201, 200]

=== a destination is needed, and on this server
--- config
dav_methods COPY;
--- user_files
>>> f
x
--- more_headers eval
["X: y", "Destination: http://elsewhere.example/f", "Destination: nonsense"]
--- request eval
[("COPY /f") x 3]
--- error_code eval
[400, 400, 400]

=== methods that are not on
--- config
dav_methods DELETE;
--- request eval
["PUT /f\nx", "MKCOL /d/", "DELETE /none"]
--- error_code eval
[405, 405, 404]

=== dav_access
--- config
dav_methods PUT MKCOL;
dav_access user:rw group:r all:r;
--- request eval
["PUT /f.txt\nx", "MKCOL /d/", "GET /f.txt"]
--- error_code eval
[201, 201, 200]

=== min_delete_depth
--- config
dav_methods PUT DELETE;
create_full_put_path on;
min_delete_depth 2;
--- request eval
["PUT /a/b\nx", "PUT /c\nx", "DELETE /a/", "DELETE /c", "DELETE /a/b"]
--- error_code eval
[201, 201, 409, 409, 204]

=== a destination does not climb, nor lie in its source
--- config
dav_methods PUT COPY MOVE MKCOL;
create_full_put_path on;
--- request eval
["PUT /a/f\nx", "COPY /a/f", "MOVE /a/"]
--- more_headers eval
["", "Destination: /a/../../f", "Destination: /a/b/"]
--- error_code eval
[201, 400, 403]
--- skip_nginx
3: < 1.31.0
