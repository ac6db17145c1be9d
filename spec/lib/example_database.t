# The service in examples/database, against real servers.
use Test::Nginx::Socket 'no_plan';
use MockServer ();
use Cwd ();

our ($root) = Cwd::abs_path($INC{'MockServer.pm'}) =~ m{^(.*)/spec/};

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(main_config => <<'_CONF_');
env POSTGRES_PORT=$TEST_NGINX_POSTGRES_PORT;
env POSTGRES_DB=ngx_test;
env POSTGRES_USER=ngx_test;
env POSTGRES_PASSWORD=ngx_test;
env REDIS_PORT=$TEST_NGINX_REDIS_PORT;
_CONF_
    $block->set_value(http_config => <<"_CONF_");
lua_package_path "$main::root/examples/database/lua/?.lua;;";
_CONF_
    $block->set_value(config => <<'_CONF_');
location = /notes { content_by_lua_block { require("notes").collection() } }
location ~ "^/notes/(?<id>[0-9]{1,9})$" { content_by_lua_block { require("notes").item(ngx.var.id) } }
location = /events { content_by_lua_block { require("notes").events() } }
location = /t {
    content_by_lua_block {
        local notes = require "notes"
        notes.prepare()
        require("stores").with_postgres(function(db) assert(db:query("TRUNCATE notes RESTART IDENTITY")) end)
        require("stores").with_redis(function(red) return red:del("note:1", "note:2") end)
        local http = require "resty.http"
        local function ask(method, path, body)
            local client = http.new()
            local res = assert(client:request_uri("http://127.0.0.1:" .. ngx.var.server_port .. path, { method = method, body = body }))
            ngx.say(method, " ", path, ": ", res.status, " ", res.headers["X-Cache"] or "-", " ", (res.body:gsub("\n", ""):gsub("\"made\":\"[^\"]*\"", "")))
        end
        ask("GET", "/notes")
        ask("POST", "/notes", [[{"text":"it's","tags":["a","b,c"]}]])
        ask("POST", "/notes", [[{"text":"two"}]])
        ask("POST", "/notes", "nonsense")
        ask("GET", "/notes?tag=b%2Cc")
        ask("GET", "/notes/2")
        ask("GET", "/notes/2")
        local listener = require("stores").redis()
        listener:subscribe("notes")
        ask("DELETE", "/notes/2")
        ngx.say(listener:read_reply()[3])
        ask("GET", "/notes/2")
        ask("DELETE", "/notes/2")
        ask("PUT", "/notes/1", "")
    }
}
_CONF_
    $block->set_value(request => "GET /t");
});

run_tests();
__DATA__

=== TEST 1: notes are made, listed, cached and removed
--- timeout: 10
--- response_body_like
^GET /notes: 200 - \[\]
POST /notes: 201 - \{"id":1\}
POST /notes: 201 - \{"id":2\}
POST /notes: 400 - \{"error":.*\}
GET /notes\?tag=b%2Cc: 200 - \[\{.*"it's".*\}\]
GET /notes/2: 200 miss \{.*"two".*\}
GET /notes/2: 200 hit \{.*"two".*\}
DELETE /notes/2: 204 - 
deleted 2
GET /notes/2: 404 miss .*
DELETE /notes/2: 404 - .*
PUT /notes/1: 405 - .*
--- no_error_log
[error]
