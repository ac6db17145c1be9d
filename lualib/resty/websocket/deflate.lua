-- `resty.websocket.deflate`: the extension permessage-deflate of RFC 7692, which the two ends agree on in the handshake.
local ffi = require "ffi"

local C, ffi_gc, ffi_string = ffi.C, ffi.gc, ffi.string
local concat = table.concat
local gmatch, match, lower = string.gmatch, string.match, string.lower
local ipairs, pairs, setmetatable, tonumber, tostring, type = ipairs, pairs, setmetatable, tonumber, tostring, type

ffi.cdef [[
void *moonrest_ffi_deflate_new(int level, int bits);
int moonrest_ffi_deflate_free(void *handle);
int moonrest_ffi_deflate_part(void *handle, const unsigned char *src, size_t size, int last, int forget,
    const unsigned char **out, size_t *out_size);
void *moonrest_ffi_inflate_new();
int moonrest_ffi_inflate_free(void *handle);
int moonrest_ffi_inflate_part(void *handle, const unsigned char *src, size_t size, int last, int forget, size_t max,
    const unsigned char **out, size_t *out_size);
]]

local NAME = "permessage-deflate"
local RSV1 = 0x40
local TOO_LONG = -3

local M = {}
local mt = { __index = M }

local out = ffi.new("const unsigned char *[1]")
local out_size = ffi.new("size_t[1]")

local function new_deflater(level, bits)
    return ffi_gc(C.moonrest_ffi_deflate_new(level, bits), C.moonrest_ffi_deflate_free)
end

local function new_inflater()
    return ffi_gc(C.moonrest_ffi_inflate_new(), C.moonrest_ffi_inflate_free)
end

-- Where no message builds on the one before, one compressor serves all connections.
local shared_deflaters, shared_inflater = {}, nil

local function shared_deflater(level, bits)
    local key = level * 16 + bits
    local deflater = shared_deflaters[key]
    if not deflater then
        deflater = new_deflater(level, bits)
        shared_deflaters[key] = deflater
    end
    return deflater
end

-- `role` is the end that this is: `server` or `client`. `agreed` are the parameters.
local function new(role, options, agreed)
    local other = role == "server" and "client" or "server"
    return setmetatable({
        level = tonumber(options.level) or 6,
        min_size = tonumber(options.min_size) or 64,
        bits = agreed[role .. "_max_window_bits"] or 15,
        forget_sent = agreed[role .. "_no_context_takeover"] or false,
        forget_received = agreed[other .. "_no_context_takeover"] or false,
        sending = false,
        receiving = false,
    }, mt)
end

-- A part of a message as it is to be sent, and the bit that its frame has; or nil and an error.
function M.compress(self, payload, opcode, fin)
    local first = opcode ~= 0
    if first then
        if fin and #payload < self.min_size then
            return payload, 0
        end
        self.sending = not fin
    elseif not self.sending then
        return payload, 0
    elseif fin then
        self.sending = false
    end
    local deflater
    if self.forget_sent and first and fin then
        deflater = shared_deflater(self.level, self.bits)
    else
        deflater = self.deflater
        if not deflater then
            deflater = new_deflater(self.level, self.bits)
            self.deflater = deflater
        end
    end
    local ok = C.moonrest_ffi_deflate_part(deflater, payload, #payload, fin and 1 or 0, self.forget_sent and 1 or 0,
        out, out_size)
    if ok ~= 0 then
        return nil, "failed to compress"
    end
    return ffi_string(out[0], out_size[0]), first and RSV1 or 0
end

-- A received part of a message, decompressed; or nil and an error.
function M.decompress(self, data, first, fin, max)
    local inflater
    local alone = self.forget_received and first and fin
    if alone then
        shared_inflater = shared_inflater or new_inflater()
        inflater = shared_inflater
    else
        inflater = self.inflater
        if not inflater then
            inflater = new_inflater()
            self.inflater = inflater
        end
    end
    local code = C.moonrest_ffi_inflate_part(inflater, data, #data, fin and 1 or 0, self.forget_received and 1 or 0, max,
        out, out_size)
    if code == 0 then
        return ffi_string(out[0], out_size[0])
    end
    if alone then
        shared_inflater = nil -- what is left in it belongs to a broken message
    end
    if code == TOO_LONG then
        return nil, "exceeding max payload len"
    end
    return nil, "bad compressed data"
end

