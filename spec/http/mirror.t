# Copies of requests.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== several copies, with the arguments and the method of the request
--- http_config
log_format own '$uri?$args $request_method';
access_log logs/access.log own;
--- config
log_subrequest on;
location / { mirror /one; mirror /two; empty_gif; }
location /one { internal; return 204; }
location /two { internal; return 204; }
--- request
GET /a?b=c
--- error_code: 200
--- access_log
/one?b=c GET
/two?b=c GET

=== mirror off in an inner location
--- http_config
log_format own '$uri';
access_log logs/access.log own;
--- config
log_subrequest on;
mirror /copy;
location / { mirror off; empty_gif; }
location /copy { internal; return 204; }
--- request
GET /a
--- error_code: 200
--- no_access_log
/copy

=== a copy that fails does not matter
--- config
location / { mirror /copy; try_files /f.txt =404; }
location /copy { internal; return 500; }
--- user_files
>>> f.txt
x
--- request
GET /
--- response_body
x

=== off and a target are duplicates
--- config
mirror off;
mirror /a;
--- must_die
--- error_log
"mirror" directive is duplicate
