# Changing bodies: `gzip`, `gunzip`, `gzip_static`, `sub_filter`, `charset`, `addition`, `ssi`.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== gzip
--- config
gzip on;
gzip_types text/plain;
location / { return 200 "compress me, compress me, compress me, compress me"; }
--- more_headers
Accept-Encoding: gzip
--- request
GET /
--- response_headers
Content-Encoding: gzip
!Content-Length
--- response_body_filters eval
sub { require Compress::Zlib; Compress::Zlib::memGunzip($_[0]) }
--- response_body chomp
compress me, compress me, compress me, compress me

=== when gzip is not used
--- config
gzip on;
gzip_types text/plain;
location /short { return 200 "short"; }
location /type { default_type image/x; return 200 "long enough, long enough, long enough"; }
location /yes { return 200 "long enough, long enough, long enough"; }
location /coded { add_header Content-Encoding br; return 200 "long enough, long enough, long enough"; }
location /404 { return 404 "long enough, long enough, long enough"; }
location /201 { return 201 "long enough, long enough, long enough"; }
--- more_headers eval
[("Accept-Encoding: gzip") x 6, "Accept-Encoding: identity", "Accept-Encoding: gzip;q=0", "X: y", "Accept-Encoding: deflate, gzip;q=0.5", "Accept-Encoding: *"]
--- request eval
["GET /short", "GET /type", "GET /yes", "GET /404", "GET /201", "GET /yes", ("GET /yes") x 5]
--- error_code eval
[200, 200, 200, 404, 201, 200, (200) x 5]
--- response_headers eval
["!Content-Encoding", "!Content-Encoding", "Content-Encoding: gzip", "Content-Encoding: gzip", "!Content-Encoding", "Content-Encoding: gzip", "!Content-Encoding", "!Content-Encoding", "!Content-Encoding", "Content-Encoding: gzip", "!Content-Encoding"]

=== gzip_min_length, gzip_http_version, gzip_disable
--- config
gzip on;
gzip_types text/plain;
location /min { gzip_min_length 100; return 200 "0123456789012345678901234567890123456789"; }
location /http { return 200 "0123456789012345678901234567890123456789"; }
location /msie { gzip_disable msie6 "Old.*Browser"; return 200 "0123456789012345678901234567890123456789"; }
--- more_headers eval
["Accept-Encoding: gzip", "Accept-Encoding: gzip", "Accept-Encoding: gzip\nUser-Agent: Old Browser", "Accept-Encoding: gzip\nUser-Agent: Mozilla/4.0 (compatible; MSIE 5.5)", "Accept-Encoding: gzip\nUser-Agent: new"]
--- request eval
["GET /min", "GET /http HTTP/1.0", "GET /msie", "GET /msie", "GET /msie"]
--- response_headers eval
["!Content-Encoding", "!Content-Encoding", "!Content-Encoding", "!Content-Encoding", "Content-Encoding: gzip"]

=== gzip_vary
--- config
gzip on;
gzip_vary on;
gzip_types text/plain;
location / { return 200 "0123456789012345678901234567890123456789"; }
--- request
GET /
--- response_headers
Vary: Accept-Encoding
!Content-Encoding
--- response_body chomp
0123456789012345678901234567890123456789

=== a compressed answer has a weak tag and no ranges
--- http_config
types { text/html html; }
--- config
gzip on;
--- user_files eval
[["f.html", "0123456789" x 10, "201001010000.00"]]
--- more_headers
Accept-Encoding: gzip
--- request
GET /f.html
--- response_headers
Content-Encoding: gzip
ETag: W/"4b3d3b00-64"
!Accept-Ranges

=== gzip_static
--- http_config
types { text/plain txt; }
--- config
gzip_static on;
location /always/ { gzip_static always; }
--- user_files
>>> f.txt
plain
>>> f.txt.gz
packed
>>> g.txt
only plain
>>> always/f.txt.gz
always packed
--- more_headers eval
["Accept-Encoding: gzip", "X: y", "Accept-Encoding: gzip", "X: y"]
--- request eval
["GET /f.txt", "GET /f.txt", "GET /g.txt", "GET /always/f.txt"]
--- response_body eval
["packed\n", "plain\n", "only plain\n", "always packed\n"]
--- response_headers eval
["Content-Encoding: gzip\nContent-Type: text/plain", "!Content-Encoding", "!Content-Encoding", "Content-Encoding: gzip"]

