-- resty.openssl.pkey: keys of public-key algorithms: made, read, written, and used.
local crypto = require "moonrest.crypto"
local bn = require "resty.openssl.bn"
local digest = require "resty.openssl.digest"
local jwk = require "resty.openssl.auxiliary.jwk"
local objects = require "resty.openssl.objects"
local describe = require("resty.openssl.err").describe

local ipairs, pairs = ipairs, pairs
local rawget, setmetatable, tonumber, tostring, type = rawget, setmetatable, tonumber, tostring, type
local format, match = string.format, string.match

local M = {}
local methods = { __index = M }

M.PADDINGS = {
    RSA_PKCS1_PADDING = 1,
    RSA_SSLV23_PADDING = 2,
    RSA_NO_PADDING = 3,
    RSA_PKCS1_OAEP_PADDING = 4,
    RSA_X931_PADDING = 5,
    RSA_PKCS1_PSS_PADDING = 6,
}

local formats = { PEM = true, DER = true, JWK = true, ["*"] = true }
local halves = { pu = true, pr = true, ["*"] = true }

-- Reads a key in one of the formats.
local function load(text, opts)
    local fmt, half = opts.format or "*", opts.type or "*"
    if not formats[fmt] then
        return nil, [[expecting 'DER', 'PEM', 'JWK' or '*' as "format"]]
    end
    if not halves[half] then
        return nil, [[expecting 'pr', 'pu' or '*' as "type"]]
    end
    local passphrase = opts.passphrase
    if passphrase and type(passphrase) ~= "string" then
        return nil, "passphrase must be a string"
    end
    local key, err
    if fmt == "JWK" or fmt == "*" and match(text, "^%s*{") then
        key, err = jwk.load_jwk(text, half)
        if key or fmt == "JWK" then
            return key, err
        end
    end
    if fmt ~= "DER" then
        if not passphrase and opts.passphrase_cb and match(text, "ENCRYPTED") then
            passphrase = opts.passphrase_cb()
        end
        key, err = crypto.pkey_read(text, "PEM", half, passphrase)
        if key or fmt == "PEM" or match(text, "%-%-%-%-%-BEGIN") then
            return key, err
        end
    end
    return crypto.pkey_read(text, "DER", half)
end

local kinds_without_parameters = { Ed25519 = true, X25519 = true }

-- The number of the curve that a table names.
local function curve_of(config)
    if config.param then
        local curve, err = crypto.ec_parameters_read(config.param)
        return curve, err and "load_param: " .. err
    end
    local curve = config.curve or "prime256v1"
    for _, control in ipairs(config) do
        curve = type(control) == "string" and match(control, "^ec_paramgen_curve:(.+)") or curve
    end
    return crypto.nid(curve), "generate_param: unknown curve " .. curve
end

-- The group that a table names: parameters, a name, or bits.
local function group_of(config)
    return config.param or config.group or tonumber(config.bits) or 2048
end

local function generate(config)
    local kind = config.type or "RSA"
    if kind == "RSA" then
        local bits = config.bits or 2048
        if bits > 4294967295 then
            return nil, "bits out of range"
        end
        local key, err = crypto.pkey_generate("RSA", bits, config.exp)
        return key, describe("EVP_PKEY_gen", err)
    elseif kind == "EC" then
        local curve, err = curve_of(config)
        if not curve then
            return nil, err
        end
        local key
        key, err = crypto.pkey_generate("EC", objects.nid2table(curve).sn)
        return key, describe("EVP_PKEY_gen", err)
    elseif kind == "DH" then
        local key, err = crypto.pkey_generate("DH", group_of(config))
        return key, describe("EVP_PKEY_gen", err)
    elseif kinds_without_parameters[kind] then
        local key, err = crypto.pkey_generate(kind)
        return key, describe("EVP_PKEY_gen", err)
    end
    return nil, "unsupported type " .. kind
end

