-- resty.openssl.x509.list: lists of x509.name, x509.altname and x509.chain: `#list`, `list[n]`, `pairs`, `each`, `all`.
local getmetatable, ipairs, setmetatable, type = getmetatable, ipairs, setmetatable, type
local rawget, rawset, tonumber = rawget, rawset, tonumber

-- A class of lists with these methods, which errors call `label`. `entry(item)` gives what iteration gives.
return function(label, methods, entry)
    local class = {}

    local function iterate(self)
        local n = 0
        local items = rawget(self, "items")
        return function()
            n = n + 1
            if items[n] ~= nil then
                return entry(items[n], n)
            end
        end
    end

    function class.__index(self, key)
        local n = type(key) == "number" and key or tonumber(key)
        if n then
            return rawget(self, "items")[n]
        end
        -- Upstream's `dup` takes what it calls `ctx`.
        if key == "ctx" then
            return self
        end
        return methods[key]
    end

    function class.__len(self)
        return #rawget(self, "items")
    end

    class.__pairs = iterate
    class.__ipairs = iterate

    function methods.each(self)
        return iterate(self)
    end

    function methods.all(self)
        local found = {}
        for key, value in iterate(self) do
            rawset(found, key, value)
        end
        return found
    end

    function methods.count(self)
        return #rawget(self, "items")
    end

    function methods.index(self, n)
        return rawget(self, "items")[n]
    end

    -- A list of the same items.
    function methods.dup(other)
        if type(other) ~= "table" or getmetatable(other) ~= class then
            return nil, label .. ".dup: expect a " .. label .. " ctx at #1, got " .. type(other)
        end
        local items = {}
        for n, item in ipairs(rawget(other, "items")) do
            items[n] = item
        end
        return class.new(items)
    end

    function class.new(items)
        return setmetatable({ items = items }, class)
    end

    return class
end
