# Changing addresses: `rewrite` and its flags.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== last looks for a location again
--- config
location /a { rewrite ^/a/(.*)$ /b/$1 last; return 500; }
location /b { return 200 "$uri"; }
--- request
GET /a/x
--- response_body chomp
/b/x

=== break stays in the location
--- config
location /a { rewrite ^/a/(.*)$ /b/$1 break; root $TEST_NGINX_HTML_DIR; }
location /b { return 500; }
--- user_files
>>> b/f.txt
file b
--- request
GET /a/f.txt
--- response_body
file b

=== without a flag the next rules apply to the new address
--- config
location /a {
    rewrite ^/a(.*)$ /b$1;
    rewrite ^/b(.*)$ /c$1;
    rewrite ^/a(.*)$ /never;
    return 200 "$uri";
}
location /c { return 200 "location c $uri"; }
--- request
GET /a1
--- response_body chomp
/c1

=== redirect and permanent
--- config
location /a { rewrite ^/a(.*)$ /b$1 redirect; }
location /p { rewrite ^/p(.*)$ /b$1 permanent; }
--- request eval
["GET /a1", "GET /p2"]
--- error_code eval
[302, 301]
--- response_headers eval
["Location: http://localhost:$ENV{TEST_NGINX_SERVER_PORT}/b1", "Location: http://localhost:$ENV{TEST_NGINX_SERVER_PORT}/b2"]

