-- resty.openssl.kdf: keys from passwords and secrets. Both interfaces: `kdf.derive{ type = kdf.PBKDF2, … }` and
-- `kdf.new("PBKDF2"):derive(size, { … })`.
local crypto = require "moonrest.crypto"
local describe = require("resty.openssl.err").describe

local format, lower = string.format, string.lower
local log, WARN = ngx.log, ngx.WARN
local setmetatable, tonumber, tostring, type = setmetatable, tonumber, tostring, type

local M = {
    HKDEF_MODE_EXTRACT_AND_EXPAND = 0,
    HKDEF_MODE_EXTRACT_ONLY = 1,
    HKDEF_MODE_EXPAND_ONLY = 2,

    -- OpenSSL's numbers.
    PBKDF2 = 69,
    SCRYPT = 973,
    TLS1_PRF = 1021,
    HKDF = 1036,
}

local DEFAULT_SCRYPT_MEMORY = 32 * 1024 * 1024

-- What an option must be, and for which function alone it must be there.
local schema = {
    outlen = { "number" },
    pass = { "string", optional = true },
    salt = { "string", optional = true },
    md = { "string", optional = true },
    pbkdf2_iter = { "number", optional = true },
    hkdf_key = { "string", only = M.HKDF },
    hkdf_mode = { "number", optional = true },
    hkdf_info = { "string", optional = true },
    tls1_prf_secret = { "string", only = M.TLS1_PRF },
    tls1_prf_seed = { "string", only = M.TLS1_PRF },
    scrypt_maxmem = { "number", optional = true },
    scrypt_N = { "number", only = M.SCRYPT },
    scrypt_r = { "number", only = M.SCRYPT },
    scrypt_p = { "number", only = M.SCRYPT },
}

local function check(options, kind)
    local checked = {}
    for name, rule in pairs(schema) do
        local value = options[name]
        if not value then
            if not rule.optional and (not rule.only or rule.only == kind) then
                return nil, '"' .. name .. '" must be set'
            end
        elseif rule[1] == "number" then
            value = tonumber(value)
            if not value then
                return nil, 'except a number as "' .. name .. '"'
            end
        elseif type(value) ~= "string" then
            return nil, 'except a string as "' .. name .. '"'
        end
        checked[name] = value
    end
    return checked
end

local function check_hkdf(options)
    local mode = options.hkdf_mode or M.HKDEF_MODE_EXTRACT_AND_EXPAND
    if mode == M.HKDEF_MODE_EXTRACT_AND_EXPAND and not (options.salt and options.hkdf_info) then
        return '""salt" and "hkdf_info" are required for EXTRACT_AND_EXPAND mode'
    elseif mode == M.HKDEF_MODE_EXTRACT_ONLY and not options.salt then
        return '"salt" is required for EXTRACT_ONLY mode'
    elseif mode == M.HKDEF_MODE_EXPAND_ONLY and not options.hkdf_info then
        return '"hkdf_info" is required for EXPAND_ONLY mode'
    end
end

local derivers = {
    [M.PBKDF2] = function(o, md)
        local rounds = o.pbkdf2_iter or 1
        return crypto.pbkdf2(md, o.pass or "", o.salt or "", rounds < 1 and 1 or rounds, o.outlen)
    end,
    [M.SCRYPT] = function(o)
        local memory = o.scrypt_maxmem
        if not memory or memory == 0 then
            memory = DEFAULT_SCRYPT_MEMORY
        end
        return crypto.scrypt(o.pass or "", o.salt or "", o.scrypt_N, o.scrypt_r, o.scrypt_p, memory, o.outlen)
    end,
    [M.TLS1_PRF] = function(o, md)
        return crypto.tls1_prf(md, o.tls1_prf_secret, o.tls1_prf_seed, o.outlen)
    end,
    [M.HKDF] = function(o, md)
        local mode = o.hkdf_mode or M.HKDEF_MODE_EXTRACT_AND_EXPAND
        if mode == M.HKDEF_MODE_EXTRACT_ONLY and o.outlen ~= crypto.digest_size(md) then
            log(WARN, "hkdf_mode EXTRACT_ONLY outputs fixed length of ", crypto.digest_size(md),
                " key, ignoring options.outlen")
        end
        return crypto.hkdf(md, mode, o.hkdf_key, o.salt or "", o.hkdf_info or "", o.outlen)
    end,
}

