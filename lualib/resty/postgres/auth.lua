-- How a password is proven to PostgreSQL: in clear, with MD5, by SCRAM-SHA-256 and SCRAM-SHA-256-PLUS.
-- https://www.postgresql.org/docs/current/sasl-authentication.html
local bit = require "bit"
local proof = require "moonrest.password"

local bxor = bit.bxor
local byte, char, find, gmatch, match, sub = string.byte, string.char, string.find, string.gmatch, string.match, string.sub
local concat = table.concat
local md5, encode_base64, decode_base64 = ngx.md5, ngx.encode_base64, ngx.decode_base64
local hmac, sha256 = proof.hmac_sha256, proof.sha256
local tonumber = tonumber

local M = {}

local NO_PASSWORD = "the database is requesting a password for authentication but you did not provide a password"

-- Deriving a key takes milliseconds: those of a worker's last few accounts are kept.
local KEPT = 16
local keys, order = {}, {}

local function salted_password(password, salt, rounds)
    local name = rounds .. "\0" .. salt .. "\0" .. password
    local key = keys[name]
    if key then
        return key
    end
    local err
    key, err = proof.pbkdf2_sha256(password, salt, rounds)
    if not key then
        return nil, err
    end
    keys[name] = key
    order[#order + 1] = name
    if #order > KEPT then
        keys[order[1]] = nil
        table.remove(order, 1)
    end
    return key
end

local function xor(a, b)
    local out = {}
    for i = 1, #a do
        out[i] = char(bxor(byte(a, i), byte(b, i)))
    end
    return concat(out)
end

-- Equal, found out in a time that does not tell where they differ.
local function is_equal(a, b)
    if #a ~= #b then
        return false
    end
    local difference = 0
    for i = 1, #a do
        difference = bit.bor(difference, bxor(byte(a, i), byte(b, i)))
    end
    return difference == 0
end

-- What binds a login to the server's end of this TLS connection: the digest of its certificate, made with the algorithm of
-- the certificate's signature, but with SHA-256 instead of MD5 and SHA-1 (RFC 5929, 4.1). `nil` where there is none.
local function end_point(sock)
    local crypto = require "moonrest.crypto"
    local chain = require("moonrest.socket").tls_session(sock)
    local certificate = chain and chain[1] and crypto.x509_read(chain[1], "DER")
    local name = certificate and certificate:signature_digest()
    if name == "MD5" or name == "SHA1" then
        name = "SHA256"
    end
    return name and certificate:digest(name)
end

-- `mechanism, header, binding`: what is used of what the server offers, or `nil` and an error.
local function choose(options, mechanisms, sock)
    local offers = {}
    for name in gmatch(mechanisms, "[^%z]+") do
        offers[name] = true
    end
    local wish = options.channel_binding or "prefer"
    local binding = sock and wish ~= "disable" and end_point(sock)
    if binding and offers["SCRAM-SHA-256-PLUS"] then
        return "SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,", binding
    elseif wish == "require" then
        return nil, "channel binding required, but not offered by server or connection"
    elseif not offers["SCRAM-SHA-256"] then
        return nil, "unsupported SCRAM mechanism name: " .. concat({ match(mechanisms, "^([^%z]*)") })
    end
    -- "y": somebody in between who took the better mechanism off the list is found out.
    return "SCRAM-SHA-256", binding and "y,," or "n,,", ""
end

-- `ask(kind, data) -> data` sends a message of type "p" and gives what follows the number `kind` in the answer.
local function scram(options, mechanisms, ask, sock)
    local mechanism, header, binding = choose(options, mechanisms, sock)
    if not mechanism then
        return nil, header
    end
    local nonce = encode_base64(proof.random_bytes(18))
    local first_bare = "n=,r=" .. nonce
    local first = header .. first_bare
    local challenge, err, details = ask(11, mechanism .. "\0" .. M.int32(#first) .. first)
    if not challenge then
        return nil, err, details
    end
    local server_nonce = match(challenge, "^r=([^,]+)")
    if not server_nonce or sub(server_nonce, 1, #nonce) ~= nonce or #server_nonce <= #nonce then
        return nil, "malformed server message (nonce)"
    end
    local salt = match(challenge, ",s=([^,]+)")
    salt = salt and decode_base64(salt)
    if not salt then
        return nil, "malformed server message (salt)"
    end
    local rounds = tonumber((match(challenge, ",i=(%d+)")))
    if not rounds then
        return nil, "malformed server message (iteraton count)"
    elseif rounds < 4096 then
        return nil, "the iteration-count sent by the server is less than 4096"
    end
    local salted
    salted, err = salted_password(options.password, salt, rounds)
    if not salted then
        return nil, err
    end
    local client_key = hmac(salted, "Client Key")
    local unproven = "c=" .. encode_base64(header .. binding) .. ",r=" .. server_nonce
    local message = first_bare .. "," .. challenge .. "," .. unproven
    local proof = xor(client_key, hmac(sha256(client_key), message))
    local final
    final, err, details = ask(12, unproven .. ",p=" .. encode_base64(proof))
    if not final then
        return nil, err, details
    end
    -- The server knows the password too, or it is another one.
    local signature = match(final, "^v=([^,]+)")
    local expected = encode_base64(hmac(hmac(salted, "Server Key"), message))
    if not signature or not is_equal(signature, expected) then
        return nil, "authentication exchange unsuccessful"
    end
    return true
end

function M.int32(n)
    return char(bit.band(bit.rshift(n, 24), 255), bit.band(bit.rshift(n, 16), 255), bit.band(bit.rshift(n, 8), 255),
        bit.band(n, 255))
end

-- Answers a request for authentication, whose number is `kind`; `true`, or `nil, err, details`. `sock` is given when the
-- connection is encrypted.
function M.answer(options, kind, data, ask, sock)
    if options.channel_binding == "require" and kind ~= 10 then
        return nil, "channel binding required, but server authenticated client without channel binding"
    elseif kind == 0 then
        return true
    end
    local password = options.password
    if kind ~= 3 and kind ~= 5 and kind ~= 10 then
        return nil, "don't know how to auth: " .. kind
    elseif not password then
        return nil, NO_PASSWORD
    elseif kind == 3 then
        return ask(nil, password .. "\0")
    elseif kind == 5 then
        return ask(nil, "md5" .. md5(md5(password .. options.user) .. sub(data, 1, 4)) .. "\0")
    end
    return scram(options, data, ask, sock)
end

return M
