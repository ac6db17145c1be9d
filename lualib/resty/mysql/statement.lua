-- Statements with parameters for `resty.mysql`: prepared once, executed with values that are never part of the text.
-- https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_command_phase_ps.html
--
--   local stmt = db:prepare("SELECT name FROM users WHERE id = ?")
--   local rows, err, errcode, sqlstate = stmt:execute(42)
--   stmt:close()
--
-- Values come as in the results of `query`: numbers, but 64-bit integers, dates and times as text.
local new_tab = require "table.new"
local bit = require "bit"
local ffi = require "ffi"
local wire = require "resty.mysql.wire"

local band, bor, lshift, rshift = bit.band, bit.bor, bit.lshift, bit.rshift
local byte, char, format, match, sub = string.byte, string.char, string.format, string.match, string.sub
local concat, floor = table.concat, math.floor
local error, next, pairs, select, setmetatable = error, next, pairs, select, setmetatable
local tonumber, tostring, type = tonumber, tostring, type
local null = ngx.null
local u16, u32, p32 = wire.u16, wire.u32, wire.p32
local lenenc_string, to_lenenc_string = wire.lenenc_string, wire.to_lenenc_string

local M = {}
local Statement = {}
local mt = { __index = Statement }

-- The client's functions, which it gives us when it is loaded.
local client

function M.attach(methods)
    client = methods
end

local COM_PREPARE, COM_EXECUTE, COM_CLOSE = "\22", "\23", "\25"

local int64, uint64 = ffi.typeof("int64_t"), ffi.typeof("uint64_t")
local double_box, float_box = ffi.typeof("double[1]"), ffi.typeof("float[1]")
local int64_box, uint64_box = ffi.typeof("int64_t[1]"), ffi.typeof("uint64_t[1]")

-- The bytes of a number in memory: all machines that we run on have MySQL's order.
local function bytes_of(box, value, size)
    return ffi.string(box(value), size)
end

local function number_from(box, data, at, size)
    local place = box()
    ffi.copy(place, sub(data, at, at + size - 1), size)
    return place[0]
end

-- Parameters -------------------------------------------------------------------------------------------------------------

-- Type, flags and bytes of a value.
local function encode(value)
    local kind = type(value)
    if kind == "string" then
        return 0xfd, 0, to_lenenc_string(value)
    elseif kind == "number" then
        if value == floor(value) and value >= -9007199254740992 and value <= 9007199254740992 then
            return 0x08, 0, bytes_of(int64_box, value, 8)
        end
        return 0x05, 0, bytes_of(double_box, value, 8)
    elseif kind == "boolean" then
        return 0x01, 0, value and "\1" or "\0"
    elseif kind == "cdata" and ffi.istype(int64, value) then
        return 0x08, 0, bytes_of(int64_box, value, 8)
    elseif kind == "cdata" and ffi.istype(uint64, value) then
        return 0x08, 0x80, bytes_of(uint64_box, value, 8)
    end
    return nil
end

-- The part of the request that has the values; `nil` and the number of one that cannot be sent.
local function encode_all(count, ...)
    local nulls, types, values = {}, {}, {}
    for i = 1, floor((count + 7) / 8) do
        nulls[i] = 0
    end
    for i = 1, count do
        local value = select(i, ...)
        if value == nil or value == null then
            local at = rshift(i - 1, 3) + 1
            nulls[at] = bor(nulls[at], lshift(1, band(i - 1, 7)))
            types[i], values[i] = "\6\0", ""
        else
            local kind, flags, data = encode(value)
            if not kind then
                return nil, i
            end
            types[i], values[i] = char(kind, flags), data
        end
    end
    for i = 1, #nulls do
        nulls[i] = char(nulls[i])
    end
    return concat(nulls) .. "\1" .. concat(types) .. concat(values)
end

-- Rows -------------------------------------------------------------------------------------------------------------------

local function integer(data, at, size, unsigned)
    local number = 0
    for i = size - 1, 0, -1 do
        number = number * 256 + byte(data, at + i)
    end
    if not unsigned and number >= 2 ^ (size * 8 - 1) then
        number = number - 2 ^ (size * 8)
    end
    return number
end

local function fraction(microseconds, decimals)
    if decimals == 0 or decimals > 6 then
        return ""
    end
    return "." .. sub(format("%06d", microseconds), 1, decimals)
end

-- A date, with or without a time, in the form that the server's texts have.
local function date(data, at, size, column)
    local year, month, day = 0, 0, 0
    if size >= 4 then
        year, month, day = u16(data, at), byte(data, at + 2), byte(data, at + 3)
    end
    local text = format("%04d-%02d-%02d", year, month, day)
    if column.type == 0x0a then
        return text
    end
    local hour, minute, second, micro = 0, 0, 0, 0
    if size >= 7 then
        hour, minute, second = byte(data, at + 4, at + 6)
    end
    if size >= 11 then
        micro = u32(data, at + 7)
    end
    return text .. format(" %02d:%02d:%02d", hour, minute, second) .. fraction(micro, column.decimals)
end

