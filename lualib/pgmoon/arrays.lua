-- `pgmoon.arrays`: PostgreSQL's arrays. https://github.com/leafo/pgmoon
local types = require "resty.postgres.types"
local class = require "pgmoon.class"

local concat, gsub = table.concat, string.gsub
local assert, getmetatable, ipairs, pairs, require, setmetatable, tostring, type =
    assert, getmetatable, ipairs, pairs, require, setmetatable, tostring, type

-- Array types by the Lua type of their elements.
local OIDS = { boolean = 1000, number = 1231, string = 1009, array_json = 199, array_jsonb = 3807 }

local PostgresArray = class("PostgresArray")
getmetatable(PostgresArray).__call = function(self, list)
    return setmetatable(list, self.__base)
end

local function is_array(oid)
    for _, known in pairs(OIDS) do
        if known == oid then
            return true
        end
    end
    return false
end

local function quoted(text)
    return "\"" .. gsub(text, "[\"\\]", "\\%0") .. "\""
end

function PostgresArray.__base.pgmoon_serialize(list, pg)
    local out = {}
    for i, value in ipairs(list) do
        local kind = type(value)
        if value == pg.NULL then
            out[i] = "NULL"
        elseif kind == "number" then
            out[i] = tostring(value)
        elseif kind == "string" then
            out[i] = quoted(value)
        elseif kind == "boolean" then
            out[i] = value and "t" or "f"
        else
            local metatable = getmetatable(value)
            local oid, text
            if metatable and metatable.pgmoon_serialize then
                oid, text = metatable.pgmoon_serialize(value, pg)
            end
            if not oid then
                return nil, "table does not implement pgmoon_serialize, can't serialize"
            end
            out[i] = is_array(oid) and text or quoted(text)
        end
    end
    local oid = 0
    for _, value in ipairs(list) do
        if value ~= pg.NULL then
            oid = OIDS[type(value)] or 0
            break
        end
    end
    return oid, "{" .. concat(out, ",") .. "}"
end

local function default_escape(value)
    return require("pgmoon").Postgres.escape_literal(nil, value)
end

local function append(out, list, escape)
    for i, value in ipairs(list) do
        if i > 1 then
            out[#out + 1] = ","
        end
        if type(value) == "table" and not getmetatable(value) then
            out[#out + 1] = "["
            append(out, value, escape)
            out[#out + 1] = "]"
        else
            out[#out + 1] = escape(value)
        end
    end
    return out
end

-- `ARRAY[…]` for a statement's text.
local function encode_array(list, escape_literal)
    return "ARRAY[" .. concat(append({}, list, escape_literal or default_escape)) .. "]"
end

local function decode_array(text, convert, pg)
    local null = (pg or require("pgmoon").Postgres).NULL
    return assert(types.decode_array(text, convert, null, PostgresArray.__base))
end

return { encode_array = encode_array, decode_array = decode_array, PostgresArray = PostgresArray }
