# Lua code in handshakes with clients: ssl_client_hello_by_lua*, ssl_certificate_by_lua*, ssl_session_*_by_lua*.
use Test::Nginx::Socket 'no_plan';

sub made {
    my $d = $ENV{TMPDIR} || '/tmp';
    my ($crt, $key) = ("$d/lua-handshake-spec-$$.crt", "$d/lua-handshake-spec-$$.key");
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
our $Files = [["one.crt", $One], ["one.key", $OneKey], ["two.crt", $Two], ["two.key", $TwoKey],
    ["both.crt", $One . $Two]];
our $Client = <<'_EOC_';
lua_ssl_trusted_certificate $TEST_NGINX_HTML_DIR/both.crt;
init_by_lua_block {
    function slurp(name)
        local file = assert(io.open("$TEST_NGINX_HTML_DIR/" .. name))
        local text = file:read("*a")
        file:close()
        return text
    end
    function ask(host, session, cert, key)
        local sock = ngx.socket.tcp()
        assert(sock:connect("unix:$TEST_NGINX_HTML_DIR/tls.sock"))
        if cert then
            assert(sock:setclientcert(cert, key))
        end
        local made, err = sock:sslhandshake(session, host, true)
        if not made then
            return err
        end
        sock:send("GET / HTTP/1.0\r\nHost: " .. host .. "\r\n\r\n")
        sock:receiveuntil("\r\n\r\n")()
        local answer = sock:receive("*a")
        sock:close()
        return answer, made
    end
}
_EOC_
our $Server = <<'_EOC_';
    listen unix:$TEST_NGINX_HTML_DIR/tls.sock ssl;
    ssl_certificate $TEST_NGINX_HTML_DIR/one.crt;
    ssl_certificate_key $TEST_NGINX_HTML_DIR/one.key;
_EOC_
run_tests();

__DATA__

=== TEST 1: the certificate is that of the name, found while the client waits
--- http_config eval
$::Client . "server {" . $::Server . q{
    ssl_certificate_by_lua_block {
        local ssl = require "ngx.ssl"
        ngx.sleep(0.01)
        local name = assert(ssl.server_name()):match("^%a+")
        assert(ssl.clear_certs())
        assert(ssl.set_cert(assert(ssl.parse_pem_cert(slurp(name .. ".crt")))))
        assert(ssl.set_priv_key(assert(ssl.parse_pem_priv_key(slurp(name .. ".key")))))
        ngx.ctx.name = name
    }
    location / { content_by_lua_block { ngx.print(ngx.ctx.name, " ", ngx.var.ssl_server_name) } }
} . "}"
--- user_files eval: $::Files
--- config
location /t { content_by_lua_block { ngx.say((ask("one.example"))) ngx.say((ask("two.example"))) } }
--- request
GET /t
--- response_body
one one.example
two two.example

=== TEST 2: encoded certificates, the version, addresses and random bytes
--- http_config eval
$::Client . "server {" . $::Server . q{
    ssl_certificate_by_lua_block {
        local ssl = require "ngx.ssl"
        assert(ssl.set_der_cert(assert(ssl.cert_pem_to_der(slurp("one.crt")))))
        assert(ssl.set_der_priv_key(assert(ssl.priv_key_pem_to_der(slurp("one.key")))))
        local addr, kind = ssl.raw_server_addr()
        ngx.log(ngx.WARN, "seen: ", ssl.get_tls1_version_str(), " ", kind, " ", addr:match("[^/]+$"), " ",
            select(2, ssl.raw_client_addr()), " ", #ssl.get_client_random(), " ", ssl.get_client_random(0))
        ngx.log(ngx.WARN, "wrong: ", select(2, ssl.set_der_cert("x")), ", ", select(2, ssl.parse_pem_priv_key("x")))
    }
    location / { return 200 $ssl_protocol; }
} . "}"
--- user_files eval: $::Files
--- config
location /t { content_by_lua_block { ngx.say((ask("one.example"))) } }
--- request
GET /t
--- response_body
TLSv1.3
--- error_log
seen: TLSv1.3 unix tls.sock unix 32 32
wrong: d2i_X509_bio() failed, PEM_read_bio_PrivateKey() failed
context: ssl_certificate_by_lua*, client: unix:, server: unix:

=== TEST 3: a handshake is refused, by a word or by a failure
--- http_config eval
$::Client . "server {" . $::Server . q{
    ssl_certificate_by_lua_block {
        local name = require("ngx.ssl").server_name()
        if name == "one.example" then
            ngx.exit(ngx.ERROR)
        end
        error("bad bad")
    }
} . "}"
--- user_files eval: $::Files
--- config
location /t { content_by_lua_block { ngx.say((ask("one.example"))) ngx.say((ask("two.example"))) } }
--- log_level: info
--- request
GET /t
--- response_body
handshake failed
handshake failed
--- error_log
SSL_do_handshake() failed (SSL: error:0A000179:SSL routines::cert cb error) while SSL handshaking
bad bad

=== TEST 4: nothing is left to be shown
--- http_config eval
$::Client . "server {" . $::Server . q{
    ssl_certificate_by_lua_block { assert(require("ngx.ssl").clear_certs()) }
} . "}"
--- user_files eval: $::Files
--- config
location /t { content_by_lua_block { ngx.say((ask("one.example"))) } }
--- log_level: info
--- request
GET /t
--- response_body
handshake failed
--- error_log
SSL routines::no suitable signature algorithm) while SSL handshaking

=== TEST 5: the client's first message is read, and decides the version
--- http_config eval
$::Client . "server {" . $::Server . q{
    ssl_client_hello_by_lua_block {
        local hello = require "ngx.ssl.clienthello"
        ngx.sleep(0.01)
        ngx.log(ngx.WARN, "asked for ", hello.get_client_hello_server_name(), " ", #hello.get_client_hello_ext(0), " ",
            table.concat(hello.get_supported_versions(), ","), " ", #hello.get_client_hello_ciphers() > 0,
            " ", tostring(hello.get_client_hello_ext(9999)))
        assert(hello.set_protocols { "TLSv1.2" })
        ngx.ctx.seen = hello.get_client_hello_server_name()
    }
    location / { content_by_lua_block { ngx.print(ngx.var.ssl_protocol, " ", ngx.ctx.seen) } }
} . "}"
--- user_files eval: $::Files
--- config
location /t { content_by_lua_block { ngx.say((ask("one.example"))) } }
--- request
GET /t
--- response_body
TLSv1.2 one.example
--- error_log
asked for one.example 16 TLSv1.2,TLSv1.3 true nil

=== TEST 6: no version, no handshake
--- http_config eval
$::Client . "server {" . $::Server . q{
    ssl_client_hello_by_lua_block { assert(require("ngx.ssl.clienthello").set_protocols { "TLSv1.1" }) }
} . "}"
--- user_files eval: $::Files
--- config
location /t { content_by_lua_block { ngx.say((ask("one.example"))) } }
--- log_level: info
--- request
GET /t
--- response_body
handshake failed
--- error_log
SSL routines::unsupported protocol) while SSL handshaking

