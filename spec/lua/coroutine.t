# Coroutines that Lua code makes: functions of the API wait inside them, however deep.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: waiting inside nested coroutines
--- config
location /t {
    content_by_lua_block {
        local inner = coroutine.create(function(a)
            ngx.sleep(0.01)
            local b = coroutine.yield(a + 1)
            ngx.sleep(0.01)
            return b * 2
        end)
        local outer = coroutine.wrap(function()
            ngx.sleep(0.01)
            coroutine.yield(select(2, coroutine.resume(inner, 1)))
            return select(2, coroutine.resume(inner, 21))
        end)
        ngx.say(outer(), " ", outer(), " ", coroutine.status(inner))
    }
}
--- request
GET /t
--- response_body
2 42 dead

=== TEST 2: a wait between plain yields keeps their order and values
--- config
location /t {
    content_by_lua_block {
        for v in coroutine.wrap(function()
            for i = 1, 3 do
                if i == 2 then ngx.sleep(0.01) end
                coroutine.yield(i)
            end
        end) do ngx.say(v) end
    }
}
--- request
GET /t
--- response_body
1
2
3

=== TEST 3: an error that leaves a wrapped coroutine shows both call stacks
--- config
location /t { content_by_lua_block { coroutine.wrap(function() ngx.sleep(0) error("inside") end)() } }
--- request
GET /t
--- error_code: 500
--- error_log
lua entry thread aborted: runtime error: content_by_lua(
inside
coroutine 0:
coroutine 1:

=== TEST 4: errors are caught across waits
--- config
location /t {
    content_by_lua_block {
        ngx.say(pcall(function() ngx.sleep(0.01) error("caught", 0) end))
        ngx.say(coroutine.resume(coroutine.create(function() ngx.sleep(0.01) error({}) end)) == false)
        ngx.say(pcall(coroutine.wrap(function() ngx.sleep(0.01) error("wrapped", 0) end)))
    }
}
--- request
GET /t
--- response_body
falsecaught
true
falsewrapped

=== TEST 5: exit ends the handler from inside a coroutine
--- config
location /t {
    access_by_lua_block {
        coroutine.wrap(function() pcall(function() ngx.exit(403) end) end)()
        ngx.log(ngx.ERR, "not reached")
    }
    content_by_lua_block { ngx.say("not reached") }
}
--- request
GET /t
--- error_code: 403
--- no_error_log
not reached

=== TEST 6: the state of coroutines that wait
--- config
location /t {
    content_by_lua_block {
        local entry = coroutine.running()
        local sleeper = coroutine.create(function() ngx.sleep(0.03) end)
        ngx.thread.spawn(function()
            ngx.sleep(0.01)
            ngx.say(coroutine.status(sleeper), " ", coroutine.status(entry))
            ngx.say(coroutine.resume(sleeper))
        end)
        coroutine.resume(sleeper)
        ngx.say(coroutine.status(sleeper))
    }
}
--- request
GET /t
--- response_body
running normal
falsecannot resume running coroutine
dead
