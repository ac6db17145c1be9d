# Queries of MySQL servers as locations.
use Test::Nginx::Socket 'no_plan';
no_root_location();
our $upstream = <<'_EOC_';
upstream db { drizzle_server 127.0.0.1:$TEST_NGINX_MYSQL_PORT user=ngx_test password=ngx_test dbname=ngx_test protocol=mysql charset=utf8; }
_EOC_
run_tests();

__DATA__

=== rows of all kinds
--- http_config eval: $::upstream
--- config
rds_json on;
location / {
    drizzle_query "select 1 as id, 'o\"cé' as name, null as none, 2.50 as price, cast(1.5 as double) as half, date '2026-01-31' as day";
    drizzle_pass db;
}
location /small {
    drizzle_query "select 1 as id union select 2 union select 3";
    drizzle_buffer_size 1;
    drizzle_pass db;
}
location /none { drizzle_query "select 1 as id from dual where 1 = 0"; drizzle_pass db; }
--- request eval
["GET /", "GET /small", "GET /none"]
--- response_body eval
["[{\"id\":1,\"name\":\"o\\\"c\xc3\xa9\",\"none\":null,\"price\":2.50,\"half\":1.5,\"day\":\"2026-01-31\"}]",
 "[{\"id\":1},{\"id\":2},{\"id\":3}]", "[]"]

=== what changed
--- http_config eval: $::upstream
--- config
rds_json on;
location /drop { drizzle_query "drop table if exists spec_moons"; drizzle_pass db; }
location /make { drizzle_query "create table spec_moons (id int auto_increment primary key, name varchar(20))"; drizzle_pass db; }
location /add { set_quote_sql_str $name $arg_name; drizzle_query "insert into spec_moons (name) values ($name)"; drizzle_pass db; }
location /edit { drizzle_query "update spec_moons set name = 'europa' where name = 'io'"; drizzle_pass db; }
--- request eval
["GET /drop", "GET /make", "GET /add?name=io", "GET /edit"]
--- response_body_like eval
["^\\{\"errcode\":0.*\\}\$", "^\\{\"errcode\":0\\}\$", "^\\{\"errcode\":0,\"insert_id\":1,\"affected_rows\":1\\}\$",
 "^\\{\"errcode\":0,\"errstr\":\"Rows matched: 1  Changed: 1  Warnings: 0\",\"affected_rows\":1\\}\$"]

