# Pages for errors: `error_page`, `recursive_error_pages`, the pages that are built in.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== a page keeps the code
--- config
error_page 404 /oops.html;
--- user_files
>>> oops.html
sorry
--- request
GET /none
--- error_code: 404
--- response_body
sorry

=== = takes the page's own code
--- config
error_page 404 = /ok;
location = /ok { return 202 "accepted"; }
--- request
GET /none
--- error_code: 202
--- response_body chomp
accepted

=== =code sets one
--- config
error_page 404 =200 /page.html;
--- user_files
>>> page.html
fine
--- request
GET /none
--- response_body
fine

=== an address with a scheme is a redirect
--- config
error_page 403 http://login.example/?back=$request_uri;
error_page 404 =301 http://moved.example/;
location /secret { return 403; }
--- request eval
["GET /secret", "GET /none"]
--- error_code eval
[302, 301]
--- response_headers eval
["Location: http://login.example/?back=/secret", "Location: http://moved.example/"]

=== several codes
--- config
error_page 403 404 410 /page.html;
location /a { return 403; }
location /b { return 410; }
--- user_files
>>> page.html
one page
--- request eval
["GET /a", "GET /b", "GET /c"]
--- error_code eval
[403, 410, 404]
--- response_body eval
[("one page\n") x 3]

=== the page is asked for with GET
--- config
error_page 405 =200 /page;
location = /page { return 200 "$request_method"; }
location / { }
--- user_files
>>> f.txt
x
--- request
POST /f.txt
abc
--- response_body chomp
GET

=== a page that is missing as well
--- config
error_page 404 /none.html;
--- request
GET /x
--- error_code: 404
--- response_body_like: 404 Not Found

=== errors of an error page are not handled again
--- config
location / { error_page 404 /second; }
location = /second { error_page 410 /third; return 410; }
location = /third { return 200 "third"; }
--- request
GET /none
--- error_code: 410
--- response_body_like: 410 Gone

=== unless recursive_error_pages is on
--- config
recursive_error_pages on;
location / { error_page 404 /second; }
location = /second { error_page 410 =200 /third; return 410; }
location = /third { return 200 "third"; }
--- request
GET /none
--- response_body chomp
third

=== pages are inherited as a whole
--- config
error_page 404 /outer.html;
location /a { error_page 403 /inner.html; }
location /b { }
--- user_files
>>> outer.html
outer
--- request eval
["GET /a/none", "GET /b/none"]
--- response_body eval
[qr/<h1>404 Not Found/, "outer\n"]
--- error_code eval
[404, 404]

=== a page with a variable
--- config
error_page 404 /$arg_lang.html;
--- user_files
>>> de.html
nicht da
--- request
GET /none?lang=de
--- error_code: 404
--- response_body
nicht da

=== $status in the page
--- config
error_page 403 404 /page;
location = /page { return 200 "status $status"; }
location = /a { return 403; }
--- request eval
["GET /a", "GET /b"]
--- error_code eval
[403, 404]
--- response_body eval
["status 403", "status 404"]

=== an invalid code is refused
--- config
error_page 200 /x;
--- must_die
--- error_log
value "200" must be between 300 and 599

=== 499 is refused
--- config
error_page 499 /x;
--- must_die
--- error_log
invalid value "499"

=== the built-in page is padded for old browsers of one kind
--- config
--- more_headers eval
["User-Agent: Mozilla/4.0 (compatible; MSIE 6.0)", "User-Agent: Mozilla/5.0"]
--- request eval
["GET /none", "GET /none"]
--- error_code eval
[404, 404]
--- response_body_like eval
["a padding to disable MSIE", "</html>\r\n\$"]

=== msie_padding off
--- config
msie_padding off;
--- more_headers
User-Agent: Mozilla/4.0 (compatible; MSIE 6.0)
--- request
GET /none
--- error_code: 404
--- response_body_unlike: a padding

=== server_tokens off takes the version away
--- config
server_tokens off;
--- request
GET /none
--- error_code: 404
--- response_body_like: <hr><center>\w+</center>
--- response_headers_like
Server: \w+

=== an error page may be a return
--- config
error_page 500 502 503 504 @down;
location @down { return 503 "down"; }
location / { return 500; }
--- request
GET /
--- error_code: 500
--- response_body chomp
down

=== the target may be a named location in a variable
--- config
location /a { error_page 404 = $arg_to; return 404; }
location @n { return 200 "named $uri"; }
location /b { return 200 "uri $uri|$args"; }
--- request eval
["GET /a?to=\@n", "GET /a?to=/b?x=1"]
--- response_body eval
["named /a", "uri /b|x=1"]

=== a named location that is missing is an error of its own
--- config
location /a { error_page 404 = @nowhere; return 404; }
--- request
GET /a
--- error_code: 500
--- error_log
could not find named location "@nowhere"

=== the method becomes GET, except for HEAD
--- config
location /a { error_page 404 =200 /m; return 404; }
location /m { add_header X-Method $request_method; return 200 "$request_method"; }
--- request eval
["POST /a\nbody", "HEAD /a"]
--- response_headers eval
["X-Method: GET", "X-Method: HEAD"]

=== an error of a named location is not handled again
--- config
location /a { error_page 404 = @n; return 404; }
location @n { error_page 403 =200 /b; return 403; }
location /b { return 200 "b"; }
--- request
GET /a
--- error_code: 403

=== errors in circles end
--- config
recursive_error_pages on;
location /a { error_page 404 = /a; return 404; }
--- request
GET /a
--- error_code: 500
--- error_log
rewrite or internal redirection cycle while internally redirecting to "/a"

=== redirects have pages as well
--- config
location /a { error_page 301 =200 /b; return 301 /x; }
location /c { error_page 302 =301 http://other.example/; return 302 /x; }
location /b { return 200 "b"; }
--- request eval
["GET /a", "GET /c"]
--- error_code eval
[200, 301]

=== a body that is too large is no business of its page
--- config
location /a { client_max_body_size 3; error_page 413 =200 /b; return 200 "a"; }
location /b { client_max_body_size 3; return 200 "too large"; }
--- request
POST /a
12345
--- response_body chomp
too large
--- error_log
client intended to send too large body: 5 bytes

=== codes of nginx's own are answered with 400
--- config
location /494 { return 494; }
location /497 { return 497; }
location /own { error_page 497 =302 http://other.example/; return 497; }
--- request eval
["GET /494", "GET /497", "GET /own"]
--- error_code eval
[400, 400, 302]
--- response_body_like eval
["Request Header Or Cookie Too Large", "The plain HTTP request was sent to HTTPS port", "302 Found"]

=== msie_refresh leads on by a page
--- config
msie_refresh on;
location / { return 302 "http://other.example/a b'"; }
--- more_headers
User-Agent: Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 6.0)
--- request
GET /
--- response_body eval
qq{<html><head><meta http-equiv="Refresh" content="0; URL=http://other.example/a%20b%27"></head><body></body></html>\r\n}
--- response_headers
!Location

=== no_error_pages takes inherited pages away
--- config
error_page 404 =200 /page.html;
location /plain/ { no_error_pages; }
location /own/ { no_error_pages; error_page 404 =202 /page.html; }
--- user_files
>>> page.html
fine
--- request eval
["GET /none", "GET /plain/none", "GET /own/none"]
--- error_code eval
[200, 404, 202]
--- response_body_like eval
["^fine", "404 Not Found", "^fine"]
