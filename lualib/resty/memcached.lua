-- `resty.memcached`: a client for memcached, over its text protocol. https://github.com/openresty/lua-resty-memcached
--
-- A command is a request and the function that reads its reply; a pipeline collects both. A reply that makes no sense
-- closes the connection, because nobody could tell where the next one begins.
local new_tab = require "table.new"
local native = require "moonrest.memcached.native"

local tcp = ngx.socket.tcp
local escape_uri, unescape_uri = ngx.escape_uri, ngx.unescape_uri
local concat, find, match = table.concat, string.find, string.match
local getmetatable, ipairs, pairs = getmetatable, ipairs, pairs
local setmetatable, tostring, type = setmetatable, tostring, type

-- The metatable of our own sockets. Programs put others in their place, which have methods only.
local OURS = debug.getregistry().__tcp_cosocket_mt

local M = { _VERSION = "0.18" }
local mt = { __index = M }

-- `new(self, { key_transform = { escape, unescape } }?)`.
function M.new(_, options)
    local sock, err = tcp()
    if not sock then
        return nil, err
    end
    local escape, unescape = escape_uri, unescape_uri
    local transform = options and options.key_transform
    if transform then
        escape, unescape = transform[1], transform[2]
        if not escape or not unescape then
            return nil, "expecting key_transform = { escape, unescape } table"
        end
    end
    return setmetatable({
        sock = sock,
        escape_key = escape,
        unescape_key = unescape,
        _whole = getmetatable(sock) == OURS,
        _reqs = false,
        _readers = false,
    }, mt)
end

function M.set_timeouts(self, connect_timeout, send_timeout, read_timeout)
    local sock = self.sock
    if not sock then
        return nil, "not initialized"
    end
    sock:settimeouts(connect_timeout, send_timeout, read_timeout)
    return 1
end

function M.set_timeout(self, timeout)
    return M.set_timeouts(self, timeout, timeout, timeout)
end

-- Methods of the socket under names of ours.
for name, of_socket in pairs {
    connect = "connect",
    sslhandshake = "sslhandshake",
    set_keepalive = "setkeepalive",
    get_reused_times = "getreusedtimes",
    close = "close",
} do
    M[name] = function(self, ...)
        local sock = self.sock
        if not sock then
            return nil, "not initialized"
        end
        return sock[of_socket](sock, ...)
    end
end

local function receive(sock, what)
    local data, err = sock:receive(what or "*l")
    if not data then
        sock:close()
    end
    return data, err
end

-- A line that is not the expected one: the server's error, after which it goes on, or garbage.
local function unexpected(sock, line)
    if not find(line, "^[%u_]+$") and not find(line, "^%u+_ERROR ") then
        sock:close()
    end
    return line
end

