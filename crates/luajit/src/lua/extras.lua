-- What OpenResty's LuaJIT has and LuaJIT lacks. Called with the addresses of the two exdata cells.
local exdata_address, exdata2_address = ...

local ffi = require "ffi"
local new_tab = require "table.new"
local error, next, type, select = error, next, type, select
local floor = math.floor
local format = string.format
local preload = package.preload

-- Upstream's bounds: LuaJIT's own are few for a program with many handlers, and when they are reached all machine code goes.
jit.opt.start("maxtrace=8000", "maxrecord=16000", "minstitch=3", "maxmcode=40960")

local function expect_table(name, t, n)
    error(format("bad argument #1 to '%s' (table expected, got %s)", name, n == 0 and "no value" or type(t)), 3)
end

-- As upstream's, a module that was loaded is also a field of `table`, or a global.
local function isempty(...)
    local t = ...
    if type(t) ~= "table" then
        expect_table("isempty", t, select("#", ...))
    end
    return next(t) == nil
end

-- True when every key is an integer from 1 up, holes allowed, as upstream's answers.
local function isarray(...)
    local t = ...
    if type(t) ~= "table" then
        expect_table("isarray", t, select("#", ...))
    end
    for k in next, t do
        if type(k) ~= "number" or k < 1 or floor(k) ~= k then
            return false
        end
    end
    return true
end

local function nkeys(...)
    local t = ...
    if type(t) ~= "table" then
        expect_table("nkeys", t, select("#", ...))
    end
    local n = 0
    for _ in next, t do
        n = n + 1
    end
    return n
end

-- Shallow; the metatable does not come along.
local function clone(...)
    local t = ...
    if type(t) ~= "table" then
        expect_table("clone", t, select("#", ...))
    end
    local copy = new_tab(#t, 0)
    for k, v in next, t do
        copy[k] = v
    end
    return copy
end

local function cell_accessor(address)
    local cell = ffi.cast("void **", address)
    return function(...)
        if select("#", ...) == 0 then
            return cell[0]
        end
        cell[0] = ...
    end
end

for name, f in next, { isempty = isempty, isarray = isarray, nkeys = nkeys, clone = clone } do
    preload["table." .. name] = function()
        table[name] = f
        return f
    end
end

for name, address in next, { exdata = exdata_address, exdata2 = exdata2_address } do
    local accessor = cell_accessor(address)
    preload["thread." .. name] = function()
        _G[name] = accessor
        return accessor
    end
end
