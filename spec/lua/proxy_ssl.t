# Lua code in handshakes with upstreams: proxy_ssl_certificate_by_lua*, proxy_ssl_verify_by_lua*.
use Test::Nginx::Socket 'no_plan';

sub made {
    my $d = $ENV{TMPDIR} || '/tmp';
    my ($crt, $key) = ("$d/lua-proxy-ssl-spec-$$.crt", "$d/lua-proxy-ssl-spec-$$.key");
    system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$_[0] -addext subjectAltName=DNS:$_[0]"
        . " -keyout $key -out $crt 2>/dev/null");
    my @text;
    for my $name ($crt, $key) {
        open my $file, '<', $name or die "$name: $!";
        push @text, join('', <$file>);
        unlink $name;
    }
    return @text;
}
our ($One, $OneKey) = made('one.example');
our ($Two, $TwoKey) = made('two.example');
our $Files = [["one.crt", $One], ["one.key", $OneKey], ["two.crt", $Two], ["two.key", $TwoKey]];
our $Server = <<'_EOC_';
init_by_lua_block {
    function slurp(name)
        local file = assert(io.open("$TEST_NGINX_HTML_DIR/" .. name))
        local text = file:read("*a")
        file:close()
        return text
    end
}
server {
    listen unix:$TEST_NGINX_HTML_DIR/tls.sock ssl;
    ssl_certificate $TEST_NGINX_HTML_DIR/one.crt;
    ssl_certificate_key $TEST_NGINX_HTML_DIR/one.key;
    ssl_verify_client optional_no_ca;
    location / { return 200 "[$ssl_client_s_dn]"; }
}
_EOC_
run_tests();

__DATA__

=== TEST 1: the certificate to show is chosen while the upstream waits
--- http_config eval: $::Server
--- user_files eval: $::Files
--- config
location /t {
    proxy_ssl_certificate_by_lua_block {
        local ssl, shown = require "ngx.ssl", require "ngx.ssl.proxysslcert"
        ngx.sleep(0.01)
        ngx.log(ngx.WARN, "phase: ", ngx.get_phase(), " ", require("ngx.proxyssl").get_tls1_version_str())
        assert(shown.set_cert(assert(ssl.parse_pem_cert(slurp("two.crt")))))
        assert(shown.set_priv_key(assert(ssl.parse_pem_priv_key(slurp("two.key")))))
    }
    proxy_pass https://unix:$TEST_NGINX_HTML_DIR/tls.sock:/;
}
--- request
GET /t
--- response_body chomp
[CN=two.example]
--- error_log
phase: proxy_ssl_cert TLSv1.3 while loading proxy ssl certificate by lua

=== TEST 2: the configured one is not shown
--- http_config eval: $::Server
--- user_files eval: $::Files
--- config
location /a {
    proxy_ssl_certificate $TEST_NGINX_HTML_DIR/two.crt;
    proxy_ssl_certificate_key $TEST_NGINX_HTML_DIR/two.key;
    proxy_ssl_certificate_by_lua_block { }
    proxy_pass https://unix:$TEST_NGINX_HTML_DIR/tls.sock:/;
}
location /b {
    proxy_ssl_certificate $TEST_NGINX_HTML_DIR/two.crt;
    proxy_ssl_certificate_key $TEST_NGINX_HTML_DIR/two.key;
    proxy_ssl_certificate_by_lua_block { require("ngx.ssl.proxysslcert").clear_certs() }
    proxy_pass https://unix:$TEST_NGINX_HTML_DIR/tls.sock:/;
}
location /t { content_by_lua_block { ngx.say(ngx.location.capture("/a").body, ngx.location.capture("/b").body) } }
--- request
GET /t
--- response_body
[CN=two.example][]

