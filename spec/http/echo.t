# echo: answers written in the configuration.
use Test::Nginx::Socket 'no_plan';
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();
no_root_location();
run_tests();

__DATA__

=== text, options and variables
--- config
location /t {
    echo hello $arg_name;
    echo -n a b;
    echo -- -n;
    echo;
    echo_duplicate 3 ab;
}
--- request
GET /t?name=you
--- response_body eval
"hello you\na b-n\n\nababab"

=== a status of its own
--- config
location /t {
    echo_status 404;
    echo gone;
}
--- request
GET /t
--- error_code: 404
--- response_body
gone

=== nothing but a pause answers an empty body
--- config
location /t {
    echo_sleep 0.001;
}
--- request
GET /t
--- response_body eval
""

=== subrequests in order, one after the other
--- config
location /t {
    echo_location /sub "a=1";
    echo between;
    echo_location /sub a=2;
}
location /sub {
    echo_sleep 0.01;
    echo "sub $arg_a $echo_request_uri";
}
--- request
GET /t
--- response_body
sub 1 /sub?a=1
between
sub 2 /sub?a=2

=== subrequests side by side keep their order
--- config
location /t {
    echo_location_async /slow;
    echo_location_async /fast;
    echo end;
}
location /slow { echo_sleep 0.05; echo slow; }
location /fast { echo fast; }
--- request
GET /t
--- response_body
slow
fast
end

=== subrequests with method and body
--- config
location /t {
    echo_subrequest POST /sub -q 'x=y' -b 'the body';
}
location /sub {
    echo "$echo_request_method $echo_client_request_method $args";
    echo_request_body;
}
--- request
GET /t
--- response_body eval
"POST GET x=y\nthe body"

=== the request's body
--- config
location /t {
    echo_read_request_body;
    echo_request_body;
    echo;
    echo "[$echo_request_body]";
}
--- request
POST /t
some text
--- response_body
some text
[some text]

=== loops
--- config
location /t {
    echo_foreach_split ',' $arg_list;
    echo "item: $echo_it";
    echo_end;
    echo done;
}
--- request
GET /t?list=a,b,,c
--- response_body
item: a
item: b
item: c
done

=== a delimiter that looks like an option
--- config
location /t {
    echo_foreach_split '-a-' $arg_list;
    echo "item: $echo_it";
    echo_end;
}
--- request
GET /t?list=x-a-y
--- error_code: 500
--- error_log
echo_foreach should take at least two arguments

=== the same as a delimiter
--- config
location /t {
    echo_foreach_split -- '-a-' $arg_list;
    echo "item: $echo_it";
    echo_end;
}
--- request
GET /t?list=x-a-y
--- response_body
item: x
item: y

=== a loop over nothing
--- config
location /t {
    echo_foreach_split ',' $arg_list;
    echo "item: $echo_it";
    echo_end;
    echo done;
}
--- request
GET /t
--- response_body
done

=== echo_exec starts over elsewhere
--- config
location /t { echo_exec /other "b=$arg_a"; }
location /other { echo "other $args"; }
location /named { echo_exec @name; }
location @name { echo named; }
--- request
GET /t?a=7
--- response_body
other b=7

=== text around another handler's body
--- config
location /t {
    echo_before_body before;
    echo_after_body -n after;
    return 200 "body\n";
}
--- request
GET /t
--- response_body eval
"before\nbody\nafter"

=== the timer
--- config
location /t {
    echo_reset_timer;
    echo_sleep 0.02;
    echo $echo_timer_elapsed;
}
--- request
GET /t
--- response_body_like: ^0\.0\d\d$

=== nested locations have none of it
--- config
location /t {
    echo outer;
    location /t/inner { }
}
--- request
GET /t/inner
--- error_code: 404

=== a method nobody knows
--- config
location /t { echo_subrequest FOO /sub; }
--- must_die
--- error_log
invalid method "FOO"
