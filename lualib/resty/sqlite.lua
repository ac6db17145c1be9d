-- `resty.sqlite`: the database that comes with the server, used as `resty.mysql` is. No query ever keeps a worker
-- waiting: SQLite works in threads of its own.
local native = require "moonrest.sqlite.native"

local ngx = ngx
local find, format, gsub, lower, match, sub =
    string.find, string.format, string.gsub, string.lower, string.match, string.sub
local concat, remove = table.concat, table.remove
local error, pairs, pcall, rawget, select = error, pairs, pcall, rawget, select
local setmetatable, tonumber, tostring, type, unpack = setmetatable, tonumber, tostring, type, unpack

local M = { _VERSION = "0.1", null = ngx.null }
local mt = { __index = M }

local DEFAULT_TIMEOUT = 60000
local DEFAULT_BUSY_TIMEOUT = 5000
local DEFAULT_IDLE_TIMEOUT = 60000
local DEFAULT_POOL_SIZE = 30

-- Idle connections of this worker by the pool's name, the one used last at the end: { conn, deadline, reused }.
local pools = {}

function M.new(_)
    return setmetatable({ timeout = DEFAULT_TIMEOUT, busy_timeout = DEFAULT_BUSY_TIMEOUT }, mt)
end

-- A text as a literal of SQL.
function M.quote(text)
    if text == nil or text == ngx.null then
        return "NULL"
    end
    return "'" .. gsub(tostring(text), "'", "''") .. "'"
end

-- Bytes that are to be bound as a blob; other strings are texts.
function M.blob(bytes)
    return { blob = tostring(bytes) }
end

local function number_option(value, default)
    value = tonumber(value)
    if not value or value < 0 then
        return default
    end
    return value
end

local function on(value, default)
    if value == nil then
        return default
    end
    return value and true or false
end

-- The file to open; a relative one is taken from the server's prefix.
local function path_of(opts)
    local memory = opts.memory
    if memory then
        if memory == true then
            return ":memory:"
        end
        return "file:" .. gsub(tostring(memory), "[^%w_.-]", function(c) return format("%%%02X", c:byte()) end)
            .. "?mode=memory&cache=shared"
    end
    local path = opts.path or opts.database
    if type(path) ~= "string" or path == "" then
        return nil, "no database specified"
    end
    if find(path, "\0", 1, true) then
        return nil, "bad path of database"
    end
    if sub(path, 1, 1) == "/" or sub(path, 1, 5) == "file:" or path == ":memory:" then
        return path
    end
    return ngx.config.prefix() .. path
end

local SYNCHRONOUS = { off = true, normal = true, full = true, extra = true }

