# redis.parser and rds.parser.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: redis' replies and requests
--- config
location /t {
    content_by_lua_block {
        local parser = require "redis.parser"
        local function show(s)
            local value, kind = parser.parse_reply(s)
            if type(value) == "table" then
                for n = 1, 3 do value[n] = tostring(value[n]) end
                value = table.concat(value, ",")
            end
            ngx.say(tostring(value), " ", parser.typename(kind))
        end
        for _, s in ipairs({ "+OK\r\n", "-ERR no\r\n", ":-32\r\n", "$5\r\nhello\r\n", "$-1\r\n",
            "*3\r\n$1\r\na\r\n$-1\r\n:7\r\n", "*-1\r\n", "", "+OK", "$5\r\nhell", "*1\r\n*1\r\n", "junk" }) do
            show(s)
        end
        local list = parser.parse_replies("+OK\r\n$1\r\na\r\n", 3)
        ngx.say(list[1][1], " ", list[2][1], " ", list[3][1], " ", list[3][2])
        ngx.print(parser.build_query({ "set", 1, true, parser.null }))
        ngx.say(pcall(parser.build_query, {}))
    }
}
--- request
GET /t
--- response_body_like eval
qr/^OK status reply
ERR no error reply
-32 integer reply
hello bulk reply
nil bulk reply
a,nil,7 multi-bulk reply
nil multi-bulk reply
empty reply bad reply
bad status reply bad reply
bad bulk reply bad reply
bad multi bulk reply bad reply
invalid reply bad reply
OK a empty reply 0
\*4\r
\$3\r
set\r
\$1\r
1\r
\$1\r
1\r
\$-1\r
false.*empty input param table$/

=== TEST 2: result sets
--- config
location /t {
    content_by_lua_block {
        local parser = require "rds.parser"
        local head = "\0\3\0\0\0\0" .. "\0\0" .. "\0\0" .. "\0\0" .. ("\0"):rep(8) .. "\5" .. ("\0"):rep(7)
        local columns = "\3\0" .. "\9\0\0\0\2\0id" .. "\6\128\0\0\4\0name" .. "\4\192\0\0\2\0ok"
        local function field(s) return string.char(#s) .. "\0\0\0" .. s end
        local rows = "\1" .. field("-7") .. field("x") .. field("t") .. "\1" .. field("8") .. ("\255"):rep(4) .. field("0")
        local res = parser.parse(head .. columns .. rows .. "\0")
        ngx.say(res.errcode, " ", res.insert_id, " ", #res.resultset)
        for _, row in ipairs(res.resultset) do
            ngx.say(row.id, " ", tostring(row.name == parser.null and "null" or row.name), " ", row.ok)
        end
        ngx.say(parser.parse("\0\3\0"))
        ngx.say(parser.parse((head:gsub("\3", "\4")) .. "\0\0"))
        ngx.say(parser.parse(head .. "\1\0\9\0\0\0\0\0"))
        ngx.say(parser.parse(head .. columns .. "\1\9\0"))
        ngx.say(parser.parse(head .. columns .. rows))
        ngx.say(parser.parse(head .. columns .. rows .. "\0x"))
    }
}
--- request
GET /t
--- response_body
0 5 2
-7 x true
8 null false
nilheader part is incomplete
nilfound RDS format version 4, but we can only handle version 3
nilcolumn name empty
nilfield size is incomplete at offset 57, row 1, col 1
nilrow flag is incomplete
nilseen unexpected leve-over data bytes at offset 89, row 3
