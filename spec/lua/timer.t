# Timers: code that runs later, for no request; worker threads.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: a timer gets its arguments and may wait
--- config
location /t {
    content_by_lua_block {
        local out = {}
        ngx.say(ngx.timer.at(0.01, function(premature, a, b)
            ngx.sleep(0.01)
            out[1] = tostring(premature) .. a .. tostring(b) .. ngx.get_phase()
        end, "x", nil))
        ngx.say(ngx.timer.pending_count(), " ", ngx.timer.running_count())
        ngx.sleep(0.1)
        ngx.say(out[1], " ", ngx.timer.pending_count(), " ", ngx.timer.running_count())
    }
}
--- request
GET /t
--- response_body
1
1 0
falsexniltimer 0 0

=== TEST 2: again and again
--- config
location /t {
    content_by_lua_block {
        local n = 0
        ngx.timer.every(0.02, function() n = n + 1 end)
        ngx.sleep(0.15)
        ngx.say(n >= 3)
        ngx.say(pcall(ngx.timer.every, 0, function() end))
    }
}
--- request
GET /t
--- response_body
true
falsedelay cannot be zero

=== TEST 3: what a timer logs
--- config
location /t {
    content_by_lua_block {
        ngx.timer.at(0, function() ngx.log(ngx.WARN, "hello") error("broken") end)
        ngx.sleep(0.05)
    }
}
--- request
GET /t
--- error_log eval
[qr/\[warn\].* hello, context: ngx\.timer, client: 127\.0\.0\.1, server: /,
 qr/\[error\].* lua entry thread aborted: runtime error: content_by_lua.* broken/]

=== TEST 4: not more than allowed
--- http_config
lua_max_pending_timers 2;
lua_max_running_timers 1;
--- config
location /t {
    content_by_lua_block {
        local function f() ngx.sleep(0.1) end
        ngx.say(ngx.timer.at(0.01, f))
        ngx.say(ngx.timer.at(0.01, f))
        ngx.say(ngx.timer.at(0.01, f))
        ngx.sleep(0.1)
    }
}
--- request
GET /t
--- response_body
1
1
niltoo many pending timers
--- error_log eval
qr/\[alert\].* lua failed to run timer with function defined at =content_by_lua\(.*: 1 lua_max_running_timers are not enough/

=== TEST 5: what needs a request is refused
--- config
location /t {
    content_by_lua_block {
        ngx.timer.at(0, function() ngx.say("x") end)
        ngx.timer.at(0, function() ngx.req.raw_header() end)
        ngx.sleep(0.05)
    }
}
--- request
GET /t
--- error_log
API disabled in the context of ngx.timer
API disabled in the current context

=== TEST 6: init_worker code may wait, and starts timers and light threads
--- http_config
init_worker_by_lua_block {
    seen = {}
    ngx.timer.at(0, function() seen[#seen + 1] = "timer" end)
    ngx.thread.spawn(function() ngx.sleep(0.01) seen[#seen + 1] = "thread" end)
    ngx.sleep(0.02)
    seen[#seen + 1] = "entry"
}
--- config
location /t { content_by_lua_block { ngx.sleep(0.1) ngx.say(table.concat(seen, " ")) } }
--- request
GET /t
--- response_body
timer thread entry

=== TEST 7: functions in threads of their own
--- main_config
thread_pool pool threads=4;
--- config
location /t {
    content_by_lua_block {
        ngx.say(ngx.run_worker_thread("pool", "string", "rep", "ab", 3))
        ngx.say(ngx.run_worker_thread("pool", "table", "concat", { "a", "b" }, "-"))
        ngx.say(ngx.run_worker_thread("nowhere", "string", "rep"))
        ngx.say(ngx.run_worker_thread("pool", "string", "nothing"))
        ngx.say(ngx.run_worker_thread("pool", "string", "rep", function() end))
        ngx.say(select(2, ngx.run_worker_thread("pool", "string", "rep")):match("bad argument #1") ~= nil)
    }
}
--- request
GET /t
--- response_body
trueababab
truea-b
falsethread pool nowhere not found
falseinvalid function
falseunsupported Lua type: LUA_TFUNCTION in the argument
true
