# `resty.mysql`: queries, several results, statements with parameters, ways to log in, and misbehaving servers.
use Test::Nginx::Socket 'no_plan';
use MockServer;

our $KEY = <<'_KEY_';
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAzObDJ2M9U4vBzTSZY0kH
0kVG+kdtirVawTz+sss/541zSLrfsjk6oRwvN/ySZPD2KKS/Vi7XrMgDnABI751e
nusnK7yLmt0S6A3dcgINYrnvJHmv9b5x6W5eQ1NXPc1AFWcdLu5Iud306uAP+V0c
4NQDXc+Ac+4pT4JZF/8MuqCvXhap2WCGFzxpPj6KfINk/mTc0y7/6eScESZVKUsP
phRrqV/thyHRz9Q9/4sBPGQ2j4djcgj/PmDXVpSgdOZ2/sEQupqk5lcUa4kH7YIg
tH9gsAHuPS/RHP9apz1MK+q2DEFxPCuu8HsYSrYMuWPdou4dQKT7xojw+BdFTSey
/QIDAQAB
-----END PUBLIC KEY-----
_KEY_

sub packet { my ($no, $data) = @_; substr(pack('V', length $data), 0, 3) . chr($no) . $data }
sub column { my ($name, $type) = @_; join('', "\3def", "\0" x 3, chr(length $name), $name, "\0", "\x0c\x21\0\xff\0\0\0", chr $type, "\0\0\0\0\0") }
sub ok { "\0\0\0\2\0\0\0" }
sub eof_packet { "\xfe\0\0\2\0" }
sub failure { my ($code, $text) = @_; "\xff" . pack('v', $code) . "#HY000$text" }
sub greeting {
    my $plugin = shift;
    "\x0a5.7.99-mock\0" . "\1\0\0\0" . 'abcdefgh' . "\0" . "\xff\xff\x21\2\0\xff\x81\x15" . "\0" x 10 . 'ijklmnopqrst' . "\0$plugin\0";
}
sub get {
    my $client = shift;
    my ($head, $data) = ('', '');
    read($client, $head, 4) == 4 or die;
    read $client, $data, unpack('V', substr($head, 0, 3) . "\0");
    return ($data, ord substr $head, 3);
}

