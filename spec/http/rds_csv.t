# Answers of databases as tables of text.
use Test::Nginx::Socket 'no_plan';
no_root_location();
our $upstream = 'upstream db { postgres_server 127.0.0.1:$TEST_NGINX_POSTGRES_PORT user=ngx_test password=ngx_test dbname=ngx_test; }';
run_tests();

__DATA__

=== rows, with names and without
--- http_config eval: $::upstream
--- config
postgres_query "select 1 as id, 'o\"c,' as name, null::text as none union all select 2, '', 'x' order by 1";
rds_csv on;
location /names { postgres_pass db; }
location /none { rds_csv_field_name_header off; rds_csv_field_separator ";"; rds_csv_row_terminator "\n"; postgres_pass db; }
--- request eval
["GET /names", "GET /none"]
--- response_body eval
["id,name,none\r\n1,\"o\"\"c,\",\r\n2,,x\r\n", "1;\"o\"\"c,\";\n2;;x\n"]

=== what it is
--- http_config eval: $::upstream
--- config
location / { postgres_query "select 1 as id"; rds_csv on; postgres_pass db; }
--- request
GET /
--- response_headers
Content-Type: text/csv; header=presence
--- response_body eval: "id\r\n1\r\n"

=== what changed
--- http_config eval: $::upstream
--- config
location / { postgres_query "create table if not exists spec_csv (id int)"; rds_csv on; postgres_pass db; }
--- request
GET /
--- response_body eval: "errcode,errstr,insert_id,affected_rows\r\n0,,0,0\r\n"

=== other separators
--- config
rds_csv_field_separator "|";
--- must_die
--- error_log
"rds_csv_field_separator" directive takes a value other than ",", ";", and "\t"
