-- resty.roundrobin: nodes in turn, the heavier more often, the heaviest first.
local utils = require "resty.balancer.utils"

local copy, nkeys = utils.copy, utils.nkeys
local error, next, setmetatable, tonumber = error, next, setmetatable, tonumber
local random = math.random

local M = {}
local methods = { __index = M }

local function divisor(a, b)
    while b ~= 0 do
        a, b = b, a % b
    end
    return a
end

-- Works out what finding nodes needs: the one key, if there is one alone, the weights' divisor and the largest weight.
local function measure(self)
    local nodes = self.nodes
    local first, max_weight = next(nodes)
    if not first then
        return error("empty nodes")
    end
    local only_key, gcd = first, max_weight
    for _, weight in next, nodes, first do
        only_key = nil
        gcd = divisor(gcd, weight)
        if weight > max_weight then
            max_weight = weight
        end
    end
    self.only_key, self.gcd, self.max_weight = only_key, gcd, max_weight
end

-- Workers that start together should not all begin with the same node.
local function random_id(nodes)
    local id
    for _ = 1, random(nkeys(nodes)) do
        id = next(nodes, id)
    end
    return id
end

local function fill(self, nodes)
    self.nodes = copy(nodes)
    measure(self)
    self.cw = self.max_weight
    self.last_id = random_id(self.nodes)
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
    measure(self)
    if id == self.last_id then
        self.last_id = nil
    end
    if self.cw > self.max_weight then
        self.cw = self.max_weight
    end
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
    measure(self)
    if self.cw > self.max_weight then
        self.cw = self.max_weight
    end
end

function M.incr(self, id, weight)
    self.nodes[id] = (self.nodes[id] or 0) + (tonumber(weight) or 1)
    measure(self)
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

function M.find(self)
    if self.only_key then
        return self.only_key
    end
    local nodes, id, bound = self.nodes, self.last_id, self.cw
    while true do
        local weight
        id, weight = next(nodes, id)
        if not id then
            -- A round has ended: lighter nodes have their turn in the next.
            bound = bound - self.gcd
            if bound <= 0 then
                bound = self.max_weight
            end
        elseif weight >= bound then
            self.cw, self.last_id = bound, id
            return id
        end
    end
end

M.next = M.find

return M
