# resty.dns.resolver: queries, records, replies that are wrong, servers that are silent, and TCP.
use Test::Nginx::Socket 'no_plan';
our $Dns = <<'_EOC_';
init_by_lua_block {
    message = require "resty.dns.message"
    function u16(n)
        return string.char(math.floor(n / 256), n % 256)
    end
    -- A record for the name that was asked for.
    function record(typ, data, name)
        return (name or "\xc0\x0c") .. u16(typ) .. "\0\1\0\0\0\60" .. u16(#data) .. data
    end
    -- The reply to a query for `name` with this id.
    function reply(name, records, flags, counts)
        local query = message.build_request(name, 7, false, nil)
        return "\0\7" .. (flags or "\x81\x80") .. "\0\1" .. u16(#records) .. (counts or "\0\0\0\0") .. query:sub(13) .. table.concat(records)
    end
    function show(answers, err)
        if not answers then
            return "error: " .. err
        end
        local lines = { answers.errcode and (answers.errcode .. " " .. answers.errstr) }
        for _, answer in ipairs(answers) do
            local fields = {}
            for k, v in pairs(answer) do
                if k ~= "class" and k ~= "section" and k ~= "ttl" then
                    fields[#fields + 1] = k .. "=" .. (type(v) == "table" and table.concat(v, ",") or v)
                end
            end
            table.sort(fields)
            lines[#lines + 1] = table.concat(fields, " ")
        end
        return table.concat(lines, "\n")
    end
    function parse(bytes, opts)
        return show(message.parse_response(bytes, 7, (message.build_request("a.test", 7)), opts))
    end
}
_EOC_
run_tests();

__DATA__

=== TEST 1: records of every type, compressed names
--- http_config eval: $::Dns
--- config
location /t {
    content_by_lua_block {
        ngx.say(parse(reply("a.test", { record(1, "\127\0\0\1"), record(28, "\32\1\13\184" .. ("\0"):rep(11) .. "\1") })))
        ngx.say(parse(reply("A.Test", { record(5, "\1b\xc0\x0e"), record(2, "\2ns\xc0\x0c"), record(12, "\1p\0") })))
        ngx.say(parse(reply("a.test", { record(15, "\0\10\2mx\xc0\x0c"), record(33, "\0\1\0\2\1\187\1s\0") })))
        ngx.say(parse(reply("a.test", { record(16, "\3abc"), record(16, "\1a\2bc"), record(16, "\9ab"), record(16, ""), record(99, "\1s") })))
        ngx.say(parse(reply("a.test", { record(6, "\1m\xc0\x0c\1r\0\255\255\255\255\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4"), record(257, "raw") })))
        ngx.say(parse(reply("a.test", {}, "\x81\x83")), "; ", parse(reply("a.test", {}, "\x81\x8f")))
        local extra = record(2, "\1n\0") .. record(1, "\1\2\3\4")
        local whole = reply("a.test", { record(1, "\1\1\1\1") }, nil, "\0\1\0\1") .. extra
        ngx.say(select(2, parse(whole):gsub("\n", "")), select(2, parse(whole, { authority_section = true }):gsub("\n", "")),
            select(2, parse(whole, { additional_section = true }):gsub("\n", "")), select(2, parse(whole, { qtype = 6, additional_section = true }):gsub("\n", "")))
    }
}
--- request
GET /t
--- response_body
address=127.0.0.1 name=a.test type=1
address=2001:db8:0:0:0:0:0:1 name=a.test type=28
cname=b.Test name=A.Test type=5
name=A.Test nsdname=ns.A.Test type=2
name=A.Test ptrdname=p type=12
exchange=mx.a.test name=a.test preference=10 type=15
name=a.test port=443 priority=1 target=s type=33 weight=2
name=a.test txt=abc type=16
name=a.test txt=a,bc type=16
name=a.test txt=ab type=16
name=a.test txt= type=16
name=a.test spf=s type=99
expire=3 minimum=4 mname=m.a.test name=a.test refresh=1 retry=2 rname=r serial=4294967295 type=6
name=a.test rdata=raw type=257
3 name error; 15 unknown
0112

=== TEST 2: replies that are wrong, and ones that end at every byte
--- http_config eval: $::Dns
--- config
location /t {
    content_by_lua_block {
        local good = reply("a.test", { record(5, "\1b\xc0\x0e"), record(16, "\3abc"), record(6, "\0\0" .. ("\0"):rep(20)), record(33, "\0\1\0\2\1\187\1s\0") })
        local kinds = {}
        for cut = 0, #good - 1 do
            kinds[parse(good:sub(1, cut))] = true
        end
        for kind in pairs(kinds) do
            ngx.say(kind)
        end
        ngx.say(parse("\0\8" .. good:sub(3)))
        ngx.say(parse(reply("b.test", {})))
        ngx.say(parse(reply("a.test", {}, "\1\0")))
        ngx.say(parse(reply("a.test", {}, "\x83\0")))
        ngx.say(parse("\0\7\x81\0\0\2" .. good:sub(7)))
        ngx.say(parse((reply("a.test", {}):gsub("%z\1$", "\0\3"))))
        ngx.say(parse(reply("a.test", { record(1, "\1\2\3") })))
        ngx.say(parse(reply("a.test", { record(28, "\1\2\3") })))
        ngx.say(parse(reply("a.test", { record(5, "\1b\0x") })))
        ngx.say(parse(reply("a.test", { record(15, "\0") })))
        ngx.say(parse(reply("a.test", { record(33, "\0\0\0") })))
        ngx.say(parse(reply("a.test", { record(6, "\0\0\0") })))
        ngx.say(parse(reply("a.test", { record(5, "\xc0\x24") })))
        ngx.say(parse(reply("a.test", { record(5, "\x40\0") })))
        ngx.say(parse(reply("a.test", { record(5, ("\63" .. ("x"):rep(63)):rep(4) .. "\0") })))
        ngx.say(message.build_request(".", 1), " ", message.build_request("a..b", 1), " ", message.build_request(("x"):rep(64), 1), " ", #message.build_request("a.", 1))
    }
}
--- request
GET /t
--- response_body
error: truncated
error: id mismatch
error: id mismatch
error: bad QR flag in the DNS response
error: truncated
error: bad number of questions in DNS response: 2
error: unknown query class 3 in DNS response
error: bad A record value length: 3
error: bad AAAA record value length: 3
error: bad cname record length: 3 ~= 4
error: bad MX record value length: 1
error: bad SRV record value length: 3
error: bad SOA record length: 22 ~= 3
error: bad name in DNS response: too many compression pointers
error: bad name in DNS response: unknown label type
error: bad name in DNS response: too long
nil nil nil 19

=== TEST 3: silence and refusals, every server in its turn
--- http_config eval: $::Dns
--- config
location /t {
    content_by_lua_block {
        local resolver = require "resty.dns.resolver"
        ngx.say(resolver:new())
        ngx.say(resolver:new{ nameservers = {} })
        local r = resolver:new{ nameservers = { { "127.0.0.1", 29874 }, { "127.0.0.1", $TEST_NGINX_RAND_PORT_1 } }, retrans = 3, timeout = 30, no_random = true }
        local answers, err, tries = r:query("a.test", nil, {})
        ngx.say(answers, " ", #tries, " ", err)
        ngx.say(tries[1], "; ", (tries[2]:gsub(":%d+", "")))
        ngx.say((select(2, r:tcp_query("a.test")):gsub(":%d+", "")))
        ngx.say(r:query("a..b"))
    }
}
--- request
GET /t
--- udp_listen: 29874
--- udp_reply_delay: 2s
--- udp_reply: x
--- response_body
nilno options table specified
nilno nameservers specified
nil 3 failed to receive reply from UDP server 127.0.0.1:29874: timeout
failed to receive reply from UDP server 127.0.0.1:29874: timeout; failed to receive reply from UDP server 127.0.0.1: connection refused
failed to connect to TCP server 127.0.0.1: connection refused
nilbad name

=== TEST 4: a reply that does not fit is asked for over TCP
--- http_config eval: $::Dns
--- config
location /t {
    content_by_lua_block {
        local resolver = require "resty.dns.resolver"
        local r = resolver:new{ nameservers = { { "127.0.0.1", 29875 } }, timeout = 1000 }
        r._id = 7
        ngx.say(show(r:query("a")))
    }
}
--- request
GET /t
--- udp_listen: 29875
--- udp_reply eval: "\0\7\x83\x80\0\1\0\0\0\0\0\0\1a\0\0\1\0\1"
--- tcp_listen: 29875
--- tcp_no_close
--- tcp_reply eval: "\0\43\0\7\x81\x80\0\1\0\1\0\0\0\0\1a\0\0\1\0\1\xc0\x0c\0\1\0\1\0\0\0\1\0\4\1\2\3\4"
--- response_body
address=1.2.3.4 name=a type=1

=== TEST 5: addresses as text, and what is left when it is destroyed
--- http_config eval: $::Dns
--- config
location /t {
    content_by_lua_block {
        local resolver = require "resty.dns.resolver"
        ngx.say(resolver.expand_ipv6_addr("::1"), " ", resolver.expand_ipv6_addr("2001:db8::"), " ", resolver.expand_ipv6_addr("::"), " ", resolver.expand_ipv6_addr("1:2::7:8"))
        ngx.say(resolver.compress_ipv6_addr("0:0:0:0:0:0:0:1"), " ", resolver.compress_ipv6_addr("2001:db8:0:0:0:0:0:0"), " ", resolver.compress_ipv6_addr("1:0:0:2:3:0:0:4"), " ", resolver.compress_ipv6_addr("0:0:0:0:0:0:0:0"))
        ngx.say(resolver.arpa_str("127.0.0.2"), " ", resolver.arpa_str("2001:db8::f"))
        local r = resolver:new{ nameservers = { "127.0.0.1" } }
        r:destroy()
        ngx.say(r:query("a"))
        ngx.say(r:tcp_query("a"))
        ngx.say(r:set_timeout(1))
    }
}
--- request
GET /t
--- response_body
0:0:0:0:0:0:0:1 2001:db8:0:0:0:0:0:0 0:0:0:0:0:0:0:0 1:2:0:0:0:0:7:8
::1 2001:db8:: 1::2:3:0:0:4 ::
2.0.0.127.in-addr.arpa f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa
nilnot initialized
nilnot initialized
nilnot initialized
