-- `resty.http_headers`: a table of header fields that is found whatever the case of its names, and keeps the first spelling.
-- https://github.com/ledgetech/lua-resty-http
local lower = string.lower
local getmetatable, setmetatable, rawget, rawset, type = getmetatable, setmetatable, rawget, rawset, type

local M = { _VERSION = "0.17.2" }

local function find(t, name)
    if type(name) ~= "string" then
        return nil
    end
    local spelling = getmetatable(t).normalised[lower(name)]
    return spelling and rawget(t, spelling)
end

local function add(t, name, value)
    if type(name) ~= "string" then
        return rawset(t, name, value)
    end
    local normalised, plain = getmetatable(t).normalised, lower(name)
    local spelling = normalised[plain]
    if not spelling then
        spelling = name
        normalised[plain] = name
    end
    rawset(t, spelling, value)
end

-- A field of the message, or else of the trailers that came after it.
local function find_with_trailers(t, name)
    local value = find(t, name)
    if value == nil then
        return getmetatable(t).trailers[name]
    end
    return value
end

function M.new()
    return setmetatable({}, { __index = find, __newindex = add, normalised = {} })
end

-- Lets the fields of another such table be found in `t` too.
function M.append(t, trailers)
    local mt = getmetatable(t)
    mt.trailers, mt.__index = trailers, find_with_trailers
end

return M
