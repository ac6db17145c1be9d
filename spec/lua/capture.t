# Subrequests whose answers Lua gets.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: status, body and head of another location
--- config
location /t {
    content_by_lua_block {
        local res = ngx.location.capture("/other?a=1", { args = { b = 2 } })
        ngx.say(res.status, " ", res.body, " ", res.truncated, " ", res.header["X-B"][2], " ",
                res.header["Content-Type"])
    }
}
location /other {
    default_type text/x-own;
    content_by_lua_block { ngx.header["X-B"] = { "1", "2" } ngx.status = 201 ngx.print(ngx.var.args) }
}
--- request
GET /t
--- response_body
201 a=1&b=2 false 2 text/x-own

=== TEST 2: several run side by side and answer in order
--- config
location /t {
    content_by_lua_block {
        local begun = ngx.now()
        local a, b, c = ngx.location.capture_multi { { "/w?a" }, { "/w?b", { method = ngx.HTTP_HEAD } }, { "/none" } }
        ngx.update_time()
        ngx.say(a.body, " ", b.body, " ", c.status, " ", ngx.now() - begun < 0.35)
    }
}
location /w { content_by_lua_block { ngx.sleep(0.2) ngx.print(ngx.var.args) } }
location /none { return 404; }
--- request
GET /t
--- response_body
a  404 true

=== TEST 3: filters behind Lua's do not see the answer, Lua's do
--- config
location /t {
    content_by_lua_block {
        local res = ngx.location.capture("/other")
        ngx.say(res.body, " ", res.header["X-Lua"], " ", res.header["X-Added"])
    }
}
location /other {
    add_header X-Added 1;
    header_filter_by_lua_block { ngx.header["X-Lua"] = "1" }
    body_filter_by_lua_block { ngx.arg[1] = ngx.arg[1]:upper() }
    return 200 text;
}
--- request
GET /t
--- response_body
TEXT 1 nil

=== TEST 4: pages for errors are for clients
--- config
error_page 403 404 /page;
location /page { return 200 page; }
location /t {
    content_by_lua_block {
        for _, uri in ipairs { "/none.html", "/exit" } do
            local res = ngx.location.capture(uri)
            ngx.say(res.status, " [", res.body, "]")
        end
    }
}
location /exit { content_by_lua_block { ngx.exit(403) } }
--- request
GET /t
--- response_body
404 []
403 []

=== TEST 5: variables are its own, copied or shared
--- config
location /t {
    set $a 1;
    content_by_lua_block {
        for _, options in ipairs { {}, { copy_all_vars = true }, { share_all_vars = true }, { vars = { a = "v" } } } do
            ngx.print(ngx.location.capture("/other", options).body, ngx.var.a, " ")
        end
    }
}
location /other { content_by_lua_block { ngx.print("[", ngx.var.a, "]") ngx.var.a = 2 } }
--- request
GET /t
--- response_body chomp
[]1 [1]1 [1]2 [v]2 

=== TEST 6: method, body and head are what the options say
--- config
location /t {
    content_by_lua_block {
        ngx.req.read_body()
        local function show(options)
            ngx.print(ngx.location.capture("/other", options).body)
        end
        show {}
        show { method = ngx.HTTP_PUT }
        show { always_forward_body = true }
        show { method = ngx.HTTP_POST, body = "own", headers = { ["X-A"] = "a" } }
    }
}
location /other {
    content_by_lua_block {
        ngx.req.read_body()
        ngx.say(ngx.req.get_method(), " ", ngx.var.http_content_length, " ", ngx.req.get_body_data(), " ",
                ngx.var.http_x_a)
    }
}
--- request
POST /t
client's
--- response_body
GET nil nil nil
PUT 8 client's nil
GET 8 client's nil
POST 3 own a

=== TEST 7: a table as ngx.ctx of both
--- config
location /t {
    content_by_lua_block {
        local ctx = { n = 1 }
        ngx.location.capture("/other", { ctx = ctx })
        ngx.say(ctx.n, " ", ngx.ctx.n, " ", ngx.is_subrequest)
    }
}
location /other { content_by_lua_block { ngx.ctx.n = ngx.ctx.n + 1 assert(ngx.is_subrequest) } }
--- request
GET /t
--- response_body
2 nil false

=== TEST 8: captures in captures, redirects and named locations
--- config
location /t { content_by_lua_block { ngx.say(ngx.location.capture("/a").body) } }
location /a { content_by_lua_block { ngx.print("a", ngx.location.capture("/b").body) } }
location /b { internal; content_by_lua_block { ngx.exec("@c") } }
location @c { return 200 c; }
--- request
GET /t
--- response_body
ac

=== TEST 9: captures without end are stopped
--- config
location /t {
    content_by_lua_block {
        local ok, res = pcall(ngx.location.capture, "/t")
        ngx.print(ok and res.body or res)
    }
}
--- request
GET /t
--- response_body chomp
failed to issue subrequest: -1
--- error_log
lua subrequests cycle while processing "/t"

=== TEST 10: what makes no sense is an error
--- config
location /t {
    content_by_lua_block {
        local function show(...) ngx.say(select(2, pcall(ngx.location.capture, ...))) end
        show()
        show("/../a")
        show("/a", { body = {} })
        show("/a", { method = 3 })
        show("/a", { vars = { nowhere = 1 } })
        ngx.say(select(2, pcall(ngx.location.capture_multi, {})))
    }
}
--- request
GET /t
--- response_body
expecting one or two arguments
unsafe uri in argument #1: /../a
Bad http request body
failed to adjust the subrequest: -1
failed to adjust the subrequest: -1
at least one subrequest should be specified
--- error_log
unsupported HTTP method: 3
variable "nowhere" cannot be assigned a value

=== TEST 11: subrequests that end early, at once or later, also where code is compiled
--- config
location /t {
    content_by_lua_block {
        local seen = {}
        for n = 1, 300 do
            local answer = ngx.location.capture("/sub", { args = { n = n % 3 } })
            local key = answer.status .. ":" .. answer.body
            seen[key] = (seen[key] or 0) + 1
        end
        ngx.say(seen["403:"], " ", seen["200:1"], " ", seen["200:2 slept"])
    }
}
location /sub {
    rewrite_by_lua_block { if ngx.var.arg_n == "0" then ngx.exit(403) end }
    content_by_lua_block {
        ngx.print(ngx.var.arg_n)
        if ngx.var.arg_n == "1" then
            ngx.exit(200)
        end
        ngx.sleep(0)
        ngx.print(" slept")
    }
}
--- request
GET /t
--- response_body
100 100 100

=== TEST 12: nothing is waited for where waiting is impossible
--- config
location /t {
    content_by_lua_block {
        local ok, message = pcall(string.gsub, "x", "x", function() return ngx.location.capture("/sub").body end)
        ngx.say(ok, " ", message)
    }
}
location /sub { return 200 sub; }
--- request
GET /t
--- response_body
false attempt to yield across C-call boundary
