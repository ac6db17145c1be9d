# Values of forms that clients post.
use Test::Nginx::Socket 'no_plan';
no_root_location();
run_tests();

__DATA__

=== a field by its own name, and by another
--- config
location / { set_form_input $name; set_form_input $other NAME; return 200 "$name $other"; }
--- more_headers
Content-Type: application/x-www-form-urlencoded; charset=utf-8
--- request
POST /
id=1&name=a%20b&xname=c
--- response_body: a%20b a%20b

=== all fields of a name
--- config
location / {
    set_form_input_multi $ids id;
    array_join "+" $ids;
    return 200 $ids;
}
--- more_headers
Content-Type: application/x-www-form-urlencoded
--- request
POST /
id=1&x=2&id=3
--- response_body: 1+3

=== no form, no value
--- config
location / { set_form_input $name; return 200 "[$name]"; }
--- request eval
["GET /?name=a", "POST /\nname=a"]
--- response_body eval
["[]", "[]"]

=== a body that is in a file
--- config
client_body_buffer_size 8;
location / { set_form_input $name; return 200 "[$name]"; }
--- more_headers
Content-Type: application/x-www-form-urlencoded
--- request
POST /
name=aaaaaaaaaaaaaaaaaaaaaaaaa
--- response_body: []
--- error_log
form-input: in-file buffer found. aborted. consider increasing your client_body_buffer_size setting
