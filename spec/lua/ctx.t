# ngx.ctx: a table for each request.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: it lasts from phase to phase
--- config
location /t {
    rewrite_by_lua_block { ngx.ctx.a = 1 }
    access_by_lua_block { ngx.ctx.a = ngx.ctx.a + 1 }
    content_by_lua_block { ngx.ctx.a = ngx.ctx.a + 1; ngx.say(ngx.ctx.a) }
    log_by_lua_block { ngx.log(ngx.NOTICE, "at last: ", ngx.ctx.a) }
}
--- request
GET /t
--- response_body
3
--- error_log
at last: 3

=== TEST 2: each request has its own, and another table may take its place
--- config
location /t {
    content_by_lua_block {
        ngx.print(tostring(ngx.ctx.a), " ")
        ngx.ctx = { a = 1 }
        ngx.ctx.b = 2
        ngx.say(ngx.ctx.a, ngx.ctx.b)
    }
}
--- pipelined_requests eval
["GET /t", "GET /t"]
--- response_body eval
["nil 12\n", "nil 12\n"]

=== TEST 3: an internal redirect begins with a new one
--- config
location /t { content_by_lua_block { ngx.ctx.a = 1; ngx.exec("/other") } }
location /other { content_by_lua_block { ngx.say(tostring(ngx.ctx.a)) } }
--- request
GET /t
--- response_body
nil

=== TEST 4: a subrequest has its own, unless it is given one
--- config
location /t {
    content_by_lua_block {
        ngx.ctx.a = 1
        local own = ngx.location.capture("/sub")
        local given = {}
        local shared = ngx.location.capture("/sub", { ctx = given })
        ngx.say(own.body, shared.body, ngx.ctx.a, given.a)
    }
}
location /sub { content_by_lua_block { ngx.print(tostring(ngx.ctx.a), " "); ngx.ctx.a = 2 } }
--- request
GET /t
--- response_body
nil nil 12

=== TEST 5: places are used again
--- config
location /t {
    content_by_lua_block {
        ngx.ctx.a = 1
        local tables = debug.getregistry().ngx_lua_ctx_tables
        ngx.say(#tables)
    }
}
--- request eval
["GET /t", "GET /t", "GET /t"]
--- response_body eval
["1\n", "1\n", "1\n"]
