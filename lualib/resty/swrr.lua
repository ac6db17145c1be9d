-- resty.swrr: nodes in turn by weight, evenly mixed, as nginx's round robin has them.
local utils = require "resty.balancer.utils"

local copy, nkeys, new_tab = utils.copy, utils.nkeys, utils.new_tab
local pairs, setmetatable, tonumber = pairs, setmetatable, tonumber
local random = math.random

local M = {}
local methods = { __index = M }

local function fill(self, nodes)
    self.nodes = copy(nodes)
    local current = new_tab(0, nkeys(nodes))
    for id in pairs(nodes) do
        current[id] = 0
    end
    self.current_weights = current
    -- Workers that start together should not all begin with the same node.
    for _ = 1, random(nkeys(nodes)) do
        M.next(self)
    end
    return self
end

function M.new(_, nodes)
    return setmetatable(fill({}, nodes), methods)
end

function M.reinit(self, nodes)
    fill(self, nodes)
end

function M.delete(self, id)
    self.nodes[id] = nil
    self.current_weights[id] = nil
end

function M.decr(self, id, weight)
    weight = tonumber(weight) or 1
    local old = self.nodes[id]
    if not old then
        return
    end
    if old <= weight then
        return M.delete(self, id)
    end
    self.nodes[id] = old - weight
end

function M.incr(self, id, weight)
    self.nodes[id] = (self.nodes[id] or 0) + (tonumber(weight) or 1)
    self.current_weights[id] = self.current_weights[id] or 0
end

function M.set(self, id, weight)
    weight = tonumber(weight) or 0
    local old = self.nodes[id] or 0
    if old < weight then
        return M.incr(self, id, weight - old)
    end
    if old > weight then
        return M.decr(self, id, old - weight)
    end
end

-- All gain their weight; the one that has most pays for all.
function M.find(self)
    local current = self.current_weights
    local best, most, total = nil, 0, 0
    for id, weight in pairs(self.nodes) do
        local has = current[id] + weight
        current[id] = has
        total = total + weight
        if best == nil or has > most then
            best, most = id, has
        end
    end
    if best ~= nil then
        current[best] = most - total
    end
    return best
end

M.next = M.find

return M
