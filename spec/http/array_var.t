# Variables that hold lists.
use Test::Nginx::Socket 'no_plan';
no_root_location();
run_tests();

__DATA__

=== split, changed, joined
--- config
location / {
    array_split "," $arg_names to=$names;
    array_map "[$array_it]" $names;
    array_join "+" $names;
    return 200 $names;
}
location /most {
    array_split "," $arg_names 2 to=$names;
    array_join "+" $names to=$all;
    return 200 $all;
}
location /op {
    array_split "," $arg_names to=$names;
    array_map_op set_quote_sql_str $names to=$quoted;
    array_join ", " $quoted;
    return 200 $quoted;
}
location /bytes { array_split "" $arg_names to=$names; array_join "." $names; return 200 $names; }
--- request eval
["GET /?names=a,b,c", "GET /most?names=a,b,c", "GET /op?names=o'c,b", "GET /bytes?names=abc", "GET /"]
--- response_body eval
["[a]+[b]+[c]", "a+b,c", "'o\\'c', 'b'", "a.b.c", "[]"]

=== what is no list
--- config
location / { set $names $arg_names; array_join "," $names; return 200 never; }
location /op { array_split "," $arg_names to=$names; array_map_op set $names; return 200 never; }
location /most { array_split "," $arg_names x to=$names; return 200 never; }
--- request eval
["GET /?names=a", "GET /op?names=a", "GET /most?names=a"]
--- error_code eval
[500, 500, 500]
--- error_log eval
qr/array_join: invalid array variable value in the 2nd argument: "a"|array_map_op: directive "set" not found or does not use ndk_set_var_value|array_split: invalid max items: "x"/

=== an argument too many
--- config
location / { array_split "," $arg_names to=$names 3; }
--- must_die
--- error_log
array_split: unexpected argument "3"
