# Values that follow from others: `map`, `geo`, `split_clients`.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== map
--- http_config
map $arg_a $b { default none; one 1; two 2; }
--- config
location / { return 200 "$b"; }
--- request eval
["GET /?a=one", "GET /?a=two", "GET /?a=three", "GET /"]
--- response_body eval
["1", "2", "none", "none"]

=== without default the value is empty
--- http_config
map $arg_a $b { one 1; }
--- config
location / { return 200 "[$b]"; }
--- request eval
["GET /?a=one", "GET /?a=x"]
--- response_body eval
["[1]", "[]"]

=== strings are compared without regard to case
--- http_config
map $arg_a $b { default none; One 1; }
--- config
location / { return 200 "$b"; }
--- request
GET /?a=oNE
--- response_body chomp
1

=== an empty string and a backslash
--- http_config
map $arg_a $b { default none; "" empty; \default literal; }
--- config
location / { return 200 "$b"; }
--- request eval
["GET /", "GET /?a=default", "GET /?a=x"]
--- response_body eval
["empty", "literal", "none"]

=== expressions in their order
--- http_config
map $uri $b { default none; ~^/a first; ~^/ab second; ~*^/UP(?<rest>.*)$ "up $rest"; ~^/(\d+)$ "number $1"; }
--- config
location / { return 200 "$b"; }
--- request eval
["GET /ab", "GET /upper", "GET /42", "GET /x"]
--- response_body eval
["first", "up per", "number 42", "none"]

=== strings come before expressions
--- http_config
map $uri $b { ~. expression; /a string; }
--- config
location / { return 200 "$b"; }
--- request eval
["GET /a", "GET /b"]
--- response_body eval
["string", "expression"]

=== hostnames
--- http_config
map $http_host $b { hostnames; default none; example.com exact; *.example.com left; mail.* right; .both.example both; }
--- config
location / { return 200 "$b"; }
--- more_headers eval
[map { "Host: $_" } qw(example.com a.example.com mail.org both.example x.both.example other)]
--- request eval
[("GET /") x 6]
--- response_body eval
["exact", "left", "right", "both", "both", "none"]

=== values with variables
--- http_config
map $arg_a $b { default "$uri is $arg_b"; }
--- config
location / { return 200 "$b"; }
--- request
GET /x?b=1
--- response_body chomp
/x is 1

=== a source of several variables
--- http_config
map "$request_method:$arg_a" $b { default none; GET:1 get-one; POST:1 post-one; }
--- config
location / { return 200 "$b"; }
--- request eval
["GET /?a=1", "POST /?a=1", "GET /?a=2"]
--- response_body eval
["get-one", "post-one", "none"]

=== a map of a map
--- http_config
map $arg_a $b { default x; 1 one; }
map $b $c { default y; one two; }
--- config
location / { return 200 "$c"; }
--- request
GET /?a=1
--- response_body chomp
two

=== a map is looked up once, unless it is volatile
--- http_config
map $v $kept { default "d"; 1 one; 2 two; }
map $v $fresh { volatile; default "d"; 1 one; 2 two; }
--- config
location / { set $v 1; set $a "$kept $fresh"; set $v 2; return 200 "$a $kept $fresh"; }
--- request
GET /
--- response_body chomp
one one one two

=== include in a map
--- http_config
map $arg_a $b { default none; include $TEST_NGINX_HTML_DIR/map.inc; }
--- config
location / { return 200 "$b"; }
--- user_files
>>> map.inc
one 1;
two 2;
--- request eval
["GET /?a=two", "GET /?a=x"]
--- response_body eval
["2", "none"]

=== the same string twice is refused
--- http_config
map $arg_a $b { one 1; one 2; }
--- config
--- must_die
--- error_log
conflicting parameter "one"

=== geo
--- http_config
geo $where { default far; 127.0.0.0/8 loop; 127.0.0.1 here; 10.0.0.0/8 ten; }
--- config
location / { return 200 "$where"; }
--- request
GET /
--- response_body chomp
here

=== geo on a variable
--- http_config
geo $arg_ip $where { default far; 10.0.0.0/8 ten; 10.1.0.0/16 eleven; 192.168.1.1 one; 2001:db8::/32 doc; ::1 six; }
--- config
location / { return 200 "$where"; }
--- request eval
[map { "GET /?ip=$_" } qw(10.2.3.4 10.1.255.255 192.168.1.1 192.168.1.2 2001:db8:1::1 ::1 nonsense)]
--- response_body eval
["ten", "eleven", "one", "far", "doc", "six", "far"]

=== geo with ranges
--- http_config
geo $arg_ip $where { ranges; default far; 10.0.0.0-10.0.0.9 low; 10.0.0.10-10.255.255.255 high; }
--- config
location / { return 200 "$where"; }
--- request eval
[map { "GET /?ip=$_" } qw(10.0.0.0 10.0.0.9 10.0.0.10 10.255.255.255 11.0.0.0)]
--- response_body eval
["low", "low", "high", "high", "far"]

