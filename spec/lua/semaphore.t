# Semaphores: light threads of one request or of several wait for each other.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: waiting, posting, counting
--- config
location /t {
    content_by_lua_block {
        local sem = require("ngx.semaphore").new(1)
        ngx.say(sem:wait(0), " ", (sem:wait(0)))
        ngx.say(select(2, sem:wait(0.01)))
        local t = ngx.thread.spawn(function() return sem:wait(1) end)
        ngx.say(sem:count())
        sem:post()
        ngx.say(sem:count(), " ", select(2, ngx.thread.wait(t)))
    }
}
--- request
GET /t
--- response_body
true nil
timeout
-1
0 true

=== TEST 2: those who wait are served in their order
--- config
location /t {
    content_by_lua_block {
        local sem = require("ngx.semaphore").new()
        for i = 1, 3 do
            ngx.thread.spawn(function() sem:wait(1) ngx.print(i) end)
        end
        sem:post(2)
        ngx.sleep(0.01)
        ngx.print("-")
        sem:post()
    }
}
--- request
GET /t
--- response_body: 12-3

=== TEST 3: inside coroutines, and across handlers
--- config
location /t {
    content_by_lua_block {
        local sem = require("ngx.semaphore").new()
        ngx.timer.at(0.01, function() sem:post() end)
        ngx.say(coroutine.wrap(function() return sem:wait(1) end)())
    }
}
--- request
GET /t
--- response_body
true

=== TEST 4: a killed thread takes nothing
--- config
location /t {
    content_by_lua_block {
        local sem = require("ngx.semaphore").new()
        local t = ngx.thread.spawn(function() sem:wait(1) end)
        ngx.thread.kill(t)
        ngx.say(sem:count())
        sem:post()
        ngx.say(sem:count())
    }
}
--- request
GET /t
--- response_body
0
1

=== TEST 5: wrong use
--- config
location /t {
    content_by_lua_block {
        local semaphore = require "ngx.semaphore"
        ngx.say(select(2, pcall(semaphore.new, -1)))
        ngx.say(select(2, pcall(semaphore.wait, {}, 1)))
        local sem = semaphore.new()
        ngx.say(select(2, pcall(sem.post, sem, 0)))
        ngx.say(select(2, pcall(sem.wait, sem, -1)))
    }
}
--- request
GET /t
--- response_body
no negative number
not a semaphore instance
positive number required
no negative number

=== TEST 6: who asks where waiting is not possible stands in nobody's way
--- config
location /t {
    content_by_lua_block {
        local sem = require("ngx.semaphore").new()
        local ok, err = pcall(table.sort, { 2, 1 }, function() sem:wait(5) end)
        ngx.say(err:match("attempt to yield across C%-call boundary"))
        local t = ngx.thread.spawn(function() return sem:wait(5) end)
        ngx.say(sem:count())
        sem:post()
        ngx.say(ngx.thread.wait(t))
    }
}
--- request
GET /t
--- response_body
attempt to yield across C-call boundary
-1
truetrue
--- timeout: 3
