-- redis.parser: redis' requests and replies as text.
local new_tab = require "table.new"

local byte, find, format, match, sub = string.byte, string.find, string.format, string.match, string.sub
local concat = table.concat
local error, select, tonumber, tostring, type = error, select, tonumber, tostring, type
local floor = math.floor

local M = {
    _VERSION = "0.13",
    null = ngx.null,
    BAD_REPLY = 0,
    STATUS_REPLY = 1,
    ERROR_REPLY = 2,
    INTEGER_REPLY = 3,
    BULK_REPLY = 4,
    MULTI_BULK_REPLY = 5,
}

local BAD, STATUS, ERROR, INTEGER, BULK, MULTI_BULK = 0, 1, 2, 3, 4, 5

local names = {
    [0] = "bad reply",
    "status reply",
    "error reply",
    "integer reply",
    "bulk reply",
    "multi-bulk reply",
}

-- The rest of the line, and the place behind it.
local function line_at(s, at)
    local stop = find(s, "\r\n", at, true)
    if stop then
        return sub(s, at, stop - 1), stop + 2
    end
end

-- The bytes of a bulk, or nil, and the place behind it; no place where it is wrong.
local function bulk_at(s, at)
    local minus, digits, stop = match(s, "^(%-?)(%d*)\r\n()", at)
    if not stop then
        return nil
    end
    if minus == "-" then
        return nil, stop
    end
    local size = tonumber(digits) or 0
    if #s - stop + 1 < size + 2 or sub(s, stop + size, stop + size + 1) ~= "\r\n" then
        return nil
    end
    return sub(s, stop, stop + size - 1), stop + size + 2
end

-- The elements of a multi-bulk, or nil, and the place behind it; no place where it is wrong.
local function multi_bulk_at(s, at)
    local count, stop = match(s, "^(%d*)\r\n()", at)
    if not stop then
        -- A negative count stands for nothing.
        stop = match(s, "^%d*%-%d[^\r]*\r\n()", at)
        return nil, stop
    end
    count = tonumber(count) or 0
    if count > #s then
        return nil
    end
    local list = new_tab(count, 0)
    for n = 1, count do
        local kind = byte(s, stop)
        if kind == 36 then -- $
            list[n], stop = bulk_at(s, stop + 1)
        elseif kind == 43 or kind == 45 or kind == 58 then -- + - :
            list[n], stop = line_at(s, stop + 1)
        else
            return nil
        end
        if not stop then
            return nil
        end
    end
    return list, stop
end

-- What stands at a place: value, type, and the place behind it.
local function reply_at(s, at)
    local kind = byte(s, at)
    if not kind then
        return "empty reply", BAD, at
    end
    local value, stop
    if kind == 43 then -- +
        value, stop = line_at(s, at + 1)
        if stop then
            return value, STATUS, stop
        end
        return "bad status reply", BAD, at
    elseif kind == 45 then -- -
        value, stop = line_at(s, at + 1)
        if stop then
            return value, ERROR, stop
        end
        return "bad error reply", BAD, at
    elseif kind == 58 then -- :
        value, stop = line_at(s, at + 1)
        if stop then
            return tonumber(value) or 0, INTEGER, stop
        end
        return "bad integer reply", BAD, at
    elseif kind == 36 then -- $
        value, stop = bulk_at(s, at + 1)
        if stop then
            return value, BULK, stop
        end
        return "bad bulk reply", BAD, at
    elseif kind == 42 then -- *
        value, stop = multi_bulk_at(s, at + 1)
        if stop then
            return value, MULTI_BULK, stop
        end
        return "bad multi bulk reply", BAD, at
    end
    return "invalid reply", BAD, at
end

local function check_text(s, name)
    if type(s) == "string" then
        return s
    end
    if type(s) == "number" then
        return tostring(s)
    end
    error(format("bad argument #1 to '%s' (string expected, got %s)", name, s == nil and "nil" or type(s)), 3)
end

function M.parse_reply(...)
    local given = select("#", ...)
    if given ~= 1 then
        error("expected one argument but got " .. given, 2)
    end
    local value, kind = reply_at(check_text((...), "parse_reply"), 1)
    return value, kind
end

-- A list of `{ value, type }`.
function M.parse_replies(...)
    local given = select("#", ...)
    if given ~= 2 then
        error("expected two arguments but got " .. given, 2)
    end
    local s, count = ...
    s = check_text(s, "parse_replies")
    if type(count) ~= "number" then
        local got = type(count)
        error("bad argument #2 to 'parse_replies' (number expected, got " .. got .. ")", 2)
    end
    local list, at = {}, 1
    for n = 1, floor(count) do
        local value, kind
        value, kind, at = reply_at(s, at)
        list[n] = { value, kind }
    end
    return list
end

function M.build_query(...)
    local given = select("#", ...)
    if given ~= 1 then
        error("expected one argument but got " .. given, 2)
    end
    local words = ...
    if type(words) ~= "table" then
        error("bad argument #1 to 'build_query' (table expected, got " .. type(words) .. ")", 2)
    end
    local count = #words
    if count == 0 then
        error("empty input param table", 2)
    end
    local parts = new_tab(count + 1, 0)
    parts[1] = "*" .. count .. "\r\n"
    for n = 1, count do
        local value = words[n]
        local kind = type(value)
        if kind == "string" or kind == "number" then
            value = tostring(value)
            parts[n + 1] = "$" .. #value .. "\r\n" .. value .. "\r\n"
        elseif kind == "boolean" then
            parts[n + 1] = value and "$1\r\n1\r\n" or "$1\r\n0\r\n"
        elseif value == M.null then
            parts[n + 1] = "$-1\r\n"
        else
            local text = "parameter %d is not a string, number, redis.parser.null, or boolean value"
            error(format(text, n), 2)
        end
    end
    return concat(parts)
end

function M.typename(...)
    local given = select("#", ...)
    if given ~= 1 then
        error("expecting one argument but got " .. given, 2)
    end
    local kind = tonumber((...))
    if not kind then
        error("bad argument #1 to 'typename' (number expected, got " .. type((...)) .. ")", 2)
    end
    return names[floor(kind)]
end

return M
