# resty.string, resty.md5, resty.sha*, resty.hmac, resty.random, resty.aes.
use Test::Nginx::Socket 'no_plan';
run_tests();
__DATA__

=== TEST 1: digests in parts
--- config
location /t {
    content_by_lua_block {
        local to_hex = require("resty.string").to_hex
        for _, name in ipairs({ "md5", "sha1", "sha224", "sha256", "sha384", "sha512" }) do
            local digest = require("resty." .. name):new()
            ngx.say(digest:update("hel"), digest:update("lo"), " ", to_hex(digest:final()):sub(1, 32))
            digest:update("other")
            digest:reset()
            digest:update("hello")
            ngx.say(#digest:final())
        end
        local md5 = require("resty.md5"):new()
        md5:update("hello, world", 5)
        ngx.say(to_hex(md5:final()))
    }
}
--- request
GET /t
--- response_body
truetrue 5d41402abc4b2a76b9719d911017c592
16
truetrue aaf4c61ddcc5e8a2dabede0f3b482cd9
20
truetrue ea09ae9cc6768c50fcee903ed054556e
28
truetrue 2cf24dba5fb0a30e26e83b2ac5b9e29e
32
truetrue 59e1748777448c69de6b800d7a33bbfb
48
truetrue 9b71d224bd62f3785d96d46ad3ea3d73
64
5d41402abc4b2a76b9719d911017c592

=== TEST 2: digits, random bytes, keyed digests
--- config
location /t {
    content_by_lua_block {
        local str = require "resty.string"
        ngx.say(str.to_hex(("\0\255"):rep(600)) == ("00ff"):rep(600), " ", str.atoi("1024"), " ", str.atoi("1x"))
        local random = require "resty.random"
        ngx.say(#random.bytes(16), " ", #random.bytes(5, true), " ", random.bytes(8) ~= random.bytes(8))
        local hmac = require "resty.hmac"
        local h = hmac:new("Jefe", hmac.ALGOS.SHA256)
        ngx.say(h:update("what do ya want "), " ", h:final("for nothing?", true))
        ngx.say(h:reset(), " ", str.to_hex(h:final("what do ya want for nothing?")):sub(1, 16))
        ngx.say(hmac:new("Jefe"):digest("md5", "what do ya want for nothing?"))
    }
}
--- request
GET /t
--- response_body
true 1024 -1
16 5 true
true 5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843
true 5bdcc146bf60754e
750c783e6ab0b503eaa86e310a5db738

=== TEST 3: AES in every mode
--- config
location /t {
    content_by_lua_block {
        local aes = require "resty.aes"
        local to_hex = require("resty.string").to_hex
        ngx.say(to_hex(aes:new("secret"):encrypt("hello")))
        local text = "a text of more than one block"
        for _, size in ipairs({ 128, 192, 256 }) do
            for _, mode in ipairs({ "ecb", "cbc", "cfb1", "cfb8", "cfb128", "ofb", "ctr" }) do
                local it = assert(aes:new("key", "12345678", aes.cipher(size, mode), aes.hash.sha256, 5))
                assert(it:decrypt(it:encrypt(text)) == text, mode)
            end
        end
        local gcm = aes:new(("k"):rep(32), nil, aes.cipher(256, "gcm"), { iv = ("i"):rep(12) })
        local made = gcm:encrypt(text, "header")
        ngx.say(#made[2], " ", gcm:decrypt(made[1], made[2], "header") == text)
        ngx.say(gcm:decrypt(made[1], made[2], "other"))
        ngx.say(gcm:decrypt(made[1], ("x"):rep(16), "header"))
        ngx.say(aes:new("k", "short"))
        ngx.say(aes:new("k", nil, nil, { iv = "i" }))
        ngx.say(aes:new("k", nil, nil, {}))
        ngx.say(aes.cipher(128, "none"))
        local plain = aes:new("key", nil, nil, nil, nil, nil, false)
        ngx.say(plain:encrypt("odd"))
    }
}
--- request
GET /t
--- response_body
7b47a4dbb11e2cddb2f3740c9e3a552b
16 true
nilEVP_DecryptFinal_ex failed
nilEVP_DecryptFinal_ex failed
nilsalt must be 8 characters or nil
nilbad key length
niliv is needed
nil
nilEVP_EncryptFinal_ex failed

=== TEST 4: a copy of upstream's, which calls libcrypto, gives way; one that does not comes first
--- http_config
lua_package_path "$prefix/html/?.lua;;";
--- config
location /t {
    content_by_lua_block {
        ngx.say(#require("resty.sha256"):new():final(), " ", require("resty.random").mine)
    }
}
--- user_files
>>> resty/sha256.lua
local ffi = require "ffi"
ffi.cdef [[ int SHA256_Init(void *c); ]]
return { new = function() return ffi.C.SHA256_Init(nil) end }
>>> resty/random.lua
return { mine = "mine" }
--- request
GET /t
--- response_body
32 mine
