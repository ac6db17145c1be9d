# body_filter_by_lua*: ngx.arg, and code that waits.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: parts are seen and replaced
--- config
location /t {
    echo -n one;
    echo -n two;
    body_filter_by_lua_block { ngx.arg[1] = ngx.arg[1]:upper() .. (ngx.arg[2] and "." or ",") }
}
--- request
GET /t
--- response_body chomp
ONE,TWO,.
--- no_error_log
[error]

=== TEST 2: the body ends where the code says so
--- config
location /t {
    echo one;
    echo two;
    body_filter_by_lua_block { ngx.arg[2] = true }
}
--- request
GET /t
--- response_body
one

=== TEST 3: a part that is dropped
--- config
location /t {
    echo one;
    echo two;
    body_filter_by_lua_block { if ngx.arg[1] == "one\n" then ngx.arg[1] = nil end }
}
--- request
GET /t
--- response_body
two

=== TEST 4: a whole body, gathered
--- config
location /t {
    echo one;
    echo two;
    header_filter_by_lua_block { ngx.header.content_length = nil }
    body_filter_by_lua_block {
        local parts = ngx.ctx.parts or {}
        ngx.ctx.parts = parts
        parts[#parts + 1] = ngx.arg[1]
        if ngx.arg[2] then
            ngx.arg[1] = table.concat(parts):gsub("\n", "/")
        else
            ngx.arg[1] = nil
        end
    }
}
--- request
GET /t
--- response_body chomp
one/two/

=== TEST 5: code may wait
--- config
location /t {
    echo -n one;
    echo -n two;
    body_filter_by_lua_block { ngx.sleep(0.01) ngx.arg[1] = { ngx.arg[1], ";" } }
}
--- request
GET /t
--- response_body chomp
one;two;;
--- no_error_log
[error]

=== TEST 6: output makes no sense there
--- config
location /t {
    echo hi;
    body_filter_by_lua_block { local ok, err = pcall(ngx.exec, "/x") ngx.log(ngx.WARN, err) }
}
--- request
GET /t
--- response_body
hi
--- error_log
API disabled in the context of body_filter_by_lua*

=== TEST 7: a part of the wrong type
--- config
location /t {
    echo hi;
    body_filter_by_lua_block { local ok, err = pcall(function() ngx.arg[1] = true end) ngx.log(ngx.WARN, err) }
}
--- request
GET /t
--- response_body
hi
--- error_log
bad chunk data type: boolean
