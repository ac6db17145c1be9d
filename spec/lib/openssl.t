# resty.openssl, resty.rsa, resty.evp.
use Test::Nginx::Socket 'no_plan';

my $made = `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=here -keyout - 2>/dev/null`;
our $Files = [["a.crt", $made =~ /(-----BEGIN CERT.*)/s], ["a.key", $made =~ /(.*?-----END PRIVATE KEY-----\n)/s]];
run_tests();
__DATA__

=== TEST 1: digests, keyed digests, random bytes, derived keys
--- config
location /t {
    content_by_lua_block {
        local to_hex = require("resty.string").to_hex
        local digest = require "resty.openssl.digest"
        local d = digest.new("sha256")
        ngx.say(d:update("hel", "lo"), " ", to_hex(d:final()):sub(1, 16), " ", digest.istype(d))
        ngx.say((select(2, digest.new("none"))))
        local hmac = require "resty.openssl.hmac"
        ngx.say(to_hex(hmac.new("Jefe", "md5"):final("what do ya want for nothing?")))
        ngx.say(hmac.new("k", "none"))
        local mac = require "resty.openssl.mac"
        ngx.say(#mac.new(("k"):rep(16), "CMAC", "aes-128-cbc"):final("text"))
        local rand = require "resty.openssl.rand"
        ngx.say(#rand.bytes(12), " ", select(2, rand.bytes("x")))
        local kdf = require "resty.openssl.kdf"
        ngx.say(to_hex(kdf.derive({ type = kdf.PBKDF2, outlen = 20, pass = "password", salt = "salt", pbkdf2_iter = 2 })))
        ngx.say(to_hex(kdf.new("PBKDF2"):derive(20, { pass = "password", salt = "salt", iter = 2, digest = "sha1" })))
        ngx.say(#kdf.derive({ type = kdf.HKDF, outlen = 42, hkdf_key = "k", salt = "s", hkdf_info = "i", md = "sha256" }))
        ngx.say(#kdf.derive({ type = kdf.SCRYPT, outlen = 16, pass = "p", salt = "s", scrypt_N = 16, scrypt_r = 8, scrypt_p = 1 }))
        ngx.say(kdf.derive({ outlen = 1 }))
        ngx.say(require("resty.openssl.version").OPENSSL_3X)
    }
}
--- request
GET /t
--- response_body
true 2cf24dba5fb0a30e true
digest.new: invalid digest type "none": error:0308010C:digital envelope routines::unsupported:
750c783e6ab0b503eaa86e310a5db738
nilhmac.new: invalid digest type "none"
16
12 rand.bytes: expect a number at #1
ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957
ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957
42
16
nilkdf.derive: "type" must be set
true

=== TEST 2: ciphers
--- config
location /t {
    content_by_lua_block {
        local cipher = require "resty.openssl.cipher"
        local c = cipher.new("aes-256-cbc")
        local key, iv = ("k"):rep(32), ("i"):rep(16)
        local secret = c:encrypt(key, iv, "hello")
        ngx.say(#secret, " ", c:decrypt(key, iv, secret))
        ngx.say(c:encrypt("short", iv, "x"))
        ngx.say((c:decrypt(key, iv, secret:sub(1, 8))))
        ngx.say(cipher.new("aes-256-cbc"):update("x"))
        c:init(key, iv, { is_encrypt = true })
        ngx.say(c:update("hel", "lo") .. c:final() == secret)
        local gcm = cipher.new("aes-128-gcm")
        key, iv = ("k"):rep(16), ("i"):rep(12)
        local text = gcm:encrypt(key, iv, "hello", false, "header")
        local tag = gcm:get_aead_tag(16)
        ngx.say(gcm:decrypt(key, iv, text, false, "header", tag), " ", (gcm:decrypt(key, iv, text, false, "other", tag)))
        local wrap = cipher.new("aes-128-wrap")
        iv = ("\166"):rep(8)
        ngx.say(wrap:decrypt(key, iv, wrap:encrypt(key, iv, "0123456789abcdef")))
        local made, vector = c:derive("password", "12345678", 1, "md5")
        ngx.say(#made, " ", #vector)
        ngx.say((cipher.new("none")))
    }
}
--- request
GET /t
--- response_body
16 hello
nilcipher:init: incorrect key size, expect 32
nil
nilcipher:update: cipher not initalized, call cipher:init first
true
hello nil
0123456789abcdef
32 16
nil

=== TEST 3: numbers of any size
--- config
location /t {
    content_by_lua_block {
        local bn = require "resty.openssl.bn"
        local a, b = bn.from_dec("123456789012345678901234567890"), bn.new(10)
        ngx.say(tostring(a + b), " ", tostring(a - 1), " ", tostring(b * b), " ", tostring(a / b), " ", tostring(a % 7))
        ngx.say(tostring(-b), " ", b == bn.new(10), " ", b < a, " ", b:to_hex(), " ", bn.from_hex("ff"):to_number())
        ngx.say(tostring(bn.mod_exp(4, 13, 497)), " ", bn.new(97):is_prime(), " ", tostring(bn.gcd(12, 18)))
        ngx.say(#bn.new(1):to_binary(8), " ", tostring(bn.lshift(1, 70)), " ", bn.new(0):is_zero())
        ngx.say(pcall(function() return a / 0 end))
        ngx.say((bn.from_dec("x")))
        ngx.say(tostring(bn.from_mpi(a:to_mpi())), " ", bn.generate_prime(64):is_odd())
    }
}
--- request
GET /t
--- response_body_like
^123456789012345678901234567900 123456789012345678901234567889 100 12345678901234567890123456789 \d
-10 true true 0A 255
445 true 6
8 1180591620717411303424 true
false.*BN_div\(\) failed
nil
123456789012345678901234567890 true$

=== TEST 4: keys are made, written, read and used
--- config
location /t {
    content_by_lua_block {
        local pkey = require "resty.openssl.pkey"
        for _, config in ipairs({ { type = "RSA" }, { type = "EC", curve = "secp384r1" }, { type = "Ed25519" } }) do
            local key = assert(pkey.new(config))
            local md = config.type ~= "Ed25519" and "sha256" or nil
            local signature = assert(key:sign("message", md))
            local public = assert(pkey.new(key:to_PEM("public")))
            ngx.print(config.type, " ", public:verify(signature, "message", md) == true, " ",
                (public:verify(signature, "other", md)), " ", public:is_private(), key:is_private())
            for _, format in ipairs({ "PEM", "DER", "JWK" }) do
                local back = assert(pkey.new(assert(key:tostring("private", format))))
                assert(back:to_PEM() == key:to_PEM() and back:is_private())
                assert(not pkey.new(key:tostring("public", format)):is_private())
            end
            local params = key:get_parameters()
            if config.type == "EC" then
                params = { group = params.group, x = params.x, y = params.y, private = params.private }
            end
            local again = assert(pkey.new({ type = config.type, params = params }))
            ngx.say(" ", again:to_PEM() == key:to_PEM(), " ", (public:sign("x")))
        end
        local ec = pkey.new({ type = "EC", curve = "prime256v1" })
        local raw = ec:sign("m", "sha256", nil, { ecdsa_use_raw = true })
        ngx.say(#raw, " ", ec:verify(raw, "m", "sha256", nil, { ecdsa_use_raw = true }) == true)
        local rsa = pkey.new()
        for _, padding in ipairs({ "RSA_PKCS1_PADDING", "RSA_PKCS1_OAEP_PADDING" }) do
            local number = pkey.PADDINGS[padding]
            ngx.say(rsa:decrypt(rsa:encrypt("hello", number), number))
        end
        local pss = pkey.PADDINGS.RSA_PKCS1_PSS_PADDING
        ngx.say(rsa:verify(rsa:sign("m", "sha256", pss), "m", "sha256", pss) == true)
        ngx.say(rsa:verify_recover(rsa:sign_raw("raw")))
        local x, y = pkey.new({ type = "X25519" }), pkey.new({ type = "X25519" })
        ngx.say(x:derive(y) == y:derive(x))
        ngx.say((pkey.new("junk")))
        ngx.say(pkey.new({ type = "XX" }))
        ngx.say(pkey.new("{}", { format = "JWK" }))
    }
}
--- request
GET /t
--- response_body
RSA true false falsetrue true nil
EC true false falsetrue true nil
Ed25519 true false falsetrue true nil
64 true
hello
hello
true
raw
true
nil
nilpkey.new:new_key: unsupported type XX
nilpkey.new:load_key: jwk:load_jwk: missing "kty" parameter from JWK

=== TEST 5: resty.rsa
--- config
location /t {
    content_by_lua_block {
        local rsa = require "resty.rsa"
        for _, pkcs8 in ipairs({ false, true }) do
            local public, private = rsa:generate_rsa_keys(2048, pkcs8)
            ngx.say(public:match("BEGIN ([%u ]+)"), ", ", private:match("BEGIN ([%u ]+)"))
            local pub = rsa:new({ public_key = public, padding = rsa.PADDING.RSA_PKCS1_OAEP_PADDING, algorithm = "SHA256" })
            local priv = rsa:new({ private_key = private, padding = rsa.PADDING.RSA_PKCS1_OAEP_PADDING, algorithm = "SHA256" })
            ngx.say(priv:decrypt(pub:encrypt("hello")), " ", pub:verify("hello", priv:sign("hello")))
            ngx.say(pub:verify("other", priv:sign("hello")))
            ngx.say(pub:decrypt("x"))
        end
        ngx.say(rsa:new({}))
        ngx.say((rsa:new({ public_key = "junk" })))
    }
}
--- request
GET /t
--- response_body
RSA PUBLIC KEY, RSA PRIVATE KEY
hello true
nilbad signature
nilnot inited for decrypt
PUBLIC KEY, PRIVATE KEY
hello true
nilbad signature
nilnot inited for decrypt
nilpublic_key or private_key not found
nil

=== TEST 6: certificates and requests are made, signed, read and trusted
--- config
location /t {
    content_by_lua_block {
        local lib = function(name) return require("resty.openssl." .. name) end
        local pkey, x509, bn = lib "pkey", lib "x509", lib "bn"
        local name, altname, store, chain = lib "x509.name", lib "x509.altname", lib "x509.store", lib "x509.chain"
        local function make(subject, key, issuer, issuer_key, is_ca)
            local it = x509.new()
            assert(it:set_version(3) and it:set_serial_number(bn.new(7)) and it:set_pubkey(key))
            assert(it:set_lifetime(ngx.time() - 60, ngx.time() + 600))
            assert(it:set_subject_name(name.new():add("CN", subject)))
            assert(it:set_issuer_name(name.new():add("CN", issuer)))
            assert(it:set_basic_constraints({ ca = is_ca }) and it:set_basic_constraints_critical(true))
            assert(it:set_subject_alt_name(altname.new():add("DNS", subject .. ".example"):add("IP", "10.0.0.1")))
            assert(it:sign(issuer_key))
            return x509.new(it:to_PEM())
        end
        local root_key, key = pkey.new({ type = "EC" }), pkey.new({ type = "EC" })
        local root = make("root", root_key, "root", root_key, true)
        local leaf = make("leaf", key, "root", root_key, false)
        ngx.say(tostring(leaf:get_subject_name()), " ", leaf:get_issuer_name():find("CN").blob, " ", leaf:get_version())
        ngx.say(tostring(leaf:get_subject_alt_name()), " ", #leaf:get_subject_alt_name(), " ", leaf:get_signature_name())
        ngx.say(leaf:verify(root_key), leaf:verify(key), " ", leaf:check_private_key(key), " ", root:get_basic_constraints("ca"))
        ngx.say(tostring(leaf:get_serial_number()), " ", #leaf:digest("sha256"), " ", #leaf:pubkey_digest(), " ",
            leaf:get_extension_critical("basicConstraints"))
        ngx.say((leaf:get_extension("subjectAltName")):text())
        local trusted = store.new()
        ngx.say(trusted:verify(leaf))
        trusted:add(root)
        ngx.say(trusted:verify(leaf), " ", #trusted:verify(leaf, chain.new(), true))

        local csr = lib "x509.csr"
        local request = csr.new()
        request:set_subject_name(name.new():add("CN", "leaf"))
        request:set_pubkey(key)
        request:set_subject_alt_name(altname.new():add("DNS", "a.example"))
        request:sign(key)
        local read = csr.new(request:tostring("DER"))
        ngx.say(read:verify(key), " ", tostring(read:get_subject_alt_name()), " ", tostring(read:get_subject_name()))
        ngx.say((x509.new("junk")), (csr.new("junk")))
    }
}
--- request
GET /t
--- response_body
CN=leaf root 3
DNS=leaf.example/IP=10.0.0.1 2 ecdsa-with-SHA256
truefalse true true
7 32 20 true
DNS:leaf.example, IP Address:10.0.0.1
nilunable to get local issuer certificate
true 2
true DNS=a.example CN=leaf
nilnil

=== TEST 7: what lua-resty-jwt calls resty.evp
--- config
location /t {
    content_by_lua_block {
        local evp = require "resty.evp"
        local pkey = require "resty.openssl.pkey"
        for _, kind in ipairs({ "RSA", "EC" }) do
            local key = pkey.new({ type = kind })
            local signer = evp[kind .. "Signer"]:new(key:to_PEM("private"))
            local verifier = evp[kind .. "Verifier"]:new(evp.PublicKey:new(key:to_PEM()))
            local signature = signer:sign("text", evp.CONST.SHA256_DIGEST)
            if kind == "EC" then signature = signer:get_raw_sig(signature) end
            ngx.say(verifier:verify("text", signature, "SHA256"))
            ngx.say(verifier:verify("other", signature, "SHA256"))
        end
        local key = pkey.new()
        local secret = evp.RSAEncryptor:new(evp.PublicKey:new(key:to_PEM())):encrypt("hello")
        ngx.say(evp.RSADecryptor:new(key:to_PEM("private")):decrypt(secret))
        ngx.say(evp.Cert:new(nil))
        ngx.say((evp.Cert:new("junk")), (evp.RSASigner:new("junk")))
    }
}
--- request
GET /t
--- response_body
true
falseVerification failed
true
falseVerification failed
hello
nilMust pass a PEM or binary DER cert
nilnil

=== TEST 8: revocation lists are made, signed, read and looked into
--- config
location /t {
    content_by_lua_block {
        local bn = require "resty.openssl.bn"
        local crl = require "resty.openssl.x509.crl"
        local digest = require "resty.openssl.digest"
        local name = require "resty.openssl.x509.name"
        local pkey = require "resty.openssl.pkey"
        local revoked = require "resty.openssl.x509.revoked"
        local store = require "resty.openssl.x509.store"
        local x509 = require "resty.openssl.x509"
        local key = pkey.new({ type = "EC" })
        local ca = name.new():add("CN", "ca")
        local function certificate(serial, subject, is_ca)
            local cert = x509.new()
            cert:set_version(3)
            cert:set_serial_number(bn.new(serial))
            cert:set_lifetime(os.time() - 10, os.time() + 1000)
            cert:set_pubkey(key)
            cert:set_subject_name(subject)
            cert:set_issuer_name(ca)
            cert:set_basic_constraints({ CA = is_ca })
            assert(cert:sign(key))
            return cert
        end
        local root = certificate(1, ca, true)
        local good, bad = certificate(2, name.new():add("CN", "a"), false), certificate(3, name.new():add("CN", "b"), false)
        local list = crl.new()
        list:set_version(2)
        list:set_issuer_name(ca)
        list:set_last_update(os.time() - 10)
        list:set_next_update(os.time() + 1000)
        ngx.say(#list, " ", list:add_revoked(revoked.new(3, 1700000000, 1)), " ", #list)
        ngx.say(list:sign(key, digest.new("sha256")), " ", list:verify(key), " ", list:verify(pkey.new({ type = "EC" })))
        local back = assert(crl.new(list:to_PEM()))
        ngx.say(back[1].serial_number, " ", back[1].revocation_date, " ", back:get_issuer_name():tostring(), " ", crl.istype(back))
        ngx.say(back:get_by_serial("03").revocation_date, " ", back:get_by_serial(bn.new(4)), " ", back[2])
        ngx.say(back:get_signature_digest_name(), " ", back:text():find("Revoked Certificates", 1, true) ~= nil)
        for n, entry in ipairs(back) do ngx.say(n, " ", entry.serial_number) end
        local trust = store.new()
        trust:add(root)
        local chain = trust:verify(bad, nil, true)
        ngx.say(trust:check_revocation(chain))
        ngx.say(trust:add(back))
        ngx.say(trust:verify(good))
        ngx.say(trust:verify(bad))
        ngx.say(trust:check_revocation(chain))
        ngx.say(select(2, crl.new("junk")), " ", select(2, crl.new(1)))
        ngx.say(select(2, revoked.new("3", 1, 1)))
    }
}
--- request
GET /t
--- response_body_like chop
^0 true 1
true true false
03 1700000000 CN=ca true
1700000000 nil nil
SHA256 true
1 03
nilunable to get certificate CRL
true
truenil
nilcertificate revoked
nilcertificate revoked
x509.crl.new: .* x509.crl.new: expect nil or a string at #1
x509.revoked.new: sn should be number or a bn instance$

=== TEST 9: PKCS#12
--- config
location /t {
    content_by_lua_block {
        local pkcs12 = require "resty.openssl.pkcs12"
        local pkey = require "resty.openssl.pkey"
        local x509 = require "resty.openssl.x509"
        local function certificate(key)
            local cert = x509.new()
            cert:set_pubkey(key)
            assert(cert:sign(key))
            return cert
        end
        local key = pkey.new({ type = "EC" })
        local cert, other = certificate(key), certificate(pkey.new({ type = "EC" }))
        local file = assert(pkcs12.encode({ friendly_name = "mine", key = key, cert = cert, cacerts = { other } }, "secret"))
        local found = assert(pkcs12.decode(file, "secret"))
        ngx.say(found.friendly_name, " ", #found.cacerts, " ", found.cert:check_private_key(found.key))
        ngx.say(pkcs12.decode(file, "wrong"))
        ngx.say(pkcs12.decode(file))
        ngx.say((pkcs12.decode("junk")))
        ngx.say((select(2, pkcs12.encode({ key = pkey.new({ type = "EC" }), cert = cert }))))
        ngx.say(pkcs12.encode({ key = key, cert = cert, nid_key = "none" }))
    }
}
--- request
GET /t
--- response_body_like chop
^mine 1 true
nilpkcs12.decode: PKCS12_parse: mac verify failure
nilpkcs12.decode: PKCS12_parse: mac verify failure
nil
pkcs12.encode: key doesn't match cert: .*key values mismatch.*
nilpkcs12.encode: invalid nid_key$

=== TEST 10: Diffie-Hellman, and parameters
--- config
location /t {
    content_by_lua_block {
        local pkey = require "resty.openssl.pkey"
        local a, b = pkey.new({ type = "DH", group = "dh_1024_160" }), pkey.new({ type = "DH", group = "dh_1024_160" })
        ngx.say(a:derive(b) == b:derive(a), " ", #a:derive(b), " ", a:get_key_type().sn)
        local pem = a:to_PEM("private")
        local back = pkey.new(pem)
        ngx.say(back:to_PEM("private") == pem, " ", back:is_private(), " ", pkey.new(a:to_PEM("public")):is_private())
        local numbers = a:get_parameters()
        ngx.say(b:set_parameters({ p = numbers.p, g = numbers.g, private = numbers.private }), " ",
            b:get_parameters().public == numbers.public)
        local group = pkey.paramgen({ type = "DH", group = "ffdhe2048" })
        ngx.say(group:match("^[^\n]+"), " ", #pkey.new({ type = "DH", param = group }):get_parameters().p:to_hex())
        local curve = pkey.paramgen({ type = "EC", curve = "secp384r1" })
        ngx.say(curve:match("^[^\n]+"), " ", pkey.new({ type = "EC", param = curve }):get_parameters().group)
        ngx.say(pkey.new({ type = "DH", group = "none" }))
        ngx.say(pkey.new({ type = "DH", bits = 5000 }))
        ngx.say(pkey.new({ type = "X448" }))
        ngx.say(pkey.new({ type = "Ed448" }))
        ngx.say(pkey.paramgen({ type = "RSA" }))
    }
}
--- request
GET /t
--- response_body
true 128 dhKeyAgreement
true true false
true true
-----BEGIN DH PARAMETERS----- 512
-----BEGIN EC PARAMETERS----- 715
nilpkey.new:new_key: EVP_PKEY_gen: unknown group none
nilpkey.new:new_key: EVP_PKEY_gen: modulus of this size is not supported
nilpkey.new:new_key: unsupported type X448
nilpkey.new:new_key: unsupported type Ed448
nilpkey.paramgen: unsupported type RSA

=== TEST 11: what is seen of TLS, and small things
--- http_config
server {
    listen unix:$TEST_NGINX_HTML_DIR/tls.sock ssl;
    ssl_certificate $TEST_NGINX_HTML_DIR/a.crt;
    ssl_certificate_key $TEST_NGINX_HTML_DIR/a.key;
}
--- config
location /t {
    content_by_lua_block {
        local ssl = require "resty.openssl.ssl"
        local sock = ngx.socket.tcp()
        assert(sock:connect("unix:$TEST_NGINX_HTML_DIR/tls.sock"))
        ngx.say(ssl.from_socket(sock))
        assert(sock:sslhandshake(nil, "here"))
        local session = ssl.from_socket(sock)
        ngx.say(session:get_peer_certificate():get_subject_name():tostring(), " ", #session:get_peer_cert_chain())
        ngx.say(session:get_cipher_name():match("^TLS_") ~= nil, " ", ssl.istype(session))
        ngx.say(session:set_cipher_list("x"))
        ngx.say(ssl.from_request())
        local memcmp = require("resty.openssl.crypto").memcmp
        ngx.say(memcmp("abc", "abd", 2), " ", memcmp("abc", "abd", 3), " ", (select(2, memcmp("a", "a", 2))))
        local provider = require "resty.openssl.provider"
        ngx.say(provider.load("legacy"):unload(), " ", select(2, provider.load("none")))
    }
}
--- user_files eval: $::Files
--- request
GET /t
--- response_body
nilssl.from_socket: no TLS connection
CN=here 1
true true
nilssl:set_cipher_list: not supported, this connection is not OpenSSL's; see ssl_ciphers, lua_ssl_ciphers
nilbad request
0 1 crypto:memcmp arg 'len' is longer than a value
true provider.load: no provider none