-- Parameters of a key with native numbers instead of `bn` instances. `names` says which are numbers.
local function native(params, names, into)
    for _, name in ipairs(names) do
        local value = params[name]
        if value ~= nil then
            if not bn.istype(value) then
                return nil, 'cannot process parameter "' .. name .. '":expect value to be a bn instance'
            end
            into[name] = value.ctx
        end
    end
    return into
end

local rsa_names = { "n", "e", "d", "p", "q", "dmp1", "dmq1", "iqmp" }
local ec_names = { "private", "x", "y" }

local function compose_rsa(params, base)
    local numbers, err = native(params, rsa_names, base or {})
    if not numbers then
        return nil, "rsa.set_parameters: " .. err
    end
    local key
    key, err = crypto.pkey_from_rsa(numbers)
    return key, describe("rsa.set_parameters: RSA_set0_key", err)
end

local function compose_ec(params, base)
    for _, name in ipairs({ "public", "private", "x", "y" }) do
        if params[name] and not bn.istype(params[name]) then
            return nil, 'expect parameter "' .. name .. '" to be a bn instance'
        end
    end
    local x, y, public = params.x, params.y, params.public
    if (x and not y) or (y and not x) then
        return nil, 'ec.set_parameters: "x" and "y" parameter must be defined at same time or both undefined'
    end
    if x and public then
        return nil, 'ec.set_parameters: cannot set "x" and "y" with "public" at same time to set public key'
    end
    local numbers, err = native(params, ec_names, base or {})
    if not numbers then
        return nil, err
    end
    if params.group then
        numbers.group, err = objects.txtnid2nid(params.group)
        if not numbers.group then
            return nil, 'ec.set_parameters: cannot use parameter "group":' .. err
        end
    elseif not numbers.group then
        return nil, 'ec.set_parameters: cannot set public key without setting "group"'
    end
    if x then
        numbers.public = nil
    elseif public then
        numbers.public, numbers.x, numbers.y = public:to_binary(), nil, nil
    elseif params.private then
        numbers.public, numbers.x, numbers.y = nil, nil, nil
    end
    local key
    key, err = crypto.pkey_from_ec(numbers)
    return key, describe("ec.set_parameters: EC_KEY_check_key", err)
end

local dh_names = { "p", "g", "q", "public", "private" }

local function compose_dh(params, base)
    local numbers, err = native(params, dh_names, base or {})
    if not numbers then
        return nil, "dh.set_parameters: " .. err
    end
    local key
    key, err = crypto.pkey_from_dh(numbers)
    return key, describe("dh.set_parameters: DH_set0_key", err)
end

local function compose_raw(kind, params)
    local bytes = params.private or params.public
    if not bytes then
        return nil, "no parameter is specified"
    end
    local key, err = crypto.pkey_from_raw(kind, params.private ~= nil, bytes)
    return key, describe("ecx.set_parameters: EVP_PKEY_new_raw_key", err)
end

local function compose(config)
    local kind = config.type or "RSA"
    local key, err
    if kind == "RSA" then
        key, err = compose_rsa(config.params)
    elseif kind == "EC" then
        key, err = compose_ec(config.params)
    elseif kind == "DH" then
        key, err = compose_dh(config.params)
    elseif kinds_without_parameters[kind] then
        return compose_raw(kind, config.params)
    else
        return nil, "unsupported type " .. kind
    end
    if not key then
        return nil, "failed to construct " .. kind .. " key from parameters: " .. err
    end
    return key
end

local function wrap(key)
    local kind, nid = key:kind()
    return setmetatable({ ctx = key, kind = kind, key_type = nid }, methods)
end

function M.new(what, opts)
    what = what or {}
    local key, err
    if type(what) == "table" then
        if what.params then
            key, err = compose(what)
        else
            key, err = generate(what)
        end
        err = not key and "pkey.new:new_key: " .. err
    elseif type(what) == "string" then
        key, err = load(what, opts or {})
        err = not key and "pkey.new:load_key: " .. (err ~= "" and err or "no key found")
    elseif crypto.is_pkey(what) then
        key = what
    else
        return nil, "pkey.new: unexpected type " .. type(what) .. " at #1"
    end
    if not key then
        return nil, err
    end
    return wrap(key)
