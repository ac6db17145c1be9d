-- `pgmoon`: the interface of the library of this name, over `resty.postgres`. https://github.com/leafo/pgmoon
local postgres = require "resty.postgres"
local types = require "resty.postgres.types"
local class = require "pgmoon.class"
local port_text = require "moonrest.port"

local byte, char, find, match, sub = string.byte, string.char, string.find, string.match, string.sub
local gsub, format, floor = string.gsub, string.format, math.floor
local concat = table.concat
local assert, error, getmetatable, pairs, pcall = assert, error, getmetatable, pairs, pcall
local print, rawget, require, select, setmetatable = print, rawget, require, select, setmetatable
local tonumber, tostring, type = tonumber, tostring, type

local VERSION = "1.17.0"

local Postgres = class("Postgres")
local methods = Postgres.__base

methods.convert_null = false
methods.NULL = { "NULL" }

-- Types that become other things than strings, by their numbers.
methods.PG_TYPES = {
    [16] = "boolean", [17] = "bytea",
    [20] = "number", [21] = "number", [23] = "number", [700] = "number", [701] = "number", [1700] = "number",
    [114] = "json", [3802] = "json",
    [1000] = "array_boolean",
    [1005] = "array_number", [1007] = "array_number", [1016] = "array_number", [1021] = "array_number",
    [1022] = "array_number", [1231] = "array_number",
    [1009] = "array_string", [1015] = "array_string", [1002] = "array_string", [1014] = "array_string",
    [2951] = "array_string", [1041] = "array_inet",
    [199] = "array_json", [3807] = "array_json",
}

methods.default_config = {
    application_name = "pgmoon",
    user = "postgres",
    host = "127.0.0.1",
    port = "5432",
    ssl = false,
}

-- `type number, text` of a parameter by the Lua type of its value.
methods.type_serializers = {
    string = function(_, value)
        return 25, value
    end,
    boolean = function(_, value)
        return 16, value and "t" or "f"
    end,
    number = function(_, value)
        return 1700, tostring(value)
    end,
    table = function(self, value)
        local metatable = getmetatable(value)
        if metatable and metatable.pgmoon_serialize then
            return metatable.pgmoon_serialize(value, self)
        end
        return nil, "table does not implement pgmoon_serialize, can't serialize"
    end,
}

local function array_with(convert)
    return function(self, value)
        return require("pgmoon.arrays").decode_array(value, convert, self)
    end
end

local function is_true(text)
    return text == "t"
end

local function decode_json(text)
    return require("pgmoon.json").decode_json(text)
end

methods.type_deserializers = {
    json = function(_, value)
        return decode_json(value)
    end,
    bytea = function(self, value)
        return self:decode_bytea(value)
    end,
    array_inet = array_with(nil),
    array_boolean = array_with(is_true),
    array_number = array_with(tonumber),
    array_string = array_with(nil),
    array_json = array_with(decode_json),
    hstore = function(_, value)
        return require("pgmoon.hstore").decode_hstore(value)
    end,
}

local function copy(list)
    local out = {}
    for key, value in pairs(list) do
        out[key] = value
    end
    return out
end

function methods:set_type_oid(oid, name)
    print("pgmoon: WARNING: set_type_oid is deprecated for set_type_deserializer")
    self:set_type_deserializer(oid, name)
end

function methods:set_type_deserializer(oid, name, deserializer)
    if not rawget(self, "PG_TYPES") then
        self.PG_TYPES = copy(self.PG_TYPES)
    end
    self.PG_TYPES[assert(tonumber(oid))] = name
    if deserializer then
        if not rawget(self, "type_deserializers") then
            self.type_deserializers = copy(self.type_deserializers)
        end
        self.type_deserializers[name] = deserializer
    end
end

function methods:setup_hstore()
    local rows = self:query("SELECT oid FROM pg_type WHERE typname = 'hstore'")
    local row = rows and rows[1]
    assert(row, "hstore oid not found")
    self:set_type_deserializer(tonumber(row.oid), "hstore")
end

-- What was given, and for the rest the defaults of the object at hand.
local config_mt = {
    __index = function(config, key)
        local owner = config._owner
        local value = owner._config[key]
        if value == nil then
            return owner.default_config[key]
        end
        return value
    end,
}

