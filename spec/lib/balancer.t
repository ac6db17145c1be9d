# resty.chash, resty.roundrobin, resty.swrr, tablepool.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: keys stay with their nodes
--- config
location /t {
    content_by_lua_block {
        local chash = require("resty.chash"):new({ a = 10, b = 2, c = 1 })
        local function count(ring)
            local found = {}
            for n = 1, 10000 do
                local id = ring:find(n)
                found[id] = (found[id] or 0) + 1
            end
            return found
        end
        local before = {}
        for n = 1, 1000 do before[n] = chash:find(n) end
        ngx.say(chash.npoints, " ", count(chash).a > count(chash).b)
        chash:set("d", 3)
        local moved = 0
        for n = 1, 1000 do
            local id = chash:find(n)
            if id ~= before[n] then
                moved = moved + 1
                assert(id == "d")
            end
        end
        ngx.say(chash.npoints, " ", moved > 0 and moved < 400)
        chash:decr("d", 1)
        chash:delete("d")
        local same = true
        for n = 1, 1000 do same = same and chash:find(n) == before[n] end
        ngx.say(chash.npoints, " ", same)
        chash:incr("a", 2)
        local again = require("resty.chash"):new({ a = 12, b = 2, c = 1 })
        for n = 1, 1000 do same = same and chash:find(n) == again:find(n) end
        ngx.say(chash.npoints, " ", same)
        local id, index = chash:find("key")
        ngx.say(id ~= nil, " ", select(2, chash:next(index)) == index + 1)
        chash:reinit({ only = 1 })
        ngx.say(chash:find("key"))
    }
}
--- request
GET /t
--- response_body_like
^2080 true
2560 true
2080 true
2400 true
true true
only\d+$

=== TEST 2: the ring is nginx's
--- http_config
upstream ring {
    hash $arg_key consistent;
    server 127.0.0.1:$TEST_NGINX_SERVER_PORT weight=2;
    server 127.0.0.2:$TEST_NGINX_SERVER_PORT;
}
--- config
location /t {
    content_by_lua_block {
        local ring = require("resty.chash"):new({
            ["127.0.0.1\0" .. ngx.var.server_port] = 2, ["127.0.0.2\0" .. ngx.var.server_port] = 1 })
        local same = 0
        for n = 1, 20 do
            local res = ngx.location.capture("/proxy?key=" .. n)
            if ring:find(tostring(n)):find(res.body, 1, true) then
                same = same + 1
            end
        end
        ngx.say(same)
    }
}
location /proxy { proxy_pass http://ring/who; }
location /who { return 200 $server_addr; }
--- request
GET /t
--- response_body
20

=== TEST 3: in turn by weight
--- config
location /t {
    content_by_lua_block {
        for _, name in ipairs({ "resty.roundrobin", "resty.swrr" }) do
            local turns = require(name):new({ a = 4, b = 2, c = 1 })
            local function count(n)
                local found = { a = 0, b = 0, c = 0, d = 0 }
                for _ = 1, n do
                    local id = turns:find()
                    found[id] = found[id] + 1
                end
                return found.a .. " " .. found.b .. " " .. found.c .. " " .. found.d
            end
            ngx.say(count(14))
            turns:set("d", 1)
            turns:decr("a", 2)
            turns:delete("c")
            count(5)
            ngx.say(count(10))
            turns:reinit({ a = 1 })
            ngx.say(turns:next(), turns:find())
        end
    }
}
--- request
GET /t
--- response_body
8 4 2 0
4 4 0 2
aa
8 4 2 0
4 4 0 2
aa

=== TEST 4: tables are used again
--- config
location /t {
    content_by_lua_block {
        local pool = require "tablepool"
        local tab = pool.fetch("spec", 4, 4)
        tab.a = 1
        pool.release("spec", setmetatable(tab, {}))
        local again = pool.fetch("spec", 4, 4)
        ngx.say(again == tab, " ", again.a, " ", getmetatable(again))
        again.b = 2
        pool.release("spec", again, true)
        ngx.say(pool.fetch("spec", 0, 0).b)
        ngx.say(pcall(pool.release, "spec", nil))
    }
}
--- request
GET /t
--- response_body_like
^true nil nil
2
false.*object empty$
