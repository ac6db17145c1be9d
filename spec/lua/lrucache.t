# resty.lrucache, which comes with the server.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: the least recently used gives way
--- config
location /t {
    content_by_lua_block {
        local lrucache = require "resty.lrucache"
        ngx.say(lrucache.new(0))
        local c = lrucache.new(2)
        c:set("a", 1)
        c:set("b", { 2 }, nil, 7)
        ngx.say(c:get("a"))
        c:set("c", 3)
        ngx.say(c:get("b"))
        ngx.say(c:get("a"), " ", c:get("c"), " ", c:count(), " ", c:capacity())
        ngx.say(table.concat(c:get_keys(), ","))
        ngx.say(table.concat(c:get_keys(1, { 1, 2 }), ","))
        ngx.say(c:delete("a"), " ", c:delete("a"), " ", c:get("a"))
        c:set("d", false)
        c:set("e", 5)
        ngx.say(c:get("d"), " ", c:get("c"), " ", c:count())
        c:flush_all()
        ngx.say(c:get("e"), " ", c:count(), " ", #c:get_keys())
    }
}
--- request
GET /t
--- response_body
nilsize too small
1nil0
nil
1 3 2 2
c,a
c
true false nil
false nil 2
nil 0 0

=== TEST 2: what has expired is told from what never was
--- config
location /t {
    content_by_lua_block {
        local c = require("resty.lrucache").new(10)
        c:set("a", 1, 0.01, 3)
        ngx.say(c:get("a"))
        ngx.sleep(0.05)
        ngx.say(c:get("a"))
        for n = 1, 100 do c:set(n, n) end
        ngx.say(c:get(90), " ", (c:get(91)), " ", c:count())
    }
}
--- request
GET /t
--- response_body
1nil3
nil13
nil 91 10
