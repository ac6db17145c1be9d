# resty.http: requests, bodies of each kind, pools that stay clean, and what others get wrong.
use Test::Nginx::Socket 'no_plan';
our $Raw = <<'_EOC_';
init_by_lua_block {
    answers = {
        fixed = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\nx-a: 2\r\n\r\nhello",
        chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-T: t\r\nContent-Length: 9\r\n\r\n",
        interim = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n",
        conflict = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        same = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        negative = "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        both = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        open = "HTTP/1.1 200 OK\r\n\r\nto the end",
        old = "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        nocolon = "HTTP/1.1 200 OK\r\nBroken\r\n\r\n",
        blank = "HTTP/1.1 200 OK\r\nX : 1\r\n\r\n",
        status = "HTTP/1.1 2x0 OK\r\n\r\n",
        garbage = "\0\1\2\3\r\n\r\n",
        chunksize = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        chunkend = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n",
        more = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
    }
    pools = 0
    function ask(name, cut, stall, patience)
        local http = require "resty.http"
        local c = http.new()
        c:set_timeouts(2000, 2000, patience or 2000)
        pools = pools + 1
        assert(c:connect{ host = "unix:$TEST_NGINX_HTML_DIR/raw.sock", pool = "own" .. pools })
        local res, err = c:request{ path = "/", headers = { Host = "x", ["X-Answer"] = name, ["X-Cut"] = cut, ["X-Stall"] = stall } }
        local body
        if res then
            body, err = res:read_body()
        end
        return c, body, err, res
    end
}
server {
    listen unix:$TEST_NGINX_HTML_DIR/raw.sock;
    location / {
        content_by_lua_block {
            local answer = answers[ngx.var.http_x_answer]
            local stall = ngx.var.http_x_stall
            local cut = tonumber(ngx.var.http_x_cut) or #answer
            local sock = ngx.req.socket(true)
            sock:send(answer:sub(1, cut))
            if stall then
                ngx.sleep(0.3)
            end
        }
    }
}
_EOC_
run_tests();

__DATA__

=== TEST 1: one call does it all, and the connection is used again
--- config
location /t {
    content_by_lua_block {
        local http = require "resty.http"
        local c = http.new()
        local uri = "http://127.0.0.1:" .. ngx.var.server_port .. "/echo"
        local res = c:request_uri(uri .. "?a=1", { method = "POST", body = { "x", 1, "yz" }, headers = { ["X-Own"] = { "a", "b" } } })
        ngx.say(res.status, " ", res.reason, " ", res.body, " ", res.headers["content-TYPE"])
        res = c:request_uri(uri, { query = { b = "&" }, method = "put", body = "" })
        ngx.say(res.body)
        c:connect{ scheme = "http", host = "127.0.0.1", port = tonumber(ngx.var.server_port) }
        ngx.say(c:get_reused_times(), " ", c:set_keepalive())
        ngx.say(c:request_uri("ftp://x/"))
        ngx.say(c:request_uri(uri, { method = "POST" }))
        ngx.say(c:request_uri(uri, { body = function() end }))
        ngx.say(c:request_uri(uri, { headers = { X = "a\r\nB: c" } }))
        ngx.say(c:request_uri(uri, { path = "/a\r\n" }))
        ngx.say(c:connect{ host = "127.0.0.1", port = 80 })
    }
}
location /echo {
    content_by_lua_block {
        ngx.req.read_body()
        ngx.header.content_type = "text/x"
        local own = ngx.req.get_headers()["x-own"]
        ngx.print(ngx.req.get_method(), " ", ngx.var.args or "-", " ", ngx.req.get_body_data() or "-", " ", own and table.concat(own, ",") or "-")
    }
}
--- request
GET /t
--- response_body
200 OK POST a=1 x1yz a,b text/x
PUT b=%26 - -
2 1
nilbad uri: ftp://x/
nilRequest body is nil but POST method expects a body. Use an empty string "" if you want to send an empty body.
nilRequest body is a function but a length or chunked encoding is not specified
nilline break in request header: X
nilline break in method or path of request
nil'scheme' is required when providing a port
--- no_error_log
[error]

