# Other character encodings.
use Test::Nginx::Socket 'no_plan';
no_root_location();
run_tests();

__DATA__

=== a value
--- config
location / { set_unescape_uri $a $arg_a; set_iconv $b $a from=utf-8 to=latin1; return 200 $b; }
--- request
GET /?a=caf%C3%A9
--- response_body eval: "caf\xe9"

=== a response, whose characters are cut between pieces
--- config
location / {
    iconv_filter from=utf-8 to=latin1;
    iconv_buffer_size 2;
    content_by_lua_block { ngx.print("caf\195") ngx.flush(true) ngx.print("\169!") }
}
--- request
GET /
--- response_body eval: "caf\xe9!"

=== bytes that are no characters
--- config
location / { iconv_filter from=utf-8 to=latin1; content_by_lua_block { ngx.print("a\255b") } }
--- request
GET /
--- response_body: a?b
--- error_log
iconv sees invalid character sequence (EILSEQ)

=== encodings that nobody knows
--- config
location / { set_iconv $b a from=klingon to=latin1; return 200 never; }
--- request
GET /
--- error_code: 500

=== a filter between encodings that nobody knows
--- config
location / { iconv_filter from=klingon to=latin1; echo a; }
--- must_die
--- error_log
conversion from "klingon" to "latin1" is not supported
