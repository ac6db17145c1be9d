-- `pgmoon.json`: values as JSON. https://github.com/leafo/pgmoon
local require = require

local function encode_json(value, escape_literal)
    local text = require("cjson").encode(value)
    if escape_literal then
        return escape_literal(text)
    end
    return require("pgmoon").Postgres.escape_literal(nil, text)
end

local function decode_json(text)
    return require("cjson").decode(text)
end

return { encode_json = encode_json, decode_json = decode_json }