end

function M.istype(l)
    return l and l.ctx and crypto.is_pkey(l.ctx)
end

function M:get_key_type(nid_only)
    if nid_only then
        return self.key_type
    end
    return objects.nid2table(self.key_type)
end

function M:get_size()
    return (self.ctx:sizes())
end

function M:get_provider_name()
    return "default"
end

function M:get_default_digest_type()
    if kinds_without_parameters[self.kind] then
        if self.kind == "Ed25519" then
            return { id = "0.0", nid = 0, sn = "UNDEF", ln = "undefined", mandatory = true }
        end
        return nil, "operation is not supported by the public key algorithm"
    end
    local found = objects.nid2table(crypto.nid("SHA256"))
    found.mandatory = false
    return found
end

local aliases = { pub_key = "public", priv_key = "private" }

-- What a key consists of: `bn` instances, the curve's number, or bytes.
function M:get_parameters()
    local numbers = self.ctx:parameters()
    if not numbers then
        return nil, "key getter not defined"
    end
    if self.kind == "EC" and numbers.public then
        numbers.public = crypto.bn_from_binary(numbers.public)
    end
    for name, value in pairs(numbers) do
        if type(value) == "userdata" then
            numbers[name] = bn.dup(value)
        end
    end
    return setmetatable(numbers, {
        __index = function(_, name)
            return aliases[name] and rawget(numbers, aliases[name])
        end,
    })
end

-- Numbers that are not given stay what they are.
function M:set_parameters(params)
    local key, err
    if self.kind == "RSA" then
        local base = {}
        for name, value in pairs(self.ctx:parameters()) do
            base[name] = value
        end
        key, err = compose_rsa(params, base)
    elseif self.kind == "EC" then
        key, err = compose_ec(params, self.ctx:parameters())
    elseif self.kind == "DH" then
        local base = self.ctx:parameters()
        -- Halves of another group's keys are of no use; what is not given is calculated.
        if params.p or params.private then
            base.q, base.public = nil, nil
        end
        key, err = compose_dh(params, base)
    elseif kinds_without_parameters[self.kind] then
        key, err = compose_raw(self.kind, params)
    else
        err = "key getter not defined"
    end
    if not key then
        return false, err
    end
    self.ctx = key
    return true
end

function M:is_private()
    return self.ctx:is_private()
end

-- What upstream takes as "name:value" of OpenSSL's controls.
local controls = {
    digest = "digest",
    rsa_padding_mode = "padding",
    rsa_pss_saltlen = "pss_saltlen",
    rsa_oaep_md = "oaep_md",
    rsa_mgf1_md = "mgf1_md",
}
local padding_modes = { pkcs1 = 1, none = 3, oaep = 4, pss = 6 }
local salt_lengths = { digest = -1, auto = -2, max = -2 }

-- Native options.
local function options(self, padding, opts)
    local made = {}
    if self.kind == "RSA" and padding then
        made.padding = tonumber(padding)
        if not made.padding then
            return nil, "invalid padding: " .. tostring(padding)
        end
    end
    if not opts then
        return made
    end
    made.mgf1_md, made.oaep_md, made.pss_saltlen = opts.mgf1_md, opts.oaep_md, opts.pss_saltlen
    for _, control in ipairs(opts) do
        if type(control) == "string" then
            local name, value = match(control, "([_%w]+):([%-_%w]+)")
            if not name then
                return nil, "unknown ctrl str: " .. control
            end
            local field = controls[name]
            if not field then
                local text = 'EVP_PKEY_CTX_ctrl_str(%s, "%s", "%s")'
                return nil, describe(format(text, "ctx", name, value), "command not supported")
            end
            made[field] = padding_modes[value] or field == "pss_saltlen" and (salt_lengths[value] or tonumber(value))
                or value
        end
    end
    return made