=== geo with delete and proxy
--- http_config
geo $where { default far; 10.0.0.0/8 ten; 10.1.0.0/16 gone; delete 10.1.0.0/16; proxy 127.0.0.1; }
--- config
location / { return 200 "$where"; }
--- more_headers eval
["X-Forwarded-For: 10.1.2.3", "X-Forwarded-For: 8.8.8.8, 10.9.9.9", "X-Forwarded-For: 8.8.8.8"]
--- request eval
["GET /", "GET /", "GET /"]
--- response_body eval
["ten", "ten", "far"]

=== geo: a wrong address is refused
--- http_config
geo $where { 300.0.0.0/8 x; }
--- config
--- must_die
--- error_log
invalid network "300.0.0.0/8"

=== split_clients gives everybody one variant, always the same
--- http_config
split_clients "$arg_id" $variant { 50% one; * two; }
--- config
location / { return 200 "$variant"; }
--- request eval
["GET /?id=a", "GET /?id=a", "GET /?id=b", "GET /?id=c", "GET /?id=d"]
--- response_body eval
["two", "two", "two", "one", "two"]

=== split_clients: everything to one
--- http_config
split_clients "$arg_id" $variant { 100% all; }
--- config
location / { return 200 "$variant"; }
--- request
GET /?id=whatever
--- response_body chomp
all

=== split_clients: more than all is refused
--- http_config
split_clients "$arg_id" $variant { 60% a; 50% b; }
--- config
--- must_die
--- error_log
percent total is greater than 100%

=== groups of an expression are there behind the map
--- http_config
map $arg_a $x { ~^(?<first>\w)(\w) "$2"; }
--- config
location / { return 200 "$x-$first"; }
--- request
GET /?a=bc
--- response_body chomp
c-b

=== two defaults are refused
--- http_config
map $a $b { default 1; default 2; }
--- config
--- must_die
--- error_log
duplicate default map parameter

=== a row of three words is refused
--- http_config
map $arg_a $b { a b c; }
--- config
--- must_die
--- error_log
invalid number of the map parameters

=== a wrong wildcard is refused
--- http_config
map $arg_a $b { hostnames; a..b c; }
--- config
--- must_die
--- error_log
invalid hostname or wildcard "a..b"

=== sizes of hash tables stand before the first map
--- http_config
map_hash_max_size 4096;
map_hash_bucket_size 128;
map $arg_a $b { a 1; }
map_hash_max_size 4096;
--- config
--- must_die
--- error_log
"map_hash_max_size" directive is duplicate

=== geo: networks and ranges that are there already draw a warning
--- http_config
geo $arg_ip $a { 10.0.0.0/8 one; 10.0.0.0/8 two; 10.0.0.1/8 three; delete 11.0.0.0/8; }
geo $arg_ip $b { ranges; default x; default y; 10.0.0.0-10.0.0.9 one; 10.0.0.0-10.0.0.9 two; delete 11.0.0.0-11.0.0.1; }
--- config
location / { return 200 "$a $b"; }
--- request
GET /?ip=10.0.0.5
--- response_body chomp
three two
--- error_log
duplicate network "10.0.0.0/8", value: "two", old value: "one"
low address bits of 10.0.0.1/8 are meaningless
no network "11.0.0.0/8" to delete
duplicate default geo range value: "y", old value: "x"
duplicate range "10.0.0.0-10.0.0.9", value: "two", old value: "one"
no address range "11.0.0.0-11.0.0.1" to delete

=== geo: ranges that overlap are refused
--- http_config
geo $arg_ip $b { ranges; 10.0.0.0-10.0.0.9 one; 10.0.0.5-10.0.0.20 two; }
--- config
--- must_die
--- error_log
range "10.0.0.5-10.0.0.20" overlaps "10.0.0.0-10.0.0.9"

=== geo: ranges must come first
--- http_config
geo $arg_ip $b { 10.0.0.0/8 one; ranges; }
--- config
--- must_die
--- error_log
the "ranges" directive must be the first directive inside "geo" block

=== geo: proxies are followed
--- http_config
geo $where { default far; 192.0.2.0/24 near; proxy 127.0.0.1; proxy 10.0.0.0/8; proxy_recursive; }
--- config
location / { return 200 "$where"; }
--- more_headers eval
["X-Forwarded-For: 192.0.2.1, 10.1.2.3", "X-Forwarded-For: 192.0.2.1, 8.8.8.8"]
--- request eval
["GET /", "GET /"]
--- response_body eval
["near", "far"]

=== split_clients: shares by the hash of the text
--- http_config
split_clients "${arg_id}" $variant { 51.2% ""; 0.01% one; * two; }
--- config
location / { return 200 "[$variant]"; }
--- request eval
[map { "GET /?id=$_" } qw(a b c d e f)]
--- response_body eval
["[two]", "[two]", "[]", "[two]", "[two]", "[two]"]

=== split_clients: a wrong share is refused
--- http_config
split_clients $arg_id $variant { 0% one; * two; }
--- config
--- must_die
--- error_log
invalid percent value "0%"
