# cjson and cjson.safe, which come with the server.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: values become text and come back
--- config
location /t {
    content_by_lua_block {
        local cjson = require "cjson"
        ngx.say(cjson._NAME, " ", cjson.encode("a\"b\\c/\1\127\n"))
        ngx.say(cjson.encode({ 1, 2.5, -0.001, 1e20, 123456789012345, true, cjson.null }))
        ngx.say(cjson.encode({ a = { b = { 1, { c = "d" } } } }))
        ngx.say(cjson.encode({}), cjson.encode({ [2] = "b", [4] = "d" }), cjson.encode(cjson.empty_array))
        local v = cjson.decode('{"a":[1,-2.5e3,"\\u00e9\\ud834\\udd1e\\n"],"b":null,"c":{"d":false},"a":[7]}')
        ngx.say(#v.a, v.a[1], v.b == ngx.null, v.c.d)
        ngx.say(cjson.decode('"\\u00e9\\ud834\\udd1e"'), cjson.decode(" [ 1 , [ ] , { } ] ")[1], cjson.decode("0x10"))
    }
}
--- request
GET /t
--- response_body eval
"cjson \"a\\\"b\\\\c\\/\\u0001\\u007f\\n\"
[1,2.5,-0.001,1e+20,1.2345678901234e+14,true,null]
{\"a\":{\"b\":[1,{\"c\":\"d\"}]}}
{}[null,\"b\",null,\"d\"][]
17truefalse
\x{c3}\x{a9}\x{f0}\x{9d}\x{84}\x{9e}116
"

=== TEST 2: what cannot be done is said in lua-cjson's words
--- config
location /t {
    content_by_lua_block {
        local cjson = require "cjson"
        local safe = require "cjson.safe"
        local function try(f, ...)
            local ok, err = pcall(f, ...)
            ngx.say((tostring(err):gsub("^.-:%d+: ", "")))
        end
        try(cjson.encode, function() end)
        try(cjson.encode, { [1] = 1, [100] = 2 })
        try(cjson.encode, { [true] = 1 })
        try(cjson.encode, 1 / 0)
        local deep = {}
        for _ = 1, 1001 do deep = { deep } end
        try(cjson.encode, deep)
        try(cjson.decode, '{"a":')
        try(cjson.decode, '{"a" 1}')
        try(cjson.decode, "[1,]")
        try(cjson.decode, '"\\x"')
        try(cjson.decode, '"abc')
        try(cjson.decode, ("["):rep(1001))
        try(cjson.decode, "a\0")
        try(cjson.encode_max_depth, 0)
        try(cjson.encode_keep_buffer, "perhaps")
        ngx.say(safe.decode("{"))
        ngx.say(safe.decode(nil))
        ngx.say(safe.encode({ print }))
    }
}
--- request
GET /t
--- response_body
Cannot serialise function: type not supported
Cannot serialise table: excessively sparse array
Cannot serialise boolean: table key must be a number or string
Cannot serialise number: must not be NaN or Infinity
Cannot serialise, excessive nesting (1001)
Expected value but found T_END at character 6
Expected colon but found T_INTEGER at character 6
Expected value but found T_ARR_END at character 4
Expected value but found invalid escape code at character 2
Expected value but found unexpected end of string at character 5
Found too many nested data structures (1001) at character 1001
JSON parser does not support UTF-16 or UTF-32
bad argument #1 to '?' (expected integer between 1 and 2147483647)
bad argument #1 to '?' (invalid option 'perhaps')
nilExpected object key string but found T_END at character 2
nilbad argument #1 to '?' (string expected, got nil)
nilCannot serialise function: type not supported

=== TEST 3: every setting
--- config
location /t {
    content_by_lua_block {
        local cjson = require("cjson").new()
        ngx.say(cjson.encode_sparse_array(true, 1, 1), " ", cjson.encode({ [3] = 1 }))
        ngx.say(cjson.encode_number_precision(3), " ", cjson.encode(math.pi))
        ngx.say(cjson.encode_invalid_numbers("null"), " ", cjson.encode({ 0 / 0, 1 / 0 }))
        ngx.say(cjson.encode_invalid_numbers(true), " ", cjson.encode({ 1 / 0, -1 / 0 }))
        ngx.say(cjson.encode_empty_table_as_object(false), " ", cjson.encode({ a = {} }))
        ngx.say(cjson.encode_escape_forward_slash(false), " ", cjson.encode("a/b"))
        ngx.say(cjson.encode_skip_unsupported_value_types(true), " ", cjson.encode({ 1, print, 2 }))
        ngx.say(cjson.encode_indent("  "), "|", cjson.encode({ a = { 1, 2 } }))
        cjson.encode_indent("")
        ngx.say(cjson.decode_array_with_array_mt(true), " ", getmetatable(cjson.decode("[]")) == cjson.array_mt)
        ngx.say(cjson.decode_allow_comment(true), " ", #cjson.decode("[1, /* two */ 2] // end"))
        ngx.say(cjson.decode_invalid_numbers(false), " ", pcall(cjson.decode, "[0x1]"))
        ngx.say(cjson.decode_max_depth(1), " ", pcall(cjson.decode, "[[]]"))
        ngx.say(cjson.encode_keep_buffer(false), " ", cjson.encode_max_depth(5))
        ngx.say(require("cjson").encode_number_precision(), " ", require("cjson").encode("/"))
    }
}
--- request
GET /t
--- response_body
true {"3":1}
3 3.14
null [null,null]
true [Infinity,-Infinity]
false {"a":[]}
false "a/b"
true [1,2]
  |{
  "a": [
    1,
    2
  ]
}
true true
true 2
false falseExpected value but found invalid number at character 2
1 falseFound too many nested data structures (2) at character 2
false 5
14 "\/"

=== TEST 4: metatables say what an array is
--- config
location /t {
    content_by_lua_block {
        local cjson = require "cjson"
        ngx.say(cjson.encode(setmetatable({}, cjson.empty_array_mt)))
        ngx.say(cjson.encode(setmetatable({ a = 1 }, cjson.empty_array_mt)))
        ngx.say(cjson.encode(setmetatable({ 1, 2, a = 3 }, cjson.array_mt)))
        local proxy = setmetatable({}, {
            __len = function() return 3 end,
            __index = function(_, n) return n * 10 end,
        })
        ngx.say(cjson.encode({ proxy }))
        -- A metamethod that changes the table being walked.
        local walked = { a = 1, b = 2 }
        walked.c = setmetatable({}, { __len = function()
            for n = 1, 100 do walked[n] = n end
            return 0
        end })
        ngx.say(type(select(2, pcall(cjson.encode, walked))))
    }
}
--- request
GET /t
--- response_body
[]
[]
[1,2]
[[10,20,30]]
string
--- no_error_log
[error]

=== TEST 5: a module of that name on the path comes first, a C module does not
--- http_config
lua_package_path "$prefix/html/?.lua;;";
--- config
location /t {
    content_by_lua_block {
        ngx.say(require("cjson").mine, " ", require("cjson.safe")._VERSION)
    }
}
--- user_files
>>> cjson.lua
return { mine = "mine" }
--- request
GET /t
--- response_body
mine 2.1.0.19
