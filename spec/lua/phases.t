# The order of the phases, what their ends mean, and what is refused.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: every phase in its order
--- config
server_rewrite_by_lua_block { ngx.ctx.seen = ngx.get_phase() }
location /t {
    rewrite_by_lua_block { ngx.ctx.seen = ngx.ctx.seen .. " " .. ngx.get_phase() }
    access_by_lua_block { ngx.ctx.seen = ngx.ctx.seen .. " " .. ngx.get_phase() }
    precontent_by_lua_block { ngx.ctx.seen = ngx.ctx.seen .. " " .. ngx.get_phase() }
    content_by_lua_block { ngx.say(ngx.ctx.seen, " ", ngx.get_phase()) }
    header_filter_by_lua_block { ngx.header["X-Phase"] = ngx.get_phase() }
    log_by_lua_block { ngx.log(ngx.WARN, "now in ", ngx.get_phase()) }
}
--- request
GET /t
--- response_body
server_rewrite rewrite access precontent content
--- response_headers
X-Phase: header_filter
--- error_log
now in log

=== TEST 2: rewrite code runs behind the rules of its location
--- config
location /t {
    rewrite_by_lua_block { ngx.var.x = ngx.var.x .. "b" }
    set $x a;
    echo $x;
}
--- request
GET /t
--- response_body
ab

=== TEST 3: unless it is not postponed
--- http_config
rewrite_by_lua_no_postpone on;
--- config
location /t {
    rewrite_by_lua_block { ngx.var.x = "b" }
    set $x "${x}a";
    echo $x;
}
--- request
GET /t
--- response_body
ba

=== TEST 4: it does not run where a rule leads elsewhere
--- config
location /t { rewrite ^ /other last; rewrite_by_lua_block { ngx.exit(503) } }
location /other { echo other; }
--- request
GET /t
--- response_body
other

=== TEST 5: satisfy any: access code that ends normally lets the client in
--- config
location /t { satisfy any; deny all; access_by_lua_block { return } echo in; }
--- request
GET /t
--- response_body
in

=== TEST 6: satisfy any: neither agrees
--- config
location /t { satisfy any; deny all; access_by_lua_block { ngx.exit(403) } echo in; }
--- request
GET /t
--- error_code: 403

=== TEST 7: a header filter answers something else
--- config
location /t {
    echo secret;
    header_filter_by_lua_block { if ngx.status == 200 then return ngx.exit(403) end }
}
--- request
GET /t
--- error_code: 403
--- response_body_like: 403 Forbidden

=== TEST 8: a status set late is reported
--- config
location /t { content_by_lua_block { ngx.say("a") ngx.exit(403) } }
--- request
GET /t
--- response_body
a
--- error_log
attempt to set status 403 via ngx.exit after sending out the response status 200

=== TEST 9: redirects keep to their statuses and to clean bytes
--- config
location /t {
    content_by_lua_block {
        ngx.log(ngx.WARN, select(2, pcall(ngx.redirect, "/x", 404)))
        ngx.log(ngx.WARN, select(2, pcall(ngx.redirect, "/x\r\nSet-Cookie: a=b")))
        ngx.redirect("/there", 307)
    }
}
--- request
GET /t
--- error_code: 307
--- response_headers
Location: /there
--- error_log
only ngx.HTTP_MOVED_TEMPORARILY
unsafe byte "0x0d" in redirect uri "/x\x0D\x0ASet-Cookie: a=b"

=== TEST 10: exec takes a table of arguments
--- config
location /t { content_by_lua_block { ngx.exec("/u?z=0", { a = { 1, "b c" } }) } }
location /u { echo $args; }
--- request
GET /t
--- response_body
z=0&a=1&a=b%20c

=== TEST 11: exec does not climb
--- config
location /t { content_by_lua_block { ngx.exec("/a/%2e%2e/b") } }
--- request
GET /t
--- error_code: 500
--- error_log
unsafe uri

=== TEST 12: a file that is not there
--- config
location /t { content_by_lua_file html/none.lua; }
--- request
GET /t
--- error_code: 404
--- error_log eval
qr/failed to load external Lua file ".*none\.lua": cannot open .*none\.lua: No such file or directory/

=== TEST 13: the body is read before the code runs
--- config
location /t { lua_need_request_body on; content_by_lua_block { ngx.say(ngx.var.request_body) } }
--- request
POST /t
hello
--- response_body
hello

=== TEST 14: without the code cache each request has fresh globals
--- config
lua_code_cache off;
location /t { content_by_lua_block { n = (n or 0) + 1 ngx.say(n) } }
--- request eval
["GET /t", "GET /t"]
--- response_body eval
["1\n", "1\n"]
--- no_error_log
[alert] failed

=== TEST 15: globals that requests make are reported
--- config
location /t { content_by_lua_block { shared = 1 ngx.say("ok") } }
--- request
GET /t
--- response_body
ok
--- error_log
writing a global Lua variable ('shared') which may lead to race conditions

=== TEST 16: what other modules do to values
--- config
location /t { content_by_lua_block { ngx.say(ndk.set_var.set_escape_uri(" :"), pcall(function() return ndk.set_var.nothing("a") end)) } }
--- request
GET /t
--- response_body_like: ^%20%3Afalse.*directive "nothing" not found
