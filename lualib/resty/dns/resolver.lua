-- `resty.dns.resolver`: asks name servers over UDP, and over TCP where a reply does not fit.
-- https://github.com/openresty/lua-resty-dns
local ffi = require "ffi"
local bit = require "bit"
local message = require "resty.dns.message"

local C = ffi.C
local tcp, udp = ngx.socket.tcp, ngx.socket.udp
local log, DEBUG = ngx.log, ngx.DEBUG
local re_sub = ngx.re.sub
local band, rshift = bit.band, bit.rshift
local char, byte, find, gmatch, rep, reverse, sub =
    string.char, string.byte, string.find, string.gmatch, string.rep, string.reverse, string.sub
local concat = table.concat
local rand = math.random
local setmetatable, type = setmetatable, type

ffi.cdef "unsigned int moonrest_ffi_random_u32();"

local M = { _VERSION = "0.23" }
for _, kind in ipairs({ "A", "NS", "CNAME", "SOA", "PTR", "MX", "TXT", "AAAA", "SRV", "SPF" }) do
    M["TYPE_" .. kind] = message["TYPE_" .. kind]
end
M.CLASS_IN = message.CLASS_IN
M.SECTION_AN, M.SECTION_NS, M.SECTION_AR = message.SECTION_AN, message.SECTION_NS, message.SECTION_AR

local mt = { __index = M }

-- Replies to other queries that are passed over before an answer is given up.
local MAX_STRAY = 128