-- Gives the memory back.
function M.release(self)
    if self.deflater then
        C.moonrest_ffi_deflate_free(ffi_gc(self.deflater, nil))
        self.deflater = nil
    end
    if self.inflater then
        C.moonrest_ffi_inflate_free(ffi_gc(self.inflater, nil))
        self.inflater = nil
    end
end

local PARAMETERS = {
    server_no_context_takeover = "flag",
    client_no_context_takeover = "flag",
    server_max_window_bits = "bits",
    client_max_window_bits = "bits",
}

-- The parameters of an offer or answer, or nil where one is unknown, repeated or wrong.
local function parse(text, bits_may_lack)
    local found, name = {}, nil
    for part in gmatch(text, "[^;]+") do
        local key, value = match(part, "^%s*([%w_-]+)%s*=%s*\"?([%w_-]+)\"?%s*$")
        key = lower(key or match(part, "^%s*([%w_-]+)%s*$") or "")
        if not name then
            name = key
        else
            local kind = PARAMETERS[key]
            if not kind or found[key] ~= nil then
                return nil, name
            end
            if kind == "flag" then
                if value then
                    return nil, name
                end
                found[key] = true
            elseif value then
                local bits = match(value, "^[1-9]%d?$") and tonumber(value)
                if not bits or bits < 8 or bits > 15 then
                    return nil, name
                end
                found[key] = bits
            elseif key == bits_may_lack then
                found[key] = true
            else
                return nil, name
            end
        end
    end
    return found, name
end

local function options_of(given)
    return type(given) == "table" and given or {}
end

-- The server's choice among the offers in `Sec-WebSocket-Extensions`: what to use, and the answer; or nil.
function M.accept(offers, given)
    local options = options_of(given)
    if type(offers) == "table" then
        offers = concat(offers, ",")
    end
    for offer in gmatch(offers, "[^,]+") do
        local wants, name = parse(offer, "client_max_window_bits")
        local bits = wants and wants.server_max_window_bits or 15
        -- zlib has no window of 8 bits.
        if name == NAME and wants and bits > 8 then
            local agreed, answer = {}, { NAME }
            for _, key in ipairs({ "server_no_context_takeover", "client_no_context_takeover" }) do
                if wants[key] or options[key] then
                    agreed[key] = true
                    answer[#answer + 1] = key
                end
            end
            local own = tonumber(options.server_max_window_bits)
            if own and own >= 9 and own < bits then
                bits = own
            end
            if bits < 15 then
                agreed.server_max_window_bits = bits
                answer[#answer + 1] = "server_max_window_bits=" .. bits
            end
            local theirs = tonumber(options.client_max_window_bits)
            if theirs and theirs >= 9 and theirs < 15 and wants.client_max_window_bits then
                answer[#answer + 1] = "client_max_window_bits=" .. theirs
            end
            return new("server", options, agreed), concat(answer, "; ")
        end
    end
    return nil
end

-- What a client offers.
function M.offer(given)
    local options = options_of(given)
    local parts = { NAME }
    for key, kind in pairs(PARAMETERS) do
        local value = options[key]
        if kind == "flag" and value then
            parts[#parts + 1] = key
        elseif kind == "bits" and value and key == "server_max_window_bits" then
            parts[#parts + 1] = key .. "=" .. tostring(value)
        end
    end
    parts[#parts + 1] = "client_max_window_bits"
    return concat(parts, "; ")
end

-- What the server's answer makes of the offer: what to use, or nil where there is nothing to; or nil and an error.
function M.confirm(answer, given)
    if not answer or answer == "" then
        return nil
    end
    local options = options_of(given)
    local agreed, name = parse(answer)
    local limit = tonumber(options.server_max_window_bits)
    if not given or name ~= NAME or not agreed
        or agreed.client_max_window_bits == 8
        or (limit and (agreed.server_max_window_bits or 15) > limit)
        or (options.server_no_context_takeover and not agreed.server_no_context_takeover)
    then
        return nil, "bad \"Sec-WebSocket-Extensions\" response header: " .. answer
    end
    local own = tonumber(options.client_max_window_bits)
    if own and own >= 9 and own < (agreed.client_max_window_bits or 15) then
        agreed.client_max_window_bits = own
    end
    if options.client_no_context_takeover then
        agreed.client_no_context_takeover = true
    end
    return new("client", options, agreed)
end

return M
