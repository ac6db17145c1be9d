# memcached's commands as locations.
use Test::Nginx::Socket 'no_plan';
no_root_location();
run_tests();

__DATA__

=== a value is stored: the variable's, under the key's
--- config
location / { set $memc_cmd set; set $memc_key "a b"; set $memc_value hello; set $memc_exptime 9; memc_pass 127.0.0.1:1985; }
--- tcp_listen: 1985
--- tcp_query eval: "set a%20b 0 9 5\r\nhello\r\n"
--- tcp_query_len: 24
--- tcp_reply eval: "STORED\r\n"
--- request
GET /
--- error_code: 201
--- response_body eval: "STORED\r\n"

=== the request's body is the value, its method the command
--- config
location / { set $memc_key k; memc_pass 127.0.0.1:1985; }
--- tcp_listen: 1985
--- tcp_query eval: "add k 0 0 3\r\nabc\r\n"
--- tcp_query_len: 18
--- tcp_reply eval: "NOT_STORED\r\n"
--- request
POST /
abc
--- error_code: 200

=== a value is found, with its flags
--- config
location / { set $memc_key k; memc_flags_to_last_modified on; memc_pass 127.0.0.1:1985; add_header X-Flags $memc_flags; }
--- tcp_listen: 1985
--- tcp_query eval: "get k\r\n"
--- tcp_query_len: 7
--- tcp_reply eval: "VALUE k 86400 5\r\nhello\r\nEND\r\n"
--- request
GET /
--- response_headers
X-Flags: 86400
Content-Length: 5
Last-Modified: Fri, 02 Jan 1970 00:00:00 GMT
--- response_body: hello

=== a value that is not there is a 404
--- config
error_page 404 = /none;
location = /none { return 200 none; }
location / { set $memc_key k; memc_pass 127.0.0.1:1985; }
--- tcp_listen: 1985
--- tcp_query_len: 7
--- tcp_reply eval: "END\r\n"
--- request
GET /
--- response_body: none

=== what memcached does not understand is a bad gateway
--- config
location / { set $memc_cmd incr; set $memc_key k; set $memc_value 3; memc_pass 127.0.0.1:1985; }
--- tcp_listen: 1985
--- tcp_query eval: "incr k 3\r\n"
--- tcp_query_len: 10
--- tcp_reply eval: "CLIENT_ERROR cannot increment\r\n"
--- request
GET /
--- error_code: 502
--- response_body eval: "CLIENT_ERROR cannot increment\r\n"

=== an answer that makes no sense is refused
--- config
location / { set $memc_key k; memc_pass 127.0.0.1:1985; }
--- tcp_listen: 1985
--- tcp_query_len: 7
--- tcp_reply eval: "VALUE k x\r\n"
--- request
GET /
--- error_code: 502
--- error_log
memcached sent invalid response: "VALUE k x"

=== a key is needed
--- config
location / { memc_pass 127.0.0.1:1985; }
--- request
GET /
--- error_code: 500
--- error_log
the "$memc_key" variable is not set

=== a command must be allowed and known
--- config
location /allowed { set $memc_cmd flush_all; memc_cmds_allowed get; memc_pass 127.0.0.1:1985; }
location /known { set $memc_cmd frobnicate; memc_pass 127.0.0.1:1985; }
--- request eval
["GET /allowed", "GET /known"]
--- error_code eval
[403, 400]
