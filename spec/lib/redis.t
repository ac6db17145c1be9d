# `resty.redis`: commands, pipelines, transactions, subscriptions, TLS, and what it does when a server misbehaves.
use Test::Nginx::Socket 'no_plan';
use MockServer;

# Answers what the key of the first GET asks for.
mock(REDIS_MOCK => sub {
    my $client = shift;
    sysread $client, my $request, 4096;
    my %answers = (
        half => "\$100\r\nhalf of it",
        line => "+no end of li",
        nested => "*2\r\n\$1\r\na\r\n*3\r\n:1\r\n",
        garbage => "HTTP/1.1 400 Bad Request\r\n",
        empty => "\r\n",
        length => "\$12x\r\nabc\r\n",
        huge => "\$9223372036854775807\r\nabc",
        deep => "*1\r\n" x 300,
        more => "+first\r\n+second\r\n",
        integers => "*4\r\n:-5\r\n:9007199254740991\r\n\$-1\r\n*-1\r\n",
        wait => "",
        bare => "+status\n",
    );
    my ($key) = $request =~ /\$\d+\r\n(\w+)\r\n\z/;
    print $client $answers{$key} // "-ERR unknown\r\n";
    sleep 1 if $key eq 'more' or $key eq 'wait';
});

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => <<'_CONF_');
    lua_socket_log_errors off;
    lua_ssl_trusted_certificate $TEST_NGINX_REDIS_CA;
    init_by_lua_block {
        redis = require "resty.redis"
        function connect(options)
            local red = redis:new()
            red:set_timeouts(1000, 1000, 1000)
            assert(red:connect("127.0.0.1", $TEST_NGINX_REDIS_PORT, options))
            return red
        end
        function show(value)
            if type(value) ~= "table" then return value == ngx.null and "null" or tostring(value) end
            local out = {}
            for i, inner in ipairs(value) do out[i] = show(inner) end
            return "{" .. table.concat(out, " ") .. "}"
        end
        function say(...)
            local out, count = {}, select("#", ...)
            while count > 1 and select(count, ...) == nil do count = count - 1 end
            for i = 1, count do out[i] = show((select(i, ...))) end
            ngx.say(table.concat(out, " "))
        end
    }
_CONF_
    $block->set_value(request => "GET /t");
});

run_tests();
__DATA__

