# resty.lock and resty.limit.*.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: one at a time
--- http_config
lua_shared_dict locks 100k;
--- config
location /t {
    content_by_lua_block {
        local lock = require "resty.lock"
        ngx.say(lock:new("none"))
        local a, b = lock:new("locks"), lock:new("locks", { timeout = 0.01 })
        ngx.say(a:lock("key"), " ", a:lock("other"))
        ngx.say(b:lock("key"))
        ngx.say(b:lock(nil))
        ngx.say(a:expire(5), " ", a:unlock(), " ", a:unlock())
        ngx.say(a:expire())
        local thread = ngx.thread.spawn(function()
            local c = lock:new("locks")
            c:lock("key")
            ngx.sleep(0.02)
            c:unlock()
        end)
        local waited = lock:new("locks"):lock("key")
        ngx.say(waited > 0 and waited < 1)
        ngx.thread.wait(thread)
    }
}
--- request
GET /t
--- response_body
nildictionary not found
0 nillocked
niltimeout
nilnil key
true 1 nilunlocked
nilunlocked
true

=== TEST 2: a forgotten lock is released when it is collected
--- http_config
lua_shared_dict locks 100k;
--- config
location /t {
    content_by_lua_block {
        local lock = require "resty.lock"
        do lock:new("locks"):lock("key") end
        collectgarbage()
        collectgarbage()
        ngx.say(lock:new("locks", { timeout = 0 }):lock("key"))
    }
}
--- request
GET /t
--- response_body
0

=== TEST 3: limits
--- http_config
lua_shared_dict limits 1m;
--- config
location /t {
    content_by_lua_block {
        local req = require "resty.limit.req".new("limits", 2, 1)
        local conn = require "resty.limit.conn".new("limits", 1, 1, 0.5)
        local count = require "resty.limit.count".new("limits", 2, 10)
        ngx.say(require "resty.limit.req".new("none", 1, 1))
        ngx.say(req:incoming("r", true))
        local delay, excess = req:incoming("r", true)
        ngx.say(delay > 0.4 and delay <= 0.5, " ", excess > 0.9)
        ngx.say(req:incoming("r", true))
        ngx.say(req:uncommit("r"), " ", (req:incoming("r", false)) ~= nil)
        ngx.say(conn:incoming("c", true), " ", conn:is_committed())
        ngx.say(conn:incoming("c", true))
        ngx.say(conn:incoming("c", true))
        ngx.say(conn:leaving("c", 0.1), " ", conn:uncommit("c"))
        ngx.say(count:incoming("n", true))
        ngx.say(count:incoming("n", true))
        ngx.say(count:incoming("n", true))
        ngx.say(count:uncommit("n"))
        ngx.shared.limits:set("r", 1)
        ngx.say(req:incoming("r", true))
    }
}
--- request
GET /t
--- response_body
nilshared dict not found
00
true true
nilrejected
true true
0 true
0.52
nilrejected
1 0
01
00
nilrejected
0
nilshdict abused by other users

=== TEST 4: limits together: who is refused by one counts for none
--- http_config
lua_shared_dict limits 1m;
--- config
location /t {
    content_by_lua_block {
        local traffic = require "resty.limit.traffic"
        local limit = require "resty.limit.count"
        local wide, narrow = limit.new("limits", 5, 10), limit.new("limits", 1, 10)
        local states = {}
        ngx.say(traffic.combine({ narrow, wide }, { "a", "b" }, states), " ", states[1], " ", states[2])
        ngx.say(traffic.combine({ narrow, wide }, { "a", "b" }, states))
        ngx.say(ngx.shared.limits:get("b"))
    }
}
--- request
GET /t
--- response_body
0 0 4
nilrejected
4
