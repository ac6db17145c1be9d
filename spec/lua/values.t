# Functions of plain values: escaping, digests, base64, the clock; ngx.worker, ngx.process, ngx.config, ngx.errlog.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: escaping
--- config
location /t {
    content_by_lua_block {
        ngx.say(ngx.escape_uri("a b+/?&=~!*'()"), " ", ngx.escape_uri("a b+/?", 0), " ", ngx.escape_uri("plain"))
        ngx.say(ngx.unescape_uri("a%20b+c%2"), " ", ngx.escape_uri(nil), ngx.escape_uri(7))
        ngx.say(ngx.quote_sql_str("it's \\ \n"))
        ngx.say((select(2, pcall(ngx.escape_uri, "a", 9))))
    }
}
--- request
GET /t
--- response_body_like chop
^a%20b%2B%2F%3F%26%3D~!\*'\(\) a%20b\+/%3F plain
a b c%2 7
'it\\'s \\\\ \\n'
.*"type" 9 out of range
$

=== TEST 2: digests
--- config
location /t {
    content_by_lua_block {
        ngx.say(ngx.md5("hello"), " ", #ngx.md5_bin("hello"))
        ngx.say(ngx.encode_base64(ngx.sha1_bin("hello")), " ", ngx.encode_base64(ngx.hmac_sha1("key", "text")))
        ngx.say(ngx.crc32_short("hello"), " ", ngx.crc32_long("hello"))
    }
}
--- request
GET /t
--- response_body
5d41402abc4b2a76b9719d911017c592 16
qvTGHdzF6KLavt4PO0gs2a6pQ00= Np4pWetJRQM4shJ0j3fY3tdIR7s=
907060870 907060870

=== TEST 3: base64
--- config
location /t {
    content_by_lua_block {
        ngx.say(ngx.encode_base64("hello"), " ", ngx.encode_base64("hello", true))
        ngx.say(ngx.decode_base64("aGVsbG8="), ngx.decode_base64("aGVsbG8"), tostring(ngx.decode_base64("aGVsb")))
        ngx.say(ngx.decode_base64mime("aGVs\nbG8="))
        local b = require "ngx.base64"
        ngx.say(b.encode_base64url("??>>"), " ", b.decode_base64url("Pz8-Pg"), " ", select(2, b.decode_base64url("!")))
    }
}
--- request
GET /t
--- response_body
aGVsbG8= aGVsbG8
hellohellonil
hello
Pz8-Pg ??>> invalid input

=== TEST 4: the clock
--- config
location /t {
    content_by_lua_block {
        ngx.say(ngx.http_time(1290079655), ", ", ngx.parse_http_time("Thu, 18 Nov 2010 11:27:35 GMT"))
        ngx.say(ngx.cookie_time(1547151600 + 900000000), ", ", tostring(ngx.parse_http_time("never")))
        local t = ngx.now()
        ngx.say(t == ngx.now(), " ", ngx.time() == math.floor(t), " ", #ngx.today(), #ngx.localtime(), #ngx.utctime())
        ngx.sleep(0.01)
        ngx.say(ngx.now() > t)
    }
}
--- request
GET /t
--- response_body
Thu, 18 Nov 2010 11:27:35 GMT, 1290079655
Fri, 19-Jul-2047 12:20:00 GMT, nil
true true 101919
true

=== TEST 5: worker, process, configuration
--- config
location /t {
    content_by_lua_block {
        ngx.say(ngx.worker.id(), " ", ngx.worker.count(), " ", ngx.worker.pid() > 0, " ", ngx.worker.exiting())
        local pids = ngx.worker.pids()
        ngx.say(#pids, " ", pids[1] == ngx.worker.pid())
        ngx.say(ngx.config.subsystem, " ", ngx.config.nginx_version > 1030000, " ", ngx.config.prefix():sub(-1))
        ngx.say(require("ngx.process").type(), " ", require("ngx.process").get_master_pid() > 0)
    }
}
--- request
GET /t
--- response_body_like chop
^0 1 true false
1 true
http true /
(single|worker) true
$

=== TEST 6: the error log keeps lines
--- http_config
lua_capture_error_log 16k;
--- config
location /t {
    content_by_lua_block {
        local errlog = require "ngx.errlog"
        errlog.set_filter_level(ngx.WARN)
        errlog.get_logs(100)
        ngx.log(ngx.NOTICE, "too mild")
        ngx.log(ngx.WARN, "kept")
        errlog.raw_log(ngx.ERR, "raw")
        local logs = errlog.get_logs()
        ngx.say(#logs / 3, " ", logs[1], " ", logs[3]:match("%[warn%].*kept") ~= nil, " ", logs[6]:match("%]* raw, client") ~= nil)
        ngx.say(errlog.get_sys_filter_level() >= ngx.ERR)
    }
}
--- request
GET /t
--- response_body
2 5 true true
true

=== TEST 7: lists with holes are said as lists
--- config
location /t {
    content_by_lua_block {
        ngx.say({ "a", nil, true, { 1.5, ngx.null and "x" } })
        ngx.say((select(2, pcall(ngx.say, { a = 1 }))))
    }
}
--- request
GET /t
--- response_body
aniltrue1.5x
bad argument #1 to '?' (non-array table found)
