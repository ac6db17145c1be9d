# resty.upload: multipart bodies piece by piece, as they come and as they break off.
use Test::Nginx::Socket 'no_plan';
our $Body = join("\r\n", "preamble", "--B", "Content-Disposition: form-data; name=\"f\"; filename=\"a.txt\"", "Content-Type: text/plain",
    "odd line", "", "Hello,\r\n--Bworld", "--B", "", "", "--B--", "epilogue");
our $Form = <<'_EOC_';
init_by_lua_block {
    function show(form, limit)
        for _ = 1, limit or 100 do
            local typ, res, err = form:read()
            if not typ then
                ngx.say("error: ", err)
                return
            end
            ngx.say(typ, " ", type(res) == "table" and table.concat(res, "|") or res and res:gsub("%c", "."))
            if typ == "eof" then
                return
            end
        end
    end
}
_EOC_
run_tests();

__DATA__

=== TEST 1: headers, pieces, the ends of parts and of it all
--- http_config eval: $::Form
--- config
location /t {
    content_by_lua_block {
        local form = require("resty.upload"):new(8)
        form:set_timeout(1000)
        show(form)
        ngx.say(form:read())
    }
}
--- more_headers
Content-Type: multipart/form-data; boundary="B"
--- request eval
"POST /t\n$::Body"
--- response_body
header Content-Disposition|form-data; name="f"; filename="a.txt"|Content-Disposition: form-data; name="f"; filename="a.txt"
header Content-Type|text/plain|Content-Type: text/plain
header odd line
body Hello,
part_end nil
header --B
body 
part_end nil
eof nil
eofnil
--- no_error_log
[error]

=== TEST 2: what cannot be read
--- http_config eval: $::Form
--- config
location /t {
    content_by_lua_block {
        local upload = require "resty.upload"
        local form, err = upload:new(8, 20)
        if not form then
            ngx.say(err)
            return
        end
        show(form)
    }
}
--- more_headers eval
["Content-Type: text/plain", "Content-Type: multipart/form-data; boundary=B", "Content-Type: multipart/form-data; boundary=B",
 "Content-Type: multipart/form-data; boundary=B", "Content-Type: multipart/form-data; boundary=B"]
--- request eval
["POST /t\nx", "GET /t", "POST /t\n$::Body", "POST /t\n--B\r\nA: b\r\n\r\ncut off", "POST /t\nno boundary at all"]
--- response_body eval
["no boundary defined in Content-Type\n", "no body\n", "error: line too long: Content-Disposition: ...\n",
 "header A|b|A: b\nerror: closed\n", "error: closed\n"]

=== TEST 3: the body is kept for those who come after
--- http_config eval: $::Form
--- config
location /t {
    client_body_buffer_size 8k;
    rewrite_by_lua_block {
        local form = require("resty.upload"):new(5, nil, true)
        repeat
            local typ, _, err = form:read()
        until not typ or typ == "eof"
    }
    content_by_lua_block {
        local file = io.open(ngx.req.get_body_file())
        ngx.print(file:read("*a"))
    }
}
--- more_headers
Content-Type: multipart/form-data; boundary=B
--- request eval
"POST /t\n$::Body"
--- response_body eval: $::Body
--- no_error_log
[error]

=== TEST 4: a client that leaves at every byte
--- http_config eval: $::Form
--- config
location /form {
    content_by_lua_block {
        local form = require("resty.upload"):new(64)
        form:set_timeout(1000)
        local seen
        repeat
            local typ, _, err = form:read()
            seen = err
        until not typ or typ == "eof"
        ngx.log(ngx.NOTICE, "ended with ", seen or "eof", ";")
        ends = ends or {}
        ends[seen or "eof"] = (ends[seen or "eof"] or 0) + 1
    }
}
location /t {
    content_by_lua_block {
        local body = "--B\r\nA: b\r\n\r\nx\r\n--B--"
        for cut = 0, #body - 1 do
            local sock = ngx.socket.tcp()
            sock:connect("127.0.0.1", ngx.var.server_port)
            sock:send("POST /form HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=B\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body:sub(1, cut))
            sock:shutdown("send")
            sock:receive("*a")
        end
        local kinds = {}
        for kind, n in pairs(ends) do
            kinds[#kinds + 1] = kind .. " " .. n
        end
        table.sort(kinds)
        ngx.say(table.concat(kinds, ", "))
    }
}
--- request
GET /t
--- response_body
client aborted 21