function M.new(_, opts)
    if not opts then
        return nil, "no options table specified"
    end
    local servers = opts.nameservers
    if not servers or #servers == 0 then
        return nil, "no nameservers specified"
    end
    local timeout = opts.timeout or 2000
    local socks = {}
    for i = 1, #servers do
        local server = servers[i]
        if type(server) ~= "table" then
            server = { server, 53 }
            servers[i] = server
        end
        local sock, err = udp()
        if not sock then
            return nil, "failed to create udp socket: " .. err
        end
        local ok
        ok, err = sock:setpeername(server[1], server[2] or 53)
        if not ok then
            return nil, "failed to set peer name: " .. err
        end
        sock:settimeout(timeout)
        socks[i] = sock
    end
    local tcp_sock, err = tcp()
    if not tcp_sock then
        return nil, "failed to create tcp socket: " .. err
    end
    tcp_sock:settimeout(timeout)
    return setmetatable({
        cur = opts.no_random and 1 or rand(1, #servers),
        socks = socks,
        tcp_sock = tcp_sock,
        servers = servers,
        retrans = opts.retrans or 5,
        no_recurse = opts.no_recurse,
    }, mt)
end

function M.destroy(self)
    local socks = self.socks
    for i = 1, socks and #socks or 0 do
        socks[i]:close()
    end
    if self.tcp_sock then
        self.tcp_sock:close()
    end
    self.socks, self.tcp_sock, self.cur, self.servers, self.retrans, self.no_recurse = nil, nil, nil, nil, nil, nil
end

function M.set_timeout(self, timeout)
    local socks, tcp_sock = self.socks, self.tcp_sock
    if not socks or not tcp_sock then
        return nil, "not initialized"
    end
    for i = 1, #socks do
        socks[i]:settimeout(timeout)
    end
    tcp_sock:settimeout(timeout)
end

-- The number of the server whose turn it is.
local function next_server(self)
    local cur = self.cur
    self.cur = cur == #self.socks and 1 or cur + 1
    return cur
end

local function shown(server)
    return concat(server, ":")
end

-- A fixed one (`_id`) is for tests.
local function new_id(self)
    return self._id or band(C.moonrest_ffi_random_u32(), 0xffff)
end

-- A reply's bytes; or nil and an error.
local function exchange_over_tcp(sock, server, query)
    local ok, err = sock:connect(server[1], server[2] or 53)
    if not ok then
        return nil, "failed to connect to TCP server " .. shown(server) .. ": " .. err
    end
    local len = #query
    local bytes
    bytes, err = sock:send({ char(rshift(len, 8), band(len, 0xff)), query })
    if not bytes then
        return nil, "failed to send query to TCP server " .. shown(server) .. ": " .. err
    end
    local head
    head, err = sock:receive(2)
    if not head then
        return nil, "failed to receive the reply length field from TCP server " .. shown(server) .. ": " .. err
    end
    local high, low = byte(head, 1, 2)
    local reply
    reply, err = sock:receive(high * 256 + low)
    if not reply then
        return nil, "failed to receive the reply message body from TCP server " .. shown(server) .. ": " .. err
    end
    return reply
end

local function query_over_tcp(self, server, query, id, opts)
    local sock = self.tcp_sock
    if not sock then
        return nil, "not initialized"
    end
    log(DEBUG, "query the TCP server due to reply truncation")
    local reply, err = exchange_over_tcp(sock, server, query)
    sock:close()
    if not reply then
        return nil, err
    end
    local answers
    answers, err = message.parse_response(reply, id, query, opts)
    if not answers then
        return nil, "failed to parse the reply from the TCP server " .. shown(server) .. ": " .. err
    end
    return answers
end

function M.tcp_query(self, name, opts)
    if not self.socks then
        return nil, "not initialized"
    end
    local server = self.servers[next_server(self)]
    local id = new_id(self)
    local query, err = message.build_request(name, id, self.no_recurse, opts)
    if not query then
        return nil, err
    end
    return query_over_tcp(self, server, query, id, opts)
end

-- One attempt: the answers; or nil and an error.
local function attempt(self, query, id, opts)
    local which = next_server(self)
    local sock, server = self.socks[which], self.servers[which]
    local ok, err = sock:send(query)
    if not ok then
        return nil, "failed to send request to UDP server " .. shown(server) .. ": " .. err
    end
    for _ = 1, MAX_STRAY do
        local reply
        reply, err = sock:receive(4096)
        if not reply then
            return nil, "failed to receive reply from UDP server " .. shown(server) .. ": " .. err
        end
        local answers
        answers, err = message.parse_response(reply, id, query, opts)
        if err == "truncated" then
            return query_over_tcp(self, server, query, id, opts)
        end
        if err ~= "id mismatch" then
            return answers, err
        end
        if not self.socks then
            return nil, "not initialized"
        end
    end
    return nil, err
end

-- The answers; or nil and the error of the last attempt. `tries`, if given, gets the errors of all of them.
function M.query(self, name, opts, tries)
    if not self.socks then
        return nil, "not initialized"
    end
    local id = new_id(self)
    local query, err = message.build_request(name, id, self.no_recurse, opts)
    if not query then
        return nil, err
    end
    if tries then
        tries[1] = nil
    end
    for i = 1, self.retrans do
        local answers
        answers, err = attempt(self, query, id, opts)
        if answers then
            return answers, nil, tries
        end
        if tries then
            tries[i], tries[i + 1] = err, nil
        end
        if not self.socks then
            break
        end
    end
    return nil, err, tries
end

function M.compress_ipv6_addr(addr)
    addr = re_sub(addr, [[^(?:0:)+|(?::0)+$|:(?:0:)+]], "::", "jo")
    if addr == "::0" then
        return "::"
    end
    return addr
end

function M.expand_ipv6_addr(addr)
    local at = find(addr, "::", 1, true)
    if not at then
        return addr
    end
    local colons = 0
    for i = 1, #addr do
        if byte(addr, i) == 58 then
            colons = colons + 1
        end
    end
    local head, tail = sub(addr, 1, at - 1), sub(addr, at + 2)
    return (head == "" and "0" or head) .. ":" .. rep("0:", 8 - colons) .. (tail == "" and "0" or tail)
end

local function digits_of(words)
    local padded, n = {}, 0
    for word in gmatch(words, "[^:]+") do
        n = n + 1
        padded[n] = rep("0", 4 - #word) .. word
    end
    return concat(padded)
end

-- The name that an address is looked up by.
function M.arpa_str(addr)
    if find(addr, ":", 1, true) then
        local digits = reverse(digits_of(M.expand_ipv6_addr(addr)))
        local parts, n = {}, 0
        for digit in gmatch(digits, ".") do
            n = n + 1
            parts[n] = digit
        end
        parts[n + 1] = "ip6.arpa"
        return concat(parts, ".")
    end
    local name = re_sub(addr, [[(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})]], "$4.$3.$2.$1.in-addr.arpa", "ajo")
    return name
end

function M.reverse_query(self, addr)
    return self:query(M.arpa_str(addr), { qtype = M.TYPE_PTR })
end

return M
