# `lua_shared_dict` and `ngx.shared`: values, expiry, memory, lists, and what is refused.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: values of all types, with flags
--- http_config
lua_shared_dict dogs 1m;
--- config
location /t {
    content_by_lua_block {
        local dogs = ngx.shared.dogs
        ngx.say(dogs:set("s", "text"), " ", dogs:set("n", 1.5, 0, 7), " ", dogs:set("t", true), " ", dogs:set("f", false))
        ngx.say(dogs:get("s"), " ", dogs:get("n"), " ", dogs:get("t"), " ", dogs:get("f"), " ", dogs:get("none"))
        ngx.say(select(2, dogs:get("n")), " ", select("#", dogs:get("s")), " ", dogs:get(1))
        dogs:set(1, "by number")
        ngx.say(dogs:get("1"))
        dogs:delete("s")
        dogs:set("t", nil)
        ngx.say(dogs:get("s"), " ", dogs:get("t"))
        ngx.say(ngx.shared.cats)
    }
}
--- request
GET /t
--- response_body
true true true truenilfalse
text 1.5 true false nil
7 1 nil
by number
nil nil
nil
--- no_error_log
[error]

=== TEST 2: add, replace and their safe forms
--- http_config
lua_shared_dict dogs 1m;
--- config
location /t {
    content_by_lua_block {
        local dogs = ngx.shared.dogs
        local function say(...) ngx.say(tostring((...)), " ", tostring((select(2, ...))), " ", tostring((select(3, ...)))) end
        say(dogs:replace("a", 1))
        say(dogs:add("a", 1))
        say(dogs:add("a", 2))
        say(dogs:safe_add("a", 2))
        say(dogs:replace("a", 3))
        say(dogs:safe_set("a", 4))
        ngx.say(dogs:get("a"))
        say(pcall(dogs.add, dogs, "b", nil))
        say(dogs:set("c", {}))
    }
}
--- request
GET /t
--- response_body
false not found false
true nil false
false exists false
false exists false
true nil false
true nil false
4
true false attempt to add or replace nil values
nil bad value type nil
--- no_error_log
[error]

=== TEST 3: numbers are incremented
--- http_config
lua_shared_dict dogs 1m;
--- config
location /t {
    content_by_lua_block {
        local dogs = ngx.shared.dogs
        local function say(...) ngx.say(tostring((...)), " ", tostring((select(2, ...))), " ", tostring((select(3, ...)))) end
        say(dogs:incr("n", 1))
        say(dogs:incr("n", 1, 10))
        say(dogs:incr("n", -0.5))
        dogs:set("s", "1")
        say(dogs:incr("s", 1))
        say(dogs:incr("t", 1, 0, 0.01))
        ngx.sleep(0.02)
        say(dogs:incr("t", 1))
        say(pcall(dogs.incr, dogs, "n", 1, nil, 1))
    }
}
--- request
GET /t
--- response_body_like
^nil not found nil
11 nil false
10.5 nil nil
nil not a number nil
1 nil false
nil not found nil
false .*must provide "init" when providing "init_ttl" nil
--- no_error_log
[error]

=== TEST 4: records expire, and can be seen until they give way
--- http_config
lua_shared_dict dogs 1m;
--- config
location /t {
    content_by_lua_block {
        local dogs = ngx.shared.dogs
        dogs:set("a", 1, 0.01, 5)
        dogs:set("b", 2)
        ngx.say(dogs:ttl("a") <= 0.01, " ", dogs:ttl("b"), " ", dogs:ttl("c"))
        ngx.sleep(0.02)
        ngx.say(table.concat(dogs:get_keys(), ","))
        local value, flags, stale = dogs:get_stale("a")
        ngx.say(value, " ", flags, " ", stale, " ", (select(3, dogs:get_stale("b"))))
        ngx.say(dogs:get("a"))
        dogs:flush_expired()
        ngx.say(dogs:get_stale("a"))
        ngx.say(dogs:expire("b", 0.01), " ", dogs:expire("c", 1))
        ngx.sleep(0.02)
        ngx.say(dogs:get("b"))
        dogs:set("c", 3)
        dogs:flush_all()
        ngx.say(dogs:get("c"))
    }
}
--- request
GET /t
--- response_body
true 0 nilnot found
b
1 5 true false
nil
nil
true nilnot found
nil
nil
--- no_error_log
[error]

=== TEST 5: keys that are refused
--- http_config
lua_shared_dict dogs 1m;
--- config
location /t {
    content_by_lua_block {
        local dogs = ngx.shared.dogs
        local long = ("k"):rep(65536)
        for _, method in ipairs { "get", "set", "incr", "lpush", "llen", "ttl" } do
            local args = method == "lpush" and 1 or nil
            local function why(key)
                if method == "llen" then return (select(2, dogs:llen(key))) end
                return (select(2, dogs[method](dogs, key, args or 1)))
            end
            if method ~= "get" then
                ngx.say(method, ": ", why(nil), ", ", why(""), ", ", why(long))
            end
        end
        ngx.say((select(2, dogs:get(nil))), " ", (select(2, dogs:get(""))))
        ngx.say(select(2, pcall(dogs.get, {}, "a")))
        ngx.say(select(2, pcall(dogs.set, dogs, "a", 1, -1)))
    }
}
--- request
GET /t
--- response_body_like
^set: nil key, empty key, key too long
incr: nil key, empty key, key too long
lpush: nil key, empty key, key too long
llen: nil key, empty key, key too long
ttl: nil key, empty key, key too long
nil key empty key
.*bad "zone" argument
.*bad "exptime" argument
--- no_error_log
[error]

