# Who may come in: `allow`, `deny`, `satisfy`, `auth_basic`, `auth_request`, `valid_referers`, `secure_link`.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== deny all
--- config
location / { deny all; }
--- request
GET /
--- error_code: 403
--- error_log
access forbidden by rule, client: 127.0.0.1

=== the first rule that fits decides
--- config
location /a { allow 127.0.0.1; deny all; try_files /f.txt =404; }
location /b { deny 127.0.0.1; allow all; try_files /f.txt =404; }
location /c { allow 10.0.0.0/8; deny all; try_files /f.txt =404; }
location /d { deny 10.0.0.0/8; try_files /f.txt =404; }
location /e { deny ::1; allow 127.0.0.0/8; deny all; try_files /f.txt =404; }
--- user_files
>>> f.txt
in
--- request eval
["GET /a", "GET /b", "GET /c", "GET /d", "GET /e"]
--- error_code eval
[200, 403, 403, 200, 200]

=== rules are inherited as a whole
--- config
deny all;
location /a { allow all; try_files /f.txt =404; }
location /b { try_files /f.txt =404; }
--- user_files
>>> f.txt
in
--- request eval
["GET /a", "GET /b"]
--- error_code eval
[200, 403]

=== return comes before access rules
--- config
location / { deny all; return 200 "x"; }
--- request
GET /
--- response_body chomp
x

=== a wrong network is refused
--- config
deny 127.0.0.300;
--- must_die
--- error_log
invalid parameter "127.0.0.300"

=== bits behind the mask draw a warning
--- config
location / { allow 127.0.0.1/8; deny all; try_files /f.txt =404; }
--- user_files
>>> f.txt
in
--- request
GET /
--- response_body
in
--- error_log
low address bits of 127.0.0.1/8 are meaningless

=== auth_basic asks for a password
--- config
location / { auth_basic "the realm"; auth_basic_user_file $TEST_NGINX_HTML_DIR/users; }
--- user_files
>>> users
ann:{PLAIN}secret
--- request
GET /
--- error_code: 401
--- response_headers
WWW-Authenticate: Basic realm="the realm"
--- error_log
no user/password was provided for basic authentication

=== passwords of all kinds
--- config
location / { auth_basic "r"; auth_basic_user_file $TEST_NGINX_HTML_DIR/users; try_files /f.txt =404; }
--- user_files eval
[["f.txt", "in"], ["users", join "\n",
    "# a comment",
    'plain:{PLAIN}secret',
    'sha:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=',
    'ssha:{SSHA}yI6cZwQadOA1e+/f+T+H3eCQQhRzYWx0',
    'crypt:rqXexS6ZhobKA',
    'apr1:$apr1$xxxxxxxx$dxHfLAsjHkDRmG83UXe8K0',
    'more:{PLAIN}secret:with a comment',
    ""]]
--- more_headers eval
["Authorization: Basic cGxhaW46c2VjcmV0", "Authorization: Basic c2hhOnNlY3JldA==", "Authorization: Basic bW9yZTpzZWNyZXQ=", "Authorization: Basic cGxhaW46d3Jvbmc=", "Authorization: Basic bm9ib2R5OnNlY3JldA==", "authorization: basic cGxhaW46c2VjcmV0"]
--- request eval
[("GET /") x 6]
--- error_code eval
[200, 200, 200, 401, 401, 200]

=== a wrong password is logged
--- config
location / { auth_basic "r"; auth_basic_user_file $TEST_NGINX_HTML_DIR/users; }
--- user_files
>>> users
plain:{PLAIN}secret
--- more_headers
Authorization: Basic cGxhaW46d3Jvbmc=
--- request
GET /
--- error_code: 401
--- error_log
user "plain": password mismatch, client: 127.0.0.1

=== an unknown user is logged
--- config
location / { auth_basic "r"; auth_basic_user_file $TEST_NGINX_HTML_DIR/users; }
--- user_files
>>> users
plain:{PLAIN}secret
--- more_headers
Authorization: Basic bm9ib2R5OnNlY3JldA==
--- request
GET /
--- error_code: 401
--- error_log eval
qr/user "nobody" was not found in "\S+\/users"/

=== a missing file of users
--- config
location / { auth_basic "r"; auth_basic_user_file $TEST_NGINX_HTML_DIR/none; }
--- more_headers
Authorization: Basic cGxhaW46c2VjcmV0
--- request
GET /
--- error_code: 403
--- error_log
(2: No such file or directory)

