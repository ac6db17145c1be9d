# Queries of PostgreSQL servers as locations.
use Test::Nginx::Socket 'no_plan';
no_root_location();
our $upstream = <<'_EOC_';
upstream db { postgres_server 127.0.0.1:$TEST_NGINX_POSTGRES_PORT user=ngx_test password=ngx_test dbname=ngx_test; }
_EOC_
run_tests();

__DATA__

=== forms of an answer
--- http_config eval: $::upstream
--- config
location /value { postgres_query "select 'a'||$arg_n"; postgres_output value; postgres_pass db; }
location /text { postgres_query "select 1, null::text union all select 2, 'b' order by 1"; postgres_output text; postgres_pass db; }
location /binary { postgres_query "select 258::int4"; postgres_output binary_value; postgres_pass db; }
location /none { postgres_query "select 1"; postgres_output none; postgres_pass db; }
--- request eval
["GET /value?n=7", "GET /text", "GET /binary", "GET /none"]
--- response_body eval
["a7", "1\n(null)\n2\nb", "\0\0\1\2", ""]

=== ways to log in
--- http_config
upstream scram { postgres_server 127.0.0.1:$TEST_NGINX_POSTGRES_PORT user=ngx_test password=ngx_test dbname=ngx_test; }
upstream md5 { postgres_server 127.0.0.1:$TEST_NGINX_POSTGRES_PORT user=ngx_md5 password=ngx_test dbname=ngx_test; }
upstream plain { postgres_server 127.0.0.1:$TEST_NGINX_POSTGRES_PORT user=ngx_plain password=ngx_test dbname=ngx_test; }
upstream trust { postgres_server 127.0.0.1:$TEST_NGINX_POSTGRES_PORT user=ngx_trust dbname=ngx_test; }
--- config
location ~ ^/(\w+) { set $db $1; postgres_query "select current_user"; postgres_output value; postgres_pass $db; }
--- request eval
["GET /scram", "GET /md5", "GET /plain", "GET /trust"]
--- response_body eval
["ngx_test", "ngx_md5", "ngx_plain", "ngx_trust"]

=== a wrong password
--- http_config
upstream db { postgres_server 127.0.0.1:$TEST_NGINX_POSTGRES_PORT user=ngx_test password=wrong dbname=ngx_test; }
--- config
location / { postgres_query "select 1"; postgres_pass db; }
--- request
GET /
--- error_code: 502
--- error_log eval
qr/postgres: connection failed: FATAL:  password authentication failed for user "ngx_test".*upstream: "postgres:/

=== methods, rewrites, variables
--- http_config eval: $::upstream
--- config
location /clear { postgres_query "create table if not exists spec_moons (name text)"; postgres_output none; postgres_pass db; }
location /moons {
    postgres_escape $name $arg_name;
    postgres_query GET HEAD "select name from spec_moons where name = $name";
    postgres_query PUT "insert into spec_moons values ($name)";
    postgres_query DELETE "delete from spec_moons where name = $name";
    postgres_rewrite GET no_rows 410;
    postgres_rewrite PUT changes 201;
    postgres_rewrite DELETE no_changes =404;
    postgres_set $first 0 name;
    postgres_output text;
    postgres_pass db;
    add_header X-Rows "$postgres_rows/$postgres_columns/$postgres_affected/$first";
}
--- request eval
["GET /clear", "DELETE /moons?name=io", "GET /moons?name=io", "PUT /moons?name=io\n", "GET /moons?name=io", "DELETE /moons?name=io", "POST /moons?name=io\n"]
--- error_code eval
[200, 404, 410, 201, 200, 200, 405]
--- response_body_like eval
["^\$", "^\$", "410 Gone", "^\$", "^io\$", "^\$", "405 Not Allowed"]

