-- rds.parser: result sets as the database modules of nginx write them ("resty DBD stream").
local new_tab = require "table.new"

local byte, format, sub = string.byte, string.format, string.sub
local ceil, floor = math.ceil, math.floor
local error, tonumber, type = error, tonumber, type

local M = { _VERSION = "0.06", null = ngx.null }

local VERSION = 3
-- Endianness, version, type, two error codes, the length of the error's text, the affected rows, the inserted row's
-- number, the count of columns.
local HEADER_SIZE = 1 + 4 + 1 + 2 + 2 + 2 + 8 + 8 + 2
local COLUMN_SIZE = 2 + 2 + 2
local SQL_NULL = 0xffffffff

local function short(s, at)
    local a, b = byte(s, at, at + 1)
    return a + b * 0x100
end

local function word(s, at)
    local a, b, c, d = byte(s, at, at + 3)
    return a + b * 0x100 + c * 0x10000 + d * 0x1000000
end

local function long(s, at)
    return word(s, at) + word(s, at + 4) * 0x100000000
end

local function header(s)
    if #s < HEADER_SIZE then
        return nil, "header part is incomplete"
    end
    local version = word(s, 2)
    if version ~= VERSION then
        local text = "found RDS format version %d, but we can only handle version %d"
        return nil, format(text, version, VERSION)
    end
    local kind = byte(s, 6)
    if kind ~= 0 then
        return nil, format("RDS result type must be 0 for now but got %d", kind)
    end
    local len = short(s, 11)
    if #s < HEADER_SIZE + len then
        return nil, "header part is incomplete"
    end
    local res = { errcode = short(s, 7) }
    if len > 0 then
        res.errstr = sub(s, 13, 12 + len)
    end
    local at = 13 + len
    local affected, inserted = long(s, at), long(s, at + 8)
    if inserted ~= 0 then
        res.insert_id = inserted
    end
    if affected ~= 0 then
        res.affected_rows = affected
    end
    return res, at + 18, short(s, at + 16)
end

local function integer(text)
    local number = tonumber(text) or 0
    return number < 0 and ceil(number) or floor(number)
end

local function boolean(text)
    local first = byte(text)
    if first == 48 or first == 70 or first == 102 then -- 0 F f
        return false
    end
    if first == 49 or first == 84 or first == 116 then -- 1 T t
        return true
    end
end

-- By the upper two bits of a column's type.
local converters = {
    [0] = integer,
    [1] = function(text)
        return tonumber(text) or 0
    end,
    [3] = boolean,
}

local function columns(s, at, count)
    local names, kinds = new_tab(count, 0), new_tab(count, 0)
    for n = 1, count do
        if #s - at + 1 < COLUMN_SIZE then
            return nil, "column spec is incomplete"
        end
        local len = short(s, at + 4)
        if len == 0 then
            return nil, "column name empty"
        end
        kinds[n] = floor(short(s, at) / 0x4000)
        at = at + COLUMN_SIZE
        if #s - at + 1 < len then
            return nil, "column name string is incomplete"
        end
        names[n] = sub(s, at, at + len - 1)
        at = at + len
    end
    return names, at, kinds
end

-- The row at a place, and the next place.
local function row_at(s, at, names, kinds, number)
    local row = new_tab(0, #names)
    for n = 1, #names do
        if #s - at + 1 < 4 then
            return nil, format("field size is incomplete at offset %d, row %d, col %d", at - 1, number, n)
        end
        local len = word(s, at)
        at = at + 4
        if len == SQL_NULL then
            row[names[n]] = M.null
        else
            if #s - at + 1 < len then
                return nil, format("field value is incomplete at offset %d, row %d, col %d", at - 1, number, n)
            end
            local value = sub(s, at, at + len - 1)
            local convert = converters[kinds[n]]
            if convert then
                value = convert(value)
                if value == nil then
                    local text = "unrecognized boolean value at offset %d, row %d, col %d"
                    return nil, format(text, at - 1, number, n)
                end
            end
            row[names[n]] = value
            at = at + len
        end
    end
    return row, at
end

function M.parse(s)
    if type(s) ~= "string" then
        error("bad argument #1 to 'parse' (string expected, got " .. type(s) .. ")", 2)
    end
    local res, at, count = header(s)
    if not res then
        return nil, at
    end
    if count == 0 then
        return res
    end
    local names, kinds
    names, at, kinds = columns(s, at, count)
    if not names then
        return nil, at
    end
    local rows = {}
    while true do
        local number = #rows + 1
        if at > #s then
            return nil, "row flag is incomplete"
        end
        if byte(s, at) == 0 then
            if at ~= #s then
                return nil, format("seen unexpected leve-over data bytes at offset %d, row %d", at, number)
            end
            res.resultset = rows
            return res
        end
        local row
        row, at = row_at(s, at + 1, names, kinds, number)
        if not row then
            return nil, at
        end
        rows[number] = row
    end
end

return M
