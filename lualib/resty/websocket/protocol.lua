-- `resty.websocket.protocol`: frames of RFC 6455, received and sent on a socket.
-- https://github.com/openresty/lua-resty-websocket
local ffi = require "ffi"
local bit = require "bit"
local base = require "resty.core.base"
local native = require "moonrest.websocket.native"

local C, ffi_cast, ffi_string = ffi.C, ffi.cast, ffi.string
local band, bor, lshift = bit.band, bit.bor, bit.lshift
local byte, sub = string.byte, string.sub
local get_string_buf = base.get_string_buf
local getmetatable, tostring, type = getmetatable, tostring, type

-- The metatables of our own sockets: to servers and to the client. Programs put others in their place.
local OURS = debug.getregistry().__tcp_cosocket_mt
local CLIENTS = debug.getregistry().__tcp_raw_req_cosocket_mt

ffi.cdef [[
size_t moonrest_ffi_websocket_frame(unsigned char *dst, unsigned int first, int masked, const unsigned char *payload,
    size_t size);
int moonrest_ffi_websocket_unmask(unsigned char *dst, const unsigned char *src, size_t size);
]]

local M = { _VERSION = "0.14", new_tab = base.new_tab }

local TYPES = {
    [0x0] = "continuation",
    [0x1] = "text",
    [0x2] = "binary",
    [0x8] = "close",
    [0x9] = "ping",
    [0xa] = "pong",
}

