# gzip_static: compressed files beside the ones asked for.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== the compressed file for those who accept it
--- http_config
types { text/css css; }
--- config
gzip_static on;
--- user_files
>>> a.css
plain
>>> a.css.gz
packed
>>> b.css
plain
--- more_headers
Accept-Encoding: gzip
--- request eval
["GET /a.css", "GET /b.css", "HEAD /a.css"]
--- response_body eval
["packed\n", "plain\n", ""]
--- response_headers eval
["Content-Encoding: gzip\nContent-Type: text/css\nContent-Length: 7", "!Content-Encoding\nContent-Type: text/css", "Content-Encoding: gzip\nContent-Length: 7"]

=== the plain file for others
--- config
gzip_static on;
--- user_files
>>> a.css
plain
>>> a.css.gz
packed
--- request
GET /a.css
--- response_body
plain
--- response_headers
!Content-Encoding
!Vary

=== always
--- config
gzip_static always;
--- user_files
>>> a.css.gz
packed
--- request
GET /a.css
--- response_body
packed
--- response_headers
Content-Encoding: gzip
!Vary

=== gzip_vary tells of a compressed file also those who do not get it
--- config
gzip_static on;
gzip_vary on;
--- user_files
>>> a.css
plain
>>> a.css.gz
packed
>>> b.css
plain
--- request eval
["GET /a.css", "GET /b.css"]
--- response_headers eval
["Vary: Accept-Encoding", "!Vary"]

=== directories are left alone
--- config
gzip_static on;
--- user_files
>>> a.gz/index.html
x
>>> a
plain
--- more_headers
Accept-Encoding: gzip
--- request
GET /a
--- response_body
plain
