-- `resty.mysql`: a client for MySQL and MariaDB. https://github.com/openresty/lua-resty-mysql
-- The protocol: https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html
--
-- A connection is "connected" (1) or has sent a command whose results are not all read (2). What goes wrong in the middle of
-- something closes the socket. Authentication is in `resty.mysql.auth`, statements with parameters in
-- `resty.mysql.statement`, the layout of values in `resty.mysql.wire`.
local new_tab = require "table.new"
local bit = require "bit"
local auth = require "resty.mysql.auth"
local buffer = require "moonrest.buffer"
local port_text = require "moonrest.port"
local native = require "moonrest.mysql.native"
local statement = require "resty.mysql.statement"
local wire = require "resty.mysql.wire"

local tcp, null = ngx.socket.tcp, ngx.null
local band, bor, lshift = bit.band, bit.bor, bit.lshift
local byte, char, find, rep, sub = string.byte, string.char, string.find, string.rep, string.sub
local concat, getmetatable, setmetatable, tonumber, type = table.concat, getmetatable, setmetatable, tonumber, type
local u16, u24, lenenc, lenenc_string = wire.u16, wire.u24, wire.lenenc, wire.lenenc_string
local p24, p32 = wire.p24, wire.p32

local M = { _VERSION = "0.31" }
local mt = { __index = M }

-- The metatable of our own sockets. Programs put others in their place, which have methods only.
local OURS = debug.getregistry().__tcp_cosocket_mt

local CONNECTED, COMMAND_SENT = 1, 2
local COM_QUIT, COM_QUERY = "\1", "\3"

-- LONG_PASSWORD, FOUND_ROWS, LONG_FLAG, CONNECT_WITH_DB, ODBC, IGNORE_SPACE, PROTOCOL_41, INTERACTIVE, IGNORE_SIGPIPE,
-- TRANSACTIONS, RESERVED, SECURE_CONNECTION, MULTI_STATEMENTS, MULTI_RESULTS, PLUGIN_AUTH. Not LOCAL_FILES: a server has no
-- business with our files.
local FLAGS = 0x3f74f + 0x80000
local SSL, PLUGIN_AUTH, LENENC_AUTH = 0x800, 0x80000, 0x200000
local IN_TRANSACTION, MORE_RESULTS = 1, 8
-- A packet of this size goes on in the next.
local FULL = 0xffffff

-- Character sets and the numbers of their default collations.
local CHARSETS = {
    _default = 0, big5 = 1, dec8 = 3, cp850 = 4, hp8 = 6, koi8r = 7, latin1 = 8, latin2 = 9, swe7 = 10, ascii = 11, ujis = 12,
    sjis = 13, hebrew = 16, tis620 = 18, euckr = 19, koi8u = 22, gb2312 = 24, greek = 25, cp1250 = 26, gbk = 28, latin5 = 30,
    armscii8 = 32, utf8 = 33, ucs2 = 35, cp866 = 36, keybcs2 = 37, macce = 38, macroman = 39, cp852 = 40, latin7 = 41,
    utf8mb4 = 45, cp1251 = 51, utf16 = 54, utf16le = 56, cp1256 = 57, cp1257 = 59, utf32 = 60, binary = 63, geostd8 = 92,
    cp932 = 95, eucjpms = 97, gb18030 = 248,
}

-- Types of columns whose texts become numbers: all but 64-bit integers, which a Lua number cannot hold.
local CONVERTERS = {
    [0x00] = tonumber, [0x01] = tonumber, [0x02] = tonumber, [0x03] = tonumber, [0x04] = tonumber, [0x05] = tonumber,
    [0x09] = tonumber, [0x0d] = tonumber, [0xf6] = tonumber,
}

function M.new()
    local sock, err = tcp()
    if not sock then
        return nil, err
    end
    -- All fields that a query looks at, so that the table need not grow. They are 16: one more would double it.
    return setmetatable({
        sock = sock,
        _input = buffer.new(sock),
        _whole = getmetatable(sock) == OURS,
        state = false,
        packet_no = -1,
        compact = false,
        database = "",
        user = "",
        password = "",
        charset = 0,
        is_unix = false,
        use_ssl = false,
        ssl_verify = false,
        _max_packet_size = 0,
        _transaction = false,
        _statements = false,
    }, mt)
end

