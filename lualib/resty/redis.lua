-- `resty.redis`: a client for Redis. https://github.com/openresty/lua-resty-redis
--
-- A command is one operation of the socket: it goes out and its reply comes back as values. What is written here is the
-- state around it: pipelines, subscriptions, and whether a connection may be given to somebody else.
local new_tab = require "table.new"
local native = require "moonrest.redis.native"

local tcp = ngx.socket.tcp
local error, getmetatable, ipairs, pairs = error, getmetatable, ipairs, pairs
local rawget, select, setmetatable, tonumber, type = rawget, select, setmetatable, tonumber, type
local lower, sub = string.lower, string.sub
local remove, unpack = table.remove, unpack

-- The metatable of our own sockets. Programs put others in their place, which have methods only.
local OURS = debug.getregistry().__tcp_cosocket_mt

local M = new_tab(0, 64)
M._VERSION = "0.33"
local mt = { __index = M }

function M.new()
    local sock, err = tcp()
    if not sock then
        return nil, err
    end
    local wire = getmetatable(sock) == OURS and native or require "moonrest.redis"
    -- All fields that every call looks at, so that none of them is looked for among the commands. `_hold` has what keeps
    -- the connection from being shared.
    return setmetatable({
        _sock = sock,
        _wire = wire,
        _used = false,
        _reqs = false,
        _module_prefix = false,
        _subscribed = false,
        _blocking = false,
        _hold = false,
    }, mt)
end

-- `red:MODULE()` puts "MODULE." before the name of the next command.
function M.register_module_prefix(mod)
    M[mod] = function(self)
        self._module_prefix = mod
        return self
    end
end

local function socket_or_error(self)
    local sock = rawget(self, "_sock")
    if not sock then
        error("not initialized", 3)
    end
    return sock
end

function M.set_timeout(self, timeout)
    socket_or_error(self):settimeout(timeout)
end

function M.set_timeouts(self, connect_timeout, send_timeout, read_timeout)
    socket_or_error(self):settimeouts(connect_timeout, send_timeout, read_timeout)
end

local function check_options(n, options)
    local kind = type(options)
    if options ~= nil and kind ~= "table" then
        error("bad argument #" .. n .. " opts: nil or table expected, got " .. kind, 3)
    end
end

-- `connect(host, port, options?)` or `connect("unix:PATH", options?)`.
function M.connect(self, host, port, options)
    local sock = rawget(self, "_sock")
    if not sock then
        return nil, "not initialized"
    end
    if type(host) ~= "string" then
        error("bad argument #1 host: string expected, got " .. type(host), 2)
    end
    local unix = sub(host, 1, 5) == "unix:"
    if unix then
        options = port
        check_options(2, options)
    else
        if type(port) ~= "number" then
            local kind = type(port)
            port = tonumber(port)
            if not port then
                error("bad argument #2 port: number expected, got " .. kind, 2)
            end
        end
        check_options(3, options)
    end
    if self._used then
        self._subscribed, self._blocking, self._hold = false, false, false
        self._channels, self._buffered_msg = nil, nil
    end
    self._used = true

    local ok, err
    if not unix then
        ok, err = sock:connect(host, port, options)
    elseif options then
        ok, err = sock:connect(host, options)
    else
        ok, err = sock:connect(host)
    end
    if ok and options and options.ssl then
        ok, err = sock:sslhandshake(false, options.server_name, options.ssl_verify)
        if not ok then
            sock:close()
            return ok, "failed to do ssl handshake: " .. err
        end
    end
    return ok, err
end

-- Refuses to share a connection that the next user would find in the middle of something, and closes it.
function M.set_keepalive(self, ...)
    local sock = rawget(self, "_sock")
    if not sock then
        return nil, "not initialized"
    end
    if self._subscribed then
        return nil, "subscribed state"
    end
    local hold = self._hold
    if hold and (hold.transaction or hold.watching) then
        sock:close()
        return nil, "connection in transaction"
    elseif hold and hold.late then
        sock:close()
        return nil, "connection in dubious state"
    end
    return sock:setkeepalive(...)
end

function M.get_reused_times(self)
    local sock = rawget(self, "_sock")
    if not sock then
        return nil, "not initialized"
    end
    return sock:getreusedtimes()
end