=== gunzip for clients that cannot
--- http_config
types { text/plain txt; }
--- config
gzip_static always;
gunzip on;
--- user_files eval
[["f.txt.gz", do { require IO::Compress::Gzip; my $in = "unpacked"; my $out; IO::Compress::Gzip::gzip(\$in, \$out); $out }]]
--- request
GET /f.txt
--- response_body chomp
unpacked
--- response_headers
!Content-Encoding

=== sub_filter
--- config
location / { sub_filter one two; sub_filter_types *; return 200 "one and one"; }
--- request
GET /
--- response_body chomp
two and one

=== sub_filter_once off, several, variables, any case
--- config
location / {
    sub_filter_types text/plain;
    sub_filter_once off;
    sub_filter one "[$arg_a]";
    sub_filter three 3;
    return 200 "one ONE two three one";
}
--- request
GET /?a=x
--- response_body chomp
[x] [x] two 3 [x]

=== sub_filter leaves other types alone and drops length and date
--- http_config
types { text/html html; text/plain txt; }
--- config
sub_filter a b;
--- user_files
>>> f.html
aaa
>>> f.txt
aaa
--- request eval
["GET /f.html", "GET /f.txt"]
--- response_body eval
["baa\n", "aaa\n"]
--- response_headers eval
["!Content-Length\n!Last-Modified\n!ETag", "Content-Length: 4"]

=== sub_filter_last_modified
--- http_config
types { text/html html; }
--- config
sub_filter a b;
sub_filter_last_modified on;
--- user_files
>>> f.html 201001010000.00
aaa
--- request
GET /f.html
--- response_body
baa
--- response_headers
Last-Modified: Fri, 01 Jan 2010 00:00:00 GMT

=== a match across buffers
--- config
location / { sub_filter needle found; sub_filter_types *; sub_filter_once off; output_buffers 1 100; sendfile off; }
--- user_files eval
[["f.txt", join "", ("x" x 97 . "needle") x 20]]
--- request
GET /f.txt
--- response_body eval
join "", ("x" x 97 . "found") x 20

=== charset
--- http_config
types { text/html html; image/png png; }
--- config
charset utf-8;
location /other { charset koi8-r; return 200 "x"; }
location /off { charset off; return 200 "x"; }
--- user_files
>>> f.html
x
>>> f.png
x
--- request eval
["GET /f.html", "GET /f.png", "GET /other", "GET /off"]
--- response_headers eval
["Content-Type: text/html; charset=utf-8", "Content-Type: image/png", "Content-Type: text/plain; charset=koi8-r", "Content-Type: text/plain"]

=== recoding
--- http_config
charset_map A B { 61 62; 78 79; }
--- config
location / { source_charset A; charset B; return 200 "a x c"; }
--- request
GET /
--- response_body chomp
b y c
--- response_headers
Content-Type: text/plain; charset=B

=== charset by a variable
--- config
location / { charset $arg_c; return 200 "x"; }
--- request eval
["GET /?c=utf-8", "GET /?c=latin1"]
--- response_headers eval
["Content-Type: text/plain; charset=utf-8", "Content-Type: text/plain; charset=latin1"]

=== addition
--- config
location / { addition_types *; add_before_body /before; add_after_body /after; return 200 "body"; }
location = /before { return 200 "[before]"; }
location = /after { return 200 "[after $uri]"; }
--- request
GET /
--- response_body chomp
[before]body[after /after]

=== addition is for HTML only, unless told otherwise
--- config
location /p { add_after_body /after; return 200 "body"; }
location /h { default_type text/html; add_after_body /after; return 200 "body"; }
location = /after { return 200 "[after]"; }
--- request eval
["GET /p", "GET /h"]
--- response_body eval
["body", "body[after]"]