=== what is selected can be seen
--- http_config eval: $::upstream
--- config
location / {
    postgres_query "select 7 as id, '' as name";
    postgres_set $id 0 0; postgres_set $name 0 name;
    postgres_output none; postgres_pass db;
    add_header X-Seen "$postgres_rows $postgres_columns [$postgres_affected] $id [$name] $postgres_query";
}
location /required { postgres_query "select null::text as id"; postgres_set $other 0 id required; postgres_pass db; }
--- request
GET /
--- response_headers
X-Seen: 1 2 [] 7 [] select 7 as id, '' as name

=== literals
--- config
location / {
    set_unescape_uri $a $arg_a;
    postgres_escape $b $a;
    postgres_escape $c =$a;
    return 200 "$b $c";
}
--- request eval
["GET /?a=o'c%5C", "GET /"]
--- response_body eval
["'o''c\\\\' 'o''c\\\\'", "NULL ''"]

=== errors of SQL
--- http_config eval: $::upstream
--- config
location /wrong { postgres_query "selec 1"; postgres_pass db; }
location /two { postgres_query "select 1; select 2"; postgres_pass db; }
location /empty { postgres_query ";"; postgres_pass db; }
location /copy { postgres_query "copy (select 1) to stdout"; postgres_pass db; }
location /rows { postgres_query "select 1 union select 2"; postgres_output value; postgres_pass db; }
location /after { postgres_query "select 'fine'"; postgres_output value; postgres_pass db; }
--- request eval
["GET /wrong", "GET /two", "GET /empty", "GET /copy", "GET /rows", "GET /after"]
--- error_code eval
[500, 500, 500, 500, 500, 200]

=== connections are kept, and may be used up
--- http_config
upstream kept { postgres_server 127.0.0.1:$TEST_NGINX_POSTGRES_PORT user=ngx_test password=ngx_test dbname=ngx_test; postgres_keepalive max=1 overflow=reject; }
upstream not { postgres_server 127.0.0.1:$TEST_NGINX_POSTGRES_PORT user=ngx_test password=ngx_test dbname=ngx_test; postgres_keepalive off; }
--- config
location /pid { postgres_query "select pg_backend_pid()"; postgres_output value; postgres_pass $arg_db; }
location /slow { postgres_query "select pg_sleep(0.3)"; postgres_pass kept; }
location /main {
    content_by_lua_block {
        local function pid(db) return ngx.location.capture("/pid?db=" .. db).body end
        ngx.print(pid("kept") == pid("kept"), " ", pid("not") == pid("not"))
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

=== nobody there
--- http_config
upstream db { postgres_server 127.0.0.1:1 user=a; }
--- config
location / { postgres_query "select 1"; postgres_pass db; }
--- request
GET /
--- error_code: 502
--- error_log
connect() failed (111: Connection refused) while connecting to PostgreSQL database

=== what is no server
--- http_config
upstream db { postgres_server 127.0.0.1:1985 user=a; }
--- config
location / { postgres_query "select 1"; postgres_pass db; }
--- tcp_listen: 1985
--- tcp_reply eval: "HTTP/1.1 400 Bad Request\r\n\r\n"
--- request
GET /
--- error_code: 502
--- error_log
postgres: upstream sent a malformed message: message too long

=== a length that lies
--- http_config
upstream db { postgres_server 127.0.0.1:1985 user=a; }
--- config
location / { postgres_query "select 1"; postgres_pass db; }
--- tcp_listen: 1985
--- tcp_reply eval: "R\0\0\0\x02"
--- request
GET /
--- error_code: 502
--- error_log
postgres: upstream sent a malformed message: malformed length

=== a server that takes too long
--- http_config eval: $::upstream
--- config
location / { postgres_query "select pg_sleep(3)"; postgres_result_timeout 100ms; postgres_pass db; }
--- request
GET /
--- error_code: 504
--- error_log
upstream timed out (110: Connection timed out) while waiting for result from PostgreSQL database

=== an upstream without servers of this kind
--- http_config
upstream db { server 127.0.0.1:1; }
--- config
location / { postgres_query "select 1"; postgres_pass db; }
--- must_die
--- error_log
postgres: no postgres_server defined in upstream "db"