=== an address with a scheme is a redirect
--- config
location / { rewrite ^/(.*)$ http://other.example/$1; return 500; }
--- request
GET /x?a=1
--- error_code: 302
--- response_headers
Location: http://other.example/x?a=1

=== arguments are kept
--- config
location /a { rewrite ^ /b last; }
location /b { return 200 "$uri?$args"; }
--- request
GET /a?x=1&y=2
--- response_body chomp
/b?x=1&y=2

=== new arguments come before the old ones
--- config
location /a { rewrite ^/a/(.*)$ /b?n=$1 last; }
location /b { return 200 "$uri?$args"; }
--- request
GET /a/5?x=1
--- response_body chomp
/b?n=5&x=1

=== a question mark at the end drops the old arguments
--- config
location /a { rewrite ^/a/(.*)$ /b?n=$1? last; }
location /c { rewrite ^ /b? last; }
location /b { return 200 "$uri?$args"; }
--- request eval
["GET /a/5?x=1", "GET /c?x=1"]
--- response_body eval
["/b?n=5", "/b?"]

=== the match is on the decoded address
--- config
location / { rewrite "^/a b/(.*)$" /found/$1 last; return 404; }
location /found { return 200 "$uri"; }
--- request
GET /a%20b/c
--- response_body chomp
/found/c

=== captures are escaped in a redirect
--- config
location / { rewrite ^/go/(.*)$ /to/$1 redirect; }
--- request
GET /go/a%20b%25
--- error_code: 302
--- response_headers eval
"Location: http://localhost:$ENV{TEST_NGINX_SERVER_PORT}/to/a%20b%25"

=== named captures become variables
--- config
location / { rewrite ^/(?<first>[^/]+)/(?<second>.+)$ /x; return 200 "$first-$second"; }
--- request
GET /a/b
--- response_body chomp
a-b

=== a pattern with braces is quoted
--- config
location / { rewrite "^/(\d{2})/(\w{3})$" /n; return 200 "$1+$2"; }
--- request
GET /42/abc
--- response_body chomp
42+abc

=== a loop of rewrites ends in 500
--- config
location / { rewrite ^ /again last; }
--- request
GET /
--- error_code: 500
--- error_log
rewrite or internal redirection cycle while processing "/again"

=== rewrites of the server come before those of the location
--- config
rewrite ^/old/(.*)$ /new/$1;
location /old { return 200 "old"; }
location /new { return 200 "new $uri"; }
--- request
GET /old/x
--- response_body chomp
new /new/x

=== last in a server
--- config
rewrite ^/a$ /b last;
rewrite ^/b$ /c last;
location /b { return 200 "b"; }
location /c { return 200 "c"; }
--- request
GET /a
--- response_body chomp
b

=== $request_uri keeps what was asked for
--- config
location /a { rewrite ^ /b/c last; }
location /b { return 200 "$request_uri $uri"; }
--- request
GET /a%41?x=1
--- response_body chomp
/a%41?x=1 /b/c

=== rewrite_log
--- config
rewrite_log on;
location /a { rewrite ^/a(.*)$ /b$1 last; }
location /b { return 200 "b"; }
--- request
GET /a1
--- response_body chomp
b
--- error_log
"^/a(.*)$" matches "/a1"
rewritten data: "/b1"

=== a rule that does not match changes nothing
--- config
location / { rewrite ^/nope /other; return 200 "$uri"; }
--- request
GET /yes
--- response_body chomp
/yes

=== an unknown flag is refused
--- config
location / { rewrite ^ /a sometimes; }
--- must_die
--- error_log
invalid parameter "sometimes"

=== a broken pattern is refused
--- config
location / { rewrite ^(a /b; }
--- must_die
--- error_log
pcre

=== captures in new arguments are escaped if the address was
--- config
location /a { rewrite ^/a/(.*)$ /t/$1?q=$1 last; }
location /t { return 200 "$uri|$args"; }
--- request eval
["GET /a/x%20y", "GET /a/x+y", "GET /a/x%26y%3fz", "GET /a/x&y"]
--- response_body eval
["/t/x y|q=x%20y", "/t/x+y|q=x%2By", "/t/x&y?z|q=x%26y%3Fz", "/t/x&y|q=x&y"]

=== captures in values are escaped until a rule has matched
--- config
location ~ ^/a/(.*)$ { set $x $1; return 200 "[$x][$1]"; }
location /b { rewrite ^/b/(.*)$ /zz/$1; set $x $1; return 200 "[$x]"; }
location /c { rewrite ^/nope/(.*)$ /zz; if ($uri ~ ^/c/(.*)$) { set $x $1; } return 200 "[$x]"; }
--- request eval
["GET /a/p%20q", "GET /b/p%20q", "GET /c/p%20q"]
--- response_body eval
["[p%20q][p q]", "[p q]", "[p%20q]"]

=== values with a scheme are not escaped
--- config
location /a { rewrite ^ https://other.example/?u=$uri& permanent; }
--- request
GET /a%20b?x=1
--- error_code: 301
--- response_headers
Location: https://other.example/?u=/a b&&x=1

=== a redirect to $scheme keeps its arguments apart
--- config
location /a { rewrite ^/a/(.*)$ $scheme://h.example/$1?n=1; }
location /b { rewrite ^/b/(.*)$ $scheme://h.example/$1?; }
--- request eval
["GET /a/x?o=2", "GET /b/x?o=2"]
--- error_code eval
[302, 302]
--- response_headers eval
["Location: http://h.example/x?n=1&o=2", "Location: http://h.example/x"]

=== an address from a variable alone
--- config
location /a { rewrite ^ $arg_to last; }
location /t { return 200 "$uri|$args"; }
--- request
GET /a?to=/t/%20
--- response_body chomp
/t/%20|to=/t/%20

=== an address that becomes empty
--- config
location /a { rewrite ^ $arg_to last; }
--- request
GET /a
--- error_code: 500
--- error_log
the rewritten URI has a zero length

=== ten changes are the most
--- config
location /a { rewrite "^/a(b{0,9})$" /a$1b last; return 200 "$uri"; }
location /c { rewrite "^/c(b{0,10})$" /c$1b last; return 200 "$uri"; }
--- request eval
["GET /a", "GET /c"]
--- error_code eval
[200, 500]

=== an alias means nothing for an address that was changed
--- config
location /a/ { alias $TEST_NGINX_HTML_DIR/; rewrite ^ /b break; }
--- request
GET /a/f
--- error_code: 500
--- error_log eval
qr/\[alert\] .* "alias" cannot be used in location "\/a\/" where URI was rewritten/

=== named captures can be set again
--- config
location / { rewrite ^/(?<n>[a-z]+)/ /x; if ($arg_n) { set $n $arg_n; } return 200 "$n"; }
--- request eval
["GET /abc/", "GET /abc/?n=d", "GET /1/"]
--- response_body eval
["abc", "d", ""]

=== a rule that does not match forgets the captures
--- config
location ~ ^/(a) { rewrite ^/(z) /x; return 200 "[$1]"; }
--- request
GET /ab
--- response_body chomp
[]

=== rewrite_log off says nothing
--- log_level: notice
--- config
location /a { rewrite ^/a(.*)$ /b$1 last; }
location /b { return 200 "b"; }
--- request
GET /a1
--- response_body chomp
b
--- no_error_log
matches "/a1"

=== a rule that does not match is logged as well
--- config
rewrite_log on;
location /a { rewrite ^/nope$ /x; rewrite ^/a(.*)$ /b$1 redirect; }
--- request
GET /a1
--- error_code: 302
--- error_log
"^/nope$" does not match "/a1"
rewritten redirect: "/b1"

=== an empty replacement is refused
--- config
location / { rewrite ^ ""; }
--- must_die
--- error_log
empty replacement
