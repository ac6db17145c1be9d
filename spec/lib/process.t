# resty.shell and resty.signal.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: a command's output, errors and status
--- config
location /t {
    content_by_lua_block {
        local run = require("resty.shell").run
        ngx.say(run({ "echo", "hello" }))
        ngx.say(run("cat; echo oops >&2; exit 3", "input", 1000))
        ngx.say(run("printf 12345678", nil, 1000, 4))
        local ok, out, err, reason = run("sleep 5", nil, 20)
        ngx.say(ok, out, err, reason)
    }
}
--- request
GET /t
--- response_body
truehello
exit0
falseinputoops
exit3
nil12345failed to read stdout: too much data
nilfailed to wait for process: timeout

=== TEST 2: signals
--- config
location /t {
    content_by_lua_block {
        local signal = require "resty.signal"
        ngx.say(signal.signum("TERM"), " ", signal.signum(9), " ", signal.signum("NONE"))
        ngx.say(signal.signum("XYZ"))
        ngx.say(signal.kill(ngx.worker.pid(), 0))
        ngx.say(signal.kill(0x7ffffff0, "NONE"))
        ngx.say(signal.kill(1, "XYZ"))
        local proc = require("ngx.pipe").spawn({ "sleep", "10" })
        ngx.say(signal.kill(proc:pid(), "KILL"), " ", select(2, proc:wait()))
    }
}
--- request
GET /t
--- response_body
15 9 0
nilunknown signal name
true
nilNo such process
nilunknown signal name
true signal9
