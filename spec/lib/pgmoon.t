# `pgmoon` and its modules: the interface that programs know from the library of this name.
use Test::Nginx::Socket 'no_plan';

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => <<'_CONF_');
    lua_socket_log_errors off;
    init_by_lua_block {
        pgmoon = require "pgmoon"
        function config(more)
            local all = {
                port = $TEST_NGINX_POSTGRES_PORT,
                database = "ngx_test",
                user = "ngx_test",
                password = "ngx_test",
            }
            for name, value in pairs(more or {}) do all[name] = value or nil end
            return all
        end
        function connect(more)
            local pg = pgmoon.new(config(more))
            pg:settimeout(3000)
            assert(pg:connect())
            return pg
        end
        function show(value)
            if value == ngx.null then return "null" end
            if type(value) ~= "table" then return tostring(value) end
            local out = {}
            for i, inner in ipairs(value) do out[i] = show(inner) end
            local names = {}
            for name in pairs(value) do
                if type(name) == "string" then names[#names + 1] = name end
            end
            table.sort(names)
            for _, name in ipairs(names) do out[#out + 1] = name .. "=" .. show(value[name]) end
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

=== TEST 1: queries
--- config
location /t {
    content_by_lua_block {
        local pg = connect()
        say(pg:query("CREATE TEMP TABLE pm1 (id serial, name text, n numeric, data json, flags bool[], nums int[], b bytea)"))
        say(pg:query("INSERT INTO pm1 (name) VALUES ('a')"))
        say(pg:query("INSERT INTO pm1 (name) VALUES ('b') RETURNING id"))
        say(pg:query("UPDATE pm1 SET name = 'x' WHERE false"))
        say(pg:query("SELECT * FROM pm1 WHERE false"))
        say(pg:query("SELECT count(*) FROM pm1"))
        say(pg:query("SELECT id, name, n FROM pm1; SELECT 1 AS one"))
        say(pg:query("DELETE FROM pm1 WHERE id = 1; SELECT nope"))
        say(pg:query("SELECT 'a\0b'"))
        say(pg:query("TRUNCATE pm1"))
        say(pg:query("SELECT 1.5 AS n, '{\"a\":[1,null]}'::json AS j, '{t,f}'::bool[] AS f, '{1,NULL,3}'::int[] AS i, '\\x6162'::bytea AS b, "
            .. "true AS t, '{192.168.1.1}'::inet[] AS ip, NULL AS null"))
        pg.convert_null = true
        say(pg:query("SELECT NULL AS n")[1].n == pg.NULL)
        say(pg:query("DO $$ BEGIN RAISE NOTICE 'hello'; END $$"))
        say(pg:query("SELECT 1 FROM nope"))
        say(tostring(pg):match("^<Postgres socket: ") ~= nil, pgmoon.VERSION:match("^%d") ~= nil, pg.busy)
        say(pg:keepalive())
        say(pg:connect(), pg.sock:getreusedtimes())
        say(pg:disconnect())
    }
}
--- response_body
true 1
{affected_rows=1} 1
{{id=2} affected_rows=1} 1
{affected_rows=0} 1
{} 1
{{count=2}} 1
{{{id=1 name=a} {id=2 name=b}} {{one=1}}} 2
nil ERROR: column "nope" does not exist (38) {affected_rows=1} 1
nil invalid null byte in query
true 1
{{b=ab f={true false} i={1 {NULL} 3} ip={192.168.1.1} j={a={1 null}} n=1.5 t=true}} 1
true
true 1 nil {NOTICE: hello}
nil ERROR: relation "nope" does not exist (15) nil 0
true true false
1
true 1
1

=== TEST 2: parameters
--- config
location /t {
    content_by_lua_block {
        local pg = connect()
        local arrays = require "pgmoon.arrays"
        say(pg:query("SELECT $1 AS a, $2 AS b, $3 AS c, $4 AS d", "one", true, pg.NULL, 44))
        say(pg:query("SELECT $1 + $1 AS sum", 7))
        say(pg:extended_query("SELECT $1 AS hi"))
        say(pg:query("SELECT $1 AS hi", 1, 2))
        say(pg:query("SELECT $1", {}))
        say(pg:query("SELECT $1 AS a", setmetatable({}, { pgmoon_serialize = function() return nil, "no way" end })))
        say(pg:query("SELECT $1 AS a", setmetatable({}, { pgmoon_serialize = function() return 25, "t", 1 end })))
        say(pg:query("SELECT $1 AS a", setmetatable({}, { pgmoon_serialize = function() return 114, "[1]" end })))
        say(pg:query("SELECT $1 AS a, pg_typeof($1) AS t", arrays.PostgresArray({ "x\"y", "NULL", pg.NULL, "a\\b" })))
        say(pg:query("SELECT $1 AS a, pg_typeof($1) AS t", arrays.PostgresArray({ false, pg.NULL, true })))
        local nested = arrays.PostgresArray({ arrays.PostgresArray({ 1, 2 }), arrays.PostgresArray({ 3, 4 }) })
        say(pg:query("SELECT $1::numeric[] AS a", nested))
        pg:set_type_deserializer(20, "bignumber", function(self, text, name) return name .. ":" .. text end)
        say(pg:query("SELECT 9223372036854775807 AS n"), connect():query("SELECT 5::int8 AS n"))
        pg:set_type_deserializer(25, "bad", function() error("oops") end)
        say(pcall(pg.query, pg, "SELECT 'x'::text"))
        say(pg.busy, pg:keepalive())
    }
}
--- response_body_like
^\{\{a=one b=true d=44\}\} 1
\{\{sum=14\}\} 1
nil ERROR: bind message supplies 0 parameters, but prepared statement "" requires 1 nil 0
\{\{hi=1\}\} 1
nil pgmoon: param 1: table does not implement pgmoon_serialize, can't serialize
nil pgmoon: param 1: no way
nil pgmoon: param 1: please do not return a third value from serializer function, we may use this value in the future for binary formats
\{\{a=\{1\}\}\} 1
\{\{a=\{x"y NULL \{NULL\} a\\b\} t=text\[\]\}\} 1
\{\{a=\{false \{NULL\} true\} t=boolean\[\]\}\} 1
\{\{a=\{\{1 2\} \{3 4\}\}\}\} 1
\{\{n=bignumber:9223372036854775807\}\} \{\{n=5\}\} 1
false .*oops
false nil closed

=== TEST 3: arrays, JSON, hstore, bytes, texts
--- config
location /t {
    content_by_lua_block {
        local pg = connect({ user = "postgres" })
        local arrays, json, hstore = require "pgmoon.arrays", require "pgmoon.json", require "pgmoon.hstore"
        say(arrays.encode_array({}), arrays.encode_array({ 1, "it's", true, { 4, { 5 } } }))
        say(arrays.encode_array({ "a" }, function(text) return "<" .. text .. ">" end))
        say(arrays.decode_array("{1,3.5}", tonumber), arrays.decode_array("{{a,\"b \\\\ \\\" c\"},{}}"), arrays.decode_array("{}"))
        say(getmetatable(arrays.decode_array("{}")) == arrays.PostgresArray.__base)
        for _, bad in ipairs { "{1, 2}", "{1", "1}", "{a}b", "{\"a}", "{,}", "" } do
            say((pcall(arrays.decode_array, bad)))
        end
        say(json.encode_json({ "it's" }), json.encode_json({ 1 }, function(text) return "`" .. text .. "`" end), json.decode_json("[1]"))
        say(hstore.encode_hstore({ foo = "bar's" }), hstore.decode_hstore("\"a\"=>\"1\", \"b\"=>NULL, \"c\\\"\"=>\"\""))
        pg:query("SET client_min_messages = warning; CREATE EXTENSION IF NOT EXISTS hstore")
        pg:setup_hstore()
        say(pg:query("SELECT " .. hstore.encode_hstore({ ["a\"b"] = "c\\d" }) .. "::hstore AS h"))
        local bytes = {}
        for i = 0, 255 do bytes[i + 1] = string.char(i) end
        bytes = table.concat(bytes)
        say(pg:query("SELECT " .. pg:encode_bytea(bytes) .. "::bytea AS b")[1].b == bytes, pg:decode_bytea("a\\134\\\\"))
        say(pg:escape_identifier("a\"b"), pg:escape_literal("it's"), pg:escape_literal(5), pg:escape_literal(false), pg:escape_literal(pg.NULL))
        say(pgmoon.Postgres.escape_literal(nil, "x"), pcall(pg.escape_literal, pg, {}))
        say(pg:decode_int(pg:encode_int(-5)), pg:decode_int(pg:encode_int(258, 2)), pg:decode_int(pg:encode_int(70000)))
    }
}
--- response_body_like
^ARRAY\[\] ARRAY\[1,'it''s',TRUE,\[4,\[5\]\]\]
ARRAY\[<a>\]
\{1 3.5\} \{\{a b \\ " c\} \{\}\} \{\}
true
(false
){7}'\["it''s"\]' `\[1\]` \{1\}
'"foo"=>"bar''s"' \{a=1 b=NULL c"=\}
\{\{h=\{a"b=c\\d\}\}\} 1
true a\\\\
"a""b" 'it''s' 5 FALSE NULL
'x' false .*don't know how to escape value: table: .*
-5 258 70000

=== TEST 4: connecting, notifications, one query at a time
--- config
location /t {
    content_by_lua_block {
        say(pgmoon.new(config({ database = "nowhere" })):connect())
        say(pgmoon.new(config({ password = "wrong", pool_name = "wrong" })):connect())
        say(pgmoon.new(config({ port = "$TEST_NGINX_RAND_PORT_1" })):connect())
        local none = pgmoon.new(config({ password = false, pool_name = "none" }))
        say(pcall(none.connect, none))
        say(pcall(pgmoon.new, config({ socket_type = "luasocket" })))
        say(pgmoon.new(config({ socket_path = "$TEST_NGINX_POSTGRES_SOCKET" })):connect())
        local pg, other = connect(), connect({ pool_name = "other" })
        pg:query("LISTEN pm4")
        other:query("NOTIFY pm4, 'payload'")
        local note = pg:wait_for_notification()
        say(note.channel, note.payload, note.operation, type(note.pid))
        local thread = ngx.thread.spawn(pg.query, pg, "SELECT pg_sleep(0.1)")
        ngx.sleep(0.02)
        say(pg.busy, pcall(pg.query, pg, "SELECT 1"))
        say(ngx.thread.wait(thread))
        say(pg:keepalive())
        pg = connect({ backlog = 1, pool_size = 1, pool_name = "small" })
        say(pg:query("BEGIN"), pg:keepalive())
        pg = pgmoon.new(config({ application_name = "mine", pool_name = "mine" }))
        say(pg:connect(), pg:query("SHOW application_name"))
    }
}
--- response_body_like
^nil FATAL: database "nowhere" does not exist
nil FATAL: password authentication failed for user "ngx_test"
nil connection refused
false .*the database is requesting a password for authentication but you did not provide a password
false .*unknown or unsupported socket type `luasocket`
true
pm4 payload notification number
true false .*pgmoon: connection is busy
true \{\{pg_sleep=\}\} 1
nil connection is listening
true nil connection in transaction
true \{\{application_name=mine\}\} 1

=== TEST 5: the pool
--- config
location /t {
    content_by_lua_block {
        local pool = require "pgmoon.pool".new(config({ max_pool_size = 2, pool_name = "five" }))
        say(pool:query("SELECT 1"))
        pool:settimeout(3000)
        say(pool:connect(), pool:connect())
        say(pool:query("SELECT 1 AS n"), pool:pool_size(), pool:active_connections(), tostring(pool))
        local threads = {}
        for i = 1, 3 do threads[i] = ngx.thread.spawn(pool.query, pool, "SELECT pg_sleep(0.1)") end
        say(pool:active_connections(), pool:pool_size())
        for i = 1, 3 do
            local _, res, err = ngx.thread.wait(threads[i])
            say(res ~= nil, err)
        end
        pool:set_type_deserializer(23, "x", function(_, text) return "<" .. text .. ">" end)
        say(pool:query("SELECT $1::int AS n", 5), pool:escape_literal("x'"), pool.NULL == pgmoon.Postgres.NULL)
        say(pcall(pool.wait_for_notification, pool))
        say(pool:keepalive(1000), pool:pool_size(), pool:query("SELECT 1"))
        say(pool:connect(), pool:disconnect(), pool:pool_size())
    }
}
--- response_body_like
^nil not connected
true nil already connected
\{\{n=1\}\} 1 0 <PostgresPool size: 1>
2 2
true 1
true 1
false pool exhausted, max_pool_size reached
\{\{n=<5>\}\} 'x''' true
false .*can't use wait for notification with pool
true 0 nil not connected
true true 0