=== a large value in small pieces
--- http_config eval: $::upstream
--- config
location / { drizzle_query "select repeat('x', 300000) as a"; drizzle_pass db; rds_csv on; rds_csv_field_name_header off; }
location /main { content_by_lua_block { ngx.print(#ngx.location.capture("/").body) } }
--- request
GET /main
--- response_body: 300002

=== methods, the module's name, the connection's number
--- http_config eval: $::upstream
--- config
location / {
    drizzle_query GET HEAD "select 1 as id";
    drizzle_pass db;
    add_header X-Thread $drizzle_thread_id;
}
location /plain { drizzle_query "select 1 as id"; drizzle_module_header off; drizzle_pass db; }
--- request eval
["GET /", "POST /\n", "GET /plain"]
--- error_code eval
[200, 405, 200]
--- response_headers_like eval
["X-Thread: \\d+\nX-Resty-DBD-Module: ngx_drizzle \\d+\\.\\d+\\.\\d+\nContent-Type: application/x-resty-dbd-stream", "", ""]

=== errors of SQL
--- http_config eval: $::upstream
--- config
location /table { drizzle_query "select * from spec_nobody_made_this"; drizzle_pass db; }
location /wrong { drizzle_query "selec 1"; drizzle_pass db; }
location /two { drizzle_query "select 1; select 2"; drizzle_pass db; }
location /none { drizzle_pass db; }
location /empty { drizzle_query $arg_q; drizzle_pass db; }
location /name { drizzle_query "select 1"; drizzle_pass $arg_db; }
--- request eval
["GET /table", "GET /wrong", "GET /two", "GET /none", "GET /empty", "GET /name", "GET /name?db=x"]
--- error_code eval
[410, 500, 500, 500, 500, 500, 500]

=== a wrong password
--- http_config
upstream db { drizzle_server 127.0.0.1:$TEST_NGINX_MYSQL_PORT user=ngx_test password=wrong dbname=ngx_test; }
--- config
location / { drizzle_query "select 1"; drizzle_pass db; }
--- request
GET /
--- error_code: 502
--- error_log eval
qr/failed to connect: 15: Access denied for user 'ngx_test'.*upstream: "drizzle:/

=== connections are kept, and may be used up
--- http_config
upstream kept { drizzle_server 127.0.0.1:$TEST_NGINX_MYSQL_PORT user=ngx_test password=ngx_test; drizzle_keepalive max=1 overflow=reject; }
upstream not { drizzle_server 127.0.0.1:$TEST_NGINX_MYSQL_PORT user=ngx_test password=ngx_test; }
--- config
rds_json on;
location /id { drizzle_query "select connection_id() as id"; drizzle_pass $arg_db; }
location /slow { drizzle_query "select sleep(0.3) as id"; drizzle_pass kept; }
location /main {
    content_by_lua_block {
        local function id(db) return ngx.location.capture("/id?db=" .. db).body end
        ngx.print(id("kept") == id("kept"), " ", id("not") == id("not"))
    }
}
location /full {
    content_by_lua_block {
        local one, two = ngx.location.capture_multi({ { "/slow" }, { "/slow" } })
        local all = { one.status, two.status }
        table.sort(all)
        ngx.print(table.concat(all, " "))
    }
}
--- request eval
["GET /main", "GET /full"]
--- response_body eval
["true false", "200 503"]

=== what connections do
--- http_config
upstream db { drizzle_server 127.0.0.1:3306; drizzle_keepalive max=2 overflow=reject mode=multi; }
upstream other { server 127.0.0.1:1; }
--- config
location / { drizzle_status; }
--- request
GET /
--- response_body_like chop
^(?:worker process: \d+

)?upstream db
  active connections: 0
  connection pool capacity: 2
  overflow: reject
  cached connection queue: 0
  free'd connection queue: 2
  cached connection successfully used count:
  free'd connection successfully used count: 0 0
  servers: 1
  peers: 1$

=== nobody there
--- http_config
upstream db { drizzle_server 127.0.0.1:1 user=a; }
--- config
location / { drizzle_query "select 1"; drizzle_pass db; }
--- request
GET /
--- error_code: 502
--- error_log
connect() failed (111: Connection refused) while connecting to drizzle upstream

=== what is no server
--- http_config
upstream db { drizzle_server 127.0.0.1:1985 user=a; }
--- config
location / { drizzle_query "select 1"; drizzle_pass db; }
--- tcp_listen: 1985
--- tcp_shutdown: 0
--- tcp_reply eval: "\x05\0\0\0\x09abcd"
--- request
GET /
--- error_code: 502
--- error_log
drizzle: upstream sent a malformed packet: protocol version not supported

=== a server that is full
--- http_config
upstream db { drizzle_server 127.0.0.1:1985 user=a; }
--- config
location / { drizzle_query "select 1"; drizzle_pass db; }
--- tcp_listen: 1985
--- tcp_shutdown: 0
--- tcp_reply eval: "\x17\0\0\0\xff\x10\x04Too many connections"
--- request
GET /
--- error_code: 502
--- error_log
failed to connect: 15: Too many connections

=== a server that breaks off
--- http_config
upstream db { drizzle_server 127.0.0.1:1985 user=a; }
--- config
location / { drizzle_query "select 1"; drizzle_pass db; }
--- tcp_listen: 1985
--- tcp_shutdown: 0
--- tcp_reply eval: "\xff\xff\xff\0\x0a5.5"
--- request
GET /
--- error_code: 502
--- error_log
upstream prematurely closed connection while connecting to drizzle upstream

=== a server that takes too long
--- http_config eval: $::upstream
--- config
location / { drizzle_query "select sleep(3)"; drizzle_recv_cols_timeout 100ms; drizzle_pass db; }
--- request
GET /
--- error_code: 504
--- error_log
upstream timed out (110: Connection timed out) while sending query to drizzle upstream

=== an unknown parameter
--- http_config
upstream db { drizzle_server 127.0.0.1 moon=1; }
--- config
--- must_die
--- error_log
drizzle: invalid parameter "moon=1" in "drizzle_server"

=== passwords as MySQL 8 wants them
--- http_config
upstream key { drizzle_server 127.0.0.1:$TEST_NGINX_MYSQL8_PORT user=ngx_sha2_drizzle password=ngx_test; }
upstream switched { drizzle_server 127.0.0.1:$TEST_NGINX_MYSQL8_NATIVE_PORT user=ngx_sha2_drizzle password=ngx_test; }
upstream native { drizzle_server 127.0.0.1:$TEST_NGINX_MYSQL8_PORT user=ngx_native_drizzle password=ngx_test; }
upstream none { drizzle_server 127.0.0.1:$TEST_NGINX_MYSQL8_PORT user=ngx_sha2_nopass; }
--- config
rds_json on;
rds_json_format compact;
location ~ ^/(.+) { drizzle_query "select 1"; drizzle_pass $1; }
--- request eval
["GET /key", "GET /key", "GET /switched", "GET /native", "GET /none"]
--- response_body_like eval
["caching_sha2_password\",\"rsa\",\"no", "caching_sha2_password\",\"fast\",\"no", "caching_sha2_password\",\"fast\",\"no",
 "mysql_native_password\",\"scramble\",\"no", "caching_sha2_password\",\"empty\",\"no"]

=== a wrong password for MySQL 8
--- http_config
upstream db { drizzle_server 127.0.0.1:$TEST_NGINX_MYSQL8_PORT user=ngx_sha2_drizzle password=wrong; }
--- config
location / { drizzle_query "select 1"; drizzle_pass db; }
--- request
GET /
--- error_code: 502
--- error_log
Access denied for user 'ngx_sha2_drizzle'@'localhost'
