-- resty.openssl.auxiliary.jwk: keys as JSON Web Keys, RFC 7517.
local crypto = require "moonrest.crypto"
local cjson = require "cjson.safe"
local base64 = require "ngx.base64"

local decode_base64url, encode_base64url = base64.decode_base64url, base64.encode_base64url
local ipairs, rep, tostring, type = ipairs, string.rep, tostring, type

local M = {}

-- JWK's name and ours.
local rsa_fields = {
    { "n", "n" },
    { "e", "e" },
    { "d", "d" },
    { "p", "p" },
    { "q", "q" },
    { "dp", "dmp1" },
    { "dq", "dmq1" },
    { "qi", "iqmp" },
}

-- OpenSSL's number of the curve, and how many bytes a coordinate has.
local curves = {
    ["P-256"] = { crypto.nid("prime256v1"), 32 },
    ["P-384"] = { crypto.nid("secp384r1"), 48 },
    ["P-521"] = { crypto.nid("secp521r1"), 66 },
    ["secp256k1"] = { crypto.nid("secp256k1"), 32 },
}
local curve_names = {}
for name, curve in pairs(curves) do
    curve_names[curve[1]] = name
end

local function decode(jwk, name)
    local bytes = decode_base64url(jwk[name])
    if not bytes then
        return nil, 'cannot decode parameter "' .. name .. '" from base64 ' .. tostring(jwk[name])
    end
    return bytes
end

local function required(jwk, names)
    for _, name in ipairs(names) do
        if type(jwk[name]) ~= "string" then
            return 'missing required parameter "' .. name .. '"'
        end
    end
end

local function load_rsa(jwk, public_only)
    local err = required(jwk, { "n", "e" })
    if err then
        return nil, err
    end
    local numbers = {}
    for n, field in ipairs(rsa_fields) do
        local name = field[1]
        if type(jwk[name]) == "string" and not (public_only and n > 2) then
            local bytes
            bytes, err = decode(jwk, name)
            if not bytes then
                return nil, err
            end
            numbers[field[2]] = crypto.bn_from_binary(bytes)
        end
    end
    return crypto.pkey_from_rsa(numbers)
end

local function load_ec(jwk, public_only)
    local err = required(jwk, { "crv", "x", "y" })
    if err then
        return nil, err
    end
    local curve = curves[jwk.crv]
    if not curve then
        return nil, "unsupported curve " .. jwk.crv
    end
    local numbers = { group = curve[1] }
    for name, field in pairs({ x = "x", y = "y", d = not public_only and "private" or nil }) do
        if type(jwk[name]) == "string" then
            local bytes
            bytes, err = decode(jwk, name)
            if not bytes then
                return nil, err
            end
            if #bytes > curve[2] and name ~= "d" then
                return nil, "coordinate length " .. #bytes .. " is longer than expected " .. curve[2]
            end
            numbers[field] = crypto.bn_from_binary(bytes)
        end
    end
    return crypto.pkey_from_ec(numbers)
end

local function load_okp(jwk, public_only)
    if type(jwk.crv) ~= "string" then
        return nil, 'missing "crv" parameter from OKP JWK'
    end
    local has_private = type(jwk.d) == "string"
    if not has_private and type(jwk.x) ~= "string" then
        return nil, 'missing at least one of "x" or "d" parameter from OKP JWK'
    end
    local bytes, err = decode(jwk, has_private and "d" or "x")
    if not bytes then
        return nil, err
    end
    local key
    key, err = crypto.pkey_from_raw(jwk.crv, has_private, bytes)
    if key and has_private and public_only then
        return crypto.pkey_from_raw(jwk.crv, false, key:parameters().public)
    end
    return key, err
end

local loaders = { RSA = load_rsa, EC = load_ec, OKP = load_okp }

-- The native key of a JWK; its public half alone if that is asked for.
function M.load_jwk(text, half)
    local jwk, err = cjson.decode(text)
    if err then
        return nil, "jwk:load_jwk: error decoding JSON from JWK: " .. err
    elseif type(jwk) ~= "table" then
        return nil, "jwk:load_jwk: except input to be decoded as a table, got " .. type(jwk)
    elseif not jwk.kty then
        return nil, 'jwk:load_jwk: missing "kty" parameter from JWK'
    end
    local loader = loaders[jwk.kty]
    if not loader then
        return nil, 'jwk:load_jwk: not yet supported jwk type "' .. tostring(jwk.kty) .. '"'
    end
    if half == "pr" and type(jwk.d) ~= "string" then
        return nil, "jwk:load_jwk: not a private key"
    end
    local key
    key, err = loader(jwk, half == "pu")
    if not key then
        return nil, "jwk:load_jwk: " .. (err ~= "" and err or "failed to construct " .. jwk.kty .. " key from JWK")
    end
    return key
end

local function coordinate(number, size)
    local bytes = number:to_binary()
    return encode_base64url(rep("\0", size - #bytes) .. bytes)
end

-- The JWK of a native key.
function M.dump_jwk(key, is_private)
    if is_private and not key:is_private() then
        return nil, "jwk.dump_jwk: could not dump public key as private key"
    end
    local kind = key:kind()
    local numbers = key:parameters()
    local jwk
    if kind == "RSA" then
        jwk = { kty = "RSA" }
        for n, field in ipairs(rsa_fields) do
            local number = numbers[field[2]]
            if number and (is_private or n <= 2) then
                jwk[field[1]] = encode_base64url(number:to_binary())
            end
        end
    elseif kind == "EC" and curve_names[numbers.group] then
        local name = curve_names[numbers.group]
        local size = curves[name][2]
        jwk = { kty = "EC", crv = name, x = coordinate(numbers.x, size), y = coordinate(numbers.y, size) }
        if is_private then
            jwk.d = coordinate(numbers.private, size)
        end
    elseif kind == "Ed25519" or kind == "X25519" then
        jwk = { kty = "OKP", crv = kind, x = encode_base64url(numbers.public) }
        if is_private then
            jwk.d = encode_base64url(numbers.private)
        end
    else
        return nil, "jwk.dump_jwk: not implemented for this key type"
    end
    local der = key:write(is_private, "DER")
    local digest = der and crypto.digest("sha256"):final(der)
    if not digest then
        return nil, "jwk.dump_jwk: failed to calculate digest for key"
    end
    jwk.kid = encode_base64url(digest)
    return cjson.encode(jwk)
end

return M
