# Other methods, and two variables.
use Test::Nginx::Socket 'no_plan';
no_root_location();
run_tests();

__DATA__

=== a method that an argument names
--- config
override_method $arg_method;
location / { return 200 $request_method; }
location /fixed { override_method POST PUT DELETE; return 200 $request_method; }
location /off { override_method off; return 200 $request_method; }
--- request eval
["GET /?method=post", "GET /?method=brew", "GET /fixed?method=put", "GET /off?method=put"]
--- response_body eval
["POST", "GET", "PUT", "GET"]

=== the location and the password
--- config
location /name { return 200 "$location $remote_passwd"; }
location ~ /na.e$ { return 200 "$location"; }
--- more_headers
Authorization: Basic bW9vbjpyaXNl
--- request eval
["GET /name/x", "GET /x/nave"]
--- response_body eval
["/name rise", "/nave"]
