# Answers that call a function of the client's.
use Test::Nginx::Socket 'no_plan';
no_root_location();
run_tests();

__DATA__

=== a call is put around JSON
--- config
location / {
    default_type application/json;
    xss_get on;
    xss_callback_arg c;
    echo -n '{"a":1}';
}
--- request eval
["GET /?c=moon.rise", "GET /", "POST /?c=f\n"]
--- response_body eval
["moon.rise({\"a\":1});", "{\"a\":1}", "{\"a\":1}"]

=== its type is a script's, its length is open
--- config
location / { default_type application/json; xss_get on; xss_callback_arg c; return 200 1; }
--- request
GET /?c=f
--- response_headers
Content-Type: application/x-javascript
!Content-Length
--- response_body: f(1);

=== other types and statuses are left alone
--- config
location /text { default_type text/plain; xss_get on; xss_callback_arg c; return 200 1; }
location /none { default_type application/json; xss_get on; xss_callback_arg c; return 404 1; }
location /any { default_type application/json; xss_get on; xss_callback_arg c; xss_check_status off; return 404 1; }
--- request eval
["GET /text?c=f", "GET /none?c=f", "GET /any?c=f"]
--- error_code eval
[200, 404, 200]
--- response_body eval
["1", "1", "f(1);"]

=== what is no name is not called
--- config
location / { default_type application/json; xss_get on; xss_callback_arg c; return 200 1; }
--- request
GET /?c=alert(1)
--- response_body: 1
--- error_log
xss: bad callback argument: "alert(1)"

=== the call stands before a subrequest's answer
--- config
location / { default_type application/json; xss_get on; xss_callback_arg c; echo_location /sub; }
location /sub { echo -n world; }
--- request
GET /?c=hi
--- response_body: hi(world);
