# ngx.req: fields, arguments and method of the request; ngx.var.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: header fields in any case, repeated ones as a list
--- config
location /t {
    content_by_lua_block {
        local h = ngx.req.get_headers()
        ngx.say(h.x_one, " ", h["X-ONE"], " ", table.concat(h.x_two, "+"), " ", tostring(h.nothing))
        ngx.say(ngx.req.get_headers(0, true)["X-One"])
        local _, err = ngx.req.get_headers(1)
        ngx.say(err)
    }
}
--- request
GET /t
--- more_headers
X-One: 1
X-Two: a
x-two: b
--- response_body
1 1 a+b nil
1
truncated

=== TEST 2: fields are set, added and cleared
--- config
location /t {
    content_by_lua_block {
        ngx.req.set_header("X-New", "n")
        ngx.req.set_header("X-Old", { "a", "b" })
        require("ngx.req").add_header("X-Old", "c")
        ngx.req.clear_header("X-Gone")
        ngx.req.set_header("Host", "Example.com")
        local h = ngx.req.get_headers()
        ngx.say(h.x_new, " ", table.concat(h.x_old, "+"), " ", tostring(h.x_gone), " ", ngx.var.host, " ", ngx.var.http_x_new)
    }
}
--- request
GET /t
--- more_headers
X-Old: 1
X-Gone: 2
--- response_body
n a+b+c nil example.com n

=== TEST 3: arguments
--- config
location /t {
    content_by_lua_block {
        local a = ngx.req.get_uri_args()
        ngx.say(a.a, " ", tostring(a.b), " ", table.concat(a.c, "+"), " ", tostring(a[""]), " ", "[" .. a.d .. "]")
        local reused = { old = 1 }
        local _, err = ngx.req.get_uri_args(2, reused)
        ngx.say(tostring(reused.old), " ", reused.a, " ", err)
    }
}
--- request
GET /t?a=%20x+y&b&c=1&c=2&=z&d=
--- response_body
 x y true 1+2 nil []
nil  x y truncated

=== TEST 4: encode_args and decode_args
--- config
location /t {
    content_by_lua_block {
        ngx.say(ngx.encode_args { ["a b"] = "c&d" })
        ngx.say(ngx.encode_args { a = { "1", true } })
        local t, err = ngx.decode_args("a=%26&b&a=2", 0)
        ngx.say(t.a[1], t.a[2], tostring(t.b), tostring(err))
    }
}
--- request
GET /t
--- response_body
a%20b=c%26d
a=1&a
&2truenil

=== TEST 5: method and time
--- config
location /t {
    content_by_lua_block {
        ngx.say(ngx.req.get_method())
        ngx.req.set_method(ngx.HTTP_PUT)
        ngx.say(ngx.req.get_method(), " ", ngx.var.request_method)
        ngx.say(pcall(ngx.req.set_method, 12345))
        ngx.say(ngx.req.start_time() <= ngx.now(), " ", tostring(ngx.req.is_internal()), " ", ngx.req.http_version())
    }
}
--- request
DELETE /t
--- response_body
DELETE
PUT PUT
falseunsupported HTTP method: 12345
true false 1.1

=== TEST 6: variables
--- config
set $mine 1;
location ~ ^/(t)(.*) {
    content_by_lua_block {
        ngx.var.mine = "two"
        ngx.say(ngx.var.mine, ngx.var.MINE, " ", ngx.var[1], ngx.var[2], " ", tostring(ngx.var.nothing), " ", ngx.var.arg_a)
        ngx.var.mine = nil
        ngx.say(tostring(ngx.var.mine))
        ngx.say((select(2, pcall(function() ngx.var.uri = "/" end))))
        ngx.say((select(2, pcall(function() ngx.var.nothing = "/" end))):match('variable "nothing" not found for writing'))
        ngx.say((select(2, pcall(function() return ngx.var[{}] end))):match("bad variable name"))
    }
}
--- request
GET /two?a=b
--- response_body_like chop
^twotwo two nil b
nil
.*variable "uri" not changeable
variable "nothing" not found for writing
bad variable name
$

=== TEST 7: unmodified code may replace what it likes
--- config
location /t {
    content_by_lua_block {
        local old = ngx.req.get_method
        ngx.req.get_method = function() return "mine " .. old() end
        ngx.mine = 7
        ngx.say(ngx.req.get_method(), ngx.mine)
        ngx.req.get_method = old
    }
}
--- request
GET /t
--- response_body
mine GET7

=== TEST 8: known and other names, once and often; arguments into a table of one's own
--- config
location /t {
    content_by_lua_block {
        local h, why = ngx.req.get_headers()
        ngx.say(h.accept, " ", h.x_odd_name, " ", table.concat(h["X-Odd-Name-2"], "+"), " ",
            table.concat(h.cookie, "+"), " ", tostring(h.nothing), " ", tostring(why))
        local raw = ngx.req.get_headers(0, true)
        ngx.say(raw["X-Odd-Name"], " ", tostring(raw["x-odd-name"]), " ", tostring(getmetatable(raw)))
        local _, cut = ngx.req.get_headers(2)
        ngx.say(cut)
        local given = { old = 1 }
        local args = ngx.req.get_uri_args(100, given)
        ngx.say(args == given, " ", tostring(args.old), " ", args.a[1], args.a[2], args.a[3], " ",
            tostring(args.b), " ", args["c d"])
        local few, why = ngx.req.get_uri_args(1)
        ngx.say(few.a, " ", why)
        for i = 1, 100 do
            assert(ngx.var["name" .. i] == nil and ngx.var["arg_b" .. i] == nil)
            assert(ngx.var.URI == "/t" and ngx.var.request_method == "GET" and ngx.var.arg_b == nil)
        end
    }
}
--- request
GET /t?a=1&a=2&b&a=3&c%20d=x+y
--- more_headers
Accept: */*
X-Odd-Name: 1
X-Odd-Name-2: 2
X-Odd-Name-2: 3
Cookie: a
Cookie: b
--- response_body
*/* 1 2+3 a+b nil nil
1 nil nil
truncated
true nil 123 true x y
1 truncated