-- Receives `n` bytes. Those that came before a timeout are kept in `state` for the next call.
local function take(sock, state, n)
    local held = state and state.held
    if held and #held >= n then
        state.held = #held > n and sub(held, n + 1) or nil
        return sub(held, 1, n)
    end
    local data, err, partial = sock:receive(held and n - #held or n)
    if data then
        if held then
            state.held = nil
            return held .. data
        end
        return data
    end
    if state and partial and partial ~= "" then
        state.held = held and held .. partial or partial
    end
    return nil, err or "unknown"
end

-- What is wrong with the first two bytes.
local function check_head(first, second, force_masking, may_compress)
    local reserved = may_compress and 0x30 or 0x70
    if band(first, reserved) ~= 0 then
        return "bad RSV1, RSV2, or RSV3 bits"
    end
    local opcode = band(first, 0x0f)
    if opcode >= 0x3 and opcode <= 0x7 then
        return "reserved non-control frames"
    end
    if opcode >= 0xb then
        return "reserved control frames"
    end
    if force_masking and band(second, 0x80) == 0 then
        return "frame unmasked"
    end
end

-- The length of the payload; or nil and an error.
local function receive_length(sock, state, short)
    if short < 126 then
        return short
    end
    if short == 126 then
        local data, err = take(sock, state, 2)
        if not data then
            return nil, "failed to receive the 2 byte payload length: " .. err
        end
        local high, low = byte(data, 1, 2)
        return bor(lshift(high, 8), low)
    end
    local data, err = take(sock, state, 8)
    if not data then
        return nil, "failed to receive the 8 byte payload length: " .. err
    end
    local a, b, c, d, e, f, g, h = byte(data, 1, 8)
    if a ~= 0 or b ~= 0 or c ~= 0 or d ~= 0 or e >= 0x80 then
        return nil, "payload len too large"
    end
    return bor(lshift(e, 24), lshift(f, 16), lshift(g, 8), h)
end

local function is_timeout(err)
    return sub(err, -9) == ": timeout"
end

local function check_length(first, len, max_payload_len)
    if band(first, 0x8) ~= 0 then
        if len > 125 then
            return "too long payload for control frame"
        end
        if band(first, 0x80) == 0 then
            return "fragmented control frame"
        end
    end
    if len > max_payload_len then
        return "exceeding max payload len"
    end
end

local bytes_type = ffi.typeof("const unsigned char *")

-- The payload of `len` bytes behind its mask, which begins `from` bytes into `data`.
local function unmasked(data, from, len)
    if len == 0 then
        return ""
    end
    local buf = get_string_buf(len)
    C.moonrest_ffi_websocket_unmask(buf, ffi_cast(bytes_type, data) + from, len)
    return ffi_string(buf, len)
end

-- What a frame makes of its payload.
local function result(first, len, data, state)
    if state then
        state.rsv1 = band(first, 0x40) ~= 0
    end
    local opcode = band(first, 0x0f)
    if opcode ~= 0x8 then
        return data, TYPES[opcode], band(first, 0x80) == 0 and "again" or nil
    end
    if len == 0 then
        return "", "close", nil
    end
    if len < 2 then
        return nil, nil, "close frame with a body must carry a 2-byte status code"
    end
    local high, low = byte(data, 1, 2)
    return sub(data, 3), "close", bor(lshift(high, 8), low)
end

-- What was being received when only `partial` had come.
local function stage(partial)
    local have = #partial
    local short = have >= 2 and band(byte(partial, 2), 0x7f)
    if not short then
        return "failed to receive the first 2 bytes: "
    elseif short == 126 and have < 4 then
        return "failed to receive the 2 byte payload length: "
    elseif short == 127 and have < 10 then
        return "failed to receive the 8 byte payload length: "
    end
    return "failed to read masking-len and payload: "
end

-- A frame at once: what it makes of its payload.
local function receive_whole(sock, max_payload_len, force_masking, state)
    local may_compress = state.may_compress
    local data, first, partial =
        native.receive(sock, max_payload_len, may_compress and 0x30 or 0x70, force_masking and true or false)
    if not data then
        local err = first
        partial = partial or ""
        if partial ~= "" then
            state.held = partial
        end
        return nil, nil, stage(partial) .. (err or "unknown")
    elseif first then
        return result(first, #data, data, state)
    end
    local second
    first, second = byte(data, 1, 2)
    local problem = check_head(first, second, force_masking, may_compress)
    if problem then
        return nil, nil, problem
    end
    local len, head = band(second, 0x7f), 2
    if len == 126 then
        local high, low = byte(data, 3, 4)
        len, head = bor(lshift(high, 8), low), 4
    elseif len == 127 then
        local a, b, c, d, e, f, g, h = byte(data, 3, 10)
        if a ~= 0 or b ~= 0 or c ~= 0 or d ~= 0 or e >= 0x80 then
            return nil, nil, "payload len too large"
        end
        len, head = bor(lshift(e, 24), lshift(f, 16), lshift(g, 8), h), 10
    end
    problem = check_length(first, len, max_payload_len)
    if problem then
        return nil, nil, problem
    end
    if band(second, 0x80) ~= 0 then
        return result(first, len, unmasked(data, head, len), state)
    end
    return result(first, len, sub(data, head + 1), state)
end

-- The payload, the frame's type, and `again` where more of the message follows; for a close frame its reason and its
-- code. After a timeout the same `state` makes the next call go on where this one stopped; its `rsv1` says whether
-- the frame begins a compressed message, which is an error unless `may_compress` is set in it. With `whole`, `sock` is a
-- socket of the server's own, which is asked for the frame at once.
function M.recv_frame(sock, max_payload_len, force_masking, state)
    local first, second, len = nil, nil, nil
    local err
    if state then
        if state.whole and not state.first and not state.held then
            return receive_whole(sock, max_payload_len, force_masking, state)
        end
        first, second, len = state.first, state.second, state.len
        state.first, state.len = nil, nil
    end
    if not first then
        local data
        data, err = take(sock, state, 2)
        if not data then
            return nil, nil, "failed to receive the first 2 bytes: " .. err
        end
        first, second = byte(data, 1, 2)
        err = check_head(first, second, force_masking, state and state.may_compress)
        if err then
            return nil, nil, err
        end
    end
    if not len then
        len, err = receive_length(sock, state, band(second, 0x7f))
        if not len then
            if state and is_timeout(err) then
                state.first, state.second = first, second
            end
            return nil, nil, err
        end
        err = check_length(first, len, max_payload_len)
        if err then
            return nil, nil, err
        end
    end

    local masked = band(second, 0x80) ~= 0
    local rest = masked and len + 4 or len
    local data = ""
    if rest > 0 then
        data, err = take(sock, state, rest)
        if not data then
            err = "failed to read masking-len and payload: " .. err
            if state and is_timeout(err) then
                state.first, state.second, state.len = first, second, len
            end
            return nil, nil, err
        end
        if masked then
            data = unmasked(data, 0, len)
        end
    end
    return result(first, len, data, state)
end

-- A frame whose first byte is `first`.
local function frame(first, payload, masking)
    local len = #payload
    local buf = get_string_buf(len + 14)
    return ffi_string(buf, C.moonrest_ffi_websocket_frame(buf, first, masking and 1 or 0, payload, len))
end

function M.build_frame(fin, opcode, payload_len, payload, masking)
    if payload_len > 0x7fffffff then
        return nil, "payload too big"
    end
    if payload_len ~= #payload then
        payload = sub(payload, 1, payload_len)
    end
    return frame(fin and bor(0x80, opcode) or opcode, payload, masking)
end

-- `deflate`, if given, may compress the payload.
function M.send_frame(sock, fin, opcode, payload, max_payload_len, masking, deflate)
    if not payload then
        payload = ""
    elseif type(payload) ~= "string" then
        payload = tostring(payload)
    end
    local len = #payload
    if len > max_payload_len then
        return nil, "payload too big"
    end
    if band(opcode, 0x8) ~= 0 then
        if len > 125 then
            return nil, "too much payload for control frame"
        end
        if not fin then
            return nil, "fragmented control frame"
        end
    end
    local first = fin and bor(0x80, opcode) or opcode
    if deflate and band(opcode, 0x8) == 0 then
        local packed, rsv1 = deflate:compress(payload, opcode, fin)
        if not packed then
            return nil, "failed to build frame: " .. rsv1
        end
        payload, len = packed, #packed
        first = bor(first, rsv1)
    end
    if len > 0x7fffffff then
        return nil, "failed to build frame: payload too big"
    end
    local bytes, err
    local kind = getmetatable(sock)
    if kind == OURS or kind == CLIENTS then
        bytes, err = native.send(sock, first, payload, masking and true or false)
    else
        bytes, err = sock:send(frame(first, payload, masking))
    end
    if not bytes then
        return nil, "failed to send frame: " .. err
    end
    return bytes
end

return M
