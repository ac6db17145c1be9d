# Variables of one's own and decisions: `set`, `if`, `break`.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== set
--- config
location / { set $a hello; set $b "$a, $uri"; return 200 "$b"; }
--- request
GET /x
--- response_body chomp
hello, /x

=== a variable keeps its value across an internal redirect
--- config
location /a { set $v kept; rewrite ^ /b last; }
location /b { return 200 "$v"; }
--- request
GET /a
--- response_body chomp
kept

=== a variable that was not set is empty
--- config
location /a { set $v 1; return 200 "$v"; }
location /b { return 200 "[$v]"; }
--- request eval
["GET /a", "GET /b"]
--- response_body eval
["1", "[]"]

=== an uninitialized variable is mentioned in the log
--- config
location /a { set $v 1; return 200 "$v"; }
location /b { return 200 "[$v]"; }
--- request
GET /b
--- response_body chomp
[]
--- error_log
using uninitialized "v" variable

=== uninitialized_variable_warn off
--- config
uninitialized_variable_warn off;
location /a { set $v 1; return 200 "$v"; }
location /b { return 200 "[$v]"; }
--- request
GET /b
--- response_body chomp
[]
--- no_error_log
using uninitialized

=== an unknown variable is refused
--- config
location / { return 200 "$nonesuch"; }
--- must_die
--- error_log
unknown "nonesuch" variable

=== braces around a name
--- config
location / { set $a x; return 200 "${a}y${a}"; }
--- request
GET /
--- response_body chomp
xyx

=== if tests whether a value is there
--- config
location / { if ($arg_a) { return 200 "yes"; } return 200 "no"; }
--- request eval
["GET /?a=1", "GET /", "GET /?a=", "GET /?a=0", "GET /?a=00"]
--- response_body eval
["yes", "no", "no", "no", "yes"]

=== if compares
--- config
location /eq { if ($arg_a = x) { return 200 "equal"; } return 200 "other"; }
location /ne { if ($arg_a != x) { return 200 "other"; } return 200 "equal"; }
--- request eval
["GET /eq?a=x", "GET /eq?a=X", "GET /ne?a=x", "GET /ne?a=y"]
--- response_body eval
["equal", "other", "equal", "other"]

=== if matches
--- config
location /m { if ($arg_a ~ ^[a-c]+$) { return 200 "match"; } return 200 "none"; }
location /i { if ($arg_a ~* ^[a-c]+$) { return 200 "match"; } return 200 "none"; }
location /n { if ($arg_a !~ ^[a-c]+$) { return 200 "none"; } return 200 "match"; }
location /j { if ($arg_a !~* ^[a-c]+$) { return 200 "none"; } return 200 "match"; }
--- request eval
["GET /m?a=abc", "GET /m?a=ABC", "GET /i?a=ABC", "GET /n?a=abc", "GET /n?a=abd", "GET /j?a=ABC"]
--- response_body eval
["match", "none", "match", "match", "none", "match"]

=== captures of if
--- config
location / { if ($uri ~ ^/(\w+)/(?<n>\d+)$) { return 200 "$1 $n"; } return 200 "none"; }
--- request eval
["GET /abc/12", "GET /abc"]
--- response_body eval
["abc 12", "none"]

=== if asks for files
--- config
location / {
    root $TEST_NGINX_HTML_DIR;
    set $kind "";
    if (-f $request_filename) { set $kind "${kind}file "; }
    if (-d $request_filename) { set $kind "${kind}directory "; }
    if (-e $request_filename) { set $kind "${kind}exists "; }
    if (!-f $request_filename) { set $kind "${kind}nofile "; }
    if (!-d $request_filename) { set $kind "${kind}nodirectory "; }
    if (!-e $request_filename) { set $kind "${kind}nothing "; }
    if ($kind) { return 200 "$kind"; }
}
--- user_files
>>> d/f.txt
x
--- request eval
["GET /d/f.txt", "GET /d", "GET /none"]
--- response_body eval
["file exists nodirectory ", "directory exists nofile ", "nofile nodirectory nothing "]

=== an executable file
--- init
chmod 0755, "$ENV{TEST_NGINX_HTML_DIR}/run"; chmod 0644, "$ENV{TEST_NGINX_HTML_DIR}/text";
--- config
location / {
    root $TEST_NGINX_HTML_DIR;
    if (-x $request_filename) { return 200 "can run"; }
    return 200 "cannot";
}
--- user_files
>>> run
x
>>> text
x
--- request eval
["GET /run", "GET /text"]
--- response_body eval
["can run", "cannot"]