local function derive_by_type(options)
    local kind = options.type
    if not kind then
        return nil, 'kdf.derive: "type" must be set'
    elseif type(kind) ~= "number" then
        return nil, 'kdf.derive: expect a number as "type"'
    end
    local checked, err = check(options, kind)
    if not checked then
        return nil, "kdf.derive: " .. err
    end
    if kind == M.HKDF then
        err = check_hkdf(checked)
        if err then
            return nil, "kdf.derive: " .. err
        end
    end
    local md = checked.md or "sha1"
    if not crypto.digest_size(md) then
        return nil, format('kdf.derive: invalid digest type "%s"', md)
    end
    local deriver = derivers[kind]
    if not deriver then
        return nil, format("kdf.derive: unknown type %d", kind)
    end
    local key
    key, err = deriver(checked, md)
    if not key then
        return nil, describe("kdf.derive", err)
    end
    return key
end

-- The other interface: functions by name, with OpenSSL's names of parameters.
local methods = { __index = M }

local hkdf_modes = { EXTRACT_AND_EXPAND = 0, EXTRACT_ONLY = 1, EXPAND_ONLY = 2 }

local by_name = {
    pbkdf2 = function(size, o)
        if not o.pass or not o.salt then
            return nil, "error:1C800082:Provider routines::missing " .. (o.pass and "salt" or "pass") .. ":"
        end
        local rounds = tonumber(o.iter) or 2048
        return crypto.pbkdf2(o.digest or "sha1", o.pass or "", o.salt or "", rounds, size)
    end,
    hkdf = function(size, o)
        local mode = hkdf_modes[o.mode] or tonumber(o.mode) or 0
        return crypto.hkdf(o.digest or "sha1", mode, o.key or "", o.salt or "", o.info or "", size)
    end,
    ["tls1-prf"] = function(size, o)
        return crypto.tls1_prf(o.digest or "sha1", o.secret or "", o.seed or "", size)
    end,
    scrypt = function(size, o)
        local memory = tonumber(o.maxmem_bytes) or DEFAULT_SCRYPT_MEMORY
        local n, r, p = tonumber(o.n), tonumber(o.r), tonumber(o.p)
        return crypto.scrypt(o.pass or "", o.salt or "", n or 1048576, r or 8, p or 1, memory, size)
    end,
}
by_name["id-scrypt"] = by_name.scrypt

function M.new(name)
    local run = by_name[lower(tostring(name))]
    if not run then
        local problem = format('mac.new: invalid mac type "%s"', tostring(name))
        return nil, describe(problem, "error:0308010C:digital envelope routines::unsupported:")
    end
    return setmetatable({ ctx = run, algo = name, params = {} }, methods)
end

function M.istype(l)
    return l and l.ctx and getmetatable(l) == methods
end

function M:get_provider_name()
    return "default"
end

function M.derive(self, size, options)
    if not M.istype(self) then
        return derive_by_type(self)
    end
    local given = options or {}
    options = {}
    for name, value in pairs(self.params) do
        options[name] = value
    end
    for name, value in pairs(given) do
        options[name] = value
    end
    if options.digest and not crypto.digest_size(options.digest) then
        return nil, describe("kdf:derive", "error:0308010C:digital envelope routines::unsupported:")
    end
    local key, err = self.ctx(size, options)
    if not key then
        return nil, describe("kdf:derive", err)
    end
    return key
end

-- What holds for every key that is derived until `reset`.
function M:set_params(params)
    if type(params) ~= "table" then
        return false, "kdf:set_params: expect a table at #1"
    end
    for name, value in pairs(params) do
        self.params[name] = value
    end
    return true
end

function M:reset()
    self.params = {}
    return true
end

return M
