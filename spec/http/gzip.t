# `gzip`: proxies, clients, the ratio, directives of little use.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== gzip_proxied
--- config
gzip on;
gzip_types text/plain;
location /off { return 200 "0123456789012345678901234567890123456789"; }
location /any { gzip_proxied any; return 200 "0123456789012345678901234567890123456789"; }
location /auth { gzip_proxied auth no-cache; return 200 "0123456789012345678901234567890123456789"; }
location /no-store { gzip_proxied no-store; add_header Cache-Control "max-age=1, No-Store"; return 200 "0123456789012345678901234567890123456789"; }
location /private { gzip_proxied no-store; add_header Cache-Control private; return 200 "0123456789012345678901234567890123456789"; }
location /expired { gzip_proxied expired; expires epoch; return 200 "0123456789012345678901234567890123456789"; }
location /expires { gzip_proxied expired; expires 1h; return 200 "0123456789012345678901234567890123456789"; }
location /none { gzip_proxied no_etag no_last_modified; return 200 "0123456789012345678901234567890123456789"; }
--- more_headers eval
[("Accept-Encoding: gzip\nVia: 1.1 x") x 3, "Accept-Encoding: gzip\nVia: 1.1 x\nAuthorization: Basic x", ("Accept-Encoding: gzip\nVia: 1.1 x") x 5]
--- request eval
["GET /off", "GET /any", "GET /auth", "GET /auth", "GET /no-store", "GET /private", "GET /expired", "GET /expires", "GET /none"]
--- response_headers eval
["!Content-Encoding", "Content-Encoding: gzip", "Content-Encoding: gzip", "Content-Encoding: gzip", "Content-Encoding: gzip", "!Content-Encoding", "Content-Encoding: gzip", "!Content-Encoding", "Content-Encoding: gzip"]

=== directives of little use are accepted, in `if` too
--- http_config
types { text/plain txt; }
--- config
gzip_buffers 4 8k;
gzip_hash 64k;
gzip_window 16k;
gzip_no_buffer on;
postpone_gzipping 1k;
gzip_comp_level 9;
gzip_types text/plain;
gzip_types text/x;
location / {
    if ($arg_gzip) { gzip on; }
}
--- user_files eval
[["f.txt", "0123456789" x 500]]
--- more_headers
Accept-Encoding: gzip
--- request
GET /f.txt?gzip=1
--- response_headers
Content-Encoding: gzip
--- response_body_filters eval
sub { require Compress::Zlib; Compress::Zlib::memGunzip($_[0]) }
--- response_body eval
"0123456789" x 500

=== $gzip_ratio
--- http_config
log_format ratio "[$gzip_ratio]";
--- config
gzip on;
gzip_types text/plain;
access_log $TEST_NGINX_HTML_DIR/ratio.log ratio;
location /z { return 200 "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"; }
location /ratio.log { access_log off; gzip off; }
--- more_headers eval
["Accept-Encoding: gzip", "X: y", "X: y"]
--- request eval
["GET /z", "GET /z", "GET /ratio.log"]
--- response_body_like eval
["", "^01234", "^\\[\\d\\.\\d\\d\\]\n\\[-\\]\n\$"]

=== HEAD gets the head of GET
--- http_config
types { text/html html; }
--- config
gzip on;
gzip_vary on;
--- user_files eval
[["f.html", "0123456789" x 10]]
--- more_headers
Accept-Encoding: gzip
--- request
HEAD /f.html
--- response_headers
Content-Encoding: gzip
Vary: Accept-Encoding
!Content-Length
!Transfer-Encoding