end

local function operate(self, operation, s, padding, opts)
    if type(s) ~= "string" then
        return nil, "pkey:asymmetric_routine: expect a string at #1"
    end
    local native_opts, err = options(self, padding or M.PADDINGS.RSA_PKCS1_PADDING, opts)
    if not native_opts then
        if self.kind == "RSA" and padding and not tonumber(padding) then
            return nil, err
        end
        return nil, "pkey:asymmetric_routine: " .. err
    end
    local out
    out, err = self.ctx:operate(operation, s, native_opts)
    if not out then
        return nil, describe("pkey:asymmetric_routine EVP_PKEY_" .. operation, err)
    end
    return out
end

function M:encrypt(s, padding, opts)
    return operate(self, "encrypt", s, padding, opts)
end

function M:decrypt(s, padding, opts)
    return operate(self, "decrypt", s, padding, opts)
end

function M:sign_raw(s, padding, opts)
    if not self:is_private() then
        return nil, "pkey:sign_raw: missing private key"
    end
    return operate(self, "sign", s, padding, opts)
end

function M:verify_recover(s, padding, opts)
    return operate(self, "verify_recover", s, padding, opts)
end

function M:verify_raw(signature, data, md_alg, padding, opts)
    if type(data) ~= "string" then
        return nil, "pkey:asymmetric_routine: expect a string at #1"
    end
    local native_opts, err = options(self, padding or M.PADDINGS.RSA_PKCS1_PADDING, opts)
    if not native_opts then
        return nil, "pkey:asymmetric_routine: " .. err
    end
    native_opts.digest = md_alg or native_opts.digest
    local ok
    ok, err = self.ctx:verify_raw(signature, data, native_opts)
    if not ok then
        return nil, describe("pkey:asymmetric_routine EVP_PKEY_verify", err)
    end
    return true
end

-- Digests are found before OpenSSL is asked.
local function check_digest(md_alg)
    if md_alg and not crypto.digest_size(md_alg) then
        return format('pkey:sign_verify_prepare: invalid digest type "%s"', md_alg)
    end
end

-- ECDSA signatures are DER in OpenSSL, two numbers of fixed size in JOSE.
local function der_to_raw(self, der)
    local r, s = crypto.ecdsa_from_der(der)
    if not r then
        return nil, "failed to parse ECDSA signature: d2i_ECDSA_SIG failed"
    end
    local _, size = self.ctx:curve()
    return r:to_binary(size) .. s:to_binary(size)
end

local function raw_to_der(self, raw)
    local _, size = self.ctx:curve()
    if #raw ~= size * 2 then
        return nil, "invalid signature length, expect " .. size * 2 .. " but got " .. #raw
    end
    local r, s = crypto.bn_from_binary(raw:sub(1, size)), crypto.bn_from_binary(raw:sub(size + 1))
    return crypto.ecdsa_to_der(r, s)
end

local function is_raw_ecdsa(self, opts)
    return self.kind == "EC" and opts and opts.ecdsa_use_raw
end

-- What is signed: a digest instance, or a text with the name of a digest. An Ed25519 key wants none; others have SHA-256
-- where nothing is said.
local function default_digest(self, md_alg)
    if not md_alg and not kinds_without_parameters[self.kind] then
        return "sha256"
    end
    return md_alg
end

