# Index pages and listings: `index`, `autoindex`, `random_index`.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== index.html is the default
--- config
--- user_files
>>> d/index.html
page
--- request
GET /d/
--- response_body
page

=== the first index that is there
--- config
index one.html two.html;
--- user_files
>>> d/two.html
two
>>> e/one.html
one
>>> e/two.html
two
--- request eval
["GET /d/", "GET /e/"]
--- response_body eval
["two\n", "one\n"]

=== no index, no listing: forbidden
--- config
--- user_files
>>> d/f.txt
x
--- request
GET /d/
--- error_code: 403
--- error_log eval
qr/directory index of "\S+\/html\/d\/" is forbidden/

=== a directory that is not there
--- config
--- request
GET /none/
--- error_code: 404
--- error_log
is not found (2: No such file or directory)

=== an index goes through the locations again
--- config
location / { index page.html; }
location = /d/page.html { return 200 "location"; }
--- user_files
>>> d/page.html
file
--- request
GET /d/
--- response_body chomp
location

=== an absolute index at the end
--- config
location / { index none.html /fallback; }
location = /fallback { return 200 "fell back from $request_uri"; }
--- user_files
>>> d/f.txt
x
--- request
GET /d/
--- response_body chomp
fell back from /d/

=== index with a variable
--- config
location / { index index.$arg_lang.html index.html; }
--- user_files
>>> index.de.html
deutsch
>>> index.html
default
--- request eval
["GET /?lang=de", "GET /?lang=fr", "GET /"]
--- response_body eval
["deutsch\n", "default\n", "default\n"]

=== an absolute index that is not the last one draws a warning
--- config
location / { index /a index.html; }
location = /a { return 200 "absolute"; }
--- request
GET /
--- response_body chomp
absolute
--- error_log
[warn]
only the last index in "index" directive should be absolute

=== POST to a directory
--- config
--- user_files
>>> d/index.html
x
--- request
POST /d/
x
--- error_code: 405

=== a listing
--- config
autoindex on;
--- user_files
>>> d/b.txt 201001010000.00
12345
>>> d/a/f.txt
x
--- init
utime 1262304000, 1262304000, "$ENV{TEST_NGINX_HTML_DIR}/d/a";
--- request
GET /d/
--- response_body eval
"<html>\r\n<head><title>Index of /d/</title></head>\r\n<body>\r\n<h1>Index of /d/</h1><hr><pre><a href=\"../\">../</a>\r\n"
. "<a href=\"a/\">a/</a>" . (" " x 49) . "01-Jan-2010 00:00                   -\r\n"
. "<a href=\"b.txt\">b.txt</a>" . (" " x 46) . "01-Jan-2010 00:00                   6\r\n"
. "</pre><hr></body>\r\n</html>\r\n"
--- response_headers
Content-Type: text/html

=== listed names are escaped
--- config
autoindex on;
--- user_files eval
[["d/a b&<>?#.txt", "x"], ["d/ä.txt", "x"]]
--- request
GET /d/
--- response_body_like chomp
<a href="a%20b%26%3C%3E%3F%23.txt">a b&amp;&lt;&gt;\?#.txt</a>

=== long names are cut
--- config
autoindex on;
--- user_files eval
[["d/" . ("x" x 60) . ".txt", ""]]
--- request
GET /d/
--- response_body_like eval
"<a href=\"" . ("x" x 60) . "\\.txt\">" . ("x" x 47) . "\\.\\.&gt;</a>"

=== hidden files are not listed
--- config
autoindex on;
--- user_files
>>> d/.hidden
x
>>> d/seen
x
--- request
GET /d/
--- response_body_like eval
qr{\.\./</a>\r\n<a href="seen">}

=== sizes in round figures
--- config
autoindex on;
autoindex_exact_size off;
--- user_files eval
[["d/k", "x" x 20480], ["d/b", "x" x 100], ["d/m", "x" x 1572864]]
--- request
GET /d/
--- response_body_like eval
qr/>b<\/a> .* 100\r\n.*>k<\/a> .*  20K\r\n.*>m<\/a> .*  2M\r\n/s

=== a listing as JSON
--- config
autoindex on;
autoindex_format json;
--- user_files
>>> d/b.txt 201001010000.00
12345
--- request
GET /d/
--- response_body eval
"[\r\n{ \"name\":\"b.txt\", \"type\":\"file\", \"mtime\":\"Fri, 01 Jan 2010 00:00:00 GMT\", \"size\":6 }\r\n]"
--- response_headers
Content-Type: application/json

=== a listing as XML
--- config
autoindex on;
autoindex_format xml;
--- user_files
>>> d/b.txt 201001010000.00
12345
--- request
GET /d/
--- response_body eval
"<?xml version=\"1.0\"?>\r\n<list>\r\n<file mtime=\"2010-01-01T00:00:00Z\" size=\"6\">b.txt</file>\r\n</list>\r\n"
--- response_headers
Content-Type: text/xml; charset=utf-8

=== a listing as JSONP
--- config
autoindex on;
autoindex_format jsonp;
--- user_files
>>> d/f/g
x
--- request
GET /d/?callback=show
--- response_body_like eval
qr{^/\* callback \*/\r\nshow\(\[\r\n\{ "name":"f", "type":"directory", "mtime":"[^"]+" \}\r\n\]\);}
--- response_headers
Content-Type: application/javascript

=== the index comes before the listing
--- config
autoindex on;
--- user_files
>>> d/index.html
page
--- request
GET /d/
--- response_body
page

=== random_index takes one of the files
--- config
location / { random_index on; }
--- user_files
>>> d/only.txt
the one
>>> d/.hidden
no
--- request
GET /d/
--- response_body
the one
