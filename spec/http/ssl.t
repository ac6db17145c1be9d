# `ssl`: HTTPS as clients see it, and what is said about settings that cannot be used.
use Test::Nginx::Socket 'no_plan';
no_root_location();

sub made {
    my $d = $ENV{TMPDIR} || '/tmp';
    my ($crt, $key) = ("$d/ssl-spec-$$.crt", "$d/ssl-spec-$$.key");
    system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$_[0] -keyout $key -out $crt 2>/dev/null");
    my @text;
    for my $name ($crt, $key) {
        open my $file, '<', $name or die "$name: $!";
        push @text, join('', <$file>);
        unlink $name;
    }
    return @text;
}
our ($Crt, $Key) = made('spec.example');
our (undef, $Other) = made('other.example');
our $Files = [["a.crt", $Crt], ["a.key", $Key], ["other.key", $Other]];
run_tests();

__DATA__

=== a request over TLS
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 ssl;
    server_name spec.example;
    ssl_certificate $TEST_NGINX_HTML_DIR/a.crt;
    ssl_certificate_key $TEST_NGINX_HTML_DIR/a.key;
    location / {
        return 200 "$scheme $https $ssl_server_name $ssl_session_reused $ssl_client_verify";
    }
}
--- config
--- user_files eval
$::Files
--- curl
--- curl_protocol: https
--- curl_options: -k --connect-to ::127.0.0.1:$TEST_NGINX_RAND_PORT_1
--- request
GET /
--- response_body chomp
https on  . NONE

=== versions and ciphers are chosen
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 ssl;
    ssl_certificate $TEST_NGINX_HTML_DIR/a.crt;
    ssl_certificate_key $TEST_NGINX_HTML_DIR/a.key;
    ssl_protocols TLSv1.2;
    ssl_ciphers ECDHE-RSA-AES128-GCM-SHA256:!aNULL;
    ssl_ecdh_curve prime256v1;
    ssl_prefer_server_ciphers on;
    location / { return 200 "$ssl_protocol $ssl_cipher $ssl_alpn_protocol"; }
}
--- config
--- user_files eval
$::Files
--- curl
--- curl_protocol: https
--- curl_options: -k --connect-to ::127.0.0.1:$TEST_NGINX_RAND_PORT_1
--- request
GET /
--- response_body chomp
TLSv1.2 ECDHE-RSA-AES128-GCM-SHA256 http/1.1

=== a plain request on a socket for TLS
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 ssl;
    ssl_certificate $TEST_NGINX_HTML_DIR/a.crt;
    ssl_certificate_key $TEST_NGINX_HTML_DIR/a.key;
    error_page 497 =200 /told;
    location /told { return 200 "told $scheme"; }
}
--- config
--- user_files eval
$::Files
--- curl
--- curl_options: --connect-to ::127.0.0.1:$TEST_NGINX_RAND_PORT_1
--- request
GET /
--- response_body chomp
told http
--- error_log
client sent plain HTTP request to HTTPS port

=== no certificate for a socket
--- http_config
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 ssl; }
--- config
--- must_die
--- error_log
no "ssl_certificate" is defined for the "listen ... ssl" directive in

=== a certificate without its key
--- http_config
ssl_certificate a.crt;
--- config
--- must_die
--- error_log
no "ssl_certificate_key" is defined for certificate "

=== a certificate that is not there
--- http_config
ssl_certificate none.crt;
ssl_certificate_key none.key;
--- config
--- must_die
--- error_log eval
qr/cannot load certificate ".*none.crt": BIO_new_file\(\) failed \(SSL: error:80000002:system library::No such file or directory:calling fopen\(.*none.crt, r\) error:10000080:BIO routines::no such file\)/

=== a key of another certificate
--- http_config
ssl_certificate $TEST_NGINX_HTML_DIR/a.crt;
ssl_certificate_key $TEST_NGINX_HTML_DIR/other.key;
--- config
--- user_files eval
$::Files
--- must_die
--- error_log
key values mismatch)

=== nobody to check clients against
--- http_config
ssl_certificate $TEST_NGINX_HTML_DIR/a.crt;
ssl_certificate_key $TEST_NGINX_HTML_DIR/a.key;
ssl_verify_client on;
--- config
--- user_files eval
$::Files
--- must_die
--- error_log
no ssl_client_certificate or ssl_trusted_certificate for ssl_verify_client

=== ciphers that nobody knows
--- http_config
ssl_certificate $TEST_NGINX_HTML_DIR/a.crt;
ssl_certificate_key $TEST_NGINX_HTML_DIR/a.key;
ssl_ciphers nonsense;
--- config
--- user_files eval
$::Files
--- must_die
--- error_log
SSL_CTX_set_cipher_list("nonsense") failed (SSL: error:0A0000B9:SSL routines::no cipher match)

=== settings that are inherited, and some of little use
--- http_config
ssl_certificate $TEST_NGINX_HTML_DIR/a.crt;
ssl_certificate_key $TEST_NGINX_HTML_DIR/a.key;
ssl_certificate_cache max=10 inactive=10s valid=60s;
ssl_session_cache shared:SPEC:1m;
ssl_session_timeout 10m;
ssl_session_tickets off;
ssl_buffer_size 4k;
ssl_early_data on;
ssl_verify_depth 2;
ssl_stapling off;
ssl_stapling_verify off;
ssl_stapling_file "";
ssl_stapling_responder "";
ssl_ocsp off;
ssl_ocsp_cache off;
ssl_ocsp_responder "";
ssl_crl "";
ssl_trusted_certificate "";
ssl_client_certificate "";
ssl_reject_handshake off;
ssl_certificate_compression off;
ssl_conf_command Options PrioritizeChaCha;
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 ssl;
    location / { return 200 "$ssl_protocol"; }
}
--- config
--- user_files eval
$::Files
--- curl
--- curl_protocol: https
--- curl_options: -k --connect-to ::127.0.0.1:$TEST_NGINX_RAND_PORT_1
--- request
GET /
--- response_body_like: ^TLSv1\.[23]$

=== caches must be well-formed
--- http_config
ssl_session_cache shared:a;
--- config
--- must_die
--- error_log
invalid session cache "shared:a"

=== caches must not be too small
--- http_config
ssl_ocsp_cache shared:a:1k;
--- config
--- must_die
--- error_log
OCSP cache "shared:a:1k" is too small

=== a cache of certificates needs its size
--- http_config
ssl_certificate_cache valid=10s;
--- config
--- must_die
--- error_log
"ssl_certificate_cache" must have the "max" parameter

=== keys for tickets have a length
--- http_config
ssl_certificate $TEST_NGINX_HTML_DIR/a.crt;
ssl_certificate_key $TEST_NGINX_HTML_DIR/a.key;
ssl_session_ticket_key $TEST_NGINX_HTML_DIR/a.key;
--- config
--- user_files eval
$::Files
--- must_die
--- error_log
must be 48 or 80 bytes

=== passwords come from a file
--- http_config
ssl_password_file none;
--- config
--- must_die
--- error_log eval
qr/open\(\) ".*none" failed \(2: No such file or directory\)/