function M:sign(message, md_alg, padding, opts)
    if not self:is_private() then
        return nil, "pkey:sign: missing private key"
    end
    local signature, err
    if digest.istype(message) then
        signature, err = self.ctx:sign(message.ctx)
        err = describe("pkey:sign: EVP_SignFinal", err)
    elseif type(message) == "string" then
        err = check_digest(md_alg)
        if err then
            return nil, err
        end
        local native_opts
        native_opts, err = options(self, padding, opts)
        if not native_opts then
            return nil, "pkey:sign_verify_prepare: " .. err
        end
        signature, err = self.ctx:sign(message, default_digest(self, md_alg), native_opts)
        err = describe("pkey:sign: EVP_DigestSign", err)
    else
        return nil, "pkey:sign: expect a digest instance or a string at #1"
    end
    if not signature then
        return nil, err
    end
    if is_raw_ecdsa(self, opts) then
        signature, err = der_to_raw(self, signature)
        if not signature then
            return nil, "pkey:sign: ecdsa.sig_der2raw: " .. err
        end
    end
    return signature
end

function M:verify(signature, message, md_alg, padding, opts)
    if type(signature) ~= "string" then
        return nil, "pkey:verify: expect a string at #1"
    end
    local err
    if is_raw_ecdsa(self, opts) then
        signature, err = raw_to_der(self, signature)
        if not signature then
            return nil, "pkey:sign: ecdsa.sig_raw2der: " .. err
        end
    end
    local ok
    if digest.istype(message) then
        ok, err = self.ctx:verify(signature, message.ctx)
    elseif type(message) == "string" then
        err = check_digest(md_alg)
        if err then
            return nil, err
        end
        local native_opts
        native_opts, err = options(self, padding, opts)
        if not native_opts then
            return nil, "pkey:sign_verify_prepare: " .. err
        end
        ok, err = self.ctx:verify(signature, message, default_digest(self, md_alg), native_opts)
    else
        return nil, "pkey:verify: expect a digest instance or a string at #2"
    end
    if not ok then
        return false, describe("pkey:verify", err)
    end
    return true, nil
end

function M:derive(peer)
    if not M.istype(peer) then
        return nil, "pkey:derive: expect a pkey instance at #1"
    end
    local secret, err = self.ctx:derive(peer.ctx)
    if not secret then
        return nil, describe("pkey:derive: EVP_PKEY_derive", err)
    end
    return secret
end

function M:encapsulate()
    return nil, "pkey:encapsulate: operation is not supported by the public key algorithm"
end

function M:decapsulate(wrapped)
    if type(wrapped) ~= "string" then
        return nil, "pkey:decapsulate: expect a string at #1"
    end
    return nil, "pkey:decapsulate: operation is not supported by the public key algorithm"
end

local function write(self, is_private, fmt, is_pkcs1)
    if fmt == "JWK" then
        return jwk.dump_jwk(self.ctx, is_private)
    end
    if is_pkcs1 and (fmt ~= "PEM" or self.kind ~= "RSA") then
        return nil, 'PKCS#1 format is only supported to encode RSA key in "PEM" format'
    end
    local text, err = self.ctx:write(is_private, is_pkcs1 and "PKCS1" or fmt == "DER" and "DER" or "PEM")
    if not text then
        return nil, describe("pkey:tostring", err)
    end
    return text
end

local which = { private = true, PrivateKey = true, public = false, PublicKey = false }

function M:tostring(half, fmt, is_pkcs1)
    local is_private = false
    if half then
        is_private = which[half]
        if is_private == nil then
            return nil, format("pkey:tostring: can only export private or public key, not %s", tostring(half))
        end
    end
    return write(self, is_private, fmt, is_pkcs1)
end

function methods.__tostring(self)
    return (write(self, false, "PEM"))
end

function M:to_PEM(half, is_pkcs1)
    return self:tostring(half, "PEM", is_pkcs1)
end

-- The parameters of a curve or a group in PEM.
function M.paramgen(config)
    local text, err
    if config.type == "EC" then
        local curve
        curve, err = curve_of(config)
        if curve then
            text, err = crypto.ec_parameters(curve)
        end
    elseif config.type == "DH" then
        text, err = crypto.dh_parameters(group_of(config))
    else
        return nil, "pkey.paramgen: unsupported type " .. tostring(config.type)
    end
    if not text then
        return nil, describe("pkey.paramgen", err)
    end
    return text
end

return M