local function time(data, at, size, column)
    if size < 8 then
        return "00:00:00" .. fraction(0, column.decimals)
    end
    local days = u32(data, at + 1)
    local hour, minute, second = byte(data, at + 5, at + 7)
    local micro = size >= 12 and u32(data, at + 8) or 0
    local sign = byte(data, at) == 1 and "-" or ""
    return sign .. format("%02d:%02d:%02d", days * 24 + hour, minute, second) .. fraction(micro, column.decimals)
end

-- Sizes of types whose size is fixed.
local SIZES = {
    [0x01] = 1, [0x02] = 2, [0x0d] = 2, [0x03] = 4, [0x09] = 4, [0x04] = 4, [0x05] = 8, [0x08] = 8,
}

-- `value, where the next one begins`; `nil` if it is not all there.
local function decode(data, at, column)
    local kind = column.type
    local size = SIZES[kind]
    if size then
        if #data < at + size - 1 then
            return nil
        elseif kind == 0x05 then
            return number_from(double_box, data, at, 8), at + 8
        elseif kind == 0x04 then
            return tonumber(format("%.6g", number_from(float_box, data, at, 4))), at + 4
        elseif kind == 0x08 then
            local value = number_from(column.unsigned and uint64_box or int64_box, data, at, 8)
            return match(tostring(value), "^-?%d+"), at + 8
        end
        return integer(data, at, size, column.unsigned), at + size
    elseif kind == 0x07 or kind == 0x0a or kind == 0x0c or kind == 0x0b then
        local length = byte(data, at)
        if not length or #data < at + length then
            return nil
        end
        local convert = kind == 0x0b and time or date
        return convert(data, at + 1, length, column), at + 1 + length
    end
    local text
    text, at = lenenc_string(data, at)
    if (kind == 0x00 or kind == 0xf6) and text ~= nil and text ~= null then
        text = tonumber(text)
    end
    return text, at
end

local function parse_row(packet, columns, compact)
    local count = #columns
    local at = floor((count + 9) / 8) + 2
    if #packet < at - 1 then
        return nil
    end
    local row = compact and new_tab(count, 0) or new_tab(0, count)
    for i = 1, count do
        local column = columns[i]
        local value = null
        -- Two bits are reserved in front of the first column's.
        if band(byte(packet, rshift(i + 1, 3) + 2), lshift(1, band(i + 1, 7))) == 0 then
            value, at = decode(packet, at, column)
            if value == nil then
                return nil
            end
        end
        row[compact and i or column.name] = value
    end
    return row
end

-- Statements -------------------------------------------------------------------------------------------------------------

-- `statement`, or `nil, err, errcode, sqlstate`.
function M.prepare(db, sql)
    local sent, err = client._send_command(db, COM_PREPARE .. sql)
    if not sent then
        return nil, "failed to send query: " .. err
    end
    local packet
    packet, err = client._recv_packet(db)
    if not packet then
        return nil, err
    elseif byte(packet) == 0xff then
        db.state = 1
        return nil, client._parse_error(packet)
    elseif byte(packet) ~= 0 or #packet < 12 then
        return client._broken(db, "malformed packet")
    end
    local id, columns, params = u32(packet, 2), u16(packet, 6), u16(packet, 8)
    for _, count in pairs { params, columns } do
        if count > 0 then
            local read, failure, errcode, sqlstate = client._read_columns(db, count)
            if not read then
                return nil, failure, errcode, sqlstate
            end
        end
    end
    db.state = 1
    local open = db._statements
    if not open then
        open = {}
        db._statements = open
    end
    local stmt = setmetatable({ db = db, id = id, param_count = params, column_count = columns, _open = open }, mt)
    open[id] = stmt
    return stmt
end

-- As `query`: `result or rows, err ("again" when more follow, which `db:read_result` reads), errcode, sqlstate`.
function Statement.execute(self, ...)
    local db = self.db
    if self._open ~= db._statements or not self._open[self.id] then
        return nil, "statement is closed"
    end
    local given = select("#", ...)
    if given ~= self.param_count then
        return nil, "expecting " .. self.param_count .. " parameters, but got " .. given
    end
    local values = ""
    if given > 0 then
        local bad
        values, bad = encode_all(given, ...)
        if not values then
            error("bad parameter #" .. bad .. ": string, number, boolean, nil or ngx.null expected, got "
                .. type((select(bad, ...))), 2)
        end
    end
    local sent, err = client._send_command(db, COM_EXECUTE .. p32(self.id) .. "\0\1\0\0\0" .. values)
    if not sent then
        return nil, "failed to send query: " .. err
    end
    db._parse_row = parse_row
    return client.read_result(db)
end

-- Nobody answers this command.
local function close_command(id)
    return "\5\0\0\0" .. COM_CLOSE .. p32(id)
end

function Statement.close(self)
    local db = self.db
    if self._open ~= db._statements or not self._open[self.id] then
        return nil, "statement is closed"
    elseif db.state ~= 1 then
        return nil, "cannot close statement in the current context: " .. (db.state or "nil")
    end
    self._open[self.id] = nil
    local sent, err = db.sock:send(close_command(self.id))
    if not sent then
        return nil, err
    end
    return 1
end

-- Closes what a user of the connection has left open.
function M.close_all(db)
    local open, requests = db._statements, {}
    db._statements = nil
    for id in pairs(open) do
        requests[#requests + 1] = close_command(id)
    end
    if not next(requests) then
        return 1
    end
    return db.sock:send(requests)
end

return M