-- What is run when a database is opened; or nil and an error.
local function setup_of(opts, path)
    local in_memory = path == ":memory:" or opts.memory
    local lines = { on(opts.foreign_keys, true) and "PRAGMA foreign_keys=ON" or "PRAGMA foreign_keys=OFF" }
    if not in_memory and not opts.read_only and on(opts.wal, true) then
        lines[#lines + 1] = "PRAGMA journal_mode=WAL"
    end
    local synchronous = lower(tostring(opts.synchronous or "normal"))
    if not SYNCHRONOUS[synchronous] then
        return nil, "bad \"synchronous\" option: " .. synchronous
    end
    lines[#lines + 1] = "PRAGMA synchronous=" .. synchronous
    for name, value in pairs(opts.pragmas or {}) do
        name, value = tostring(name), tostring(value)
        if not match(name, "^[%a_]+$") or not match(value, "^-?[%w_.]+$") then
            return nil, "bad \"pragmas\" option: " .. name
        end
        lines[#lines + 1] = "PRAGMA " .. name .. "=" .. value
    end
    return concat(lines, ";")
end

-- The idle connection of a pool that was used last.
local function take_idle(name)
    local pool = pools[name]
    while pool and #pool > 0 do
        local entry = remove(pool)
        if native.is_usable(entry.conn) and (not entry.deadline or entry.deadline > ngx.now()) then
            return entry.conn, entry.reused + 1
        end
        native.close(entry.conn)
    end
end

-- 1; or nil, an error, its code and state. Options that other databases have besides are passed over.
function M.connect(self, opts)
    opts = opts or {}
    local path, setup, err
    path, err = path_of(opts)
    if not path then
        return nil, err
    end
    setup, err = setup_of(opts, path)
    if not setup then
        return nil, err
    end
    if self.conn then
        self:close()
    end
    self.compact = opts.compact_arrays and true or false
    self.busy_timeout = number_option(opts.busy_timeout, DEFAULT_BUSY_TIMEOUT)
    self.timeout = number_option(opts.timeout, self.timeout)
    self.pool = opts.pool or path .. "|" .. tostring(opts.read_only) .. "|" .. setup
    self.pool_size = number_option(opts.pool_size, nil)
    self.results, self.failure, self.pending = nil, nil, nil
    local conn, reused = take_idle(self.pool)
    if not conn then
        local code, state
        conn, err, code, state = native.open(path, opts.read_only and true or false, on(opts.create, true), setup)
        if not conn then
            return nil, err, code, state
        end
        reused = 0
    end
    self.conn, self.reused = conn, reused
    return 1
end

-- Why there is no connection.
local function absent(self)
    return nil, self.reused and "closed" or "not initialized"
end

local function is_plain_table(value)
    return type(value) == "table" and rawget(value, "blob") == nil
end

-- Runs SQL; `named` are the values of `:name` and the like.
local function execute(self, sql, named, ...)
    local conn = self.conn
    if not conn then
        return absent(self)
    end
    if type(sql) == "table" then
        sql = concat(sql)
    end
    self.results, self.failure, self.pending = nil, nil, nil
    local result, others, err, code, state =
        native.run(conn, sql, self.timeout, self.busy_timeout, self.compact, named, ...)
    if not result then
        return nil, err, code, state
    end
    if others or err then
        self.results, self.failure = others or {}, err and { err, code, state }
        return result, "again"
    end
    return result
end

-- Runs one statement or several. Answers the rows, or what was changed, of the first, and `again` where `read_result`
-- has more; or nil, an error, its code and state. Parameters follow; or one table of them, by place and by name.
function M.query(self, sql, ...)
    local first = ...
    if is_plain_table(first) then
        local n = first.n or #first
        return execute(self, sql, first, unpack(first, 1, n))
    end
    return execute(self, sql, nil, ...)
end

-- What the next statement has done.
function M.read_result(self)
    if self.pending then
        local pending = self.pending
        self.pending = nil
        return self:query(unpack(pending, 1, pending.n))
    end
    local results = self.results
    if not results then
        return nil, "no result"
    end
    local result = remove(results, 1)
    local failure = self.failure
    if result then
        if #results > 0 or failure then
            return result, "again"
        end
        self.results = nil
        return result
    end
    self.results, self.failure = nil, nil
    if failure then
        return nil, failure[1], failure[2], failure[3]
    end
    return nil, "no result"
end

-- Keeps a query for `read_result`.
function M.send_query(self, sql, ...)
    if not self.conn then
        return absent(self)
    end
    self.pending = { n = select("#", ...) + 1, sql, ... }
    return #sql
end

local statement = {}
statement.__index = statement

function statement.query(self, ...)
    if not self.sql then
        return nil, "closed"
    end
    return self.db:query(self.sql, ...)
end

statement.execute = statement.query

function statement.close(self)
    self.sql = nil
    return 1
end

-- A statement to be run many times. Each connection keeps those compiled that it has run lately.
function M.prepare(self, sql)
    if not self.conn then
        return absent(self)
    end
    return setmetatable({ db = self, sql = sql }, statement)
end

-- Begins a transaction that can write without waiting halfway; `deferred` begins one that may only read.
function M.begin(self, kind)
    kind = kind and lower(kind) or "immediate"
    if kind ~= "immediate" and kind ~= "deferred" and kind ~= "exclusive" then
        return nil, "bad kind of transaction: " .. kind
    end
    return execute(self, "BEGIN " .. kind)
end

function M.commit(self)
    return execute(self, "COMMIT")
end

function M.rollback(self)
    return execute(self, "ROLLBACK")
end

function M.in_transaction(self)
    local conn = self.conn
    return conn ~= nil and native.in_transaction(conn)
end

-- Calls `work(self)` in a transaction, which is committed unless it answers nil or false, or raises an error.
function M.transaction(self, work)
    local ok, err, code, state = self:begin()
    if not ok then
        return nil, err, code, state
    end
    local function settle(called, result, problem, ...)
        if called and result then
            local done
            done, err, code, state = self:commit()
            if done then
                return result, problem, ...
            end
        end
        if self:in_transaction() then
            self:rollback()
        end
        if not called then
            error(result, 0)
        end
        if not result then
            return result, problem, ...
        end
        return nil, err, code, state
    end
    return settle(pcall(work, self))
end

function M.set_timeout(self, timeout)
    self.timeout = number_option(timeout, DEFAULT_TIMEOUT)
    return 1
end

function M.set_compact_arrays(self, value)
    self.compact = value and true or false
end

function M.get_reused_times(self)
    if not self.conn then
        return absent(self)
    end
    return self.reused
end

function M.server_ver(self)
    if not self.version then
        local compact = self.compact
        self.compact = true
        local rows = execute(self, "select sqlite_version()")
        self.compact = compact
        self.version = rows and rows[1][1]
    end
    return self.version
end

function M.close(self)
    local conn = self.conn
    if not conn then
        return absent(self)
    end
    self.conn = nil
    native.close(conn)
    return 1
end

-- Puts the connection into its pool. A transaction that is still open is rolled back.
function M.set_keepalive(self, max_idle_timeout, pool_size)
    local conn = self.conn
    if not conn then
        return absent(self)
    end
    if not native.is_usable(conn) then
        self:close()
        return nil, "connection busy"
    end
    if native.in_transaction(conn) then
        local ok, err = self:rollback()
        if not ok then
            self:close()
            return nil, "failed to roll back: " .. err
        end
    end
    self.conn, self.results, self.failure, self.pending = nil, nil, nil, nil
    local size = number_option(pool_size, self.pool_size or DEFAULT_POOL_SIZE)
    local idle = number_option(max_idle_timeout, DEFAULT_IDLE_TIMEOUT)
    local pool = pools[self.pool]
    if not pool then
        pool = {}
        pools[self.pool] = pool
    end
    pool[#pool + 1] = { conn = conn, deadline = idle > 0 and ngx.now() + idle / 1000 or nil, reused = self.reused }
    -- The one that was not used for longest gives way; so do those whose time is over.
    while #pool > size or (pool[1] and pool[1].deadline and pool[1].deadline <= ngx.now()) do
        native.close(remove(pool, 1).conn)
    end
    return 1
end

return M
