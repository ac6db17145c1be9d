# resty.sqlite: rows and errors, parameters, transactions, locks, time limits and pools.
use Test::Nginx::Socket 'no_plan';
our $Db = <<'_EOC_';
init_by_lua_block {
    sqlite = require "resty.sqlite"
    function open(opts)
        local db = sqlite:new()
        opts = opts or {}
        opts.database = opts.database or "$TEST_NGINX_HTML_DIR/test.db"
        assert(db:connect(opts))
        return db
    end
    endless = "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c"
}
_EOC_
run_tests();

__DATA__

=== TEST 1: values of each type go in and come out
--- http_config eval: $::Db
--- config
location /t {
    content_by_lua_block {
        local db = open()
        local res = db:query("create table t (id integer primary key, v)")
        ngx.say(res.affected_rows, " ", res.insert_id, " ", res.server_status, " ", res.warning_count)
        for _, v in ipairs{ 42, 1.5, "text", true, ngx.null, sqlite.blob("\0\255"), 9007199254740993LL, -0x7fffffffffffffffLL - 1, 2^60, "it's" } do
            res = db:query("insert into t (v) values (?)", v)
        end
        ngx.say(res.affected_rows, " ", res.insert_id)
        for _, row in ipairs(db:query("select typeof(v) as kind, v from t order by id")) do
            ngx.say(row.kind, " ", type(row.v), " ", row.v == ngx.null and "null" or row.kind == "blob" and #row.v or row.v)
        end
        db:set_compact_arrays(true)
        ngx.say(table.concat(db:query("select 1, 2, 'c' union all select 4, 5, ?2", "unused", "f")[2], ","))
        ngx.say(#db:query("select 1 where 0"), " ", db:query("select :a + @b + $c", { a = 1, ["@b"] = 2, c = 3 })[1][1])
        ngx.say(db:query("select ? || ?", { "x", "y" })[1][1], " ", db:query("select " .. sqlite.quote("it's") .. " || " .. sqlite.quote(nil))[1][1] == ngx.null)
        ngx.say(db:query("update t set v = 1").affected_rows, " ", db:query("select 'caf\195\169'")[1][1])
        local stmt = db:prepare("select ? * 2")
        ngx.say(stmt:query(4)[1][1], " ", stmt:execute(5)[1][1], " ", stmt:close(), " ", stmt:query(6))
    }
}
--- request
GET /t
--- response_body
0 0 2 0
1 10
integer number 42
real number 1.5
text string text
integer number 1
null userdata null
blob string 2
integer string 9007199254740993
integer string -9223372036854775808
real number 1.1529215046068e+18
text string it's
4,5,f
0 6
xy true
10 café
8 10 1 nilclosed
--- no_error_log
[error]

=== TEST 2: several statements, and what is wrong with some
--- http_config eval: $::Db
--- config
location /t {
    content_by_lua_block {
        local db = open{ database = ":memory:", compact_arrays = true }
        local res, err = db:query("create table t (id integer primary key check (id > 0), n not null unique); insert into t values (1, 'a'); select * from t;")
        ngx.say(res.affected_rows, " ", err)
        res, err = db:read_result()
        ngx.say(res.affected_rows, " ", err)
        res, err = db:read_result()
        ngx.say(res[1][2], " ", err)
        ngx.say(db:read_result())
        res, err = db:query("select 1; selec; select 2")
        ngx.say(res[1][1], " ", err)
        for _, sql in ipairs{ "insert into t values (1, 'b')", "insert into t values (2, 'a')", "insert into t values (2, null)", "insert into t values (-1, 'x')",
            "select * from nowhere", "", "select 'open", "select ?", "insert into t values ('x', 'y')", "commit" }
        do
            local res, err, code, state = db:query(sql)
            ngx.say(res, " ", err, " ", code, " ", state)
        end
        ngx.say(db:query("select 1", 2))
        ngx.say(db:query("select ?", {}))
        ngx.say(db:query("select ?", function() end))
        ngx.say(db:query("select '\255'"))
        ngx.say(db:send_query("select 7"), " ", db:read_result()[1][1])
        ngx.say(sqlite:new():query("select 1"))
        ngx.say(sqlite:new():connect{})
        local function without_path(_, err, code, state)
            ngx.say((err:gsub("/.*/", "")), " ", code, " ", state)
        end
        without_path(sqlite:new():connect{ database = "/nonexistent/x.db" })
        without_path(sqlite:new():connect{ database = "$TEST_NGINX_HTML_DIR/none.db", create = false })
        ngx.say(sqlite:new():connect{ database = "$TEST_NGINX_HTML_DIR/text" })
        ngx.say(sqlite:new():connect{ database = ":memory:", pragmas = { ["x;y"] = 1 } })
    }
}
--- user_files
>>> text
This is a text and no database, and it is longer than the head of one, which has a hundred bytes: that is so.
--- request
GET /t
--- response_body
0 again
1 again
a nil
nilno result
1 again
nil UNIQUE constraint failed: t.id 1555 23505
nil UNIQUE constraint failed: t.n 2067 23505
nil NOT NULL constraint failed: t.n 1299 23502
nil CHECK constraint failed: id > 0 275 23514
nil no such table: nowhere 1 42000
nil the query was empty 1 42000
nil unrecognized token: "'open" 1 42000
nil no value for parameter 1: 0 given 25 07001
nil datatype mismatch 20 22000
nil cannot commit - no transaction is active 1 42000
nil1 parameters given, but 0 wanted2507001
nilno value for parameter 1: 0 given2507001
nilbad parameter: a function21HY000
nilthe query is not valid UTF-821HY000
8 7
nilnot initialized
nilno database specified
unable to open database file: x.db 14 08001
unable to open database file: none.db 14 08001
nilfile is not a database26XX001
nilbad "pragmas" option: x;y

=== TEST 3: transactions and pools; nothing of one user is left for the next
--- http_config eval: $::Db
--- config
location /t {
    content_by_lua_block {
        local db = open()
        db:query("create table t (a)")
        ngx.say(db:transaction(function(db) return db:query("insert into t values (1)").affected_rows end))
        ngx.say(db:transaction(function(db) db:query("insert into t values (2)") return nil, "changed my mind" end))
        ngx.say(pcall(db.transaction, db, function(db) db:query("insert into t values (3)") error("broken", 0) end))
        ngx.say(#db:query("select * from t"), " ", db:in_transaction())
        db:begin()
        db:query("insert into t values (4)")
        ngx.say(db:in_transaction(), " ", db:set_keepalive(1000, 2))
        ngx.say(db:query("select 1"))
        local again = open()
        ngx.say(again:get_reused_times(), " ", #again:query("select * from t"), " ", again:in_transaction())
        ngx.say(again:set_keepalive(20))
        ngx.sleep(0.05)
        db = open()
        ngx.say(db:get_reused_times(), " ", db:close(), " ", db:close())
        local some = {}
        for i = 1, 3 do
            some[i] = open()
        end
        for i = 1, 3 do
            some[i]:set_keepalive(0, 2)
        end
        for i = 1, 3 do
            ngx.print(open():get_reused_times(), " ")
        end
        ngx.say(open{ read_only = true }:query("insert into t values (5)"))
        local a, b = open{ memory = "shared" }, open{ memory = "shared" }
        a:query("create table t (a); insert into t values ('seen')")
        ngx.say(b:query("select * from t")[1].a, " ", #open{ memory = true }:query("select * from sqlite_schema"))
    }
}
--- request
GET /t
--- response_body
1nil
nilchanged my mind
falsebroken
1 false
true 1
nilclosed
1 1 false
1
0 1 nilclosed
1 1 0 nilattempt to write a readonly database825006
seen 0

=== TEST 4: endless queries, locks of others, and a worker that goes on meanwhile
--- http_config eval: $::Db
--- config
location /t {
    content_by_lua_block {
        local db = open()
        db:query("create table t (a)")
        local ticks, done = 0, false
        local thread = ngx.thread.spawn(function()
            while not done do
                ngx.sleep(0.01)
                ticks = ticks + 1
            end
        end)
        db:set_timeout(200)
        ngx.say(db:query(endless))
        done = true
        ngx.thread.wait(thread)
        ngx.say(ticks > 5, " ", db:query("select 1 as a")[1].a)

        -- Many who wait for a lock do not keep the one who has it from going on.
        local waiters = {}
        db:begin()
        db:query("insert into t values (0)")
        for i = 1, 20 do
            waiters[i] = ngx.thread.spawn(function()
                local own = open()
                local res, err = own:query("insert into t values (?)", i)
                return res and res.affected_rows or err
            end)
        end
        ngx.sleep(0.05)
        db:query("insert into t values (0)")
        db:commit()
        local sum = 0
        for i = 1, 20 do
            local _, n = ngx.thread.wait(waiters[i])
            sum = sum + n
        end
        ngx.say(sum, " ", db:query("select count(*) as n from t")[1].n)

        db:begin()
        local other = open{ busy_timeout = 30 }
        ngx.say(other:query("insert into t values (1)"))
        ngx.say(other:query("select count(*) as n from t")[1].n)
        db:rollback()
        ngx.say(other:query("insert into t values (1)").affected_rows)

        -- One connection, two users.
        local busy = ngx.thread.spawn(function() return other:query(endless) end)
        ngx.say(other:query("select 1"))
        ngx.say(other:set_keepalive())
        ngx.say(ngx.thread.wait(busy))
    }
}
--- request
GET /t
--- timeout: 20
--- response_body
niltimeout957014
true 1
20 22
nildatabase is locked555P03
22
1
nilconnection busy21HY000
nilconnection busy
truenilinterrupted957014

=== TEST 5: a client that leaves takes its query along
--- http_config eval: $::Db
--- config
location /endless {
    lua_check_client_abort on;
    content_by_lua_block {
        open():query(endless)
    }
}
location /t {
    content_by_lua_block {
        for _ = 1, 6 do
            local sock = ngx.socket.tcp()
            sock:connect("127.0.0.1", ngx.var.server_port)
            sock:send("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            ngx.sleep(0.02)
            sock:close()
        end
        -- All threads are free again, or this would wait.
        local db = open()
        db:set_timeout(3000)
        ngx.say(db:query("select 1 as a")[1].a)
    }
}
--- request
GET /t
--- timeout: 10
--- response_body
1