-- Options: database, host, port, user, password, ssl, ssl_verify, ssl_required, socket_type, socket_path, application_name,
-- pool_name, pool_size, backlog, convert_null.
function Postgres.__init(self, config)
    self._config = config or {}
    self.config = setmetatable({ _owner = self }, config_mt)
    local kind = self._config.socket_type or self.default_config.socket_type
    if kind ~= nil and kind ~= "nginx" then
        error("unknown or unsupported socket type `" .. tostring(kind) .. "`")
    end
    self.convert_null = self.config.convert_null
    self.busy = false
    self.client = assert(postgres:new())
    self.sock, self.sock_type = self.client.sock, "nginx"
end

local function begin(self)
    if self.busy then
        error("pgmoon: connection is busy", 3)
    end
    self.busy = true
end

function methods:unbusy(...)
    self.busy = false
    return ...
end

function methods:connect()
    begin(self)
    local given, defaults = self._config, self.default_config
    -- `false` is a value like others.
    local function option(key)
        local value = given[key]
        if value == nil then
            return defaults[key]
        end
        return value
    end
    local database, host, port, user = option "database", option "host", option "port", option "user"
    if not database then
        self.busy = false
        error("missing database for connect", 2)
    end
    local path, password = option "socket_path", option "password"
    local ok, err = self.client:connect {
        host = host,
        port = port,
        path = path,
        user = user,
        password = password,
        database = database,
        application_name = option "application_name",
        ssl = option "ssl",
        ssl_verify = option "ssl_verify",
        ssl_required = option "ssl_required",
        pool = option "pool_name"
            or tostring(path or host) .. ":" .. port_text[port] .. ":" .. database .. ":" .. user,
        pool_size = option "pool_size",
        backlog = option "backlog",
    }
    self.busy = false
    if ok then
        return true
    elseif not password and find(err, "you did not provide a password", 1, true) then
        error(err, 2)
    end
    return nil, (gsub(err, "^failed to connect: ", ""))
end

function methods:settimeout(...)
    return self.sock:settimeout(...)
end

function methods:disconnect()
    begin(self)
    return self:unbusy(self.client:close())
end

function methods:keepalive(...)
    begin(self)
    return self:unbusy(self.client:set_keepalive(...))
end

-- Queries ------------------------------------------------------------------------------------------------------------------

-- Rows of this connection's types; a missing value is left out, or `NULL` where that is asked for.
local function prepare(columns, hooks)
    local self = hooks.owner
    local names, decoders = {}, {}
    local known, deserializers = self.PG_TYPES, self.type_deserializers
    for i = 1, #columns do
        local kind = known[columns[i].oid] or "string"
        names[i] = columns[i].name
        if kind == "number" then
            decoders[i] = tonumber
        elseif kind == "boolean" then
            decoders[i] = is_true
        elseif kind ~= "string" and deserializers[kind] then
            local decode = deserializers[kind]
            decoders[i] = function(value)
                return (decode(self, value, kind))
            end
        end
    end
    hooks.names, hooks.converters = names, decoders
end

local function int32(data, at)
    local a, b, c, d = byte(data, at, at + 3)
    return bit.bor(bit.lshift(a, 24), bit.lshift(b, 16), bit.lshift(c, 8), d)
end

local function read_row(hooks, data, at, stop, columns)
    local out, names, decoders = {}, hooks.names, hooks.converters
    at = at + 2
    for i = 1, #columns do
        if at + 3 > stop then
            return nil
        end
        local size = int32(data, at)
        at = at + 4
        if size < 0 then
            out[names[i]] = hooks.null
        elseif at + size - 1 > stop then
            return nil
        else
            local value, decode = sub(data, at, at + size - 1), decoders[i]
            at = at + size
            if decode then
                value = decode(value)
            end
            out[names[i]] = value
        end
    end
    return out
end

local function hooks_for(self)
    return {
        owner = self,
        row = read_row,
        columns = prepare,
        kinds = self.PG_TYPES,
        null = self.convert_null and self.NULL or nil,
    }
end

local function format_result(result)
    local rows, tag = result.rows, result.tag
    if rows and sub(tag, 1, 7) == "SELECT " then
        return rows
    end
    local affected = tonumber((match(tag, "(%d+)$")))
    if rows then
        if rows[1] and affected and match(tag, "^%w+") ~= "SELECT" then
            rows.affected_rows = affected
        end
        return rows
    elseif affected then
        return { affected_rows = affected }
    end
    return true
end