=== auth_basic off, and by a variable
--- config
auth_basic "r";
auth_basic_user_file $TEST_NGINX_HTML_DIR/users;
location /off { auth_basic off; try_files /f.txt =404; }
location /var { auth_basic $arg_realm; try_files /f.txt =404; }
--- user_files
>>> users
x:{PLAIN}x
>>> f.txt
in
--- request eval
["GET /off", "GET /var?realm=off", "GET /var?realm=shop", "GET /else"]
--- error_code eval
[200, 200, 401, 401]

=== $remote_user
--- config
location / { auth_basic "r"; auth_basic_user_file $TEST_NGINX_HTML_DIR/users; add_header X-User $remote_user; try_files /f.txt =404; }
--- user_files
>>> users
plain:{PLAIN}secret
>>> f.txt
in
--- more_headers
Authorization: Basic cGxhaW46c2VjcmV0
--- request
GET /
--- response_headers
X-User: plain
--- access_log
- plain [

=== satisfy any
--- config
satisfy any;
auth_basic "r";
auth_basic_user_file $TEST_NGINX_HTML_DIR/users;
location /in { allow 127.0.0.1; deny all; try_files /f.txt =404; }
location /out { deny all; try_files /f.txt =404; }
--- user_files
>>> users
plain:{PLAIN}secret
>>> f.txt
in
--- more_headers eval
["X: y", "X: y", "Authorization: Basic cGxhaW46c2VjcmV0"]
--- request eval
["GET /in", "GET /out", "GET /out"]
--- error_code eval
[200, 401, 200]

=== satisfy all
--- config
satisfy all;
auth_basic "r";
auth_basic_user_file $TEST_NGINX_HTML_DIR/users;
location /in { allow 127.0.0.1; deny all; try_files /f.txt =404; }
location /out { deny all; try_files /f.txt =404; }
--- user_files
>>> users
plain:{PLAIN}secret
>>> f.txt
in
--- more_headers eval
["X: y", ("Authorization: Basic cGxhaW46c2VjcmV0") x 2]
--- request eval
["GET /in", "GET /out", "GET /in"]
--- error_code eval
[401, 403, 200]

=== auth_request
--- config
location / { auth_request /auth; auth_request_set $who $sent_http_x_who; add_header X-Who $who; try_files /f.txt =404; }
location = /auth { internal; add_header X-Who $arg_a; if ($http_x_ok) { return 204; } return 401; }
location /forbidden { auth_request /no; try_files /f.txt =404; }
location = /no { return 403; }
location /broken { auth_request /error; try_files /f.txt =404; }
location = /error { return 404; }
--- user_files
>>> f.txt
in
--- more_headers eval
["X-Ok: 1", "X: y", "X: y", "X: y"]
--- request eval
["GET /f.txt", "GET /f.txt", "GET /forbidden", "GET /broken"]
--- error_code eval
[200, 401, 403, 500]

=== valid_referers
--- config
location / {
    valid_referers none blocked server_names *.example.com example.org/pages ~\.test\.;
    if ($invalid_referer) { return 403; }
    return 200 "fine";
}
--- more_headers eval
["X: y", map { "Referer: $_" } "http://www.example.com/x", "http://example.org/pages/1", "http://example.org/else", "http://a.test.net/", "http://bad.net/", "mangled", "http://localhost/"]
--- request eval
[("GET /") x 8]
--- error_code eval
[200, 200, 200, 403, 200, 403, 200, 200]

=== secure_link with a time
--- config
location / {
    secure_link $arg_h,$arg_e;
    secure_link_md5 "$secure_link_expires$uri secret";
    return 200 "[$secure_link]";
}
--- request eval
["GET /x", "GET /x?h=wrong&e=2000000000", "GET /x?h=S96tSzK-0T72VNBZHpG3KA&e=2000000000", "GET /x?h=sd4hwdfAEWd9q60aHeAZbw&e=1"]
--- response_body eval
["[]", "[]", "[1]", "[0]"]

=== secure_link with the right digest
--- config
location / {
    secure_link $arg_h;
    secure_link_md5 "$uri secret";
    return 200 "[$secure_link]";
}
--- request eval
["GET /x?h=FGp6vawnh0a-6hLIkPnHqA", "GET /y?h=FGp6vawnh0a-6hLIkPnHqA"]
--- response_body eval
["[1]", "[]"]

=== secure_link_secret
--- config
location /p/ { secure_link_secret word; return 200 "[$secure_link]"; }
--- request eval
["GET /p/0f8a8b6e9e5c8a5b0f8a8b6e9e5c8a5b/link", "GET /p/link", "GET /p/29245bdc2d04a9e0e729927ed0f84e26/link"]
--- response_body eval
["[]", "[]", "[link]"]
