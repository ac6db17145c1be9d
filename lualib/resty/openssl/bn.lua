-- resty.openssl.bn: numbers of any size.
local crypto = require "moonrest.crypto"
local describe = require("resty.openssl.err").describe

local error, ipairs, pairs, setmetatable, type = error, ipairs, pairs, setmetatable, type

local M = {}
local methods = { __index = M }

local function wrap(ctx)
    return setmetatable({ ctx = ctx }, methods)
end

-- A native number of what was given, or nil and why not.
local function read(value, base)
    if type(value) == "number" then
        return crypto.bn_from_number(value)
    elseif type(value) == "string" then
        local ctx, err
        if not base or base == 10 then
            ctx, err = crypto.bn_from_dec(value)
            return ctx, describe("set_dec", err)
        elseif base == 16 then
            ctx, err = crypto.bn_from_hex(value)
            return ctx, describe("set_hex", err)
        elseif base == 2 then
            ctx, err = crypto.bn_from_binary(value)
            return ctx, describe("set_binary", err)
        elseif base == 0 then
            ctx, err = crypto.bn_from_mpi(value)
            return ctx, describe("set_mpi", err)
        end
        return nil, "set_bn: unsupported base: " .. base
    elseif value then
        return nil, "set_bn: expect nil, a number or a string at #1"
    end
    return crypto.bn_from_number(0)
end

function M.new(value, base)
    local ctx, err = read(value, base)
    if not ctx then
        return nil, "bn.new: " .. err
    end
    return wrap(ctx)
end

function M.istype(l)
    return l and l.ctx and crypto.is_bn(l.ctx)
end

function M.dup(ctx)
    if not crypto.is_bn(ctx) then
        return nil, "bn.dup: expect a bn ctx at #1"
    end
    return wrap(ctx:dup())
end

function M:set(value, base)
    if not value then
        return nil, "expect a number or a string at #1"
    end
    local ctx, err = read(value, base)
    if not ctx then
        return nil, "bn:set: " .. err
    end
    self.ctx = ctx
    return self
end

function M:to_binary(pad)
    if pad and type(pad) ~= "number" then
        return nil, "bn:to_binary: expect a number at #1"
    end
    local bytes, err = self.ctx:to_binary(pad)
    if not bytes or bytes == "" then
        return nil, describe("bn:to_binary", err)
    end
    return bytes
end

function M:to_mpi(no_header)
    local bytes = self.ctx:to_mpi()
    return no_header and bytes:sub(5) or bytes
end

function M:to_hex()
    return self.ctx:to_hex()
end

function M:to_dec()
    local digits, err = self.ctx:to_dec()
    if not digits then
        return nil, describe("bn:to_dec", err)
    end
    return digits
end

methods.__tostring = M.to_dec

function M:to_number()
    return self.ctx:to_number()
end

M.tonumber = M.to_number

for _, kind in ipairs({ "binary", "mpi", "hex", "dec" }) do
    local name = "from_" .. kind
    local from = crypto["bn_" .. name]
    M[name] = function(s)
        if type(s) ~= "string" then
            return nil, "bn." .. name .. ": expect a string at #1"
        end
        local ctx, err = from(s)
        if not ctx then
            return nil, "bn." .. name .. ": " .. describe("set_" .. kind, err)
        end
        return wrap(ctx)
    end
end

function M.generate_prime(bits, safe)
    local ctx, err = crypto.bn_prime(bits, safe)
    if not ctx then
        return nil, describe("bn.BN_generate_prime_ex", err)
    end
    return wrap(ctx)
end

-- The native number of an operand.
local function operand(value, verb)
    if type(value) == "number" then
        local ctx = crypto.bn_from_number(value < 0 and -value or value)
        return value < 0 and ctx:negated() or ctx
    elseif type(value) == "table" and M.istype(value) then
        return value.ctx
    end
    error("cannot " .. verb .. " a " .. type(value) .. " to bignum", 3)
end

local function binary(operation, verb, name)
    return function(a, b)
        local result = operand(a, verb):apply(operand(b, verb), operation)
        if not result then
            error(name .. "() failed", 2)
        end
        return wrap(result)
    end
end

M.add = binary("add", "add", "BN_add")
M.sub = binary("sub", "substract", "BN_sub")
M.mul = binary("mul", "multiply", "BN_mul")
M.div = binary("div", "divide", "BN_div")
M.mod = binary("mod", "mod", "BN_div")
M.gcd = binary("gcd", "extract greatest common divisor", "BN_gcd")
M.exp = binary("exp", "power", "BN_exp")
M.idiv, M.pow = M.div, M.exp

methods.__add, methods.__sub, methods.__mul = M.add, M.sub, M.mul
methods.__div, methods.__idiv, methods.__mod = M.div, M.div, M.mod

local function squared(a, verb)
    local ctx = operand(a, verb)
    return ctx, ctx
end

function M.sqr(a)
    local x, y = squared(a, "square")
    local result = x:apply(y, "mul")
    if not result then
        error("BN_sqr() failed", 2)
    end
    return wrap(result)
end

for _, operation in ipairs({ "add", "sub", "mul", "exp" }) do
    M["mod_" .. operation] = function(a, b, m)
        local x, y, modulus = operand(a, operation), operand(b, operation), operand(m, operation)
        local result = x:apply_modulo(y, modulus, operation)
        if not result then
            error("BN_mod_" .. operation .. " failed", 2)
        end
        return wrap(result)
    end
end

function M.mod_sqr(a, m)
    local x, y = squared(a, "mod_sqr")
    local result = x:apply_modulo(y, operand(m, "mod_sqr"), "mul")
    if not result then
        error("BN_mod_sqr() failed", 2)
    end
    return wrap(result)
end

local function shift(sign, verb, name)
    return function(a, bits)
        local result = operand(a, verb):shifted(sign * bits)
        if not result then
            error(name .. "() failed", 2)
        end
        return wrap(result)
    end
end

M.lshift = shift(1, "lshift", "BN_lshift")
M.rshift = shift(-1, "rshift", "BN_rshift")
methods.__shl, methods.__shr = M.lshift, M.rshift

local function unsupported()
    error("NYI", 2)
end

for _, name in pairs({ "__band", "__bor", "__bxor", "__bnot" }) do
    methods[name] = unsupported
end

function methods.__unm(a)
    return wrap(a.ctx:negated())
end

function methods.__eq(a, b)
    return a.ctx:compare(b.ctx) == 0
end

function methods.__lt(a, b)
    return a.ctx:compare(b.ctx) < 0
end

function methods.__le(a, b)
    return a.ctx:compare(b.ctx) <= 0
end

function M:is_zero()
    return self.ctx:is_word(0)
end

function M:is_one()
    return self.ctx:is_word(1)
end

function M:is_word(n)
    return self.ctx:is_word(n)
end

function M:is_odd()
    return self.ctx:is_odd()
end

function M:is_prime(nchecks)
    if nchecks and type(nchecks) ~= "number" then
        return nil, "bn:is_prime: expect a number at #1"
    end
    local prime, err = self.ctx:is_prime(nchecks)
    if prime == nil then
        return nil, describe("bn.is_prime", err)
    end
    return prime
end

return M
