# TLS on cosockets: handshakes, certificates, sessions, and pools of encrypted connections.
use Test::Nginx::Socket 'no_plan';

sub made {
    my $d = $ENV{TMPDIR} || '/tmp';
    my ($crt, $key) = ("$d/lua-ssl-spec-$$.crt", "$d/lua-ssl-spec-$$.key");
    system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=spec.example"
        . " -keyout $key -out $crt 2>/dev/null");
    my @text;
    for my $name ($crt, $key) {
        open my $file, '<', $name or die "$name: $!";
        push @text, join('', <$file>);
        unlink $name;
    }
    return @text;
}
our ($Crt, $Key) = made();
our $Files = [["a.crt", $Crt], ["a.key", $Key]];
our $Server = <<'_EOC_';
server {
    listen unix:$TEST_NGINX_HTML_DIR/tls.sock ssl;
    server_name spec.example;
    ssl_certificate $TEST_NGINX_HTML_DIR/a.crt;
    ssl_certificate_key $TEST_NGINX_HTML_DIR/a.key;
    location / { return 200 "$ssl_server_name $ssl_session_reused"; }
}
init_by_lua_block {
    function open()
        local sock = ngx.socket.tcp()
        assert(sock:connect("unix:$TEST_NGINX_HTML_DIR/tls.sock"))
        return sock
    end
    function ask(sock)
        sock:send("GET / HTTP/1.1\r\nHost: spec.example\r\n\r\n")
        local length = tonumber(sock:receiveuntil("\r\n\r\n")():match("Content%-Length: (%d+)"))
        return (sock:receive(length))
    end
}
_EOC_
run_tests();

__DATA__

=== TEST 1: a handshake, with and without a session wanted
--- http_config eval: $::Server
--- user_files eval: $::Files
--- config
location /t {
    content_by_lua_block {
        local sock = open()
        ngx.say(sock:sslhandshake(false, "spec.example"))
        ngx.say(ask(sock))
        ngx.say(sock:close())
        sock = open()
        local session = sock:sslhandshake(nil, "spec.example")
        ngx.say(type(session))
        ask(sock)
        ngx.say(sock:sslhandshake(session, "spec.example") == session)
        local again = open()
        again:sslhandshake(session, "spec.example")
        ngx.say(ask(again))
    }
}
--- request
GET /t
--- response_body
true
spec.example .
1
cdata
true
spec.example r
--- no_error_log
[error]

=== TEST 2: a certificate that nobody vouches for
--- http_config eval: $::Server
--- user_files eval: $::Files
--- config
location /t {
    content_by_lua_block {
        local sock = open()
        ngx.say(sock:sslhandshake(nil, "spec.example", true))
        ngx.say(sock:send("x"))
    }
}
--- request
GET /t
--- response_body
nil18: self-signed certificate
nilclosed
--- error_log
lua ssl certificate verify error: (18: self-signed certificate)

=== TEST 3: a certificate that is trusted, of another host
--- http_config eval: $::Server
--- user_files eval: $::Files
--- config
lua_ssl_trusted_certificate $TEST_NGINX_HTML_DIR/a.crt;
location /t {
    content_by_lua_block {
        ngx.say(open():sslhandshake(false, "spec.example", true))
        ngx.say(open():sslhandshake(false, "other.example", true))
    }
}
--- request
GET /t
--- response_body
true
nilcertificate host mismatch
--- error_log
lua ssl certificate does not match host "other.example"

=== TEST 4: who does not speak TLS
--- config
location /t {
    content_by_lua_block {
        local sock = ngx.socket.tcp()
        assert(sock:connect("127.0.0.1", ngx.var.server_port))
        sock:settimeout(2000)
        ngx.say(sock:sslhandshake())
        ngx.say(sock:sslhandshake())
    }
}
--- request
GET /t
--- response_body
nilhandshake failed
nilclosed
--- error_log
SSL_do_handshake() failed (SSL: error:

=== TEST 5: encrypted connections are kept, and large data passes
--- http_config eval
$::Server . q{
server {
    listen unix:$TEST_NGINX_HTML_DIR/big.sock ssl;
    ssl_certificate $TEST_NGINX_HTML_DIR/a.crt;
    ssl_certificate_key $TEST_NGINX_HTML_DIR/a.key;
    client_max_body_size 0;
    location / { content_by_lua_block { ngx.req.read_body() ngx.say(#ngx.req.get_body_data()) } }
    client_body_buffer_size 4m;
}
}
--- user_files eval: $::Files
--- config
location /t {
    content_by_lua_block {
        for i = 1, 2 do
            local sock = open()
            if sock:getreusedtimes() == 0 then assert(sock:sslhandshake(false)) end
            ngx.say(ask(sock), " ", sock:getreusedtimes(), " ", sock:setkeepalive())
        end
        local sock = ngx.socket.tcp()
        assert(sock:connect("unix:$TEST_NGINX_HTML_DIR/big.sock"))
        assert(sock:sslhandshake(false))
        sock:send("POST / HTTP/1.0\r\nContent-Length: 2000000\r\n\r\n")
        ngx.say(sock:send(string.rep("x", 2000000)))
        sock:receiveuntil("\r\n\r\n")()
        ngx.say(sock:receive())
    }
}
--- request
GET /t
--- response_body
 . 0 1
 . 1 1
2000000
2000000
--- no_error_log
[error]