=== TEST 1: commands and all kinds of replies
--- config
location /t {
    content_by_lua_block {
        local red = connect()
        say(red:del("r1", "r1:list", "r1:hash"))
        say(red:set("r1", "an\r\nanimal"))
        say(red:get("r1"))
        say(red:get("r1:none"))
        say(red:incr("r1"))
        say(red:set("r1", 42))
        say(red:incr("r1"))
        say(red:rpush("r1:list", "a", 1.5, true, "d"))
        say(red:lrange("r1:list", 0, -1))
        say(red:mget("r1", "r1:none"))
        say(red:eval("return {1, {2, {'three', {}}}, redis.status_reply('OK'), redis.error_reply('ERR no')}", 0))
        say(red:hmset("r1:hash", { one = 1 }))
        say(red:hmset("r1:hash", "two", 2, "three", 3))
        local hash = red:array_to_hash(red:hgetall("r1:hash"))
        say(hash.one, hash.two, hash.three)
        say(red:PING())
        say(red["client"](red, "getname"))
        say(red:nonsense())
        say(red:set("r1", string.rep("x", 300000)), #red:get("r1"))
        say(red:set("r1", ""), red:get("r1") == "")
        say(red:close(), red:close())
    }
}
--- response_body_like
^\d
OK
an\r
animal
null
false ERR value is not an integer or out of range
OK
43
4
\{a 1.5 true d\}
\{43 null\}
\{1 \{2 \{three \{\}\}\} OK \{false ERR no\}\}
OK
OK
1 2 3
PONG
null
false ERR unknown command 'nonsense'.*
OK 300000
OK true
1 nil closed

=== TEST 2: a connection is used again, also over a socket and TLS
--- config
location /t {
    content_by_lua_block {
        local function try(...)
            for i = 1, 2 do
                local red = redis:new()
                local ok, err = red:connect(...)
                if not ok then return say(ok, err) end
                say(red:get_reused_times(), red:ping())
                say(red:set_keepalive(10000, 10))
            end
        end
        try("127.0.0.1", $TEST_NGINX_REDIS_PORT)
        try("unix:$TEST_NGINX_REDIS_SOCKET", { pool = "mine" })
        try("127.0.0.1", "$TEST_NGINX_REDIS_TLS_PORT", { ssl = true, ssl_verify = true, server_name = "localhost" })
        local red = redis:new()
        local ok, err = red:connect("127.0.0.1", $TEST_NGINX_REDIS_TLS_PORT,
            { ssl = true, ssl_verify = true, server_name = "elsewhere", pool = "other" })
        say(ok, err:match("^failed to do ssl handshake: ") ~= nil, red:close())
        say(connect():set_keepalive())
    }
}
--- response_body
0 PONG
1
1 PONG
1
0 PONG
1
1 PONG
1
0 PONG
1
1 PONG
1
nil true nil closed
1

=== TEST 3: pipelines, transactions
--- config
location /t {
    content_by_lua_block {
        local red = connect()
        say(red:commit_pipeline())
        red:init_pipeline()
        say(red:set("r3", "x"))
        red:incr("r3")
        red:get("r3")
        say(red:commit_pipeline())
        red:init_pipeline(2)
        red:get("r3")
        red:cancel_pipeline()
        red:init_pipeline()
        say(red:commit_pipeline())
        say(red:multi())
        say(red:set("r3", 1))
        say(red:incr("r3"))
        say(red:exec())
        say(red:set_keepalive())
        red = connect()
        say(red:multi(), red:nonsense())
        say(red:exec())
        say(red:watch("r3"))
        say(red:unwatch())
        say(red:set_keepalive())
        -- Nobody inherits what was begun.
        for _, begin in ipairs { "multi", "watch" } do
            red = connect()
            say(red:get_reused_times() > 0, red[begin](red, begin == "watch" and "r3" or nil))
            say(red:set_keepalive())
            say(red:get("r3"))
            connect():set_keepalive()
        end
        red = connect()
        red:init_pipeline()
        red:multi()
        red:cancel_pipeline()
        say(red:set_keepalive())
        red = connect()
        red:init_pipeline()
        red:multi() red:get("r3") red:exec()
        say(red:commit_pipeline())
        say(red:set_keepalive())
    }
}
--- response_body_like
^nil no pipeline

\{OK \{false ERR value is not an integer or out of range\} x\}
\{\}
OK
QUEUED
QUEUED
\{OK 2\}
1
OK false ERR unknown command.*
false EXECABORT.*
OK
OK
1
true OK
nil connection in transaction
nil closed
true OK
nil connection in transaction
nil closed
1
\{OK QUEUED \{2\}\}
1

=== TEST 4: subscriptions
--- config
location /t {
    content_by_lua_block {
        local red, other = connect(), connect()
        say(red:read_reply())
        say(red:unsubscribe("r4"))
        say(red:subscribe("r4"))
        say(red:subscribe("r4:b", "r4:c"))
        say(red:psubscribe("r4:p*"))
        say(red:set_keepalive())
        say(other:publish("r4", "one"), other:publish("r4:pp", "two"))
        say(red:read_reply())
        say(red:read_reply())
        -- What comes between a command and its reply waits for its turn.
        say(other:publish("r4:b", "three"), other:publish("r4", "four"))
        ngx.sleep(0.05)
        say(red:unsubscribe("r4:c"))
        say(red:unsubscribe("r4:b"))
        say(red:read_reply())
        red:set_timeout(30)
        say(red:read_reply())
        say(other:publish("r4", "five"))
        say(red:read_reply())
        say(red:punsubscribe("r4:p*"))
        say(red:unsubscribe())
        say(red:get("r4:none"))
        say(red:set_keepalive(), other:set_keepalive())
    }
}
--- response_body
nil not subscribed
nil not subscribed
{subscribe r4 1}
{{subscribe r4:b 2} {subscribe r4:c 3}}
{psubscribe r4:p* 4}
nil subscribed state
1 1
{message r4 one}
{pmessage r4:p* r4:pp two}
1 1
{unsubscribe r4:c 3}
{unsubscribe r4:b 2}
{message r4 four}
nil timeout
1
{message r4 five}
{punsubscribe r4:p* 1}
{unsubscribe r4 0}
null
1 1

=== TEST 5: what arguments are refused
--- config
location /t {
    content_by_lua_block {
        local red = redis:new()
        say(pcall(red.connect, red, 1))
        say(pcall(red.connect, red, "127.0.0.1"))
        say(pcall(red.connect, red, "127.0.0.1", 1, "x"))
        say(pcall(red.connect, red, "unix:/x", "y"))
        say(red:get("x"))
        say(redis.get({}, "x"), redis:get("x"))
        say(redis.set_keepalive({}))
        say(pcall(redis.set_timeout, {}, 1))
        say(redis.close({}), redis.get_reused_times({}))
    }
}
--- response_body
false bad argument #1 host: string expected, got number
false bad argument #2 port: number expected, got nil
false bad argument #3 opts: nil or table expected, got string
false bad argument #2 opts: nil or table expected, got string
nil closed
nil nil not initialized
nil not initialized
false not initialized
nil nil not initialized

=== TEST 6: prefixes of modules, commands by name
--- config
location /t {
    content_by_lua_block {
        redis.register_module_prefix("bf")
        redis.add_commands("foo")
        local red = connect()
        say(red:bf():add("r6", 1))
        say(red:add("r6", 1))
        say(red:foo())
        say(redis._VERSION)
    }
}
--- response_body_like
^false ERR unknown command 'bf.add'.*
false ERR unknown command 'add'.*
false ERR unknown command 'foo'.*
0\.\d+

=== TEST 7: replies that are cut, senseless or lie: an error, and the connection is closed
--- config
location /t {
    content_by_lua_block {
        for _, what in ipairs { "half", "line", "nested", "garbage", "empty", "length", "deep", "huge" } do
            local red = redis:new()
            red:set_timeout(1000)
            assert(red:connect("127.0.0.1", $TEST_NGINX_REDIS_MOCK_PORT))
            say(what, red:get(what))
            say(red:set_keepalive())
        end
        local red = redis:new()
        red:connect("127.0.0.1", $TEST_NGINX_REDIS_MOCK_PORT)
        say(red:get("integers"))
        red:connect("127.0.0.1", $TEST_NGINX_REDIS_MOCK_PORT)
        say(red:get("bare"))
    }
}
--- response_body
half nil closed
nil closed
line nil closed
nil closed
nested nil closed
nil closed
garbage nil unknown prefix: "72"
nil closed
empty nil unknown prefix: "nil"
nil closed
length nil bad length: "12x"
nil closed
deep nil arrays nested too deeply
nil closed
huge nil closed
nil closed
{-5 9.007199254741e+15 null null}
status

=== TEST 8: more than was asked for, and replies that come too late, do not reach the next user
--- config
location /t {
    content_by_lua_block {
        local red = redis:new()
        red:connect("127.0.0.1", $TEST_NGINX_REDIS_MOCK_PORT)
        say(red:get("more"))
        ngx.sleep(0.02)
        say(red:set_keepalive())
        red:close()
        red:set_timeout(50)
        red:connect("127.0.0.1", $TEST_NGINX_REDIS_MOCK_PORT)
        say(red:get("wait"))
        say(red:set_keepalive())
        -- A command that blocks outlasts us: the connection stays, but is not shared.
        red = connect()
        red:set_timeout(50)
        say(red:blpop("r8:none", 1))
        say(red:set_keepalive())
        say(red:close())
    }
}
--- response_body
first
nil unread data in buffer
nil timeout
nil closed
nil timeout
nil connection in dubious state
nil closed

=== TEST 9: connections that cannot be made, and a pool that is full
--- config
location /t {
    content_by_lua_block {
        local red = redis:new()
        say(red:connect("127.0.0.1", $TEST_NGINX_RAND_PORT_1))
        say(red:connect("unix:/nonexistent"))
        local options = { pool = "small", pool_size = 1, backlog = 1 }
        local first = connect(options)
        local thread = ngx.thread.spawn(function()
            local second = redis:new()
            second:set_timeout(1000)
            return second:connect("127.0.0.1", $TEST_NGINX_REDIS_PORT, options), second:get_reused_times()
        end)
        local third = redis:new()
        say(third:connect("127.0.0.1", $TEST_NGINX_REDIS_PORT, options))
        say(first:set_keepalive())
        say(ngx.thread.wait(thread))
        third:set_timeout(30)
        say(third:connect("127.0.0.1", $TEST_NGINX_REDIS_PORT, options))
    }
}
--- response_body
nil connection refused
nil no such file or directory
nil too many waiting connect operations
1
true 1 1
nil timeout

=== TEST 10: a kept connection that the server closes, and a command that is given up
--- config
location /t {
    content_by_lua_block {
        local red, other = connect({ pool = "a" }), connect({ pool = "b" })
        local id = red:client("id")
        say(red:set_keepalive())
        say(other:client("kill", "id", id))
        ngx.sleep(0.05)
        red = connect({ pool = "a" })
        say(red:get_reused_times(), red:ping())
        -- Killed in the middle of a command.
        local thread = ngx.thread.spawn(function() return red:blpop("r10:none", 5) end)
        ngx.sleep(0.05)
        say(ngx.thread.kill(thread))
        say(red:set_keepalive())
        red = connect({ pool = "a" })
        say(red:get_reused_times())
        id = red:client("id")
        thread = ngx.thread.spawn(function() return red:blpop("r10:none", 5) end)
        ngx.sleep(0.05)
        other:client("kill", "id", id)
        say(ngx.thread.wait(thread))
        say(red:ping())
    }
}
--- response_body_like
^1
1
0 PONG
(1|true)
nil (closed|connection in dubious state)
0
true nil closed
nil closed

=== TEST 11: sockets that a program puts in the place of ours
--- config
location /t {
    content_by_lua_block {
        local tcp = ngx.socket.tcp
        package.loaded["resty.redis"] = nil
        ngx.socket.tcp = function(...)
            local sock = tcp(...)
            return setmetatable({}, { __index = function(_, name)
                return function(_, ...) return sock[name](sock, ...) end
            end })
        end
        local redis = require "resty.redis"
        local red = redis:new()
        red:set_timeout(1000)
        say(red:connect("127.0.0.1", $TEST_NGINX_REDIS_PORT))
        say(red:set("r11", "x"), red:get("r11"), red:incr("r11"))
        red:init_pipeline()
        red:incr("r11") red:get("r11")
        say(red:commit_pipeline())
        say(red:eval("return {1, {'a', {}}}", 0))
        say(red:set_keepalive())
        ngx.socket.tcp = tcp
        package.loaded["resty.redis"] = nil
    }
}
--- response_body
1
OK x false ERR value is not an integer or out of range
{{false ERR value is not an integer or out of range} x}
{1 {a {}}}
1
