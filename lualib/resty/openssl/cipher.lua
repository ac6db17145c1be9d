-- resty.openssl.cipher: symmetric ciphers, streaming, with authentication where the mode has it.
local crypto = require "moonrest.crypto"
local describe = require("resty.openssl.err").describe

local concat = table.concat
local format, lower, match, rep = string.format, string.lower, string.match, string.rep
local log, WARN = ngx.log, ngx.WARN
local getmetatable, setmetatable, tonumber = getmetatable, setmetatable, tonumber
local tostring, type = tostring, type

local M = {}
local methods = { __index = M }

local NOT_READY = "cipher:%s: cipher not initalized, call cipher:init first"
local UNSUPPORTED = "error:0308010C:digital envelope routines::unsupported:"

-- Wrapping of keys with AES, as a cipher that takes its text at once.
local wrap = {}
wrap.__index = wrap

function wrap.sizes(self)
    return self.key_size, 8, 8, false
end

function wrap.start(self, encrypts, key, iv)
    self.encrypts, self.key, self.iv, self.text = encrypts, key, iv, ""
    return true
end

function wrap.update(self, ...)
    self.text = self.text .. concat({ ... })
    return ""
end

function wrap.finish(self)
    return crypto.aes_wrap(self.encrypts, self.key, self.iv, self.text)
end

local function find(name)
    local bits = match(lower(tostring(name)), "aes%-?(%d+)%-wrap$")
    if bits then
        return setmetatable({ key_size = bits / 8 }, wrap)
    end
    return crypto.cipher(name)
end

function M.new(name)
    if not name then
        return nil, "cipher.new: expect type to be defined"
    end
    local ctx = find(name)
    if not ctx then
        return nil, describe(format('cipher.new: invalid cipher type "%s"', tostring(name)), UNSUPPORTED)
    end
    local key_size, iv_size, block_size = ctx:sizes()
    return setmetatable({
        ctx = ctx,
        algo = name,
        initialized = false,
        block_size = block_size,
        key_size = key_size,
        iv_size = iv_size,
    }, methods)
end

function M.istype(l)
    return l and l.ctx and (crypto.is_cipher(l.ctx) or getmetatable(l.ctx) == wrap)
end

-- Output has the room that it needs.
function M.set_buffer_size()
    return true
end

function M:get_provider_name()
    return "default"
end

function M:init(key, iv, opts)
    opts = opts or {}
    if not key or #key ~= self.key_size then
        return false, format("cipher:init: incorrect key size, expect %d", self.key_size)
    end
    if self.iv_size > 0 and (not iv or #iv ~= self.iv_size) then
        return false, format("cipher:init: incorrect iv size, expect %d", self.iv_size)
    end
    local ok, err = self.ctx:start(opts.is_encrypt, key, iv, not opts.no_padding)
    if not ok then
        return false, describe("cipher:init EVP_CipherInit_ex", err)
    end
    self.initialized = true
    return true
end

function M:encrypt(key, iv, s, no_padding, aead_aad)
    local ok, err = self:init(key, iv, { is_encrypt = true, no_padding = no_padding })
    if not ok then
        return nil, err
    end
    if aead_aad then
        ok, err = self:update_aead_aad(aead_aad)
        if not ok then
            return nil, err
        end
    end
    return self:final(s)
end

function M:decrypt(key, iv, s, no_padding, aead_aad, aead_tag)
    local ok, err = self:init(key, iv, { is_encrypt = false, no_padding = no_padding })
    if ok and aead_aad then
        ok, err = self:update_aead_aad(aead_aad)
    end
    if ok and aead_tag then
        ok, err = self:set_aead_tag(aead_tag)
    end
    if not ok then
        return nil, err
    end
    return self:final(s)
end

function M:update_aead_aad(aad)
    if not self.initialized then
        return nil, format(NOT_READY, "update_aead_aad")
    end
    local ok, err = self.ctx:update_aad(aad)
    if not ok then
        return false, describe("cipher:update_aead_aad", err)
    end
    return true
end

function M:get_aead_tag(size)
    if not self.initialized then
        return nil, format(NOT_READY, "get_aead_tag")
    end
    size = size or self.key_size / 2
    if size > self.key_size then
        return nil, format("tag size %d is too large", size)
    end
    local tag, err = self.ctx:tag(size)
    if not tag then
        return nil, describe("cipher:get_aead_tag", err)
    end
    return tag
end

function M:set_aead_tag(tag)
    if not self.initialized then
        return nil, format(NOT_READY, "set_aead_tag")
    end
    if type(tag) ~= "string" then
        return false, "cipher:set_aead_tag expect a string at #1"
    end
    local ok, err = self.ctx:set_tag(tag)
    if not ok then
        return false, describe("cipher:set_aead_tag", err)
    end
    return true
end

function M:update(...)
    if not self.initialized then
        return nil, format(NOT_READY, "update")
    end
    local out, err = self.ctx:update(...)
    if not out then
        return nil, describe("cipher:update", err)
    end
    return out
end

function M:final(s)
    if not self.initialized then
        return nil, format(NOT_READY, "update")
    end
    local out, err
    if s then
        out, err = self.ctx:update(s)
        if not out then
            return nil, describe("cipher:final", err)
        end
    end
    local rest
    rest, err = self.ctx:finish()
    if not rest then
        return nil, describe("cipher:final: EVP_CipherFinal_ex", err)
    end
    return out and out .. rest or rest
end

-- Key and vector from a password, as `openssl enc` makes them.
function M:derive(key, salt, count, md)
    if type(key) ~= "string" then
        return nil, nil, "cipher:derive: expect a string at #1"
    elseif salt and type(salt) ~= "string" then
        return nil, nil, "cipher:derive: expect a string at #2"
    elseif count then
        count = tonumber(count)
        if not count then
            return nil, nil, "cipher:derive: expect a number at #3"
        end
    elseif md and type(md) ~= "string" then
        return nil, nil, "cipher:derive: expect a string or nil at #4"
    end
    if salt and #salt > 8 then
        log(WARN, "cipher:derive: salt is too long, truncate salt to 8 bytes")
        salt = salt:sub(1, 8)
    elseif salt and #salt < 8 then
        log(WARN, "cipher:derive: salt is too short, padding with zero bytes to length")
        salt = salt .. rep("\0", 8 - #salt)
    end
    md = md or "sha1"
    if not crypto.digest_size(md) then
        return nil, nil, format('cipher:derive: invalid digest type "%s"', md)
    end
    local made, iv = self.ctx:derive(md, salt, key, count or 1)
    if not made then
        return nil, nil, describe("cipher:derive: EVP_BytesToKey", iv)
    end
    return made, iv
end

return M