local function run(self, request)
    begin(self)
    -- A deserializer may raise an error in the middle of the rows: the connection is of no use then.
    local ok, results, err = pcall(self.client._run, self.client, request, hooks_for(self))
    self.busy = false
    if not ok then
        self.sock:close()
        self.client.state = "closed"
        error(results, 0)
    elseif not results then
        return nil, err
    end
    local count, result = #results, nil
    if count == 1 then
        result = format_result(results[1])
    elseif count > 1 then
        result = {}
        for i = 1, count do
            result[i] = format_result(results[i])
        end
    end
    local client = self.client
    local notices = client.notices[1] and client.notices or nil
    local notifications = client._notifications[1] and client:notifications() or nil
    if results.error then
        return nil, results.error, result, count, notifications, notices
    end
    return result, count, notifications, notices
end

function methods:query(sql, ...)
    if select("#", ...) > 0 then
        return self:extended_query(sql, ...)
    end
    return self:simple_query(sql)
end

function methods:simple_query(sql)
    if find(sql, "\0", 1, true) then
        return nil, "invalid null byte in query"
    end
    return run(self, postgres.message("Q", sql .. "\0"))
end

function methods:extended_query(sql, ...)
    if find(sql, "\0", 1, true) then
        return nil, "invalid null byte in query"
    end
    local count = select("#", ...)
    local oids, values = {}, {}
    for i = 1, count do
        local value = select(i, ...)
        if value == nil or value == self.NULL then
            oids[i], values[i] = self:encode_int(0), "\255\255\255\255"
        else
            local kind = type(value)
            local oid, text, third = 0, tostring(value), nil
            local serialize = self.type_serializers[kind]
            if serialize then
                oid, text, third = serialize(self, value)
                if oid == nil then
                    return nil, "pgmoon: param " .. i .. ": " .. (text or "failed to serialize type: " .. kind)
                elseif third ~= nil then
                    return nil, "pgmoon: param " .. i .. ": please do not return a third value from serializer function, "
                        .. "we may use this value in the future for binary formats"
                end
            end
            oids[i], values[i] = self:encode_int(oid), self:encode_int(#text) .. text
        end
    end
    local size, message = self:encode_int(count, 2), postgres.message
    return run(
        self,
        message("P", "\0" .. sql .. "\0" .. size .. concat(oids))
            .. message("B", "\0\0\0\0" .. size .. concat(values) .. "\0\0")
            .. message("D", "P\0")
            .. message("E", "\0\0\0\0\0")
            .. message("C", "P\0")
            .. message("S", "")
    )
end

function methods:wait_for_notification()
    begin(self)
    return self:unbusy(self.client:wait_for_notification())
end

-- Texts --------------------------------------------------------------------------------------------------------------------

-- A number in the network's order, in 2 or 4 bytes.
function methods:encode_int(n, bytes)
    if bytes == 2 then
        return char(floor(n / 256) % 256, n % 256)
    end
    return char(floor(n / 0x1000000) % 256, floor(n / 0x10000) % 256, floor(n / 0x100) % 256, n % 256)
end

function methods:decode_int(text, bytes)
    bytes = bytes or #text
    if bytes == 2 then
        local a, b = byte(text, 1, 2)
        return a * 256 + b
    elseif bytes == 4 then
        local a, b, c, d = byte(text, 1, 4)
        return bit.bor(bit.lshift(a, 24), bit.lshift(b, 16), bit.lshift(c, 8), d)
    end
    error("don't know how to decode " .. bytes .. " byte(s)")
end

function methods:decode_bytea(text)
    return types.decode_bytea(text)
end

function methods:encode_bytea(bytes)
    return format("E'\\%s'", types.encode_bytea(bytes))
end

function methods:escape_identifier(name)
    return types.escape_identifier(name)
end

-- Also without a connection: `Postgres.escape_literal(nil, value)`.
function methods:escape_literal(value)
    local kind = type(value)
    if value == (self and self.NULL or methods.NULL) then
        return "NULL"
    elseif kind == "number" then
        return tostring(value)
    elseif kind == "string" then
        return "'" .. gsub(value, "'", "''") .. "'"
    elseif kind == "boolean" then
        return value and "TRUE" or "FALSE"
    end
    error("don't know how to escape value: " .. tostring(value))
end

function methods:parse_error(text)
    return postgres.parse_error(text)
end

function methods:__tostring()
    return "<Postgres socket: " .. tostring(self.sock) .. ">"
end

return { Postgres = Postgres, new = Postgres, VERSION = VERSION }
