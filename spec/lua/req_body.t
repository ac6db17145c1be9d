# The request's body, path and head in Lua's hands.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: a body is read when it is asked for
--- config
location /t {
    content_by_lua_block {
        ngx.say(ngx.req.get_body_data())
        ngx.req.read_body()
        ngx.say(ngx.req.get_body_data(), " ", ngx.req.get_body_data(3), " ", ngx.req.get_body_file())
    }
}
--- request
POST /t
hello
--- response_body
nil
hello hel nil

=== TEST 2: lua_need_request_body reads it before the code runs
--- config
lua_need_request_body on;
location /t { content_by_lua_block { ngx.say(ngx.var.request_body, " ", ngx.req.get_post_args().a) } }
--- request
POST /t
a=1&b=2
--- response_body
a=1&b=2 1

=== TEST 3: a long body is in a file, which goes with the request
--- config
location /t {
    client_body_buffer_size 4;
    content_by_lua_block {
        ngx.req.read_body()
        local file = io.open(ngx.req.get_body_file())
        ngx.say(ngx.req.get_body_data(), " ", file:read("*a"))
        local args, err = ngx.req.get_post_args()
        ngx.say(args, " ", err)
    }
}
--- request
POST /t
hello, world
--- response_body
nil hello, world
nil request body in temp file not supported

=== TEST 4: post arguments as tables
--- config
location /t {
    content_by_lua_block {
        ngx.req.read_body()
        local args, err = ngx.req.get_post_args(3)
        ngx.say(args.a[1], args.a[2], " ", args["b c"], " ", args.d, " ", err)
    }
}
--- request
POST /t
a=1&a=2&b+c&d=4
--- response_body
12 true nil truncated

=== TEST 5: a body that was set is what later locations see
--- config
location /t {
    rewrite_by_lua_block {
        ngx.req.read_body()
        ngx.req.set_body_data("other")
    }
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/echo;
}
location /echo {
    content_by_lua_block {
        ngx.req.read_body()
        ngx.say(ngx.var.http_content_length, " ", ngx.req.get_body_data())
    }
}
--- request
POST /t
hello, world
--- response_body
5 other

=== TEST 6: a body is written piece by piece, in memory and to a file
--- config
location /t {
    content_by_lua_block {
        ngx.req.read_body()
        for _, size in ipairs { 100, 3 } do
            ngx.req.init_body(size)
            ngx.req.append_body("abc")
            ngx.req.append_body("def")
            ngx.req.finish_body()
            local data, file = ngx.req.get_body_data(), ngx.req.get_body_file()
            ngx.say(ngx.var.http_content_length, " ", data or io.open(file):read("*a"), " ", file ~= nil)
        end
    }
}
--- request
GET /t
--- response_body
6 abcdef false
6 abcdef true

=== TEST 7: the content of a file as body
--- user_files
>>> body.txt
from a file
--- config
location /t {
    content_by_lua_block {
        ngx.req.read_body()
        ngx.req.set_body_file("$TEST_NGINX_HTML_DIR/body.txt")
        local res = ngx.location.capture("/echo", { method = ngx.HTTP_POST })
        ngx.print(res.body)
    }
}
location /echo { content_by_lua_block { ngx.say(io.open(ngx.req.get_body_file()):read("*l")) } }
--- request
GET /t
--- response_body
from a file

=== TEST 8: what cannot be done to a body is an error
--- config
location /t {
    content_by_lua_block {
        ngx.say(select(2, pcall(ngx.req.set_body_data, "a")))
        ngx.say(select(2, pcall(ngx.req.get_post_args)))
        ngx.say(select(2, pcall(ngx.req.append_body, "a")))
        ngx.say(select(2, pcall(ngx.req.read_body, 1)))
    }
}
--- request
GET /t
--- response_body
request body not read yet
no request body found; maybe you should turn on lua_need_request_body?
request_body not initialized
expecting 0 arguments but seen 1

=== TEST 9: set_uri finds another location, or only changes the path
--- config
location /jump { rewrite_by_lua_block { ngx.req.set_uri("/there", true) ngx.log(ngx.ERR, "not reached") } }
location /stay { content_by_lua_block { ngx.req.set_uri("/x y\tz") ngx.say(ngx.var.uri) } }
location /there { content_by_lua_block { ngx.say("there ", ngx.var.uri) } }
location /bad { content_by_lua_block { ngx.say(select(2, pcall(ngx.req.set_uri, "/a\n"))) } }
--- request eval
["GET /jump", "GET /stay", "GET /bad"]
--- response_body eval
["there /there\n", "/x y\tz\n",
 "unsafe byte \"0x0a\" in uri \"/a\\x0A\" (maybe you want to set the 'binary' argument?)\n"]
--- no_error_log
not reached

=== TEST 10: set_uri_args takes texts and tables
--- config
location /t {
    content_by_lua_block {
        ngx.req.set_uri_args("a=1 2")
        ngx.say(ngx.var.args)
        ngx.req.set_uri_args({ a = { 1, "x&y", true } })
        ngx.say(ngx.var.args)
    }
}
--- request
GET /t?old
--- response_body
a=1%202
a=1&a=x%26y&a

=== TEST 11: the head as it was sent, whatever was edited since
--- config
location /t {
    content_by_lua_block {
        ngx.req.set_header("X-A", "2")
        ngx.print((ngx.req.raw_header(true):gsub("\r\n", "|")))
    }
}
--- raw_request eval
"GET /t HTTP/1.0\r\nHost: a\r\nX-A: 1\r\n\r\n"
--- response_body chomp
Host: a|X-A: 1||

=== TEST 12: HTTP/1.0 gets the length of what Lua made
--- config
location /on { content_by_lua_block { ngx.say("a") ngx.say(ngx.flush()) } }
location /off { lua_http10_buffering off; content_by_lua_block { ngx.say("a") } }
--- request eval
["GET /on HTTP/1.0", "GET /off HTTP/1.0"]
--- response_headers eval
["Content-Length: 15", "!Content-Length"]
--- response_body eval
["a\nnilbuffering\n", "a\n"]

=== TEST 13: what fails in the middle of ngx.say leaves nothing behind in what is gathered
--- config
location /t {
    content_by_lua_block {
        ngx.say("a")
        local ok, why = pcall(ngx.say, "b", { x = 1 })
        ngx.say(ok, " ", why)
        ngx.sleep(0)
        ngx.print({ "c", { 1, true } }, nil, ngx.null)
    }
}
--- request
GET /t HTTP/1.0
--- response_headers
Content-Length: 68
--- response_body chomp
a
false bad argument #2 to '?' (non-array table found)
c1truenilnull
