# `ngx.re`: match, find, gmatch, sub, gsub, split; options, captures, errors, limits.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: match answers the groups
--- config
location /t {
    content_by_lua_block {
        local m = ngx.re.match("hello, 1234", [[(\d)(\d+)(x)?]])
        ngx.say(m[0], " ", m[1], " ", m[2], " ", m[3], " ", m[4])
        m = ngx.re.match("hello, 1234", "(?<word>[a-z]+), (?<number>[0-9]+)|(?<none>x)")
        ngx.say(m.word, " ", m.number, " ", m.none, " ", m[1])
        ngx.say(ngx.re.match("abc", "x"))
        ngx.say(ngx.re.match(1234, "2")[0])
        local res = { [9] = "kept" }
        ngx.say(ngx.re.match("b", "b", nil, nil, res) == res, " ", res[0], " ", res[9])
    }
}
--- request
GET /t
--- response_body
1234 1 234 false nil
hello 1234 false hello
nil
2
true b kept
--- no_error_log
[error]

=== TEST 2: option letters
--- config
location /t {
    content_by_lua_block {
        local function say(...) local m, err = ngx.re.match(...) ngx.say(m and m[0] or m, " ", err) end
        say("HELLO", "hell", "i")
        say("a\nb", "^b", "m")
        say("a\nb", "a.b", "s")
        say("ab", "a b # comment", "x")
        say("ba", "a", "a")
        say("hello", "hell|hello", "d")
        say("hello", "(h)(e)", "jo")
        say("\228\189\160\229\165\189", ".", "u")
        say("\228\189\160\229\165\189", ".", "U")
        say("[]a", "[]a]", "J")
        ngx.say(select(2, pcall(ngx.re.match, "a", "a", "Hm")))
    }
}
--- request
GET /t
--- response_body_like
^HELL nil
b nil
a\nb nil
ab nil
nil nil
hello nil
he nil
\xe4\xbd\xa0 nil
\xe4\xbd\xa0 nil
nil nil
.*unknown flag "H" \(flags "Hm"\)
--- no_error_log
[error]

=== TEST 3: several groups of one name
--- config
location /t {
    content_by_lua_block {
        local m = ngx.re.match("hello, 1234", "(?<x>[a-z])(?<x>[a-z]+), (?<x>y)?(?<n>[0-9]+)", "D")
        ngx.say(table.concat(m.x, "|"), " ", table.concat(m.n, "|"))
    }
}
--- request
GET /t
--- response_body
h|ello 1234

=== TEST 4: a context carries the position
--- config
location /t {
    content_by_lua_block {
        local ctx = { pos = 3 }
        ngx.say(ngx.re.match("1234, 56", [[\d+]], "", ctx)[0], " ", ctx.pos)
        ngx.say(ngx.re.match("1234, 56", [[\d+]], "", ctx)[0], " ", ctx.pos)
        ngx.say(ngx.re.match("1234, 56", [[\d+]], "", ctx))
    }
}
--- request
GET /t
--- response_body
34 5
56 9
nil

=== TEST 5: find answers places
--- config
location /t {
    content_by_lua_block {
        local function say(...) local a, b, c = ngx.re.find(...) ngx.say(a, " ", b, " ", c) end
        say("hello, 1234", "([0-9])([0-9]+)", "jo")
        say("hello, 1234", "([0-9])([0-9]+)", "jo", nil, 2)
        say("hello, 1234", "([0-9])([0-9]+)", "jo", nil, 3)
        say("hello, 1234", "(x)?[0-9]+", "jo", nil, 1)
        say("hello", "x")
        say("hello", "(")
    }
}
--- request
GET /t
--- response_body
8 11 nil
9 11 nil
nil nil nth out of bound
nil nil nil
nil nil nil
nil nil pcre2_compile() failed: missing closing parenthesis in "("

=== TEST 6: gmatch goes through all matches
--- config
location /t {
    content_by_lua_block {
        for m in ngx.re.gmatch("hello, world", "[a-z]+", "jo") do ngx.say(m[0]) end
        local n = 0
        for m in ngx.re.gmatch("abc", "x*") do n = n + 1 end
        ngx.say(n)
        local it = ngx.re.gmatch("a", "b")
        ngx.say(it(), " ", it())
        ngx.say(ngx.re.gmatch("a", "("))
    }
}
--- request
GET /t
--- response_body
hello
world
4
nil nil
nilpcre2_compile() failed: missing closing parenthesis in "("

=== TEST 7: sub and gsub with templates
--- config
location /t {
    content_by_lua_block {
        local function say(...) local a, b, c = ... ngx.say(a, " ", b, " ", c) end
        say(ngx.re.sub("hello, 1234", "([0-9])[0-9]", "[$0][$1]"))
        say(ngx.re.sub("hello, 1234", "[0-9]", "${0}00"))
        say(ngx.re.sub("hello, 1234", "[0-9]", "$$"))
        say(ngx.re.gsub("hello, world", "([a-z])[a-z]+", "[$0,$1,$9]", "i"))
        say(ngx.re.gsub("abc", "", "-"))
        say(ngx.re.gsub("abc", "x", "-"))
        say(ngx.re.gsub("a1b2", "[0-9]", ""))
        say(ngx.re.gsub(("a"):rep(5000), "a", "bc") == ("bc"):rep(5000))
    }
}
--- request
GET /t
--- response_body
hello, [12][1]34 1 nil
hello, 100234 1 nil
hello, $234 1 nil
[hello,h,], [world,w,] 2 nil
-a-b-c- 4 nil
abc 0 nil
ab 2 nil
true nil nil
--- no_error_log
[error]

