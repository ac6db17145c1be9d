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
    set_decode_hex $d "6162";
    set_md5 $e "";
    set_quote_json_str $f $arg_none;
    return 200 "$a $b $c [$d] $e $f";
}
--- request
GET /
--- response_body: YT8+ a?> 6162 [ab] d41d8cd98f00b204e9800998ecf8427e null

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

=== what cannot be decoded ends the request
--- config
location /hex { set_decode_hex $a "6x"; return 200 never; }
location /base64 { set_decode_base64 $a "!"; return 200 never; }
location /random { set_random $a 1 x; return 200 never; }
--- request eval
["GET /hex", "GET /base64", "GET /random"]
--- error_code eval
[500, 500, 500]
--- error_log eval
qr/set_decode_(hex|base64): invalid value|set_random: bad "to" argument: x/

=== base32 with and without padding, and with another alphabet
--- config
location / {
    set_encode_base32 $a "abc";
    set_decode_base32 $b $a;
    set_decode_base32 $c "!";
    return 200 "$a $b [$c]";
}
location /plain {
    set_base32_padding off;
    set_base32_alphabet "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    set_encode_base32 $a "abc";
    set_decode_base32 $b $a;
    return 200 "$a $b";
}
--- request eval
["GET /", "GET /plain"]
--- response_body eval
["c5h66=== abc []", "MFRGG abc"]

=== codes of messages
--- config
location / {
    set_hmac_sha1 $a "key" "text";
    set_encode_hex $a;
    set_hmac_sha256 $b "key" "text";
    set_encode_hex $b;
    return 200 "$a $b";
}
--- request
GET /
--- response_body: 369e2959eb49450338b212748f77d8ded74847bb 6afa9046a9579cad143a384c1b564b9a250d27d6f6a63f9f20bf3a7594c9e2c6

=== literals of PostgreSQL
--- config
location / { set_unescape_uri $a $arg_a; set_quote_pgsql_str $a; return 200 $a; }
--- request eval
["GET /?a=o'c", "GET /?a=%ff", "GET /"]
--- response_body eval
["E'o\\'c'", "E'\\\\377'", "''"]

=== chance has a length and bounds
--- config
location / {
    set_secure_random_alphanum $a 32;
    set_secure_random_lcalpha $b 16;
    set_random $c 5 7;
    return 200 "$a $b $c";
}
--- request
GET /
--- response_body_like: ^[a-zA-Z0-9]{32} [a-z]{16} [567]$

=== numbers take turns
--- config
location / { set_rotate $a 1 3; return 200 $a; }
--- request eval
["GET /", "GET /", "GET /", "GET /"]
--- response_body eval
[1, 2, 3, 1]

=== dates
--- config
location / { set_local_today $a; set_formatted_gmt_time $b "%Y-%m-%dT%H"; set_formatted_local_time $c "100%%"; return 200 "$a $b $c"; }
--- request
GET /
--- response_body_like: ^\d{4}-\d\d-\d\d \d{4}-\d\d-\d\dT\d\d 100%$

=== an upstream of a list
--- http_config
upstream_list all 2:moon earth;
--- config
location / { set $list all; set_hashed_upstream $a all $arg_k; set_hashed_upstream $b $list $arg_k; return 200 "$a $b"; }
--- request
GET /?k=same
--- response_body_like: ^(moon moon|earth earth)$

=== a list that is not there
--- http_config
upstream_list all moon earth;
--- config
location / { set_hashed_upstream $a none x; }
--- must_die
--- error_log
upstream list "none" not defined yet