=== TEST 2: bodies of each kind, and whether the connection may be used again
--- http_config eval: $::Raw
--- config
location /t {
    content_by_lua_block {
        for _, name in ipairs{ "fixed", "chunked", "interim", "same", "both", "open", "old", "conflict", "negative", "nocolon",
            "blank", "status", "garbage", "chunksize", "chunkend" }
        do
            local whole = name == "fixed" or name == "chunked" or name == "interim" or name == "same"
            local c, body, err, res = ask(name, nil, whole or nil)
            local trailer = res and res:read_trailers() == nil and res.headers["x-t"]
            ngx.say(name, ": ", res and res.status, " [", body, "] ", err, " ", trailer, " ", (c:set_keepalive()))
        end
        local c, _, _, res = ask("fixed")
        ngx.say(table.concat(res.headers["X-A"], ","), " ", res.headers["x_a"])
        ngx.say(res:read_body())
        local c, _, _, res = ask("interim")
        ngx.say(res.has_body, " ", res.headers.link)
        local c, body = ask("more")
        ngx.say(body, " ", c:set_keepalive())
    }
}
--- request
GET /t
--- response_body
fixed: 200 [hello] nil nil 1
chunked: 200 [abcde] nil t 1
interim: 204 [] nil nil 1
same: 200 [hello] nil nil 1
both: 200 [a] nil nil 2
open: 200 [to the end] nil nil 2
old: 200 [ok] nil nil 2
conflict: nil [nil] conflicting Content-Length in response: 5, 6 nil 2
negative: nil [nil] bad Content-Length in response: -1 nil 2
nocolon: nil [nil] couldn't parse header line from response: Broken nil 2
blank: nil [nil] couldn't parse header line from response: X : 1 nil 2
status: nil [nil] couldn't parse status code from response status line: HTTP/1.1 2x0 OK nil 2
garbage: nil [nil] couldn't parse HTTP version from response status line:  nil 2
chunksize: 200 [nil] unable to read chunksize nil 2
chunkend: 200 [nil] unable to read chunksize nil 2
1,2 nil
nilcan't resume a dead coroutine
false nil
ok nilunread data in buffer
--- response_body_filters eval
sub { $_[0] =~ s/[\0-\3]//gr }

=== TEST 3: the other side leaves, or falls silent, at every byte
--- http_config eval: $::Raw
--- config
location /t {
    content_by_lua_block {
        for _, name in ipairs{ "fixed", "chunked" } do
            local seen = {}
            local whole = #answers[name]
            for cut = 0, whole - 1 do
                for _, stall in ipairs{ false, true } do
                    local c, body, err = ask(name, cut, stall or nil, stall and 25)
                    local kept = c:set_keepalive()
                    if body or kept == 1 then
                        ngx.say(name, " at ", cut, ": ", body, " ", err, " ", kept)
                    end
                    seen[err] = true
                end
            end
            local errors = {}
            for err in pairs(seen) do
                errors[#errors + 1] = err
            end
            table.sort(errors)
            ngx.say(name, ": ", table.concat(errors, ", "))
        end
    }
}
--- request
GET /t
--- timeout: 20
--- response_body
fixed: closed, timeout
chunked: closed, timeout

=== TEST 4: streaming, leave to send, HEAD, and responses one behind another
--- config
location /t {
    content_by_lua_block {
        local http = require "resty.http"
        local c = http.new()
        local port = tonumber(ngx.var.server_port)
        assert(c:connect{ scheme = "http", host = "127.0.0.1", port = port })
        local res = c:request{ path = "/long" }
        local sizes = {}
        repeat
            local piece = res.body_reader(4000)
            sizes[#sizes + 1] = piece and #piece
        until not piece
        ngx.say(table.concat(sizes, " "))
        res = c:request{ path = "/long" }
        ngx.say(#res.body_reader(10), " ", c:set_keepalive())
        assert(c:connect{ scheme = "http", host = "127.0.0.1", port = port })
        res = c:request{ path = "/echo", method = "POST", body = "leave", headers = { Expect = "100-continue" } }
        ngx.say(res.status, " ", res:read_body())
        res = c:request{ path = "/long", method = "HEAD" }
        ngx.say(res.status, " ", res.has_body, " [", res:read_body(), "]")
        local rest = { "a", "b", "c" }
        local body = function()
            local piece = table.remove(rest, 1)
            return piece and "1\r\n" .. piece .. "\r\n" .. (#rest == 0 and "0\r\n\r\n" or "") or nil
        end
        res = c:request{ path = "/echo", method = "POST", body = body, headers = { ["Transfer-Encoding"] = "chunked", ["Content-Length"] = 9 } }
        ngx.say(res:read_body())
        local all = c:request_pipeline{ { path = "/echo?1" }, { path = "/echo?2" } }
        ngx.say((c:set_keepalive()))
        assert(c:connect{ scheme = "http", host = "127.0.0.1", port = port })
        all = c:request_pipeline{ { path = "/echo?1" }, { path = "/echo?2" } }
        for _, r in ipairs(all) do
            ngx.print(r.status, " ", r:read_body(), "; ")
        end
        ngx.say(c:set_keepalive())
    }
}
location /echo {
    content_by_lua_block {
        ngx.req.read_body()
        ngx.print(ngx.req.get_body_data() or ngx.var.args)
    }
}
location /long {
    content_by_lua_block {
        ngx.header.content_length = 10000
        ngx.print(("x"):rep(10000))
    }
}
--- request
GET /t
--- response_body
4000 4000 2000
10 2connection must be closed
200 leave
200 false []
abc
2
200 1; 200 2; 1
--- no_error_log
[error]

=== TEST 5: proxies, and hosts that go without
--- config
location /a {
    content_by_lua_block {
        ngx.print(ngx.var.request_uri, " ", ngx.var.http_host, " ", ngx.var.http_proxy_authorization)
    }
}
location /t {
    content_by_lua_block {
        local http = require "resty.http"
        local c = http.new()
        local proxy = "http://127.0.0.1:" .. ngx.var.server_port
        c:set_proxy_options{ http_proxy = proxy, http_proxy_authorization = "Basic x", no_proxy = "internal.test,.local.test" }
        ngx.say(c:request_uri("http://far.test:81/a?b=c").body)
        ngx.say(c:get_proxy_uri("http", "a.local.test"), " ", c:get_proxy_uri("http", "internal.test"), " ", c:get_proxy_uri("http", "notinternal.test") == proxy)
        c = http.new()
        c:set_proxy_options{ https_proxy = proxy }
        ngx.say(c:connect{ scheme = "https", host = "far.test" })
        c:set_proxy_options{ http_proxy = "https://x/" }
        ngx.say(c:connect{ scheme = "http", host = "far.test" })
    }
}
--- request
GET /t
--- response_body
/a?b=c far.test:81 Basic x
nil nil true
nilfailed to establish a tunnel through a proxy: 405
nilprotocol https not supported for proxy connections
