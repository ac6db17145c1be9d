# The servers that the runner starts for specifications: each is there, on all its addresses.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: every server answers
--- config
location /t {
    content_by_lua_block {
        local function ask(question, ...)
            local sock = ngx.socket.tcp()
            local ok, err = sock:connect(...)
            if not ok then return err end
            if question then sock:send(question) end
            local answer = sock:receiveany(4000)
            sock:close()
            return answer
        end
        ngx.say((ask("PING\r\n", "127.0.0.1", $TEST_NGINX_REDIS_PORT):sub(1, 5)))
        ngx.say((ask("PING\r\n", "unix:$TEST_NGINX_REDIS_SOCKET"):sub(1, 5)))
        ngx.say((ask("AUTH ngx_test ngx_test\r\n", "unix:$TEST_NGINX_REDIS_SOCKET"):sub(1, 3)))
        ngx.say(ask("version\r\n", "127.0.0.1", $TEST_NGINX_MEMCACHED_PORT):sub(1, 7))
        ngx.say(ask("version\r\n", "unix:$TEST_NGINX_MEMCACHED_SOCKET"):sub(1, 7))
        ngx.say(ask(nil, "127.0.0.1", $TEST_NGINX_MYSQL_PORT):find("MariaDB", 1, true) ~= nil)
        ngx.say(ask(nil, "unix:$TEST_NGINX_MYSQL_SOCKET"):find("MariaDB", 1, true) ~= nil)
        ngx.say(ask("\0\0\0\8\4\210\22\47", "127.0.0.1", $TEST_NGINX_POSTGRES_PORT))
        ngx.say(ask("\0\0\0\8\4\210\22\47", "unix:$TEST_NGINX_POSTGRES_SOCKET"))
    }
}
--- request
GET /t
--- response_body
+PONG
+PONG
+OK
VERSION
VERSION
true
true
S
N

=== TEST 2: PHP runs a script of the specification
--- config
location ~ \.php$ {
    fastcgi_pass unix:$TEST_NGINX_PHP_FPM;
    fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
    fastcgi_param REQUEST_METHOD $request_method;
    fastcgi_param QUERY_STRING $query_string;
    root html;
}
--- user_files
>>> sum.php
<?php echo $_GET['a'] + $_GET['b'], "\n";
--- request
GET /sum.php?a=3&b=4
--- response_body
7
