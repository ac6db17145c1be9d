# `charset`: names and recoding.
use Test::Nginx::Socket 'no_plan';
no_root_location();
run_tests();

__DATA__

=== to and from UTF-8
--- http_config
types { text/plain txt; }
charset_map koi8-r utf-8 { C1 D0B0; C2 D0B1; }
charset_types text/plain;
--- config
location /to { source_charset koi8-r; charset utf-8; }
location /from { source_charset utf-8; charset koi8-r; }
--- user_files eval
[["to.txt", "a\xc1\xc2\xffz"], ["from.txt", "a\xd0\xb0\xd0\xb1\xe2\x82\xac\xf0\x9f\x98\x80z"]]
--- request eval
["GET /to.txt", "GET /from.txt"]
--- response_body eval
["a\xd0\xb0\xd0\xb1?z", "a\xc1\xc2&#8364;&#128512;z"]
--- response_headers eval
["Content-Type: text/plain; charset=utf-8\n!Content-Length", "Content-Type: text/plain; charset=koi8-r\n!Content-Length"]

=== between one-byte charsets the length stays, in both directions
--- http_config
types { text/plain txt; }
charset_map A B { 61 62; }
charset_types text/plain;
--- config
location /ab { source_charset A; charset B; return 200 "xax"; }
location /ba { source_charset b; charset a; return 200 "xbx"; }
--- request eval
["GET /ab", "GET /ba"]
--- response_body eval
["xbx", "xax"]
--- response_headers eval
["Content-Length: 3", "Content-Length: 3\nContent-Type: text/plain; charset=A"]

=== no map: the response stays as it is
--- config
location / { source_charset $arg_s; charset $arg_c; return 200 "x"; }
--- request
GET /?s=a&c=b
--- response_headers
Content-Type: text/plain
--- error_log
no "charset_map" between the charsets "a" and "b"

=== the same charset needs no map
--- config
location / { source_charset $arg_s; charset $arg_c; return 200 "x"; }
--- request
GET /?s=a&c=A
--- response_headers
Content-Type: text/plain; charset=A

=== includes are recoded to the charset of their page
--- http_config
types { text/html html; }
charset_map A B { 61 62; }
--- config
charset B;
source_charset B;
ssi on;
location /a { source_charset A; }
--- user_files
>>> p.html
a<!--#include virtual="/a.html" -->
>>> a.html
a
--- request
GET /p.html
--- response_body eval
"ab\n\n"

=== charset_types replaces all default types but text/html
--- config
charset utf-8;
charset_types text/css text/plain;
default_type text/xml;
location = /a.css { types { text/css css; } return 200 "a"; }
location = /a.html { types { text/html html; } return 200 "a"; }
location = /a.xml { return 200 "a"; }
--- request eval
["GET /a.css", "GET /a.html", "GET /a.xml"]
--- response_headers eval
["Content-Type: text/css; charset=utf-8", "Content-Type: text/html; charset=utf-8", "Content-Type: text/xml"]
--- no_error_log
duplicate MIME type
