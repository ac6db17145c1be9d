# ngx.header, ngx.resp, ngx.status: the response head as Lua reads and writes it.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: fields are set, replaced, repeated and removed
--- config
add_header X-Conf conf;
location /t {
    content_by_lua_block {
        ngx.header.x_one = "1"
        ngx.header["X-One"] = 2
        ngx.header.x_many = { "a", "b" }
        ngx.header.x_gone = "here"
        ngx.header.x_gone = nil
        ngx.say(ngx.header.X_ONE, " ", table.concat(ngx.header.x_many, "+"), " ", tostring(ngx.header.x_gone))
    }
}
--- request
GET /t
--- response_headers
X-One: 2
X-Many: a, b
!X-Gone
--- response_body
2 a+b nil
--- no_error_log
[error]

=== TEST 2: fields that nginx writes itself
--- config
location /t {
    content_by_lua_block {
        ngx.header.content_type = "text/x; charset=y"
        ngx.header["Content-Length"] = 3
        ngx.header.last_modified = "Thu, 18 Nov 2010 11:27:35 GMT"
        ngx.header.location = "/elsewhere"
        ngx.header.server = "mine"
        ngx.header.etag = '"tag"'
        ngx.print(ngx.header.content_length)
        ngx.print("ab")
    }
}
--- request
GET /t
--- response_headers
Content-Type: text/x; charset=y
Content-Length: 3
Last-Modified: Thu, 18 Nov 2010 11:27:35 GMT
Location: /elsewhere
Server: mine
ETag: "tag"
--- response_body chomp
3ab

=== TEST 3: a value cannot end its line
--- config
location /t { content_by_lua_block { ngx.header.x_a = "b\r\nX-Evil: 1"; ngx.say("ok") } }
--- request
GET /t
--- response_headers
X-A: b%0D%0AX-Evil: 1
!X-Evil

=== TEST 4: without Content-Type when Lua takes it away
--- config
location /t { content_by_lua_block { ngx.header.content_type = nil; ngx.say("ok") } }
--- request
GET /t
--- response_headers
!Content-Type

=== TEST 5: after the head is sent nothing changes, and the log says so
--- config
location /t {
    content_by_lua_block {
        ngx.say("a")
        ngx.flush(true)
        ngx.header.x_late = "b"
        ngx.status = 404
        ngx.say(ngx.status, " ", tostring(ngx.headers_sent))
    }
}
--- request
GET /t
--- response_headers
!X-Late
--- response_body
a
200 true
--- error_log
attempt to set ngx.header.HEADER after sending out response headers
attempt to set ngx.status after sending out response headers

=== TEST 6: ngx.resp.get_headers finds fields in any case
--- config
location /t {
    content_by_lua_block {
        ngx.header.x_foo = { "a", "b" }
        local h = ngx.resp.get_headers()
        ngx.say(h.X_Foo[1], h["x-foo"][2], " ", tostring(h.nothing), " ", ngx.resp.get_headers(0, true)["x-foo"][1])
        local _, err = ngx.resp.get_headers(1)
        ngx.say(err)
    }
}
--- request
GET /t
--- response_body
ab nil a
truncated

=== TEST 7: a status with a reason of one's own
--- config
location /t {
    content_by_lua_block {
        require("ngx.resp").set_status(299, "Almost")
        require("ngx.resp").add_header("X-A", "1")
        require("ngx.resp").add_header("X-A", "2")
        ngx.say("ok")
    }
}
--- request
GET /t
--- error_code: 299
--- raw_response_headers_like
HTTP/1.1 299 Almost\r
(?s:.*)X-A: 1\r
X-A: 2\r

=== TEST 8: where there is no request
--- http_config
init_by_lua_block {
    for _, f in ipairs { function() return ngx.header.a end, function() return ngx.var.a end,
                         function() return ngx.ctx end, function() return ngx.status end } do
        local ok, err = pcall(f)
        errors = (errors or "") .. tostring(ok) .. " " .. err:match("no request found") .. "\n"
    end
}
--- config
location /t { content_by_lua_block { ngx.print(errors) } }
--- request
GET /t
--- response_body
false no request found
false no request found
false no request found
false no request found
