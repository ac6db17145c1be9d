# Which location answers: exact, prefix, expression, nested, named; `try_files`.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== the longest prefix
--- config
location / { return 200 "root"; }
location /a { return 200 "a"; }
location /a/b { return 200 "ab"; }
--- request eval
["GET /x", "GET /a", "GET /abc", "GET /a/b/c", "GET /a/"]
--- response_body eval
["root", "a", "a", "ab", "a"]

=== an exact location wins
--- config
location /a { return 200 "prefix"; }
location = /a { return 200 "exact"; }
--- request eval
["GET /a", "GET /a/", "GET /a?x"]
--- response_body eval
["exact", "prefix", "exact"]

=== expressions come before prefixes, in their order
--- config
location /a { return 200 "prefix"; }
location ~ \.x$ { return 200 "first"; }
location ~ ^/a.*x$ { return 200 "second"; }
--- request eval
["GET /a.x", "GET /a-x", "GET /a"]
--- response_body eval
["first", "second", "prefix"]

=== ^~ keeps expressions out
--- config
location ^~ /a { return 200 "prefix"; }
location ~ \.x$ { return 200 "expression"; }
--- request eval
["GET /a.x", "GET /b.x"]
--- response_body eval
["prefix", "expression"]

=== case matters, except with ~*
--- config
location / { return 200 "none"; }
location ~ \.PNG$ { return 200 "sensitive"; }
location ~* \.png$ { return 200 "insensitive"; }
--- request eval
["GET /a.PNG", "GET /a.pNg", "GET /a.gif"]
--- response_body eval
["sensitive", "insensitive", "none"]

=== captures of a location
--- config
location ~ ^/(\w+)/(?<name>\w+)$ { return 200 "$1 $name"; }
--- request
GET /one/two
--- response_body chomp
one two

=== nested locations
--- config
location /a {
    location /a/b { return 200 "nested"; }
    location ~ \.x$ { return 200 "nested expression"; }
    return 200 "outer";
}
location ~ \.x$ { return 200 "outer expression"; }
--- request eval
["GET /a/b", "GET /a/c.x", "GET /a/c"]
--- response_body eval
["nested", "nested expression", "outer"]

=== a nested location must be inside the outer one
--- config
location /a { location /b { } }
--- must_die
--- error_log
location "/b" is outside location "/a"

=== an unknown modifier is refused
--- config
location /a b/ { return 200 "x"; }
--- must_die
--- error_log
invalid location modifier "/a"

=== quoted names with a space
--- config
location "/a b/" { return 200 "space"; }
--- request
GET /a%20b/x
--- response_body chomp
space

=== no location at all serves files
--- config
--- user_files
>>> f.txt
file
--- request
GET /f.txt
--- response_body
file

=== the same location twice is refused
--- config
location /a { }
location /a { }
--- must_die
--- error_log
duplicate location "/a"

=== try_files takes the first file that is there
--- config
location / { try_files $uri $uri.html /default.html; }
--- user_files
>>> a.txt
a
>>> b.html
b
>>> default.html
default
--- request eval
["GET /a.txt", "GET /b", "GET /c"]
--- response_body eval
["a\n", "b\n", "default\n"]

=== try_files with a directory
--- config
location / { try_files $uri/ =404; }
--- user_files
>>> d/index.html
index
--- request eval
["GET /d", "GET /none"]
--- error_code eval
[301, 404]

=== try_files ends with a code
--- config
location / { try_files $uri =418; }
--- request
GET /none
--- error_code: 418

=== try_files ends in a named location
--- config
location / { try_files $uri @fallback; }
location @fallback { return 200 "fallback for $uri"; }
--- request
GET /none?a=1
--- response_body chomp
fallback for /none

=== try_files with arguments in the last address
--- config
location / { try_files $uri /script?path=$uri&$args; }
location = /script { return 200 "$args"; }
--- request
GET /none?a=1
--- response_body chomp
path=/none&a=1

=== try_files with an alias
--- config
location /x/ { alias $TEST_NGINX_HTML_DIR/y/; try_files $uri $uri.txt =404; }
--- user_files
>>> y/f.txt
file
--- request
GET /x/f
--- response_body
file

=== try_files in a server
--- config
try_files /maintenance.html $uri =404;
--- user_files
>>> f.txt
file
--- request
GET /f.txt
--- response_body
file

=== a named location cannot be asked for, and cannot be nested
--- config
location /a { location @x { return 200; } }
--- must_die
--- error_log
named location "@x" can be on the server level only

=== error_page to a named location keeps the address
--- config
location / { error_page 404 = @other; }
location @other { return 200 "$uri $request_method"; }
--- request
GET /none
--- response_body chomp
/none GET

=== an unknown named location
--- config
location / { error_page 404 = @none; }
--- request
GET /x
--- error_code: 500
--- error_log
could not find named location "@none"

=== a prefix location with a slash at the end and no handler
--- config
location /d/ { root $TEST_NGINX_HTML_DIR; }
--- user_files
>>> d/index.html
index
--- request
GET /d
--- error_code: 301

=== limit_except
--- config
location / {
    limit_except GET { deny all; }
    return 200 "unused";
}
location /f { limit_except GET POST { deny all; } root $TEST_NGINX_HTML_DIR; }
--- user_files
>>> f
x
--- request eval
["GET /f", "HEAD /f", "DELETE /f", "POST /f"]
--- error_code eval
[200, 200, 403, 405]

=== an expression that gives up is an error, not a mismatch
--- config
location ~ ^/((a|aa)+)*[^a]$ { deny all; }
location / { return 200 "reached"; }
--- request eval
"GET /" . "a" x 200 . "baa"
--- error_code: 500
--- error_log eval
qr/\[alert\] .* pcre2_match\(\) failed: -47 on "\/a+baa" using/
