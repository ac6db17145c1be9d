# `resty.mysql`: how passwords are proven to MySQL 8, with its own plugin and from one plugin to another.
use Test::Nginx::Socket 'no_plan';

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => <<'_CONF_');
    lua_socket_log_errors off;
    lua_ssl_trusted_certificate $TEST_NGINX_MYSQL8_CA;
    init_by_lua_block {
        -- Logs in and says how: the plugin, the way, whether over TLS.
        function try(user, more)
            local db = require "resty.mysql":new()
            db:set_timeout(3000)
            local options = {
                host = "127.0.0.1", port = $TEST_NGINX_MYSQL8_PORT, user = user, password = "ngx_test", database = "ngx_test",
                -- Every login is a new one.
                pool = tostring(math.random()),
            }
            for name, value in pairs(more or {}) do options[name] = value end
            local ok, err, code, state = db:connect(options)
            if not ok then
                return ngx.say(user, ": ", err, " ", code, " ", state)
            end
            local row = assert(db:query("SELECT 1"))[1]
            ngx.say(user, ": ", row.plugin, " ", row.way, " ", row.tls)
            return db
        end
        native = { port = $TEST_NGINX_MYSQL8_NATIVE_PORT }
    }
_CONF_
    $block->set_value(request => "GET /t");
});

run_tests();
__DATA__

=== TEST 1: caching_sha2_password: the server's key first, then the cache
--- config
location /t {
    content_by_lua_block {
        try("ngx_sha2_a")
        try("ngx_sha2_a")
        -- What the server has forgotten is proven again.
        try("ngx_sha2_a"):query("FLUSH PRIVILEGES")
        try("ngx_sha2_a")
        try("ngx_sha2_a", native)
    }
}
--- response_body
ngx_sha2_a: caching_sha2_password rsa no
ngx_sha2_a: caching_sha2_password fast no
ngx_sha2_a: caching_sha2_password fast no
ngx_sha2_a: caching_sha2_password rsa no
ngx_sha2_a: caching_sha2_password fast no

=== TEST 2: caching_sha2_password over TLS
--- config
location /t {
    content_by_lua_block {
        local tls = { ssl = true }
        try("ngx_sha2_b_tls", tls)
        try("ngx_sha2_b_tls", tls)
        try("ngx_sha2_b_tls")
        try("ngx_sha2_b_tls", tls):query("FLUSH PRIVILEGES")
        native.ssl = true
        try("ngx_sha2_b_tls", native)
    }
}
--- response_body
ngx_sha2_b_tls: caching_sha2_password tls yes
ngx_sha2_b_tls: caching_sha2_password fast yes
ngx_sha2_b_tls: Access denied for user 'ngx_sha2_b_tls'@'localhost' (using password: YES) 1045 28000
ngx_sha2_b_tls: caching_sha2_password fast yes
ngx_sha2_b_tls: caching_sha2_password tls yes

=== TEST 3: wrong passwords and none, known to the cache or not
--- config
location /t {
    content_by_lua_block {
        local wrong = { password = "wrong" }
        try("ngx_sha2_c", wrong)
        try("ngx_sha2_c", { password = "" })
        try("ngx_sha2_c")
        try("ngx_sha2_c", wrong)
        try("ngx_sha2_c", { password = "wrong", ssl = true })
        try("ngx_sha2_nopass", { password = "" })
        try("ngx_sha2_nopass")
        native.password = ""
        try("ngx_sha2_nopass", native)
        -- Longer than the scramble that hides it.
        try("ngx_sha2_c", { password = ("x"):rep(100) })
        -- Longer than the key can carry.
        try("ngx_sha2_c", { password = ("x"):rep(300) })
    }
}
--- response_body
ngx_sha2_c: Access denied for user 'ngx_sha2_c'@'localhost' (using password: YES) 1045 28000
ngx_sha2_c: Access denied for user 'ngx_sha2_c'@'localhost' (using password: YES) 1045 28000
ngx_sha2_c: caching_sha2_password rsa no
ngx_sha2_c: Access denied for user 'ngx_sha2_c'@'localhost' (using password: YES) 1045 28000
ngx_sha2_c: Access denied for user 'ngx_sha2_c'@'localhost' (using password: YES) 1045 28000
ngx_sha2_nopass: caching_sha2_password empty no
ngx_sha2_nopass: Access denied for user 'ngx_sha2_nopass'@'localhost' (using password: YES) 1045 28000
ngx_sha2_nopass: caching_sha2_password empty no
ngx_sha2_c: Access denied for user 'ngx_sha2_c'@'localhost' (using password: YES) 1045 28000
ngx_sha2_c: encode password packet: bad public key nil nil

=== TEST 4: from one plugin to another
--- config
location /t {
    content_by_lua_block {
        try("ngx_native_d")
        try("ngx_native_d", { ssl = true })
        try("ngx_native_d", { password = "wrong" })
        try("ngx_native_nopass", { password = "" })
        try("ngx_sha256_d")
        try("ngx_sha256_d", { password = "wrong" })
        try("ngx_sha256_d", { ssl = true })
        try("ngx_sha256_nopass", { password = "" })
        try("ngx_native_d", native)
        try("ngx_sha256_d", native)
        try("nobody")
    }
}
--- response_body
ngx_native_d: mysql_native_password scramble no
ngx_native_d: mysql_native_password scramble yes
ngx_native_d: Access denied for user 'ngx_native_d'@'localhost' (using password: YES) 1045 28000
ngx_native_nopass: mysql_native_password scramble no
ngx_sha256_d: sha256_password rsa no
ngx_sha256_d: Access denied for user 'ngx_sha256_d'@'localhost' (using password: YES) 1045 28000
ngx_sha256_d: sha256_password tls yes
ngx_sha256_nopass: sha256_password empty no
ngx_native_d: mysql_native_password scramble no
ngx_sha256_d: sha256_password rsa no
nobody: Access denied for user 'nobody'@'localhost' (using password: YES) 1045 28000