# The user's name says how it logs in, the text of the query what is answered.
mock(MYSQL_MOCK => sub {
    my $client = shift;
    print $client packet(0, greeting('caching_sha2_password'));
    my ($response, $no) = get($client);
    my ($user) = substr($response, 32) =~ /^([^\0]*)/;
    my $say = sub { print $client packet(++$no, $_[0]) };
    my $switch = sub { $say->("\xfe$_[0]\0$_[1]\0"); my $data; ($data, $no) = get($client); $data };
    my %ways = (
        fast => sub { $say->("\1\3"); $say->(ok) },
        rsa => sub {
            $say->("\1\4");
            my $data;
            ($data, $no) = get($client);
            return $say->(failure(1, 'no key asked for')) if $data ne "\2";
            $say->("\1$main::KEY");
            ($data, $no) = get($client);
            $say->(length $data == 256 ? ok : failure(2, 'not encrypted'));
        },
        badkey => sub { $say->("\1\4"); (undef, $no) = get($client); $say->("\1-----BEGIN NOTHING"); sleep 1 },
        clear => sub { $switch->('mysql_clear_password', ''); $say->(ok) },
        unknown => sub { $switch->('dialog', '') },
        twice => sub { $switch->('mysql_native_password', 'x' x 20); $switch->('mysql_native_password', 'x' x 20) },
        old => sub { $say->("\xfe") },
        odd => sub { $say->("\1nonsense"); sleep 1 },
        denied => sub { $say->(failure(1045, 'Access denied')) },
        silent => sub { sleep 1 },
        gone => sub { die },
    );
    ($ways{$user} // sub { $say->(ok) })->();
    my ($query) = get($client);
    $no = 0;
    my %answers = (
        cut => sub { $say->("\1"); print $client "\x40\0\0\2\3def" },
        row => sub { $say->("\1"); $say->(column('a', 253)); $say->(eof_packet); $say->("\x20short"); sleep 1 },
        column => sub { $say->("\1"); $say->("\3def\xfc\xff\xffdb"); sleep 1 },
        count => sub { $say->("\xfe\1\1\1\1\1\1\1\1"); sleep 1 },
        noeof => sub { $say->("\1"); $say->(column('a', 253)); $say->("\1x"); sleep 1 },
        big => sub { print $client "\0\0\x20\1"; sleep 1 },
        empty => sub { print $client "\0\0\0\1"; sleep 1 },
        infile => sub { $say->("\xfb/etc/passwd"); sleep 1 },
        http => sub { print $client "HTTP/1.1 400 Bad Request\r\n\r\n" },
        oops => sub { $say->("\1"); $say->(column('a', 253)); $say->(eof_packet); $say->(failure(1317, 'interrupted')); sleep 1 },
        late => sub { sleep 1 },
    );
    $answers{substr $query, 1}->();
});
mock(MYSQL_CUT => sub { print { $_[0] } substr packet(0, greeting('x')), 0, 30 });
mock(MYSQL_OLD => sub { print { $_[0] } packet(0, "\x09old\0") });
mock(MYSQL_SHORT => sub { print { $_[0] } packet(0, "\x0a5.5\0abc") });
mock(MYSQL_BUSY => sub { print { $_[0] } packet(0, "\xff\x10\4Too many connections") });
mock(MYSQL_INJECTED => sub { print { $_[0] } packet(0, greeting('mysql_native_password')) . packet(2, ok); sleep 1 });
mock(MYSQL_SILENT => sub { sleep 1 });

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => <<'_CONF_');
    lua_socket_log_errors off;
    lua_ssl_trusted_certificate $TEST_NGINX_MYSQL_CA;
    init_by_lua_block {
        mysql = require "resty.mysql"
        function options(more)
            local all = {
                host = "127.0.0.1",
                port = $TEST_NGINX_MYSQL_PORT,
                database = "ngx_test",
                user = "ngx_test",
                password = "ngx_test",
            }
            for name, value in pairs(more or {}) do all[name] = value or nil end
            return all
        end
        function connect(more)
            local db = mysql:new()
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
                if type(name) == "string" and name ~= "server_status" then names[#names + 1] = name end
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
        say(db:server_ver():match("MariaDB"))
        say(db:query("DROP TABLE IF EXISTS my1"))
        say(db:query("CREATE TABLE my1 (id SERIAL PRIMARY KEY, name VARCHAR(20), n INT, d DOUBLE, e DECIMAL(10,2), t DATETIME)"))
        say(db:query("INSERT INTO my1 (name, n, d, e, t) VALUES ('Bob', -7, 0.5, 12.50, '2020-02-29 01:02:03'), (NULL, NULL, NULL, NULL, NULL)"))
        say(db:query("SELECT * FROM my1 ORDER BY id"))
        say(db:query("SELECT * FROM my1 WHERE 0"))
        say(db:query("UPDATE my1 SET n = 1"))
        say(db:query("SELECT nonsense"))
        say(db:query("SELECT 9223372036854775807 AS big, 18446744073709551615 AS bigger, 1e300 AS f, '' AS empty"))
        db:set_compact_arrays(true)
        say(db:query("SELECT id, name FROM my1 ORDER BY id", 2))
        say(db:query("DROP TABLE my1"))
        say(db:close(), db:close())
    }
}
--- response_body
MariaDB
{affected_rows=0 insert_id=0 warning_count=1}
{affected_rows=0 insert_id=0 warning_count=0}
{affected_rows=2 insert_id=1 message=Records: 2  Duplicates: 0  Warnings: 0 warning_count=0}
{{d=0.5 e=12.5 id=1 n=-7 name=Bob t=2020-02-29 01:02:03} {d=null e=null id=2 n=null name=null t=null}}
{}
{affected_rows=2 insert_id=0 message=Rows matched: 2  Changed: 2  Warnings: 0 warning_count=0}
nil Unknown column 'nonsense' in 'SELECT' 1054 42S22
{{big=9223372036854775807 bigger=18446744073709551615 empty= f=1e+300}}
{{1 Bob} {2 null}}
{affected_rows=0 insert_id=0 warning_count=0}
1 nil closed

