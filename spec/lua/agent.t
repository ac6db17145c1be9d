# ngx.process.enable_privileged_agent: a worker of its own for what Lua code does by itself.
use Test::Nginx::Socket 'no_plan';

workers(2);
master_on();
log_level('info');
no_shuffle();
run_tests();

__DATA__

=== TEST 1: a worker without sockets beside the others, when init_by_lua asks for it
--- http_config
    lua_shared_dict seen 1m;
    init_by_lua_block {
        local process = require "ngx.process"
        assert(process.type() == "master")
        assert(process.enable_privileged_agent(100))
    }
    init_worker_by_lua_block {
        local type = require("ngx.process").type()
        ngx.shared.seen:incr(type, 1, 0)
        if type == "privileged agent" then
            ngx.shared.seen:set("id", tostring(ngx.worker.id()))
            ngx.timer.at(0, function() ngx.shared.seen:incr("timer", 1, 0) end)
        end
    }
--- config
    location = /t {
        content_by_lua_block {
            ngx.sleep(0.1)
            local process, seen = require "ngx.process", ngx.shared.seen
            ngx.say(process.type(), ", one of ", ngx.worker.count(), " and ", #ngx.worker.pids())
            ngx.say(seen:get("worker"), " ", seen:get("privileged agent"), " ", seen:get("id"), " ", seen:get("timer"))
            local ok, err = process.enable_privileged_agent()
            ngx.say(ok, ": ", err)
        }
    }
--- request
GET /t
--- response_body
worker, one of 2 and 2
2 1 nil 1
nil: API disabled in the current context
--- no_error_log
[error]
[alert]



=== TEST 2: none otherwise
--- http_config
    lua_shared_dict seen 1m;
    init_worker_by_lua_block { ngx.shared.seen:incr(require("ngx.process").type(), 1, 0) }
--- config
    location = /t {
        content_by_lua_block {
            local seen = ngx.shared.seen
            ngx.say(seen:get("worker"), " ", seen:get("privileged agent"))
        }
    }
--- request
GET /t
--- response_body
2 nil
--- no_error_log
[error]
[alert]
