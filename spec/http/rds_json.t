# Answers of databases as JSON.
use Test::Nginx::Socket 'no_plan';
no_root_location();
our $upstream = 'upstream db { postgres_server 127.0.0.1:$TEST_NGINX_POSTGRES_PORT user=ngx_test password=ngx_test dbname=ngx_test; }';
run_tests();

__DATA__

=== objects
--- http_config eval: $::upstream
--- config
location / {
    postgres_query "select 1 as id, 'o\"c' as name, null::text as none, true as yes, 2.5::float8 as half union all select 2, '', 'x', false, -1 order by 1";
    rds_json on;
    postgres_pass db;
}
--- request
GET /
--- response_headers
Content-Type: application/json
--- response_body: [{"id":1,"name":"o\"c","none":null,"yes":true,"half":2.5},{"id":2,"name":"","none":"x","yes":false,"half":-1}]

=== lists, small pieces, a root and members
--- http_config eval: $::upstream
--- config
postgres_query "select 1 as id, 'a' as name";
rds_json on;
location /compact { rds_json_format compact; rds_json_buffer_size 1; postgres_pass db; }
location /root {
    rds_json_root rows; rds_json_success_property ok; rds_json_user_property method $request_method;
    postgres_pass db;
}
location /none { postgres_query "select 1 as id where false"; postgres_pass db; }
--- request eval
["GET /compact", "GET /root", "GET /none"]
--- response_body eval
["[[\"id\",\"name\"],[1,\"a\"]]", "{\"ok\":true,\"method\":\"GET\",\"rows\":[{\"id\":1,\"name\":\"a\"}]}", "[]"]

=== what changed
--- http_config eval: $::upstream
--- config
rds_json on;
location /make { postgres_query "create table if not exists spec_json (id int)"; postgres_pass db; }
location /add { postgres_query "insert into spec_json values (1), (2)"; postgres_pass db; }
--- request eval
["GET /make", "GET /add"]
--- response_body eval
["{\"errcode\":0}", "{\"errcode\":0,\"affected_rows\":2}"]

=== an answer of the configuration's
--- config
location / {
    rds_json_ret 100 "not \"enough\" $arg_what";
    rds_json_errcode_key code; rds_json_errstr_key text; rds_json_success_property ok;
}
--- request
GET /?what=moons
--- response_body: {"code":100,"text":"not \"enough\" moons","ok":false}

=== what is no stream is cut off
--- config
location / { default_type application/x-resty-dbd-stream; rds_json on; return 200 "garbage that is no stream"; }
--- request
GET /
--- ignore_response
--- error_log
rds_json: endian type in the header differ