function M.set_timeout(self, timeout)
    local sock = self.sock
    if not sock then
        return nil, "not initialized"
    end
    return sock:settimeout(timeout)
end

function M.set_timeouts(self, connect_timeout, send_timeout, read_timeout)
    local sock = self.sock
    if not sock then
        return nil, "not initialized"
    end
    return sock:settimeouts(connect_timeout, send_timeout, read_timeout)
end

-- Sends a packet, in several where it is too large for one.
local function send_packet(self, data)
    local size, no = #data, self.packet_no
    if size < FULL then
        no = band(no + 1, 255)
        self.packet_no = no
        return self.sock:send(p24(size) .. char(no) .. data)
    end
    local pieces, n = {}, 0
    for at = 1, size + 1, FULL do
        local len = size + 1 - at
        if len > FULL then
            len = FULL
        end
        no = band(no + 1, 255)
        pieces[n + 1], pieces[n + 2], pieces[n + 3] = p24(len), char(no), sub(data, at, at + len - 1)
        n = n + 3
    end
    self.packet_no = no
    return self.sock:send(pieces)
end
M._send_packet = send_packet

-- `nil` and an error: the connection is of no use any more.
local function broken(self, err)
    self.sock:close()
    self._input:clear()
    return nil, err
end
M._broken = broken

