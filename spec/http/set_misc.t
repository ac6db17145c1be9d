# Values made of other values.
use Test::Nginx::Socket 'no_plan';
no_root_location();
run_tests();

__DATA__

=== a value, or the variable's own
--- config
location / {
    set_unescape_uri $a $arg_a;
    set $b "o'clock";
    set_quote_sql_str $b;
    set_escape_uri $c "$a/";
    return 200 "$a $b $c";
}
--- request
GET /?a=x%20y+z
--- response_body: x y z 'o\'clock' x%20y%20z%2F

=== encodings and digests
--- config
location / {
    set_encode_base64 $a "a?>";
    set_decode_base64 $b $a;
    set_encode_hex $c "ab";
    set_decode_hex $d "6x";
    set_md5 $e "";
    set_quote_json_str $f $arg_none;
    return 200 "$a $b $c [$d] $e $f";
}
--- request
GET /
--- response_body: YT8+ a?> 6162 [] d41d8cd98f00b204e9800998ecf8427e null

=== a default where there is nothing
--- config
location / {
    set $a $arg_a;
    set_if_empty $a none;
    return 200 $a;
}
--- request eval
["GET /", "GET /?a=1"]
--- response_body eval
["none", "1"]
