-- resty.limit.req: so many requests a second, with bursts: the leaky bucket of nginx's limit_req.
local ffi = require "ffi"

local abs, floor, max = math.abs, math.floor, math.max
local assert, setmetatable, type = assert, setmetatable, type
local ffi_cast, ffi_new, ffi_string = ffi.cast, ffi.new, ffi.string
local shared = ngx.shared
local now = ngx.now

local M = { _VERSION = "0.09" }
local methods = { __index = M }

-- A key's record: how much is in the bucket, in thousandths of a request, and when that was, in milliseconds.
local record_ptr = ffi.typeof("const double *")
local RECORD_SIZE = 16
local record = ffi_new("double[2]")

local function pack(excess, last)
    record[0], record[1] = excess, last
    return ffi_string(record, RECORD_SIZE)
end

local function unpack_record(bytes)
    if type(bytes) ~= "string" or #bytes ~= RECORD_SIZE then
        return nil, "shdict abused by other users"
    end
    local at = ffi_cast(record_ptr, bytes)
    return at[0], at[1]
end

function M.new(dict_name, rate, burst)
    local dict = shared[dict_name]
    if not dict then
        return nil, "shared dict not found"
    end
    assert(rate > 0 and burst >= 0)
    return setmetatable({ dict = dict, rate = rate * 1000, burst = burst * 1000 }, methods)
end

-- Answers how long the request is to wait, and how many are in excess.
function M.incoming(self, key, commit)
    local dict, rate = self.dict, self.rate
    local time = now() * 1000
    local excess = 0
    local bytes = dict:get(key)
    if bytes then
        local before, last = unpack_record(bytes)
        if not before then
            return nil, last
        end
        excess = max(before - rate * abs(time - last) / 1000 + 1000, 0)
        if excess > self.burst then
            return nil, "rejected"
        end
    end
    if commit then
        dict:set(key, pack(floor(excess), floor(time)))
    end
    return excess / rate, excess / 1000
end

function M.uncommit(self, key)
    assert(key)
    local dict = self.dict
    local bytes = dict:get(key)
    if not bytes then
        return nil, "not found"
    end
    local excess, last = unpack_record(bytes)
    if not excess then
        return nil, last
    end
    dict:set(key, pack(max(excess - 1000, 0), last))
    return true
end

function M.set_rate(self, rate)
    self.rate = rate * 1000
end

function M.set_burst(self, burst)
    self.burst = burst * 1000
end

return M