=== if has a configuration of its own
--- config
location / {
    add_header X-Where outside;
    if ($arg_a) { add_header X-Where inside; }
    root $TEST_NGINX_HTML_DIR;
}
--- user_files
>>> f.txt
file
--- request eval
["GET /f.txt", "GET /f.txt?a=1"]
--- response_headers eval
["X-Where: outside", "X-Where: inside"]

=== the last if that holds gives the configuration
--- config
location / {
    if ($arg_a) { add_header X-If one; }
    if ($arg_b) { add_header X-If two; }
    root $TEST_NGINX_HTML_DIR;
}
--- request eval
["GET /?a=1", "GET /?a=1&b=1", "GET /"]
--- response_headers eval
["X-If: one", "X-If: two", "!X-If"]

=== set inside if
--- config
location / {
    set $v before;
    if ($arg_a) { set $v inside; }
    return 200 "$v";
}
--- request eval
["GET /", "GET /?a=1"]
--- response_body eval
["before", "inside"]

=== break ends the rules
--- config
location / {
    set $v 1;
    if ($arg_a) { break; }
    set $v 2;
    if ($v) { return 200 "$v"; }
}
--- request
GET /
--- response_body chomp
2

=== break leaves the request to the location
--- config
location / { root $TEST_NGINX_HTML_DIR; if ($arg_a) { break; return 500; } return 200 "went on"; }
--- user_files
>>> f.txt
file
--- request eval
["GET /f.txt?a=1", "GET /f.txt"]
--- response_body eval
["file\n", "went on"]

=== if in a server
--- config
if ($http_x_stop) { return 403; }
location / { return 200 "passed"; }
--- request
GET /
--- more_headers
X-Stop: 1
--- error_code: 403

=== an unknown test is refused
--- config
location / { if ($uri == x) { return 200; } }
--- must_die
--- error_log
unexpected "=="

=== a condition without a variable is refused
--- config
location / { if (uri) { return 200; } }
--- must_die
--- error_log
invalid condition "uri"

=== variables that cannot be set
--- config
location / { set $uri /x; }
--- must_die
--- error_log
the duplicate "uri" variable

=== $args and $limit_rate take what is set
--- config
location / { set $args "n=1"; set $limit_rate 2k; return 200 "$args $query_string $arg_n $limit_rate"; }
--- request
GET /?old
--- response_body chomp
n=1 n=1 1 2048

=== a wrong $limit_rate is mentioned
--- config
location / { set $limit_rate fast; return 200 "$limit_rate"; }
--- request
GET /
--- response_body chomp
0
--- error_log
invalid $limit_rate "fast"

=== a variable of a family keeps what was set, and is computed where it was not
--- config
location /a { set $http_x_foo mine; set $arg_n mine; return 200 "$http_x_foo $arg_n"; }
location /b { return 200 "$http_x_foo $arg_n"; }
--- more_headers
X-Foo: sent
--- request eval
["GET /a?n=1", "GET /b?n=1"]
--- response_body eval
["mine mine", "sent 1"]

=== a map is not hidden by set, which assigns it for the request
--- http_config
map $arg_m $m { default d; 1 one; }
--- config
location /a { return 200 "$m"; }
location /b { set $m set; return 200 "$m"; }
--- request eval
["GET /a?m=1", "GET /b?m=1"]
--- response_body eval
["one", "set"]

=== conditions with parentheses of their own
--- config
location / { if ( $arg_a = "b)" ) { return 200 "yes"; } return 200 "no"; }
--- request eval
["GET /?a=b)", "GET /?a=b"]
--- response_body eval
["yes", "no"]

=== an alias and its if
--- config
location /a/ { alias $TEST_NGINX_HTML_DIR/; if ($arg_x) { add_header X-If yes; } }
--- user_files
>>> f.txt
file
--- request eval
["GET /a/f.txt", "GET /a/f.txt?x=1"]
--- response_body eval
["file\n", "file\n"]
--- response_headers eval
["!X-If", "X-If: yes"]

=== an if inside an if is refused
--- config
location / { if ($arg_a) { if ($arg_b) { return 200; } } }
--- must_die
--- error_log
"if" directive is not allowed here

=== a condition without its end is refused
--- config
location / { if ($arg_a = b { return 200; } }
--- must_die
--- error_log
invalid condition "b"

=== a variable is needed to compare
--- config
location / { if (a = b) { return 200; } }
--- must_die
--- error_log
invalid condition "a"
