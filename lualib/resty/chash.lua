-- resty.chash: consistent hashing. A node has 160 points on a ring for each unit of weight, where nginx's
-- `hash … consistent` would have them too; a key belongs to the next point.
local ffi = require "ffi"
local bit = require "bit"
local utils = require "resty.balancer.utils"

local copy = utils.copy
local band, bnot, bxor, rshift = bit.band, bit.bnot, bit.bxor, bit.rshift
local crc32 = ngx.crc32_short
local floor = math.floor
local ipairs, pairs, setmetatable = ipairs, pairs, setmetatable
local tonumber, tostring = tonumber, tostring
local ffi_copy, ffi_new = ffi.copy, ffi.new
local sort = table.sort

local M = {}
local methods = { __index = M }

local POINTS = 160
local POW32 = 2 ^ 32

local point = ffi.typeof("struct { uint32_t hash; uint32_t id; }")
local point_array = ffi.typeof("$[?]", point)
local POINT_SIZE = ffi.sizeof(point)

local crc_table = ffi_new("int32_t[256]")
for n = 0, 255 do
    local c = n
    for _ = 1, 8 do
        c = band(c, 1) == 1 and bxor(rshift(c, 1), 0xedb88320) or rshift(c, 1)
    end
    crc_table[n] = c
end

-- The hashes of a node's points `from + 1` to `from + count`, sorted. Each is the checksum of the node's name and the
-- hash before.
local function hashes_of(id, from, count)
    local base = bnot(crc32(tostring(id)))
    local hash = 0
    local list = {}
    for n = 1, from + count do
        local c = base
        for shift = 0, 24, 8 do
            c = bxor(crc_table[band(bxor(c, rshift(hash, shift)), 255)], rshift(c, 8))
        end
        hash = bnot(c)
        if n > from then
            list[n - from] = hash % POW32
        end
    end
    sort(list)
    return list
end

-- Makes the ring anew.
local function fill(self, nodes)
    nodes = copy(nodes)
    local ids, all, owner = {}, {}, {}
    local count = 0
    for id, weight in pairs(nodes) do
        local index = #ids + 1
        ids[index] = id
        for _, hash in ipairs(hashes_of(id, 0, weight * POINTS)) do
            count = count + 1
            -- 32 bits of hash and 20 of index are exact in a number.
            all[count] = hash * 0x100000 + index
        end
    end
    sort(all)
    local points = ffi_new(point_array, count)
    for n = 1, count do
        local hash = floor(all[n] / 0x100000)
        points[n - 1].hash = hash
        points[n - 1].id = all[n] - hash * 0x100000
    end
    self.nodes, self.ids, self.points = nodes, ids, points
    self.npoints, self.size = count, count
    return self
end

function M.new(_, nodes)
    return setmetatable(fill({}, nodes), methods)
end

function M.reinit(self, nodes)
    fill(self, nodes)
end

local function index_of(self, id)
    for index, other in pairs(self.ids) do
        if other == id then
            return index
        end
    end
end

-- Keeps the points for which `keep` says so.
local function filter(self, keep)
    local points, kept = self.points, 0
    for n = 0, self.npoints - 1 do
        if keep(points[n]) then
            if kept ~= n then
                points[kept].hash, points[kept].id = points[n].hash, points[n].id
            end
            kept = kept + 1
        end
    end
    self.npoints = kept
end

function M.delete(self, id)
    if not self.nodes[id] then
        return
    end
    local index = index_of(self, id)
    self.nodes[id], self.ids[index] = nil, nil
    filter(self, function(at)
        return at.id ~= index
    end)
end

function M.incr(self, id, weight)
    weight = tonumber(weight) or 1
    local nodes = self.nodes
    local old = nodes[id] or 0
    local index = nodes[id] and index_of(self, id)
    if not index then
        index = #self.ids + 1
        self.ids[index] = id
    end
    nodes[id] = old + weight
    local added = hashes_of(id, old * POINTS, weight * POINTS)
    local points, count = self.points, self.npoints
    local total = count + #added
    if self.size < total then
        local larger = ffi_new(point_array, total)
        ffi_copy(larger, points, count * POINT_SIZE)
        points, self.points, self.size = larger, larger, total
    end
    -- Both are sorted: merged from the end, in place.
    local from, at = count - 1, total - 1
    for n = #added, 1, -1 do
        local hash = added[n]
        while from >= 0 and points[from].hash >= hash do
            points[at].hash, points[at].id = points[from].hash, points[from].id
            from, at = from - 1, at - 1
        end
        points[at].hash, points[at].id = hash, index
        at = at - 1
    end
    self.npoints = total
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
    local index = index_of(self, id)
    local removed = hashes_of(id, (old - weight) * POINTS, weight * POINTS)
    local n = 1
    filter(self, function(at)
        if at.id == index and at.hash == removed[n] then
            n = n + 1
            return false
        end
        return true
    end)
    self.nodes[id] = old - weight
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
    return true
end

-- The node of a key, and where its point is.
function M.find(self, key)
    local hash = crc32(tostring(key))
    local points, count = self.points, self.npoints
    local low, high = 0, count
    while low < high do
        local middle = floor((low + high) / 2)
        if points[middle].hash < hash then
            low = middle + 1
        else
            high = middle
        end
    end
    if low == count then
        low = 0
    end
    return self.ids[points[low].id], low
end

-- The node behind a point.
function M.next(self, index)
    index = (index + 1) % self.npoints
    return self.ids[self.points[index].id], index
end

return M
