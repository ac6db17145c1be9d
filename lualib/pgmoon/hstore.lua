-- `pgmoon.hstore`: tables of strings. https://github.com/leafo/pgmoon
local class = require "pgmoon.class"

local concat, gsub = table.concat, string.gsub
local byte, find, sub = string.byte, string.find, string.sub
local error, getmetatable, pairs, require, setmetatable = error, getmetatable, pairs, require, setmetatable

local PostgresHstore = class("PostgresHstore")
getmetatable(PostgresHstore).__call = function(self, list)
    return setmetatable(list, self.__base)
end

local function escaped(text)
    return (gsub(text, "[\"\\]", "\\%0"))
end

local function encode_hstore(list, escape_literal)
    local out = {}
    for key, value in pairs(list) do
        out[#out + 1] = "\"" .. escaped(key) .. "\"=>\"" .. escaped(value) .. "\""
    end
    local text = concat(out, ", ")
    if escape_literal then
        return escape_literal(text)
    end
    return require("pgmoon").Postgres.escape_literal(nil, text)
end

-- The string in quotes at `at`, and where it ends.
local function string_at(text, at)
    if byte(text, at) ~= 34 then
        return nil
    end
    local start = at + 1
    at = start
    while true do
        local stop = find(text, "[\"\\]", at)
        if not stop then
            return nil
        elseif byte(text, stop) == 34 then
            return (gsub(sub(text, start, stop - 1), "\\(.)", "%1")), stop + 1
        end
        at = stop + 2
    end
end

local function decode_hstore(text)
    local out, at = {}, 1
    while at <= #text do
        local key, value
        key, at = string_at(text, at)
        if not key or sub(text, at, at + 1) ~= "=>" then
            error("failed to parse postgresql hstore")
        end
        at = at + 2
        if sub(text, at, at + 3) == "NULL" then
            value, at = "NULL", at + 4
        else
            value, at = string_at(text, at)
        end
        if not value then
            error("failed to parse postgresql hstore")
        end
        out[key] = value
        if at <= #text then
            if sub(text, at, at + 1) ~= ", " then
                error("failed to parse postgresql hstore")
            end
            at = at + 2
        end
    end
    return setmetatable(out, PostgresHstore.__base)
end

return { encode_hstore = encode_hstore, decode_hstore = decode_hstore, PostgresHstore = PostgresHstore }
