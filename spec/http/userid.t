# Cookies that tell clients apart.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== a mark takes the place of the first equals sign
--- config
userid on;
userid_mark x;
location / { return 200 "$uid_set"; }
--- request
GET /
--- response_headers_like
Set-Cookie: uid=[A-Za-z0-9+/]{22}x=; path=/
--- response_body_like: ^uid=[0-9A-F]{32}$

=== a cookie without the mark gets it
--- config
userid on;
userid_mark x;
location / { return 200 "[$uid_got]"; }
--- more_headers eval
["Cookie: uid=AQAAf0h1Y2tsZWJlcnJ5AA==", "Cookie: uid=AQAAf0h1Y2tsZWJlcnJ5AAx="]
--- request eval
["GET /", "GET /"]
--- response_headers eval
["Set-Cookie: uid=AQAAf0h1Y2tsZWJlcnJ5AAx=; path=/", "!Set-Cookie"]
--- response_body eval
["[uid=7F0000016B6375486562656C00797272]", "[uid=7F0000016B6375486562656C00797272]"]

=== reset gives another number, and may say so
--- config
userid on;
location / { set $uid_reset $arg_reset; return 200 ""; }
--- more_headers
Cookie: uid=AQAAf0h1Y2tsZWJlcnJ5AA==
--- request
GET /?reset=log
--- response_headers_like
Set-Cookie: uid=[A-Za-z0-9+/]{22}==; path=/
--- error_log
userid cookie "uid=7F0000016B6375486562656C00797272" was reset

=== no reset without a reason
--- config
userid on;
location / { set $uid_reset $arg_reset; return 200 "[$uid_set]"; }
--- more_headers
Cookie: uid=AQAAf0h1Y2tsZWJlcnJ5AA==
--- request eval
["GET /", "GET /?reset=0"]
--- response_headers eval
["!Set-Cookie", "!Set-Cookie"]
--- response_body eval
["[]", "[]"]

=== a cookie that is too short
--- config
userid on;
location / { return 200 "[$uid_got]"; }
--- more_headers
Cookie: a=b; uid=short
--- request
GET /
--- response_body chomp
[]
--- error_log
client sent too short userid cookie "a=b; uid=short"

=== a cookie that is no number
--- config
userid on;
location / { return 200 "[$uid_got]"; }
--- more_headers
Cookie: uid=!!!!!!!!!!!!!!!!!!!!!!
--- request
GET /
--- response_body chomp
[]
--- error_log
client sent invalid userid cookie "uid=!!!!!!!!!!!!!!!!!!!!!!"

=== version 1 and a service number
--- config
userid v1;
userid_service 65534;
location / { return 200 "$uid_set"; }
--- request
GET /
--- response_body_like: ^uid=0000FFFE[0-9A-F]{24}$

=== a lasting cookie
--- config
userid on;
userid_expires max;
userid_flags off;
location / { return 200 ""; }
--- request
GET /
--- response_headers_like
Set-Cookie: uid=[A-Za-z0-9+/]{22}==; expires=Thu, 31-Dec-37 23:55:55 GMT; path=/

=== a wrong mark is refused
--- config
userid_mark ab;
--- must_die
--- error_log
"userid_mark" directive value must be "off" or a single letter, digit or "="

=== a wrong flag is refused
--- config
userid_flags sweet;
--- must_die
--- error_log
invalid value "sweet"
