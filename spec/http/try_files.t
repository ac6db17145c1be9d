# try_files: the first of several files, or somewhere else.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== the first file that is there
--- config
location / { try_files $uri.html $uri $uri/ /fallback.txt; }
--- user_files
>>> page.html
page
>>> page
other
>>> plain
plain
>>> fallback.txt
fallback
--- request eval
["GET /page", "GET /plain", "GET /none", "GET /none?a=1"]
--- response_body eval
["page\n", "plain\n", "fallback\n", "fallback\n"]

=== a directory is wanted with a slash, a file without
--- config
location / { try_files $uri/ $uri =404; }
location /files/ { try_files $uri =404; }
--- user_files
>>> dir/index.html
index
>>> files/dir/index.html
index
--- request eval
["GET /dir", "GET /dir/", "GET /files/dir", "GET /files/dir/index.html"]
--- error_code eval
[301, 200, 404, 200]

=== a code at the end
--- config
location / { try_files $uri =403; }
location /gone/ { try_files $uri =410; }
--- request eval
["GET /none", "GET /gone/none"]
--- error_code eval
[403, 410]

=== a named location, and what it sees
--- config
location / { try_files $uri @else; }
location @else { return 200 "$uri $args\n"; }
--- request
GET /none?a=b
--- response_body
/none a=b

=== the address at the end may have arguments
--- config
location / { try_files $uri /else?from=$uri&$args; }
location = /else { return 200 "$uri $args\n"; }
--- request
GET /none?a=b
--- response_body
/else from=/none&a=b

=== not inherited by an inner location
--- config
location / { try_files /fallback.txt =404; location /in/ { } }
--- user_files
>>> fallback.txt
fallback
--- request eval
["GET /x", "GET /in/x"]
--- error_code eval
[200, 404]

=== at the server level only where no location matches
--- config
try_files $uri /fallback.txt;
location /in/ { }
--- user_files
>>> fallback.txt
fallback
--- request eval
["GET /x", "GET /in/x"]
--- error_code eval
[200, 404]

=== below an alias
--- config
location /a/ { alias html/files/; try_files $uri $uri.txt /x.txt; }
location = /x.txt { return 200 "x\n"; }
--- user_files
>>> files/one
one
>>> files/two.txt
two
--- request eval
["GET /a/one", "GET /a/two", "GET /a/none"]
--- response_body eval
["one\n", "two\n", "x\n"]

=== below an alias of an expression
--- config
location ~ ^/a/(?<name>\w+)$ { alias html/files/; try_files $name.text =404; }
--- user_files
>>> files/one.text
one
--- request eval
["GET /a/one", "GET /a/two"]
--- error_code eval
[200, 404]

=== a wrong code
--- config
location / { try_files $uri =1000; }
--- must_die
--- error_log
[emerg]
invalid code "=1000"

=== twice
--- config
location / { try_files $uri =404; try_files $uri =404; }
--- must_die
--- error_log
"try_files" directive is duplicate
