-- `resty.postgres`: a client for PostgreSQL. https://www.postgresql.org/docs/current/protocol.html
--
--   local db = require "resty.postgres":new()
--   assert(db:connect { host = "127.0.0.1", user = "me", password = "secret", database = "shop" })
--   local rows, err, details = db:query("SELECT id, name FROM items WHERE price < $1", 10)
--   db:set_keepalive(10000, 50)
--
-- A failed statement leaves the connection as good as it was. What goes wrong in the middle of a message, or a time that is
-- over, closes it. Login is in `resty.postgres.auth`, the form of values in `resty.postgres.types`.
local new_tab = require "table.new"
local bit = require "bit"
local lrucache = require "resty.lrucache"
local auth = require "resty.postgres.auth"
local buffer = require "moonrest.buffer"
local port_text = require "moonrest.port"
local types = require "resty.postgres.types"
local native = require "moonrest.postgres.native"
local connection_id = require("moonrest.socket").connection_id

local tcp, null = ngx.socket.tcp, ngx.null
local bor, lshift = bit.bor, bit.lshift
local byte, char, find, match, sub = string.byte, string.char, string.find, string.match, string.sub
local concat, remove = table.concat, table.remove
local getmetatable, ipairs, pairs, select = getmetatable, ipairs, pairs, select
local setmetatable, tonumber, type = setmetatable, tonumber, type
local int32 = auth.int32
local DECODERS = types.DECODERS

local M = { _VERSION = "0.1", null = null, json = types.json, bytea = types.bytea, types = types }
local mt = { __index = M }

-- The metatable of our own sockets. Programs put others in their place, which have methods only.
local OURS = debug.getregistry().__tcp_cosocket_mt

-- Messages of a server that says more than this about a single thing are refused.
local MAX_MESSAGE = 256 * 1024 * 1024
-- Statements that are kept prepared on a connection.
local MAX_STATEMENTS = 100

-- Fields of errors and notices by their letters.
local ERROR_FIELDS = {
    S = "severity", C = "code", M = "message", P = "position", D = "detail", H = "hint", s = "schema", t = "table",
    c = "column", n = "constraint", W = "where",
}

local function read_int32(data, at)
    local a, b, c, d = byte(data, at, at + 3)
    return bor(lshift(a, 24), lshift(b, 16), lshift(c, 8), d)
end

local function read_int16(data, at)
    local a, b = byte(data, at, at + 1)
    return a * 256 + b
end

local function int16(n)
    return char(math.floor(n / 256) % 256, n % 256)
end

