-- Values of PostgreSQL in their textual form, both ways. Types go by the names that `pg_type` has them under.
local bit = require "bit"

local byte, char, find, format, gsub, lower, match, sub =
    string.byte, string.char, string.find, string.format, string.gsub, string.lower, string.match, string.sub
local concat = table.concat
local floor, huge = math.floor, math.huge
local getmetatable, pcall, require, setmetatable = getmetatable, pcall, require, setmetatable
local tonumber, tostring, type = tonumber, tostring, type
local null = ngx.null

local M = {}

local function cjson()
    return require "cjson"
end

-- From text ----------------------------------------------------------------------------------------------------------------

-- A number, unless a Lua number could not hold all its digits: then the text.
local function exact_number(text)
    local digits = gsub(match(text, "^[^eE]*"), "[^%d]", "")
    if #gsub(digits, "^0+", "") > 15 then
        local number = tonumber(text)
        if number and number == floor(number) and number < 9007199254740992 and number > -9007199254740992
            and not find(text, ".", 1, true) then
            return number
        end
        return text
    end
    return tonumber(text) or text
end

local function number(text)
    if text == "NaN" then
        return 0 / 0
    elseif text == "Infinity" then
        return huge
    elseif text == "-Infinity" then
        return -huge
    end
    return tonumber(text)
end

local function boolean(text)
    return text == "t"
end

local function from_hex(digits)
    return char(tonumber(digits, 16))
end

local function from_octal(digits)
    return char(tonumber(digits, 8) % 256)
end

function M.decode_bytea(text)
    if sub(text, 1, 2) == "\\x" then
        return (gsub(sub(text, 3), "%x%x", from_hex))
    end
    return (gsub(gsub(text, "\\\\", "\\134"), "\\(%d%d%d)", from_octal))
end

function M.encode_bytea(bytes)
    return "\\x" .. gsub(bytes, ".", function(one)
        return format("%02x", byte(one))
    end)
end

local function json(text)
    return cjson().decode(text)
end

-- An array's text as a table. `convert` is for elements; missing ones become `nothing`.
function M.decode_array(text, convert, nothing, metatable, delimiter)
    local at, depth = 1, 0
    delimiter = byte(delimiter or ",")
    -- Bounds that do not begin with 1 stand in front: "[0:2]={…}".
    local bounds = match(text, "^[%[%]%d:%-+]+=()")
    if bounds then
        at = bounds
    end

    local function list()
        if byte(text, at) ~= 123 then -- {
            return nil
        end
        depth = depth + 1
        if depth > 16 then
            return nil
        end
        at = at + 1
        local out, n = {}, 0
        if metatable then
            setmetatable(out, metatable)
        end
        if byte(text, at) == 125 then -- }
            at, depth = at + 1, depth - 1
            return out
        end
        while true do
            local first, value = byte(text, at), nil
            if first == 123 then
                value = list()
                if not value then
                    return nil
                end
            elseif first == 34 then -- "
                local start, escaped = at + 1, false
                at = start
                while true do
                    local stop = find(text, "[\"\\]", at)
                    if not stop then
                        return nil
                    elseif byte(text, stop) == 34 then
                        value = sub(text, start, stop - 1)
                        at = stop + 1
                        break
                    end
                    escaped = true
                    at = stop + 2
                end
                if escaped then
                    value = gsub(value, "\\(.)", "%1")
                end
                if convert then
                    value = convert(value)
                end
            else
                local stop = find(text, delimiter == 59 and "[;}]" or "[,}]", at)
                if not stop or stop == at then
                    return nil
                end
                value = sub(text, at, stop - 1)
                if find(value, "[%s{\"]") and find(value, "^[%s{\"]") then
                    return nil
                end
                at = stop
                if value == "NULL" then
                    value = nothing
                elseif convert then
                    value = convert(value)
                end
            end
            n = n + 1
            out[n] = value
            local after = byte(text, at)
            at = at + 1
            if after == 125 then
                depth = depth - 1
                return out
            elseif after ~= delimiter then
                return nil
            end
        end
    end

    local out = list()
    if not out or at <= #text then
        return nil, "failed to parse postgresql array"
    end
    return out
end

local function array_of(convert)
    return function(text)
        return M.decode_array(text, convert, null) or text
    end
end

