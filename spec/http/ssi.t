# `ssi`: commands, conditions, includes, errors.
use Test::Nginx::Socket 'no_plan';
no_root_location();
run_tests();

__DATA__

=== set: escapes and variables
--- http_config
types { text/html html; }
--- config
ssi on;
--- user_files eval
[["p.html", join "|", map { '<!--#set var="a" value="' . $_ . '" --><!--#echo var="A" encoding="none" -->' } '1\\$b', 'x${arg_a}y$arg_a', 'q\\\'\\e', '$none.']]
--- request
GET /p.html?a=q
--- response_body chomp
1$b|xqyq|q'\e|.

=== conditions
--- http_config
types { text/html html; }
--- config
ssi on;
--- user_files eval
[["p.html", join "|", map { "<!--#if expr='$_' -->y<!--#else -->n<!--#endif -->" } '$arg_a', '$none', 'abc', '', 'ABC = abc', '$arg_a = q', '$arg_a != q', '$arg_a=/Q/', '$arg_a != /x/', '$arg_a = \/x', '"$arg_a" = "q"']]
--- request
GET /p.html?a=q
--- response_body chomp
y|n|y|n|y|y|n|n|y|n|y

=== elif, nothing inside what is not output
--- http_config
types { text/html html; }
--- config
ssi on;
--- user_files
>>> p.html
<!--#if expr="$none" -->1<!--#set var="z" value="1" --><!--#nonsense --><!--#elif expr="$none" -->2<!--#elif expr="x" -->3<!--#elif expr="y" -->4<!--#else -->5<!--#endif -->6 <!--#echo var="z" -->
--- request
GET /p.html
--- response_body
36 (none)

=== captures
--- http_config
types { text/html html; }
--- config
ssi on;
--- user_files
>>> p.html
<!--#if expr="$arg_a=/(.)(?P<name>.)(.)?/" --><!--#echo var="0" -->,<!--#echo var="1" -->,<!--#echo var="name" -->,<!--#echo var="3" --><!--#endif -->
--- request
GET /p.html?a=xy
--- response_body
xy,x,y,(none)

=== includes: paths
--- http_config
types { text/html html; text/plain txt; }
--- config
ssi on;
location /args { return 200 "[$uri $args]"; }
--- user_files
>>> d/a.txt
A
>>> d/p.html
<!--#include file="a.txt" --><!--#include virtual="a.txt" --><!--#include virtual="/d/%61.txt" --><!--#include virtual="/args%3fx?b=$arg_q&c=%20" -->
<!--#include virtual="../d/a.txt" -->
<!--#include virtual="/d/%2e%2e/d/a.txt" -->
--- request
GET /d/p.html?q=1
--- response_body
A
A
A
[/args?x b=1&c=%20]
[an error occurred while processing the directive]
[an error occurred while processing the directive]
--- error_log
unsafe URI "/d/../d/a.txt" was detected
--- no_error_log
[crit]

=== includes: what cannot be
--- http_config
types { text/html html; }
--- config
ssi on;
location /a { return 200 "A"; }
--- user_files
>>> p.html
<!--#config errmsg="E" --><!--#include --><!--#include virtual="/a" file="a" --><!--#include virtual="/a" wait="maybe" --><!--#include file="a" wait="yes" --><!--#include virtual="/a" stub="none" --><!--#include virtual="/a" set="v" stub="s" --><!--#include virtual="/a" other="x" -->
--- request
GET /p.html
--- response_body
EEEEEEE
--- error_log
no parameter in "include" SSI command
inclusion may be either virtual="/a" or file="a"
invalid value "maybe" in the "wait" parameter
"wait" cannot be used with file="a"
"stub"="none" for "include" not found
"set" and "stub" cannot be used together in "include" SSI command
invalid parameter name: "other" in "include" SSI command

=== stubs: for errors too, with the commands of their block
--- http_config
types { text/html html; }
--- config
ssi on;
location /none { return 404; }
location /text { return 200 "T"; }
--- user_files
>>> p.html
<!--#block name="b" -->[<!--#echo var="uri" -->]<!--#endblock --><!--#include virtual="/none" stub="b" --><!--#include virtual="/text" stub="b" -->
--- request
GET /p.html
--- response_body
[/none]T

=== an error page stands in the place of an include
--- http_config
types { text/html html; }
--- config
ssi on;
error_page 404 /e;
location /e { return 200 "E"; }
location /none { return 404; }
--- user_files
>>> p.html
<<!--#include virtual="/none" -->>
--- request
GET /p.html
--- response_body
<E>

=== variables are common to all pages of a request
--- http_config
types { text/html html; }
--- config
ssi on;
--- user_files
>>> p.html
<!--#set var="x" value="1" --><!--#include virtual="/q.html" wait="yes" --><!--#echo var="y" -->
>>> q.html
<!--#echo var="x" --><!--#set var="y" value="2" -->
--- request
GET /p.html
--- response_body
1
2

=== dates
--- http_config
types { text/html html; }
--- config
ssi on;
--- user_files
>>> p.html
<!--#config timefmt="%Y" --><!--#echo var="date_gmt" --> <!--#echo var="date_local" --> <!--#config timefmt="%s" --><!--#echo var="date_gmt" -->
--- request
GET /p.html
--- response_body_like: ^\d{4} \d{4} \d{10,}$

=== broken commands
--- http_config
types { text/html html; }
--- config
ssi on;
ssi_value_length 10;
--- user_files
>>> p.html
<!--#config errmsg="E" --><!--#echo foo -->1<!--#echo foo=bar -->2<!--#echo var="uri"x -->3<!--#echo var="01234567890" -->4<!--#echo var="a" var="b" -->5<!--#echo -->6<!--#else -->7<!-- # --><!-
--- request
GET /p.html
--- response_body_like: ^E1E2E3E4E5E6E7<!-- # -->
--- error_log
unexpected "-" symbol after "foo" parameter in "echo" SSI command
unexpected "b" symbol before value of "foo" parameter in "echo" SSI command
unexpected "x" symbol after "uri" value of "var" parameter in "echo" SSI command
too long "01234567890..." value of "var" parameter in "echo" SSI command
duplicate "var" parameter in "echo" SSI command
mandatory "var" parameter is absent in "echo" SSI command
invalid context of SSI command: "else"
