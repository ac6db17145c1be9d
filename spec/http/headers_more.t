# headers-more: fields set, replaced and removed.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== set, replace and clear response fields
--- config
location /t {
    add_header X-Old old;
    more_set_headers "Server: mine" "X-New: $arg_v" "Content-Type: text/x-test";
    more_clear_headers X-Gone;
    return 200 ok;
}
--- request
GET /t?v=1
--- response_headers
Server: mine
X-New: 1
Content-Type: text/x-test
X-Old: old
--- response_body: ok

=== only for some statuses and types
--- config
more_set_headers -s "404 500" "X-Error: yes";
more_set_headers -t "text/css" "X-Css: yes";
location /ok { return 200 ok; }
--- request
GET /missing
--- error_code: 404
--- response_headers
X-Error: yes
! X-Css

=== a type with a parameter is meant without it
--- config
default_type text/css;
charset utf-8;
more_set_headers -t "text/css; charset=utf-8" "X-Css: yes";
location /ok { return 200 ok; }
--- request
GET /ok
--- response_headers
X-Css: yes

=== a request that could not be read gets no fields
--- config
error_page 400 = /error;
location /error {
    more_set_input_headers "Cookie: a=set";
    return 200 "[$cookie_a]";
}
--- raw_request eval
"GeT / HTTP/1.1\r\nHost: a\r\n\r\n"
--- response_body: []

=== a wildcard clears all that begin so
--- config
location /t {
    more_set_headers "X-Hidden-A: 1" "X-Hidden-B: 2" "X-Shown: 3";
    more_clear_headers "X-Hidden-*" Server;
    return 200 ok;
}
--- request
GET /t
--- response_headers
! X-Hidden-A
! X-Hidden-B
! Server
X-Shown: 3

=== appended beside what is there
--- config
location /t {
    more_set_headers -a "Set-Cookie: a=1" "Set-Cookie: b=2";
    return 200 ok;
}
--- request
GET /t
--- raw_response_headers_like: Set-Cookie: a=1\r\nSet-Cookie: b=2

=== request fields
--- config
location /t {
    more_set_input_headers "X-In: $arg_v" "Host: example.org";
    more_set_input_headers -r "X-Absent: no";
    more_clear_input_headers "X-Drop*";
    echo "$http_x_in|$http_x_absent|$http_x_drop_me|$http_host";
}
--- request
GET /t?v=in
--- more_headers
X-Drop-Me: 1
--- response_body
in|||example.org

=== an option nobody knows
--- config
location /t { more_set_headers -q "A: b"; }
--- must_die
--- error_log
invalid option name: "-q"
