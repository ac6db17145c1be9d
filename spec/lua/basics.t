# Lua code in the phases of a request: output, waiting, errors, redirects, headers, variables, bodies.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: say joins its arguments, tables flattened
--- config
location /t { content_by_lua_block { ngx.say("a", 1, 2.5, { "b", { true } }, nil) } }
--- request
GET /t
--- response_body
a12.5btruenil
--- no_error_log
[error]

=== TEST 2: code waits without blocking others
--- config
location /t { content_by_lua_block { ngx.print("a") ngx.sleep(0.05) ngx.say("b") } }
--- request
GET /t
--- response_body
ab

=== TEST 3: an uncaught error is a 500 with a traceback in the log
--- config
location /t { content_by_lua_block { local t = nil; t.x = 1 } }
--- request
GET /t
--- error_code: 500
--- error_log
lua entry thread aborted: runtime error
attempt to index local 't' (a nil value)
stack traceback

=== TEST 4: access code refuses by ngx.exit
--- config
location /t {
    access_by_lua_block { if ngx.var.arg_key ~= "1" then return ngx.exit(403) end }
    content_by_lua_block { ngx.say("in") }
}
--- request eval
["GET /t", "GET /t?key=1"]
--- error_code eval
[403, 200]

=== TEST 5: redirect and exec end the handler
--- config
location /r { rewrite_by_lua_block { ngx.redirect("/x", 301) ngx.log(ngx.ERR, "not reached") } }
location /e { content_by_lua_block { ngx.exec("/b?n=1") ngx.log(ngx.ERR, "not reached") } }
location /b { content_by_lua_block { ngx.say("b ", ngx.var.arg_n) } }
--- request eval
["GET /r", "GET /e"]
--- error_code eval
[301, 200]
--- no_error_log
not reached

=== TEST 6: header filters edit the head
--- config
location /t {
    header_filter_by_lua_block { ngx.header["X-Foo"] = "bar" ngx.header.content_type = "text/x" }
    content_by_lua_block { ngx.status = 201 ngx.say("x") }
}
--- request
GET /t
--- error_code: 201
--- response_headers
X-Foo: bar
Content-Type: text/x

=== TEST 7: the context lives through the phases of a request
--- config
location /t {
    rewrite_by_lua_block { ngx.ctx.n = 1 }
    access_by_lua_block { ngx.ctx.n = ngx.ctx.n + 1 }
    content_by_lua_block { ngx.say(ngx.ctx.n, " ", ngx.get_phase()) }
    log_by_lua_block { ngx.log(ngx.WARN, "at the end: ", ngx.ctx.n) }
}
--- request
GET /t
--- response_body
2 content
--- error_log
at the end: 2

=== TEST 8: arguments and headers as tables
--- config
location /t {
    content_by_lua_block {
        local args, headers = ngx.req.get_uri_args(), ngx.req.get_headers()
        ngx.say(table.concat(args.a, ","), " ", args.b, " ", tostring(args.c), " ", headers["x-y"])
    }
}
--- request
GET /t?a=1&b=x%20y+z&a=2&c
--- more_headers
X-Y: v
--- response_body
1,2 x y z true v

=== TEST 9: the body is read on demand
--- config
location /t { content_by_lua_block { ngx.req.read_body() ngx.say(ngx.req.get_method(), " ", ngx.req.get_body_data()) } }
--- request
POST /t
hello
--- response_body
POST hello

=== TEST 10: runaway recursion costs its own request alone
--- config
location /t { content_by_lua_block { local function f() return 1 + f() end f() } }
location /ok { content_by_lua_block { ngx.say("ok") } }
--- request eval
["GET /t", "GET /ok"]
--- error_code eval
[500, 200]

=== TEST 11: globals of init_by_lua are seen by handlers
--- http_config
init_by_lua_block { greeting = "hi" }
--- config
location /t { content_by_lua_block { ngx.say(greeting) } }
--- request
GET /t
--- response_body
hi

=== TEST 12: code with a syntax error answers 500
--- config
location /t { content_by_lua_block { return + } }
--- request
GET /t
--- error_code: 500
--- error_log
failed to load inlined Lua code: content_by_lua(nginx.conf:

=== TEST 13: variables are read and written
--- config
location /t { set $x 1; content_by_lua_block { ngx.var.x = ngx.var.x + 1 ngx.say(ngx.var.x, " ", ngx.var.nothing) } }
--- request
GET /t
--- response_body
2 nil
