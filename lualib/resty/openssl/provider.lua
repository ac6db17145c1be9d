-- resty.openssl.provider: OpenSSL's providers. AWS-LC has everything in one: "default" and "legacy" are there, and stand for it.
local crypto = require "moonrest.crypto"

local getmetatable, ipairs, setmetatable, type = getmetatable, ipairs, setmetatable, type

local M = {}
local methods = { __index = M }

local available = { default = true, legacy = true, base = true }

function M.load(name)
    if not available[name] then
        return nil, "provider.load: no provider " .. tostring(name)
    end
    return setmetatable({ ctx = name, param_types = nil }, methods)
end

function M.istype(l)
    return type(l) == "table" and getmetatable(l) == methods
end

function M.is_available(name)
    return available[name] or false
end

function M.set_default_search_path()
    return true
end

function M:unload()
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
