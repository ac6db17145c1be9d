# `sub_filter`: which match wins, order with other filters.
use Test::Nginx::Socket 'no_plan';
no_root_location();
run_tests();

__DATA__

=== the leftmost match, then the pattern written first
--- config
location / { sub_filter_once off; sub_filter_types *; sub_filter abcdef 0; sub_filter bc 1; sub_filter bcd 2; return 200 "abcd abcdef bcd"; }
--- request
GET /
--- response_body chomp
a1d 0 1d

=== each pattern once
--- config
location / { sub_filter_types *; sub_filter a 1; sub_filter ab 2; return 200 "abab ab"; }
--- request
GET /
--- response_body chomp
1b2 ab

=== patterns with variables
--- config
location / { sub_filter_types *; sub_filter_once off; sub_filter $arg_p [$arg_q]; return 200 "one ONE two"; }
--- request eval
["GET /?p=one&q=x", "GET /?p=TWO&q=z", "GET /?q=x"]
--- response_body eval
["[x] [x] two", "one ONE [z]", "one ONE two"]

=== included text is not replaced, text around it is
--- http_config
types { text/html html; text/plain txt; }
--- config
ssi on;
location = /p.html { sub_filter XX y; sub_filter_once off; }
--- user_files
>>> p.html
XX<!--#include virtual="/f.txt" -->XX
>>> f.txt
XX
--- request
GET /p.html
--- response_body
yXX
y

=== nothing to look for
--- config
location / { sub_filter '' x; }
--- must_die
--- error_log
empty search pattern
