-- `resty.lrucache`: a cache of Lua values in one VM, of a fixed number of entries, the least recently used giving way.
-- https://github.com/openresty/lua-resty-lrucache
--
-- Entries are numbered places in arrays; `after` and `before` link them in a ring through place 0, the most recently used
-- one behind it. Free places hang on `after` of their own list.
local new_tab = require "table.new"
local clear_tab = require "table.clear"

local ngx = ngx
local error, setmetatable, tonumber, type = error, setmetatable, tonumber, type

local M = { _VERSION = "0.15" }
local mt = { __index = M }

local function unlink(self, place)
    local before, after = self.before, self.after
    local left, right = before[place], after[place]
    after[left], before[right] = right, left
end

local function link_first(self, place)
    local before, after = self.before, self.after
    local first = after[0]
    before[place], after[place] = 0, first
    after[0], before[first] = place, place
end

-- Makes all places free.
local function reset(self)
    clear_tab(self.places)
    clear_tab(self.keys)
    clear_tab(self.values)
    clear_tab(self.expires)
    clear_tab(self.flags)
    local after = self.after
    for place = 1, self.size do
        after[place] = place + 1
    end
    after[self.size] = 0
    after[0], self.before[0] = 0, 0
    self.free, self.used = 1, 0
end

function M.new(size)
    size = tonumber(size)
    if not size or size < 1 then
        return nil, "size too small"
    end
    local self = {
        size = size,
        places = new_tab(0, size),
        keys = new_tab(size, 0),
        values = new_tab(size, 0),
        expires = new_tab(size, 0),
        flags = new_tab(size, 0),
        after = new_tab(size + 1, 0),
        before = new_tab(size + 1, 0),
    }
    reset(self)
    return setmetatable(self, mt)
end

function M.count(self)
    return self.used
end

function M.capacity(self)
    return self.size
end

-- The value, or nil and the value that has expired; and the entry's flags.
function M.get(self, key)
    local place = self.places[key]
    if not place then
        return nil
    end
    unlink(self, place)
    link_first(self, place)
    local value, expires, flags = self.values[place], self.expires[place], self.flags[place]
    if expires and expires < ngx.now() then
        return nil, value, flags
    end
    return value, nil, flags
end

function M.set(self, key, value, ttl, flags)
    local place = self.places[key]
    if place then
        unlink(self, place)
    else
        place = self.free
        if place ~= 0 then
            self.free = self.after[place]
            self.used = self.used + 1
        else
            place = self.before[0]
            unlink(self, place)
            self.places[self.keys[place]] = nil
        end
        self.places[key], self.keys[place] = place, key
    end
    link_first(self, place)
    self.values[place] = value
    self.expires[place] = ttl and ngx.now() + ttl or false
    flags = tonumber(flags)
    self.flags[place] = flags and flags >= 0 and flags or 0
end

function M.delete(self, key)
    local place = self.places[key]
    if not place then
        return false
    end
    unlink(self, place)
    self.places[key] = nil
    self.keys[place], self.values[place] = nil, nil
    self.after[place], self.free = self.free, place
    self.used = self.used - 1
    return true
end

-- Keys from the most recently used on, at most `max` of them if that is given, in `list` or a new table.
function M.get_keys(self, max, list)
    if not max or max == 0 or max > self.used then
        max = self.used
    end
    if list ~= nil and type(list) ~= "table" then
        error("the result must be a table", 2)
    end
    list = list or new_tab(max + 1, 0)
    local place = self.after[0]
    for n = 1, max do
        list[n] = self.keys[place]
        place = self.after[place]
    end
    list[max + 1] = nil
    return list
end

function M.flush_all(self)
    reset(self)
end

return M
