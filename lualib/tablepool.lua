-- tablepool: tables used again instead of made anew, a pool for each name.
local new_tab = require "table.new"
local clear_tab = require "table.clear"

local error, setmetatable = error, setmetatable

-- A pool keeps this many tables at most.
local POOL_MAX = 200
-- After so many releases it is emptied: tables that once were large do not stay for ever.
local RELEASES_MAX = 20000

-- [name] = { the tables; len = how many, releases = how many came in }
local pools = {}

local M = {}

local function make_pool(name)
    local pool = new_tab(16, 2)
    pool.len, pool.releases = 0, 0
    pools[name] = pool
    return pool
end

function M.fetch(name, narr, nrec)
    local pool = pools[name] or make_pool(name)
    local len = pool.len
    if len == 0 then
        return new_tab(narr, nrec)
    end
    local tab = pool[len]
    pool[len] = nil
    pool.len = len - 1
    return tab
end

function M.release(name, tab, noclear)
    if not tab then
        error("object empty", 2)
    end
    local pool = pools[name] or make_pool(name)
    local releases = pool.releases + 1
    if releases >= RELEASES_MAX then
        make_pool(name)
        return
    end
    pool.releases = releases
    local len = pool.len
    if len >= POOL_MAX then
        return
    end
    if not noclear then
        setmetatable(tab, nil)
        clear_tab(tab)
    end
    pool[len + 1] = tab
    pool.len = len + 1
end

return M
