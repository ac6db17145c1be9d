# Small modules: `realip`, `userid`, `stub_status`, `empty_gif`, `mirror`, `browser`.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== empty_gif
--- config
location / { empty_gif; }
--- request
GET /
--- response_headers
Content-Type: image/gif
Content-Length: 43
Last-Modified: Mon, 28 Sep 1970 06:00:00 GMT
--- response_body_like: ^GIF89a

=== empty_gif: only GET and HEAD
--- config
location / { empty_gif; }
--- request eval
["HEAD /", "POST /\nx"]
--- error_code eval
[200, 405]

=== stub_status
--- config
location / { stub_status; }
--- request
GET /
--- response_body_like chomp
^Active connections: 1 
server accepts handled requests
 1 1 1 
Reading: 0 Writing: 1 Waiting: 0 
$
--- response_headers
Content-Type: text/plain

=== variables of stub_status
--- config
location / { return 200 "$connections_active $connections_reading $connections_writing $connections_waiting"; }
--- request
GET /
--- response_body chomp
1 0 1 0

=== realip
--- config
set_real_ip_from 127.0.0.1;
location / { return 200 "$remote_addr $realip_remote_addr"; }
--- more_headers eval
["X-Real-IP: 10.1.2.3", "X-Real-IP: nonsense", "X: y", "X-Real-IP: 2001:db8::1"]
--- request eval
[("GET /") x 4]
--- response_body eval
["10.1.2.3 127.0.0.1", "127.0.0.1 127.0.0.1", "127.0.0.1 127.0.0.1", "2001:db8::1 127.0.0.1"]

=== realip from X-Forwarded-For: the last address, or the last that is not trusted
--- config
set_real_ip_from 127.0.0.1;
set_real_ip_from 10.0.0.0/8;
real_ip_header X-Forwarded-For;
location /last { return 200 "$remote_addr"; }
location /rec { real_ip_recursive on; try_files /f @rec; }
location @rec { return 200 "$remote_addr"; }
--- more_headers
X-Forwarded-For: 1.1.1.1, 2.2.2.2, 10.1.1.1
--- request
GET /last
--- response_body chomp
10.1.1.1

=== realip recursive
--- config
set_real_ip_from 127.0.0.1;
set_real_ip_from 10.0.0.0/8;
real_ip_header X-Forwarded-For;
real_ip_recursive on;
location / { return 200 "$remote_addr"; }
--- more_headers eval
["X-Forwarded-For: 1.1.1.1, 2.2.2.2, 10.1.1.1", "X-Forwarded-For: 10.2.2.2, 10.1.1.1", "X-Forwarded-For: bad, 10.1.1.1"]
--- request eval
[("GET /") x 3]
--- response_body eval
["2.2.2.2", "10.2.2.2", "10.1.1.1"]

=== realip: others are not believed
--- config
set_real_ip_from 10.0.0.0/8;
location / { return 200 "$remote_addr"; }
--- more_headers
X-Real-IP: 1.1.1.1
--- request
GET /
--- response_body chomp
127.0.0.1

=== realip applies to access rules and the log
--- config
set_real_ip_from 127.0.0.1;
location / { deny 10.0.0.0/8; }
--- more_headers
X-Real-IP: 10.1.1.1
--- request
GET /
--- error_code: 403
--- access_log
10.1.1.1 - -
--- error_log
access forbidden by rule, client: 10.1.1.1

=== userid gives everybody a cookie
--- config
userid on;
userid_name who;
location / { return 200 "[$uid_got]"; }
--- request
GET /
--- response_headers_like
Set-Cookie: who=[A-Za-z0-9+/]{22}==; path=/
--- response_body chomp
[]

=== userid: attributes
--- config
userid on;
userid_domain .example.com;
userid_path /p;
userid_expires 1d;
userid_flags secure httponly samesite=strict;
userid_p3p "policy";
location / { return 200 ""; }
--- request
GET /
--- response_headers_like
Set-Cookie: uid=[A-Za-z0-9+/]{22}==; expires=\w{3}, \d\d-\w{3}-\d\d \d\d:\d\d:\d\d GMT; domain=\.example\.com; path=/p; secure; httponly; samesite=strict
P3P: policy

=== userid knows its cookie
--- config
userid on;
location / { return 200 "$uid_got"; }
--- more_headers
Cookie: uid=AQAAf0h1Y2tsZWJlcnJ5AA==
--- request
GET /
--- response_headers
!Set-Cookie
--- response_body_like: ^uid=[0-9A-F]{32}$

=== userid log only reads
--- config
userid log;
location / { return 200 "[$uid_got][$uid_set]"; }
--- request
GET /
--- response_headers
!Set-Cookie
--- response_body chomp
[][]

=== mirror sends a copy
--- http_config
log_format own '$uri $request_method';
access_log logs/access.log own;
--- config
log_subrequest on;
location / { mirror /copy; try_files /f.txt =404; }
location = /copy { internal; return 204; }
--- user_files
>>> f.txt
x
--- request
GET /a
--- response_body
x
--- access_log
/copy GET

=== ancient_browser and modern_browser
--- config
location / {
    ancient_browser "Old/1";
    modern_browser gecko 1.9;
    modern_browser unlisted;
    return 200 "[$ancient_browser][$modern_browser][$msie]";
}
--- more_headers eval
[map { "User-Agent: $_" } "Old/1.0", "Something new", "Mozilla/5.0 (compatible; MSIE 9.0; Windows)"]
--- request eval
[("GET /") x 3]
--- response_body eval
["[1][][]", "[][1][]", "[][1][1]"]
