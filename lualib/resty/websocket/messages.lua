-- What the two ends of a WebSocket share: receiving frames that make up messages, sending them, and what ends it all.
--
-- An end is a table with `sock`, `max_recv_len`, `max_send_len`; `fatal` once it cannot go on; `deflate` where messages
-- may be compressed. Its `strict` is false where nothing but frames is looked at; nil where text must be UTF-8, and
-- close frames have codes that may be sent; true where fragments must be in order as well.
local ffi = require "ffi"
local bit = require "bit"
local protocol = require "resty.websocket.protocol"

local C = ffi.C
local char, find = string.char, string.find
local band, rshift = bit.band, bit.rshift
local recv_frame, send_frame = protocol.recv_frame, protocol.send_frame
local tostring, type = tostring, type

ffi.cdef [[
int moonrest_ffi_utf8_check(const unsigned char *src, size_t size, unsigned int *state);
]]

local M = {}

local utf8_state = ffi.new("unsigned int[1]")

-- The state behind a text, or nil if it is no text.
local function utf8(text, state)
    utf8_state[0] = state
    if C.moonrest_ffi_utf8_check(text, #text, utf8_state) ~= 0 then
        return nil
    end
    return utf8_state[0]
end

-- It cannot go on: what was negotiated is of no use any more.
local function set_fatal(self)
    self.fatal = true
    if self.deflate then
        self.deflate:release()
    end
end

-- Tells the other side why, as far as that is possible (RFC 6455, 7.1.7).
local function fail(self, code, err)
    if not self.closed then
        send_frame(self.sock, true, 0x8, char(rshift(code, 8), band(code, 0xff)), 125, self.masks)
    end
    set_fatal(self)
    return nil, nil, err
end

-- Whether a close frame may have this code (RFC 6455, 7.4; those of the registry up to 1014).
local function is_sendable(code)
    return code >= 3000 and code <= 4999 or code >= 1000 and code <= 1014 and code ~= 1004 and code ~= 1005 and code ~= 1006
end

local function check_close(self, reason, code)
    if code and not is_sendable(code) then
        return fail(self, 1002, "bad status code in close frame: " .. tostring(code))
    end
    if utf8(reason, 0) ~= 0 then
        return fail(self, 1007, "invalid UTF-8 in close frame")
    end
    return reason, "close", code
end

-- A frame of a message: decompressed and checked.
local function check_data(self, data, typ, err)
    local first, fin = typ ~= "continuation", err == nil
    local rsv1 = self.receiving.rsv1
    if first then
        if self.message and self.strict then
            return fail(self, 1002, "expected continuation frame")
        end
        self.message, self.text_state, self.compressed = typ, 0, rsv1
    elseif not self.message and self.strict then
        return fail(self, 1002, "unexpected continuation frame")
    elseif rsv1 then
        return fail(self, 1002, "bad RSV1, RSV2, or RSV3 bits")
    end
    if self.compressed then
        local problem
        data, problem = self.deflate:decompress(data, first, fin, self.max_recv_len)
        if not data then
            return fail(self, problem == "bad compressed data" and 1007 or 1009, problem)
        end
    end
    if self.message == "text" and self.strict ~= false then
        local state = utf8(data, self.text_state)
        if not state or fin and state ~= 0 then
            return fail(self, 1007, "invalid UTF-8 in text frame")
        end
        self.text_state = state
    end
    if fin then
        self.message, self.compressed = nil, nil
    end
    return data, typ, err
end

-- Makes what receiving needs; `force_masking` says that frames must be masked.
function M.prepare(self, force_masking)
    self.receiving = { may_compress = self.deflate ~= nil, whole = true }
    self.force_masking = force_masking
    return self
end

function M.recv_frame(self)
    if self.fatal then
        return nil, nil, "fatal error already happened"
    end
    local sock = self.sock
    if not sock or not self.receiving then
        return nil, nil, "not initialized yet"
    end
    local data, typ, err = recv_frame(sock, self.max_recv_len, self.force_masking, self.receiving)
    if not data then
        if not find(err, ": timeout", 1, true) then
            set_fatal(self)
        end
        return nil, nil, err
    end
    if typ == "close" then
        if self.deflate then
            self.deflate:release() -- no message follows
        end
        if self.strict == false then
            return data, typ, err
        end
        return check_close(self, data, err)
    end
    if typ == "ping" or typ == "pong" then
        if self.receiving.rsv1 then
            return fail(self, 1002, "bad RSV1, RSV2, or RSV3 bits")
        end
        return data, typ, err
    end
    if self.strict == false and not self.deflate then
        return data, typ, err
    end
    return check_data(self, data, typ, err)
end

function M.send_frame(self, fin, opcode, payload)
    if self.fatal then
        return nil, "fatal error already happened"
    end
    if self.closed then
        return nil, "already closed"
    end
    local sock = self.sock
    if not sock then
        return nil, "not initialized yet"
    end
    local bytes, err = send_frame(sock, fin, opcode, payload, self.max_send_len, self.masks, self.deflate)
    if not bytes then
        set_fatal(self)
    end
    return bytes, err
end

-- The payload of a close frame; or nil and an error.
function M.close_payload(code, msg)
    if not code then
        return ""
    end
    if type(code) ~= "number" or code > 0x7fff then
        return nil, "bad status code"
    end
    return char(band(rshift(code, 8), 0xff), band(code, 0xff)) .. (msg or "")
end

function M.set_timeout(self, time)
    local sock = self.sock
    if not sock then
        return nil, nil, "not initialized yet"
    end
    return sock:settimeout(time)
end

return M
