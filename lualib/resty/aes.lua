-- resty.aes: AES in all modes, with keys made from passwords or given.
local crypto = require "moonrest.crypto"

local error, setmetatable, type = error, setmetatable, type
local rep = string.rep

local M = { _VERSION = "0.19" }
local methods = { __index = M }

-- Digests, as `new` takes them.
M.hash = {
    md5 = "md5",
    sha1 = "sha1",
    sha224 = "sha224",
    sha256 = "sha256",
    sha384 = "sha384",
    sha512 = "sha512",
}

-- Describes a cipher; nil if there is no such one.
function M.cipher(size, mode)
    size, mode = size or 128, mode or "cbc"
    local name = "aes-" .. size .. "-" .. mode
    if crypto.cipher(name) then
        return { size = size, cipher = mode, method = name }
    end
    return nil
end

-- A vector of the length that the cipher needs.
local function padded(iv, len)
    if #iv < len then
        return iv .. rep("\0", len - #iv)
    end
    return iv:sub(1, len)
end

-- Key and vector as given.
local function given(key, options, key_len)
    local iv = options.iv
    if not iv then
        return nil, "iv is needed"
    end
    if #iv > key_len then
        return nil, "bad iv length"
    end
    if options.method then
        key = options.method(key)
    end
    if #key ~= key_len then
        return nil, "bad key length"
    end
    return key, iv
end

-- Key and vector from a password.
local function derived(cipher, key, salt, hash, rounds)
    if salt and #salt ~= 8 then
        return nil, "salt must be 8 characters or nil"
    end
    local made, iv = cipher:derive(hash, salt, key, rounds)
    if not made then
        return nil, "failed to generate key and iv"
    end
    return made, iv
end

function M.new(_, key, salt, cipher, hash, rounds, iv_len, padding)
    cipher = cipher or M.cipher()
    local worker = crypto.cipher(cipher.method)
    if not worker then
        return nil, "failed to init ctx"
    end
    local key_len = cipher.size / 8
    local iv
    if type(hash) == "table" then
        key, iv = given(key, hash, key_len)
        iv_len = key and #iv
    else
        key, iv = derived(worker, key, salt, hash or "md5", rounds or 1)
        iv_len = iv_len or key_len
    end
    if not key then
        return nil, iv
    end
    local is_gcm = cipher.cipher == "gcm"
    local _, needed = worker:sizes()
    if is_gcm then
        needed = iv_len
        if needed == 0 then
            return nil, "failed to set IV length"
        end
    end
    return setmetatable({
        _worker = worker,
        _key = key,
        _iv = padded(iv, needed),
        _is_gcm = is_gcm,
        _pads = padding == nil or padding ~= false,
    }, methods)
end

local function check_self(self)
    if type(self) ~= "table" then
        error("bad argument #1 self: table expected, got " .. type(self), 3)
    end
end

-- Text, or text and tag in a table for GCM.
function M.encrypt(self, text, aad)
    check_self(self)
    local worker = self._worker
    if not worker:start(true, self._key, self._iv, self._pads) then
        return nil, "EVP_EncryptInit_ex failed"
    end
    if self._is_gcm and aad ~= nil and not worker:update_aad(aad) then
        return nil, "C.EVP_EncryptUpdate failed"
    end
    local secret = worker:update(text)
    if not secret then
        return nil, "EVP_EncryptUpdate failed"
    end
    local rest = worker:finish()
    if not rest then
        return nil, "EVP_EncryptFinal_ex failed"
    end
    if self._is_gcm then
        return { secret, worker:tag(16) }
    end
    return secret .. rest
end

function M.decrypt(self, text, tag, aad)
    check_self(self)
    local worker = self._worker
    if not worker:start(false, self._key, self._iv, self._pads) then
        return nil, "EVP_DecryptInit_ex failed"
    end
    if self._is_gcm then
        if aad ~= nil and not worker:update_aad(aad) then
            return nil, "C.EVP_DecryptUpdate failed"
        end
        if tag ~= nil then
            worker:set_tag(tag)
        end
    end
    local plain = worker:update(text)
    if not plain then
        return nil, "EVP_DecryptUpdate failed"
    end
    local rest = worker:finish()
    if not rest then
        return nil, "EVP_DecryptFinal_ex failed"
    end
    return plain .. rest
end

return M