=== TEST 3: what the upstream shows is judged
--- http_config eval: $::Server
--- user_files eval: $::Files
--- config
proxy_ssl_name one.example;
proxy_ssl_verify on;
proxy_ssl_trusted_certificate $TEST_NGINX_HTML_DIR/one.crt;
location /good {
    proxy_ssl_verify_by_lua_block {
        local judged = require "ngx.ssl.proxysslverify"
        ngx.sleep(0.01)
        ngx.log(ngx.WARN, "result: ", judged.get_verify_result(), " ", type(judged.get_verify_cert()))
    }
    proxy_pass https://unix:$TEST_NGINX_HTML_DIR/tls.sock:/;
}
location /revoked {
    proxy_ssl_verify_by_lua_block { require("ngx.ssl.proxysslverify").set_verify_result(23) }
    proxy_pass https://unix:$TEST_NGINX_HTML_DIR/tls.sock:/;
}
location /refused {
    proxy_ssl_verify_by_lua_block { ngx.exit(ngx.ERROR) }
    proxy_pass https://unix:$TEST_NGINX_HTML_DIR/tls.sock:/;
}
location /t {
    content_by_lua_block {
        for _, path in ipairs { "/good", "/revoked", "/refused" } do
            ngx.say(ngx.location.capture(path).status)
        end
    }
}
--- request
GET /t
--- response_body
200
502
502
--- error_log
result: 0 cdata
upstream SSL certificate verify error: (23:certificate revoked)
SSL_do_handshake() failed (SSL: error:0A000086:SSL routines::certificate verify failed)

=== TEST 4: what is not trusted is not even shown, unless code alone judges
--- http_config eval: $::Server
--- user_files eval: $::Files
--- config
proxy_ssl_name one.example;
proxy_ssl_verify on;
proxy_ssl_trusted_certificate $TEST_NGINX_HTML_DIR/two.crt;
location /checked {
    proxy_ssl_verify_by_lua_block { ngx.log(ngx.WARN, "not asked") }
    proxy_pass https://unix:$TEST_NGINX_HTML_DIR/tls.sock:/;
}
location /alone {
    lua_upstream_skip_openssl_default_verify on;
    proxy_ssl_verify_by_lua_block { ngx.log(ngx.WARN, "asked") }
    proxy_pass https://unix:$TEST_NGINX_HTML_DIR/tls.sock:/;
}
location /t {
    content_by_lua_block { ngx.say(ngx.location.capture("/checked").status, ngx.location.capture("/alone").status) }
}
--- request
GET /t
--- response_body
502200
--- error_log
upstream SSL certificate verify error: (18:self-signed certificate)
asked
--- no_error_log
not asked

=== TEST 5: code for TLS where there is none
--- config
location /t {
    proxy_ssl_verify_by_lua_block { }
    proxy_pass http://127.0.0.1:1;
}
--- must_die
--- error_log
proxy_ssl_verify_by_lua* should be used with proxy_pass https url

=== TEST 6: a balancer says whether the connection is encrypted, and for whom
--- http_config eval
$::Server . q{
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; location / { return 200 "plain"; } }
upstream dynamic {
    balancer_by_lua_block {
        local balancer = require "ngx.balancer"
        if ngx.var.arg_tls then
            assert(balancer.set_current_peer("unix:$TEST_NGINX_HTML_DIR/tls.sock", nil, ngx.var.arg_tls))
            assert(balancer.set_upstream_tls(true))
        else
            assert(balancer.set_current_peer("127.0.0.1", $TEST_NGINX_RAND_PORT_1))
            assert(balancer.set_upstream_tls(false))
        end
    }
}
}
--- user_files eval: $::Files
--- config
proxy_ssl_verify on;
proxy_ssl_trusted_certificate $TEST_NGINX_HTML_DIR/one.crt;
location /p { proxy_pass http://dynamic/; }
location /s { proxy_pass https://dynamic/; }
location /t {
    content_by_lua_block {
        for _, path in ipairs { "/p", "/s", "/p?tls=one.example", "/s?tls=one.example", "/s?tls=two.example" } do
            local answer = ngx.location.capture(path)
            ngx.say(answer.status == 200 and answer.body or answer.status)
        end
    }
}
--- request
GET /t
--- response_body
plain
plain
[]
[]
502
--- error_log
upstream SSL certificate does not match "two.example"