=== TEST 8: gsub with a function, which may use ngx.re itself
--- config
location /t {
    content_by_lua_block {
        local function call(m)
            local inner = ngx.re.gsub(m[0], "[a-z]", function(n) return n[0]:upper() end, "jo")
            return "[" .. inner .. "," .. tostring(m[2]) .. "]"
        end
        ngx.say(ngx.re.gsub("hello, world", "([a-z])[a-z]+(x)?", call, "jo"))
        ngx.say(ngx.re.gsub("a b", "[a-z]", function(m)
            return (ngx.re.gsub("xyz", "[a-z]", function() return 1 end, "jo")) end, "jo"))
        ngx.say(ngx.re.sub("$1", "1", function() return "$0$1" end))
    }
}
--- request
GET /t
--- response_body
[HELLO,false], [WORLD,false]2
111 1112
$$0$11
--- no_error_log
[error]

=== TEST 9: templates that are none
--- config
location /t {
    content_by_lua_block {
        local function say(...) local a, b, c = ... ngx.say(a, " ", b, " ", c) end
        say(ngx.re.sub("a", "a", "$name"))
        say(ngx.re.sub("a", "a", "${1"))
        say(ngx.re.gsub("a", "a", "$"))
    }
}
--- request
GET /t
--- response_body
nil nil failed to compile the replacement template
nil nil failed to compile the replacement template
nil nil failed to compile the replacement template
--- error_log
attempt to use named capturing variable "name" (named captures not supported yet)
the closing bracket in "1" variable is missing
lua script: invalid capturing variable name found in "$"

=== TEST 10: subjects that are no UTF-8
--- config
location /t {
    content_by_lua_block {
        ngx.say(ngx.re.match("\228\189\160\229", ".", "u"))
        ngx.say(select(3, ngx.re.gsub("\228\189\160\229", ".", "x", "u")))
        local it = ngx.re.gmatch("\228\189\160\229", ".", "u")
        ngx.say(it())
    }
}
--- request
GET /t
--- response_body
nilpcre_exec() failed: -4
pcre_exec() failed: -4
nilpcre_exec() failed: -4

=== TEST 11: matches are bounded
--- http_config
lua_regex_match_limit 5000;
--- config
location /t {
    content_by_lua_block {
        ngx.say(ngx.re.match(("a"):rep(30) .. "!", "(a+)+$"))
        ngx.say(ngx.re.match("aaa", "(a+)+$")[0])
    }
}
--- request
GET /t
--- response_body
nilpcre_exec() failed: -47
aaa

=== TEST 12: the cache of expressions has a bound
--- http_config
lua_regex_cache_max_entries 4;
--- config
location /t {
    content_by_lua_block {
        local n = 0
        for round = 1, 3 do
            for i = 1, 50 do
                if ngx.re.match("x" .. i, "x" .. i .. "$", "jo") then n = n + 1 end
                if ngx.re.gsub("x" .. i, "x" .. i, "y", "o") == "y" then n = n + 1 end
            end
        end
        ngx.say(n)
    }
}
--- request
GET /t
--- response_body
300

=== TEST 13: split
--- config
location /t {
    content_by_lua_block {
        local split = require("ngx.re").split
        local function say(...) local t, err = split(...) ngx.say(t and table.concat(t, "|") or t, " ", err) end
        say("a,b,,c", ",")
        say("a,b,c,,", ",")
        say("a,b,c,,", ",", nil, nil, 10)
        say("a,b,c", ",", nil, nil, 2)
        say("a1b2c", "([0-9])")
        say("abc", "")
        say("a,b,c", ",", nil, { pos = 3 })
        say("abc", "x")
        say("abc", "(")
    }
}
--- request
GET /t
--- response_body
a|b||c nil
a|b|c nil
a|b|c|| nil
a|b,c nil
a|1|b|2|c nil
a|b|c nil
b|c nil
abc nil
nil pcre2_compile() failed: missing closing parenthesis in "("

=== TEST 14: the stack of compiled matches
--- config
location /t {
    content_by_lua_block {
        local re = require "ngx.re"
        local long = ("ab"):rep(20000)
        ngx.say((select(2, ngx.re.match(long, "^(a|b)*$", "j"))))
        re.opt("jit_stack_size", 4 * 1024 * 1024)
        ngx.say(#ngx.re.match(long, "^(a|b)*$", "jo")[0])
        ngx.say(pcall(re.opt, "jit_stack_size", 1))
        ngx.say(pcall(re.opt, "other", 1))
    }
}
--- request
GET /t
--- response_body_like
^pcre_exec\(\) failed: -46
40000
false.*changing jit stack size is not allowed when some regexs have already been compiled and cached
false.*unrecognized option name