function M.close(self)
    local sock = rawget(self, "_sock")
    if not sock then
        return nil, "not initialized"
    end
    return sock:close()
end

-- Notes what keeps the connection from being shared, or that it does no more.
local function hold(self, what, is_held)
    local held = self._hold
    if held then
        held[what] = is_held
    elseif is_held then
        self._hold = { [what] = true }
    end
end

-- A reply to a connection that is subscribed, or whose last command may wait longer than we do: when the time is over, the
-- connection stays.
local function read_patiently(self, sock)
    local reply, err = self._wire.read(sock, true)
    if reply == nil and err == "timeout" and not self._subscribed then
        hold(self, "late", true)
    end
    return reply, err
end

local function is_message(reply)
    return type(reply) == "table" and (reply[1] == "message" or reply[1] == "pmessage")
end

local function command(self, name, ...)
    local sock = rawget(self, "_sock")
    if not sock then
        return nil, "not initialized"
    end
    local requests = self._reqs
    if requests then
        requests[#requests + 1] = self._wire.encode(name, ...)
        return
    end
    local subscribed = self._subscribed
    if not subscribed and not self._blocking then
        return self._wire.call(sock, name, ...)
    end
    local sent, err = self._wire.send(sock, name, ...)
    if not sent then
        return nil, err
    end
    local reply, failure = read_patiently(self, sock)
    while subscribed and is_message(reply) do
        local messages = rawget(self, "_buffered_msg")
        if not messages then
            messages = {}
            self._buffered_msg = messages
        end
        messages[#messages + 1] = reply
        reply, failure = read_patiently(self, sock)
    end
    return reply, failure
end

local function prefixed(self, name, ...)
    if not rawget(self, "_sock") then
        return nil, "not initialized"
    end
    local prefix = self._module_prefix
    if prefix then
        self._module_prefix = false
        return command(self, prefix .. "." .. name, ...)
    end
    return command(self, name, ...)
end

-- Commands after which a connection belongs to one user until another of them: what they begin and end.
local STATES = {
    multi = { begins = "transaction" },
    watch = { begins = "watching" },
    exec = { ends = { "transaction", "watching" } },
    discard = { ends = { "transaction", "watching" } },
    reset = { ends = { "transaction", "watching" } },
    unwatch = { ends = { "watching" } },
}

local function leave(self, state)
    for _, what in ipairs(state.ends) do
        hold(self, what, false)
    end
end

local function method(name)
    local state = STATES[lower(name)]
    if not state then
        return function(self, ...)
            local sock = rawget(self, "_sock")
            if sock and not self._reqs and not self._module_prefix and not self._subscribed and not self._blocking then
                return self._wire.call(sock, name, ...)
            end
            return prefixed(self, name, ...)
        end
    end
    return function(self, ...)
        -- What begins a state counts at once, what ends one when it is accepted.
        if state.begins and rawget(self, "_sock") then
            hold(self, state.begins, true)
            return prefixed(self, name, ...)
        end
        local reply, err = prefixed(self, name, ...)
        if state.ends and (reply or self._reqs or reply == false and sub(err, 1, 9) == "EXECABORT") then
            leave(self, state)
        end
        return reply, err
    end
end

for _, name in ipairs { "blpop", "brpop" } do
    M[name] = function(self, ...)
        self._blocking = true
        return prefixed(self, name, ...)
    end
end

-- Counts channels, and ends the state with the last of them.
local function note_subscription(self, reply)
    if type(reply) ~= "table" then
        return
    end
    local channels = rawget(self, "_channels")
    if not channels then
        channels = { unsubscribe = 0, punsubscribe = 0 }
        self._channels = channels
    end
    local kind = reply[1]
    if kind == "subscribe" or kind == "psubscribe" then
        local undo = kind == "subscribe" and "unsubscribe" or "punsubscribe"
        channels[undo] = channels[undo] + 1
        return
    elseif kind ~= "unsubscribe" and kind ~= "punsubscribe" then
        return
    end
    channels[kind] = channels[kind] - 1
    -- Messages of the channel that nobody has read yet are dropped.
    local messages = rawget(self, "_buffered_msg")
    if messages then
        local gone = kind == "punsubscribe" and "pmessage" or "message"
        local kept = {}
        for _, message in ipairs(messages) do
            if message[1] ~= gone or message[2] ~= reply[2] then
                kept[#kept + 1] = message
            end
        end
        self._buffered_msg = kept[1] and kept or nil
    end
    if reply[3] == 0 then
        self._subscribed = false
    end
end

function M.read_reply(self)
    local sock = rawget(self, "_sock")
    if not sock then
        return nil, "not initialized"
    end
    if not self._subscribed then
        return nil, "not subscribed"
    end
    local messages = rawget(self, "_buffered_msg")
    if messages then
        local message = remove(messages, 1)
        if not messages[1] then
            self._buffered_msg = nil
        end
        return message
    end
    local reply, err = read_patiently(self, sock)
    note_subscription(self, reply)
    return reply, err
end

for _, name in ipairs { "subscribe", "psubscribe" } do
    M[name] = function(self, ...)
        self._subscribed = true
        local reply, err = command(self, name, ...)
        if not reply then
            return nil, err
        end
        note_subscription(self, reply)
        local count = select("#", ...)
        if count <= 1 then
            return reply
        end
        local replies = new_tab(count, 0)
        replies[1] = reply
        for i = 2, count do
            reply, err = read_patiently(self, self._sock)
            if not reply then
                return nil, err
            end
            note_subscription(self, reply)
            replies[i] = reply
        end
        return replies
    end
end

for _, name in ipairs { "unsubscribe", "punsubscribe" } do
    M[name] = function(self, ...)
        if not rawget(self, "_sock") or not self._subscribed then
            return nil, "not subscribed"
        end
        local reply, err = command(self, name, ...)
        if not reply then
            return nil, err
        end
        note_subscription(self, reply)
        local count = select("#", ...)
        if count == 1 or self._channels[name] <= 0 then
            return reply
        end
        -- Without arguments there is a reply for each channel.
        local replies = { reply }
        local i = 2
        while count == 0 or i <= count do
            reply, err = read_patiently(self, self._sock)
            if not reply then
                return nil, err
            end
            replies[i] = reply
            i = i + 1
            note_subscription(self, reply)
            if self._channels[name] <= 0 then
                break
            end
        end
        return replies
    end
end

-- `hmset(hash, field, value, …)` or `hmset(hash, { field = value, … })`.
function M.hmset(self, hashname, ...)
    if select("#", ...) ~= 1 then
        return command(self, "hmset", hashname, ...)
    end
    local list, n = {}, 0
    for field, value in pairs((...)) do
        list[n + 1], list[n + 2] = field, value
        n = n + 2
    end
    return command(self, "hmset", hashname, unpack(list, 1, n))
end

function M.init_pipeline(self, n)
    self._reqs = new_tab(n or 4, 0)
    local held = self._hold
    self._was = held and { transaction = held.transaction, watching = held.watching, late = held.late } or false
end

function M.cancel_pipeline(self)
    if rawget(self, "_reqs") then
        self._hold = self._was
    end
    self._reqs = false
end

function M.commit_pipeline(self)
    local requests = rawget(self, "_reqs")
    if not requests then
        return nil, "no pipeline"
    end
    self._reqs = false
    local sock = rawget(self, "_sock")
    if not sock then
        return nil, "not initialized"
    end
    return self._wire.pipeline(sock, requests)
end

function M.array_to_hash(_, list)
    local n = #list
    local hash = new_tab(0, n / 2)
    for i = 1, n, 2 do
        hash[list[i]] = list[i + 1]
    end
    return hash
end

-- Not needed any more: every name is a command.
function M.add_commands(...)
    for i = 1, select("#", ...) do
        local name = select(i, ...)
        M[name] = function(self, ...)
            return command(self, name, ...)
        end
    end
end

local function new_command(_, name)
    local made = method(name)
    M[name] = made
    return made
end

for _, name in ipairs {
    "get", "set", "mget", "mset", "del", "incr", "decr", "llen", "lindex", "lpop", "lpush", "lrange", "linsert", "hexists",
    "hget", "hset", "hmget", "hdel", "smembers", "sismember", "sadd", "srem", "sdiff", "sinter", "sunion", "zrange",
    "zrangebyscore", "zrank", "zadd", "zrem", "zincrby", "auth", "eval", "expire", "script", "sort",
} do
    new_command(nil, name)
end

return setmetatable(M, { __index = new_command })
