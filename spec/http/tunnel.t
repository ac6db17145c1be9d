# Tunnels for clients that send CONNECT.
use Test::Nginx::Socket 'no_plan';
no_root_location();

# CONNECT, and a request that is sent at once behind it.
sub through {
    my ($target, @fields) = @_;
    join("\r\n", "CONNECT $target HTTP/1.1", "Host: $target", @fields, "", "")
        . "GET /inner HTTP/1.1\r\nHost: inside\r\nConnection: close\r\n\r\n";
}
our $self = "127.0.0.1:" . server_port();

run_tests();

__DATA__

=== a tunnel to where the client wants to go
--- config
tunnel_pass;
location /inner { return 200 "inside of $host\n"; }
--- raw_request eval: ::through($::self)
--- response_headers
Connection: close
! Content-Length
! Transfer-Encoding
--- response_body_like: ^HTTP/1\.1 200 OK\r\n(?s:.*)\r\n\r\ninside of inside$
--- no_error_log
[error]

=== other methods
--- config
location / { tunnel_pass; }
--- request
GET /
--- error_code: 405

=== without the directive
--- config
location / { return 200; }
--- raw_request eval: ::through($::self)
--- error_code: 405
--- error_log
client sent CONNECT method while reading client request headers

=== another server is one that tunnels: this one does not
--- http_config
server { listen unix:$TEST_NGINX_HTML_DIR/other; tunnel_pass; }
--- config
location / { return 200; }
--- raw_request eval: ::through($::self)
--- error_code: 405

=== HTTP/1.0
--- config
tunnel_pass;
--- raw_request eval
"CONNECT $::self HTTP/1.0\r\nHost: $::self\r\n\r\n"
--- error_code: 405

=== a body
--- config
tunnel_pass;
--- raw_request eval: ::through($::self, "Content-Length: 5")
--- error_code: 400
--- error_log
client sent CONNECT request with body

=== targets that are none
--- config
tunnel_pass;
--- raw_request eval
"CONNECT /inner HTTP/1.1\r\nHost: a\r\n\r\n"
--- error_code: 400

=== a fixed upstream
--- http_config
upstream inside { server 127.0.0.1:$TEST_NGINX_SERVER_PORT; }
--- config
location / {
    if ($request_method = CONNECT) {
        tunnel_pass inside;
        break;
    }
    return 404;
}
location /inner { return 200 "inside\n"; }
--- raw_request eval: ::through("nowhere.test:443")
--- response_body_like: inside$

=== its line in the log
--- http_config
log_format tunnel "$request|$status|$host|$request_port|$upstream_addr|$upstream_status";
--- config
location / { tunnel_pass 127.0.0.1:$TEST_NGINX_SERVER_PORT; access_log logs/access.log tunnel; }
location /inner { access_log off; return 200 "inside\n"; }
--- raw_request eval: ::through("nowhere.test:443")
--- response_body_like: inside$
--- access_log eval
"CONNECT nowhere.test:443 HTTP/1.1|200|nowhere.test|443|$::self|200"

=== nobody is there
--- config
error_page 502 /error;
location / { tunnel_pass 127.0.0.1:1; }
location /error { return 200 "no tunnel\n"; }
--- raw_request eval: ::through("nowhere.test:443")
--- error_code: 502
--- response_body
no tunnel
--- error_log
connect() failed (111: Connection refused) while connecting to upstream

=== the next server
--- http_config
upstream inside { server 127.0.0.1:1; server 127.0.0.1:$TEST_NGINX_SERVER_PORT backup; }
--- config
location / { tunnel_pass inside; }
location /inner { return 200 "inside\n"; }
--- raw_request eval: ::through("nowhere.test:443")
--- response_body_like: inside$

=== not the next server
--- http_config
upstream inside { server 127.0.0.1:1; server 127.0.0.1:$TEST_NGINX_SERVER_PORT backup; }
--- config
location / { tunnel_pass inside; tunnel_next_upstream off; }
--- raw_request eval: ::through("nowhere.test:443")
--- error_code: 502

=== a host with the name of a kind of sockets
--- config
location / { tunnel_pass; }
--- raw_request eval: ::through("unix:80")
--- error_code: 500
--- error_log
invalid host in upstream "unix"

=== a password
--- config
auth_basic tunnels;
auth_basic_user_file passwords;
tunnel_pass;
--- user_files
>>> ../conf/passwords
name:{PLAIN}password
--- raw_request eval: ::through($::self)
--- error_code: 407
--- response_headers
Proxy-Authenticate: Basic realm="tunnels"
! WWW-Authenticate

=== the right password
--- config
auth_basic tunnels;
auth_basic_user_file passwords;
tunnel_pass;
location /inner { auth_basic off; return 200 "inside of $host\n"; }
--- user_files
>>> ../conf/passwords
name:{PLAIN}password
--- raw_request eval: ::through($::self, "Proxy-Authorization: Basic bmFtZTpwYXNzd29yZA==")
--- response_body_like: inside of inside$

=== a password or an address
--- config
satisfy any;
deny all;
auth_basic tunnels;
auth_basic_user_file passwords;
tunnel_pass;
--- user_files
>>> ../conf/passwords
name:{PLAIN}password
--- raw_request eval: ::through($::self)
--- error_code: 407

=== a time limit for silence
--- http_config
server {
    listen unix:$TEST_NGINX_HTML_DIR/silent;
    location / { content_by_lua_block { ngx.sleep(3) ngx.say("late") } }
}
--- config
location / {
    tunnel_pass unix:$TEST_NGINX_HTML_DIR/silent;
    tunnel_read_timeout 200ms;
    tunnel_send_timeout 1s;
    tunnel_connect_timeout 1s;
    tunnel_buffer_size 1k;
    tunnel_send_lowat 0;
    tunnel_bind off;
    tunnel_socket_keepalive on;
    tunnel_socket_rcvbuf 64k;
    tunnel_socket_sndbuf 64k;
    tunnel_next_upstream error timeout;
    tunnel_next_upstream_tries 2;
    tunnel_next_upstream_timeout 1s;
}
--- raw_request eval: ::through("nowhere.test:443")
--- response_body
--- error_log
upstream timed out (110: Connection timed out) while proxying upgraded connection
--- timeout: 2

=== a condition that is not the tunnel's
--- config
location / { tunnel_pass; tunnel_next_upstream http_500; }
--- must_die
--- error_log
invalid value "http_500"

=== twice
--- config
location / { tunnel_pass; tunnel_pass a:80; }
--- must_die
--- error_log
"tunnel_pass" directive is duplicate