-- What becomes of a column by its type's number; others stay text.
M.DECODERS = {
    [16] = boolean, -- bool
    [17] = M.decode_bytea, -- bytea
    [20] = exact_number, -- int8
    [21] = tonumber, -- int2
    [23] = tonumber, -- int4
    [26] = tonumber, -- oid
    [114] = json, -- json
    [700] = number, -- float4
    [701] = number, -- float8
    [1700] = exact_number, -- numeric
    [3802] = json, -- jsonb
    [199] = array_of(json), -- json[]
    [1000] = array_of(boolean), -- bool[]
    [1001] = array_of(M.decode_bytea), -- bytea[]
    [1002] = array_of(nil), -- "char"[]
    [1005] = array_of(tonumber), -- int2[]
    [1007] = array_of(tonumber), -- int4[]
    [1009] = array_of(nil), -- text[]
    [1014] = array_of(nil), -- bpchar[]
    [1015] = array_of(nil), -- varchar[]
    [1016] = array_of(exact_number), -- int8[]
    [1021] = array_of(number), -- float4[]
    [1022] = array_of(number), -- float8[]
    [1028] = array_of(tonumber), -- oid[]
    [1041] = array_of(nil), -- inet[]
    [1115] = array_of(nil), -- timestamp[]
    [1182] = array_of(nil), -- date[]
    [1185] = array_of(nil), -- timestamptz[]
    [1231] = array_of(exact_number), -- numeric[]
    [2951] = array_of(nil), -- uuid[]
    [3807] = array_of(json), -- jsonb[]
}

-- To text ------------------------------------------------------------------------------------------------------------------

function M.number_text(value)
    if value ~= value then
        return "NaN"
    elseif value == huge then
        return "Infinity"
    elseif value == -huge then
        return "-Infinity"
    elseif value == floor(value) and value > -1e15 and value < 1e15 then
        return format("%d", value)
    end
    return format("%.17g", value)
end

local Json = {}
local Bytea = {}

-- `json(value)`: a parameter that is sent as JSON.
function M.json(value)
    return setmetatable({ value = value }, Json)
end

-- `bytea(string)`: a parameter of bytes.
function M.bytea(value)
    return setmetatable({ value = value }, Bytea)
end

local encode

local function quoted(text)
    return "\"" .. gsub(text, "[\"\\]", "\\%0") .. "\""
end

local function encode_array(list, depth)
    if depth > 16 then
        return nil, "array nested too deeply"
    end
    local out = {}
    for i = 1, #list do
        local value = list[i]
        if value == nil or value == null then
            out[i] = "NULL"
        elseif type(value) == "table" and not getmetatable(value) then
            local text, err = encode_array(value, depth + 1)
            if not text then
                return nil, err
            end
            out[i] = text
        else
            local text, err = encode(value)
            if not text then
                return nil, err
            end
            out[i] = type(value) == "number" and text or quoted(text)
        end
    end
    return "{" .. concat(out, ",") .. "}"
end

-- A parameter's text. Tables are arrays; those with `__tostring` are what they say.
function encode(value)
    local kind = type(value)
    if kind == "string" then
        return value
    elseif kind == "number" then
        return M.number_text(value)
    elseif kind == "boolean" then
        return value and "t" or "f"
    elseif kind == "cdata" then
        return match(tostring(value), "^-?%d+") or nil, "cannot send a value of type cdata"
    elseif kind == "table" then
        local metatable = getmetatable(value)
        if metatable == Json then
            return cjson().encode(value.value)
        elseif metatable == Bytea then
            return M.encode_bytea(value.value)
        elseif metatable and metatable.__tostring then
            return tostring(value)
        end
        return encode_array(value, 1)
    end
    return nil, "cannot send a value of type " .. kind
end
M.encode = encode

-- Within a statement's text --------------------------------------------------------------------------------------------------

function M.escape_identifier(name)
    return "\"" .. gsub(tostring(name), "\"", "\"\"") .. "\""
end

-- A text in quotes. With a backslash in it, it takes the form whose meaning no setting changes.
function M.quote(text)
    text = gsub(text, "'", "''")
    if find(text, "\\", 1, true) then
        return " E'" .. gsub(text, "\\", "\\\\") .. "'"
    end
    return "'" .. text .. "'"
end

return M