-- Sends a request, or puts it into the pipeline. The reply is read by `read(sock, self)`; where it fails, `nils` values
-- come before the error.
local function command(self, request, read, nils)
    local sock = self.sock
    local requests = self._reqs
    if requests then
        requests[#requests + 1] = request
        local readers = self._readers
        readers[#readers + 1] = read
        return 1
    end
    local sent, err = sock:send(request)
    if not sent then
        sock:close()
        if nils == 3 then
            return nil, nil, nil, err
        elseif nils == 2 then
            return nil, nil, err
        end
        return nil, err
    end
    return read(sock, self)
end

-- The reader of a reply of one line: 1 for one of these lines, `nil` and the line for others.
local function one_line(good, other)
    return function(sock)
        local line, err = receive(sock)
        if not line then
            return nil, err
        elseif line == good or line == other then
            return 1
        end
        return nil, unexpected(sock, line)
    end
end

local read_stored = one_line("STORED")
local read_deleted = one_line("DELETED")
local read_ok = one_line("OK")
-- Couchbase's moxi says "STORED".
local read_touched = one_line("TOUCHED", "STORED")

local function read_number(sock)
    local line, err = receive(sock)
    if not line then
        return nil, err
    elseif find(line, "^%d+ *$") then
        return match(line, "^%d+")
    end
    return nil, unexpected(sock, line)
end

-- The data of a value, and what has to follow it.
local function read_data(sock, len, ending)
    local data, err = receive(sock, len + 0)
    if not data then
        return nil, err
    end
    local rest
    rest, err = receive(sock, #ending)
    if not rest then
        return nil, err
    elseif rest ~= ending then
        sock:close()
        return nil, "bad data chunk"
    end
    return data
end

local function read_value(sock)
    local line, err = receive(sock)
    if not line then
        return nil, nil, err
    elseif line == "END" then
        return nil, nil, nil
    end
    local flags, len = match(line, "^VALUE %S+ (%d+) (%d+)$")
    if not flags then
        return nil, nil, unexpected(sock, line)
    end
    local data
    data, err = read_data(sock, len, "\r\nEND\r\n")
    if not data then
        return nil, nil, err
    end
    return data, flags
end

local function read_value_with_cas(sock)
    local line, err = receive(sock)
    if not line then
        return nil, nil, nil, err
    elseif line == "END" then
        return nil, nil, nil, nil
    end
    local flags, len, cas = match(line, "^VALUE %S+ (%d+) (%d+) (%d+)$")
    if not flags then
        return nil, nil, nil, unexpected(sock, line)
    end
    local data
    data, err = read_data(sock, len, "\r\nEND\r\n")
    if not data then
        return nil, nil, nil, err
    end
    return data, flags, cas
end

-- `{ [key] = { data, flags, cas? } }`; the pattern finds key, flags, length and perhaps the number for `cas`.
local function values_reader(pattern)
    return function(sock, self)
        local unescape, values = self.unescape_key, {}
        while true do
            local line, err = receive(sock)
            if not line then
                return nil, err
            elseif line == "END" then
                return values
            end
            local key, flags, len, cas = match(line, pattern)
            if not key then
                return nil, unexpected(sock, line)
            end
            local data
            data, err = read_data(sock, len, "\r\n")
            if not data then
                return nil, err
            end
            values[unescape(key)] = { data, flags, cas }
        end
    end
end

local read_values = values_reader("^VALUE (%S+) (%d+) (%d+)$")
local read_values_with_cas = values_reader("^VALUE (%S+) (%d+) (%d+) (%d+)$")

local function read_stats(sock)
    local lines, n = {}, 0
    while true do
        local line, err = receive(sock)
        if not line then
            return nil, err
        elseif line == "END" or line == "RESET" then
            return lines
        elseif find(line, "ERROR", 1, true) and not find(line, "^STAT ") then
            return nil, line
        end
        n = n + 1
        lines[n] = line
    end
end

local function read_version(sock)
    local line, err = receive(sock)
    if not line then
        return nil, err
    end
    local version = match(line, "^VERSION (.+)$")
    if not version then
        return nil, unexpected(sock, line)
    end
    return version
end

local function many(self, verb, keys, read)
    local n = #keys
    if n == 0 then
        return {}
    end
    local words = new_tab(n + 1, 0)
    words[1] = verb
    for i = 1, n do
        words[i + 1] = self.escape_key(keys[i])
    end
    return command(self, concat(words, " ") .. "\r\n", read)
end

-- `value, flags, err`, or for a table of keys `values, err`.
function M.get(self, key)
    local several = type(key) == "table"
    if not self.sock then
        if several then
            return nil, "not initialized"
        end
        return nil, nil, "not initialized"
    end
    if several then
        return many(self, "get", key, read_values)
    end
    local request = "get " .. self.escape_key(key) .. "\r\n"
    if not self._whole or self._reqs then
        return command(self, request, read_value, 2)
    end
    local value, flags = native.get(self.sock, request)
    if value then
        return value, flags
    elseif value == false then
        return read_value(self.sock)
    elseif flags then
        self.sock:close()
    end
    return nil, nil, flags
end

-- `value, flags, cas_unique, err`, or for a table of keys `values, err`.
function M.gets(self, key)
    local several = type(key) == "table"
    if not self.sock then
        if several then
            return nil, "not initialized"
        end
        return nil, nil, nil, "not initialized"
    end
    if several then
        return many(self, "gets", key, read_values_with_cas)
    end
    return command(self, "gets " .. self.escape_key(key) .. "\r\n", read_value_with_cas, 3)
end

-- Tables of pieces, nested at will, are put together.
local function flatten(value, out)
    for _, piece in ipairs(value) do
        if type(piece) == "table" then
            flatten(piece, out)
        else
            out[#out + 1] = piece
        end
    end
    return out
end

local function store(self, verb, key, value, exptime, flags, cas)
    if not self.sock then
        return nil, "not initialized"
    end
    if type(value) == "table" then
        value = concat(flatten(value, {}))
    elseif type(value) ~= "string" then
        value = tostring(value)
    end
    local head = verb .. " " .. self.escape_key(key) .. " " .. (flags or 0) .. " " .. (exptime or 0) .. " " .. #value
    if cas then
        head = head .. " " .. cas
    end
    return command(self, { head, "\r\n", value, "\r\n" }, read_stored)
end

for _, verb in ipairs { "set", "add", "replace", "append", "prepend" } do
    M[verb] = function(self, key, value, exptime, flags)
        return store(self, verb, key, value, exptime, flags)
    end
end

function M.cas(self, key, value, cas_unique, exptime, flags)
    return store(self, "cas", key, value, exptime, flags, cas_unique)
end

-- A method for `VERB KEY? ARGUMENT?`.
local function define(verb, read, with_key)
    M[verb] = function(self, first, second)
        if not self.sock then
            return nil, "not initialized"
        end
        local request = verb
        if with_key then
            request, first = request .. " " .. self.escape_key(first), second
        end
        if first then
            request = request .. " " .. first
        end
        return command(self, request .. "\r\n", read)
    end
end

define("incr", read_number, true)
define("decr", read_number, true)
define("touch", read_touched, true)
define("stats", read_stats)
define("verbosity", read_ok)
define("flush_all", read_ok)
define("version", read_version)

function M.delete(self, key)
    if not self.sock then
        return nil, "not initialized"
    end
    return command(self, "delete " .. self.escape_key(key) .. "\r\n", read_deleted)
end

function M.quit(self)
    local sock = self.sock
    if not sock then
        return nil, "not initialized"
    end
    local sent, err = sock:send("quit\r\n")
    if not sent then
        return nil, err
    end
    return 1
end

-- Gives an error, or nothing.
function M.init_pipeline(self, n)
    if self._reqs then
        return "already init pipeline"
    end
    if n and type(n) ~= "number" then
        return "bad n arg: number expected, but got " .. type(n)
    end
    self._reqs, self._readers = new_tab(n or 4, 0), new_tab(n or 4, 0)
    return nil
end

function M.cancel_pipeline(self)
    self._reqs, self._readers = false, false
end

-- A table for each command, with what its method would have given.
function M.commit_pipeline(self)
    local requests, readers = self._reqs, self._readers
    self._reqs, self._readers = false, false
    if not requests then
        return nil, "no pipeline"
    end
    local sock = self.sock
    if not sock then
        return nil, "not initialized"
    elseif #readers == 0 then
        return nil, "no more cmds"
    end
    local sent, err = sock:send(requests)
    if not sent then
        sock:close()
        return nil, err
    end
    local results = new_tab(#readers, 0)
    for i, read in ipairs(readers) do
        results[i] = { read(sock, self) }
    end
    return results
end

return M
