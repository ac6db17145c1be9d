-- resty.openssl.provider: OpenSSL's providers. AWS-LC has everything in one: "default" and "legacy" are there, and stand for it.
local crypto = require "moonrest.crypto"

local getmetatable, ipairs, setmetatable, tostring, type = getmetatable, ipairs, setmetatable, tostring, type

local M = {}
local methods = { __index = M }

local known = { default = true, legacy = true, base = true }
-- As OpenSSL says it: what is not the default is available when it was loaded.
local loaded = { default = 1 }

function M.load(name)
    if not known[name] then
        return nil, "provider.load: no provider " .. tostring(name)
    end
    loaded[name] = (loaded[name] or 0) + 1
    return setmetatable({ ctx = name }, methods)
end

function M.istype(l)
    return type(l) == "table" and getmetatable(l) == methods
end

function M.is_available(name)
    return (loaded[name] or 0) > 0
end

function M.set_default_search_path()
    return true
end

function M:unload()
    if self.ctx then
        loaded[self.ctx] = loaded[self.ctx] - 1
        self.ctx = nil
    end
    return true
end

function M:self_test()
    return true
end

local params = { name = "AWS-LC", version = crypto.version(), buildinfo = crypto.version(), status = 1 }

-- One value, or a table of several by name.
function M:get_params(...)
    local names = { ... }
    if #names == 0 then
        return nil, "provider:get_params: at least one key is required"
    end
    local found = {}
    for _, name in ipairs(names) do
        if params[name] == nil then
            return nil, 'provider:get_params: unknown key "' .. tostring(name) .. '"'
        end
        found[name] = params[name]
    end
    return #names == 1 and found[names[1]] or found
end

return M
