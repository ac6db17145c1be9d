# set_by_lua*: in the order of the rewrite directives, with arguments and a value.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: arguments come as ngx.arg and as the arguments of the chunk
--- config
location /t {
    set $a 3;
    set_by_lua $sum 'local first = ... return first + ngx.arg[2]' $a $arg_b;
    echo "$sum";
}
--- request
GET /t?b=4
--- response_body
7
--- no_error_log
[error]

=== TEST 2: it runs where it is written
--- config
location /t {
    set $x 1;
    set_by_lua_block $y { return ngx.var.x .. "!" }
    set $x 2;
    set_by_lua_block $z { return ngx.var.x .. "?" }
    echo "$y $z";
}
--- request
GET /t
--- response_body
1! 2?

=== TEST 3: nil and booleans are the empty string, numbers are written as Lua writes them
--- config
location /t {
    set_by_lua_block $a { return nil }
    set_by_lua_block $b { return true }
    set_by_lua_block $c { return 2.5 }
    echo "[$a][$b][$c]";
}
--- request
GET /t
--- response_body
[][][2.5]

=== TEST 4: inside an if
--- config
location /t {
    set $v none;
    if ($arg_a) { set_by_lua $v 'return ngx.var.arg_a:upper()'; }
    echo "$v";
}
--- request eval
["GET /t?a=x", "GET /t"]
--- response_body eval
["X\n", "none\n"]

=== TEST 5: an error is a 500 with its traceback
--- config
location /t { set_by_lua_block $a { error("oh") } echo "$a"; }
--- request
GET /t
--- error_code: 500
--- error_log
failed to run set_by_lua*: set_by_lua(nginx.conf:
stack traceback:

=== TEST 6: a file whose name has variables
--- config
location /t { set_by_lua_file $a html/$arg_f.lua $arg_n; echo "$a"; }
--- user_files
>>> twice.lua
return ngx.arg[1] * 2
--- request
GET /t?f=twice&n=21
--- response_body
42

=== TEST 7: control of the request makes no sense there
--- config
location /t { set_by_lua_block $a { ngx.exit(403) } echo "$a"; }
--- request
GET /t
--- error_code: 500
--- error_log
API disabled in the context of set_by_lua*
