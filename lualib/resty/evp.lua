-- resty.evp: signatures, certificates and encryption as lua-resty-jwt uses them.
local crypto = require "moonrest.crypto"

local concat, format = table.concat, string.format
local setmetatable, type = setmetatable, type

local M = {}

local CONST = {
    SHA1_DIGEST = "SHA1",
    SHA256_DIGEST = "SHA256",
    SHA384_DIGEST = "SHA384",
    SHA512_DIGEST = "SHA512",

    RSA_PKCS1_PADDING = 1,
    RSA_SSLV23_PADDING = 2,
    RSA_NO_PADDING = 3,
    RSA_PKCS1_OAEP_PADDING = 4,
    RSA_X931_PADDING = 5,
    RSA_PKCS1_PSS_PADDING = 6,

    NID_rsaEncryption = 6,
    EVP_PKEY_RSA = 6,
    EVP_PKEY_ALG_CTRL = 0x1000,
    EVP_PKEY_CTRL_RSA_PADDING = 0x1001,
    EVP_PKEY_OP_TYPE_CRYPT = 768,
    EVP_PKEY_CTRL_RSA_OAEP_MD = 0x1009,
}
M.CONST = CONST

local function words(reason)
    if not reason or reason == "" then
        return "Zero error code (null arguments?)"
    end
    return reason
end

-- A class whose instances have its functions.
local function class(name)
    local made = {}
    made.__index = made
    M[name] = made
    return made
end

-- The native private key of a text, which must be of this kind.
local function private_key(text, password, kind)
    local key, _, reason = crypto.pkey_read(text, "PEM", "pr", password)
    if not key then
        return nil, words(reason)
    end
    if key:kind() ~= kind then
        return nil, "no start line"
    end
    return key
end

local RSASigner = class "RSASigner"

function RSASigner.new(_, pem_private_key, password, padding)
    local key, err = private_key(pem_private_key, password, "RSA")
    if not key then
        return nil, err
    end
    return setmetatable({ evp_pkey = key, padding = padding }, RSASigner)
end

local function sign(self, message, digest_name)
    if not crypto.digest_size(digest_name) then
        return nil, words()
    end
    local signature, _, reason = self.evp_pkey:sign(message, digest_name, { padding = self.padding })
    if not signature then
        return nil, words(reason)
    end
    return signature
end

RSASigner.sign = sign

local ECSigner = class "ECSigner"

function ECSigner.new(_, pem_private_key, password)
    local key, err = private_key(pem_private_key, password, "EC")
    if not key then
        return nil, err
    end
    return setmetatable({ evp_pkey = key }, ECSigner)
end

ECSigner.sign = sign

-- Of DER, the two numbers in fixed size, as JOSE has them.
function ECSigner.get_raw_sig(self, signature)
    if not signature then
        return nil, "Must pass a signature to convert"
    end
    local r, s, reason = crypto.ecdsa_from_der(signature)
    if not r then
        return nil, words(reason)
    end
    local _, size = self.evp_pkey:curve()
    return r:to_binary(size) .. s:to_binary(size)
end

local RSAVerifier = class "RSAVerifier"

-- The native key of a Cert or PublicKey.
local function key_of(source)
    if not source then
        return nil, "You must pass in an key_source for a public key"
    end
    return source.public_key
end

function RSAVerifier.new(_, key_source, padding)
    local key, err = key_of(key_source)
    if not key then
        return nil, err
    end
    return setmetatable({ evp_pkey = key, padding = padding }, RSAVerifier)
end

local function verify(self, message, signature, digest_name)
    if not crypto.digest_size(digest_name) then
        return false, words()
    end
    if self.evp_pkey:verify(signature, message, digest_name, { padding = self.padding }) then
        return true
    end
    return false, "Verification failed"
end

RSAVerifier.verify = verify

local ECVerifier = class "ECVerifier"

function ECVerifier.new(_, key_source)
    local key, err = key_of(key_source)
    if not key then
        return nil, err
    end
    return setmetatable({ evp_pkey = key }, ECVerifier)
end

