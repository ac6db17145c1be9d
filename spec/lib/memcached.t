# `resty.memcached`: all commands, pipelines, TLS, and what it does when a server misbehaves. `resty.memcached.shdict`.
use Test::Nginx::Socket 'no_plan';
use MockServer;

# Answers what the key of a command asks for.
mock(MEMCACHED_MOCK => sub {
    my $client = shift;
    sysread $client, my $request, 4096;
    my %answers = (
        half => "VALUE half 0 100\r\nhalf of it",
        line => "VALU",
        length => "VALUE length 0 3\r\nabcdef\r\nEND\r\n",
        garbage => "220 smtp.example.com ready\r\n",
        error => "SERVER_ERROR out of memory storing object\r\n",
        more => "END\r\nEND\r\n",
        wait => "",
    );
    my ($key) = $request =~ /^\w+ (\w+)/;
    print $client $answers{$key} // "ERROR\r\n";
    sleep 1 if $key eq 'wait' or $key eq 'error' or $key eq 'more';
});

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => <<'_CONF_');
    lua_socket_log_errors off;
    lua_shared_dict locks 1m;
    lua_shared_dict values 1m;
    lua_ssl_trusted_certificate $TEST_NGINX_MEMCACHED_CA;
    init_by_lua_block {
        memcached = require "resty.memcached"
        function connect(port, options)
            local memc = memcached:new()
            memc:set_timeout(1000)
            assert(memc:connect("127.0.0.1", port or $TEST_NGINX_MEMCACHED_PORT, options))
            return memc
        end
        function show(value)
            if type(value) ~= "table" then return tostring(value) end
            local out = {}
            for i = 1, table.maxn(value) do out[i] = show(value[i]) end
            return "{" .. table.concat(out, " ") .. "}"
        end
        function say(...)
            local out = {}
            for i = 1, select("#", ...) do out[i] = show((select(i, ...))) end
            ngx.say(table.concat(out, " "))
        end
    }
_CONF_
    $block->set_value(request => "GET /t");
});

run_tests();
__DATA__