=== TEST 6: a full dictionary
--- http_config
lua_shared_dict dogs 100k;
--- config
location /t {
    content_by_lua_block {
        local dogs = ngx.shared.dogs
        ngx.say(dogs:capacity(), " ", dogs:free_space())
        local value = ("x"):rep(60)
        local n = 0
        repeat
            n = n + 1
            local ok, err, forcible = dogs:set("key" .. n, value)
        until forcible
        ngx.say(n > 300, " ", dogs:get("key1"), " ", #dogs:get("key2"), " ", dogs:free_space())
        ngx.say(dogs:safe_set("large", ("y"):rep(20000)))
        ngx.say(dogs:set("too large", ("y"):rep(100000)))
    }
}
--- request
GET /t
--- response_body
102400 90112
true nil 60 0
falseno memoryfalse
falseno memorytrue
--- no_error_log
[error]

=== TEST 7: as many small values give way for a large one as must (in nginx 30 at most)
--- http_config
lua_shared_dict dogs 100k;
--- config
location /t {
    content_by_lua_block {
        local dogs = ngx.shared.dogs
        for n = 1, 500 do dogs:set(n, ("x"):rep(60)) end
        ngx.say(dogs:set("large", ("y"):rep(40000)))
        ngx.say(#dogs:get("large"), " ", #dogs:get_keys() > 150)
    }
}
--- request
GET /t
--- response_body
trueniltrue
40000 true
--- no_error_log
[error]

=== TEST 8: lists
--- http_config
lua_shared_dict dogs 1m;
--- config
location /t {
    content_by_lua_block {
        local dogs = ngx.shared.dogs
        ngx.say(dogs:llen("l"), " ", dogs:rpush("l", "b"), " ", dogs:rpush("l", 3), " ", dogs:lpush("l", "a"), " ", dogs:llen("l"))
        ngx.say(dogs:get("l"))
        ngx.say(dogs:lpop("l"), " ", dogs:rpop("l"), " ", dogs:lpop("l"), " ", dogs:lpop("l"), " ", dogs:llen("l"))
        dogs:set("s", "x")
        ngx.say(dogs:lpush("s", 1))
        ngx.say(dogs:lpush("l", true))
        ngx.say(select(2, pcall(dogs.lpush, dogs, "l")))
        ngx.say(select(2, pcall(dogs.get_keys)))
    }
}
--- request
GET /t
--- response_body_like
^0 1 2 3 3
nilvalue is a list
a 3 b nil 0
nilvalue not a list
nilbad value type
.*expecting 3 arguments, but only seen 2
.*expecting 1 or 2 argument\(s\), but saw 0
--- no_error_log
[error]

=== TEST 9: keys and expired records in portions
--- http_config
lua_shared_dict dogs 1m;
--- config
location /t {
    content_by_lua_block {
        local dogs = ngx.shared.dogs
        for n = 1, 2000 do dogs:set("k" .. n, n, n > 1990 and 0.001 or 0) end
        ngx.sleep(0.01)
        ngx.say(#dogs:get_keys(), " ", #dogs:get_keys(0), " ", #dogs:get_keys(10), " ", dogs:get_keys(2)[1])
        ngx.say(dogs:flush_expired(3), " ", dogs:flush_expired())
    }
}
--- request
GET /t
--- response_body
1024 1990 10 k1
3 7
--- no_error_log
[error]

=== TEST 10: values are there in all phases, also from init_by_lua
--- http_config
lua_shared_dict dogs 1m;
init_by_lua_block { ngx.shared.dogs:set("n", 40) }
--- config
location /t {
    rewrite_by_lua_block { ngx.shared.dogs:incr("n", 1) }
    access_by_lua_block { ngx.shared.dogs:incr("n", 1) }
    content_by_lua_block { ngx.say(ngx.shared.dogs:get("n")) }
}
--- request
GET /t
--- response_body
42

=== TEST 11: a dictionary is declared once
--- http_config
lua_shared_dict dogs 1m;
lua_shared_dict dogs 1m;
--- config
location /t { return 200; }
--- must_die
--- error_log
lua_shared_dict "dogs" is already defined as "dogs"

=== TEST 12: a name has one size
--- http_config
lua_shared_dict dogs 1m;
lua_shared_dict dogs 2m;
--- config
location /t { return 200; }
--- must_die
--- error_log
the size 2097152 of shared memory zone "dogs" conflicts with already declared size 1048576

=== TEST 13: dictionaries have a least size
--- http_config
lua_shared_dict dogs 8000;
--- config
location /t { return 200; }
--- must_die
--- error_log
invalid lua shared dict size "8000"
