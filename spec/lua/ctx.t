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

=== TEST 6: requests that take turns keep theirs
--- config
location /t {
    content_by_lua_block {
        ngx.ctx.a = "outer"
        local thread = ngx.thread.spawn(function()
            for _ = 1, 5 do
                ngx.sleep(0)
                assert(ngx.ctx.a == "outer")
            end
        end)
        local first, second = ngx.location.capture_multi { { "/sub?one" }, { "/sub?two" } }
        ngx.thread.wait(thread)
        ngx.say(ngx.ctx.a, first.body, second.body, first.header["X-A"], second.header["X-A"])
    }
}
location /sub {
    rewrite_by_lua_block { ngx.ctx.a = ngx.var.args }
    content_by_lua_block {
        for _ = 1, 5 do
            ngx.sleep(0)
            assert(ngx.ctx.a == ngx.var.args)
        end
        ngx.ctx = { a = ngx.ctx.a .. "!" }
        ngx.print(" ", ngx.ctx.a, " ")
    }
    header_filter_by_lua_block { ngx.header["X-A"] = ngx.ctx.a }
}
--- request
GET /t
--- response_body
outer one!  two! one!two!
--- no_error_log
[error]

=== TEST 7: each has its own where code is compiled, too
--- config
location /t {
    content_by_lua_block {
        ngx.ctx.n = 0
        local seen = {}
        for _ = 1, 300 do
            local n = ngx.location.capture("/sub").body
            seen[n] = (seen[n] or 0) + 1
            ngx.ctx.n = ngx.ctx.n + 1
        end
        ngx.say(seen["1"], " ", ngx.ctx.n)
    }
}
location /sub {
    rewrite_by_lua_block { ngx.ctx.n = (ngx.ctx.n or 0) + 1 }
    content_by_lua_block { ngx.print(ngx.ctx.n) }
}
--- request
GET /t
--- response_body
300 300

=== TEST 8: it is a table
--- config
location /t {
    content_by_lua_block {
        ngx.ctx.a = 1
        ngx.say(pcall(function() ngx.ctx = 7 end))
        ngx.say(ngx.ctx.a)
    }
}
--- request
GET /t
--- response_body_like
^false.*ctx should be a table while getting a number
1$
