-- resty.rsa: RSA encryption and signatures.
local crypto = require "moonrest.crypto"

local pairs, setmetatable = pairs, setmetatable

local M = { _VERSION = "1.1.1" }
local methods = { __index = M }

M.PADDING = {
    RSA_PKCS1_PADDING = 1,
    RSA_NO_PADDING = 3,
    RSA_PKCS1_OAEP_PADDING = 4,
}

M.KEY_TYPE = {
    PKCS1 = "PKCS#1",
    PKCS8 = "PKCS#8",
    PKIX = "PKIX",
}

local known_paddings = {}
for _, number in pairs(M.PADDING) do
    known_paddings[number] = true
end

local function words(reason)
    if not reason or reason == "" then
        return "internal error"
    end
    if reason == "bad password read" then
        return "problems getting password: " .. reason
    end
    return reason
end

-- The first line that a public key of a type has.
local headings = {
    [M.KEY_TYPE.PKCS1] = "RSA PUBLIC KEY",
    [M.KEY_TYPE.PKCS8] = "PUBLIC KEY",
    [M.KEY_TYPE.PKIX] = "PUBLIC KEY",
}

-- Answers the public and the private key in PEM: PKIX and PKCS#8 if `pkcs8` is true, PKCS#1 otherwise.
function M.generate_rsa_keys(_, bits, pkcs8)
    local key, _, reason = crypto.pkey_generate("RSA", bits, 65537)
    if not key then
        return nil, nil, words(reason)
    end
    local form = pkcs8 == true and "PEM" or "PKCS1"
    local public, private
    public, _, reason = key:write(false, form)
    if not public then
        return nil, nil, words(reason)
    end
    private, _, reason = key:write(true, form)
    if not private then
        return nil, nil, words(reason)
    end
    return public, private
end

function M.new(_, opts)
    local text, half = opts.public_key, "pu"
    if not text then
        text, half = opts.private_key, "pr"
    end
    if not text then
        return nil, "public_key or private_key not found"
    end
    local heading = half == "pu" and headings[opts.key_type]
    if heading and not text:find("-----BEGIN " .. heading, 1, true) then
        return nil, "no start line: Expecting: " .. heading
    end
    local key, _, reason = crypto.pkey_read(text, "PEM", half, opts.password)
    if not key then
        return nil, words(reason)
    end
    if key:kind() ~= "RSA" then
        return nil, "expecting an rsa key"
    end
    if opts.algorithm and not crypto.digest_size(opts.algorithm) then
        return nil, "Unknown message digest"
    end
    local padding = opts.padding or M.PADDING.RSA_PKCS1_PADDING
    if not known_paddings[padding] then
        return nil, "illegal or unsupported padding mode"
    end
    return setmetatable({
        pkey = key,
        size = key:sizes(),
        is_pub = half == "pu",
        md = opts.algorithm,
        options = { padding = padding },
    }, methods)
end

local function operate(self, operation, text)
    local out, _, reason = self.pkey:operate(operation, text, self.options)
    if not out then
        return nil, words(reason)
    end
    return out
end

function M.encrypt(self, text)
    if not self.is_pub then
        return nil, "not inited for encrypt"
    end
    return operate(self, "encrypt", text)
end

function M.decrypt(self, text)
    if self.is_pub then
        return nil, "not inited for decrypt"
    end
    return operate(self, "decrypt", text)
end

function M.sign(self, text)
    if self.is_pub then
        return nil, "not inited for sign"
    end
    if not self.md then
        return nil, "no digest set"
    end
    local signature, _, reason = self.pkey:sign(text, self.md)
    if not signature then
        return nil, words(reason)
    end
    return signature
end

function M.verify(self, text, signature)
    if not self.is_pub then
        return nil, "not inited for verify"
    end
    if not self.md then
        return nil, "no digest set"
    end
    local ok, _, reason = self.pkey:verify(signature, text, self.md)
    if not ok then
        return nil, words(reason)
    end
    return true
end

return M