=== TEST 2: several results, and calls out of turn
--- config
location /t {
    content_by_lua_block {
        local db = connect()
        say(db:query("SELECT 1 AS a; SELECT 2 AS b; SELECT nope; SELECT 3"))
        say(db:query("SELECT 1"))
        say(db:set_keepalive())
        say(db:read_result())
        say(db:read_result())
        say(db:read_result())
        say(db:send_query({ "SELECT ", 5, " AS c" }))
        say(db:send_query("SELECT 6"))
        say(db:read_result())
        say(db:set_keepalive())
        say(db:set_keepalive())
        say(db:query("SELECT 1"))
    }
}
--- response_body
{{a=1}} again
nil failed to send query: cannot send query in the current context: 2
nil cannot be reused in the current connection state: 2
{{b=2}} again
nil Unknown column 'nope' in 'SELECT' 1054 42S22
nil cannot read result in the current context: 1
18
nil cannot send query in the current context: 2
{{c=5}}
1
nil cannot be reused in the current connection state: nil
nil failed to send query: cannot send query in the current context: nil

=== TEST 3: statements with parameters
--- config
location /t {
    content_by_lua_block {
        local ffi = require "ffi"
        local db = connect()
        say(db:query("CREATE TEMPORARY TABLE my3 (a TINYINT, b SMALLINT UNSIGNED, c MEDIUMINT, d INT, e BIGINT, f BIGINT UNSIGNED, "
            .. "g FLOAT, h DOUBLE, i DECIMAL(30,10), j DATE, k DATETIME(3), l TIME, m YEAR, n BLOB, o JSON, p BIT(3), q TIMESTAMP NULL)"))
        local insert = db:prepare("INSERT INTO my3 VALUES (?" .. string.rep(", ?", 16) .. ")")
        say(insert.param_count)
        say(insert:execute(-128, 65535, -8388608, -2147483648, ffi.new("int64_t", -2) ^ 62, 0xffffffffffffffffULL,
            0.1, -1.5e300, "12345678901234567890.5", "2020-02-29", "2020-02-29 23:59:58.125", "-838:59:59", 1999,
            "\0\1\255'", "{}", true, "1970-01-02 00:00:00"))
        local none = {}
        for i = 1, 17 do none[i] = ngx.null end
        say(insert:execute(unpack(none, 1, 17)))
        say(insert:execute(1))
        say(pcall(insert.execute, insert, unpack({ {} }, 1, 17)))
        local stmt = db:prepare("SELECT a, b, c, d, e, f, g, h, j, k, l, m, hex(n) AS n, o, q FROM my3 WHERE a <=> ?")
        say(stmt:execute(-128))
        say(stmt:execute(nil))
        say(stmt:execute(5))
        say(db:prepare("SELECT nope FROM"))
        local echo = db:prepare("SELECT ? AS s, ? AS n, ? AS d")
        local long = string.rep("x", 70000)
        local rows = echo:execute(long, 2 ^ 53, 0.1)
        say(rows[1].s == long, rows[1].n, rows[1].d)
        say(echo:close(), echo:close())
        say(echo:execute(1, 2, 3))
        say(db:query("SELECT 1 AS one"))
        say(db:set_keepalive())
        say(stmt:execute(1))
        db = connect()
        say(db:get_reused_times(), stmt:execute(1))
        say(db:query("SHOW SESSION STATUS LIKE 'Com_stmt_close'"))
    }
}
--- response_body_like
^\{affected_rows=0 insert_id=0 warning_count=0\}
17
\{affected_rows=1 insert_id=0 warning_count=0\}
\{affected_rows=1 insert_id=0 warning_count=0\}
nil expecting 17 parameters, but got 1
false bad parameter #1: string, number, boolean, nil or ngx.null expected, got table
\{\{a=-128 b=65535 c=-8388608 d=-2147483648 e=4611686018427387904 f=18446744073709551615 g=0.1 h=-1.5e\+300 j=2020-02-29 k=2020-02-29 23:59:58.125 l=-838:59:59 m=1999 n=0001FF27 o=\{\} q=1970-01-02 00:00:00\}\}
\{\{a=null b=null .* q=null\}\}
\{\}
nil You have an error in your SQL syntax.* 1064 42000
true 9.007199254741e\+15|9007199254740992 0.1
1 nil statement is closed
nil statement is closed
\{\{one=1\}\}
1
nil statement is closed
1 nil statement is closed
\{\{Value=3 Variable_name=Com_stmt_close\}\}

