# Addresses that trusted proxies tell.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== any field may carry the address
--- config
set_real_ip_from 127.0.0.0/8;
real_ip_header X-Client;
location / { return 200 "$remote_addr:$remote_port $realip_remote_addr"; }
--- more_headers eval
["X-Client: 10.1.1.1", "x-client: [2001:db8::1]:99", "X-Client: nonsense", "X-Client: 10.1.1.1:70000"]
--- request eval
[("GET /") x 4]
--- response_body_like eval
['^10\.1\.1\.1: 127\.0\.0\.1$', '^2001:db8::1:99 127\.0\.0\.1$', '^127\.0\.0\.1:\d+ 127\.0\.0\.1$', '^127\.0\.0\.1:\d+ 127\.0\.0\.1$']

=== a location may trust more than its server
--- config
location / { return 200 "$remote_addr"; }
location /in { set_real_ip_from 127.0.0.1; error_page 404 = /other; try_files /none =404; }
location = /other { return 200 "$remote_addr"; }
--- more_headers
X-Real-IP: 10.1.1.1
--- request eval
["GET /", "GET /in"]
--- response_body eval
["127.0.0.1", "10.1.1.1"]

=== a list is followed through several fields
--- config
set_real_ip_from 127.0.0.1;
set_real_ip_from 10.0.0.0/8;
real_ip_header X-Forwarded-For;
real_ip_recursive on;
location / { return 200 "$remote_addr"; }
--- more_headers
X-Forwarded-For: 192.0.2.9, 192.0.2.1
X-Forwarded-For: 10.0.0.2, 10.0.0.1
--- request
GET /
--- response_body chomp
192.0.2.1

=== an unknown host is refused
--- config
set_real_ip_from no such host;
--- must_die
--- error_log
invalid number of arguments in "set_real_ip_from" directive

=== a name without an address is refused
--- config
set_real_ip_from 127.0.0.1/99;
--- must_die
--- error_log
host not found in set_real_ip_from "127.0.0.1/99"
