# ngx.log, print, and the lines that errors leave.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: a line names its place
--- config
location /t { content_by_lua_block { ngx.log(ngx.WARN, "a", 1, nil, true, ngx.null) ngx.say("ok") } }
--- request
GET /t
--- response_body
ok
--- error_log eval
qr/\[warn\] \d+#\d+: \*\d+ \[lua\] content_by_lua\(nginx\.conf:\d+\):1: a1niltruenull, client: /

=== TEST 2: and the function in it
--- config
location /t { content_by_lua_block { local function told() ngx.log(ngx.ERR, "x") end told() ngx.say("ok") } }
--- request
GET /t
--- response_body
ok
--- error_log eval
qr/\[lua\] content_by_lua\(nginx\.conf:\d+\):1: told\(\): x/

=== TEST 3: tables say what their __tostring says
--- config
location /t { content_by_lua_block { print(setmetatable({}, { __tostring = function() return "me" end })) ngx.say("ok") } }
--- log_level: notice
--- request
GET /t
--- response_body
ok
--- error_log
me

=== TEST 4: other tables are refused
--- config
location /t { content_by_lua_block { ngx.say(select(2, pcall(ngx.log, ngx.ERR, {}))) } }
--- request
GET /t
--- response_body_like: bad argument #1 to .* \(expected table to have __tostring metamethod\)

=== TEST 5: lines of a message stay lines
--- config
location /t { content_by_lua_block { ngx.log(ngx.WARN, "one\ntwo") ngx.say("ok") } }
--- request
GET /t
--- response_body
ok
--- error_log eval
qr/^two, client: /m

=== TEST 6: what a client sent stays in its line
--- config
location /t { content_by_lua_block { ngx.log(ngx.WARN, "said") ngx.say("ok") } }
--- raw_request eval
"GET /t HTTP/1.1\r\nHost: localhost\r\nReferer: a\xff\r\nConnection: close\r\n\r\n"
--- response_body
ok
--- error_log eval
qr/said, client: .*, referrer: "a/
