# Access by what a subrequest answers.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== the answer decides
--- config
location /yes { auth_request /allow; try_files /f.txt =404; }
location /no { auth_request /forbid; try_files /f.txt =404; }
location /who { auth_request /challenge; try_files /f.txt =404; }
location /odd { auth_request /teapot; try_files /f.txt =404; }
location /free { auth_request off; try_files /f.txt =404; }
location = /allow { return 204; }
location = /forbid { return 403; }
location = /challenge { add_header WWW-Authenticate Some always; return 401; }
location = /teapot { return 418; }
--- user_files
>>> f.txt
in
--- request eval
["GET /yes", "GET /no", "GET /who", "GET /odd", "GET /free"]
--- error_code eval
[200, 403, 401, 500, 200]

=== any other answer is an error
--- config
location / { auth_request /teapot; try_files /f.txt =404; }
location = /teapot { return 418; }
--- request
GET /
--- error_code: 500
--- error_log
auth request unexpected status: 418, client: 127.0.0.1

=== internal locations may be asked
--- config
location / { auth_request /ask; try_files /f.txt =404; }
location = /ask { internal; return 200; }
--- user_files
>>> f.txt
in
--- request
GET /
--- response_body
in

=== variables are set from what was asked
--- config
location / { auth_request /ask; auth_request_set $who "$uri is $status"; add_header X-Who $who; try_files /f.txt =404; }
location = /ask { return 204; }
--- user_files
>>> f.txt
in
--- request
GET /
--- response_headers
X-Who: /ask is 204

=== they are there after an internal redirect, too
--- config
location / { auth_request /ask; auth_request_set $who ann; error_page 404 /other; try_files /none =404; }
location = /ask { return 204; }
location = /other { return 200 "for $who"; }
--- request
GET /
--- error_code: 404
--- response_body chomp
for ann

=== satisfy any: the answer is one of several
--- config
location /a { satisfy any; deny all; auth_request /allow; try_files /f.txt =404; }
location /b { satisfy any; allow all; auth_request /forbid; try_files /f.txt =404; }
location /c { satisfy any; deny all; auth_request /forbid; try_files /f.txt =404; }
location = /allow { return 204; }
location = /forbid { return 403; }
--- user_files
>>> f.txt
in
--- request eval
["GET /a", "GET /b", "GET /c"]
--- error_code eval
[200, 200, 403]

=== a wrong name of a variable is refused
--- config
location / { auth_request_set who x; }
--- must_die
--- error_log
invalid variable name "who"