=== TEST 1: storing, reading, counting, removing
--- config
location /t {
    content_by_lua_block {
        local memc = connect()
        memc:delete("m1") memc:delete("m1 b")
        say(memc:get("m1"))
        say(memc:set("m1", 32, 0, 7))
        say(memc:get("m1"))
        say(memc:add("m1", "x"))
        say(memc:add("m1 b", { "a", { "b", 1 }, "\r\n" }))
        say(memc:get("m1 b"))
        say(memc:replace("m1 c", 1))
        say(memc:append("m1", "x"))
        say(memc:prepend("m1", "y"))
        say(memc:get("m1"))
        say(memc:incr("m1", 1))
        say(memc:set("m1", 9))
        say(memc:incr("m1", 2), memc:decr("m1", 1))
        say(memc:incr("m1 c", 1))
        local values = memc:get({ "m1", "m1 b", "m1 c" })
        say(values.m1, values["m1 b"], values["m1 c"])
        local _, _, cas = memc:gets("m1")
        say(memc:cas("m1", "new", cas))
        say(memc:cas("m1", "newer", cas))
        values = memc:gets({ "m1", "m1 b" })
        say(#values.m1, values.m1[1], #values["m1 b"])
        say(memc:gets("m1 c"))
        say(memc:get({}), memc:gets({}))
        say(memc:touch("m1", 100), memc:touch("m1 c", 100))
        say(memc:delete("m1"), memc:delete("m1"))
        say(memc:set("m1", string.rep("x", 100000)), #memc:get("m1"))
        say(#memc:stats() > 10, #memc:stats("items") >= 0, memc:stats("nonsense"))
        say(memc:version():match("^%d+%.%d+") ~= nil, memc:verbosity(0))
        say(memc:flush_all(0), memc:flush_all("x"))
        say(memc:quit())
    }
}
--- response_body_like
^nil nil nil
1
32 7
nil NOT_STORED
1
ab1\r
 0
nil NOT_STORED
1
1
y32x 7
nil CLIENT_ERROR cannot increment or decrement non-numeric value
1
11 10
nil NOT_FOUND
\{10 0\} \{ab1\r
 0\} nil
1
nil EXISTS
3 new 3
nil nil nil nil
\{\} \{\}
1 nil NOT_FOUND
1 nil NOT_FOUND
1 100000
true true .*
true 1
1 nil (CLIENT_|)ERROR.*
1

=== TEST 2: a connection is used again, also over a socket and TLS; other forms of keys
--- config
location /t {
    content_by_lua_block {
        for i = 1, 2 do
            local memc = connect(nil, { pool = "two" })
            say(memc:get_reused_times(), memc:set_keepalive(10000, 5))
        end
        local memc = memcached:new()
        say(memc:connect("unix:$TEST_NGINX_MEMCACHED_SOCKET"), memc:set("m2", 1), memc:close(), memc:close())
        memc = connect($TEST_NGINX_MEMCACHED_TLS_PORT)
        say(type(memc:sslhandshake(nil, "localhost", true)), memc:set("m2", 2), memc:get("m2"))
        say(memc:set_keepalive())
        memc = connect($TEST_NGINX_MEMCACHED_TLS_PORT)
        say(memc:get_reused_times(), memc:get("m2"))
        say(memcached:new({ key_transform = {} }))
        memc = memcached:new({ key_transform = { string.upper, string.lower } })
        memc:connect("127.0.0.1", $TEST_NGINX_MEMCACHED_PORT)
        say(memc:set("m2k", 1), connect():get("M2K"), memc:get({ "m2k" }).m2k)
        say(memc:set_timeouts(1, 1, 1), memcached.set_timeout({}, 1))
        say(memcached.get({}, "x"))
        say(memcached.get({}, {}))
        say(memcached.gets({}, "x"))
        say(memcached.set({}, "x", 1))
        say(memcached.close({}))
    }
}
--- response_body
0 1
1 1
1 1 1 nil closed
cdata 1 2 0
1
1 2 0
nil expecting key_transform = { escape, unescape } table
1 1 {1 0}
1 nil not initialized
nil nil not initialized
nil not initialized
nil nil nil not initialized
nil not initialized
nil not initialized

=== TEST 3: pipelines
--- config
location /t {
    content_by_lua_block {
        local memc = connect()
        say(memc:commit_pipeline())
        say(memc:init_pipeline("x"))
        say(memc:init_pipeline(4), memc:init_pipeline())
        say(memc:commit_pipeline())
        memc:init_pipeline()
        say(memc:set("m3", "a"), memc:get("m3"), memc:incr("m3", 1), memc:get("m3 none"), memc:delete("m3"),
            memc:touch("m3", 1), memc:version())
        local results = memc:commit_pipeline()
        results[7][1] = results[7][1] and "some version"
        say(results)
        memc:init_pipeline()
        memc:set("m3", "b")
        memc:cancel_pipeline()
        say(memc:get("m3"))
    }
}
--- response_body
nil no pipeline
bad n arg: number expected, but got string
nil already init pipeline
nil no more cmds
1 1 1 1 1 1 1
{{1} {a 0} {nil CLIENT_ERROR cannot increment or decrement non-numeric value} {} {1} {nil NOT_FOUND} {some version}}
nil nil nil

=== TEST 4: replies that are cut, senseless or lie close the connection; the server's errors do not
--- config
location /t {
    content_by_lua_block {
        for _, what in ipairs { "half", "line", "length", "garbage", "error" } do
            local memc = connect($TEST_NGINX_MEMCACHED_MOCK_PORT, { pool = what })
            say(what, memc:get(what))
            say(memc:set_keepalive())
        end
        local memc = connect($TEST_NGINX_MEMCACHED_MOCK_PORT)
        say(memc:get("more"))
        ngx.sleep(0.02)
        say(memc:set_keepalive())
        memc = connect($TEST_NGINX_MEMCACHED_MOCK_PORT)
        memc:set_timeout(50)
        say(memc:get("wait"))
        say(memc:set_keepalive())
    }
}
--- response_body
half nil nil closed
nil closed
line nil nil closed
nil closed
length nil nil bad data chunk
nil closed
garbage nil nil 220 smtp.example.com ready
nil closed
error nil nil SERVER_ERROR out of memory storing object
1
nil nil nil
nil unread data in buffer
nil nil timeout
nil closed

=== TEST 5: the cache in front of it
--- config
location /t {
    content_by_lua_block {
        local values = ngx.shared.values
        local function options(more)
            local all = {
                tag = "cache",
                debug_logger = function() end,
                warn_logger = function(_, ...) ngx.log(ngx.WARN, ...) end,
                error_logger = function(_, ...) ngx.log(ngx.WARN, ...) end,
                locks_shdict_name = "locks",
                shdict_set = function(_, key, value, ttl) values:set(key, value, ttl or 1) end,
                shdict_get = function(_, key) local value, _, stale = values:get_stale(key) return value, stale end,
                memc_host = "127.0.0.1",
                memc_port = $TEST_NGINX_MEMCACHED_PORT,
                memc_timeout = 500,
                memc_conn_pool_size = 5,
                memc_fetch_retry_delay = 1,
                memc_store_retry_delay = 1,
            }
            for key, value in pairs(more or {}) do all[key] = value end
            return all
        end
        local shdict = require "resty.memcached.shdict"
        local fetch, store = shdict.gen_memc_methods(options())
        local ctx = {}
        say(store(ctx, "m5", "value"))
        say(values:get("m5"), fetch(ctx, "m5"))
        values:delete("m5")
        say(fetch(ctx, "m5"), values:get("m5"))
        say(fetch(ctx, "m5-none"), values:get("m5-none") == "")
        say(ctx.cache:get_reused_times())
        -- A stale value with an error when the server is gone.
        fetch, store = shdict.gen_memc_methods(options({ memc_port = $TEST_NGINX_RAND_PORT_1 }))
        values:set("m5", "old", 0.001)
        ngx.sleep(0.01)
        say(fetch({}, "m5"))
        say(store({}, "m5", "new"))
        fetch = shdict.gen_memc_methods(options({ memc_port = $TEST_NGINX_MEMCACHED_MOCK_PORT, disable_shdict = true }))
        say(fetch({}, "garbage"))
    }
}
--- response_body
true
value value
value value
nil true
nil closed
old failed to init cache: connection refused
nil
nil failed to get key "garbage" from cache: 220 smtp.example.com ready

=== TEST 6: a connection whose socket was closed says so
--- config
location /t {
    content_by_lua_block {
        local memc = connect()
        memc.sock:close()
        say(memc:get("m6"))
    }
}
--- response_body
nil nil closed
