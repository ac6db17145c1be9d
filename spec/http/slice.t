# Answers fetched in slices.
use Test::Nginx::Socket 'no_plan';
no_root_location();
run_tests();

__DATA__

=== a whole answer of slices
--- config
location /s {
    slice 4;
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_set_header Range $slice_range;
    add_header X-Range $upstream_http_content_range;
}
location /b { root html; try_files /digits =404; }
--- user_files
>>> digits
0123456789
--- request
GET /s
--- response_headers
X-Range: bytes 0-3/11
Content-Length: 11
! Content-Range
--- response_body
0123456789

=== only the slices that are wanted are kept
--- http_config
proxy_cache_path cache keys_zone=one:1m;
--- config
location /s {
    slice 4;
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_set_header Range $slice_range;
    proxy_cache one;
    proxy_cache_key $uri$slice_range;
    proxy_cache_valid 206 1m;
    add_header X-Cache $upstream_cache_status;
}
location /b { root html; try_files /digits =404; }
--- user_files
>>> digits
0123456789
--- request eval
[("GET /s") x 5]
--- more_headers eval
["Range: bytes=5-6", "Range: bytes=7-8", "Range: bytes=0-", "Range: bytes=-2", ""]
--- error_code eval
[206, 206, 206, 206, 200]
--- response_headers eval
["X-Cache: MISS\nContent-Range: bytes 5-6/11", "X-Cache: HIT\nContent-Range: bytes 7-8/11",
 "X-Cache: MISS\nContent-Range: bytes 0-10/11", "X-Cache: HIT\nContent-Range: bytes 9-10/11", "X-Cache: HIT"]
--- response_body eval
["56", "78", "0123456789\n", "9\n", "0123456789\n"]

=== an upstream that knows no ranges
--- config
location /s {
    slice 4;
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_set_header Range $slice_range;
}
location /b { return 200 "$http_range"; }
--- request
GET /s
--- response_body: bytes=0-3

=== nothing is sliced where nobody asks for the range
--- config
location /s { slice 4; root html; try_files /digits =404; }
location /n { return 200 "[$slice_range]"; }
--- user_files
>>> digits
0123456789
--- request eval
["GET /s", "GET /n"]
--- response_body eval
["0123456789\n", "[]"]

=== a range that is not what was asked for
--- config
location /s {
    slice 4;
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/b;
    proxy_set_header Range $slice_range;
}
location /b { add_header Content-Range "bytes 1-4/9"; return 206 abcd; }
--- request
GET /s
--- ignore_response
--- error_log
unexpected range in slice response: 1-5