=== TEST 4: packets of more than 16 MB, and limits
--- config
location /t {
    content_by_lua_block {
        local db = connect({ max_packet_size = 64 * 1024 * 1024, pool = "large" })
        for _, size in ipairs { 16777215 - 30, 16777200, 16777214, 16777215, 16777216, 33554430, 35000000 } do
            local text = string.rep("x", size)
            local rows, err = db:query("SELECT '" .. text .. "' AS t, length('" .. text:sub(1, 10) .. "') AS n")
            if not rows then say(err) else ngx.print(rows[1].t == text, " ") end
            ngx.print(db:query("SELECT REPEAT('y', " .. size .. ") AS t")[1].t == string.rep("y", size), " ")
            collectgarbage()
        end
        ngx.say()
        say(db:set_keepalive())
        db = connect({ max_packet_size = 1000, pool = "small" })
        say(db:query("SELECT REPEAT('y', 2000)"))
        say(db:set_keepalive())
    }
}
--- timeout: 30
--- response_body
true true true true true true true true true true true true true true 
1
nil packet size too big: 2003
nil cannot be reused in the current connection state: 2

=== TEST 5: ways to log in
--- config
location /t {
    content_by_lua_block {
        local function try(more)
            local db = mysql:new()
            db:set_timeout(2000)
            local ok, err, code, state = db:connect(options(more))
            say(ok, err, code, state)
            if ok then
                local rows = db:query("SELECT substring_index(CURRENT_USER(), '@', 1) AS u, "
                    .. "(SELECT variable_value <> '' FROM information_schema.session_status WHERE variable_name = 'ssl_cipher') AS tls")
                say(rows, db:set_keepalive())
            end
        end
        try()
        try({ host = false, path = "$TEST_NGINX_MYSQL_SOCKET" })
        try({ ssl = true })
        try({ user = "ngx_tls", ssl = true })
        try({ user = "ngx_tls" })
        try({ user = "ngx_nopass", password = false })
        try({ user = "ngx_ed25519" })
        try({ user = "ngx_ed25519", password = "wrong", pool = "ed" })
        try({ password = "wrong", pool = "wrong" })
        try({ password = false, pool = "none" })
        try({ database = "nowhere" })
        try({ charset = "utf8mb4", pool = "utf8" })
        try({ charset = "martian" })
        try({ host = false })
        try({ port = $TEST_NGINX_RAND_PORT_1 })
    }
}
--- response_body
1
{{tls=0 u=ngx_test}} 1
1
{{tls=0 u=ngx_test}} 1
1
{{tls=1 u=ngx_test}} 1
1
{{tls=1 u=ngx_tls}} 1
nil Access denied for user 'ngx_tls'@'127.0.0.1' (using password: YES) 1045 28000
1
{{tls=0 u=ngx_nopass}} 1
1
{{tls=0 u=ngx_ed25519}} 1
nil Access denied for user 'ngx_ed25519'@'127.0.0.1' (using password: YES) 1045 28000
nil Access denied for user 'ngx_test'@'127.0.0.1' (using password: YES) 1045 28000
nil Access denied for user 'ngx_test'@'127.0.0.1' (using password: NO) 1045 28000
nil Unknown database 'nowhere' 1049 42000
1
{{tls=0 u=ngx_test}} 1
nil charset 'martian' is not supported
nil neither "host" nor "path" options are specified
nil failed to connect: connection refused

=== TEST 6: nobody inherits a transaction, and no pool hands out what was closed
--- config
location /t {
    content_by_lua_block {
        local db, other = connect(), connect({ pool = "other" })
        db:query("BEGIN")
        say(db:set_keepalive())
        db = connect()
        say(db:get_reused_times())
        db:query("BEGIN")
        db:query("COMMIT")
        local id = db:query("SELECT CONNECTION_ID() AS id")[1].id
        say(db:set_keepalive())
        other:query("KILL " .. id)
        ngx.sleep(0.05)
        db = connect()
        say(db:get_reused_times())
        id = db:query("SELECT CONNECTION_ID() AS id")[1].id
        local thread = ngx.thread.spawn(db.query, db, "SELECT SLEEP(5)")
        ngx.sleep(0.05)
        other:query("KILL " .. id)
        say(select(2, ngx.thread.wait(thread)))
        say(db:query("SELECT 1"))
        db = connect()
        db:set_timeout(50)
        say(db:query("SELECT SLEEP(1)"))
        say(db:set_keepalive())
        local small = { pool = "small", pool_size = 1, backlog = 0 }
        db = connect(small)
        say(mysql:new():connect(options(small)))
    }
}
--- response_body_like
^nil connection in transaction
0
1
0
nil failed to receive packet header: (closed|connection reset by peer)|nil Connection was killed 1927 70100
nil failed to send query: .*
nil failed to receive packet header: timeout
nil cannot be reused in the current connection state: 2
nil failed to connect: too many waiting connect operations

