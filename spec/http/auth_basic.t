# Password files: every scheme, and what is said about them.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== schemes of crypt(3)
--- config
location / { auth_basic "r"; auth_basic_user_file $TEST_NGINX_HTML_DIR/users; try_files /f.txt =404; }
--- user_files eval
[["f.txt", "in"], ["users", join "\n",
    'des:ab5gZNWG8WS2o',
    'md5:$1$saltsalt$J1qHwXrLGhcFnuxXjuvg40',
    'apr1:$apr1$saltsalt$ZGNIkD6C2HW3.Zar8lgf21',
    'sha256:$5$saltsalt$i5Xs30bhClGhfqzX0uflMHUQCBsFLx0exz9QjqN6o51',
    'rounds:$5$rounds=1000$saltsalt$mAcRHtF/p7dUdfSnqeeVevv94v2FsBbyAUwt..GIarB',
    'sha512:$6$saltsalt$GlQdiv8Gqy9x0lf9sh3b0wWjbJgeusrWH7g5QLNnLSRyj.PwTbk/u0gYJ9CLiDuKYhs3w/DZ6vYZ5Wxk5xbvB/',
    'bcrypt:$2y$05$abcdefghijklmnopqrstuu9VqOvpvwEaNA7xfyCDJ1dHu2I1P0kBS',
    'yescrypt:$y$j9T$F5Jx5fExrKuPp53xLKQ..1$kOHEs4lG3C7XOWvJ51kkjDlOyLglCFWmkPMshn2K1.8',
    ""]]
--- more_headers eval
use MIME::Base64;
[map { "Authorization: Basic " . encode_base64("$_:foo-pass", "") } qw(des md5 apr1 sha256 rounds sha512 bcrypt yescrypt)]
--- request eval
[("GET /") x 8]
--- error_code eval
[(200) x 8]

=== the same schemes with a wrong password
--- config
location / { auth_basic "r"; auth_basic_user_file $TEST_NGINX_HTML_DIR/users; try_files /f.txt =404; }
--- user_files eval
[["f.txt", "in"], ["users", join "\n",
    'des:ab5gZNWG8WS2o',
    'apr1:$apr1$saltsalt$ZGNIkD6C2HW3.Zar8lgf21',
    'sha512:$6$saltsalt$GlQdiv8Gqy9x0lf9sh3b0wWjbJgeusrWH7g5QLNnLSRyj.PwTbk/u0gYJ9CLiDuKYhs3w/DZ6vYZ5Wxk5xbvB/',
    'bcrypt:$2y$05$abcdefghijklmnopqrstuu9VqOvpvwEaNA7xfyCDJ1dHu2I1P0kBS',
    'unknown:$9$saltsalt$xxx',
    'empty:',
    ""]]
--- more_headers eval
use MIME::Base64;
[map { "Authorization: Basic " . encode_base64("$_:wrong", "") } qw(des apr1 sha512 bcrypt unknown empty)]
--- request eval
[("GET /") x 6]
--- error_code eval
[(401) x 6]

=== a realm with a variable
--- config
location / { auth_basic "for $arg_who"; auth_basic_user_file $TEST_NGINX_HTML_DIR/none; }
--- request
GET /?who=you
--- error_code: 401
--- response_headers
WWW-Authenticate: Basic realm="for you"

=== a file by a variable, below the directory of the configuration
--- config
location / { auth_basic "r"; auth_basic_user_file $arg_file; }
--- more_headers
Authorization: Basic dTpw
--- request
GET /?file=none
--- error_code: 403
--- error_log eval
qr/open\(\) "\S+\/conf\/none" failed \(2: No such file or directory\)/

=== a challenge survives an error page
--- config
location / { auth_basic "r"; auth_basic_user_file $TEST_NGINX_HTML_DIR/none; error_page 401 /login; }
location = /login { auth_basic off; return 200 "please"; }
--- request
GET /
--- error_code: 401
--- response_headers
WWW-Authenticate: Basic realm="r"
--- response_body chomp
please

=== limit_except may ask for a password
--- config
location / {
    limit_except GET { auth_basic "r"; auth_basic_user_file $TEST_NGINX_HTML_DIR/none; }
    try_files /f.txt =404;
}
--- user_files
>>> f.txt
in
--- request eval
["GET /", "DELETE /"]
--- error_code eval
[200, 401]