local function recv_packet(self)
    local input = self._input
    local whole, parts
    while true do
        local ok, err = input:ensure(4)
        if not ok then
            return broken(self, "failed to receive packet header: " .. err)
        end
        local at = input.at
        local len = u24(input.data, at)
        self.packet_no = byte(input.data, at + 3)
        input.at = at + 4
        if len == 0 and not whole then
            return broken(self, "empty packet")
        end
        local total = len + (whole or 0)
        if total > self._max_packet_size then
            return broken(self, "packet size too big: " .. total)
        end
        local data = ""
        if len > 0 then
            data, err = input:take(len)
            if not data then
                return broken(self, "failed to read packet content: " .. err)
            end
        end
        if len < FULL then
            if not whole then
                return data
            end
            parts[#parts + 1] = data
            return concat(parts)
        end
        whole, parts = total, parts or {}
        parts[#parts + 1] = data
    end
end
M._recv_packet = recv_packet

-- `message, errcode, sqlstate` of a packet that begins with 255.
local function parse_error(packet)
    if #packet < 3 then
        return "malformed packet"
    end
    local errcode = u16(packet, 2)
    if byte(packet, 4) == 35 then -- #
        return sub(packet, 10), errcode, sub(packet, 5, 9)
    end
    return sub(packet, 4), errcode
end
M._parse_error = parse_error

local function is_eof(packet)
    return byte(packet) == 0xfe and #packet < 9
end

-- The handshake ----------------------------------------------------------------------------------------------------------

-- What the server begins with: `scramble, plugin`.
local function read_greeting(self)
    local packet, err = recv_packet(self)
    if not packet then
        return nil, err
    end
    local version = byte(packet)
    if version == 0xff then
        return nil, parse_error(packet)
    elseif version < 10 then
        return nil, "unsupported protocol version " .. version .. ", version 10 or higher is required"
    end
    self.protocol_ver = version
    local ends = find(packet, "\0", 2, true)
    if not ends then
        return nil, "bad handshake initialization packet: bad server version"
    end
    self._server_ver = sub(packet, 2, ends - 1)
    local at = ends + 5
    local scramble = sub(packet, at, at + 7)
    at = at + 9
    if #packet < at + 30 then
        return nil, "bad handshake initialization packet: too short"
    end
    self._server_lang = byte(packet, at + 2)
    self.capabilities = bor(u16(packet, at), lshift(u16(packet, at + 5), 16))
    at = at + 18
    scramble = scramble .. sub(packet, at, at + 11)
    at = at + 13
    if band(self.capabilities, PLUGIN_AUTH) == 0 then
        return scramble, "mysql_native_password"
    end
    ends = find(packet, "\0", at, true) or #packet + 1
    return scramble, sub(packet, at, ends - 1)
end

local function send_response(self, answer, plugin)
    local flags = FLAGS
    if #answer > 250 then
        flags = bor(flags, LENENC_AUTH)
    end
    local fixed = p32(self._max_packet_size) .. char(self.charset) .. rep("\0", 23)
    if self.use_ssl then
        if band(self.capabilities, SSL) == 0 then
            return "ssl disabled on server"
        end
        flags = bor(flags, SSL)
        local sent, err = send_packet(self, p32(flags) .. fixed)
        if not sent then
            return "failed to send client authentication packet: " .. err
        end
        -- What came in clear already must not be read as if it had come over TLS.
        if not self._input:is_empty() then
            return "failed to do ssl handshake: unread data in buffer"
        end
        local ok
        ok, err = self.sock:sslhandshake(false, nil, self.ssl_verify)
        if not ok then
            return "failed to do ssl handshake: " .. (err or "")
        end
    end
    local sent, err = send_packet(
        self,
        p32(flags) .. fixed .. self.user .. "\0" .. wire.to_lenenc_string(answer) .. self.database .. "\0" .. plugin .. "\0"
    )
    if not sent then
        return "failed to send client authentication packet: " .. err
    end
    return nil
end

-- Everything from the greeting to the server's approval; `nil` or an error.
local function log_in(self)
    local scramble, plugin, errcode, sqlstate = read_greeting(self)
    if not scramble then
        return plugin, errcode, sqlstate
    end
    local answer, err = auth.answer(self, plugin, scramble)
    if not answer then
        -- The server's favourite is not the user's: it will say which one is.
        if not find(err, "^unknown plugin") then
            return err
        end
        answer, err = auth.answer(self, "mysql_native_password", scramble)
        if not answer then
            return err
        end
        plugin = "mysql_native_password"
    end
    err = send_response(self, answer, plugin)
    if err then
        return err
    end
    local switched = false
    while true do
        local packet
        packet, err = recv_packet(self)
        if not packet then
            return "failed to receive the result packet: " .. err
        end
        local kind = byte(packet)
        if kind == 0 then
            return nil
        elseif kind == 0xff then
            return parse_error(packet)
        elseif kind == 0xfe then
            if switched then
                return "malformed packet"
            elseif #packet == 1 then
                return "unknown plugin: mysql_old_password"
            end
            local ends = find(packet, "\0", 2, true)
            if not ends then
                return "malformed packet"
            end
            switched, plugin = true, sub(packet, 2, ends - 1)
            scramble = sub(packet, ends + 1)
            answer, err = auth.answer(self, plugin, scramble)
        elseif kind == 1 then
            answer, err = auth.continue(self, plugin, scramble, sub(packet, 2))
        else
            return "bad packet type: " .. kind
        end
        if err then
            return err
        elseif answer then
            local sent
            sent, err = send_packet(self, answer)
            if not sent then
                return "failed to send client authentication packet: " .. err
            end
        end
    end
end

-- Options: host, port, path, database, user, password, charset, max_packet_size, ssl, ssl_verify, pool, pool_size, backlog,
-- compact_arrays.
function M.connect(self, options)
    local sock = self.sock
    if not sock then
        return nil, "not initialized"
    end
    self.state, self._transaction, self._statements = false, false, false
    self._input:clear()
    self._max_packet_size = options.max_packet_size or 1024 * 1024
    self.compact = options.compact_arrays
    self.database, self.user = options.database or "", options.user or ""
    self.password = options.password or ""
    self.charset = CHARSETS[options.charset or "_default"]
    if not self.charset then
        return nil, "charset '" .. options.charset .. "' is not supported"
    end
    self.ssl_verify = options.ssl_verify
    self.use_ssl = options.ssl or options.ssl_verify

    -- Who wants encryption is not given a connection without.
    local suffix = self.use_ssl and (self.ssl_verify and ":ssl:verified" or ":ssl") or ""
    local pool, ok, err = options.pool, nil, nil
    if options.host then
        local port = options.port or 3306
        pool = pool or self.user .. ":" .. self.database .. ":" .. options.host .. ":" .. port_text[port] .. suffix
        self.is_unix = false
        ok, err = sock:connect(options.host, port, {
            pool = pool,
            pool_size = options.pool_size,
            backlog = options.backlog,
        })
    elseif options.path then
        pool = pool or self.user .. ":" .. self.database .. ":" .. options.path .. suffix
        self.is_unix = true
        ok, err = sock:connect("unix:" .. options.path, {
            pool = pool,
            pool_size = options.pool_size,
            backlog = options.backlog,
        })
    else
        return nil, "neither \"host\" nor \"path\" options are specified"
    end
    if not ok then
        return nil, "failed to connect: " .. err
    end
    local reused = sock:getreusedtimes()
    if reused and reused > 0 then
        self.state = CONNECTED
        return 1
    end
    self.packet_no = -1
    local failure, errcode, sqlstate = log_in(self)
    if failure then
        broken(self)
        return nil, failure, errcode, sqlstate
    end
    self.state = CONNECTED
    return 1
end

-- Refuses to share a connection that is in the middle of something.
function M.set_keepalive(self, ...)
    local sock = self.sock
    if not sock then
        return nil, "not initialized"
    elseif self.state ~= CONNECTED then
        return nil, "cannot be reused in the current connection state: " .. (self.state or "nil")
    end
    self.state = false
    if self._transaction then
        return broken(self, "connection in transaction")
    elseif not self._input:is_empty() then
        return broken(self, "unread data in buffer")
    end
    -- The next user does not know of them.
    if self._statements then
        local sent, err = statement.close_all(self)
        if not sent then
            sock:close()
            return nil, err
        end
    end
    return sock:setkeepalive(...)
end

function M.get_reused_times(self)
    local sock = self.sock
    if not sock then
        return nil, "not initialized"
    end
    return sock:getreusedtimes()
end

function M.close(self)
    local sock = self.sock
    if not sock then
        return nil, "not initialized"
    end
    self.state = false
    self._input:clear()
    self.packet_no = -1
    local sent, err = send_packet(self, COM_QUIT)
    if not sent then
        sock:close()
        return nil, err
    end
    return sock:close()
end

function M.server_ver(self)
    return self._server_ver
end

function M.set_compact_arrays(self, value)
    self.compact = value
end

-- Commands ---------------------------------------------------------------------------------------------------------------

-- Begins a command, whose first packet is number 0.
local function send_command(self, data)
    if self.state ~= CONNECTED then
        return nil, "cannot send query in the current context: " .. (self.state or "nil")
    end
    if not self.sock then
        return nil, "not initialized"
    end
    self.packet_no = -1
    local sent, err = send_packet(self, data)
    if not sent then
        self.sock:close()
        return nil, err
    end
    self.state = COMMAND_SENT
    return sent
end
M._send_command = send_command

function M.send_query(self, query)
    if type(query) == "table" then
        query = concat(query)
    end
    self._parse_row = nil
    return send_command(self, COM_QUERY .. query)
end

-- Takes note of the server's status; whether more results follow.
local function note_status(self, status)
    self._transaction = band(status, IN_TRANSACTION) ~= 0
    if band(status, MORE_RESULTS) ~= 0 then
        return true
    end
    self.state = CONNECTED
    return false
end

local function failed(self, packet)
    self.state = CONNECTED
    return nil, parse_error(packet)
end

-- An OK packet as a table; `nil` if it makes no sense.
local function parse_ok(packet)
    local affected, insert_id, at
    affected, at = lenenc(packet, 2)
    if affected then
        insert_id, at = lenenc(packet, at)
    end
    if not insert_id or #packet < at + 3 then
        return nil
    end
    local message = lenenc_string(packet, at + 4)
    if message == null or message == "" then
        message = nil
    end
    return {
        affected_rows = affected,
        insert_id = insert_id,
        server_status = u16(packet, at),
        warning_count = u16(packet, at + 2),
        message = message,
    }
end

-- What the description of a column has: name, type, whether it is unsigned, number of decimals.
local function parse_column(packet)
    local at, name, ignored = 1, nil, nil
    for n = 1, 6 do
        local value
        value, at = lenenc_string(packet, at)
        if value == nil then
            return nil
        elseif n == 5 then
            name = value
        else
            ignored = value
        end
    end
    if ignored == nil or #packet < at + 10 then
        return nil
    end
    return {
        name = name,
        type = byte(packet, at + 7),
        unsigned = band(byte(packet, at + 8), 0x20) ~= 0,
        decimals = byte(packet, at + 10),
    }
end

-- Descriptions of columns (or parameters), with the packet behind them.
local function read_columns(self, count)
    local columns = new_tab(count < 4096 and count or 4096, 0)
    for i = 1, count do
        local packet, err = recv_packet(self)
        if not packet then
            return nil, err
        elseif byte(packet) == 0xff then
            return failed(self, packet)
        end
        local column = parse_column(packet)
        if not column then
            return broken(self, "malformed packet")
        end
        columns[i] = column
    end
    local packet, err = recv_packet(self)
    if not packet then
        return nil, err
    elseif not is_eof(packet) then
        return broken(self, "unexpected packet type " .. byte(packet) .. " while eof packet is expected")
    end
    return columns
end
M._read_columns = read_columns

-- A row in the form of texts; `nil` if it makes no sense.
local function parse_text_row(packet, columns, compact)
    local count, at = #columns, 1
    local row = compact and new_tab(count, 0) or new_tab(0, count)
    for i = 1, count do
        local value
        value, at = lenenc_string(packet, at)
        if value == nil then
            return nil
        end
        local column = columns[i]
        if value ~= null then
            local convert = CONVERTERS[column.type]
            if convert then
                value = convert(value)
            end
        end
        row[compact and i or column.name] = value
    end
    return row
end

-- The result of a command that is but one packet, an error or a success.
local function read_packet_result(self, packet)
    if byte(packet) == 0xff then
        return failed(self, packet)
    end
    local result = parse_ok(packet)
    if not result then
        return broken(self, "malformed packet")
    end
    if note_status(self, result.server_status) then
        return result, "again"
    end
    return result
end

-- The result of a command: `result` or `rows`, with "again" when another one follows. `parse_row` knows the form of rows.
local function read_result(self, est_nrows, parse_row)
    if self.state ~= COMMAND_SENT then
        return nil, "cannot read result in the current context: " .. (self.state or "nil")
    end
    local packet, err = recv_packet(self)
    if not packet then
        return nil, err
    end
    local kind = byte(packet)
    if kind == 0xff or kind == 0 then
        return read_packet_result(self, packet)
    elseif kind == 0xfb then
        return broken(self, "packet type LOCALINFILE not supported")
    end
    local count = lenenc(packet, 1)
    if not count or count == null or count > 65535 then
        return broken(self, "malformed packet")
    end
    local columns, failure, errcode, sqlstate = read_columns(self, count)
    if not columns then
        return nil, failure, errcode, sqlstate
    end
    local compact = self.compact
    local rows, n = new_tab(est_nrows or 4, 0), 0
    while true do
        packet, err = recv_packet(self)
        if not packet then
            return nil, err
        end
        kind = byte(packet)
        if kind == 0xfe and #packet < 9 then
            if #packet < 5 then
                return broken(self, "malformed packet")
            end
            if note_status(self, u16(packet, 4)) then
                return rows, "again"
            end
            return rows
        elseif kind == 0xff then
            return failed(self, packet)
        end
        local row = parse_row(packet, columns, compact)
        if not row then
            return broken(self, "malformed packet")
        end
        n = n + 1
        rows[n] = row
    end
end
M._read_result = read_result

function M.read_result(self, est_nrows)
    return read_result(self, est_nrows, self._parse_row or parse_text_row)
end

-- A query as one operation of the socket, which knows the usual form of rows.
local function query_whole(self, query, est_nrows)
    self.state = COMMAND_SENT
    local result, status, stage = native.query(self.sock, query, self._max_packet_size, self.compact, est_nrows)
    if type(result) == "table" and not note_status(self, status) then
        return result
    end
    -- What may follow has rows of texts.
    self._parse_row = nil
    if type(result) == "string" then
        return read_packet_result(self, result)
    elseif result then
        return result, "again"
    elseif result == false then
        return read_result(self, est_nrows, parse_text_row)
    elseif stage == "unsent" then
        self.state = CONNECTED
        self.sock:close()
        return nil, "failed to send query: " .. status
    end
    return broken(self, (stage and "failed to read packet content: " or "failed to receive packet header: ") .. status)
end

function M.query(self, query, est_nrows)
    if self._whole and type(query) == "string" and #query < FULL - 1 and self.state == CONNECTED
        and self._input:is_empty()
    then
        return query_whole(self, query, est_nrows)
    end
    local sent, err = M.send_query(self, query)
    if not sent then
        return nil, "failed to send query: " .. err
    end
    return read_result(self, est_nrows, parse_text_row)
end

-- `prepare(sql) -> statement`: see `resty.mysql.statement`.
function M.prepare(self, sql)
    return statement.prepare(self, sql)
end

statement.attach(M)

return M