local function message(kind, data)
    return kind .. int32(#data + 4) .. data
end
M.message = message

-- What we know of connections, by their numbers: it lasts longer than the object of one user.
local sessions = assert(lrucache.new(1024))
local statement_count = 0

local function session_of(self, is_new)
    local id = self._whole and connection_id(self.sock)
    local session = id and not is_new and sessions:get(id)
    if not session then
        session = { statements = {}, order = {}, parameters = {} }
        if id then
            sessions:set(id, session)
        end
    end
    return session
end

function M.new()
    local sock, err = tcp()
    if not sock then
        return nil, err
    end
    -- All fields that a query looks at, so that the table need not grow.
    return setmetatable({
        sock = sock,
        state = "closed",
        session = false,
        notices = false,
        _buffer = buffer.new(sock),
        _whole = getmetatable(sock) == OURS,
        _queue = false,
        _notifications = false,
        _options = false,
    }, mt)
end

function M.set_timeout(self, timeout)
    return self.sock:settimeout(timeout)
end

function M.set_timeouts(self, connect_timeout, send_timeout, read_timeout)
    return self.sock:settimeouts(connect_timeout, send_timeout, read_timeout)
end

-- Messages ---------------------------------------------------------------------------------------------------------------

-- `nil` and an error: the connection is of no use any more.
local function broken(self, err)
    self.state = "closed"
    self.sock:close()
    self._buffer:clear()
    return nil, err
end

local function send(self, data)
    local sent, err = self.sock:send(data)
    if not sent then
        return broken(self, "failed to send: " .. err)
    end
    return sent
end

-- The next message: its type, and where it begins and ends in `_buffer.data`.
local function receive(self)
    local input = self._buffer
    local ok, err = input:ensure(5)
    if not ok then
        return broken(self, "receive_message: failed to get type: " .. err)
    end
    local kind, size = byte(input.data, input.at), read_int32(input.data, input.at + 1) - 4
    if size < 0 or size > MAX_MESSAGE then
        return broken(self, "receive_message: bad message length")
    end
    input.at = input.at + 5
    ok, err = input:ensure(size)
    if not ok then
        return broken(self, "receive_message: failed to get message: " .. err)
    end
    local at = input.at
    input.at = at + size
    return kind, at, at + size - 1
end

local function body(self, at, stop)
    return sub(self._buffer.data, at, stop)
end

-- `message, fields` of an error or a notice.
function M.parse_error(text)
    local fields, at = {}, 1
    while at <= #text do
        local letter = sub(text, at, at)
        local stop = letter ~= "\0" and find(text, "\0", at + 1, true)
        if not stop then
            break
        end
        local name = ERROR_FIELDS[letter]
        if name then
            fields[name] = sub(text, at + 1, stop - 1)
        end
        at = stop + 1
    end
    local shown = (fields.severity or "ERROR") .. ": " .. (fields.message or "")
    if fields.position then
        shown = shown .. " (" .. fields.position .. ")"
    end
    if fields.detail then
        shown = shown .. "\n" .. fields.detail
    end
    return shown, fields
end
local parse_error = M.parse_error

-- `nil` for what makes no sense.
function M.parse_notification(text)
    local channel, payload = match(text, "^([^%z]+)%z([^%z]*)%z$", 5)
    if not channel then
        return nil
    end
    return { operation = "notification", pid = read_int32(text, 1), channel = channel, payload = payload }
end

-- Messages that may come at any time; whether this was one of them.
local function is_aside(self, kind, at, stop)
    if kind == 78 then -- N: a notice
        local notices = self.notices
        notices[#notices + 1] = (parse_error(body(self, at, stop)))
    elseif kind == 65 then -- A: a notification
        local list = self._notifications
        list[#list + 1] = M.parse_notification(body(self, at, stop))
    elseif kind == 83 then -- S: a parameter has changed
        local name, value = match(body(self, at, stop), "^([^%z]*)%z([^%z]*)")
        if name then
            self.session.parameters[name] = value
        end
    else
        return false
    end
    return true
end

-- The beginning ------------------------------------------------------------------------------------------------------------

-- Whether the connection is encrypted now.
local function start_tls(self, options)
    local sock = self.sock
    local sent, err = sock:send(int32(8) .. int32(80877103))
    if not sent then
        return nil, err
    end
    local answer
    answer, err = sock:receive(1)
    if not answer then
        return nil, err
    elseif answer == "S" then
        local ok, failure = sock:sslhandshake(false, options.server_name, options.ssl_verify)
        if not ok then
            return nil, failure or "ssl handshake failed"
        end
        return true
    elseif answer == "N" and not options.ssl_required then
        return false
    end
    return nil, "the server does not support SSL connections"
end

local function start(self, options)
    local pairs_of = {
        user = options.user,
        database = options.database or options.user,
        application_name = options.application_name or "moonrest",
        client_encoding = "UTF8",
    }
    for name, value in pairs(options.parameters or {}) do
        pairs_of[name] = value
    end
    local words = {}
    for name, value in pairs(pairs_of) do
        words[#words + 1] = name .. "\0" .. value .. "\0"
    end
    local text = int32(196608) .. concat(words) .. "\0"
    return send(self, int32(#text + 4) .. text)
end

-- Waits for the next step of the login: `kind, data`.
local function next_step(self)
    while true do
        local kind, at, stop = receive(self)
        if not kind then
            return nil, at
        elseif kind == 69 then -- E
            return nil, parse_error(body(self, at, stop))
        elseif kind == 82 then -- R
            if stop < at + 3 then
                return nil, "malformed message"
            end
            return read_int32(self._buffer.data, at), body(self, at + 4, stop)
        elseif not is_aside(self, kind, at, stop) then
            return nil, "unexpected message during auth: " .. char(kind)
        end
    end
end

local function log_in(self, options)
    local is_encrypted = false
    if options.ssl then
        local problem
        is_encrypted, problem = start_tls(self, options)
        if is_encrypted == nil then
            return nil, problem
        end
    end
    local ok, err, details = start(self, options)
    if not ok then
        return nil, err
    end
    local kind, data, more = next_step(self)
    if not kind then
        return nil, data, more
    end
    local approved = kind == 0
    ok, err, details = auth.answer(options, kind, data, function(expected, answer)
        local sent, failure = send(self, message("p", answer))
        if not sent then
            return nil, failure
        end
        local answered, text, fields = next_step(self)
        if not answered then
            return nil, text, fields
        elseif not expected then
            approved = answered == 0
            return approved or nil, "unknown response from auth"
        elseif answered ~= expected then
            return nil, "unknown response from auth"
        end
        return text
    end, is_encrypted and self.sock or nil)
    if not ok then
        return nil, err, details
    end
    if not approved then
        kind, data, more = next_step(self)
        if kind ~= 0 then
            return nil, kind and "unknown response from auth" or data, more
        end
    end
    while true do
        local stop
        kind, data, stop = receive(self)
        if not kind then
            return nil, data
        elseif kind == 90 then -- Z
            self.session.status = sub(self._buffer.data, data, data)
            return true
        elseif kind == 69 then -- E
            return nil, parse_error(body(self, data, stop))
        elseif kind == 75 and stop >= data + 7 then -- K
            self.session.pid, self.session.secret = read_int32(self._buffer.data, data), body(self, data + 4, data + 7)
        elseif kind ~= 75 then
            is_aside(self, kind, data, stop)
        end
    end
end

local function open(sock, options, pool)
    if options.path then
        return sock:connect("unix:" .. options.path, pool)
    end
    return sock:connect(options.host or "127.0.0.1", options.port or 5432, pool)
end

-- Options: host, port, path, user, password, database, ssl, ssl_verify, ssl_required, server_name, channel_binding,
-- application_name, parameters, pool, pool_size, backlog.
function M.connect(self, options)
    if not options.user then
        return nil, "missing user for connect"
    end
    local binding = options.channel_binding
    if binding and binding ~= "prefer" and binding ~= "disable" and binding ~= "require" then
        return nil, 'invalid channel_binding value: "' .. binding .. '"'
    end
    local pool = options.pool
    if not pool then
        local place = options.path or (options.host or "127.0.0.1") .. ":" .. port_text[options.port or 5432]
        -- Who wants encryption is not given a connection without.
        local suffix = options.ssl and (options.ssl_verify and ":ssl:verified" or ":ssl") or ""
        if binding == "require" then
            suffix = suffix .. ":bound"
        end
        pool = place .. ":" .. (options.database or options.user) .. ":" .. options.user .. suffix
    end
    local ok, err = open(self.sock, options, {
        pool = pool,
        pool_size = options.pool_size,
        backlog = options.backlog,
    })
    self._buffer:clear()
    self._queue, self._notifications, self.notices = false, {}, {}
    self._options = options
    if not ok then
        self.state = "closed"
        return nil, "failed to connect: " .. err
    end
    local reused = self.sock:getreusedtimes()
    self.session = session_of(self, reused == 0)
    if reused == 0 then
        local details
        ok, err, details = log_in(self, options)
        if not ok then
            broken(self)
            return nil, err, details
        end
    end
    self.state = "idle"
    return true
end

function M.get_reused_times(self)
    return self.sock:getreusedtimes()
end

function M.close(self)
    if self.state == "idle" then
        self.sock:send(message("X", ""))
    end
    self.state = "closed"
    self._buffer:clear()
    return self.sock:close()
end

-- Refuses to share a connection that the next user would find in the middle of something, and closes it.
function M.set_keepalive(self, ...)
    if self.state ~= "idle" then
        return nil, self.state == "closed" and "closed" or "connection is busy"
    end
    local session = self.session
    if session.status and session.status ~= "I" then
        broken(self)
        return nil, "connection in transaction"
    elseif session.listening then
        broken(self)
        return nil, "connection is listening"
    elseif not self._buffer:is_empty() then
        broken(self)
        return nil, "unread data in buffer"
    end
    self.state = "closed"
    return self.sock:setkeepalive(...)
end

function M.server_version(self)
    return self.session and self.session.parameters.server_version
end

-- "I" outside a transaction, "T" in one, "E" in one that has failed.
function M.transaction_status(self)
    return self.session and self.session.status
end

-- Results ------------------------------------------------------------------------------------------------------------------

local Row = {}

-- `columns`, from the description of a row; `nil` for what makes no sense.
local function parse_columns(data, at, stop)
    local count = stop > at and read_int16(data, at) or -1
    local columns = new_tab(count > 0 and count or 0, 0)
    at = at + 2
    for i = 1, count do
        local ends = find(data, "\0", at, true)
        if not ends or ends + 18 > stop then
            return nil
        end
        local oid = read_int32(data, ends + 7)
        columns[i] = { name = sub(data, at, ends - 1), oid = oid, decode = DECODERS[oid] }
        at = ends + 19
    end
    return columns
end

-- A row as a table by names; `nil` for what makes no sense.
function Row.parse(_, data, at, stop, columns)
    if stop <= at or read_int16(data, at) ~= #columns then
        return nil
    end
    local row = new_tab(0, #columns)
    at = at + 2
    for i = 1, #columns do
        if at + 3 > stop then
            return nil
        end
        local size = read_int32(data, at)
        at = at + 4
        local column = columns[i]
        if size < 0 then
            row[column.name] = null
        else
            if at + size - 1 > stop then
                return nil
            end
            local value = sub(data, at, at + size - 1)
            at = at + size
            local decode = column.decode
            if decode then
                value = decode(value)
            end
            row[column.name] = value
        end
    end
    return row
end

local COPY_ERROR = message("f", "COPY needs copy_in\0")

-- Reads everything up to "ready for query". `hooks.row(hooks, data, at, stop, columns)` makes a row. Gives
-- `{ results…, error = text?, details = fields? }`, or `nil, err` when the connection broke.
local function read_results(self, hooks)
    local results, n = {}, 0
    local columns, rows, count
    while true do
        local kind, at, stop = receive(self)
        if not kind then
            return nil, at
        end
        local data = self._buffer.data
        if kind == 68 then -- D: a row
            if not columns then
                return broken(self, "malformed message")
            end
            local row = hooks.row(hooks, data, at, stop, columns)
            if not row then
                return broken(self, "malformed message")
            end
            count = count + 1
            rows[count] = row
        elseif kind == 84 then -- T: the columns of rows to come
            columns = parse_columns(data, at, stop)
            if not columns then
                return broken(self, "malformed message")
            end
            rows, count = {}, 0
            if hooks.columns then
                hooks.columns(columns, hooks)
            end
        elseif kind == 67 then -- C: a statement is complete
            local tag = match(sub(data, at, stop), "^[^%z]*")
            if hooks.known and not columns then
                columns, rows = hooks.known, rows or {}
            end
            n = n + 1
            results[n] = { rows = rows, columns = columns, tag = tag }
            if tag == "LISTEN" then
                self.session.listening = true
            end
            columns, rows, count = nil, nil, nil
        elseif kind == 69 then -- E
            results.error, results.details = parse_error(sub(data, at, stop))
            columns, rows, count = nil, nil, nil
        elseif kind == 90 then -- Z: ready
            self.session.status = sub(data, at, at)
            self.state = "idle"
            return results
        elseif kind == 71 or kind == 87 then -- G, W: wants data, which we have not
            local sent, err = send(self, COPY_ERROR)
            if not sent then
                return nil, err
            end
        elseif kind == 100 and hooks.copied then -- d: data of a copy
            hooks.copied(sub(data, at, stop))
        elseif not is_aside(self, kind, at, stop) then
            -- 1, 2, 3, n, I, t, H, c, s: steps on the way. Others are not of this protocol.
            if not find("123nItHcsd", char(kind), 1, true) then
                return broken(self, "unexpected message: " .. kind)
            end
            if kind == 50 and hooks.known then -- 2: rows come without a description
                columns, rows, count = hooks.known, {}, 0
            end
        end
    end
end
M._read_results = read_results

-- A result as its user sees it.
local function shape(result)
    local rows = result.rows or {}
    rows.command = match(result.tag, "^%a+")
    rows.affected_rows = tonumber((match(result.tag, "(%d+)$")))
    rows.columns = result.columns
    return rows
end

-- `result, number of results`, or `nil, err, details`.
local function answer(results, err)
    if not results then
        return nil, err
    elseif results.error then
        return nil, results.error, results.details
    end
    local count = #results
    if count == 1 then
        return shape(results[1]), 1
    end
    for i = 1, count do
        results[i] = shape(results[i])
    end
    return results, count
end

-- What `native.results` makes of texts. Other types have decoders of their own.
local KINDS = {}
for oid in pairs(DECODERS) do
    KINDS[oid] = "other"
end
KINDS[16], KINDS[20], KINDS[1700] = "boolean", "exact", "exact"
KINDS[21], KINDS[23], KINDS[26], KINDS[700], KINDS[701] = "number", "number", "number", "number", "number"

local HOOKS = { row = Row.parse, kinds = KINDS, null = null, decoders = DECODERS }

-- Begins a command; `true`, or `nil, err`.
local function begin(self)
    if self.state ~= "idle" then
        return nil, self.state == "busy" and "connection is busy" or "closed"
    end
    self.state = "busy"
    if self.notices[1] then
        self.notices = {}
    end
    return true
end
M._begin = begin

-- The request and its whole answer as one operation of the socket, which knows the usual forms of both; `false` when the
-- answer is still to be read.
local function run_whole(self, request, hooks)
    local sock = self.sock
    local is_plain, err, stage = native.ask(sock, request)
    if is_plain then
        local results, status = native.results(sock, hooks.kinds, hooks.null, hooks.decoders)
        if results then
            local session = self.session
            session.status, self.state = status, "idle"
            for i = 1, #results do
                if results[i].tag == "LISTEN" then
                    session.listening = true
                end
            end
        end
        return results
    elseif is_plain == false then
        return false
    end
    if stage == "unsent" then
        return broken(self, "failed to send: " .. err)
    end
    return broken(self, "receive_message: failed to get " .. (stage and "message: " or "type: ") .. err)
end

-- `hooks.kinds` tells that rows are of the usual form, as `native.results` takes it.
local function run(self, request, hooks)
    hooks = hooks or HOOKS
    local ok, err = begin(self)
    if not ok then
        return nil, err
    end
    if self._whole and hooks.kinds and self._buffer:is_empty() then
        local results, failure = run_whole(self, request, hooks)
        if results ~= false then
            return results, failure
        end
        return read_results(self, hooks)
    end
    ok, err = send(self, request)
    if not ok then
        return nil, err
    end
    return read_results(self, hooks)
end
M._run = run

-- Statements ---------------------------------------------------------------------------------------------------------------

-- The values of parameters as "bind" has them.
local function bind_values(count, ...)
    local out = { int16(0), int16(count) }
    for i = 1, count do
        local value = select(i, ...)
        if value == nil or value == null then
            out[i + 2] = "\255\255\255\255"
        else
            local text, err = types.encode(value)
            if not text then
                return nil, "parameter " .. i .. ": " .. err
            end
            out[i + 2] = int32(#text) .. text
        end
    end
    out[count + 3] = int16(0)
    return concat(out)
end

local DESCRIBE_PORTAL = message("D", "P\0")
local EXECUTE = message("E", "\0" .. int32(0))
local SYNC = message("S", "")

local function check_text(sql)
    if type(sql) ~= "string" then
        return nil, "statement must be a string"
    elseif find(sql, "\0", 1, true) then
        return nil, "invalid null byte in query"
    end
    return true
end

-- The request for a statement with parameters, unnamed.
local function extended(sql, count, ...)
    local values, err = bind_values(count, ...)
    if not values then
        return nil, err
    end
    return message("P", "\0" .. sql .. "\0\0\0")
        .. message("B", "\0\0" .. values) .. DESCRIBE_PORTAL .. EXECUTE .. SYNC
end

-- `query(sql)` may have several statements; `query(sql, ...)` is one with parameters `$1`, `$2`, …
function M.query(self, sql, ...)
    local ok, err = check_text(sql)
    if not ok then
        return nil, err
    end
    local request = nil
    local count = select("#", ...)
    if count == 0 then
        request = message("Q", sql .. "\0")
    else
        request, err = extended(sql, count, ...)
        if not request then
            return nil, err
        end
    end
    local queue = self._queue
    if queue then
        queue[#queue + 1] = request
        return
    end
    return answer(run(self, request))
end

local function forget(session, sql)
    session.statements[sql] = nil
    for i, known in ipairs(session.order) do
        if known == sql then
            remove(session.order, i)
            break
        end
    end
end

-- Whether a statement that was prepared before has to be prepared anew: it is unknown, its columns have changed, or what
-- it names is of other types now.
local function is_stale(code)
    return code and (code == "26000" or code == "0A000" or sub(code, 1, 2) == "42")
end

-- The statement under a name of its own on this connection: `{ name, columns }`, or `nil, err, details`.
local function prepared(self, sql)
    local session = self.session
    local known = session.statements[sql]
    if known then
        return known
    end
    statement_count = statement_count + 1
    local name = "moonrest_" .. statement_count
    local request = message("P", name .. "\0" .. sql .. "\0\0\0") .. message("D", "S" .. name .. "\0")
    local order = session.order
    if #order >= MAX_STATEMENTS then
        local oldest = order[1]
        request = message("C", "S" .. session.statements[oldest].name .. "\0") .. request
        forget(session, oldest)
    end
    local columns
    local results, err = run(self, request .. SYNC, {
        row = Row.parse,
        columns = function(found)
            columns = found
        end,
    })
    if not results then
        return nil, err
    elseif results.error then
        return nil, results.error, results.details
    end
    known = { name = name, columns = columns }
    session.statements[sql] = known
    order[#order + 1] = sql
    return known
end

-- As `query` with parameters, by a statement that stays prepared on the connection.
function M.execute(self, sql, ...)
    local ok, err = check_text(sql)
    if not ok then
        return nil, err
    elseif self._queue then
        return M.query(self, sql, ...)
    end
    local values
    values, err = bind_values(select("#", ...), ...)
    if not values then
        return nil, err
    end
    while true do
        if self.state ~= "idle" then
            return nil, self.state == "busy" and "connection is busy" or "closed"
        end
        local is_old = self.session.statements[sql] ~= nil
        local statement, failure, details = prepared(self, sql)
        if not statement then
            return nil, failure, details
        end
        local request = message("B", "\0" .. statement.name .. "\0" .. values) .. EXECUTE .. SYNC
        local results
        results, failure = run(self, request, { row = Row.parse, known = statement.columns })
        if not results then
            return nil, failure
        elseif not is_old or not results.details or not is_stale(results.details.code) then
            return answer(results)
        end
        forget(self.session, sql)
        if self.session.status ~= "I" then
            return answer(results)
        end
    end
end

local Statement = {}
local statement_mt = { __index = Statement }

function M.prepare(self, sql)
    local ok, err = check_text(sql)
    if not ok then
        return nil, err
    end
    local statement, failure, details = prepared(self, sql)
    if not statement then
        return nil, failure, details
    end
    return setmetatable({ db = self, sql = sql }, statement_mt)
end

function Statement.execute(self, ...)
    return M.execute(self.db, self.sql, ...)
end

function Statement.close(self)
    local db = self.db
    local known = db.session and db.session.statements[self.sql]
    if not known then
        return true
    end
    forget(db.session, self.sql)
    local results, err = run(db, message("C", "S" .. known.name .. "\0") .. SYNC)
    if not results then
        return nil, err
    end
    return true
end

-- Pipelines ----------------------------------------------------------------------------------------------------------------

-- Until `commit_pipeline`, queries are only collected.
function M.init_pipeline(self)
    self._queue = {}
end

function M.cancel_pipeline(self)
    self._queue = false
end

-- All results in order; `{ false, err, details }` for a query that failed, which the others do not feel.
function M.commit_pipeline(self)
    local queue = self._queue
    if not queue then
        return nil, "no pipeline"
    end
    self._queue = false
    if #queue == 0 then
        return {}
    end
    local ok, err = begin(self)
    if not ok then
        return nil, err
    end
    ok, err = send(self, queue)
    if not ok then
        return nil, err
    end
    local list = new_tab(#queue, 0)
    for i = 1, #queue do
        local results, failure = read_results(self, HOOKS)
        if not results then
            return nil, failure
        end
        local result, text, details = answer(results)
        list[i] = result or { false, text, details }
    end
    return list
end

-- Copying ------------------------------------------------------------------------------------------------------------------

-- `copy_out("COPY … TO STDOUT", sink?)`: the pieces as a list, or given to `sink` one by one.
function M.copy_out(self, sql, sink)
    local ok, err = check_text(sql)
    if not ok then
        return nil, err
    end
    local pieces = {}
    local results, failure = run(self, message("Q", sql .. "\0"), {
        row = Row.parse,
        copied = sink or function(piece)
            pieces[#pieces + 1] = piece
        end,
    })
    if not results then
        return nil, failure
    elseif results.error then
        return nil, results.error, results.details
    end
    return sink and true or pieces, tonumber((match(results[1] and results[1].tag or "", "(%d+)$")))
end

-- `copy_in("COPY … FROM STDIN", source)`: data is a string, a list of them, or a function that gives one piece a call and
-- `nil` at the end; `nil, err` from it makes the copy fail. Gives the number of rows.
function M.copy_in(self, sql, source)
    local ok, err = check_text(sql)
    if ok then
        ok, err = begin(self)
    end
    if ok then
        ok, err = send(self, message("Q", sql .. "\0"))
    end
    if not ok then
        return nil, err
    end
    while true do
        local kind, at, stop = receive(self)
        if not kind then
            return nil, at
        elseif kind == 71 then -- G: it waits for the data
            break
        elseif kind == 69 then -- E
            local text, details = parse_error(body(self, at, stop))
            local results, failure = read_results(self, HOOKS)
            if not results then
                return nil, failure
            end
            return nil, text, details
        elseif kind == 67 or kind == 73 then -- C, I: no copy
            local results, failure = read_results(self, HOOKS)
            return nil, results and "statement is no COPY FROM STDIN" or failure
        elseif kind ~= 84 and kind ~= 68 and not is_aside(self, kind, at, stop) then
            return broken(self, "unexpected message: " .. kind)
        end
    end
    local read = source
    if type(source) ~= "function" then
        local list, i = type(source) == "table" and source or { source }, 0
        read = function()
            i = i + 1
            return list[i]
        end
    end
    local failure
    while true do
        local piece
        piece, failure = read()
        if not piece then
            break
        end
        ok, err = send(self, message("d", piece))
        if not ok then
            return nil, err
        end
    end
    ok, err = send(self, failure and message("f", failure .. "\0") or message("c", ""))
    if not ok then
        return nil, err
    end
    local result, text, details = answer(read_results(self, HOOKS))
    if not result then
        return nil, text, details
    end
    return result.affected_rows or 0
end

-- Notifications --------------------------------------------------------------------------------------------------------------

-- Those that came beside results: a list, which is emptied.
function M.notifications(self)
    local list = self._notifications
    self._notifications = {}
    return list
end

-- `{ pid, channel, payload }`. When the time is over between messages, the connection stays as it is.
function M.wait_for_notification(self)
    local early = self._notifications and remove(self._notifications, 1)
    if early then
        return early
    end
    local ok, err = begin(self)
    if not ok then
        return nil, err
    end
    local input = self._buffer
    while true do
        ok, err = input:ensure(1)
        if not ok then
            if err == "timeout" then
                self.state = "idle"
                return nil, err
            end
            return broken(self, err)
        end
        local kind, at, stop = receive(self)
        if not kind then
            return nil, at
        elseif kind == 69 then
            -- The server says farewell.
            return broken(self, (parse_error(body(self, at, stop))))
        end
        is_aside(self, kind, at, stop)
        local note = remove(self._notifications, 1)
        if note then
            self.state = "idle"
            return note
        end
    end
end

-- Stops what the connection is busy with, from another light thread: a request over a connection of its own.
function M.cancel(self)
    local session, options = self.session, self._options
    if not session or not session.pid then
        return nil, "the key of the connection is not known"
    end
    local sock, err = tcp()
    if not sock then
        return nil, err
    end
    sock:settimeout(5000)
    local ok
    ok, err = open(sock, options, { pool = "moonrest.postgres.cancel" })
    if ok and options.ssl then
        ok, err = start_tls({ sock = sock }, options)
    end
    if ok then
        ok, err = sock:send(int32(16) .. int32(80877102) .. int32(session.pid) .. session.secret)
    end
    if ok then
        -- The server closes when it has passed it on.
        sock:receive(1)
    end
    sock:close()
    if not ok then
        return nil, err
    end
    return true
end

-- Texts --------------------------------------------------------------------------------------------------------------------

function M.escape_identifier(_, name)
    return types.escape_identifier(name)
end

function M.escape_literal(_, value)
    if value == nil or value == null then
        return "NULL"
    elseif type(value) == "boolean" then
        return value and "TRUE" or "FALSE"
    elseif type(value) == "number" then
        local text = types.number_text(value)
        return find(text, "^%-?%d") and text or "'" .. text .. "'::float8"
    end
    local text, err = types.encode(value)
    if not text then
        return nil, err
    end
    return types.quote(text)
end

return M
