# Requests passed on over TLS: names, certificates, and what is said about settings that cannot be used.
use Test::Nginx::Socket 'no_plan';
no_root_location();

sub made {
    my $d = $ENV{TMPDIR} || '/tmp';
    my ($crt, $key) = ("$d/proxy-ssl-spec-$$.crt", "$d/proxy-ssl-spec-$$.key");
    system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$_[0] -keyout $key -out $crt 2>/dev/null");
    my @text;
    for my $name ($crt, $key) {
        open my $file, '<', $name or die "$name: $!";
        push @text, join('', <$file>);
        unlink $name;
    }
    return @text;
}
our ($Crt, $Key) = made('back.example');
our ($Mine, $MyKey) = made('mine.example');
our $Files = [["a.crt", $Crt], ["a.key", $Key], ["mine.crt", $Mine], ["mine.key", $MyKey]];
our $Back = <<'EOC';
upstream back { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 ssl;
    ssl_certificate $TEST_NGINX_HTML_DIR/a.crt;
    ssl_certificate_key $TEST_NGINX_HTML_DIR/a.key;
    ssl_verify_client optional_no_ca;
    location / { return 200 "$ssl_server_name|$ssl_protocol|$ssl_client_s_dn|$http_host|$request_uri"; }
}
EOC
run_tests();

__DATA__

=== the name is not said unless that is asked for
--- http_config eval: $::Back
--- config
location /off { proxy_pass https://back; proxy_ssl_name x.example; }
location /on { proxy_pass https://back; proxy_ssl_name $arg_n; proxy_ssl_server_name on; }
--- user_files eval: $::Files
--- request eval
["GET /off", "GET /on?n=x.example:81", "GET /on?n=127.0.0.1"]
--- response_body_like eval
[qr/^\|TLSv1\.3\|\|back\|\/off$/, qr/^x\.example\|TLSv1\.3\|/, qr/^\|TLSv1\.3\|/]

=== a certificate for those who ask, from a file, from a variable, from the configuration
--- http_config eval: $::Back
--- config
proxy_ssl_session_reuse off;
location /file {
    proxy_pass https://back;
    proxy_ssl_certificate $TEST_NGINX_HTML_DIR/mine.crt;
    proxy_ssl_certificate_key $TEST_NGINX_HTML_DIR/mine.key;
}
location /variable {
    proxy_pass https://back;
    proxy_ssl_certificate $document_root/$arg_c.crt;
    proxy_ssl_certificate_key $document_root/$arg_c.key;
}
--- user_files eval: $::Files
--- request eval
["GET /file", "GET /variable?c=mine", "GET /variable?c=a", "GET /variable?c=none"]
--- error_code eval
[200, 200, 200, 500]
--- response_body_like eval
[qr/\|CN=mine\.example\|/, qr/\|CN=mine\.example\|/, qr/\|CN=back\.example\|/, qr/500/]

=== whom a connection leads to is checked
--- http_config eval: $::Back
--- config
location / {
    proxy_pass https://back;
    proxy_ssl_verify on;
    proxy_ssl_trusted_certificate $TEST_NGINX_HTML_DIR/a.crt;
    proxy_ssl_name back.example;
}
--- user_files eval: $::Files
--- request
GET /
--- error_code: 200
--- no_error_log
[error]

=== a certificate for another name
--- http_config eval: $::Back
--- config
location / {
    proxy_pass https://back;
    proxy_ssl_verify on;
    proxy_ssl_trusted_certificate $TEST_NGINX_HTML_DIR/a.crt;
    proxy_ssl_name other.example;
}
--- user_files eval: $::Files
--- request
GET /
--- error_code: 502
--- error_log
upstream SSL certificate does not match "other.example" while SSL handshaking to upstream

=== a certificate that nobody vouches for
--- http_config eval: $::Back
--- config
location / {
    proxy_pass https://back;
    proxy_ssl_verify on;
    proxy_ssl_trusted_certificate $TEST_NGINX_HTML_DIR/mine.crt;
    proxy_ssl_name back.example;
}
--- user_files eval: $::Files
--- request
GET /
--- error_code: 502
--- error_log
upstream SSL certificate verify error: (18:self-signed certificate) while SSL handshaking to upstream

=== versions are chosen
--- http_config eval: $::Back
--- config
location / { proxy_pass https://back; proxy_ssl_protocols TLSv1.2; }
--- user_files eval: $::Files
--- request
GET /
--- response_body_like: ^\|TLSv1\.2\|

=== the scheme of a URL with variables says whether it is TLS
--- http_config eval: $::Back
--- config
location /s { set $scheme_of https; proxy_pass $scheme_of://back/x; }
location /p { set $scheme_of http; proxy_pass $scheme_of://127.0.0.1:$TEST_NGINX_SERVER_PORT/x; }
location /x { return 200 plain; }
--- user_files eval: $::Files
--- request eval
["GET /s", "GET /p"]
--- response_body_like eval
[qr/^\|TLSv1\.3\|\|.*\|\/x$/, qr/^plain$/]

=== a server that speaks no TLS
--- config
location / { proxy_pass https://127.0.0.1:$TEST_NGINX_SERVER_PORT; }
--- request
GET /
--- error_code: 502
--- error_log
SSL_do_handshake() failed (SSL: error:0A00010B:SSL routines::wrong version number) while SSL handshaking to upstream

=== a certificate without a key
--- config
location / { proxy_pass https://127.0.0.1:1; proxy_ssl_certificate a.crt; }
--- must_die
--- error_log
no "proxy_ssl_certificate_key" is defined for certificate "a.crt"

=== a check against nobody
--- config
location / { proxy_pass https://127.0.0.1:1; proxy_ssl_verify on; }
--- must_die
--- error_log
no proxy_ssl_trusted_certificate for proxy_ssl_verify

=== a cache without a size
--- config
location / { proxy_pass https://127.0.0.1:1; proxy_ssl_certificate_cache valid=1s; }
--- must_die
--- error_log
"proxy_ssl_certificate_cache" must have the "max" parameter

=== health checks go over TLS as requests do
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 ssl;
    ssl_certificate $TEST_NGINX_HTML_DIR/a.crt;
    ssl_certificate_key $TEST_NGINX_HTML_DIR/a.key;
    location / { return 200 "$ssl_server_name|$http_host|$request_uri"; }
}
match named { body ~ "^back.example\|v\|/check$"; }
upstream v { zone v 64k; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
upstream w { zone w 64k; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
--- config
proxy_ssl_server_name on;
proxy_ssl_verify on;
proxy_ssl_trusted_certificate $TEST_NGINX_HTML_DIR/a.crt;
location /v {
    proxy_pass https://v/else;
    proxy_ssl_name back.example;
    health_check uri=/check match=named mandatory interval=20ms keepalive_time=1s;
}
location /w { proxy_pass https://w; proxy_ssl_name other.example; health_check mandatory interval=20ms; }
location /t {
    content_by_lua_block {
        local upstream = require "ngx.upstream"
        local function wait(name, state)
            for _ = 1, 500 do
                if upstream.get_primary_peers(name)[1].state == state then return state end
                ngx.sleep(0.02)
            end
        end
        ngx.say(wait("v", "up"), " ", wait("w", "unhealthy"))
    }
}
--- user_files eval: $::Files
--- request
GET /t
--- response_body
up unhealthy
--- error_log
upstream SSL certificate does not match "other.example" while SSL handshaking to upstream, health check "" of peer
peer is unhealthy while SSL handshaking to upstream, health check "" of peer