function ECVerifier.get_der_sig(self, signature)
    if not signature then
        return nil, "Must pass a signature to convert"
    end
    local _, size = self.evp_pkey:curve()
    if not size or #signature ~= 2 * size then
        return nil, "signature length != 2 * order length"
    end
    local r, s = crypto.bn_from_binary(signature:sub(1, size)), crypto.bn_from_binary(signature:sub(size + 1))
    local der, _, reason = crypto.ecdsa_to_der(r, s)
    if not der then
        return nil, words(reason)
    end
    return der
end

function ECVerifier.verify(self, message, signature, digest_name)
    local der, err = self:get_der_sig(signature)
    if not der then
        return nil, err
    end
    return verify(self, message, der, digest_name)
end

local Cert = class "Cert"

local function form_of(text)
    return text:find("-----BEGIN", 1, true) and "PEM" or "DER"
end

function Cert.new(_, payload)
    if type(payload) ~= "string" then
        return nil, "Must pass a PEM or binary DER cert"
    end
    local x509, _, reason = crypto.x509_read(payload, form_of(payload))
    if not x509 then
        return nil, words(reason)
    end
    local key
    key, _, reason = x509:public_key()
    if not key then
        return nil, words(reason)
    end
    return setmetatable({ x509 = x509, public_key = key }, Cert)
end

function Cert.get_der(self)
    local der, _, reason = self.x509:write("DER")
    if not der then
        return nil, words(reason)
    end
    return der
end

function Cert.get_fingerprint(self, digest_name)
    local bytes, _, reason = self.x509:digest(digest_name)
    if not bytes then
        return nil, words(reason)
    end
    local parts = {}
    for n = 1, #bytes do
        parts[n] = format("%02X", bytes:byte(n))
    end
    return concat(parts, ":")
end

function Cert.get_public_key(self)
    return self.public_key
end

function Cert.verify_trust(self, trusted_cert_file)
    local store = crypto.x509_store()
    local loaded, _, reason = store:load_file(trusted_cert_file)
    if not loaded then
        return false, words(reason)
    end
    local chain, problem = store:verify(self.x509)
    if not chain then
        return false, problem
    end
    return true
end

local PublicKey = class "PublicKey"

function PublicKey.new(_, payload)
    if type(payload) ~= "string" then
        return nil, "Must pass a PEM or binary DER public key"
    end
    local key, _, reason = crypto.pkey_read(payload, form_of(payload), "pu")
    if not key then
        return nil, words(reason)
    end
    return setmetatable({ public_key = key }, PublicKey)
end

-- Options for encryption; OAEP has a digest.
local function encryption(padding, digest_alg)
    padding = padding or CONST.RSA_PKCS1_OAEP_PADDING
    digest_alg = digest_alg or CONST.SHA256_DIGEST
    local oaep = padding == CONST.RSA_PKCS1_OAEP_PADDING
    return { padding = padding, oaep_md = oaep and digest_alg or nil }, digest_alg
end

local function operate(self, operation, text)
    if not crypto.digest_size(self.digest_alg) then
        return nil, "Unknown message digest"
    end
    local out, _, reason = self.evp_pkey:operate(operation, text, self.options)
    if not out then
        return nil, words(reason)
    end
    return out
end

local RSAEncryptor = class "RSAEncryptor"

function RSAEncryptor.new(_, key_source, padding, digest_alg)
    local key, err = key_of(key_source)
    if not key then
        return nil, err
    end
    local options, digest = encryption(padding, digest_alg)
    return setmetatable({ evp_pkey = key, options = options, digest_alg = digest }, RSAEncryptor)
end

function RSAEncryptor.encrypt(self, payload)
    return operate(self, "encrypt", payload)
end

local RSADecryptor = class "RSADecryptor"

function RSADecryptor.new(_, pem_private_key, password, padding, digest_alg)
    local key, err = private_key(pem_private_key, password, "RSA")
    if not key then
        return nil, err
    end
    local options, digest = encryption(padding, digest_alg)
    return setmetatable({ evp_pkey = key, options = options, digest_alg = digest }, RSADecryptor)
end

function RSADecryptor.decrypt(self, cypher_text)
    return operate(self, "decrypt", cypher_text)
end

return M
