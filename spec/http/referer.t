# Pages that may link here.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== names, wildcards, paths and expressions
--- config
location / {
    valid_referers www.example.org *.example.com path.example.org/uri/ ~\.google\. www.*;
    return 200 "[$invalid_referer]";
}
--- more_headers eval
[map { "Referer: $_" } "http://www.example.org", "https://WWW.EXAMPLE.ORG:80/x", "http://a.example.com/", "http://example.com/",
    "http://path.example.org/uri/x", "http://path.example.org/x", "http://www.google.com/q", "http://www.net/", "ftp://www.example.org/"]
--- request eval
[("GET /") x 9]
--- response_body eval
["[]", "[]", "[]", "[1]", "[]", "[1]", "[]", "[]", "[1]"]

=== none and blocked
--- config
location /none { valid_referers none x.org; return 200 "[$invalid_referer]"; }
location /blocked { valid_referers blocked x.org; return 200 "[$invalid_referer]"; }
--- more_headers eval
["", "", "Referer: nonsense", "Referer: nonsense"]
--- request eval
["GET /none", "GET /blocked", "GET /none", "GET /blocked"]
--- response_body eval
["[]", "[1]", "[1]", "[]"]

=== the names of the server
--- config
server_name own.org *.own.net;
location / { valid_referers server_names; return 200 "[$invalid_referer]"; }
--- more_headers eval
["Referer: http://own.org/x", "Referer: http://a.own.net/", "Referer: http://localhost/", "Referer: http://other.org/"]
--- request eval
[("GET /") x 4]
--- response_body eval
["[]", "[]", "[]", "[1]"]

=== without valid_referers everything is valid
--- config
location / { return 200 "[$invalid_referer]"; }
--- request
GET /
--- response_body chomp
[]

=== none without any name is refused
--- config
location / { valid_referers none; }
--- must_die
--- error_log
the "none" or "blocked" referers are specified in the "valid_referers" directive without any valid referer

=== the same name twice is refused
--- config
location / { valid_referers x.org x.org; }
--- must_die
--- error_log
conflicting parameter "x.org"

=== an empty expression is refused
--- config
location / { valid_referers ~; }
--- must_die
--- error_log
empty regex in "~"