=== TEST 7: code asks for a client's certificate
--- http_config eval
$::Client . "server {" . $::Server . q{
    ssl_certificate_by_lua_block {
        local ssl = require "ngx.ssl"
        assert(ssl.verify_client(assert(ssl.parse_pem_cert(slurp("two.crt"))), 1))
    }
    location / { return 200 "$ssl_client_verify $ssl_client_s_dn"; }
} . "}"
--- user_files eval: $::Files
--- config
location /t {
    content_by_lua_block {
        local ssl = require "ngx.ssl"
        local function pair(name)
            return ssl.parse_pem_cert(slurp(name .. ".crt")), ssl.parse_pem_priv_key(slurp(name .. ".key"))
        end
        ngx.say((ask("one.example")))
        ngx.say((ask("one.example", nil, pair("two"))))
        ngx.say((ask("one.example", nil, pair("one"))))
    }
}
--- request
GET /t
--- response_body
NONE 
SUCCESS CN=two.example
FAILED:self-signed certificate CN=one.example

=== TEST 8: sessions are kept and found by code
--- http_config eval
$::Client . q{
lua_shared_dict sessions 1m;
ssl_session_store_by_lua_block {
    local session = require "ngx.ssl.session"
    local id = assert(session.get_session_id())
    assert(ngx.shared.sessions:set(id, assert(session.get_serialized_session())))
    ngx.log(ngx.WARN, "kept: ", #id)
}
ssl_session_fetch_by_lua_block {
    local session = require "ngx.ssl.session"
    local id = assert(session.get_session_id())
    ngx.sleep(0.01)
    local found = ngx.shared.sessions:get(id)
    ngx.log(ngx.WARN, "found: ", found ~= nil, " ", select(2, session.set_serialized_session("nonsense")))
    if found then
        assert(session.set_serialized_session(found))
    end
}
} . "server {" . $::Server . q{
    ssl_protocols TLSv1.2;
    ssl_session_tickets off;
    location / { return 200 "[$ssl_session_reused]"; }
} . "}"
--- user_files eval: $::Files
--- config
location /t {
    content_by_lua_block {
        local answer, session = ask("one.example")
        ngx.say(answer)
        ngx.say((ask("one.example", session)))
    }
}
--- request
GET /t
--- response_body
[.]
[r]
--- error_log
kept: 64
found: true failed to de-serialize session

=== TEST 9: code for TLS where there is none
--- http_config
server {
    listen unix:$TEST_NGINX_HTML_DIR/x.sock;
    ssl_certificate_by_lua_block { }
}
--- config
--- must_die
--- error_log
no ssl configured for the server
