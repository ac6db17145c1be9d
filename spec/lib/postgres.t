# `resty.postgres`: queries both ways, prepared statements, pipelines, copying, notifications, logins, misbehaving servers.
use Test::Nginx::Socket 'no_plan';
use MockServer;

sub message { my ($kind, $data) = @_; $kind . pack('N', 4 + length $data) . $data }
sub auth { message('R', pack('N', $_[0]) . ($_[1] // '')) }
sub failure { message('E', join '', "SERROR\0", "C$_[0]\0", "M$_[1]\0", "\0") }
our $ready = message('Z', 'I');
our $columns = message('T', pack('n', 1) . "a\0" . pack('NnNnNn', 0, 0, 25, -1, -1, 0));
sub get {
    my ($client, $skip) = @_;
    my ($head, $data) = ('', '');
    read($client, $head, 4 + $skip) == 4 + $skip or die;
    read $client, $data, unpack('N', substr $head, $skip) - 4;
    return $data;
}

# The user's name says how it logs in, the query what is answered.
mock(POSTGRES_MOCK => sub {
    my $client = shift;
    my $start = get($client, 0);
    my ($user) = $start =~ /user\0([^\0]*)/;
    my $say = sub { print $client @_ };
    my %ways = (
        kerberos => sub { $say->(auth(7)) },
        scramplus => sub { $say->(auth(10, "SCRAM-SHA-256-PLUS\0\0")) },
        both => sub {
            $say->(auth(10, "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"));
            $say->(failure('08P01', get($client, 1) =~ /^(SCRAM-SHA-256)\0....(\w,,)/s ? "$1 $2" : 'neither'));
        },
        nonce => sub { $say->(auth(10, "SCRAM-SHA-256\0\0")); get($client, 1); $say->(auth(11, 'r=other,s=YQ==,i=4096')) },
        rounds => sub {
            $say->(auth(10, "SCRAM-SHA-256\0\0"));
            my ($nonce) = get($client, 1) =~ /r=(\S+)/;
            $say->(auth(11, "r=${nonce}x,s=YQ==,i=100"));
        },
        impostor => sub {
            $say->(auth(10, "SCRAM-SHA-256\0\0"));
            my ($nonce) = get($client, 1) =~ /r=(\S+)/;
            $say->(auth(11, "r=${nonce}x,s=YQ==,i=4096"));
            get($client, 1);
            $say->(auth(12, 'v=AAAA'), auth(0), $ready);
        },
        short => sub { $say->(message('R', "\0\0")) },
        http => sub { $say->("HTTP/1.1 400 Bad Request\r\n\r\n") },
        half => sub { $say->(substr auth(0), 0, 7) },
        silent => sub { sleep 1 },
        full => sub { $say->(failure('53300', 'too many clients')) },
    );
    return $ways{$user}->() if $ways{$user};
    $say->(auth(0), message('S', "server_version\0mock\0"), message('K', 'keykeyke'), $ready);
    my $query = get($client, 1);
    my %answers = (
        cut => sub { $say->($columns, substr message('D', "\0\1\0\0\0\5hello"), 0, 9) },
        lie => sub { $say->($columns, message('D', "\0\1\0\0\0\x50hello")) },
        count => sub { $say->($columns, message('D', "\0\7")) },
        columns => sub { $say->(message('T', "\0\5a\0")) },
        rowfirst => sub { $say->(message('D', "\0\0")) },
        length => sub { $say->("D\0\0\0\1") },
        huge => sub { $say->("D\x7f\xff\xff\xff") },
        strange => sub { $say->(message('?', '')) },
        late => sub { },
        fatal => sub { $say->(failure('57P01', 'terminating connection')) },
        extra => sub { $say->($columns, message('C', "SELECT 0\0"), $ready, $ready) },
    );
    $query =~ s/\0//;
    $answers{$query}->();
    sleep 1 unless $query eq 'cut' or $query eq 'fatal';
});
mock(POSTGRES_INJECTED => sub { get($_[0], 0); print { $_[0] } 'S' . auth(0) . $ready; sleep 1 });
mock(POSTGRES_NOSSL => sub { get($_[0], 0); print { $_[0] } 'N'; sleep 1 });

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => <<'_CONF_');
    lua_socket_log_errors off;
    lua_ssl_trusted_certificate $TEST_NGINX_POSTGRES_CA;
    init_by_lua_block {
        postgres = require "resty.postgres"
        function options(more)
            local all = {
                host = "127.0.0.1",
                port = $TEST_NGINX_POSTGRES_PORT,
                database = "ngx_test",
                user = "ngx_test",
                password = "ngx_test",
            }
            for name, value in pairs(more or {}) do all[name] = value or nil end
            return all
        end
        function connect(more)
            local db = postgres:new()
            db:set_timeout(3000)
            assert(db:connect(options(more)))
            return db
        end
        function show(value)
            if value == ngx.null then return "null" end
            if type(value) ~= "table" then return tostring(value) end
            local out = {}
            for i, inner in ipairs(value) do out[i] = show(inner) end
            local names = {}
            for name in pairs(value) do
                if type(name) == "string" and name ~= "columns" then names[#names + 1] = name end
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

=== TEST 1: queries, and the types of what they give
--- config
location /t {
    content_by_lua_block {
        local db = connect()
        say(db:server_version():match("^%d+") ~= nil, db:transaction_status())
        say(db:query("CREATE TEMP TABLE t (id serial, name text, data jsonb)"))
        say(db:query("INSERT INTO t (name) VALUES ('Bob'), (NULL) RETURNING id, name"))
        say(db:query("UPDATE t SET name = 'x' WHERE id = 1"))
        say(db:query("SELECT * FROM t WHERE false"))
        say(db:query("SELECT nope"))
        say(db:query("SELECT 1 AS a; SELECT 2 AS b"))
        say(db:query("SELECT 1; SELECT nope"))
        say(db:query(""))
        say(db:query("SELECT true AS b, 5::int8 AS i, 9223372036854775807 AS big, 0.1::float4 AS f, 1.5 AS n, "
            .. "12345678901234567890.12 AS nn, 'NaN'::float8 AS nan, '-Infinity'::float8 AS inf, '\\x00ff5c'::bytea = '\\x00ff5c' AS y"))
        say(db:query("SELECT '{1,NULL,3}'::int[] AS a, '{{a,\"b,c\"},{\"d\\\"\\\\\",NULL}}'::text[] AS b, '[0:1]={t,f}'::bool[] AS c, "
            .. "'{}'::text[] AS d, ARRAY['NULL', 'x y'] AS e"))
        local row = db:query("SELECT '\\x00ff27'::bytea AS y")[1]
        say(#row.y, row.y:byte(1, 3))
        say(db:query("a\0b"))
        say(db:query("SELECT 'now'::date = current_date AS today")[1].today)
        say(db:close(), db:close())
    }
}
--- response_body
true I
{command=CREATE} 1
{{id=1 name=Bob} {id=2 name=null} affected_rows=2 command=INSERT} 1
{affected_rows=1 command=UPDATE} 1
{affected_rows=0 command=SELECT} 1
nil ERROR: column "nope" does not exist (8) {code=42703 message=column "nope" does not exist position=8 severity=ERROR}
{{{a=1} affected_rows=1 command=SELECT} {{b=2} affected_rows=1 command=SELECT}} 2
nil ERROR: column "nope" does not exist (18) {code=42703 message=column "nope" does not exist position=18 severity=ERROR}
{} 0
{{b=true big=9223372036854775807 f=0.1 i=5 inf=-inf n=1.5 nan=nan nn=12345678901234567890.12 y=true} affected_rows=1 command=SELECT} 1
{{a={1 null 3} b={{a b,c} {d"\ null}} c={true false} d={} e={NULL x y}} affected_rows=1 command=SELECT} 1
3 0 255 39
nil invalid null byte in query
true
1 nil closed

=== TEST 2: parameters
--- config
location /t {
    content_by_lua_block {
        local db = connect()
        local function one(...)
            local rows, err = db:query(...)
            if rows then say(rows[1]) else say(rows, err) end
        end
        one("SELECT $1::text AS a, $2::int + 1 AS b, $3::bool AS c, $4::text AS d, $5::text AS e", "it's \\ \"", 41, true, nil, ngx.null)
        one("SELECT $1::float8 AS a, $2::numeric AS b, $3::float8 AS c, $4::int8 AS d", 0.1, 1e20, -1 / 0, 9007199254740993LL)
        one("SELECT $1::text[] AS a, $2::int[][] AS b, $3::bool[] AS c", { "a\"b", "NULL", ngx.null, "c\\d" }, { { 1, 2 }, { 3, 4 } }, { true })
        one("SELECT encode($1, 'hex') AS a, substr($2, $3, $4) AS b", postgres.bytea("\0\255"), "abcdef", 2, 3)
        one("SELECT $1::int", "x")
        one("SELECT $1::int")
        one("SELECT 1", 2)
        one("SELECT 1; SELECT $1::int", 2)
        say(db:query("SELECT $1::int", function() end))
        say(db:query(5))
        say(db:escape_literal("it's \\"), db:escape_literal(1.5), db:escape_literal(true), db:escape_literal(ngx.null),
            db:escape_identifier("a\"b"), db:escape_literal(0 / 0))
        say(db:query("SELECT " .. db:escape_literal("it's \\") .. " AS x")[1])
        say(db:set_keepalive())
    }
}
--- response_body_like
^\{a=it's \\ " b=42 c=true d=null e=null\}
\{a=0.1 b=100000000000000000000 c=-inf d=9007199254740993\}
\{a=\{a"b NULL null c\\d\} b=\{\{1 2\} \{3 4\}\} c=\{true\}\}
\{a=00ff b=bcd\}
nil ERROR: invalid input syntax for type integer: "x"
nil ERROR: there is no parameter \$1 .*
nil ERROR: bind message supplies 1 parameters, but prepared statement "" requires 0
nil ERROR: cannot insert multiple commands into a prepared statement
nil parameter 1: cannot send a value of type function
nil statement must be a string
 E'it''s \\\\' 1.5 TRUE NULL "a""b" '-?NaN'::float8
\{x=it's \\\}
1

=== TEST 3: prepared statements stay with the connection
--- config
location /t {
    content_by_lua_block {
        local db = connect({ pool = "three" })
        local function prepared()
            return db:query("SELECT count(*) AS n FROM pg_prepared_statements")[1].n
        end
        for i = 1, 3 do say(db:execute("SELECT $1::int AS n", i)[1], prepared()) end
        say(db:set_keepalive())
        db = connect({ pool = "three" })
        say(db:get_reused_times(), db:execute("SELECT $1::int AS n", 4)[1], prepared())
        local stmt = db:prepare("SELECT $1::text AS t")
        say(stmt:execute("x")[1], prepared(), stmt:close(), prepared())
        say(stmt:execute("y")[1])
        db:query("CREATE TEMP TABLE t3 (a int)")
        say(db:execute("INSERT INTO t3 VALUES ($1), ($2)", 1, 2))
        say(db:execute("SELECT * FROM t3 WHERE a = $1", 2))
        say(db:query("ALTER TABLE t3 ALTER a TYPE text, ADD b int DEFAULT 7"))
        say(db:execute("SELECT * FROM t3 WHERE a = $1", 2))
        say(db:query("DEALLOCATE ALL"))
        say(db:execute("SELECT $1::int AS n", 5)[1])
        say(db:prepare("SELECT nope"))
        say(db:execute("SELECT 1/$1::int", 0))
        for i = 1, 120 do db:execute("SELECT " .. i .. " AS n") end
        say(prepared())
    }
}
--- response_body_like
^\{n=1\} 1
\{n=2\} 1
\{n=3\} 1
1
1 \{n=4\} 1
\{t=x\} 2 true 1
\{t=y\}
\{affected_rows=2 command=INSERT\} 1
\{\{a=2\} affected_rows=1 command=SELECT\} 1
\{command=ALTER\} 1
\{\{a=2 b=7\} affected_rows=1 command=SELECT\} 1
\{command=DEALLOCATE\} 1
\{n=5\}
nil ERROR: column "nope" .*
nil ERROR: division by zero .*
100

=== TEST 4: pipelines, copying
--- config
location /t {
    content_by_lua_block {
        local db = connect()
        say(db:commit_pipeline())
        db:init_pipeline()
        db:query("CREATE TEMP TABLE t4 (a int, b text)")
        db:query("INSERT INTO t4 VALUES ($1, $2)", 1, "x")
        db:query("SELECT nope")
        db:query("SELECT * FROM t4")
        say(db:commit_pipeline())
        say(db:copy_in("COPY t4 FROM STDIN", "2\ty\n3\t\\N\n"))
        say(db:copy_in("COPY t4 FROM STDIN", { "4\tz\n", "5\tw\n" }))
        local n = 5
        say(db:copy_in("COPY t4 FROM STDIN", function() n = n + 1 if n < 8 then return n .. "\tf\n" end end))
        say(db:copy_in("COPY t4 FROM STDIN", function() return nil, "gave up" end))
        say(db:copy_in("COPY t4 FROM STDIN", "bad\n"))
        say(db:copy_in("COPY nope FROM STDIN", ""))
        say(db:copy_in("SELECT 1", ""))
        say(db:query("COPY t4 FROM STDIN"))
        local pieces, count = db:copy_out("COPY t4 TO STDOUT")
        say(#pieces, count, pieces[3])
        say(db:copy_out("COPY t4 TO STDOUT", function() end))
        say(db:query("COPY t4 TO STDOUT"))
        say(db:copy_out("COPY nope TO STDOUT"))
        say(db:query("SELECT count(*) FROM t4")[1], db:set_keepalive())
    }
}
--- response_body_like
^nil no pipeline
\{\{command=CREATE\} \{affected_rows=1 command=INSERT\} \{false ERROR: column "nope" does not exist \(8\) \{code=42703.*\}\} \{\{a=1 b=x\} affected_rows=1 command=SELECT\}\}
2
2
2
nil ERROR: COPY from stdin failed: gave up .*
nil ERROR: invalid input syntax for type integer: "bad" .*
nil ERROR: relation "nope" does not exist .*
nil statement is no COPY FROM STDIN
nil ERROR: COPY from stdin failed: COPY needs copy_in .*
7 7 3	\\N

true 7
\{affected_rows=7 command=COPY\} 1
nil ERROR: relation "nope" does not exist .*
\{count=7\} 1

=== TEST 5: notices, notifications, cancelling
--- config
location /t {
    content_by_lua_block {
        local db, other = connect(), connect({ pool = "other" })
        say(db:query("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$"), db.notices)
        db:query("LISTEN p5")
        other:query("NOTIFY p5, 'first'")
        other:query("SELECT pg_notify($1, $2)", "p5", "second")
        say(db:wait_for_notification().payload, db:wait_for_notification().channel)
        db:set_timeout(50)
        say(db:wait_for_notification())
        db:set_timeout(3000)
        db:query("NOTIFY p5, 'own'")
        say(db:notifications()[1].payload, #db:notifications())
        say(db:set_keepalive())
        db = connect()
        say(db:get_reused_times())
        local thread = ngx.thread.spawn(db.query, db, "SELECT pg_sleep(5)")
        ngx.sleep(0.05)
        say(db:query("SELECT 1"))
        say(db:set_keepalive())
        say(db:cancel())
        say(ngx.thread.wait(thread))
        say(db:query("SELECT 1 AS n")[1])
    }
}
--- response_body_like
^\{command=DO\} \{NOTICE: one WARNING: two\}
first p5
nil timeout
own 0
nil connection is listening
0
nil connection is busy
nil connection is busy
true
true nil ERROR: canceling statement due to user request .*
\{n=1\}

=== TEST 6: ways to log in
--- config
location /t {
    content_by_lua_block {
        local function try(more)
            local db = postgres:new()
            db:set_timeout(2000)
            local ok, err = db:connect(options(more))
            say(ok, err)
            if ok then
                say(db:query("SELECT current_user::text AS u, (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()) AS tls, "
                    .. "current_setting('application_name') AS app")[1], db:set_keepalive())
            end
        end
        try()
        try({ host = false, path = "$TEST_NGINX_POSTGRES_SOCKET", user = "ngx_scram" })
        try({ host = false, path = "$TEST_NGINX_POSTGRES_SOCKET", application_name = "spec", pool = "app" })
        try({ user = "ngx_md5" })
        try({ user = "ngx_plain" })
        try({ user = "ngx_trust", password = false })
        try({ user = "ngx_tls", ssl = true, ssl_verify = true, server_name = "localhost" })
        try({ user = "ngx_tls", ssl = true, ssl_verify = true, server_name = "elsewhere", pool = "elsewhere" })
        try({ user = "ngx_tls", ssl = true, channel_binding = "require" })
        try({ user = "ngx_tls", ssl = true, channel_binding = "disable", pool = "unbound" })
        try({ channel_binding = "require" })
        try({ user = "ngx_md5", ssl = true, channel_binding = "require" })
        try({ channel_binding = "perhaps" })
        try({ user = "ngx_tls" })
        for _, user in ipairs { "ngx_test", "ngx_md5", "ngx_plain" } do
            try({ user = user, password = "wrong", pool = "wrong" })
            try({ user = user, password = false, pool = "none" })
        end
        try({ database = "nowhere" })
        try({ user = false })
        try({ port = $TEST_NGINX_RAND_PORT_1 })
        try({ host = false, path = "/nonexistent" })
    }
}
--- response_body_like
^true
\{app=moonrest tls=false u=ngx_test\} 1
true
\{app=moonrest tls=false u=ngx_scram\} 1
true
\{app=spec tls=false u=ngx_test\} 1
true
\{app=moonrest tls=false u=ngx_md5\} 1
true
\{app=moonrest tls=false u=ngx_plain\} 1
true
\{app=moonrest tls=false u=ngx_trust\} 1
true
\{app=moonrest tls=true u=ngx_tls\} 1
nil .*
true
\{app=moonrest tls=true u=ngx_tls\} 1
true
\{app=moonrest tls=true u=ngx_tls\} 1
nil channel binding required, but not offered by server or connection
nil channel binding required, but server authenticated client without channel binding
nil invalid channel_binding value: "perhaps"
nil FATAL: .*no encryption
nil FATAL: password authentication failed for user "ngx_test"
nil the database is requesting a password for authentication but you did not provide a password
nil FATAL: password authentication failed for user "ngx_md5"
nil the database is requesting a password for authentication but you did not provide a password
nil FATAL: password authentication failed for user "ngx_plain"
nil the database is requesting a password for authentication but you did not provide a password
nil FATAL: database "nowhere" does not exist
nil missing user for connect
nil failed to connect: connection refused
nil failed to connect: no such file or directory

=== TEST 7: nobody inherits a transaction, and no pool hands out what was closed
--- config
location /t {
    content_by_lua_block {
        local db, other = connect(), connect({ pool = "other" })
        db:query("BEGIN")
        say(db:transaction_status(), db:set_keepalive())
        db = connect()
        say(db:get_reused_times())
        db:query("BEGIN") db:query("SELECT nope")
        say(db:transaction_status())
        db:query("ROLLBACK")
        local function pid() return db:query("SELECT pg_backend_pid() AS pid")[1].pid end
        local kill = "SELECT pg_terminate_backend($1) FROM pg_stat_activity LIMIT 1"
        local id = pid()
        say(db:set_keepalive())
        other:query(kill, id)
        ngx.sleep(0.1)
        db = connect()
        say(db:get_reused_times())
        id = pid()
        local thread = ngx.thread.spawn(db.query, db, "SELECT pg_sleep(5)")
        ngx.sleep(0.05)
        other:query(kill, id)
        say(select(2, ngx.thread.wait(thread)))
        say(db:query("SELECT 1"))
        say(db:set_keepalive())
        db = connect()
        db:set_timeout(50)
        say(db:query("SELECT pg_sleep(1)"))
        say(db:set_keepalive())
        local small = { pool = "small", pool_size = 1, backlog = 0 }
        db = connect(small)
        say(postgres:new():connect(options(small)))
        -- Given up in the middle.
        db = connect({ pool = "killed" })
        thread = ngx.thread.spawn(db.query, db, "SELECT pg_sleep(5)")
        ngx.sleep(0.05)
        ngx.thread.kill(thread)
        say(db:set_keepalive())
        db = connect({ pool = "killed" })
        say(db:get_reused_times())
    }
}
--- response_body_like
^T nil connection in transaction
0
E
1
0
nil (FATAL: terminating connection due to administrator command|receive_message: failed to get type: (closed|connection reset by peer))
nil closed
nil closed
nil receive_message: failed to get type: timeout
nil closed
nil failed to connect: too many waiting connect operations
nil connection is busy
0

=== TEST 8: servers that do not speak the protocol
--- config
location /t {
    content_by_lua_block {
        for _, user in ipairs { "kerberos", "scramplus", "both", "nonce", "rounds", "impostor", "short", "http", "half", "silent", "full" } do
            local db = postgres:new()
            db:set_timeout(200)
            local ok, err, details = db:connect(options({ port = $TEST_NGINX_POSTGRES_MOCK_PORT, user = user }))
            say(user, ok, err, details and details.code, db:set_keepalive())
        end
        for _, what in ipairs { "cut", "lie", "count", "columns", "rowfirst", "length", "huge", "strange", "late", "fatal", "extra" } do
            local db = postgres:new()
            db:set_timeout(200)
            assert(db:connect(options({ port = $TEST_NGINX_POSTGRES_MOCK_PORT, user = "x", pool = what })))
            say(what, db:query(what))
            say(db:set_keepalive())
        end
        local db = postgres:new()
        say(db:connect(options({ port = $TEST_NGINX_POSTGRES_NOSSL_PORT, ssl = true, ssl_required = true })))
        say(db:connect(options({ port = $TEST_NGINX_POSTGRES_INJECTED_PORT, ssl = true })))
    }
}
--- response_body
kerberos nil don't know how to auth: 7 nil nil closed
scramplus nil unsupported SCRAM mechanism name: SCRAM-SHA-256-PLUS nil nil closed
both nil ERROR: SCRAM-SHA-256 n,, 08P01 nil closed
nonce nil malformed server message (nonce) nil nil closed
rounds nil the iteration-count sent by the server is less than 4096 nil nil closed
impostor nil authentication exchange unsuccessful nil nil closed
short nil malformed message nil nil closed
http nil receive_message: bad message length nil nil closed
half nil receive_message: failed to get message: closed nil nil closed
silent nil receive_message: failed to get type: timeout nil nil closed
full nil ERROR: too many clients 53300 nil closed
cut nil receive_message: failed to get message: closed
nil closed
lie nil malformed message
nil closed
count nil malformed message
nil closed
columns nil malformed message
nil closed
rowfirst nil malformed message
nil closed
length nil receive_message: bad message length
nil closed
huge nil receive_message: bad message length
nil closed
strange nil unexpected message: 63
nil closed
late nil receive_message: failed to get type: timeout
nil closed
fatal nil receive_message: failed to get type: closed
nil closed
extra {affected_rows=0 command=SELECT} 1
nil unread data in buffer
nil the server does not support SSL connections
nil unread data in buffer

=== TEST 9: the form of a result does not depend on its size
--- config
location /t {
    content_by_lua_block {
        local db = connect()
        for _, size in ipairs { 0, 1, 100000, 262144, 1000000 } do
            local rows = db:query("SELECT repeat('y', " .. size .. ") AS text, NULL AS none, true AS flag, 1.25::float8 AS n")
            ngx.print(rows[1].text == string.rep("y", size), " ", show(rows[1].none), " ", rows[1].flag, " ", rows[1].n, "; ")
        end
        ngx.say()
        for _, count in ipairs { 0, 1, 1000, 50000 } do
            local rows = db:query("SELECT g AS n FROM generate_series(1, " .. count .. ") g")
            ngx.print(#rows, " ", count == 0 and "none" or rows[count].n, " ", rows.affected_rows, " ", rows.columns[1].name, "; ")
        end
        ngx.say()
        say(db:query("SELECT 9007199254740993::int8 AS big, 42::int8 AS small, 0.1234567890123456789::numeric AS long, 1.5::numeric AS short"))
        say(db:query("SELECT 'NaN'::float8 AS nan, '-Infinity'::float8 AS inf, '1e300'::float8 AS e, ''::text AS empty"))
        say(db:query("SELECT 1 AS a, 2 AS a, array[1,2] AS list"))
        say(db:query("SELECT 1 AS a; INSERT INTO nope VALUES (1)"))
        say(db:query(""))
        say(db:set_keepalive())
    }
}
--- response_body
true null true 1.25; true null true 1.25; true null true 1.25; true null true 1.25; true null true 1.25; 
0 none 0 n; 1 1 1 n; 1000 1000 1000 n; 50000 50000 50000 n; 
{{big=9007199254740993 long=0.1234567890123456789 short=1.5 small=42} affected_rows=1 command=SELECT} 1
{{e=1e+300 empty= inf=-inf nan=nan} affected_rows=1 command=SELECT} 1
{{a=2 list={1 2}} affected_rows=1 command=SELECT} 1
nil ERROR: relation "nope" does not exist (28) {code=42P01 message=relation "nope" does not exist position=28 severity=ERROR}
{} 0
1
