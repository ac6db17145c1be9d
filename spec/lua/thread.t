# Light threads: spawning, waiting for one of several, killing, and how a handler with light threads ends.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: a light thread runs at once, until it waits
--- config
location /t {
    content_by_lua_block {
        local t = ngx.thread.spawn(function(a, b)
            ngx.say("thread ", a, b)
            ngx.sleep(0.01)
            ngx.say("thread again")
            return "result", 2
        end, 1, 2)
        ngx.say("parent ", coroutine.status(t))
        ngx.say(ngx.thread.wait(t))
        ngx.say(coroutine.status(t), " ", select(2, ngx.thread.wait(t)))
    }
}
--- request
GET /t
--- response_body
thread 12
parent running
thread again
trueresult2
dead already waited or killed

=== TEST 2: the handler ends when the last light thread does
--- config
location /t {
    content_by_lua_block {
        for i = 1, 3 do
            ngx.thread.spawn(function() ngx.sleep(0.01 * i) ngx.print(i) end)
        end
        ngx.print("entry")
    }
}
--- request
GET /t
--- response_body: entry123

=== TEST 3: waiting for whichever ends first
--- config
location /t {
    content_by_lua_block {
        local function f(ms) ngx.sleep(ms / 1000) return ms end
        local slow, fast = ngx.thread.spawn(f, 60), ngx.thread.spawn(f, 10)
        ngx.say(ngx.thread.wait(slow, fast))
        ngx.say(ngx.thread.wait(slow, fast))
        ngx.say(ngx.thread.wait(slow, fast))
    }
}
--- request
GET /t
--- response_body
true10
true60
nilalready waited or killed

=== TEST 4: a light thread that fails
--- config
location /t {
    content_by_lua_block {
        local t = ngx.thread.spawn(function() ngx.sleep(0.01) error("bad") end)
        local ok, err = ngx.thread.wait(t)
        ngx.say(ok, " ", err)
    }
}
--- request
GET /t
--- response_body
false bad
--- error_log
lua user thread aborted: runtime error: content_by_lua(
coroutine 1:

=== TEST 5: exit in a light thread ends the handler, whatever waits
--- config
location /t {
    content_by_lua_block {
        ngx.thread.spawn(function() ngx.sleep(0.01) ngx.exit(403) end)
        ngx.sleep(5)
        ngx.say("not reached")
    }
}
--- request
GET /t
--- error_code: 403
--- timeout: 3

=== TEST 6: killing
--- config
location /t {
    content_by_lua_block {
        local t = ngx.thread.spawn(function() ngx.sleep(5) ngx.say("not reached") end)
        ngx.say(ngx.thread.kill(t))
        ngx.say(ngx.thread.kill(t))
        local z = ngx.thread.spawn(function() end)
        ngx.say(coroutine.status(z), " ", select(2, ngx.thread.kill(z)))
        ngx.say(select(2, ngx.thread.kill(coroutine.create(function() end))))
    }
}
--- request
GET /t
--- response_body
1
nilalready waited or killed
zombie already terminated
not user thread
--- timeout: 3

=== TEST 7: only its parent waits for a light thread
--- config
location /t {
    content_by_lua_block {
        local t = ngx.thread.spawn(function() ngx.sleep(0.02) end)
        local other = ngx.thread.spawn(function()
            ngx.say(pcall(ngx.thread.wait, t))
            ngx.say(select(2, ngx.thread.kill(t)))
        end)
    }
}
--- request
GET /t
--- response_body
falseonly the parent coroutine can wait on the thread
killer not parent

=== TEST 8: coroutine.yield lets the others run
--- config
location /t {
    content_by_lua_block {
        ngx.thread.spawn(function() for i = 1, 3 do ngx.print("a", i) coroutine.yield() end end)
        for i = 1, 3 do ngx.print("b", i) coroutine.yield() end
    }
}
--- request
GET /t
--- response_body: a1b1a2b2a3b3

=== TEST 9: the handler learns that the client has left
--- config
lua_check_client_abort on;
location /t {
    content_by_lua_block {
        ngx.on_abort(function() ngx.log(ngx.WARN, "client left") ngx.exit(499) end)
        ngx.say(select(2, ngx.on_abort(function() end)))
        ngx.flush(true)
        ngx.sleep(3)
        ngx.log(ngx.ERR, "not reached")
    }
}
--- request
GET /t
--- timeout: 0.2
--- abort
--- wait: 0.3
--- ignore_response
--- error_log
client left
--- no_error_log
not reached

=== TEST 10: without the directive there is nothing to be told
--- config
location /t { content_by_lua_block { ngx.say(ngx.on_abort(function() end)) } }
--- request
GET /t
--- response_body
nillua_check_client_abort is off
