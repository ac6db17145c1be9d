-- `pgmoon.pool`: several connections under one object, a query on each that is free. https://github.com/leafo/pgmoon
local pgmoon = require "pgmoon"
local class = require "pgmoon.class"

local Postgres = pgmoon.Postgres
local error, ipairs, pairs = error, ipairs, pairs

local PostgresPool = class("PostgresPool")
local methods = PostgresPool.__base

methods.NULL = Postgres.NULL
methods.PG_TYPES = Postgres.PG_TYPES
methods.type_deserializers = Postgres.type_deserializers

-- The options are pgmoon's, and `max_pool_size`.
function PostgresPool.__init(self, config)
    self.config = config or {}
    self.pool = {}
    self.convert_null = self.config.convert_null or false
end

function methods:_create_instance()
    local config = {}
    for key, value in pairs(self.config) do
        if key ~= "max_pool_size" then
            config[key] = value
        end
    end
    local pg = Postgres(config)
    pg.PG_TYPES, pg.type_deserializers = self.PG_TYPES, self.type_deserializers
    pg.parent_pool = self
    if self._timeout then
        pg:settimeout(self._timeout)
    end
    return pg
end

local function add(self)
    local pg = self:_create_instance()
    -- Counted from now on: the connection waits while others are asked for.
    local pool = self.pool
    local at = #pool + 1
    pool[at] = pg
    local ok, err = pg:connect()
    if ok then
        return pg
    end
    for i, known in ipairs(pool) do
        if known == pg then
            table.remove(pool, i)
            break
        end
    end
    return nil, err
end

function methods:_get_connection()
    local pool = self.pool
    if #pool == 0 then
        return nil, "not connected"
    end
    for _, pg in ipairs(pool) do
        if not pg.busy then
            return pg
        end
    end
    local limit = self.config.max_pool_size
    if limit and #pool >= limit then
        return nil, "pool exhausted, max_pool_size reached"
    end
    return add(self)
end

function methods:connect()
    if #self.pool > 0 then
        return nil, "already connected"
    end
    local pg, err = add(self)
    if not pg then
        return nil, err
    end
    return true
end

function methods:disconnect()
    for _, pg in ipairs(self.pool) do
        pg:disconnect()
    end
    self.pool = {}
    return true
end

function methods:keepalive(...)
    for _, pg in ipairs(self.pool) do
        pg:keepalive(...)
    end
    self.pool = {}
    return true
end

function methods:settimeout(timeout)
    self._timeout = timeout
    for _, pg in ipairs(self.pool) do
        pg:settimeout(timeout)
    end
end

function methods:set_type_deserializer(...)
    Postgres.set_type_deserializer(self, ...)
    for _, pg in ipairs(self.pool) do
        pg.PG_TYPES, pg.type_deserializers = self.PG_TYPES, self.type_deserializers
    end
end

for _, name in ipairs { "query", "simple_query", "extended_query" } do
    methods[name] = function(self, ...)
        local pg, err = self:_get_connection()
        if not pg then
            return nil, err
        end
        return pg[name](pg, ...)
    end
end

function methods:wait_for_notification()
    error("can't use wait for notification with pool")
end

methods.escape_identifier = Postgres.escape_identifier
methods.escape_literal = Postgres.escape_literal
methods.encode_bytea = Postgres.encode_bytea
methods.decode_bytea = Postgres.decode_bytea
methods.setup_hstore = Postgres.setup_hstore

function methods:pool_size()
    return #self.pool
end

function methods:active_connections()
    local count = 0
    for _, pg in ipairs(self.pool) do
        if pg.busy then
            count = count + 1
        end
    end
    return count
end

function methods:__tostring()
    return "<PostgresPool size: " .. self:pool_size() .. ">"
end

return { PostgresPool = PostgresPool, new = PostgresPool }