=== ssi: a page
--- http_config
types { text/html html; }
--- config
ssi on;
location /inc { return 200 "included with $args"; }
--- user_files
>>> p.html
<!--#set var="a" value="x" --><!--#echo var="a" -->
<!--#if expr="$a = x" -->yes<!--#elif expr="$a = y" -->why<!--#else -->no<!--#endif -->
<!--#if expr="$a != x" -->yes<!--#else -->no<!--#endif -->
<!--#if expr="$none" -->yes<!--#else -->no<!--#endif -->
<!--#if expr="$uri = /^\/(.)/" -->match <!--#echo var="1" --><!--#endif -->
<!--#echo var="none" --> <!--#echo var="none" default="nothing" -->
<!--#echo var="arg_q" --> <!--#echo var="arg_q" encoding="none" --> <!--#echo var="arg_q" encoding="url" -->
<!--#include virtual="/inc?a=1" -->
<!-- an ordinary comment -->
end
--- request
GET /p.html?q=<b>
--- response_body
x
yes
no
no
match p
(none) nothing
&lt;b&gt; <b> %3Cb%3E
included with a=1
<!-- an ordinary comment -->
end

=== ssi: blocks, stubs, errors
--- http_config
types { text/html html; }
--- config
ssi on;
location /empty { return 200 ""; }
location /error { return 500; }
--- user_files
>>> p.html
<!--#block name="one" -->stub<!--#endblock --><!--#include virtual="/empty" stub="one" -->
<!--#nonsense -->
<!--#config timefmt="%Y" --><!--#config errmsg="[oops]" --><!--#nonsense -->
--- request
GET /p.html
--- response_body
stub
[an error occurred while processing the directive]
[oops]

=== ssi_silent_errors
--- http_config
types { text/html html; }
--- config
ssi on;
ssi_silent_errors on;
--- user_files
>>> p.html
a<!--#nonsense -->b
--- request
GET /p.html
--- response_body
ab

=== ssi: set to a variable, wait
--- http_config
types { text/html html; }
--- config
ssi on;
location /inc { return 200 "content"; }
--- user_files
>>> p.html
<!--#include virtual="/inc" set="one" --><!--#echo var="one" -->
<!--#include virtual="/inc" wait="yes" -->
--- request
GET /p.html
--- response_body
content
content

=== ssi drops the date, unless told otherwise
--- http_config
types { text/html html; }
--- config
location /a { alias $TEST_NGINX_HTML_DIR; ssi on; }
location /b { alias $TEST_NGINX_HTML_DIR; ssi on; ssi_last_modified on; }
--- user_files
>>> p.html 201001010000.00
x
--- request eval
["GET /a/p.html", "GET /b/p.html"]
--- response_headers eval
["!Last-Modified\n!ETag", "Last-Modified: Fri, 01 Jan 2010 00:00:00 GMT"]

=== brotli and zstd
--- http_config
types { text/html html; text/plain txt; }
--- config
brotli on; zstd on; gzip on; gzip_vary on;
location /static/ { brotli_static on; zstd_static on; gzip_static on; }
--- user_files eval
[["f.html", "0123456789" x 10, "201001010000.00"], ["f.txt", "0123456789" x 10], ["static/f.txt", "plain"], ["static/f.txt.br", "br"], ["static/f.txt.zst", "zst"], ["static/f.txt.gz", "gz"]]
--- more_headers eval
["Accept-Encoding: gzip, br, zstd", "Accept-Encoding: gzip, br", "Accept-Encoding: gzip", "Accept-Encoding: br;q=0", "Accept-Encoding: br", "Accept-Encoding: gzip, br", "Accept-Encoding: zstd", "X: y"]
--- request eval
["GET /f.html", "GET /f.html", "GET /f.html", "GET /f.html", "GET /f.txt", "GET /static/f.txt", "GET /static/f.txt", "GET /static/f.txt"]
--- response_headers eval
["Content-Encoding: zstd\nVary: Accept-Encoding\nETag: W/\"4b3d3b00-64\"\n!Accept-Ranges\n!Content-Length", "Content-Encoding: br", "Content-Encoding: gzip", "!Content-Encoding\nVary: Accept-Encoding", "!Content-Encoding", "Content-Encoding: br\nVary: Accept-Encoding", "Content-Encoding: zstd", "!Content-Encoding\nVary: Accept-Encoding"]
