# The cache that comes with the executable.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: what was not used for the longest time gives way
--- config
location /t {
    content_by_lua_block {
        local cache = require("resty.lrucache").new(2)
        cache:set("a", 1)
        cache:set("b", 2)
        cache:get("a")
        cache:set("c", 3, nil, 7)
        ngx.say(cache:get("a"), " ", cache:get("b"), " ", (cache:get("c")), " ", select(3, cache:get("c")))
        ngx.say(cache:count(), " ", cache:capacity(), " ", table.concat(cache:get_keys(), ","))
        cache:delete("c")
        ngx.say(cache:count(), " ", (cache:get("c")))
        cache:flush_all()
        ngx.say(cache:count(), " ", (cache:get("a")))
    }
}
--- request
GET /t
--- response_body
1 nil 3 7
2 2 c,a
1 nil
0 nil

=== TEST 2: a value that has expired is given as a stale one
--- config
location /t {
    content_by_lua_block {
        local cache = require("resty.lrucache.pureffi").new(2)
        cache:set("a", "old", 0.01)
        ngx.sleep(0.05)
        local value, stale = cache:get("a")
        ngx.say(value, " ", stale)
        ngx.say(require("resty.lrucache").new(0))
    }
}
--- request
GET /t
--- response_body
nil old
nilsize too small