=== TEST 7: plugins that MariaDB has not
--- config
location /t {
    content_by_lua_block {
        for _, user in ipairs { "plain", "fast", "rsa", "badkey", "clear", "unknown", "twice", "old", "odd", "denied", "silent", "gone" } do
            local db = mysql:new()
            db:set_timeout(200)
            say(user, db:connect(options({ port = $TEST_NGINX_MYSQL_MOCK_PORT, user = user })))
        end
        local db = mysql:new()
        for _, port in ipairs { $TEST_NGINX_MYSQL_CUT_PORT, $TEST_NGINX_MYSQL_OLD_PORT, $TEST_NGINX_MYSQL_SHORT_PORT,
            $TEST_NGINX_MYSQL_BUSY_PORT, $TEST_NGINX_MYSQL_SILENT_PORT } do
            db:set_timeout(200)
            say(db:connect(options({ port = port })))
            say(db:set_keepalive())
        end
        say(db:connect(options({ port = $TEST_NGINX_MYSQL_INJECTED_PORT, ssl = true })))
    }
}
--- response_body
plain 1
fast 1
rsa 1
badkey nil encode password packet: bad public key
clear nil mysql_clear_password is only used over TLS
unknown nil unknown plugin: dialog
twice nil malformed packet
old nil unknown plugin: mysql_old_password
odd nil malformed packet
denied nil Access denied 1045 HY000
silent nil failed to receive the result packet: failed to receive packet header: timeout
gone nil failed to receive the result packet: failed to receive packet header: closed
nil failed to read packet content: closed
nil cannot be reused in the current connection state: nil
nil unsupported protocol version 9, version 10 or higher is required
nil cannot be reused in the current connection state: nil
nil bad handshake initialization packet: too short
nil cannot be reused in the current connection state: nil
nil Too many connections 1040
nil cannot be reused in the current connection state: nil
nil failed to receive packet header: timeout
nil cannot be reused in the current connection state: nil
nil failed to do ssl handshake: unread data in buffer

=== TEST 8: results that are cut, senseless or lie close the connection
--- config
location /t {
    content_by_lua_block {
        for _, what in ipairs { "cut", "row", "column", "count", "noeof", "big", "empty", "infile", "http", "late", "oops" } do
            local db = mysql:new()
            db:set_timeout(200)
            assert(db:connect(options({ port = $TEST_NGINX_MYSQL_MOCK_PORT, user = "x" })))
            say(what, db:query(what))
            say(db:set_keepalive())
        end
    }
}
--- response_body
cut nil failed to read packet content: closed
nil cannot be reused in the current connection state: 2
row nil malformed packet
nil cannot be reused in the current connection state: 2
column nil malformed packet
nil cannot be reused in the current connection state: 2
count nil malformed packet
nil cannot be reused in the current connection state: 2
noeof nil unexpected packet type 1 while eof packet is expected
nil cannot be reused in the current connection state: 2
big nil packet size too big: 2097152
nil cannot be reused in the current connection state: 2
empty nil empty packet
nil cannot be reused in the current connection state: 2
infile nil packet type LOCALINFILE not supported
nil cannot be reused in the current connection state: 2
http nil packet size too big: 5526600
nil cannot be reused in the current connection state: 2
late nil failed to receive packet header: timeout
nil cannot be reused in the current connection state: 2
oops nil interrupted 1317 HY000
1

=== TEST 9: a connection whose socket was closed says so
--- config
location /t {
    content_by_lua_block {
        local db = mysql:new()
        assert(db:connect(options()))
        db.sock:close()
        say(db:query("select 1"))
    }
}
--- response_body
nil failed to send query: closed
