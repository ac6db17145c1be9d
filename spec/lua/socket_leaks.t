# No descriptor and no place in a pool is lost, however the code that uses a socket ends.
use Test::Nginx::Socket 'no_plan';

our $http_config = <<'_EOC_';
init_by_lua_block {
    local ffi = require "ffi"
    ffi.cdef [[ int fcntl(int fd, int cmd, ...); ]]
    -- How many descriptors the process has.
    function descriptors()
        local count = 0
        for fd = 0, 1000 do
            if ffi.C.fcntl(fd, 1) ~= -1 then count = count + 1 end
        end
        return count
    end

    function open(options)
        local sock = ngx.socket.tcp()
        assert(sock:connect("127.0.0.1", ngx.var.server_port, options))
        return sock
    end

    -- Asks this server, over a connection that is gone afterwards.
    function ask(path)
        local sock = open()
        sock:send("GET " .. path .. " HTTP/1.0\r\n\r\n")
        sock:receive("*a")
        sock:close()
    end

    -- Runs `scenario` often and says how many descriptors it has cost.
    function cost(scenario)
        scenario()
        ngx.sleep(0.3)
        local before = descriptors()
        for i = 1, 10 do scenario() end
        ngx.sleep(0.3)
        return descriptors() - before
    end
}
_EOC_

run_tests();
__DATA__

=== TEST 1: handlers that end in the middle of a wait
--- http_config eval: $::http_config
--- config
location /t {
    content_by_lua_block {
        ngx.say("exit: ", cost(function() ask("/exit") end))
        ngx.say("error: ", cost(function() ask("/error") end))
        ngx.say("kill: ", cost(function() ask("/kill") end))
        ngx.say("forgotten: ", cost(function() ask("/forgotten") end))
        ngx.say("pool: ", cost(function() ask("/pool") end))
    }
}
location /exit {
    content_by_lua_block {
        ngx.thread.spawn(function() open():receive() end)
        ngx.thread.spawn(function() local sock = ngx.socket.udp() sock:setpeername("127.0.0.1", 9) sock:receive() end)
        open()
        ngx.exit(403)
    }
}
location /error {
    lua_socket_log_errors off;
    content_by_lua_block {
        ngx.thread.spawn(function() open():receive() end)
        local sock = open()
        error("deliberate")
    }
}
location /kill {
    content_by_lua_block {
        local thread = ngx.thread.spawn(function() open():receive() end)
        ngx.thread.kill(thread)
        ngx.say("killed")
    }
}
location /forgotten { content_by_lua_block { open():send("GET") ngx.say("done") } }
location /pool {
    content_by_lua_block {
        local options = { pool_size = 1, backlog = 3 }
        local first = open(options)
        ngx.thread.spawn(function() open(options) end)
        ngx.thread.spawn(function() open(options) end)
        ngx.exit(200)
    }
}
--- request
GET /t
--- response_body
exit: 0
error: 0
kill: 0
forgotten: 0
pool: 0
--- timeout: 15

=== TEST 2: clients that leave
--- http_config eval: $::http_config
--- config
location /t {
    content_by_lua_block {
        ngx.say(cost(function()
            local sock = open()
            sock:send("GET /wait HTTP/1.0\r\n\r\n")
            ngx.sleep(0.01)
            sock:close()
        end))
    }
}
location /wait {
    lua_check_client_abort on;
    content_by_lua_block { open():receive() }
}
--- request
GET /t
--- response_body
0
--- timeout: 15

=== TEST 3: timers
--- http_config eval: $::http_config
--- config
location /t {
    content_by_lua_block {
        local port = ngx.var.server_port
        ngx.say(cost(function()
            ngx.timer.at(0, function()
                local sock = ngx.socket.tcp()
                sock:connect("127.0.0.1", port)
                ngx.thread.spawn(function() sock:receive() end)
                error("deliberate")
            end)
        end))
    }
}
--- request
GET /t
--- response_body
0
--- timeout: 15
